//! Values that must not be seen: whatever prints them prints `***`.

use std::fmt;
use std::path::Path;

use super::postgres_url;

/// In place of what must not be seen.
pub(super) const REDACTED: &str = "***";

/// A password, token or passphrase. `Debug` and `Display` show `***`.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one place that has to send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// The address of a database, which may hold a password. `Debug` and `Display` show it without.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct DatabaseUrl(String);

/// Schemes a [`DatabaseUrl`] may have.
const SCHEMES: [&str; 3] = ["sqlite", "postgres", "postgresql"];

impl DatabaseUrl {
    /// Takes `sqlite://<path>` and `postgres://…` or `postgresql://…`. The driver that other tools put into
    /// the scheme (`postgresql+psycopg2://`) is cut off; the path of such an SQLite address begins behind a third slash, as
    /// SQLAlchemy has it. So does one that would be `/./…`, which nobody means.
    ///
    /// # Errors
    /// What is wrong with it, without any of its text but the scheme.
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
        let mut rest = rest;
        if plain_scheme == "sqlite" {
            if scheme.contains('+') || rest.starts_with("/./") {
                rest = rest.strip_prefix('/').unwrap_or(rest);
            }
            check_sqlite_path(rest)?;
        }
        let url = format!("{plain_scheme}://{rest}");
        if plain_scheme != "sqlite" {
            let mistakes = postgres_url::mistakes(&url);
            if !mistakes.is_empty() {
                return Err(mistakes.join("; "));
            }
        }
        Ok(Self(url))
    }

    /// The whole address, for the one place that connects.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The file, if it is SQLite's.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<&Path> {
        self.0.strip_prefix("sqlite://").map(Path::new)
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
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

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&redacted(&self.0), f)
    }
}

/// Hides what may be a password, rather too much than too little: people forget to percent-encode,
/// so everything from the first `:` after the scheme to the last `@` counts.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return REDACTED.to_owned();
    };
    if scheme == "sqlite" {
        return url.to_owned();
    }
    let rest = match rest.rsplit_once('@') {
        Some((userinfo, after)) => match userinfo.split_once(':') {
            Some((user, _)) => format!("{user}:{REDACTED}@{after}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    let (location, query) = match rest.split_once('?') {
        Some((location, query)) => (location, Some(query)),
        None => (rest.as_str(), None),
    };
    let mut shown = format!("{scheme}://{location}");
    for (index, parameter) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if name.to_ascii_lowercase().contains("pass") => {
                shown.push_str(&format!("{name}={REDACTED}"));
            }
            _ => shown.push_str(parameter),
        }
    }
    shown
}

/// `text`, which is not what it should be, without what may be a secret in it: people put whole addresses where a host belongs.
/// Everything before the last `@` is hidden (but a scheme), and what follows a word such as `password=`.
pub(super) fn without_userinfo(text: &str) -> String {
    let mut shown = match text.rsplit_once('@') {
        None => text.to_owned(),
        Some((before, after)) => {
            let scheme = before.find("://").map_or("", |end| &before[..end + "://".len()]);
            format!("{scheme}{REDACTED}@{after}")
        }
    };
    let lower = shown.to_ascii_lowercase();
    let named = ["pass", "pwd", "token", "secret"].iter().filter_map(|word| lower.find(word));
    let begins = named.filter_map(|at| Some(at + lower[at..].find(['=', ':'])? + 1)).min();
    if let Some(begins) = begins.filter(|begins| *begins < shown.len()) {
        shown.truncate(begins);
        shown.push_str(REDACTED);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_in_a_wrong_value_is_hidden() {
        let table = [
            ("mqtt://u:s3cret@b", "mqtt://***@b"),
            ("u:s3cret@b:1883", "***@b:1883"),
            ("u:s3c://r@et@b", "u:s3c://***@b"),
            ("http://s3cret@proxy:3128/x", "http://***@proxy:3128/x"),
            ("broker?user=u&password=s3cret&x=1", "broker?user=u&password=***"),
            ("Token: s3cret", "Token:***"),
            ("tokens", "tokens"),
            ("mqtt://broker:1883", "mqtt://broker:1883"),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(without_userinfo(text), expected);
        }
    }

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_database_url_is_shown_without_its_password() {
        let table = [
            ("postgres://andon:s3cret@db:5432/andon", "postgres://andon:***@db:5432/andon"),
            ("postgres://andon:s3@c/r:et@db/andon", "postgres://andon:***@db/andon"),
            ("postgres://andon:s3?cret@db/andon", "postgres://andon:***@db/andon"),
            ("postgres://andon@db/andon", "postgres://andon@db/andon"),
            (
                "postgres://db/andon?sslmode=require&password=s3cret",
                "postgres://db/andon?sslmode=require&password=***",
            ),
            ("postgres://u:s3cret@db/x?sslpassword=s3cret&a=b", "postgres://u:***@db/x?sslpassword=***&a=b"),
            ("postgresql:///andon", "postgresql:///andon"),
            ("sqlite://data/a@b:c.db", "sqlite://data/a@b:c.db"),
        ];
        for (url, expected) in table {
            // Also of one that is none: what prints it does not ask.
            let url = DatabaseUrl(url.to_owned());
            assert_eq!(url.to_string(), expected);
            assert_eq!(format!("{url:?}"), format!("{expected:?}"));
        }
    }

    #[test]
    fn only_databases_that_andon_speaks_are_accepted() {
        let table = [
            ("mysql://u:s3cret@h/d", "databases of the kind \"mysql\" are not supported"),
            ("s3cret", "it has no scheme"),
            ("data/andon.db", "it has no scheme"),
            ("sqlite://", "nothing follows the scheme"),
            ("sqlite://data/", "it names a directory, not a file"),
            ("sqlite://:memory:", "a database in memory would lose everything at the next restart"),
            ("sqlite://a.db?mode=ro", "options after \"?\" are not supported for SQLite"),
        ];
        for (url, expected) in table {
            assert_eq!(DatabaseUrl::parse(url), Err(expected.to_owned()), "{url:?}");
        }
    }

    #[test]
    fn the_driver_in_the_scheme_is_cut_off() {
        let url = DatabaseUrl::parse("postgresql+psycopg2://u:p@h/d").expect("a valid url");
        assert_eq!(url.expose(), "postgresql://u:p@h/d");
    }

    #[test]
    fn with_a_driver_the_path_of_sqlite_begins_behind_the_third_slash() {
        for (url, path) in [
            ("sqlite://data/x.db", "data/x.db"),
            ("sqlite:///data/x.db", "/data/x.db"),
            ("sqlite:///./x.db", "./x.db"),
            ("sqlite+aiosqlite:///data/x.db", "data/x.db"),
            ("sqlite+aiosqlite:///./x.db", "./x.db"),
            ("sqlite+pysqlite:////data/x.db", "/data/x.db"),
        ] {
            let parsed = DatabaseUrl::parse(url).expect("a valid url");
            assert_eq!(parsed.sqlite_path(), Some(Path::new(path)), "{url}");
        }
        assert!(DatabaseUrl::parse("sqlite+aiosqlite:///").is_err(), "no file");
    }
}
