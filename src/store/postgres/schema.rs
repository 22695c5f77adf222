//! `store.schema`: the schema that holds the tables.
//!
//! Every session gets it as its whole search path, when it connects. So no statement names it, and none finds a table of
//! another program.

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;

use super::FlagRow;
use crate::store::SchemaName;
use crate::store::migrate::MigrateFailure;

/// Returns the setting for a session; empty without a schema of our own.
pub fn search_path(schema: Option<&SchemaName>) -> String {
    schema.map_or_else(String::new, |schema| format!("SET search_path = {};", schema.quoted()))
}

/// Creates the schema if it is missing. Call it while other migrators are kept out.
///
/// `IF NOT EXISTS` would not do: it asks for the right to create schemas even where there is nothing to create.
pub fn create_schema(
    connection: &mut PgConnection,
    schema: Option<&SchemaName>,
) -> Result<(), MigrateFailure> {
    let Some(schema) = schema else { return Ok(()) };
    let exists = sql_query("SELECT to_regnamespace($1) IS NOT NULL AS value")
        .bind::<Text, _>(schema.quoted())
        .get_result::<FlagRow>(connection)?;
    if exists.value {
        return Ok(());
    }
    connection
        .batch_execute(&format!("CREATE SCHEMA {}", schema.quoted()))
        .map_err(|error| MigrateFailure::Schema { schema: schema.to_string(), source: error.into() })
}
