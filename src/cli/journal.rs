//! `andon journal inspect` and `andon journal verify`. Both only read, and may run beside the service.

use std::fs;
use std::io;
use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::{Exit, Output, counted, table};
use crate::config::Settings;
use crate::domain::{Seq, Timestamp};
use crate::journal::{self, Damage, Inspection, RealFs, SegmentSummary};
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
}

pub(super) fn run(command: &Command, settings: &Settings) -> Output {
    let dir = &settings.journal.dir;
    if let Err(complaint) = check_directory(dir) {
        return Output::failed(Exit::Failure, complaint);
    }
    let inspection = match journal::inspect(dir, &RealFs) {
        Ok(inspection) => inspection,
        Err(error) => {
            let exit = if error.is_damage() { Exit::JournalDamaged } else { Exit::Failure };
            return Output::failed(exit, format!("failed to {}", causes(&error)));
        }
    };
    let text = match command {
        Command::Inspect { json: true } => format!("{:#}\n", as_json(dir, &inspection)),
        Command::Inspect { json: false } => as_text(dir, &inspection),
        Command::Verify => verdict(dir, &inspection),
    };
    let exit = if inspection.damage.is_empty() { Exit::Clean } else { Exit::JournalDamaged };
    Output { text, complaints: inspection.damage.iter().map(damage_line).collect(), exit }
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
        0 => format!("{shown} is whole: {records} in {segments}\n"),
        places => {
            format!("{shown} is damaged in {}; {records} can be read\n", counted(places as u64, "place"))
        }
    }
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
    let damage: Vec<_> = found
        .damage
        .iter()
        .map(|damage| json!({"path": damage.path.display().to_string(), "offset": damage.offset, "what": damage.what}))
        .collect();
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
        "kept_aside": found.kept_aside.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "damage": damage,
        "segments": segments,
    })
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
