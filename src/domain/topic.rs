//! MQTT topics and topic filters.

use std::fmt;

use thiserror::Error;

/// A validated topic filter (MQTT 5 §4.7), possibly shared (`$share/group/filter`, §4.8.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct TopicFilter {
    text: String,
    /// Where the filter proper starts: 0, or past `$share/group/`.
    filter_start: usize,
}

/// Why a text is not a topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TopicFilterError {
    /// The text is empty.
    #[error("topic filter is empty")]
    Empty,
    /// Longer than 65,535 bytes.
    #[error("topic filter is longer than 65535 bytes")]
    TooLong,
    /// Holds U+0000.
    #[error("topic filter contains a NUL character")]
    Nul,
    /// `#` not alone in the last level.
    #[error("'#' must stand alone as the last level of a topic filter")]
    MisplacedHash,
    /// `+` together with other characters in a level.
    #[error("'+' must stand alone in its level of a topic filter")]
    MisplacedPlus,
    /// `$share/` without group and filter.
    #[error("a shared subscription is '$share/<group>/<filter>', the group without '+' and '#'")]
    BadShare,
}

impl TopicFilter {
    /// Checks `text` against MQTT's rules.
    ///
    /// # Errors
    /// [`TopicFilterError`] names the broken rule.
    pub fn parse(text: &str) -> Result<Self, TopicFilterError> {
        if text.len() > usize::from(u16::MAX) {
            return Err(TopicFilterError::TooLong);
        }
        if text.contains('\0') {
            return Err(TopicFilterError::Nul);
        }
        let filter_start = match text.strip_prefix("$share/") {
            Some(rest) => {
                let group = rest.split('/').next().unwrap_or_default();
                if group.is_empty() || group.contains(['+', '#']) || group.len() == rest.len() {
                    return Err(TopicFilterError::BadShare);
                }
                "$share/".len() + group.len() + 1
            }
            None => 0,
        };
        let filter = &text[filter_start..];
        if filter.is_empty() {
            return Err(TopicFilterError::Empty);
        }
        let mut levels = filter.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(TopicFilterError::MisplacedHash);
            }
            if level.contains('+') && level != "+" {
                return Err(TopicFilterError::MisplacedPlus);
            }
        }
        Ok(Self { text: text.to_owned(), filter_start })
    }

    /// Returns the filter as it is sent to the broker.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether the broker divides the messages among a group (`$share/group/filter`).
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.filter_start > 0
    }

    /// Returns the filter without `$share/group/`.
    #[must_use]
    pub fn unshared(&self) -> &str {
        &self.text[self.filter_start..]
    }

    /// Returns whether a message published to `topic` matches this filter.
    /// A wildcard in the first level does not match topics that begin with `$` (§4.7.2).
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let filter = &self.text[self.filter_start..];
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in filter.split('/') {
            if wanted == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

impl TryFrom<String> for TopicFilter {
    type Error = TopicFilterError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns which segment of a topic names the machine unless the configuration says otherwise.
#[must_use]
pub const fn second_to_last_segment() -> i32 {
    -2
}

/// Returns the segment of `topic` at `position`, counted among its non-empty segments:
/// 1 is the first, −1 the last, −2 the second to last. `None` if there are fewer than three
/// segments or the position lies outside; 0 names none.
#[must_use]
pub fn topic_segment(topic: &str, position: i32) -> Option<&str> {
    let segments = || topic.split('/').filter(|segment| !segment.is_empty());
    if segments().count() < 3 {
        return None;
    }
    let offset = usize::try_from(position.unsigned_abs()).ok()?.checked_sub(1)?;
    if position > 0 { segments().nth(offset) } else { segments().rev().nth(offset) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        let table = [
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/d", false),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("a/b", "a/b/c", false),
            ("$share/g/a/+", "a/b", true),
            ("$share/g/a/+", "$share/g/a/b", false),
        ];
        for (filter, topic, expected) in table {
            let filter = TopicFilter::parse(filter).expect("a valid filter");
            assert_eq!(filter.matches(topic), expected, "{filter} against {topic}");
        }
    }

    #[test]
    fn a_broken_filter_is_refused_with_its_rule() {
        let table = [
            ("", TopicFilterError::Empty),
            ("a/#/b", TopicFilterError::MisplacedHash),
            ("a/b#", TopicFilterError::MisplacedHash),
            ("a/b+/c", TopicFilterError::MisplacedPlus),
            ("a\0", TopicFilterError::Nul),
            ("$share/g", TopicFilterError::BadShare),
            ("$share//a", TopicFilterError::BadShare),
            ("$share/g/", TopicFilterError::Empty),
        ];
        for (text, expected) in table {
            assert_eq!(TopicFilter::parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn segments_count_from_both_ends_over_non_empty_ones() {
        let topic = "/factory//machine/m1/telemetry/";
        assert_eq!(topic_segment(topic, -2), Some("m1"));
        assert_eq!(topic_segment(topic, 1), Some("factory"));
        assert_eq!(topic_segment(topic, -1), Some("telemetry"));
        assert_eq!(topic_segment(topic, 0), None);
        assert_eq!(topic_segment(topic, 5), None);
        assert_eq!(topic_segment(topic, i32::MIN), None);
        assert_eq!(topic_segment("a/b", -2), None);
    }
}
