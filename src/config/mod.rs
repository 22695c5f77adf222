//! Configuration: layers of TOML, environment and command line become one [`Settings`], or a list of mistakes.
//!
//! Later layers win:
//!
//! 1. built-in defaults, which are `config/default.toml` ([`DEFAULT_TOML`]), the documentation of every key
//! 2. `<config-dir>/sites/<site>.toml`, if a site is named (its name is the default of `site.id`)
//! 3. `<config-dir>/local.toml`, if it exists
//! 4. the environment: the variables of existing deployments (module `compat`), above them `ANDON__SECTION__KEY`
//! 5. `--set key=value`
//!
//! The way of a value: `layers` reads and types it, `check` compares it with its line in `keys`, `secrets` and `paths`
//! resolve it, `settings` derives what was left open, `expand` prepares it for serde, and `sections` holds it.
//! `validate` then compares values with each other. `reload` compares a configuration with the one in effect, and takes
//! over what `effect` says can change in a running service.
//!
//! # Invariants
//! - **CFG-1** Every key is one line of `keys::KEYS`, one field of a section, and one paragraph of `default.toml`.
//! - **CFG-2** Each layer is checked by itself: a mistake is reported with its place, also if a later layer hides it.
//! - **CFG-3** All mistakes are reported together, one line each.
//! - **CFG-4** No text that leaves this module (settings, problems, warnings, [`Loaded::show`]) contains a secret,
//!   except what [`Secret::expose`] and [`DatabaseUrl::expose`](crate::database_url::DatabaseUrl::expose) return.
//! - **CFG-6** A reload changes the keys alone that are marked so in `keys::KEYS`; what results is free of contradictions, or
//!   nothing changes.
//! - **CFG-5** Loading reads nothing global: the environment comes in as a map. It reads files: the layers, the secrets,
//!   and those of TLS, to see that they exist. Of these and of the data it reads the permissions.

mod allowed;
mod check;
mod compat;
mod documentation;
mod effect;
mod expand;
mod exposure;
mod keys;
mod layers;
mod log_levels;
mod origin;
mod paths;
mod problem;
mod reload;
mod secret;
mod secrets;
mod sections;
mod settings;
mod units;
mod validate;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use documentation::{Block, documentation};
pub use layers::{CONFIG_DIR, DEFAULT_TOML, site_names};
pub use log_levels::LogLevels;
pub use paths::Places;
pub use problem::{ConfigError, Problem};
pub use reload::{Reload, ReloadError};
pub use secret::Secret;
pub use sections::{
    Http, HttpTls, Journal, Liveness, Log, LogFormat, Metrics, Mqtt, NamedToken, Payload, Settings, Site,
    Store, Subscription, Supervisor, Tls,
};

use origin::Effective;
use paths::Paths;
use problem::Problems;
use settings::Values;

/// The sources of a configuration, beside the built-in defaults.
#[derive(Clone, Default)]
pub struct Sources {
    /// Directory of the files; `None`: [`CONFIG_DIR`], or else the system's ([`Places`]); neither need exist.
    pub config_dir: Option<PathBuf>,
    /// Directories that are used unless others are given.
    pub places: Places,
    /// The site whose file to read.
    pub site: Option<String>,
    /// The environment: all variables, also those that mean nothing to Andon.
    pub environment: BTreeMap<String, String>,
    /// Arguments of `--set`, `key=value`.
    pub set: Vec<String>,
}

impl fmt::Debug for Sources {
    /// Leaves out environment and `--set`, which may hold secrets (CFG-4).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("config_dir", &self.config_dir)
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}

/// A configuration without mistakes.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Settings that are allowed but probably not meant; one line each.
    pub warnings: Vec<String>,
    /// Files that were read, in order of rank.
    pub files: Vec<PathBuf>,
    /// Directories in which files were looked for.
    pub looked_in: Vec<PathBuf>,
    /// False if `RUN_MQTT_WORKER=false` keeps `run` from running.
    pub worker_enabled: bool,
    values: Values,
}

impl Loaded {
    /// Prints all settings in effect as TOML, without secrets; `with_origin` adds where each comes from.
    #[must_use]
    pub fn show(&self, with_origin: bool) -> String {
        Effective::redacted(self.values.table().clone()).show(with_origin)
    }
}

/// Reads, merges and checks all layers.
///
/// # Errors
/// Every mistake, one line each.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut problems = Problems::default();
    let mut warnings = compat::misspelt(&sources.environment);
    let worker_enabled = compat::worker_enabled(&sources.environment, &mut problems);
    let gathered = layers::gather(sources, &mut problems);
    let mut table = settings::merge(&gathered.layers, &mut problems);
    let paths = Paths::new(&sources.places, &gathered.config_dir, &table);
    paths.resolve_files(&mut table, &mut warnings);
    secrets::resolve(&mut table, &gathered.layers, &sources.environment, &mut problems, &mut warnings);
    secrets::resolve_tokens(&mut table, &mut problems, &mut warnings);
    paths.resolve_url(&mut table, &mut warnings);
    let values = Values::normalised(table);
    let settings = values.settings();
    validate::contradictions(&settings, &values, &mut problems);
    validate::warnings(&settings, &sources.environment, &mut warnings);
    exposure::warnings(&gathered, &settings, &values, &mut warnings);
    let layers::Layers { files, looked_in, .. } = gathered;
    problems.none_or(Loaded { settings, warnings, files, looked_in, worker_enabled, values })
}
