//! Checks who may import whom: dependencies between modules run one way.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module (a path below `src`), and the top-level modules that it may name. Every module may name `domain` and itself.
/// The first entry that matches a file counts.
const RULES: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("new_file", &[]),
    ("clock", &["new_file"]),
    ("host_process", &[]),
    ("operator", &[]),
    ("journal", &[]),
    ("payload", &[]),
    ("file_access", &[]),
    ("database_url", &[]),
    ("store", &["clock", "database_url", "new_file"]),
    ("export", &["store"]),
    ("metrics", &[]),
    ("status", &["clock"]),
    ("config", &["database_url", "file_access"]),
    ("terminal", &[]),
    ("logging", &["config", "terminal"]),
    ("audit", &["clock", "logging", "store"]),
    ("shutdown", &[]),
    ("service_manager", &["logging", "shutdown", "terminal"]),
    ("actors/mqtt", &["clock", "journal", "logging", "metrics", "new_file", "shutdown", "status"]),
    ("actors/parser", &["clock", "journal", "logging", "metrics", "payload", "status", "store"]),
    ("actors/writer", &["clock", "logging", "metrics", "status", "store"]),
    ("actors/liveness", &["clock", "metrics", "status", "store"]),
    ("actors/supervisor", &["logging", "status"]),
    ("actors", &[]),
    ("http/listening_socket", &["host_process"]),
    ("http/server", &["actors", "clock"]),
    ("http", &["audit", "clock", "export", "journal", "logging", "metrics", "new_file", "status", "store"]),
    ("simulate", &["clock"]),
    ("fuzzing", &["journal", "payload"]),
    (
        "app",
        &[
            "actors",
            "audit",
            "clock",
            "config",
            "host_process",
            "http",
            "journal",
            "logging",
            "metrics",
            "operator",
            "payload",
            "service_manager",
            "shutdown",
            "status",
            "store",
        ],
    ),
    (
        "cli",
        &[
            "actors",
            "app",
            "audit",
            "clock",
            "config",
            "database_url",
            "export",
            "file_access",
            "journal",
            "logging",
            "new_file",
            "operator",
            "payload",
            "service_manager",
            "shutdown",
            "simulate",
            "status",
            "store",
            "terminal",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
];

/// The actors of the pipeline, and the other ones whose messages each may name.
const ACTORS: &[(&str, &[&str])] = &[
    ("mqtt", &["parser", "liveness"]),
    ("parser", &["writer", "liveness"]),
    ("writer", &[]),
    ("liveness", &["parser", "mqtt"]),
];

/// Pure values that two actors share beside messages: who uses them, and where they are.
const SHARED: &[(&str, &str, &str)] =
    &[("parser", "mqtt", "link_health"), ("liveness", "mqtt", "publish_fence")];

struct SourceFile {
    /// Path below `src`, without extension: `actors/mqtt/mod`.
    name: String,
    /// The module's path: `actors`, `mqtt`.
    module: Vec<String>,
    text: String,
}

fn source_files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let files: Vec<_> = paths.iter().map(|path| SourceFile::read(&root, path)).collect();
    assert!(files.len() > 200, "the files are found: {}", files.len());
    files
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

impl SourceFile {
    fn read(root: &Path, path: &Path) -> Self {
        let name = path.strip_prefix(root).unwrap().with_extension("").display().to_string();
        let module = name.split('/').filter(|segment| *segment != "mod").map(str::to_owned).collect();
        Self { name, module, text: fs::read_to_string(path).unwrap() }
    }

    /// The absolute paths that its code names, `super::` resolved. Inside a `mod tests { … }` that is one level too high,
    /// so that a path may begin with a name that is no module.
    fn imports(&self) -> BTreeSet<Vec<String>> {
        let code = self.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let mut found = BTreeSet::new();
        for line in code {
            found.extend(paths_after(line, "crate::").map(|(_, path)| path));
            for (at, path) in paths_after(line, "super::") {
                let is_continued = line[..at].ends_with("super::");
                if !is_continued {
                    found.extend(self.resolve(path));
                }
            }
        }
        found
    }

    fn resolve(&self, relative: Vec<String>) -> Option<Vec<String>> {
        let deeper = relative.iter().take_while(|segment| *segment == "super").count();
        let parent = self.module.len().checked_sub(deeper + 1)?;
        let below = relative.into_iter().skip(deeper);
        Some(self.module[..parent].iter().cloned().chain(below).collect())
    }
}

/// The segments behind each `keyword` of a line, and where the keyword stands.
fn paths_after<'a>(line: &'a str, keyword: &'a str) -> impl Iterator<Item = (usize, Vec<String>)> + 'a {
    line.match_indices(keyword).map(move |(at, _)| {
        let is_path = |character: char| character.is_alphanumeric() || "_:".contains(character);
        let path: String = line[at + keyword.len()..].chars().take_while(|next| is_path(*next)).collect();
        (at, path.split("::").filter(|segment| !segment.is_empty()).map(str::to_owned).collect())
    })
}

/// The names of the modules in `lib.rs`, in their order.
fn modules_in_order() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let text = fs::read_to_string(root).unwrap();
    let declared =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ").or(line.strip_prefix("mod ")));
    declared.map(|name| name.trim_end_matches(';').to_owned()).collect()
}

#[test]
fn modules_import_only_what_they_may() {
    let (modules, mut wrong) = (modules_in_order(), Vec::new());
    for file in source_files() {
        let Some((_, allowed)) = RULES.iter().find(|(module, _)| file.name.starts_with(module)) else {
            panic!("{} has no rule: add it to RULES", file.name);
        };
        let own = &file.module[0];
        for import in file.imports().iter().filter_map(|path| path.first()) {
            if modules.contains(import)
                && import != "domain"
                && import != own
                && !allowed.contains(&import.as_str())
            {
                wrong.push(format!("{} imports crate::{import}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_import_only_what_stands_above_them_in_the_crate() {
    let order = modules_in_order();
    let place = |module: &str| order.iter().position(|name| name == module);
    for (module, allowed) in RULES {
        let own = module.split('/').next().unwrap();
        let Some(own_place) = place(own) else {
            assert!(["lib", "main"].contains(&own), "{own} is not in lib.rs");
            continue;
        };
        for import in *allowed {
            let import_place = place(import).unwrap_or_else(|| panic!("{import} is not in lib.rs"));
            assert!(import_place < own_place, "{module} may import {import}, which stands below it");
        }
    }
}

#[test]
fn an_actor_names_only_the_messages_of_its_neighbours() {
    let mut wrong = Vec::new();
    let is_actor = |name: &str| ACTORS.iter().any(|(actor, _)| *actor == name);
    for file in source_files().iter().filter(|file| file.module[0] == "actors" && !is_test(file)) {
        let Some((own, neighbours)) =
            ACTORS.iter().find(|(actor, _)| file.module.get(1).is_some_and(|name| name == actor))
        else {
            continue;
        };
        for path in file.imports() {
            let [actors, other, what, ..] = path.as_slice() else { continue };
            if actors != "actors" || other == own || !is_actor(other) {
                continue;
            }
            let is_message = what == "messages" && neighbours.contains(&other.as_str());
            if !is_message && !SHARED.contains(&(own, other, what)) {
                wrong.push(format!("{} imports {}", file.name, path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_test(file: &SourceFile) -> bool {
    file.module.iter().any(|segment| segment.ends_with("tests"))
}

/// Two actors may send to each other; what they send must not know who handles it.
#[test]
fn messages_know_no_actor() {
    let mut checked = 0;
    for file in source_files() {
        let is_shared =
            SHARED.iter().any(|(_, actor, what)| file.name.starts_with(&format!("actors/{actor}/{what}")));
        if !file.name.ends_with("/messages") && (!is_shared || is_test(&file)) {
            continue;
        }
        checked += 1;
        for path in file.imports() {
            let is_other =
                path.len() > 2 && path[0] == "actors" && path[1] != file.module[1] && path[1] != "supervisor";
            assert!(!is_other, "{} imports {}", file.name, path.join("::"));
        }
    }
    assert!(checked >= ACTORS.len(), "{checked}");
}

#[test]
fn only_the_commands_import_the_composition_root() {
    for file in source_files() {
        let names_app = file.imports().iter().any(|path| path.first().is_some_and(|module| module == "app"));
        assert!(
            !names_app || ["app", "cli"].contains(&file.module[0].as_str()),
            "{} imports crate::app",
            file.name
        );
    }
}

#[test]
fn of_the_actors_only_the_client_folder_names_the_mqtt_library() {
    let names_it = |file: &SourceFile| {
        let mut code = file.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        file.name.starts_with("actors/") && code.any(|line| line.contains("paho_mqtt"))
    };
    let files: Vec<_> = source_files().into_iter().filter(names_it).map(|file| file.name).collect();
    assert!(files.len() > 3, "the rule matches the files: {files:?}");
    let elsewhere: Vec<_> = files.iter().filter(|name| !name.starts_with("actors/mqtt/client/")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}
