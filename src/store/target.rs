//! `store.url`: which database, and what may be said about it aloud.

use std::fmt;
use std::path::PathBuf;

use super::StoreError;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file.
    Sqlite(PathBuf),
    /// A libpq URL.
    Postgres(PostgresUrl),
}

/// A PostgreSQL URL. Its `Display` and `Debug` leave out the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

/// Parameters of the query that are secret.
const SECRET_PARAMETERS: [&str; 2] = ["password", "sslpassword"];
const SQLITE_SCHEME: &str = "sqlite://";
const POSTGRES_SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

impl Target {
    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix(SQLITE_SCHEME) {
            return sqlite_path(path).map(Self::Sqlite);
        }
        if POSTGRES_SCHEMES.iter().any(|scheme| url.starts_with(scheme)) && !url.contains('\0') {
            return Ok(Self::Postgres(PostgresUrl(url.to_owned())));
        }
        refuse("it must be sqlite://path, sqlite:///absolute/path or postgres://user@host/database")
    }
}

fn sqlite_path(path: &str) -> Result<PathBuf, StoreError> {
    if path.contains(":memory:") || path.contains("mode=memory") {
        return refuse("SQLite in memory would lose everything at the next restart; name a file");
    }
    if path.is_empty() || path.ends_with('/') {
        return refuse("the SQLite URL names no file; write sqlite://data/andon.db");
    }
    if path.contains(['?', '\0']) {
        return refuse("options after ? are not supported for SQLite; write sqlite://data/andon.db");
    }
    Ok(PathBuf::from(path))
}

fn refuse<T>(reason: &str) -> Result<T, StoreError> {
    Err(StoreError::Url { reason: reason.to_owned() })
}

impl PostgresUrl {
    /// The URL with each of `parameters` that it does not set itself.
    pub fn with_defaults(&self, parameters: &[(&str, String)]) -> String {
        let mut url = self.0.clone();
        for (name, value) in parameters {
            if !self.sets(name) {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(&format!("{name}={value}"));
            }
        }
        url
    }

    fn sets(&self, name: &str) -> bool {
        self.query().split('&').any(|parameter| parameter.split('=').next() == Some(name))
    }

    fn query(&self) -> &str {
        self.0.split_once('?').map_or("", |(_, query)| query)
    }

    /// `message` without any part of the password, in case the library quotes a URL that it could not read.
    pub fn redact(&self, message: &str) -> String {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let in_user_info = rest.rsplit_once('@').and_then(|(user_info, _)| user_info.split_once(':'));
        let in_query = self.query().split('&').filter_map(|parameter| parameter.split_once('='));
        let secrets = in_query
            .filter(|(name, _)| SECRET_PARAMETERS.contains(name))
            .map(|(_, secret)| secret)
            .chain(in_user_info.map(|(_, secret)| secret));
        // libpq ends a malformed password at any of these, and quotes the pieces.
        let pieces = secrets
            .flat_map(|secret| secret.split(['@', '/', '?', '#', ':']))
            .filter(|piece| piece.len() > 2);
        pieces.fold(message.to_owned(), |text, piece| text.replace(piece, "***"))
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        // The last @ ends the user info, however badly the password is escaped, unless it belongs to one in
        // the query.
        let is_secret_in_query = SECRET_PARAMETERS.iter().any(|name| self.sets(name));
        let shown = if is_secret_in_query { rest.split('?').next().unwrap_or("") } else { rest };
        let place = shown.rsplit_once('@').map_or(shown, |(_, place)| place);
        let place = self.redact(place.split('?').next().unwrap_or(""));
        let host = self.query().split('&').find_map(|parameter| parameter.strip_prefix("host="));
        match host {
            Some(host) => write!(f, "PostgreSQL at {host}{place}"),
            None => write!(f, "PostgreSQL at {place}"),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "SQLite file {}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn postgres(url: &str) -> PostgresUrl {
        match Target::parse(url).unwrap() {
            Target::Postgres(url) => url,
            Target::Sqlite(path) => panic!("{url} was taken for the file {path:?}"),
        }
    }

    #[test]
    fn sqlite_urls_are_relative_with_two_slashes_and_absolute_with_three() {
        assert_eq!(Target::parse("sqlite://data/a%20b.db").unwrap(), Target::Sqlite("data/a%20b.db".into()));
        assert_eq!(Target::parse("sqlite:///var/lib/a.db").unwrap(), Target::Sqlite("/var/lib/a.db".into()));
    }

    #[test]
    fn urls_that_would_lose_data_or_mean_nothing_are_refused() {
        let refused = [
            "sqlite://:memory:",
            "sqlite://file:x?mode=memory",
            "sqlite://",
            "sqlite://data/",
            "sqlite://a.db?mode=ro",
            "mysql://host/db",
            "data/andon.db",
            "",
        ];
        for url in refused {
            assert!(matches!(Target::parse(url), Err(StoreError::Url { .. })), "{url}");
        }
    }

    #[test]
    fn parameters_of_the_user_are_kept_and_ours_added() {
        let defaults = [("connect_timeout", "5".to_owned()), ("application_name", "andon".to_owned())];
        assert_eq!(
            postgres("postgres://h/d").with_defaults(&defaults),
            "postgres://h/d?connect_timeout=5&application_name=andon"
        );
        assert_eq!(
            postgres("postgres://h/d?connect_timeout=60").with_defaults(&defaults),
            "postgres://h/d?connect_timeout=60&application_name=andon"
        );
    }

    #[test]
    fn no_password_is_ever_shown() {
        for url in
            ["postgres://u:sec@ret/%20wor?d@db:5432/plant", "postgres://u@db/plant?password=sec@ret/%20wor"]
        {
            let url = postgres(url);
            let shown = format!(
                "{url} {url:?} {}",
                url.redact("could not translate host name \"ret\", port \"%20wor\" sec")
            );
            assert!(shown.contains("db"), "{shown}");
            for piece in ["sec", "\"ret", "wor"] {
                assert!(!shown.contains(piece), "{piece} in {shown}");
            }
        }
    }
}
