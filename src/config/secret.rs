//! Values that must not be shown: `***` is printed in their place.

use std::fmt;

/// Takes the place of a secret.
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

    /// Returns the secret itself, for the code that sends it.
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

/// Removes what may be a secret from a malformed value: people put whole addresses where a host belongs. Hides everything
/// before the last `@`, except a scheme, and everything after a word such as `password=`.
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
    fn a_possible_secret_in_a_malformed_value_is_hidden() {
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
    fn a_secret_prints_as_stars() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
