//! `log.level`: which records to write, overall and by component.

use std::collections::BTreeMap;

use slog::Level;

/// A level for everything, and others for single components: `info,mqtt=debug`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct LogLevels {
    /// The level of components that are not in `components`.
    pub default: Level,
    /// Levels by the value of a logger's key `component`.
    pub components: BTreeMap<String, Level>,
}

impl LogLevels {
    /// Makes one level for everything.
    #[must_use]
    pub const fn all(level: Level) -> Self {
        Self { default: level, components: BTreeMap::new() }
    }

    /// Reads `info` or `info,mqtt=debug`; at most one part without a component (`info` if there is none).
    ///
    /// # Errors
    /// The part that is no level.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut levels = Self::all(Level::Info);
        let mut default_given = false;
        for part in text.split(',').map(str::trim) {
            match part.split_once('=') {
                None => {
                    if default_given {
                        return Err(format!("{part:?} is a second level for all components"));
                    }
                    default_given = true;
                    levels.default = level(part)?;
                }
                Some((component, word)) => {
                    let component = component.trim();
                    if component.is_empty() {
                        return Err(format!("{part:?} has no component before the \"=\""));
                    }
                    levels.components.insert(component.to_owned(), level(word.trim())?);
                }
            }
        }
        Ok(levels)
    }

    /// Returns the level of `component`.
    #[must_use]
    pub fn of(&self, component: Option<&str>) -> Level {
        component.and_then(|name| self.components.get(name)).copied().unwrap_or(self.default)
    }

    /// Returns the most verbose level of all: records above it need not be built.
    #[must_use]
    pub fn most_verbose(&self) -> Level {
        self.components
            .values()
            .copied()
            .fold(self.default, |most, level| if level > most { level } else { most })
    }
}

impl TryFrom<String> for LogLevels {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

fn level(word: &str) -> Result<Level, String> {
    match word.to_ascii_lowercase().as_str() {
        "error" => Ok(Level::Error),
        "warn" | "warning" => Ok(Level::Warning),
        "info" => Ok(Level::Info),
        "debug" => Ok(Level::Debug),
        "trace" => Ok(Level::Trace),
        _ => Err(format!("{word:?} is not a level")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_has_its_own_level_and_the_others_the_default() {
        let levels = LogLevels::parse("warn, mqtt=debug,writer=error").expect("valid levels");
        assert_eq!(levels.of(None), Level::Warning);
        assert_eq!(levels.of(Some("parser")), Level::Warning);
        assert_eq!(levels.of(Some("mqtt")), Level::Debug);
        assert_eq!(levels.of(Some("writer")), Level::Error);
        assert_eq!(levels.most_verbose(), Level::Debug);
    }

    #[test]
    fn a_level_for_one_component_leaves_the_others_at_info() {
        let levels = LogLevels::parse("mqtt=TRACE").expect("valid levels");
        assert_eq!((levels.of(None), levels.of(Some("mqtt"))), (Level::Info, Level::Trace));
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_and_named() {
        let table = [
            ("loud", "\"loud\" is not a level"),
            ("", "\"\" is not a level"),
            ("info,mqtt=", "\"\" is not a level"),
            ("info,=debug", "\"=debug\" has no component before the \"=\""),
            ("info,debug", "\"debug\" is a second level for all components"),
        ];
        for (text, expected) in table {
            assert_eq!(LogLevels::parse(text), Err(expected.to_owned()), "{text:?}");
        }
    }
}
