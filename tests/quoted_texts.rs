//! Checks that Andon really writes the texts that operators are told to look for.
//!
//! `docs/troubleshooting.md` quotes them in italics, which it uses for nothing else. The other guides and the alerts quote them in
//! double quotes, three words or more, and put words of other programs into code. `…` stands for what differs from case to case.
//! Each text must be in one string of `src`.

use std::fs;
use std::path::{Path, PathBuf};

const GUIDES: &str = "docs";
/// It quotes what users write into a file, not what Andon writes.
const MADE_FROM_DEFAULTS: &str = "docs/configuration.md";
const TROUBLESHOOTING: &str = "docs/troubleshooting.md";
const ALERTS: &str = "deploy/prometheus/andon.rules.yml";
/// Shorter quotations are values, such as "store".
const QUOTED_WORDS_MIN: usize = 3;

/// Returns the texts in italics of a page. Text in bold may contain one.
fn italics(page: &str) -> Vec<String> {
    let without_bold = page.replace("**", "").replace('\n', " ");
    assert_eq!(without_bold.matches('*').count() % 2, 0, "every `*` of the page has its partner");
    without_bold.split('*').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the quotations in the prose of a guide.
fn quotations_of_guide(page: &str) -> Vec<String> {
    let blocks: Vec<&str> = page.split("```").step_by(2).collect();
    let prose: Vec<String> = blocks.iter().map(|block| block.split('`').step_by(2).collect()).collect();
    quotations(&prose.concat().replace('\n', " "))
}

/// Returns the quotations of the alerts' folded texts.
fn quotations_of_alerts(alerts: &str) -> Vec<String> {
    let is_folded = |line: &&str| !line.trim_start().starts_with('#') && !line.contains(": \"");
    let folded: Vec<&str> = alerts.lines().filter(is_folded).map(str::trim).collect();
    quotations(&folded.join(" "))
}

fn quotations(text: &str) -> Vec<String> {
    let quoted = text.split('"').skip(1).step_by(2);
    quoted.filter(|words| words.split_whitespace().count() >= QUOTED_WORDS_MIN).map(str::to_owned).collect()
}

/// Returns the lines of a source file that may hold such a text: no comments, no tests, each string on one line.
fn lines_of_code(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut joined = String::new();
    for line in source.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        match line.strip_suffix('\\') {
            Some(continued) => joined.push_str(continued),
            None => {
                joined.push_str(line);
                joined.push('\n');
            }
        }
    }
    joined.lines().map(str::to_owned).collect()
}

/// Returns whether `line` holds the parts of `text` between `…`, in order.
fn says(line: &str, text: &str) -> bool {
    let mut rest = line;
    text.split('…').map(str::trim).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

fn code_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.trim_end_matches(".rs").ends_with("tests") {
            continue;
        }
        if path.is_dir() {
            code_files(&path, files);
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

#[test]
fn every_text_that_operators_are_told_to_look_for_is_in_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    code_files(&root.join("src"), &mut files);
    let code: Vec<String> =
        files.iter().flat_map(|file| lines_of_code(&fs::read_to_string(file).unwrap())).collect();
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let pages = fs::read_dir(root.join(GUIDES)).unwrap().map(|entry| entry.unwrap().file_name());
    let pages = pages.map(|name| format!("{GUIDES}/{}", name.to_string_lossy()));
    let mut quoted: Vec<(String, Vec<String>)> = pages
        .filter(|page| page.ends_with(".md") && page != MADE_FROM_DEFAULTS)
        .map(|page| (page.clone(), quotations_of_guide(&read(&page))))
        .collect();
    let in_italics = italics(&read(TROUBLESHOOTING));
    let in_alerts = quotations_of_alerts(&read(ALERTS));
    assert!(in_italics.len() >= 10 && in_alerts.len() >= 4, "texts are found: {in_italics:?}, {in_alerts:?}");
    quoted.push((TROUBLESHOOTING.to_owned(), in_italics));
    quoted.push((ALERTS.to_owned(), in_alerts));
    for (place, texts) in quoted {
        for text in texts {
            assert!(
                code.iter().any(|line| says(line, &text)),
                "{place} quotes {text:?}, which Andon never writes"
            );
        }
    }
}

#[test]
fn quoted_texts_are_found_in_pages_alerts_and_code() {
    let page = "The line *one, …* says\nso.\n- **Found *two\nlines***: act.\n";
    assert_eq!(italics(page), ["one, …", "two lines"]);
    let alerts = "# \"not a comment\"\naction: \"not this whole line\"\naction: >-\n  Find \"the first\n  text\" and \"store\".\n";
    assert_eq!(quotations_of_alerts(alerts), ["the first text"]);
    let guide = "Set `a = \"not this one\"`.\n```toml\nb = \"nor this one\"\n```\nIt says \"what is\nwrong\", or \"no\".\n";
    assert_eq!(quotations_of_guide(guide), ["what is wrong"]);
    let source = "// \"a comment\"\nwarn!(log, \"the disk \\\n    is full: {}\", reason);\n#[cfg(test)]\nmod tests {\n";
    assert_eq!(lines_of_code(source), ["warn!(log, \"the disk is full: {}\", reason);"]);
    assert!(says("open {}: it belongs to {}", "open …: it belongs to …"));
    assert!(!says("it belongs to {}: open", "open …: it belongs to …"));
    assert!(!says("the disk is fuller", "the disk is empty"));
}

/// Returns the constant texts of the ERROR lines in a source file.
fn errors_in(code: &[String]) -> Vec<String> {
    let code = code.join("\n");
    let calls = code.split("error!(").skip(1);
    let texts = calls.filter_map(|call| call.split('"').nth(1));
    texts.filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_error_line_and_every_alert_is_answered_in_the_guide_for_operations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let table = guide.split("## Every ERROR line").nth(1).unwrap().split("\n## ").next().unwrap();
    let answered = quotations_of_guide(table);
    let answered: Vec<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| \"")?.split('"').next())
        .map(str::to_owned)
        .chain(answered)
        .collect();
    let mut files = Vec::new();
    code_files(&root.join("src"), &mut files);
    let mut found = 0;
    for file in files {
        for error in errors_in(&lines_of_code(&fs::read_to_string(&file).unwrap())) {
            let begins = |text: &String| error.starts_with(text.trim_end_matches('…').trim_end());
            assert!(
                answered.iter().any(begins),
                "docs/operations.md has no answer to {error:?} of {}",
                file.display()
            );
            found += 1;
        }
    }
    assert!(found > 20, "the ERROR lines are found: {found}");
    let alerts = fs::read_to_string(root.join(ALERTS)).unwrap();
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(guide.contains(alert), "docs/operations.md does not name the alert {alert}");
    }
}
