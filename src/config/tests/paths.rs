//! `{site}`, relative paths, and which directory is read if none is given.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Scene, private_directory};
use crate::config::{Loaded, Places, Sources, load};

/// The directories of a machine, all in a temporary one.
struct Machine {
    dir: tempfile::TempDir,
    sources: Sources,
}

impl Machine {
    fn new() -> Self {
        let dir = private_directory();
        let below = |name: &str| dir.path().join(name);
        let places = Places {
            working_dir: below("work"),
            system_config: below("etc/andon"),
            system_state: below("var/lib/andon"),
        };
        fs::create_dir(below("work")).expect("made");
        Self { dir, sources: Sources { places, ..Sources::default() } }
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn loaded(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|error| panic!("it should be valid:\n{error}"))
    }

    /// Returns the directory of the journal and the file of the database, with `DIR` in place of the temporary directory.
    fn places(&self) -> (String, String) {
        let settings = self.loaded().settings;
        let shown =
            |path: &Path| path.display().to_string().replace(&self.dir.path().display().to_string(), "DIR");
        (shown(&settings.journal.dir), shown(settings.store.url.sqlite_path().expect("SQLite")))
    }
}

fn pair(journal: &str, database: &str) -> (String, String) {
    (journal.to_owned(), database.to_owned())
}

#[test]
fn site_stands_for_the_site_in_journal_and_database() {
    let machine = Machine::new();
    assert_eq!(machine.places(), pair("data/default/journal", "data/default/andon.db"));
    let scene = Scene::new()
        .site("north", "")
        .set("journal.dir=/srv/{site}/{site}/journal")
        .set("store.url=postgres://andon@db/andon_{site}");
    let settings = scene.loaded().settings;
    assert_eq!(settings.journal.dir, Path::new("/srv/north/north/journal"));
    assert_eq!(settings.store.url.expose(), "postgres://andon@db/andon_north");
    // Also in a file, and if a later layer names the site.
    let scene = Scene::new().set("site.id=n2");
    let url = scene.file("url", "sqlite:///srv/{site}.db\n");
    let scene = scene.set(&format!("store.url_file={}", url.display()));
    assert_eq!(scene.loaded().settings.store.url.expose(), "sqlite:///srv/n2.db");
    assert_eq!(scene.shown("journal", "dir"), "dir = \"data/n2/journal\"  # default");
}

#[test]
fn the_working_directory_comes_before_the_system_and_all_tried_directories_are_known() {
    let machine = Machine::new();
    let below = |name: &str| machine.dir.path().join(name);
    let none: [PathBuf; 0] = [];
    assert_eq!(machine.loaded().files, none);
    assert_eq!(machine.loaded().looked_in, [below("work/config"), below("etc/andon")]);
    machine.file("etc/andon/local.toml", "mqtt.host = \"of-system\"");
    assert_eq!(machine.loaded().settings.mqtt.host, "of-system");
    assert_eq!(machine.loaded().files, [below("etc/andon/local.toml")]);
    machine.file("work/config/local.toml", "mqtt.host = \"of-here\"");
    assert_eq!(machine.loaded().settings.mqtt.host, "of-here");
    assert_eq!(machine.loaded().looked_in, [below("work/config")]);
}

#[test]
fn with_the_systems_configuration_relative_paths_start_at_the_systems_state() {
    let mut machine = Machine::new();
    machine.file("etc/andon/local.toml", "mqtt.username = \"u\"\nmqtt.password_file = \"secrets/mqtt\"");
    machine.file("var/lib/andon/secrets/mqtt", "hush");
    assert_eq!(
        machine.places(),
        pair("DIR/var/lib/andon/data/default/journal", "DIR/var/lib/andon/data/default/andon.db")
    );
    assert_eq!(machine.loaded().settings.mqtt.password.expect("read").expose(), "hush");
    machine.sources.set = vec!["journal.dir=/srv/j".to_owned(), "store.url=sqlite:///srv/a.db".to_owned()];
    assert_eq!(machine.places(), pair("/srv/j", "/srv/a.db"));
    machine.sources.set = vec!["journal.dir=j".to_owned(), "store.url=sqlite://a.db".to_owned()];
    assert_eq!(machine.places(), pair("DIR/var/lib/andon/j", "DIR/var/lib/andon/a.db"));
    machine.sources.config_dir = Some(machine.sources.places.system_config.clone());
    assert_eq!(
        machine.places(),
        pair("DIR/var/lib/andon/j", "DIR/var/lib/andon/a.db"),
        "also if it is given"
    );
}

#[test]
fn data_at_the_old_default_alone_is_used_with_a_warning() {
    let machine = Machine::new();
    machine.file("work/data/journal/journal.meta", "");
    machine.file("work/data/andon.db", "");
    assert_eq!(machine.places(), pair("data/journal", "data/andon.db"));
    let warnings = machine.loaded().warnings;
    assert_eq!(
        warnings,
        [
            "journal.dir is not set; using data/journal, the default of older versions, because the present default does not exist. \
             Set journal.dir = \"data/journal\", or stop Andon and move it to data/default/journal",
            "store.url is not set; using data/andon.db, the default of older versions, because the present default does not exist. \
             Set store.url = \"sqlite://data/andon.db\", or stop Andon and move it to data/default/andon.db",
        ]
    );
    assert!(
        machine
            .loaded()
            .show(true)
            .contains("dir = \"data/journal\"  # default of older versions, which exists")
    );
    machine.file("work/data/default/andon.db", "");
    assert_eq!(machine.places(), pair("data/journal", "data/default/andon.db"), "each by itself");
    machine.file("work/data/default/journal/journal.meta", "");
    assert_eq!(machine.places(), pair("data/default/journal", "data/default/andon.db"));
    assert_eq!(machine.loaded().warnings, [] as [String; 0]);
}

#[test]
fn a_key_that_is_set_is_used_whatever_else_exists() {
    let mut machine = Machine::new();
    machine.file("work/data/journal/journal.meta", "");
    machine.file("work/data/andon.db", "");
    let set = ["journal.dir=data/{site}/journal", "store.url=sqlite://data/{site}/andon.db"];
    machine.sources.set = set.map(str::to_owned).to_vec();
    assert_eq!(machine.places(), pair("data/default/journal", "data/default/andon.db"));
    assert_eq!(machine.loaded().warnings, [] as [String; 0]);
}

#[test]
fn data_at_the_old_default_in_the_working_directory_is_found_also_with_the_systems_configuration() {
    let mut machine = Machine::new();
    machine.file("etc/andon/local.toml", "");
    machine.sources.config_dir = Some(machine.sources.places.system_config.clone());
    machine.file("work/data/journal/journal.meta", "");
    machine.file("var/lib/andon/data/andon.db", "");
    assert_eq!(machine.places(), pair("DIR/work/data/journal", "DIR/var/lib/andon/data/andon.db"));
    assert_eq!(machine.loaded().warnings.len(), 2);
}
