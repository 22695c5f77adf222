//! `andon rejected retry`: interprets kept payloads again, with the present configuration.

use std::collections::BTreeMap;

use super::filter::Filter;
use super::{Exit, Failure, Output, show};
use crate::app::payload_options;
use crate::cli::arguments::whole_number;
use crate::cli::counted;
use crate::config::Settings;
use crate::domain::{Message, REJECTED_PAYLOAD_BYTES_MAX, Reading, RejectReason, Rejection};
use crate::payload::{Outcome, PayloadRules, digest};
use crate::store::{
    ReadingRow, RejectedPage, RejectedRow, RejectionRow, Retry, RetryOutcome, Store, StoreError,
};
use crate::terminal;
use crate::terminal::progress::{ProgressDisplay, Unit};

/// Rows held at once, each of at most 64 KiB.
const PAGE_ROWS: u32 = 200;
/// Most rows to list one by one; the others are counted.
const LISTED_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    /// Ids, from `andon rejected list`
    #[arg(value_name = "ID", value_parser = whole_number::<i64>, conflicts_with_all = ["all", "reason", "topic", "since", "from", "to"])]
    ids: Vec<i64>,
    #[command(flatten)]
    filter: Filter,
    /// Every rejected message of the site
    #[arg(long)]
    all: bool,
    /// Only show what would happen
    #[arg(long)]
    dry_run: bool,
}

impl Options {
    /// True if nothing is changed.
    pub(super) const fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Says for the audit log which messages are meant.
    pub(super) fn target(&self) -> String {
        if self.ids.is_empty() {
            return self.filter.words().unwrap_or_else(|| "all".to_owned());
        }
        self.ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

pub(super) fn run(options: &Options, store: &mut dyn Store, settings: &Settings) -> Result<Output, Failure> {
    let rules =
        PayloadRules::new(payload_options(settings)).map_err(|error| Failure::usage(error.to_string()))?;
    if options.ids.is_empty() && options.filter.is_empty() && !options.all {
        return Err(Failure::usage("nothing selected: give ids, a filter such as --reason, or --all"));
    }
    let progress = start_progress(options, store)?;
    let mut run = RetryRun { rules, dry_run: options.dry_run, progress, summary: Summary::default() };
    if options.ids.is_empty() {
        run.all_of(&options.filter, store)?;
    } else {
        for id in &options.ids {
            match show::find(store, *id) {
                Ok(row) => run.one(&row, store)?,
                Err(failure) => run.summary.missing.push(failure.complaint),
            }
        }
    }
    Ok(run.summary.into_output(options.dry_run))
}

fn start_progress(options: &Options, store: &mut dyn Store) -> Result<ProgressDisplay, Failure> {
    let wanted = if options.ids.is_empty() {
        let counts = store.rejected_counts(&options.filter.store_filter())?;
        let matching = counts.iter().filter(|count| options.filter.matches_topic(&count.topic));
        matching.map(|count| count.elements).sum()
    } else {
        options.ids.len() as u64
    };
    let unit = Unit::Things("rejected messages");
    Ok(ProgressDisplay::start("interpreting again", unit, 0, Some(wanted)))
}

struct RetryRun {
    rules: PayloadRules,
    dry_run: bool,
    progress: ProgressDisplay,
    summary: Summary,
}

impl RetryRun {
    /// Retries each row once, oldest first. Rows that are written meanwhile have larger ids and are left alone.
    fn all_of(&mut self, filter: &Filter, store: &mut dyn Store) -> Result<(), Failure> {
        let store_filter = filter.store_filter();
        let whole = u32::try_from(REJECTED_PAYLOAD_BYTES_MAX).unwrap_or(u32::MAX);
        let newest = store.rejected(&store_filter, RejectedPage::Before(i64::MAX), 1, 0)?;
        let Some(newest) = newest.first().map(|row| row.id) else { return Ok(()) };
        let mut after = i64::MIN;
        loop {
            let rows = store.rejected(&store_filter, RejectedPage::After(after), PAGE_ROWS, whole)?;
            let Some(last) = rows.last().map(|row| row.id) else { return Ok(()) };
            after = last;
            let wanted = |row: &&RejectedRow| row.id <= newest && filter.matches_topic(&row.topic);
            for row in rows.iter().filter(wanted) {
                self.one(row, store)?;
            }
            if after >= newest {
                return Ok(());
            }
        }
    }

    fn one(&mut self, row: &RejectedRow, store: &mut dyn Store) -> Result<(), StoreError> {
        match interpret(row, &self.rules) {
            Err(why) => self.summary.still(row, why),
            Ok(retry) if self.dry_run => {
                self.summary.stored += retry.readings.len() as u64;
                self.summary.settled += 1;
            }
            Ok(retry) => match store.retry(&retry)? {
                RetryOutcome::Settled { stored, duplicate, .. } => {
                    self.summary.stored += stored;
                    self.summary.duplicate += duplicate;
                    self.summary.settled += 1;
                }
                RetryOutcome::Refused(words) => {
                    self.summary
                        .still(row, format!("store_rejected: the database still refuses it: {words}"));
                }
                RetryOutcome::Gone => self.summary.gone += 1,
            },
        }
        self.progress.advance(1);
        Ok(())
    }
}

/// Interprets the kept bytes of a row, or says why they are no reading.
///
/// Only the bytes of a rejected element are kept, not of the array around it, so they are read as a message. An element
/// that is itself an array stays rejected. A message that was rejected as a whole may be an array of elements.
fn interpret(row: &RejectedRow, rules: &PayloadRules) -> Result<Retry, String> {
    if is_cut(row) {
        return Err("cannot be tried: only a part of its payload was kept".to_owned());
    }
    if row.reason == RejectReason::InvalidTopic.as_str() {
        return Err(format!("{}: no configuration makes the topic valid", row.reason));
    }
    let mut outcomes = Vec::new();
    rules.interpret(&message_of(row), &mut outcomes);
    // PAY-1: there is at least one outcome.
    let is_array =
        outcomes.len() > 1 || outcomes.first().is_some_and(|outcome| outcome.raw.len() < row.payload.len());
    if is_array && !is_whole_message(row) {
        return Err("not_an_object: it is an element of an array, and itself an array".to_owned());
    }
    let first_problem = outcomes.iter().find_map(|outcome| outcome.result.as_ref().err());
    let problem = first_problem.map(|rejection| format!("{}: {}", rejection.reason, rejection.detail));
    let retry = retry_of(row, outcomes, is_array);
    match problem {
        Some(problem) if retry.readings.is_empty() => Err(problem),
        _ => Ok(retry),
    }
}

fn message_of(row: &RejectedRow) -> Message<'_> {
    Message {
        received_at: row.received_at,
        qos: row.qos,
        retained: row.retained,
        clock_unset: row.clock_unset,
        topic: row.topic.as_str().into(),
        payload: &row.payload,
    }
}

fn retry_of(row: &RejectedRow, outcomes: Vec<Outcome>, is_array: bool) -> Retry {
    let mut retry = Retry {
        id: row.id,
        journal_id: row.journal_id.clone(),
        readings: Vec::new(),
        rejections: Vec::new(),
    };
    for Outcome { element, raw, result } in outcomes {
        // A single object keeps its place in the array.
        let element = if is_array { element } else { row.element };
        match result {
            Ok(reading) => retry.readings.push(reading_row(row, element, &row.payload[raw], reading)),
            Err(rejection) => retry.rejections.push(rejected_again(row, element, rejection)),
        }
    }
    retry
}

fn reading_row(row: &RejectedRow, element: u32, payload: &[u8], reading: Reading) -> ReadingRow {
    ReadingRow {
        reading: Reading { digest: digest(payload, reading.time_source, element), ..reading },
        seq: row.seq,
        element,
        received_at: row.received_at,
        topic: row.topic.as_str().into(),
        qos: row.qos,
        retained: row.retained,
        clock_unset: row.clock_unset,
        payload: payload.to_vec(),
    }
}

fn rejected_again(row: &RejectedRow, element: u32, rejection: Rejection) -> RejectionRow {
    RejectionRow {
        seq: row.seq,
        element,
        received_at: row.received_at,
        topic: row.topic.as_str().into(),
        qos: row.qos,
        retained: row.retained,
        clock_unset: row.clock_unset,
        rejection,
    }
}

/// True if bytes may be missing, because the table or the journal keeps only the first part of a payload.
fn is_cut(row: &RejectedRow) -> bool {
    row.payload.len() >= REJECTED_PAYLOAD_BYTES_MAX || row.payload_bytes > row.payload.len() as u64
}

/// True if the whole message was rejected, not one element of an array.
fn is_whole_message(row: &RejectedRow) -> bool {
    let reasons = [RejectReason::InvalidJson, RejectReason::InvalidUtf8, RejectReason::TooLarge];
    row.element == 0 && reasons.iter().any(|reason| reason.as_str() == row.reason)
}

/// What a run of `retry` did.
#[derive(Default)]
struct Summary {
    /// Rows that became readings.
    settled: u64,
    stored: u64,
    duplicate: u64,
    /// Rows that were deleted meanwhile.
    gone: u64,
    still: BTreeMap<String, u64>,
    listed: Vec<String>,
    missing: Vec<String>,
}

impl Summary {
    /// Counts a row that is still rejected; `why` begins with the word of its reason.
    fn still(&mut self, row: &RejectedRow, why: String) {
        let reason = why.split(':').next().unwrap_or_default().to_owned();
        *self.still.entry(reason).or_default() += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(format!("{}: {}", row.id, terminal::one_line(why.as_bytes(), 300)));
        }
    }

    fn into_output(self, dry_run: bool) -> Output {
        let mut text: String = self.listed.iter().map(|line| format!("{line}\n")).collect();
        let still: u64 = self.still.values().sum();
        if still > self.listed.len() as u64 {
            text.push_str(&format!("… and {} more\n", still - self.listed.len() as u64));
        }
        let tried = self.settled + still + self.gone;
        let would = if dry_run { "would be " } else { "" };
        text.push_str(&format!("{} tried: ", counted(tried, "rejected message")));
        text.push_str(&match (dry_run, self.duplicate) {
            (true, _) => format!("{} {would}stored (or already stored)", counted(self.stored, "reading")),
            (false, duplicate) => {
                format!("{} stored, {duplicate} already stored", counted(self.stored, "reading"))
            }
        });
        text.push_str(&format!(", {still} still rejected\n"));
        for (reason, count) in &self.still {
            text.push_str(&format!("  {count} {reason}\n"));
        }
        if self.gone > 0 {
            text.push_str(&format!("  {} deleted meanwhile\n", self.gone));
        }
        let exit = if self.missing.is_empty() { Exit::Clean } else { Exit::Failure };
        Output { text, complaints: self.missing, exit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Qos, Seq, TimeSource, Timestamp};
    use crate::payload::PayloadOptions;

    fn rules(pointer: &str) -> PayloadRules {
        PayloadRules::new(PayloadOptions {
            max_ahead: std::time::Duration::from_secs(86_400),
            max_payload: 256 * 1024,
            segments: Vec::new(),
            machine_id_from: crate::domain::MachineIdFrom::Payload,
            fields: [("machine_id".to_owned(), pointer.to_owned())].into(),
        })
        .unwrap()
    }

    fn row(reason: &str, element: u32, payload: &[u8]) -> RejectedRow {
        RejectedRow {
            id: 7,
            journal_id: "j".to_owned(),
            seq: Seq(3),
            element,
            received_at: Timestamp::from_micros(1_767_595_199_000_000),
            topic: "a/b".to_owned(),
            qos: Qos::AtLeastOnce,
            retained: false,
            clock_unset: false,
            payload: payload.to_vec(),
            payload_bytes: payload.len() as u64,
            reason: reason.to_owned(),
            detail: String::new(),
        }
    }

    #[test]
    fn a_corrected_mapping_makes_a_reading_with_the_same_identity_and_place() {
        let payload = br#"{"dev": {"id": "Press-1"}, "temperature": 3}"#;
        let rejected = row("missing_machine_id", 4, payload);
        assert!(interpret(&rejected, &rules("/machine_id")).unwrap_err().starts_with("missing_machine_id: "));
        let retry = interpret(&rejected, &rules("/dev/id")).unwrap();
        let reading = &retry.readings[0];
        assert_eq!((reading.seq, reading.element, reading.received_at), (Seq(3), 4, rejected.received_at));
        assert_eq!(reading.reading.machine_id.as_str(), "press-1");
        assert_eq!(
            reading.reading.digest,
            digest(payload, TimeSource::Server, 4),
            "its place in the array counts"
        );
        assert_eq!(reading.reading.recorded_at, rejected.received_at, "received_at of the original");
        assert!(retry.rejections.is_empty());
    }

    #[test]
    fn a_message_that_came_while_the_clock_was_unset_keeps_the_time_of_its_device() {
        let payload = br#"{"id": "a", "timestamp": "2026-06-01T00:00:00Z"}"#;
        let mut rejected = row("missing_machine_id", 0, payload);
        let time_of = |row: &RejectedRow| {
            let reading = &interpret(row, &rules("/id")).unwrap().readings[0].reading;
            (reading.time_source, reading.recorded_at)
        };
        assert_eq!(time_of(&rejected), (TimeSource::Server, rejected.received_at), "it is months ahead");
        rejected.clock_unset = true;
        assert_eq!(time_of(&rejected), (TimeSource::Device, Timestamp::from_micros(1_780_272_000_000_000)));
    }

    #[test]
    fn only_a_message_that_was_rejected_as_a_whole_can_turn_out_to_be_an_array() {
        let payload = br#"[{"id": "a"}, 5, {"id": "b"}]"#;
        let retry = interpret(&row("too_large", 0, payload), &rules("/id")).unwrap();
        let places: Vec<u32> = retry.readings.iter().map(|reading| reading.element).collect();
        assert_eq!((places, retry.rejections[0].element), (vec![0, 2], 1));
        for element in [row("not_an_object", 0, payload), row("too_large", 1, payload)] {
            assert!(interpret(&element, &rules("/id")).unwrap_err().starts_with("not_an_object: "));
        }
        let hopeless = row("invalid_json", 0, b"[1, 2]");
        assert!(interpret(&hopeless, &rules("/id")).unwrap_err().starts_with("not_an_object: "));
    }

    #[test]
    fn a_payload_that_may_be_cut_is_not_retried() {
        let whole = format!("{{\"id\": \"a\", \"x\": \"{}\"}}", "y".repeat(REJECTED_PAYLOAD_BYTES_MAX));
        let kept = &whole.as_bytes()[..REJECTED_PAYLOAD_BYTES_MAX];
        assert!(
            interpret(&row("store_rejected", 0, kept), &rules("/id"))
                .unwrap_err()
                .contains("only a part of its payload")
        );
        let fits = format!("{{\"id\": \"a\", \"x\": \"{}\"}}", "y".repeat(REJECTED_PAYLOAD_BYTES_MAX - 100));
        assert!(interpret(&row("store_rejected", 0, fits.as_bytes()), &rules("/id")).is_ok());
    }
}
