//! A reading as a line of CSV (RFC 4180), as the API and `andon export` write it.

use crate::store::StoredReading;

/// The first line.
pub const HEADINGS: &str = "recorded_at,temperature,humidity,vibration,extra,time_source,received_at\r\n";

/// Writes the line of a reading.
pub fn put_line(put: &mut dyn FnMut(&str), row: &StoredReading) {
    let reading = &row.reading;
    put(&reading.recorded_at.to_string());
    for value in [reading.temperature, reading.humidity, reading.vibration] {
        put(",");
        if let Some(value) = value {
            put(&value.to_string());
        }
    }
    put(",");
    put_extra(put, reading.extra.as_deref().unwrap_or_default());
    put(",");
    put_cell(put, &row.time_source);
    put(",");
    put(&row.received_at.to_string());
    put("\r\n");
}

/// Writes JSON with text of machines. It begins with a brace, so no spreadsheet takes it for a formula; but one whose columns
/// end at semicolons would begin a new cell at each of its own. In JSON they stand in strings only, where they can be escaped.
fn put_extra(put: &mut dyn FnMut(&str), json: &str) {
    if json.contains(';') { put_cell(put, &json.replace(';', "\\u003b")) } else { put_cell(put, json) }
}

/// Writes the first cell of a line, with text of machines. An apostrophe before what a spreadsheet would take for a formula
/// makes it text.
pub fn put_foreign_cell(put: &mut dyn FnMut(&str), text: &str) {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { put_cell(put, &format!("'{text}")) } else { put_cell(put, text) }
}

/// Writes a cell, quoted if necessary; a semicolon ends a cell in some countries.
fn put_cell(put: &mut dyn FnMut(&str), text: &str) {
    if !text.bytes().any(|byte| matches!(byte, b'"' | b',' | b';' | b'\r' | b'\n')) {
        return put(text);
    }
    put("\"");
    for (index, part) in text.split('"').enumerate() {
        if index > 0 {
            put("\"\"");
        }
        put(part);
    }
    put("\"");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::store::{LatestReading, ReadingCursor};

    #[test]
    fn cells_are_quoted_where_necessary() {
        let at = Timestamp::from_micros(1_767_595_199_000_001);
        let reading = LatestReading {
            recorded_at: at,
            temperature: Some(21.5),
            humidity: None,
            vibration: Some(-0.0),
            extra: Some(r#"{"note":"a, \"b\""}"#.to_owned()),
        };
        let key = ReadingCursor::before(at);
        let row = StoredReading { key, reading, time_source: "device".to_owned(), received_at: at };
        let mut line = String::new();
        put_line(&mut |text| line.push_str(text), &row);
        assert_eq!(
            line,
            "2026-01-05T06:39:59.000001Z,21.5,,-0,\"{\"\"note\"\":\"\"a, \\\"\"b\\\"\"\"\"}\",device,2026-01-05T06:39:59.000001Z\r\n"
        );
    }

    /// Writes a cell through a sink for text.
    type Put = fn(&mut dyn FnMut(&str), &str);

    fn written(by: Put, text: &str) -> String {
        let mut cell = String::new();
        by(&mut |text| cell.push_str(text), text);
        cell
    }

    #[test]
    fn no_machine_writes_a_formula_into_a_spreadsheet() {
        for (machine_id, cell) in [
            ("press-7", "press-7"),
            ("=cmd|'/c calc'!a1", "'=cmd|'/c calc'!a1"),
            ("+1", "'+1"),
            ("-1+1", "'-1+1"),
            ("@sum(a1,a2)", "\"'@sum(a1,a2)\""),
            ("a;=1+1;", "\"a;=1+1;\""),
        ] {
            assert_eq!(written(put_foreign_cell, machine_id), cell);
        }
        let extra = r#"{"note":";=cmd|'/c calc'!a1;"}"#;
        let cell = written(put_extra, extra);
        assert!(!cell.contains(';'), "{cell}");
        let unquoted = cell.trim_matches('"').replace("\"\"", "\"");
        let (read, given): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(&unquoted).unwrap(), serde_json::from_str(extra).unwrap());
        assert_eq!(read, given, "the same JSON");
    }
}
