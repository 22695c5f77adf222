//! The mistakes in a configuration: one line each, all of them together (CFG-3).

use std::fmt;

use thiserror::Error;

use super::secret::without_userinfo;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, environment variable or `--set` it comes from.
    pub origin: String,
    /// The key, as written there; empty if no key is at fault.
    pub key: String,
    /// What is wrong, and what is allowed. Holds no secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.message)
        } else {
            write!(f, "{}: {}: {}", self.origin, self.key, self.message)
        }
    }
}

/// All mistakes of a configuration, at least one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", lines(.problems))]
pub struct ConfigError {
    /// In the order of the layers; contradictions between keys come last.
    pub problems: Vec<Problem>,
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// Collects mistakes while loading goes on.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    /// Keys whose values are wrong by themselves.
    wrong: Vec<String>,
}

impl Problems {
    /// Adds a mistake in a value.
    pub(super) fn add(
        &mut self,
        origin: impl Into<String>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) {
        let key = key.into();
        self.wrong.push(key.clone());
        self.add_contradiction(origin, key, message);
    }

    /// Adds a contradiction: the value is right by itself, but not beside another one.
    pub(super) fn add_contradiction(
        &mut self,
        origin: impl Into<String>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) {
        // One line each, whatever the text of a cause contains.
        let message = message.into().replace(['\r', '\n'], " ");
        let key = without_userinfo(&key.into());
        self.found.push(Problem { origin: origin.into(), key, message });
    }

    /// True if the value of this key, or one below it, is wrong by itself.
    pub(super) fn concern(&self, key: &str) -> bool {
        let below = |found: &str| found.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', '[']));
        self.wrong.iter().any(|found| found == key || below(found))
    }

    /// Returns `value` if there is no mistake.
    pub(super) fn none_or<T>(self, value: T) -> Result<T, ConfigError> {
        if self.found.is_empty() { Ok(value) } else { Err(ConfigError { problems: self.found }) }
    }
}
