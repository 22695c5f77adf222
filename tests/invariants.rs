//! Checks that every invariant has one definition, one row in `docs/invariants.md`, and a test that proves it.
//!
//! A definition is a comment line `//! - **JRN-1** …` (stars optional) in `src`. A test cites what it proves with a line
//! `/// Proves JRN-1, JRN-4.` above it. The page has a row `| JRN-1 | sentence | file | `test`, `test` |` for each id.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/invariants.md";
/// Lines between `/// Proves` and `fn`: further doc lines and attributes.
const LINES_TO_FN_MAX: usize = 12;

/// Everything that the source says about invariants.
#[derive(Default)]
struct Cited {
    /// Id to the files that define it; more than one is a mistake.
    definitions: BTreeMap<String, Vec<String>>,
    functions: BTreeSet<String>,
    /// Test function and the id that it proves.
    proofs: BTreeSet<(String, String)>,
    mistakes: Vec<String>,
}

impl Cited {
    fn read(&mut self, file: &str, text: &str) {
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (index, line) in lines.iter().enumerate() {
            if let Some(id) = defined(line).filter(|_| file.starts_with("src/")) {
                self.definitions.entry(id.to_owned()).or_default().push(file.to_owned());
            }
            self.functions.extend(function(line).map(str::to_owned));
            let Some(ids) = line.strip_prefix("/// Proves ").filter(|ids| starts_like_an_id(ids)) else {
                continue;
            };
            let place = format!("{file}:{}", index + 1);
            let following = lines[index + 1..].iter().take(LINES_TO_FN_MAX);
            match (proved(ids), following.copied().take_while(belongs_to_item).find_map(function)) {
                (None, _) => {
                    self.mistakes.push(format!("{place}: write `/// Proves JRN-1, JRN-4.`, not {line:?}"))
                }
                (_, None) => self.mistakes.push(format!("{place}: no function follows {line:?}")),
                (Some(ids), Some(test)) => {
                    self.proofs.extend(ids.into_iter().map(|id| (test.to_owned(), id.to_owned())));
                }
            }
        }
    }
}

/// A row of the page.
struct Row {
    file: String,
    tests: Vec<String>,
}

fn is_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(letters, digits)| {
        (2..=5).contains(&letters.len())
            && letters.bytes().all(|byte| byte.is_ascii_uppercase())
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// True for what should be a list of ids, also if it is malformed; false for the prose of another doc comment.
fn starts_like_an_id(text: &str) -> bool {
    text.bytes().take_while(u8::is_ascii_uppercase).count() >= 2
}

/// Returns the id that the line defines.
fn defined(line: &str) -> Option<&str> {
    let item = line.strip_prefix("//! - ").or_else(|| line.strip_prefix("/// - "))?;
    let id = item.split(' ').next()?.trim_matches('*');
    is_id(id).then_some(id)
}

/// Returns the ids of `JRN-1, JRN-4.`.
fn proved(list: &str) -> Option<Vec<&str>> {
    let ids: Vec<&str> = list.strip_suffix('.')?.split(", ").collect();
    ids.iter().all(|id| is_id(id)).then_some(ids)
}

/// Returns the name of the function that the line declares.
fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let words = before.split_ascii_whitespace();
    let declares = before.is_empty() || before.ends_with(' ');
    let modifiers =
        words.clone().all(|word| matches!(word, "async" | "const" | "unsafe") || word.starts_with("pub"));
    let name = rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
    (declares && modifiers && !name.is_empty()).then_some(name)
}

fn belongs_to_item(line: &&str) -> bool {
    !line.is_empty() && !line.starts_with('}')
}

/// Returns the rows of the page's table by id, and the mistakes in it.
fn rows(page: &str) -> (BTreeMap<String, Row>, Vec<String>) {
    let (mut rows, mut mistakes) = (BTreeMap::new(), Vec::new());
    for (number, line) in (1..).zip(page.lines()) {
        let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else { continue };
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        if cells[0] == "id" || cells[0].starts_with("---") {
            continue;
        }
        let (true, [id, sentence, file, tests]) = (is_id(cells[0]), cells.as_slice()) else {
            mistakes.push(format!("{PAGE}:{number}: write `| id | sentence | file | tests |`, not {line:?}"));
            continue;
        };
        if sentence.is_empty() {
            mistakes.push(format!("{PAGE}:{number}: {id} has no sentence"));
        }
        let tests = tests.split(',').map(|test| test.trim().trim_matches('`').to_owned());
        let tests = tests.filter(|test| !test.is_empty()).collect();
        let row = Row { file: file.trim_matches('`').to_owned(), tests };
        if rows.insert((*id).to_owned(), row).is_some() {
            mistakes.push(format!("{PAGE}:{number}: {id} has two rows"));
        }
    }
    (rows, mistakes)
}

/// Returns every contradiction between the source and the page.
fn contradictions(cited: &Cited, page: &str) -> Vec<String> {
    let (rows, mistakes) = rows(page);
    let mut found = [cited.mistakes.clone(), mistakes].concat();
    for (id, files) in &cited.definitions {
        if files.len() > 1 {
            found.push(format!(
                "{id} is defined more than once: {}; give one of them a new id",
                files.join(", ")
            ));
        }
        if !rows.contains_key(id) {
            found.push(format!("{id} ({}) has no row in {PAGE}", files.join(", ")));
        }
    }
    for (id, row) in &rows {
        judge_row(id, row, cited, &mut found);
    }
    for (test, id) in &cited.proofs {
        if !cited.definitions.contains_key(id) {
            found.push(format!("{test} proves {id}, which no file in src defines"));
        } else if rows.get(id).is_some_and(|row| !row.tests.contains(test)) {
            found.push(format!("{test} proves {id}; add it to the row in {PAGE}"));
        }
    }
    found
}

fn judge_row(id: &str, row: &Row, cited: &Cited, found: &mut Vec<String>) {
    match cited.definitions.get(id) {
        None => found.push(format!("{PAGE} lists {id}, which no file in src defines")),
        Some(files) if !files.contains(&row.file) => {
            found.push(format!("{PAGE} says that {id} is in {:?}; it is in {}", row.file, files.join(", ")));
        }
        Some(_) => {}
    }
    if row.tests.is_empty() {
        found.push(format!("{PAGE} lists no test that proves {id}; name one, or write it"));
    }
    for test in &row.tests {
        if !cited.functions.contains(test) {
            found
                .push(format!("{PAGE} lists {test} for {id}, and there is no such function in src or tests"));
        } else if !cited.proofs.contains(&(test.clone(), id.to_owned())) {
            found.push(format!("{PAGE} lists {test} for {id}; put `/// Proves {id}.` above it"));
        }
    }
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn every_invariant_is_defined_once_listed_and_proved() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    rust_files(&root.join("tests"), &mut files);
    files.sort();
    let mut cited = Cited::default();
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        cited.read(&name, &fs::read_to_string(&file).unwrap());
    }
    assert!(cited.definitions.len() > 50, "definitions are found: {}", cited.definitions.len());
    let found = contradictions(&cited, &fs::read_to_string(root.join(PAGE)).unwrap());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

const DEFINITION: &str = "//! - **AB-1** One.\n";
const PROOF: &str = "/// Proves AB-1.\n#[test]\nfn a() {}\n";
const ROW: &str = "| AB-1 | One. | src/a.rs | `a` |\n";

fn contradictions_of(source: &str, page: &str) -> Vec<String> {
    let mut cited = Cited::default();
    cited.read("src/a.rs", source);
    contradictions(&cited, page)
}

#[test]
fn a_definition_with_its_row_and_its_proof_is_no_mistake() {
    let source = format!(
        "{DEFINITION}/// - CDEFG-12 Two.\n{PROOF}/// Waits.\n///\n/// Proves AB-1, CDEFG-12.\n/// Slow.\n\
         #[expect(\nunused\n)]\n    pub(crate) async fn b() {{}}\n/// Proves the link.\nfn c() {{}}\n"
    );
    let page = "# Head\n\n| id | sentence | file | tests |\n| --- | --- | --- | --- |\n\
         | AB-1 | One. | src/a.rs | `a`, `b` |\n| CDEFG-12 | Two. | `src/a.rs` | b |\n";
    assert_eq!(contradictions_of(&source, page), Vec::<String>::new());
}

#[test]
fn each_mistake_is_found() {
    let good = format!("{DEFINITION}{PROOF}");
    let table: [(&str, String, String, &str); 14] = [
        (
            "twice",
            format!("{DEFINITION}{good}"),
            ROW.into(),
            "AB-1 is defined more than once: src/a.rs, src/a.rs",
        ),
        ("not listed", good.clone(), String::new(), "AB-1 (src/a.rs) has no row"),
        ("not defined", PROOF.into(), ROW.into(), "lists AB-1, which no file in src defines"),
        ("only mentioned", format!("// AB-1 One.\n{PROOF}"), ROW.into(), "lists AB-1, which no file"),
        ("no proof", good.clone(), ROW.replace("`a`", ""), "lists no test that proves AB-1"),
        (
            "no such test",
            good.clone(),
            ROW.replace("`a`", "`a`, `gone`"),
            "lists gone for AB-1, and there is no such",
        ),
        (
            "proves nothing",
            format!("{good}fn b() {{}}"),
            ROW.replace("`a`", "`a`, `b`"),
            "put `/// Proves AB-1.`",
        ),
        (
            "unknown id",
            format!("{good}/// Proves AB-2.\nfn b() {{}}"),
            ROW.into(),
            "b proves AB-2, which no file",
        ),
        (
            "unlisted test",
            format!("{good}/// Proves AB-1.\nfn b() {{}}"),
            ROW.into(),
            "b proves AB-1; add it",
        ),
        ("no full stop", good.replace("AB-1.\n#", "AB-1\n#"), ROW.into(), "src/a.rs:2: write `/// Proves"),
        (
            "no comma",
            good.replace("AB-1.\n#", "AB-1 and AB-1.\n#"),
            ROW.into(),
            "src/a.rs:2: write `/// Proves",
        ),
        ("no function", format!("{good}/// Proves AB-1.\n\nfn b() {{}}"), ROW.into(), "no function follows"),
        ("two rows", good.clone(), ROW.repeat(2), "docs/invariants.md:2: AB-1 has two rows"),
        ("elsewhere", good.clone(), ROW.replace("src/a.rs", "src/b.rs"), "says that AB-1 is in \"src/b.rs\""),
    ];
    for (name, source, page, expected) in table {
        let found = contradictions_of(&source, &page);
        assert!(found.iter().any(|mistake| mistake.contains(expected)), "{name}: {found:?}");
    }
    for malformed in [
        "| AB-1 | One. | src/a.rs |",
        "| ab-1 | One. | src/a.rs | `a` |",
        "| AB-1 | One | or | src/a.rs | `a` |",
    ] {
        let found = contradictions_of(&good, malformed);
        assert!(found.iter().any(|mistake| mistake.contains("write `| id |")), "{malformed}: {found:?}");
    }
    let found = contradictions_of(&good, &ROW.replace("One.", ""));
    assert_eq!(found, ["docs/invariants.md:1: AB-1 has no sentence"]);
}

#[test]
fn only_functions_are_taken_for_functions() {
    for (line, expected) in [
        ("fn a() {", Some("a")),
        ("pub fn b<T>(of: T) {", Some("b")),
        ("pub(super) async fn c(", Some("c")),
        ("let f: fn(u8) = g;", None),
        ("// what fn a does", None),
        ("macro_rules! fn_of {", None),
        ("\"fn quoted() {}\"", None),
    ] {
        assert_eq!(function(line), expected, "{line}");
    }
}
