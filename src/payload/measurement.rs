//! Temperature, humidity, vibration.

use super::fields::Use;
use super::json::Node;

/// Reads a number, a string that holds one, or a boolean (1/0). Null and the empty string are no value. Anything else,
/// and a number too large for `f64`, is unusable.
pub(super) fn read(node: &Node<'_>) -> Use<f64> {
    match node {
        Node::Null => Use::Nothing,
        Node::Bool(value) => Use::Used(f64::from(u8::from(*value))),
        Node::Number(text) => finite(text),
        Node::String(text) => match text.trim() {
            "" => Use::Nothing,
            trimmed => finite(trimmed),
        },
        Node::Array(_) | Node::Object(_) => Use::Unusable,
    }
}

/// Parses a finite number. Rust's parser also reads `nan`, `inf` and `infinity` in any case, and overflows to infinity:
/// none of these are finite.
fn finite(text: &str) -> Use<f64> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Use::Used(value),
        _ => Use::Unusable,
    }
}
