//! `store.url`: which database it names, what is wrong with it, and what may be shown of it.
//!
//! Configuration parses the text once, each layer's by itself; the store connects to what came out. Nothing here
//! connects, and neither `Display` nor `Debug` nor an error shows a password.

mod libpq;
mod mistakes;
mod postgres;
mod schema;

use std::fmt;
use std::path::{Path, PathBuf};

pub use postgres::PostgresUrl;
pub use schema::SchemaName;

/// The address of a database, which may hold a password. `Debug` and `Display` show it without.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server that libpq connects to.
    Postgres(PostgresUrl),
}

const SQLITE: &str = "sqlite";
const SCHEMES: [&str; 3] = [SQLITE, "postgres", "postgresql"];

impl DatabaseUrl {
    /// Reads `sqlite://<path>` and `postgres://…` or `postgresql://…`. Cuts off the driver that other tools put into
    /// the scheme (`postgresql+psycopg2://`). The path of such an SQLite address begins behind a third slash, as in
    /// SQLAlchemy; so does one that would otherwise be `/./…`, which is never meant.
    ///
    /// # Errors
    /// What is wrong with it; of its text, only the scheme.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.trim().split_once("://") else {
            return Err("it has no scheme".to_owned());
        };
        let plain_scheme = scheme.split('+').next().unwrap_or_default();
        if !SCHEMES.contains(&plain_scheme) {
            let shown: String = plain_scheme.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
            return Err(format!("databases of the kind {shown:?} are not supported"));
        }
        if rest.is_empty() || rest.starts_with('?') {
            return Err("nothing follows the scheme".to_owned());
        }
        if rest.contains('\0') {
            return Err("it contains a NUL character".to_owned());
        }
        if plain_scheme == SQLITE {
            let has_third_slash = scheme.contains('+') || rest.starts_with("/./");
            let path = if has_third_slash { rest.strip_prefix('/').unwrap_or(rest) } else { rest };
            check_sqlite_path(path)?;
            return Ok(Self::Sqlite(path.into()));
        }
        let url = format!("{plain_scheme}://{rest}");
        match mistakes::mistakes(&url) {
            none if none.is_empty() => Ok(Self::Postgres(PostgresUrl::new(url))),
            some => Err(some.join("; ")),
        }
    }

    /// Returns the whole address, password included.
    #[must_use]
    pub fn expose(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("{SQLITE}://{}", path.display()),
            Self::Postgres(url) => url.expose().to_owned(),
        }
    }

    /// Returns the file, if it is SQLite's.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// True if a password stands in it.
    #[must_use]
    pub fn has_password(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(url) => url.has_password(),
        }
    }

    /// Returns the first host on the network to which the connection may travel in plain text. `ssl_mode` is that of the
    /// environment (`PGSSLMODE`).
    #[must_use]
    pub fn unencrypted_host(&self, ssl_mode: Option<&str>) -> Option<String> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(url) => url.unencrypted_host(ssl_mode),
        }
    }

    /// Says for logs and status where the database is, without credentials.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Sqlite(path) => sqlite_place(path),
            Self::Postgres(url) => url.place(),
        }
    }
}

/// Says for logs and status which SQLite file it is.
#[must_use]
pub fn sqlite_place(path: &Path) -> String {
    format!("SQLite file {}", path.display())
}

fn check_sqlite_path(path: &str) -> Result<(), String> {
    if path.contains(":memory:") {
        return Err("a database in memory would lose everything at the next restart".to_owned());
    }
    if path.contains('?') {
        return Err("options after \"?\" are not supported for SQLite".to_owned());
    }
    if path.is_empty() || path.ends_with('/') {
        return Err("it names a directory, not a file".to_owned());
    }
    Ok(())
}

impl TryFrom<String> for DatabaseUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(_) => f.write_str(&self.expose()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves CFG-4.
    #[test]
    fn a_url_is_shown_without_its_password() {
        let table = [
            ("postgres://andon:s3cret@db:5432/andon", "postgres://andon:***@db:5432/andon"),
            ("postgres://andon:s3%40c%2Fr:et@db/andon", "postgres://andon:***@db/andon"),
            ("postgres://andon:s3?cret@db/andon", "postgres://andon:***@db/andon"),
            ("postgres://andon@db/andon", "postgres://andon@db/andon"),
            (
                "postgres://db/andon?sslmode=require&password=s3cret",
                "postgres://db/andon?sslmode=require&password=***",
            ),
            (
                "postgres://u:s3cret@db/x?sslpassword=s3cret&connect_timeout=1",
                "postgres://u:***@db/x?sslpassword=***&connect_timeout=1",
            ),
            ("postgresql:///andon", "postgresql:///andon"),
            ("sqlite://data/a@b:c.db", "sqlite://data/a@b:c.db"),
        ];
        for (text, expected) in table {
            let url = DatabaseUrl::parse(text).expect("a valid URL");
            assert_eq!(url.to_string(), expected);
            assert_eq!(format!("{url:?}"), format!("{expected:?}"));
            assert_eq!(url.expose(), text);
        }
    }

    #[test]
    fn only_supported_databases_are_accepted() {
        let table = [
            ("mysql://u:s3cret@h/d", "databases of the kind \"mysql\" are not supported"),
            ("s3cret", "it has no scheme"),
            ("data/andon.db", "it has no scheme"),
            ("", "it has no scheme"),
            ("sqlite://", "nothing follows the scheme"),
            ("sqlite://data/", "it names a directory, not a file"),
            ("sqlite://:memory:", "a database in memory would lose everything at the next restart"),
            ("sqlite://a.db?mode=ro", "options after \"?\" are not supported for SQLite"),
            ("sqlite://file:x?mode=memory", "options after \"?\" are not supported for SQLite"),
        ];
        for (url, expected) in table {
            assert_eq!(DatabaseUrl::parse(url), Err(expected.to_owned()), "{url:?}");
        }
    }

    #[test]
    fn the_driver_in_the_scheme_is_cut_off() {
        let url = DatabaseUrl::parse("postgresql+psycopg2://u:p@h/d").expect("a valid URL");
        assert_eq!(url.expose(), "postgresql://u:p@h/d");
    }

    #[test]
    fn sqlite_paths_are_relative_with_two_slashes_absolute_with_three_and_one_more_with_a_driver() {
        for (url, path) in [
            ("sqlite://data/x.db", "data/x.db"),
            ("sqlite://data/a%20b.db", "data/a%20b.db"),
            ("sqlite:///data/x.db", "/data/x.db"),
            ("sqlite:///./x.db", "./x.db"),
            ("sqlite+aiosqlite:///data/x.db", "data/x.db"),
            ("sqlite+aiosqlite:///./x.db", "./x.db"),
            ("sqlite+pysqlite:////data/x.db", "/data/x.db"),
        ] {
            let parsed = DatabaseUrl::parse(url).expect("a valid URL");
            assert_eq!(parsed.sqlite_path(), Some(Path::new(path)), "{url}");
        }
        assert!(DatabaseUrl::parse("sqlite+aiosqlite:///").is_err(), "no file");
    }
}
