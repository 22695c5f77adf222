//! `docs/configuration.md` is made from `config/default.toml`: `make docs` writes it.

use andon::config::{Block, documentation};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
/// Set, and the page is written instead of compared.
const WRITE: &str = "ANDON_WRITE_DOCS";

#[test]
fn the_page_of_the_configuration_is_made_from_the_defaults() {
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(kept == page, "docs/configuration.md is not what config/default.toml says: run `make docs`");
}

fn page() -> String {
    let mut page = "# Configuration\n\n<!-- Made from config/default.toml by `make docs`. -->\n".to_owned();
    for block in documentation() {
        match block {
            Block::Text(comment) => page += &text(&comment),
            Block::Section { name, comment } => page += &format!("\n## `[{name}]`\n{}", text(&comment)),
            Block::Key { path, setting, comment } => {
                page += &format!("\n### `{path}`\n{}\n    {setting}\n", text(&comment));
            }
        }
    }
    while page.contains("\n\n\n") {
        page = page.replace("\n\n\n", "\n\n");
    }
    page
}

/// Lets lines flow; indented ones, and each line of a list, stay as they are.
fn text(comment: &[String]) -> String {
    let mut text = String::new();
    let mut indented = false;
    for line in comment {
        let is_indented = line.starts_with("  ");
        if is_indented != indented || line.is_empty() || text.is_empty() || line.starts_with("Allowed: ") {
            text.push('\n');
        }
        indented = is_indented;
        let line = if is_indented { format!("    {line}") } else { escaped(line) };
        text += &line;
        text.push('\n');
    }
    text
}

/// Keeps `<site>` and `*` from being taken for markup.
fn escaped(line: &str) -> String {
    let mut escaped = String::new();
    let mut in_code = false;
    for character in line.chars() {
        in_code ^= character == '`';
        if !in_code && matches!(character, '<' | '*') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
