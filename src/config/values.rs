//! Single values: from text, from TOML, and as the type that a key has.

use std::time::Duration;

use config::{Map, Value, ValueKind};

use super::keys::Kind;
use super::units::{parse_duration, parse_size};

/// Types the text of an environment variable or of `--set` by the key that it sets. Text that does not fit stays
/// text: [`check`](super::check::check) says what was expected.
pub(super) fn from_text(kind: Kind, text: &str, origin: &str) -> Value {
    let trimmed = text.trim();
    let typed = match kind {
        Kind::Flag => flag_from_text(trimmed).map(ValueKind::Boolean),
        Kind::Integer { .. } | Kind::Segment => trimmed.parse().ok().map(ValueKind::I64),
        Kind::Subscriptions | Kind::Texts | Kind::Networks
            if !trimmed.starts_with('[') && !trimmed.is_empty() =>
        {
            Some(comma_separated(trimmed, origin))
        }
        // An IPv6 address begins with "[", like a list.
        Kind::Hosts if !trimmed.is_empty() => Some(
            toml_value(trimmed)
                .map_or_else(|| comma_separated(trimmed, origin), |value| from_toml(value, origin).kind),
        ),
        Kind::Subscriptions
        | Kind::Hosts
        | Kind::Texts
        | Kind::Networks
        | Kind::LastWills
        | Kind::Tokens
        | Kind::Fields
        | Kind::Machines => toml_value(trimmed).map(|value| from_toml(value, origin).kind),
        _ => None,
    };
    Value::new(Some(&origin.to_owned()), typed.unwrap_or_else(|| ValueKind::String(text.to_owned())))
}

fn comma_separated(text: &str, origin: &str) -> ValueKind {
    ValueKind::Array(text.split(',').map(|part| text_value(part.trim(), origin)).collect())
}

/// Reads the words that people put into environment variables for yes and no.
pub(super) fn flag_from_text(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Makes a value of a text.
pub(super) fn text_value(text: &str, origin: &str) -> Value {
    Value::new(Some(&origin.to_owned()), ValueKind::String(text.to_owned()))
}

fn toml_value(text: &str) -> Option<toml::Value> {
    let document: toml::Table = format!("value = {text}").parse().ok()?;
    // A line break in the text could smuggle in further keys.
    if document.len() == 1 { document.into_iter().next().map(|(_, value)| value) } else { None }
}

/// Translates TOML into a value of crate `config`.
pub(super) fn from_toml(value: toml::Value, origin: &str) -> Value {
    let kind = match value {
        toml::Value::String(text) => ValueKind::String(text),
        toml::Value::Integer(number) => ValueKind::I64(number),
        toml::Value::Float(number) => ValueKind::Float(number),
        toml::Value::Boolean(flag) => ValueKind::Boolean(flag),
        toml::Value::Datetime(time) => ValueKind::String(time.to_string()),
        toml::Value::Array(items) => {
            ValueKind::Array(items.into_iter().map(|item| from_toml(item, origin)).collect())
        }
        toml::Value::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(key, value)| (key, from_toml(value, origin))).collect())
        }
    };
    Value::new(Some(&origin.to_owned()), kind)
}

/// Returns the entries sorted by name, so that mistakes are reported in the same order every time.
pub(super) fn sorted(table: Map<String, Value>) -> Vec<(String, Value)> {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries
}

/// Quotes a key where TOML requires it.
pub(super) fn key_text(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        toml::Value::String(name.to_owned()).to_string()
    }
}

/// Splits `a`, `a:1`, `::1`, `[::1]` or `[::1]:1` into a host without brackets and its port. Does not check the host.
pub(super) fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let port = |digits: &str| digits.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some((host, behind)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match behind.strip_prefix(':') {
            Some(digits) => Some((host, Some(port(digits)?))),
            None => behind.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        Some((host, digits)) if !digits.contains(':') => Some((host, Some(port(digits)?))),
        _ => Some((text, None)),
    }
}

/// Returns the value as text.
pub(super) fn text(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::String(text) => Some(text),
        _ => None,
    }
}

/// Returns the value as a whole number.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value.kind {
        ValueKind::I64(number) => Some(number),
        _ => None,
    }
}

/// Returns the value as a duration.
pub(super) fn duration(value: &Value) -> Option<Duration> {
    text(value).and_then(parse_duration)
}

/// Returns the value as a size in bytes; it may be text or a number of bytes.
pub(super) fn size(value: &Value) -> Option<u64> {
    match &value.kind {
        ValueKind::I64(number) => u64::try_from(*number).ok(),
        ValueKind::String(text) => parse_size(text),
        _ => None,
    }
}
