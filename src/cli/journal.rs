//! `andon journal inspect`, `verify` and `export`, which only read and may run beside the service, and `repair`, which
//! may not.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::{Exit, Output, counted, table};
use crate::config::Settings;
use crate::domain::{Seq, Timestamp};
use crate::journal::{
    self, Cut, Damage, Inspection, JournalError, REPAIR_HINT, RealFs, Record, Repair, SegmentSummary,
};
use crate::logging::causes;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what the journal holds; exit code 3 if it is damaged
    Inspect {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Read every record and check it; exit code 3 if the journal is damaged
    Verify,
    /// Make a damaged journal usable: keep every readable record, keep aside what is cut, note what is lost. Not while
    /// the service runs
    Repair,
    /// Write the readable records as JSON, one a line; exit code 3 if some cannot be read
    Export {
        /// The first one
        #[arg(long, value_name = "SEQ", default_value_t = 1)]
        from: u64,
        /// The last one, the newest if not given
        #[arg(long, value_name = "SEQ")]
        to: Option<u64>,
    },
}

pub(super) fn run(command: &Command, settings: &Settings) -> Output {
    let dir = &settings.journal.dir;
    if let Err(complaint) = check_directory(dir) {
        return Output::failed(Exit::Failure, complaint);
    }
    let done = match command {
        Command::Inspect { json: true } => inspect(dir, |dir, found| format!("{:#}\n", as_json(dir, found))),
        Command::Inspect { json: false } => inspect(dir, as_text),
        Command::Verify => inspect(dir, verdict),
        Command::Repair => {
            journal::repair(dir, &RealFs).map(|repair| Output::clean(repair_text(dir, &repair)))
        }
        Command::Export { from, to } => export(dir, Seq(*from), to.map_or(Seq(u64::MAX), Seq)),
    };
    done.unwrap_or_else(|error| {
        let exit = if error.is_damage() { Exit::JournalDamaged } else { Exit::Failure };
        Output::failed(exit, format!("failed to {}", causes(&error)))
    })
}

fn inspect(dir: &Path, show: impl Fn(&Path, &Inspection) -> String) -> Result<Output, JournalError> {
    let found = journal::inspect(dir, &RealFs)?;
    let (complaints, exit) = complaints(&found.damage);
    Ok(Output { text: show(dir, &found), complaints, exit })
}

/// Each damage, and what to do.
fn complaints(damage: &[Damage]) -> (Vec<String>, Exit) {
    if damage.is_empty() {
        return (Vec::new(), Exit::Clean);
    }
    let lines = damage.iter().map(damage_line).chain([REPAIR_HINT.to_owned()]);
    (lines.collect(), Exit::JournalDamaged)
}

/// Writes as it reads: a journal may be larger than memory.
fn export(dir: &Path, from: Seq, to: Seq) -> Result<Output, JournalError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let exported = journal::export(dir, &RealFs, from, to, &mut |record| {
        written = writeln!(out, "{}", record_json(record));
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Ok(Output::failed(Exit::Failure, format!("cannot write to standard output: {error}")));
        }
        _ => {}
    }
    let (complaints, exit) = complaints(&exported.skipped);
    Ok(Output { text: String::new(), complaints, exit })
}

fn record_json(record: Record<'_>) -> serde_json::Value {
    let message = record.message;
    let mut object = json!({
        "seq": record.seq.0,
        "received_at": message.received_at.to_string(),
        "qos": message.qos.as_u8(),
        "retained": message.retained,
        "topic": message.topic,
    });
    match std::str::from_utf8(message.payload) {
        Ok(text) => object["payload"] = text.into(),
        Err(_) => object["payload_hex"] = hex(message.payload).into(),
    }
    object
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn repair_text(dir: &Path, repair: &Repair) -> String {
    let shown = dir.display();
    if repair.cuts.is_empty() {
        return format!("{shown} is whole: nothing to repair, nothing is changed\n");
    }
    let mut text: String = repair.cuts.iter().map(cut_line).collect();
    if let Some(id) = repair.new_identity {
        text.push_str(&format!(
            "the journal goes on under the new id {id}: all its records count as pending\n"
        ));
    }
    let missing = repair.cuts.iter().filter_map(|cut| cut.missing).map(|hole| hole.seqs()).sum();
    text.push_str(&format!(
        "{shown} is repaired: {} kept, {} lost\n",
        counted(repair.records, "record"),
        counted(missing, "record")
    ));
    text
}

fn cut_line(cut: &Cut) -> String {
    let mut line = format!("{} at byte {}: {}", cut.path.display(), cut.offset, cut.what);
    if cut.bytes > 0 {
        line.push_str(&format!("; cut {}", counted(cut.bytes, "byte")));
    }
    if let Some(kept) = &cut.kept {
        line.push_str(&format!(", kept in {}", kept.display()));
    }
    if let Some(missing) = cut.missing {
        line.push_str(&format!("; missing seq {missing}"));
    }
    line + "\n"
}

/// A journal that is not there is a likely slip in the configuration, not an empty journal.
fn check_directory(dir: &Path) -> Result<(), String> {
    let shown = dir.display();
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Ok(()),
            None => Err(format!("there is no journal in {shown} yet: the directory (journal.dir) is empty")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "there is no journal {shown}: the directory (journal.dir) does not exist; `andon run` creates it"
        )),
        Err(error) => Err(format!("cannot read the journal's directory {shown} (journal.dir): {error}")),
    }
}

fn damage_line(damage: &Damage) -> String {
    format!("damaged: {} at byte {}: {}", damage.path.display(), damage.offset, damage.what)
}

fn verdict(dir: &Path, found: &Inspection) -> String {
    let shown = dir.display();
    let (records, segments) =
        (counted(found.records, "record"), counted(found.segments.len() as u64, "segment"));
    match found.damage.len() {
        0 => format!("{shown} is whole: {records} in {segments}\n") + &remarks(found),
        places => {
            format!("{shown} is damaged in {}; {records} can be read\n", counted(places as u64, "place"))
        }
    }
}

/// What is no damage, but no wonder either.
fn remarks(found: &Inspection) -> String {
    let mut text = String::new();
    for Damage { path, offset, what } in &found.torn {
        let path = path.display();
        text.push_str(&format!(
            "torn, as by a crash: {path} at byte {offset}: {what}; cut at the next start\n"
        ));
    }
    for hole in &found.holes {
        text.push_str(&format!("missing seq {hole}: lost to damage, found by an earlier repair\n"));
    }
    text
}

/// First and last seq of whole records.
fn range(found: &Inspection) -> Option<(Seq, Seq)> {
    let mut with_records = found.segments.iter().filter(|segment| segment.last.is_some());
    let first = with_records.next()?;
    let last = with_records.next_back().unwrap_or(first).last?;
    Some((first.first, last))
}

/// Records that the database did not have when `journal.meta` was last written: at most so many are pending.
fn pending_max(found: &Inspection) -> u64 {
    let newest = range(found).map_or(Seq::ZERO, |(_, last)| last);
    newest.0.saturating_sub(found.committed_hint.map_or(0, |committed| committed.0))
}

fn as_text(dir: &Path, found: &Inspection) -> String {
    let unknown = || "unknown".to_owned();
    let records = match range(found) {
        Some((first, last)) => format!("{} (seq {first} to {last})", found.records),
        None => "0".to_owned(),
    };
    let mut lines = vec![
        format!("journal    {}", dir.display()),
        format!("id         {}", found.journal_id.map_or_else(unknown, |id| id.to_string())),
        format!("records    {records}"),
        format!("bytes      {}", found.bytes),
        format!(
            "committed  {} (last noted here; the database knows better)",
            found.committed_hint.map_or_else(unknown, |seq| format!("up to seq {seq}"))
        ),
        format!("pending    at most {}", pending_max(found)),
    ];
    if found.torn_tail_bytes > 0 {
        lines.push(format!(
            "torn tail  {} bytes behind the last record: being written, or cut at the next start",
            found.torn_tail_bytes
        ));
    }
    lines.extend(remarks(found).lines().map(str::to_owned));
    lines.extend(found.kept_aside.iter().map(|path| format!("kept aside {}", path.display())));
    lines.push(String::new());
    let rows: Vec<Vec<String>> = found.segments.iter().map(segment_row).collect();
    let headings = ["segment", ">first seq", ">last seq", ">records", ">bytes", "received from", "to"];
    format!("{}\n{}", lines.join("\n"), table(&headings, &rows))
}

fn segment_row(segment: &SegmentSummary) -> Vec<String> {
    let instant = |pick: fn((Timestamp, Timestamp)) -> Timestamp| {
        segment.received.map_or_else(|| "-".to_owned(), |received| pick(received).to_string())
    };
    vec![
        segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        segment.first.to_string(),
        segment.last.map_or_else(|| "-".to_owned(), |last| last.to_string()),
        segment.records.to_string(),
        segment.bytes.to_string(),
        instant(|(from, _)| from),
        instant(|(_, to)| to),
    ]
}

fn as_json(dir: &Path, found: &Inspection) -> serde_json::Value {
    let segments: Vec<_> = found.segments.iter().map(segment_json).collect();
    json!({
        "dir": dir.display().to_string(),
        "journal_id": found.journal_id.map(|id| id.to_string()),
        "first_seq": range(found).map(|(first, _)| first.0),
        "last_seq": range(found).map(|(_, last)| last.0),
        "records": found.records,
        "bytes": found.bytes,
        "committed_hint": found.committed_hint.map(|seq| seq.0),
        "pending_max": pending_max(found),
        "torn_tail_bytes": found.torn_tail_bytes,
        "torn": damage_json(&found.torn),
        "holes": found.holes.iter().map(|hole| json!({"from": hole.from.0, "to": hole.to.0})).collect::<Vec<_>>(),
        "kept_aside": found.kept_aside.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "damage": damage_json(&found.damage),
        "segments": segments,
    })
}

fn damage_json(damage: &[Damage]) -> serde_json::Value {
    let place = |place: &Damage| json!({"path": place.path.display().to_string(), "offset": place.offset, "what": place.what});
    damage.iter().map(place).collect()
}

fn segment_json(segment: &SegmentSummary) -> serde_json::Value {
    json!({
        "path": segment.path.display().to_string(),
        "first_seq": segment.first.0,
        "last_seq": segment.last.map(|seq| seq.0),
        "records": segment.records,
        "bytes": segment.bytes,
        "file_bytes": segment.file_bytes,
        "received_from": segment.received.map(|(from, _)| from.to_string()),
        "received_to": segment.received.map(|(_, to)| to.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_is_not_there_is_said_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("missing");
        let said = check_directory(&missing).expect_err("it is missing");
        assert!(said.contains("does not exist") && said.contains("journal.dir"), "{said}");
        let said = check_directory(dir.path()).expect_err("it is empty");
        assert!(said.contains("is empty"), "{said}");
    }

    #[test]
    fn a_record_is_shown_as_text_or_if_it_is_none_as_hex() {
        let message = |payload| crate::domain::Message {
            received_at: Timestamp::from_micros(1_700_000_000_000_000),
            qos: crate::domain::Qos::AtLeastOnce,
            retained: false,
            topic: "a/b",
            payload,
        };
        let shown = |payload| record_json(Record { seq: Seq(7), message: message(payload) });
        let text = shown(b"{\"t\":1}");
        assert_eq!((&text["payload"], &text["seq"]), (&json!("{\"t\":1}"), &json!(7)));
        assert!(text.get("payload_hex").is_none());
        let binary = shown(&[0, 255, 16]);
        assert_eq!(binary["payload_hex"], "00ff10");
        assert!(binary.get("payload").is_none());
    }

    #[test]
    fn pending_is_what_the_hint_leaves() {
        let segment = |first: u64, last: Option<u64>| SegmentSummary {
            path: format!("{first}.seg").into(),
            first: Seq(first),
            last: last.map(Seq),
            records: last.map_or(0, |last| last - first + 1),
            bytes: 100,
            file_bytes: 200,
            received: None,
        };
        let mut found = Inspection {
            journal_id: None,
            committed_hint: Some(Seq(12)),
            segments: vec![segment(5, Some(9)), segment(10, Some(20)), segment(21, None)],
            records: 16,
            bytes: 300,
            torn_tail_bytes: 0,
            torn: Vec::new(),
            holes: Vec::new(),
            kept_aside: Vec::new(),
            damage: Vec::new(),
        };
        assert_eq!((range(&found), pending_max(&found)), (Some((Seq(5), Seq(20))), 8));
        found.segments.truncate(1);
        assert_eq!((range(&found), pending_max(&found)), (Some((Seq(5), Seq(9))), 0));
        found.segments.clear();
        assert_eq!((range(&found), pending_max(&found)), (None, 0));
    }
}
