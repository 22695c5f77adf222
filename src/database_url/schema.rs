//! `store.schema`: the PostgreSQL schema that holds Andon's tables.

use std::fmt;

/// PostgreSQL cuts longer names off.
const BYTES_MAX: usize = 63;

/// The name of a PostgreSQL schema: a name that needs no quotes, so that it reads the same in psql and in Andon.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct SchemaName(String);

impl SchemaName {
    /// What is allowed; the text follows "expected".
    pub const ALLOWED: &'static str = "1 to 63 characters of a-z, 0-9 and \"_\", beginning with a letter or \"_\"; not \"pg_…\", not \
         \"information_schema\"";

    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins_well = text.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
        if !begins_well || text.len() > BYTES_MAX || !text.chars().all(is_plain) {
            return Err("it is no plain name of PostgreSQL".to_owned());
        }
        if text.starts_with("pg_") || text == "information_schema" {
            return Err("PostgreSQL keeps this name for itself".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name for a statement: in quotes, because it may be a word of SQL such as `table`.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl TryFrom<String> for SchemaName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_a_plain_name_and_no_name_can_end_its_quotes() {
        for good in ["andon", "_a1", "table", "public", &"x".repeat(63)] {
            assert_eq!(SchemaName::parse(good).expect(good).quoted(), format!("\"{good}\""));
        }
        let long = "x".repeat(64);
        for bad in
            ["", " andon", "Andon", "1a", "a-b", "a.b", "a\"b", "a; DROP TABLE x", "hälle", "a\0", &long]
        {
            assert!(SchemaName::parse(bad).is_err(), "{bad:?}");
        }
        for kept in ["pg_catalog", "pg_x", "information_schema"] {
            assert_eq!(SchemaName::parse(kept), Err("PostgreSQL keeps this name for itself".to_owned()));
        }
    }
}
