//! The other fields of an object, as JSON text that both databases accept.

use std::fmt::Write as _;

use super::json::{Members, Node};

/// Most digits before the decimal point in PostgreSQL's `numeric`, and so in a number in `jsonb` …
const DIGITS_BEFORE_POINT_MAX: i64 = 131_072;
/// … and most digits after it (PostgreSQL manual, 8.1.2).
const DIGITS_AFTER_POINT_MAX: i64 = 16_383;
/// Most digits that an exponent may expand to. `jsonb` writes numbers out: `1e131071` comes back as 131,072 digits, and a
/// payload full of them as gigabytes. The bound is still far beyond any measurement.
const DIGITS_BY_EXPONENT_MAX: i64 = 1024;

/// Returns the object as JSON text; `None` if it is empty.
pub(super) fn write(members: &Members<'_>, size_hint: usize) -> Option<String> {
    if members.entries.is_empty() {
        return None;
    }
    let mut out = String::with_capacity(size_hint);
    write_object(members, &mut out);
    Some(out)
}

fn write_object(members: &Members<'_>, out: &mut String) {
    let mut separator = '{';
    for (key, value) in &members.entries {
        out.push(separator);
        separator = ',';
        write_string(key, out);
        out.push(':');
        write_node(value, out);
    }
    out.push_str(if separator == '{' { "{}" } else { "}" });
}

fn write_node(node: &Node<'_>, out: &mut String) {
    match node {
        Node::Null => out.push_str("null"),
        Node::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Node::Number(text) if fits_jsonb(text) => out.push_str(text),
        Node::Number(text) => write_string(text, out),
        Node::String(text) => write_string(text, out),
        Node::Array(items) => {
            let mut separator = '[';
            for item in items {
                out.push(separator);
                separator = ',';
                write_node(item, out);
            }
            out.push_str(if separator == '[' { "[]" } else { "]" });
        }
        Node::Object(members) => write_object(members, out),
    }
}

/// Appends `text` as a JSON string.
fn write_string(text: &str, out: &mut String) {
    let literal = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    out.push('"');
    if literal {
        out.push_str(text);
    } else {
        text.chars().for_each(|char| write_char(char, out));
    }
    out.push('"');
}

fn write_char(char: char, out: &mut String) {
    match char {
        '\0' => out.push('\u{FFFD}'),
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        control @ '\u{1}'..='\u{1f}' => {
            write!(out, "\\u{:04x}", u32::from(control)).expect("writing to a String cannot fail");
        }
        other => out.push(other),
    }
}

/// Returns whether PostgreSQL's `jsonb` accepts this JSON number and returns it at a sensible length; otherwise the number
/// is kept as a string. Leading zeros count as digits, so the answer errs on the safe side.
fn fits_jsonb(number: &str) -> bool {
    let unsigned = number.strip_prefix('-').unwrap_or(number);
    let length = |digits: &str| i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let digits = |mantissa: &str| {
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        (length(whole), length(fraction))
    };
    let Some((mantissa, exponent)) = unsigned.split_once(['e', 'E']) else {
        let (before, after) = digits(unsigned);
        return before <= DIGITS_BEFORE_POINT_MAX && after <= DIGITS_AFTER_POINT_MAX;
    };
    let Ok(exponent) = exponent.parse::<i32>() else {
        return false;
    };
    let (whole, fraction) = digits(mantissa);
    let before = whole.saturating_add(exponent.into());
    let after = fraction.saturating_sub(exponent.into());
    before <= DIGITS_BY_EXPONENT_MAX && after <= DIGITS_BY_EXPONENT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves PAY-4.
    #[test]
    fn numbers_that_jsonb_refuses_or_expands_are_recognised() {
        let digits = |count: usize| "7".repeat(count);
        let table = [
            ("0".to_owned(), true),
            ("-12.5e3".to_owned(), true),
            ("1e999".to_owned(), true),
            ("1e1023".to_owned(), true),
            ("1E+1023".to_owned(), true),
            ("1e1024".to_owned(), false),
            ("1e131072".to_owned(), false),
            ("1e-1024".to_owned(), true),
            ("1E-1025".to_owned(), false),
            ("1.5e-1024".to_owned(), false),
            ("1e99999999999999999999".to_owned(), false),
            ("1e-99999999999999999999".to_owned(), false),
            (digits(131_072), true),
            (digits(131_073), false),
            (format!("0.{}", digits(16_383)), true),
            (format!("0.{}", digits(16_384)), false),
        ];
        for (number, expected) in table {
            assert_eq!(fits_jsonb(&number), expected, "{} …", number.get(..20).unwrap_or(&number));
        }
    }
}
