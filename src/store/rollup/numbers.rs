//! The numeric fields at the top level of an `extra`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{EXTRA_FIELDS_MAX, FIELD_CHARS_MAX};

/// Returns the fields that hold a JSON number of any size; `None` if there are too many, or a name is too
/// long. Empty if `extra` is no JSON object.
pub fn numbers_of(extra: &str) -> Option<Vec<(Cow<'_, str>, f64)>> {
    let Ok(Numbers(fields)) = serde_json::from_str(extra) else { return Some(Vec::new()) };
    let fits = fields.len() <= EXTRA_FIELDS_MAX
        && fields
            .iter()
            .all(|(name, _)| name.len() <= FIELD_CHARS_MAX || name.chars().count() <= FIELD_CHARS_MAX);
    fits.then_some(fields)
}

/// A name that is copied only if it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Numbers<'a>(Vec<(Cow<'a, str>, f64)>);

impl<'de> Deserialize<'de> for Numbers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Numbers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            // One more than allowed suffices; `extra` may be as large as a payload.
            if fields.len() > EXTRA_FIELDS_MAX {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value::<&RawValue>()?;
            if let Some(number) = number(value.get()) {
                fields.push((name, number));
            }
        }
        Ok(Numbers(fields))
    }
}

/// Returns a JSON number as a double; infinite if it is too large for one.
fn number(text: &str) -> Option<f64> {
    let looks_like_one = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    looks_like_one.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_at_the_top_level_count() {
        let extra =
            r#"{"a":1,"b":"2","c":null,"d":true,"e":[3],"f":{"g":4},"h\"i":-5e-1,"j":1e999,"k":1e-999}"#;
        let found = numbers_of(extra).unwrap();
        let expected = [("a", 1.0), ("h\"i", -0.5), ("j", f64::INFINITY), ("k", 0.0)];
        assert_eq!(found.iter().map(|(name, value)| (&**name, *value)).collect::<Vec<_>>(), expected);
        assert_eq!(numbers_of("{}"), Some(Vec::new()));
        assert_eq!(numbers_of("7"), Some(Vec::new()));
    }

    #[test]
    fn too_many_fields_or_too_long_names_are_left_out() {
        let object = |count: usize, length: usize| {
            let fields: Vec<_> = (0..count).map(|n| format!("\"{n:0>length$}\":{n}")).collect();
            format!("{{{}}}", fields.join(","))
        };
        assert_eq!(numbers_of(&object(8, 100)).map(|fields| fields.len()), Some(8));
        assert_eq!(numbers_of(&object(9, 1)), None);
        assert_eq!(numbers_of(&object(1, 101)), None);
        assert_eq!(numbers_of(&format!("{{\"{}\":1}}", "ä".repeat(100))).map(|fields| fields.len()), Some(1));
    }
}
