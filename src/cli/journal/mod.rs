//! `andon journal inspect`, `verify` and `export` only read, and may run beside the service; `repair` may not.

mod inspect;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::arguments::whole_number;
use super::audit::{self, Detail};
use super::{Exit, Output, counted, failed_to};
use crate::app::exit_of;
use crate::config::Settings;
use crate::domain::{Seq, Topic};
use crate::journal::{self, Cut, Damage, Inspection, JournalError, REPAIR_HINT, RealFs, Record, Repair};
use crate::terminal;
use crate::terminal::progress::{ProgressDisplay, Unit};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what the journal holds, how much of it is pending, and when it will be full; exit code 3 if it is damaged
    Inspect {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Read every record and check it; exit code 3 if the journal is damaged
    Verify,
    /// Repair a damaged journal: keep every readable record, keep a copy of what is cut out, record what is lost. Stop the
    /// service first
    Repair,
    /// Print the readable records as JSON, one per line; exit code 3 if some cannot be read
    Export {
        /// The first record
        #[arg(long, value_name = "SEQ", default_value_t = 1, value_parser = whole_number::<u64>)]
        from: u64,
        /// The last record [default: the newest]
        #[arg(long, value_name = "SEQ", value_parser = whole_number::<u64>)]
        to: Option<u64>,
    },
}

pub(super) fn run(command: &Command, settings: &Settings) -> Output {
    let dir = &settings.journal.dir;
    if let Err(complaint) = check_directory(dir) {
        return Output::failed(Exit::Failure, complaint);
    }
    let done = match command {
        Command::Inspect { json } => inspect::run(dir, settings, *json),
        Command::Verify => verify(dir),
        Command::Repair => {
            journal::repair(dir, &RealFs).map(|repair| Output::clean(repair_text(dir, &repair)))
        }
        Command::Export { from, to } => export(dir, Seq(*from), to.map_or(Seq(u64::MAX), Seq)),
    };
    let output = done.unwrap_or_else(|error| Output::failed(exit_of(&error), failed_to(&error)));
    if matches!(command, Command::Repair) {
        let action = ("journal repair", Detail::LastLine);
        return audit::recorded(settings, action, dir.display().to_string(), output);
    }
    output
}

fn verify(dir: &Path) -> Result<Output, JournalError> {
    let found = read_whole(dir, &mut |_| {})?;
    let (complaints, exit) = complaints(&found.damage);
    Ok(Output { text: verdict(dir, &found), complaints, exit })
}

/// Reads the whole journal and shows the progress; visits each whole record.
fn read_whole(dir: &Path, visit: &mut dyn FnMut(Record<'_>)) -> Result<Inspection, JournalError> {
    let bytes = journal::segment_files_bytes(dir, &RealFs)?;
    let progress = ProgressDisplay::start("reading the journal", Unit::Bytes, 0, Some(bytes));
    journal::inspect_records(dir, &RealFs, &mut |record| {
        progress.advance(record.bytes());
        visit(record);
    })
}

/// Returns a line for each damaged place, and what to do.
fn complaints(damage: &[Damage]) -> (Vec<String>, Exit) {
    if damage.is_empty() {
        return (Vec::new(), Exit::Clean);
    }
    let lines = damage.iter().map(damage_line).chain([REPAIR_HINT.to_owned()]);
    (lines.collect(), Exit::JournalDamaged)
}

/// Writes each record when it has read it: a journal may be larger than memory.
fn export(dir: &Path, from: Seq, to: Seq) -> Result<Output, JournalError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let exported = journal::export(dir, &RealFs, from, to, &mut |record| {
        written = writeln!(out, "{}", terminal::json(&record_json(record).to_string()));
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
        "topic": message.topic.to_text(),
    });
    if message.clock_unset {
        object["clock_unset"] = true.into();
    }
    if let Topic::Invalid(bytes) = message.topic {
        object["topic_hex"] = hex(bytes).into();
    }
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
        return format!("{shown} is not damaged; nothing was changed\n");
    }
    let mut text: String = repair.cuts.iter().map(cut_line).collect();
    if let Some(id) = repair.new_identity {
        text.push_str(&format!(
            "the journal continues under the new id {id}: all its records count as pending\n"
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

/// Refuses a missing journal: it is more likely a mistake in the configuration than an empty journal.
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
        Err(error) => Err(format!("cannot read the directory of the journal {shown} (journal.dir): {error}")),
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
        0 => format!("{shown} is not damaged: {records} in {segments}\n") + &remarks(found),
        places => {
            // Also those behind a damaged place: an export prints them, and a repair keeps them.
            let exported =
                journal::export(dir, &RealFs, Seq::ZERO, Seq(u64::MAX), &mut |_| ControlFlow::Continue(()));
            let readable = exported.map_or(found.records, |exported| exported.records);
            let (places, records) = (counted(places as u64, "place"), counted(readable, "record"));
            format!("{shown} is damaged in {places}; {records} can be read\n")
        }
    }
}

/// Returns a line for what is no damage but worth knowing.
fn remarks(found: &Inspection) -> String {
    let mut text = String::new();
    for Damage { path, offset, what } in &found.torn {
        let path = path.display();
        text.push_str(&format!(
            "torn tail, left by a crash: {path} at byte {offset}: {what}; the next start cuts it\n"
        ));
    }
    for hole in &found.holes {
        text.push_str(&format!("missing seq {hole}: lost to damage, recorded by an earlier repair\n"));
    }
    text
}

fn damage_json(damage: &[Damage]) -> serde_json::Value {
    let place = |place: &Damage| json!({"path": place.path.display().to_string(), "offset": place.offset, "what": place.what});
    damage.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn a_missing_or_empty_journal_is_reported() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("missing");
        let said = check_directory(&missing).expect_err("it is missing");
        assert!(said.contains("does not exist") && said.contains("journal.dir"), "{said}");
        let said = check_directory(dir.path()).expect_err("it is empty");
        assert!(said.contains("is empty"), "{said}");
    }

    #[test]
    fn a_record_is_shown_as_text_or_else_as_hex() {
        let message = |payload| crate::domain::Message {
            received_at: Timestamp::from_micros(1_700_000_000_000_000),
            qos: crate::domain::Qos::AtLeastOnce,
            retained: false,
            clock_unset: false,
            topic: "a/b".into(),
            payload,
        };
        let shown = |payload| record_json(Record { seq: Seq(7), message: message(payload) });
        let text = shown(b"{\"t\":1}");
        assert_eq!((&text["payload"], &text["seq"]), (&json!("{\"t\":1}"), &json!(7)));
        assert!(text.get("payload_hex").is_none());
        let binary = shown(&[0, 255, 16]);
        assert_eq!(binary["payload_hex"], "00ff10");
        assert!(binary.get("payload").is_none() && binary.get("topic_hex").is_none());
        let no_topic = crate::domain::Message { topic: Topic::from_bytes(b"a\xff"), ..message(b"") };
        let shown = record_json(Record { seq: Seq(7), message: no_topic });
        assert_eq!((&shown["topic"], &shown["topic_hex"]), (&json!("a\u{FFFD}"), &json!("61ff")));
    }
}
