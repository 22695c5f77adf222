//! Whether two databases hold the same rows, in whatever order.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// A number of rows and the sum of their hashes: the same for the same rows in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checksum {
    /// How many rows.
    pub rows: u64,
    sum: u64,
}

impl Checksum {
    /// Counts a row.
    pub fn add(&mut self, hash: u64) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Counts the rows of another part.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, sum: self.sum.wrapping_add(other.sum) }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.sum)
    }
}

/// Returns bytes that are the same for equal JSON. `jsonb` sorts keys, keeps the last of equal keys, and writes numbers without
/// exponents. Text that is no JSON stands for itself.
pub fn canonical_json(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    match serde_json::from_slice::<Value>(text) {
        Ok(value) => put(&mut out, &value),
        Err(_) => out.extend_from_slice(text),
    }
    out
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(flag) => out.push(if *flag { b't' } else { b'f' }),
        Value::Number(number) => {
            out.push(b'#');
            out.extend_from_slice(canonical_number(&number.to_string()).as_bytes());
            out.push(b';');
        }
        Value::String(text) => put_text(out, text),
        Value::Array(items) => {
            out.push(b'[');
            items.iter().for_each(|item| put(out, item));
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (key, member) in members.iter().collect::<BTreeMap<_, _>>() {
                put_text(out, key);
                put(out, member);
            }
            out.push(b'}');
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Returns the same text for equal decimal numbers: the significant digits and an exponent.
fn canonical_number(text: &str) -> String {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |digits| ("-", digits));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let Ok(exponent) = exponent.parse::<i64>() else { return text.to_owned() };
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let exponent = exponent - fraction.len() as i64 + (digits.len() - significant.len()) as i64;
    match significant.trim_start_matches('0') {
        "" => "0".to_owned(),
        significant => format!("{sign}{significant}e{exponent}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_have_one_form() {
        for equal in
            [&["0", "-0", "0.00", "0e9"][..], &["1000", "1e3", "1.0E+3", "1000.000"], &["-0.015", "-1.5e-2"]]
        {
            let forms: Vec<String> = equal.iter().map(|text| canonical_number(text)).collect();
            assert!(forms.iter().all(|form| *form == forms[0]), "{forms:?}");
        }
        assert_ne!(canonical_number("10"), canonical_number("1"));
        assert_ne!(canonical_number("0.1"), canonical_number("0.01"));
        let long = "123456789012345678901234567890.5";
        assert_eq!(canonical_number(long), canonical_number(&format!("{long}0")));
    }

    #[test]
    fn json_differs_by_its_content_only() {
        let same = |a: &str, b: &str| canonical_json(a.as_bytes()) == canonical_json(b.as_bytes());
        assert!(same(r#"{"a":1,"b":[true,null]}"#, r#"{ "b" : [ true , null ], "a": 1.0 }"#));
        assert!(same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#), "the last of equal keys counts");
        assert!(same(r#""ü""#, "\"ü\""));
        for (a, b) in
            [("[1,2]", "[12]"), ("[[1],2]", "[[1,2]]"), (r#"["a","b"]"#, r#"["ab"]"#), ("1", r#""1""#)]
        {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_their_number_does() {
        let sum = |hashes: &[u64]| {
            let mut sum = Checksum::default();
            hashes.iter().for_each(|hash| sum.add(*hash));
            sum
        };
        assert_eq!(sum(&[1, u64::MAX, 7]), sum(&[7, 1]).with(sum(&[u64::MAX])));
        assert_ne!(sum(&[8]), sum(&[1, 7]));
    }
}
