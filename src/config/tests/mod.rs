//! The configuration as its users meet it: files, environment and `--set` go in, settings or complaints come out.

mod contradictions;
mod documentation;
mod layering;
mod mistakes;
mod paths;
mod reload;
mod secrecy;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Loaded, Places, Sources, load};

/// A directory that is closed to other users, so that nothing in it is warned about.
fn private_directory() -> tempfile::TempDir {
    let private = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir().expect("a directory")
}

/// A configuration in a temporary directory.
struct Scene {
    dir: tempfile::TempDir,
    sources: Sources,
}

impl Scene {
    fn new() -> Self {
        let dir = private_directory();
        // The files of the repository must not count.
        let places = Places { working_dir: dir.path().join("empty"), ..Places::default() };
        let sources = Sources { config_dir: Some(dir.path().to_owned()), places, ..Sources::default() };
        Self { dir, sources }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file and returns its path.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("it can be made");
        fs::write(&path, text).expect("it can be written");
        path
    }

    fn local(self, text: &str) -> Self {
        self.file("local.toml", text);
        self
    }

    fn site(mut self, name: &str, text: &str) -> Self {
        self.file(&format!("sites/{name}.toml"), text);
        self.sources.site = Some(name.to_owned());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn set(mut self, argument: &str) -> Self {
        self.sources.set.push(argument.to_owned());
        self
    }

    /// Loads it; panics with the complaints.
    fn loaded(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|error| panic!("it should be valid:\n{error}"))
    }

    /// Returns the complaints, one line each, with `DIR` in place of the directory.
    fn complaints(&self) -> Vec<String> {
        let error = load(&self.sources).expect_err("it should be invalid").to_string();
        let dir = self.path().display().to_string();
        error.lines().map(|line| line.replace(&dir, "DIR")).collect()
    }

    /// Returns the line of `config show --origin` with `key` of `section`, with `DIR` in place of the directory.
    fn shown(&self, section: &str, key: &str) -> String {
        let shown = self.loaded().show(true).replace(&self.path().display().to_string(), "DIR");
        let lines: Vec<&str> = shown.lines().collect();
        let start =
            lines.iter().position(|line| *line == format!("[{section}]")).expect("the section is shown");
        let of_section = lines[start + 1..].iter().take_while(|line| !line.starts_with('['));
        let mut of_key =
            of_section.filter(|line| line.trim_start_matches("# ").starts_with(&format!("{key} ")));
        of_key.next().map_or_else(|| panic!("{section}.{key} is not in\n{shown}"), |line| (*line).to_owned())
    }
}

/// Returns the complaints about one `--set`.
fn complaints_of_set(argument: &str) -> Vec<String> {
    Scene::new().set(argument).complaints()
}

/// Returns the complaints about `local.toml`.
fn complaints_of_local(text: &str) -> Vec<String> {
    Scene::new().local(text).complaints()
}

/// Returns the complaints about an environment variable.
fn complaints_of_env(name: &str, value: &str) -> Vec<String> {
    Scene::new().env(name, value).complaints()
}

fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
