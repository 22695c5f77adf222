//! What is the same on SQLite and PostgreSQL, written once and compiled for each.
//!
//! diesel's queries need the concrete type of their connection. [`for_both_databases`] puts the items that it
//! is given into a module `sqlite` and a module `postgres` beside them, where three names differ:
//!
//! - `Connection` and `Backend`: diesel's types.
//! - `database`: `crate::store::sqlite` or `crate::store::postgres`, which hold what each database does in
//!   its own way.
//!
//! A module named in the brackets stands for its own `sqlite` or `postgres`. Statements shared this way
//! number their parameters `$1`, `$2`, … in the order in which they are bound; then SQLite reads them as
//! PostgreSQL does.

macro_rules! for_both_databases {
    ([$($module:ident),* $(,)?] $($item:item)+) => {
        /// On SQLite.
        #[allow(dead_code, unused_imports)]
        pub(in crate::store) mod sqlite {
            use super::*;
            use diesel::Connection as _;
            use crate::store::sqlite as database;
            $(use crate::store::$module::sqlite as $module;)*

            type Connection = diesel::sqlite::SqliteConnection;
            type Backend = diesel::sqlite::Sqlite;

            $($item)+
        }

        /// On PostgreSQL.
        #[allow(dead_code, unused_imports)]
        pub(in crate::store) mod postgres {
            use super::*;
            use diesel::Connection as _;
            use crate::store::postgres as database;
            $(use crate::store::$module::postgres as $module;)*

            type Connection = diesel::pg::PgConnection;
            type Backend = diesel::pg::Pg;

            $($item)+
        }
    };
}

pub(super) use for_both_databases;
