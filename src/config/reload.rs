//! A newer configuration beside the one in effect: what a running service takes over, and what needs a restart (CFG-6).

use thiserror::Error;

use super::keys::KEYS;
use super::origin::to_toml;
use super::problem::Problems;
use super::validate;
use super::{ConfigError, Loaded};

/// What a reload leads to.
#[derive(Debug, Clone)]
pub struct Reload {
    /// What is in effect from now on: the old configuration with the keys of `applied` from the newer one.
    pub loaded: Loaded,
    /// Keys whose newer value is in it, in the order of the documentation.
    pub applied: Vec<&'static str>,
    /// Keys whose newer value waits for a restart.
    pub needs_restart: Vec<&'static str>,
}

/// Why nothing of a valid configuration can be taken over.
#[derive(Debug, Clone, Error)]
#[error("what can be applied now contradicts the old values of {}, which need a restart", .needs_restart.join(", "))]
pub struct ReloadError {
    /// Keys whose newer value needs a restart.
    pub needs_restart: Vec<&'static str>,
    /// The contradictions.
    #[source]
    pub contradictions: ConfigError,
}

impl Loaded {
    /// Returns this configuration with whatever of `newer` can change in a running service.
    ///
    /// # Errors
    /// The keys that can change contradict old values of keys that cannot.
    pub fn reload(&self, newer: &Self) -> Result<Reload, ReloadError> {
        let mut values = self.values.clone();
        let (mut applied, mut needs_restart) = (Vec::new(), Vec::new());
        for key in KEYS {
            let in_effect = self.values.get(key.path).map(to_toml);
            if in_effect == newer.values.get(key.path).map(to_toml) {
                continue;
            }
            if key.is_reloaded() {
                values.take_over(key.path, &newer.values);
                applied.push(key.path);
            } else {
                needs_restart.push(key.path);
            }
        }
        let (settings, mut problems) = (values.settings(), Problems::default());
        validate::contradictions(&settings, &values, &mut problems);
        let loaded = Loaded { settings, values, ..newer.clone() };
        match problems.none_or(loaded) {
            Ok(loaded) => Ok(Reload { loaded, applied, needs_restart }),
            Err(contradictions) => Err(ReloadError { needs_restart, contradictions }),
        }
    }

    /// Returns the warnings that `older` does not have.
    pub fn new_warnings<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = &'a String> {
        self.warnings.iter().filter(|warning| !older.warnings.contains(warning))
    }
}
