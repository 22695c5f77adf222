//! Warns of what other users of this computer could read or change: files of the configuration, secrets, the command line,
//! data of earlier runs. What Andon creates is closed to them ([`file_access`](crate::file_access)); what exists stays as it is.

use std::path::{Path, PathBuf};

use super::keys::{self, KEYS, Key, Kind};
use super::layers::{Layers, SET_ORIGIN};
use super::sections::Settings;
use super::settings::Values;
use super::values::text;
use crate::database_url::DatabaseUrl;
use crate::file_access::{Exposed, changeable, exposed};

/// Adds a line for each.
pub(super) fn warnings(gathered: &Layers, settings: &Settings, values: &Values, warnings: &mut Vec<String>) {
    for directory in [gathered.config_dir.clone(), gathered.config_dir.join("sites")] {
        warnings.extend(
            changeable(&directory)
                .map(|found| format!("{}: directory of the configuration: {found}", directory.display())),
        );
    }
    warnings.extend(secrets_in(gathered, SET_ORIGIN).map(on_the_command_line));
    warnings.extend(gathered.files.iter().filter_map(|file| of_layer(gathered, file)));
    warnings.extend(KEYS.iter().filter_map(|key| of_private_key(key, values)));
    warnings.extend(of_journal(settings, values));
    warnings.extend(of_sqlite(settings, values));
}

fn on_the_command_line(key: &Key) -> String {
    let (path, file_key) = (key.path, key.file_key());
    format!("{SET_ORIGIN}: {path}: every user of this computer can read a command line; use {file_key}")
}

/// A file that holds a secret must not be readable; no file of the configuration may be changeable.
fn of_layer(gathered: &Layers, file: &Path) -> Option<String> {
    let shown = file.display().to_string();
    let secret = secrets_in(gathered, &shown).next();
    let found: Exposed = if secret.is_some() { exposed(file) } else { changeable(file) }?;
    let why = secret.map_or_else(String::new, |key| format!(" {} is in it, and", key.path));
    Some(format!("{shown}:{why} {found}"))
}

/// Returns the keys whose secrets stand in the layer of that origin.
fn secrets_in<'a>(gathered: &'a Layers, origin: &'a str) -> impl Iterator<Item = &'static Key> + 'a {
    keys::secrets().filter(move |key| {
        let values = gathered.layers.iter().filter_map(|layer| layer.get(key.path));
        let mut here = values.filter(|value| value.origin() == Some(origin));
        here.any(|value| text(value).is_some_and(|text| is_secret(key, text)))
    })
}

/// The URL of a database is a secret only with a password.
fn is_secret(key: &Key, text: &str) -> bool {
    if key.kind == Kind::DatabaseUrl {
        return DatabaseUrl::parse(text).is_ok_and(|url| url.has_password());
    }
    !text.is_empty()
}

fn of_private_key(key: &Key, values: &Values) -> Option<String> {
    let is_private_key = key.kind == Kind::ReadableFile && key.path.ends_with("key_file");
    let path = values.get(key.path).and_then(text).filter(|_| is_private_key)?;
    exposed(Path::new(path)).map(|found| format!("{}: {}: {found}", values.origin(key.path), key.path))
}

fn of_journal(settings: &Settings, values: &Values) -> Option<String> {
    let found = exposed(&settings.journal.dir)?;
    Some(format!("{}: journal.dir: {found}", values.origin("journal.dir")))
}

/// The file and its write-ahead log, and the directory, in which another file could take its place.
fn of_sqlite(settings: &Settings, values: &Values) -> Vec<String> {
    let Some(file) = settings.store.url.sqlite_path() else { return Vec::new() };
    let beside = |suffix: &str| {
        let mut path = file.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let files = ["", "-wal", "-shm"].map(beside).into_iter().filter_map(|path| exposed(&path));
    let directory = file.parent().and_then(changeable);
    let origin = values.origin("store.url");
    files.chain(directory).map(|found| format!("{origin}: store.url: {found}")).collect()
}
