//! Who may import whom is a one-way street; this keeps it so.

use std::fs;
use std::path::{Path, PathBuf};

/// Module (a path below `src`), and the modules of ours that it may name with `crate::`. `domain` is allowed to all.
const RULES: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &["clock"]),
    ("journal", &["journal"]),
    ("payload", &["payload"]),
    ("database_url", &[]),
    ("store", &["store", "clock", "database_url"]),
    ("metrics", &[]),
    ("status", &["clock"]),
    ("shutdown", &[]),
    ("terminal", &[]),
    ("logging", &["logging", "config", "terminal"]),
    ("config", &["config", "database_url"]),
    ("simulate", &["simulate", "clock"]),
    ("actors/supervisor", &["actors", "logging", "status"]),
    ("actors/wire", &[]),
    ("actors/backoff", &[]),
    ("actors/mqtt", &["actors", "clock", "journal", "logging", "metrics", "shutdown", "status"]),
    ("actors/parser", &["actors", "clock", "journal", "logging", "metrics", "payload", "status", "store"]),
    ("http/server", &["actors", "clock", "http"]),
    ("http", &["clock", "http", "journal", "logging", "metrics", "status", "store"]),
    ("actors/liveness", &["actors", "clock", "metrics", "status", "store"]),
    ("actors/writer", &["actors", "clock", "logging", "metrics", "status", "store"]),
];

fn source_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The first segment after each `crate::` outside comments.
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut names = Vec::new();
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let name: String = line[at + "crate::".len()..]
                .chars()
                .take_while(|character| character.is_alphanumeric() || *character == '_')
                .collect();
            names.push(name);
        }
    }
    names
}

#[test]
fn modules_import_only_what_they_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in &files {
        let name = file.strip_prefix(&root).unwrap().with_extension("");
        let Some((_, allowed)) = RULES.iter().find(|(module, _)| name.starts_with(module)) else { continue };
        checked += 1;
        for import in imports(&fs::read_to_string(file).unwrap()) {
            if import != "domain" && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports crate::{import}", name.display()));
            }
        }
    }
    assert!(checked > 50, "the rules match the files: {checked}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nobody_but_the_commands_imports_the_composition_root() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_owned();
        let names_app = imports(&fs::read_to_string(&file).unwrap()).iter().any(|import| import == "app");
        assert!(!names_app || name.starts_with("cli"), "{} imports crate::app", name.display());
    }
}
