//! `andon rejected show`: one rejected message and its payload.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Failure, Output};
use crate::cli::arguments::whole_number;
use crate::domain::REJECTED_PAYLOAD_BYTES_MAX;
use crate::store::{RejectedFilter, RejectedPage, RejectedRow, Store};
use crate::terminal;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    /// The message's id, from `andon rejected list`
    #[arg(value_parser = whole_number::<i64>)]
    id: i64,
    /// Print only the bytes of the payload, unchanged
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options, store: &mut dyn Store) -> Result<Output, Failure> {
    let row = find(store, options.id)?;
    if options.raw {
        return match io::stdout().lock().write_all(&row.payload) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(format!("cannot write to standard output: {error}")))
            }
            _ => Ok(Output::clean(String::new())),
        };
    }
    Ok(Output::clean(if options.json {
        let mut object = as_json(&row);
        match std::str::from_utf8(&row.payload) {
            Ok(text) => object["payload"] = text.into(),
            Err(_) => object["payload_hex"] = hex(&row.payload).into(),
        }
        format!("{}\n", terminal::json(&format!("{object:#}")))
    } else {
        text(&row)
    }))
}

/// Returns the whole row with that id.
pub(super) fn find(store: &mut dyn Store, id: i64) -> Result<RejectedRow, Failure> {
    let whole = u32::try_from(REJECTED_PAYLOAD_BYTES_MAX).unwrap_or(u32::MAX);
    let rows = store.rejected(&RejectedFilter::default(), RejectedPage::Only(id), 1, whole)?;
    rows.into_iter().next().ok_or_else(|| Failure::new(format!("this site has no rejected message {id}")))
}

fn text(row: &RejectedRow) -> String {
    let mut text = String::new();
    let lines = [
        ("id", row.id.to_string()),
        ("received", row.received_at.to_string()),
        ("topic", terminal::one_line(row.topic.as_bytes(), usize::MAX)),
        ("reason", terminal::one_line(row.reason.as_bytes(), usize::MAX)),
        ("detail", terminal::one_line(row.detail.as_bytes(), usize::MAX)),
        ("qos", row.qos.as_u8().to_string()),
        ("retained", row.retained.to_string()),
        ("journal", row.journal_id.clone()),
        ("seq", row.seq.to_string()),
        ("element", row.element.to_string()),
        ("kept", kept(row)),
    ];
    for (name, value) in lines {
        text.push_str(&format!("{name:<9} {value}\n"));
    }
    text.push('\n');
    match std::str::from_utf8(&row.payload) {
        Ok(payload) => text.push_str(&(terminal::lines(payload) + "\n")),
        Err(_) => text.push_str(&terminal::hex_dump(&row.payload)),
    }
    text
}

fn kept(row: &RejectedRow) -> String {
    let cut = if row.payload.len() >= REJECTED_PAYLOAD_BYTES_MAX { "; the rest was not kept" } else { "" };
    format!("{} bytes of the payload{cut}", row.payload_bytes)
}

/// Returns everything but the payload.
pub(super) fn as_json(row: &RejectedRow) -> Value {
    json!({
        "id": row.id,
        "journal_id": row.journal_id,
        "seq": row.seq.0,
        "element": row.element,
        "received_at": row.received_at.to_string(),
        "topic": row.topic,
        "qos": row.qos.as_u8(),
        "retained": row.retained,
        "reason": row.reason,
        "detail": row.detail,
        "payload_bytes": row.payload_bytes,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
