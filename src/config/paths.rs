//! Replaces `{site}` and relative paths.
//!
//! `{site}` in `journal.dir` and `store.url` stands for `site.id`. Relative paths start at the working directory, but with
//! the system's configuration (`/etc/andon`) at the system's state directory (`/var/lib/andon`).
//!
//! Older versions had one default for all sites: `data/journal` and `data/andon.db`. If only that exists it is used, with
//! a warning: an update must not begin with an empty journal beside a full one.

use std::path::{Path, PathBuf};

use config::{Map, Value};

use super::keys::{KEYS, Kind, TOKEN_FILE};
use super::layers::{DEFAULT_ORIGIN, insert, lookup, segments};
use super::secrets::for_each_token;
use super::values::{text, text_value};
use crate::database_url::DatabaseUrl;

const JOURNAL_DIR: &str = "journal.dir";
const STORE_URL: &str = "store.url";
/// The default of `journal.dir` in older versions.
const OLD_JOURNAL_DIR: &str = "data/journal";
/// The file of `store.url`'s default in older versions.
const OLD_SQLITE_PATH: &str = "data/andon.db";
/// The origin of a value that was the default of older versions.
const OLD_ORIGIN: &str = "default of older versions, which exists";

/// Directories that are used unless others are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Where relative paths start; empty: the working directory of this process.
    pub working_dir: PathBuf,
    /// The system's configuration, read if there is none in the working directory.
    pub system_config: PathBuf,
    /// Where relative paths start with the system's configuration.
    pub system_state: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            working_dir: PathBuf::new(),
            system_config: "/etc/andon".into(),
            system_state: "/var/lib/andon".into(),
        }
    }
}

/// Resolves the paths in the merged layers.
pub(super) struct Paths<'a> {
    places: &'a Places,
    /// Where relative paths start; empty: the working directory.
    base: &'a Path,
    site: String,
}

impl<'a> Paths<'a> {
    /// Prepares for a configuration that was read from `config_dir`.
    pub(super) fn new(places: &'a Places, config_dir: &Path, table: &Map<String, Value>) -> Self {
        let is_of_system = config_dir == places.system_config;
        let base = if is_of_system { places.system_state.as_path() } else { Path::new("") };
        let site = lookup(table, "site.id").and_then(text).unwrap_or_default().to_owned();
        Self { places, base, site }
    }

    /// Resolves all paths but the database's: its URL may come from a file that is still to be read.
    pub(super) fn resolve_files(&self, table: &mut Map<String, Value>, warnings: &mut Vec<String>) {
        for key in KEYS.iter().filter(|key| matches!(key.kind, Kind::Path | Kind::ReadableFile)) {
            let Some(value) = lookup(table, key.path).filter(|value| !is_blank(value)) else { continue };
            let (given, origin) = (text(value).unwrap_or_default(), origin(value));
            let mut path = PathBuf::from(given);
            let mut from = origin.clone();
            if key.path == JOURNAL_DIR {
                path = PathBuf::from(self.with_site(given));
                if let Some(old) = self.old_default(&origin, &path, OLD_JOURNAL_DIR) {
                    warnings.push(self.warning(JOURNAL_DIR, &old, &old.display().to_string(), &path));
                    (path, from) = (old, OLD_ORIGIN.to_owned());
                }
            }
            let path = self.base.join(path).display().to_string();
            insert(table, &segments(key.path), text_value(&path, &from));
        }
        for_each_token(table, |_, token| {
            let Some(file) = token.get_mut(TOKEN_FILE) else { return };
            let path = self.base.join(text(file).unwrap_or_default()).display().to_string();
            *file = text_value(&path, &origin(file));
        });
    }

    /// Resolves the URL of the database.
    pub(super) fn resolve_url(&self, table: &mut Map<String, Value>, warnings: &mut Vec<String>) {
        let Some(value) = lookup(table, STORE_URL) else { return };
        let mut from = origin(value);
        let Ok(url) = DatabaseUrl::parse(&self.with_site(text(value).unwrap_or_default())) else { return };
        let shown = match url.sqlite_path() {
            None => url.expose(),
            Some(path) => {
                let mut path = path.to_owned();
                if let Some(old) = self.old_default(&from, &path, OLD_SQLITE_PATH) {
                    let setting = format!("sqlite://{}", old.display());
                    warnings.push(self.warning(STORE_URL, &old, &setting, &path));
                    (path, from) = (old, OLD_ORIGIN.to_owned());
                }
                format!("sqlite://{}", self.base.join(path).display())
            }
        };
        insert(table, &segments(STORE_URL), text_value(&shown, &from));
    }

    fn with_site(&self, text: &str) -> String {
        text.replace("{site}", &self.site)
    }

    /// Returns `old` if the key has its default and only `old` exists.
    fn old_default(&self, origin: &str, new: &Path, old: &str) -> Option<PathBuf> {
        let is_there = |path: &Path| self.places.working_dir.join(path).exists();
        if origin != DEFAULT_ORIGIN || is_there(&self.base.join(new)) {
            return None;
        }
        if is_there(&self.base.join(old)) {
            return Some(old.into());
        }
        // Older versions started at the working directory, whatever the configuration directory was.
        let in_working_dir = self.places.working_dir.join(old);
        if in_working_dir.exists() { std::path::absolute(in_working_dir).ok() } else { None }
    }

    fn warning(&self, key: &str, old: &Path, setting: &str, new: &Path) -> String {
        let (old, new) = (self.base.join(old), self.base.join(new));
        format!(
            "{key} is not set; using {}, the default of older versions, because the present default does not exist. \
             Set {key} = {setting:?}, or stop Andon and move it to {}",
            old.display(),
            new.display()
        )
    }
}

fn is_blank(value: &Value) -> bool {
    text(value).is_none_or(|text| text.trim().is_empty())
}

fn origin(value: &Value) -> String {
    value.origin().unwrap_or_default().to_owned()
}
