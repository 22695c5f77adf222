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
    for cell in [reading.extra.as_deref().unwrap_or_default(), &row.time_source] {
        put(",");
        put_cell(put, cell);
    }
    put(",");
    put(&row.received_at.to_string());
    put("\r\n");
}

/// Writes a cell, quoted if necessary. `extra` holds text of machines, and begins with a brace: no spreadsheet treats it as a
/// formula.
pub fn put_cell(put: &mut dyn FnMut(&str), text: &str) {
    if !text.bytes().any(|byte| matches!(byte, b'"' | b',' | b'\r' | b'\n')) {
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
}
