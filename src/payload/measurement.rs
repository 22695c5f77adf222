//! Temperature, humidity, vibration.

use super::fields::Use;
use super::json::Node;

/// A number, a text that is one, or a boolean (1/0). Null and the empty text are no value; anything else, and what is
/// too large for `f64`, cannot be used.
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

/// Rust's parser also reads `nan`, `inf` and `infinity` in any case, and overflows to infinity: none of it is finite.
fn finite(text: &str) -> Use<f64> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Use::Used(value),
        _ => Use::Unusable,
    }
}
