//! The layers of a configuration. Each is read, typed and checked by itself, so that every mistake is reported with its
//! place, also if a later layer would hide it (CFG-2).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use config::{Map, Source, Value, ValueKind};

use super::Sources;
use super::check::{self, check};
use super::compat;
use super::keys;
use super::problem::Problems;
use super::values::{self, from_text, from_toml, sorted, text_value};

/// The first layer, and the documentation of every key.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");
/// Default directory of the site's file and of `local.toml`.
pub const CONFIG_DIR: &str = "config";
/// Origin of values of the first layer.
pub(super) const DEFAULT_ORIGIN: &str = "default";
/// Origin of values of the command line.
pub(super) const SET_ORIGIN: &str = "--set";
const VARIABLE_PREFIX: &str = "ANDON__";

/// The values of one source; later layers win.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    table: Map<String, Value>,
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.table.clone())
    }
}

impl Layer {
    /// Returns the value of a key of the table.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        lookup(&self.table, path)
    }
}

/// Returns the value at a dotted path.
pub(super) fn lookup<'a>(table: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => table.get(path),
        Some((name, rest)) => match &table.get(name)?.kind {
            ValueKind::Table(below) => lookup(below, rest),
            _ => None,
        },
    }
}

/// Puts a value at a path, and creates the tables on the way. A value that is in the way is replaced.
pub(super) fn insert(table: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.insert(name.clone(), value);
        return;
    }
    let origin = value.origin().map(str::to_owned);
    let empty = || Value::new(origin.as_ref(), ValueKind::Table(Map::new()));
    let below = table.entry(name.clone()).or_insert_with(empty);
    if !matches!(below.kind, ValueKind::Table(_)) {
        *below = empty();
    }
    if let ValueKind::Table(below) = &mut below.kind {
        insert(below, rest, value);
    }
}

/// Splits the path of a key into segments.
pub(super) fn segments(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// All layers, and the files among them.
pub(super) struct Layers {
    /// From the weakest to the strongest.
    pub(super) layers: Vec<Layer>,
    /// The files that were read.
    pub(super) files: Vec<PathBuf>,
    /// The directory in which they are, or would be.
    pub(super) config_dir: PathBuf,
    /// The directories that were tried.
    pub(super) looked_in: Vec<PathBuf>,
}

/// Reads every layer. Adds its mistakes to `problems`, and leaves out the values that have one.
pub(super) fn gather(sources: &Sources, problems: &mut Problems) -> Layers {
    let (dir, looked_in) = config_dir(sources, problems);
    let config_dir = dir.clone();
    let mut gathered = Layers { layers: Vec::new(), files: Vec::new(), config_dir, looked_in };
    gathered.layers.extend(parse_file(DEFAULT_TOML, DEFAULT_ORIGIN, problems));
    if let Some(site) = &sources.site {
        gathered.layers.extend(site_name(site, problems));
        if check::is_site_id(site) {
            let path = dir.join("sites").join(format!("{site}.toml"));
            if !read_file(&path, &mut gathered, problems) {
                problems.add(path.display().to_string(), "", missing_site(&dir, site));
            }
        }
    }
    read_file(&dir.join("local.toml"), &mut gathered, problems);
    let compat = compat::layer(&sources.environment, &gathered.layers, problems);
    gathered.layers.push(checked(compat, problems));
    let environment = environment(&sources.environment, problems);
    gathered.layers.push(checked(environment, problems));
    let set = set(&sources.set, problems);
    gathered.layers.push(checked(set, problems));
    gathered
}

/// Returns the directory to read: the given one, or else the first that exists. Also returns all that were tried.
fn config_dir(sources: &Sources, problems: &mut Problems) -> (PathBuf, Vec<PathBuf>) {
    if let Some(dir) = &sources.config_dir {
        if !dir.is_dir() {
            problems.add("--config-dir", "", format!("{} is not a directory", dir.display()));
        }
        return (dir.clone(), vec![dir.clone()]);
    }
    let local = sources.places.working_dir.join(CONFIG_DIR);
    if local.is_dir() {
        return (local.clone(), vec![local]);
    }
    let system = sources.places.system_config.clone();
    let dir = if system.is_dir() { system.clone() } else { local.clone() };
    (dir, vec![local, system])
}

/// A layer that makes the site's name its id, unless a later layer says otherwise.
fn site_name(site: &str, problems: &mut Problems) -> Option<Layer> {
    let mut table = Map::new();
    insert(&mut table, &segments("site.id"), text_value(site, "--site"));
    Some(checked(table, problems))
}

/// Reads a file as a further layer; returns false if there is none.
fn read_file(path: &Path, gathered: &mut Layers, problems: &mut Problems) -> bool {
    let origin = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => {
            gathered.files.push(path.to_owned());
            gathered.layers.extend(parse_file(&text, &origin, problems));
            true
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            problems.add(origin, "", format!("cannot read the file: {error}"));
            true
        }
    }
}

/// Returns the names of the sites that have a file, in order.
#[must_use]
pub fn site_names(sources: &Sources) -> Vec<String> {
    let (dir, _) = config_dir(sources, &mut Problems::default());
    sites_in(&dir)
}

fn sites_in(dir: &Path) -> Vec<String> {
    let mut sites: Vec<String> = fs::read_dir(dir.join("sites"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    sites.sort();
    sites
}

fn missing_site(dir: &Path, site: &str) -> String {
    let sites = sites_in(dir);
    let known = if sites.is_empty() { "none".to_owned() } else { sites.join(", ") };
    format!("site {site:?} has no file; sites with a file: {known}")
}

fn parse_file(text: &str, origin: &str, problems: &mut Problems) -> Option<Layer> {
    match text.parse::<toml::Table>() {
        Ok(document) => {
            let table = document.into_iter().map(|(key, value)| (key, from_toml(value, origin))).collect();
            Some(checked(table, problems))
        }
        Err(error) => {
            // Only the message: the full text of the error quotes the line, which may hold a password.
            let place = error.span().map(|span| line_and_column(text, span.start));
            let place =
                place.map_or(String::new(), |(line, column)| format!("line {line}, column {column}: "));
            problems.add(origin, "", format!("{place}invalid TOML: {}", error.message()));
            None
        }
    }
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Reads the variables `ANDON__SECTION__KEY`.
fn environment(variables: &BTreeMap<String, String>, problems: &mut Problems) -> Map<String, Value> {
    let mut table = Map::new();
    for (name, text) in variables {
        let Some(path) = name.strip_prefix(VARIABLE_PREFIX) else {
            continue;
        };
        let path: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        let origin = variable_origin(name);
        match keys::kind_at(&path) {
            Some(kind) => insert(&mut table, &path, from_text(kind, text, &origin)),
            None => problems.add(origin, "", unknown_variable(&path.join("."))),
        }
    }
    table
}

/// Names an environment variable as the origin of a value.
pub(super) fn variable_origin(name: &str) -> String {
    format!("environment variable {name}")
}

fn unknown_variable(path: &str) -> String {
    if keys::is_section(path) {
        return format!("{path} is a section; add the key: {}__<KEY>", keys::variable(path));
    }
    match keys::nearest_key(path) {
        Some(meant) => format!("sets no known key; did you mean {}?", keys::variable(meant)),
        None => "sets no known key; the names are ANDON__<SECTION>__<KEY>".to_owned(),
    }
}

/// Reads the arguments of `--set`.
fn set(arguments: &[String], problems: &mut Problems) -> Map<String, Value> {
    let mut table = Map::new();
    for argument in arguments {
        let Some((key, text)) = argument.split_once('=') else {
            problems.add(SET_ORIGIN, key_like(argument), "expected key=value, such as mqtt.host=broker");
            continue;
        };
        let Some(path) = key_path(key) else {
            problems.add(SET_ORIGIN, key_like(key), "is not a key; a key looks like mqtt.host");
            continue;
        };
        match keys::kind_at(&path) {
            Some(kind) => insert(&mut table, &path, from_text(kind, text, SET_ORIGIN)),
            None => problems.add(SET_ORIGIN, key.trim(), unknown_key(&path.join("."))),
        }
    }
    table
}

/// Returns the beginning of a text that can be a key. The rest may be a secret that was put in the wrong place.
fn key_like(text: &str) -> &str {
    let is_of_key = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    text.split(|character| !is_of_key(character)).next().unwrap_or_default()
}

/// Splits a key as TOML does, quoted parts included.
fn key_path(key: &str) -> Option<Vec<String>> {
    if key.contains(['\n', '\r']) {
        return None;
    }
    let document: toml::Table = format!("{key} = 0").parse().ok()?;
    let mut path = Vec::new();
    let mut table = document;
    loop {
        let (name, value) = table.into_iter().next()?;
        path.push(name);
        match value {
            toml::Value::Table(below) => table = below,
            _ => return Some(path),
        }
    }
}

/// Says what is known about a key that does not exist.
fn unknown_key(path: &str) -> String {
    if keys::is_section(path) {
        return "is a section, not a key".to_owned();
    }
    if let Some(meant) = keys::nearest_key(path) {
        return format!("unknown key; did you mean {meant}?");
    }
    let section =
        path.rsplit_once('.').map(|(section, _)| section).filter(|section| keys::is_section(section));
    match section {
        Some(section) => format!("unknown key; the keys of [{section}] are: {}", names_below(section)),
        None => format!("unknown key; the sections are: {}", sections()),
    }
}

fn names_below(section: &str) -> String {
    let names: Vec<&str> = keys::KEYS
        .iter()
        .filter_map(|key| key.path.strip_prefix(section)?.strip_prefix('.'))
        .filter(|name| !name.contains('.'))
        .collect();
    names.join(", ")
}

fn sections() -> String {
    let mut names: Vec<&str> = keys::KEYS.iter().filter_map(|key| key.path.split('.').next()).collect();
    names.dedup();
    names.join(", ")
}

/// Makes a layer of the values that have no mistake.
fn checked(table: Map<String, Value>, problems: &mut Problems) -> Layer {
    Layer { table: checked_section("", table, problems) }
}

fn checked_section(section: &str, table: Map<String, Value>, problems: &mut Problems) -> Map<String, Value> {
    let mut good = Map::new();
    for (name, value) in sorted(table) {
        let path = if section.is_empty() {
            values::key_text(&name)
        } else {
            format!("{section}.{}", values::key_text(&name))
        };
        let origin = value.origin().unwrap_or_default().to_owned();
        if let Some(key) = keys::find(&path) {
            let mut report = |below: String, message: String| problems.add(origin.as_str(), below, message);
            if let Some(value) = check(&path, key.kind, key.optional, value, &mut report) {
                good.insert(name, value);
            }
        } else if keys::is_section(&path) {
            match value.kind {
                ValueKind::Table(below) => {
                    let below = checked_section(&path, below, problems);
                    good.insert(name, Value::new(Some(&origin), ValueKind::Table(below)));
                }
                _ => problems.add(origin, path.clone(), format!("is a section; write [{path}]")),
            }
        } else {
            let message = match (&value.kind, keys::nearest_section(&path)) {
                (ValueKind::Table(_), Some(meant)) => format!("unknown section; did you mean [{meant}]?"),
                (ValueKind::Table(_), None) => format!("unknown section; the sections are: {}", sections()),
                _ => unknown_key(&path),
            };
            problems.add(origin, path, message);
        }
    }
    good
}
