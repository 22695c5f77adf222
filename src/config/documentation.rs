//! The documentation of every key, read from the comments of the built-in defaults.

use super::keys;
use super::layers::DEFAULT_TOML;

/// A part of the documentation. Comments come as lines without their `#`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// Text that belongs to no key.
    Text(Vec<String>),
    /// The beginning of a section.
    Section {
        /// Its name, such as `mqtt.tls`.
        name: String,
        /// What it is about; may be empty.
        comment: Vec<String>,
    },
    /// One key.
    Key {
        /// Its path, such as `mqtt.tls.ca_file`.
        path: String,
        /// How it is written, with its default, or an example behind `#` if it has none.
        setting: String,
        /// Its meaning and what is allowed.
        comment: Vec<String>,
    },
}

/// Returns the documentation in its order.
#[must_use]
pub fn documentation() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut section = String::new();
    let mut comment: Vec<String> = Vec::new();
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
            let comment = std::mem::take(&mut comment);
            // A table whose keys the user chooses is a key itself.
            blocks.push(match keys::find(name) {
                Some(_) => Block::Key { path: section.clone(), setting: line.to_owned(), comment },
                None => Block::Section { name: section.clone(), comment },
            });
        } else if let Some(path) = key_of(line, &section) {
            blocks.push(Block::Key { path, setting: line.to_owned(), comment: std::mem::take(&mut comment) });
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push(text.strip_prefix(' ').unwrap_or(text).to_owned());
        } else if !comment.is_empty() {
            blocks.push(Block::Text(std::mem::take(&mut comment)));
        }
    }
    blocks
}

/// Returns the path of the key that the line sets, or would set without its `#`.
fn key_of(line: &str, section: &str) -> Option<String> {
    let (name, _) = line.strip_prefix("# ").unwrap_or(line).split_once(" = ")?;
    let path = format!("{section}.{name}");
    keys::find(&path).map(|_| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_documentation_once() {
        let blocks = documentation();
        for key in keys::KEYS {
            let found =
                blocks.iter().filter(|block| matches!(block, Block::Key { path, .. } if path == key.path));
            assert_eq!(found.count(), 1, "{}", key.path);
        }
        assert!(matches!(&blocks[0], Block::Text(lines) if lines[0].starts_with("Every setting of Andon")));
    }

    #[test]
    fn a_section_keeps_its_comment_and_a_key_without_default_its_example() {
        let blocks = documentation();
        let http = blocks.iter().find_map(|block| match block {
            Block::Section { name, comment } if name == "http" => Some(comment),
            _ => None,
        });
        assert!(http.is_some_and(|comment| comment[0].starts_with("The board, the API")), "{http:?}");
        let port = blocks.iter().find_map(|block| match block {
            Block::Key { path, setting, .. } if path == "mqtt.port" => Some(setting.as_str()),
            _ => None,
        });
        assert_eq!(port, Some("# port = 1883"));
    }
}
