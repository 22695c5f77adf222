//! `andon journal inspect`: the journal on disk, and the ledger from the database.
//!
//! Changes neither, and runs beside the service. If the database is away it prints what the journal alone knows.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Output, complaints, damage_json, read_whole, remarks};
use crate::app::store_options;
use crate::cli::{db, failed_to, table};
use crate::clock::wall_now;
use crate::config::Settings;
use crate::domain::duration_text::rounded;
use crate::domain::{JournalId, Ledger, Seq, Timestamp};
use crate::journal::{self, Inspection, JournalError, RealFs, SegmentSummary};
use crate::status::{Pace, Room, TimeToFull};
use crate::store::{self, Store, StoreError};

/// How long to wait for a database that does not answer.
const DATABASE_WAIT_MAX: Duration = Duration::from_secs(5);
/// The time over which to count arrivals.
const ARRIVALS_WINDOW: Duration = Duration::from_secs(60);
/// The time over which to count commits, if anything is pending.
const COMMITS_WINDOW: Duration = Duration::from_secs(1);

pub(super) fn run(dir: &Path, settings: &Settings, as_json: bool) -> Result<Output, JournalError> {
    let (journal_id, noted) = journal::identity(dir, &RealFs).unwrap_or_default().unzip();
    // Before reading the journal: so every committed record is among those that are read.
    let database = Database::ask(settings, journal_id);
    let committed = database.as_ref().ok().map(|database| database.ledger.committed_seq).or(noted);
    let mut tail = Tail::new(committed, wall_now());
    let found = read_whole(dir, &mut |record| tail.note(record.seq, record.message.received_at))?;
    let report = Report::new(&found, &tail, database, settings.journal.max_bytes);
    let (complaints, exit) = complaints(&found.damage);
    let text =
        if as_json { format!("{:#}\n", json(dir, &found, &report)) } else { text(dir, &found, &report) };
    Ok(Output { text, complaints, exit })
}

/// What the database says of this journal.
struct Database {
    store: Box<dyn Store>,
    journal_id: Option<JournalId>,
    ledger: Ledger,
    asked: Instant,
}

impl Database {
    /// Asks the database, or says why there is no answer.
    fn ask(settings: &Settings, journal_id: Option<JournalId>) -> Result<Self, String> {
        if let Some(complaint) = db::missing_file(settings) {
            return Err(complaint);
        }
        let mut options = store_options(settings);
        options.connect_timeout = options.connect_timeout.min(DATABASE_WAIT_MAX);
        options.lock_timeout = options.lock_timeout.min(DATABASE_WAIT_MAX);
        within_wait_max(move || {
            let mut store = store::open(&options)?;
            let ledger = ledger_of(&mut *store, journal_id)?;
            Ok(Self { store, journal_id, ledger, asked: Instant::now() })
        })
    }

    /// Measures the messages committed per second.
    fn leaving(mut self) -> Result<f64, String> {
        thread::sleep(COMMITS_WINDOW.saturating_sub(self.asked.elapsed()));
        let (before, asked) = (self.ledger, self.asked);
        let after = within_wait_max(move || ledger_of(&mut *self.store, self.journal_id))?;
        let seconds = asked.elapsed().as_secs_f64();
        Ok(after.committed_seq.since(before.committed_seq) as f64 / seconds)
    }
}

/// Returns the ledger of a journal; all zero if it has not committed here yet.
fn ledger_of(store: &mut dyn Store, journal_id: Option<JournalId>) -> Result<Ledger, StoreError> {
    let checkpoints = store.checkpoints()?;
    let id = journal_id.map(|id| id.to_string());
    let own = checkpoints.iter().find(|checkpoint| Some(&checkpoint.journal_id) == id.as_ref());
    Ok(own.map_or_else(Ledger::default, |checkpoint| checkpoint.ledger))
}

/// Runs `work` on another thread: no timeout of a driver works with a frozen server.
fn within_wait_max<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, String> {
    let (reply, answer) = sync_channel(1);
    thread::spawn(move || reply.send(work()));
    // Longer than the timeouts of the driver, which know a better reason.
    match answer.recv_timeout(DATABASE_WAIT_MAX * 2) {
        Ok(result) => result.map_err(|error| failed_to(&error)),
        Err(_) => Err("the database does not answer".to_owned()),
    }
}

/// What the records of the journal show: arrivals, and what is pending.
struct Tail {
    committed: Option<Seq>,
    now: Timestamp,
    recent: u64,
    oldest: Option<Timestamp>,
    oldest_pending: Option<Timestamp>,
}

impl Tail {
    fn new(committed: Option<Seq>, now: Timestamp) -> Self {
        Self { committed, now, recent: 0, oldest: None, oldest_pending: None }
    }

    fn note(&mut self, seq: Seq, received_at: Timestamp) {
        self.oldest.get_or_insert(received_at);
        if self.now.since(received_at) < ARRIVALS_WINDOW {
            self.recent += 1;
        }
        if self.committed.is_none_or(|committed| seq > committed) {
            self.oldest_pending.get_or_insert(received_at);
        }
    }

    /// Returns the messages journaled per second, over the last minute or the age of the journal.
    fn arriving(&self) -> f64 {
        let age = self.oldest.map_or(ARRIVALS_WINDOW, |oldest| self.now.since(oldest));
        self.recent as f64 / age.clamp(Duration::from_secs(1), ARRIVALS_WINDOW).as_secs_f64()
    }
}

/// The ledger and the forecast.
struct Report {
    journaled: Seq,
    /// As the database says, or why that is unknown.
    ledger: Result<Ledger, String>,
    /// As the database says, or as the journal last noted.
    committed: Option<Seq>,
    /// An upper bound if the database is away.
    pending: u64,
    oldest_pending: Option<Duration>,
    bytes_max: u64,
    pace: Pace,
    full_in: TimeToFull,
}

impl Report {
    fn new(found: &Inspection, tail: &Tail, database: Result<Database, String>, bytes_max: u64) -> Self {
        let ledger = database.as_ref().map(|database| database.ledger).map_err(String::clone);
        let committed = ledger.as_ref().ok().map(|ledger| ledger.committed_seq).or(found.committed_hint);
        let journaled = found.newest();
        let pending = journaled.since(committed.unwrap_or(Seq::ZERO));
        let arriving = tail.arriving();
        // Without the database: assumes that nothing is being committed.
        let leaving = match database {
            _ if pending == 0 => arriving,
            Ok(database) => database.leaving().unwrap_or(0.0),
            Err(_) => 0.0,
        };
        let pace = Pace { arriving, leaving };
        let room = Room::new(false, found.bytes, bytes_max, found.records);
        let oldest_pending = tail.oldest_pending.filter(|_| pending > 0);
        Self {
            journaled,
            ledger,
            committed,
            pending,
            oldest_pending: oldest_pending.map(|oldest| tail.now.since(oldest)),
            bytes_max,
            pace,
            full_in: TimeToFull::forecast(room, Some(pace)),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("journaled  {}", self.journaled)];
        let (about, oldest) = match &self.ledger {
            Ok(ledger) => {
                let (messages, seq) = (ledger.messages, ledger.committed_seq);
                lines.push(format!("committed  {messages}, up to seq {seq}"));
                lines.push(format!(
                    "elements   {}: {} stored, {} duplicate, {} rejected, {} control",
                    ledger.elements(),
                    ledger.stored,
                    ledger.duplicate,
                    ledger.rejected,
                    ledger.control
                ));
                ("", "for")
            }
            Err(reason) => {
                let noted =
                    self.committed.map_or_else(|| "unknown".to_owned(), |seq| format!("up to seq {seq}"));
                lines.push(format!("committed  {noted} (as last noted in the journal; may be more)"));
                lines.push(format!("database   unavailable: {reason}"));
                ("at most ", "for at most")
            }
        };
        let waiting = self.oldest_pending.map(|age| format!(", the oldest {oldest} {}", rounded(age)));
        lines.push(format!("pending    {about}{}{}", self.pending, waiting.unwrap_or_default()));
        lines.push(format!(
            "full in    {} ({:.1} messages per second arrive, {:.1} are stored)",
            self.full_in, self.pace.arriving, self.pace.leaving
        ));
        lines
    }
}

fn text(dir: &Path, found: &Inspection, report: &Report) -> String {
    let records = match found.range() {
        Some((first, last)) => format!("{} (seq {first} to {last})", found.records),
        None => "0".to_owned(),
    };
    let mut lines = vec![
        format!("journal    {}", dir.display()),
        format!("id         {}", found.journal_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string())),
        format!("records    {records}"),
        format!("bytes      {} of {}", found.bytes, report.bytes_max),
    ];
    lines.extend(report.lines());
    if found.torn_tail_bytes > 0 {
        lines.push(format!(
            "torn tail  {} bytes behind the last record: a record being written, or cut at the next start",
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

fn json(dir: &Path, found: &Inspection, report: &Report) -> serde_json::Value {
    let ledger = report.ledger.as_ref().ok();
    let count = |pick: fn(&Ledger) -> u64| ledger.map(pick);
    json!({
        "dir": dir.display().to_string(),
        "journal_id": found.journal_id.map(|id| id.to_string()),
        "first_seq": found.range().map(|(first, _)| first.0),
        "last_seq": found.range().map(|(_, last)| last.0),
        "records": found.records,
        "bytes": found.bytes,
        "bytes_max": report.bytes_max,
        "journaled": report.journaled.0,
        "committed": report.committed.map(|seq| seq.0),
        "committed_hint": found.committed_hint.map(|seq| seq.0),
        "pending": ledger.map(|_| report.pending),
        "pending_max": report.pending,
        "oldest_pending_seconds": report.oldest_pending.map(|age| age.as_secs_f64()),
        "arriving_per_second": report.pace.arriving,
        "stored_per_second": report.pace.leaving,
        "full_in_seconds": report.full_in.seconds(),
        "messages": count(|ledger| ledger.messages),
        "elements": count(Ledger::elements),
        "stored": count(|ledger| ledger.stored),
        "duplicate": count(|ledger| ledger.duplicate),
        "rejected": count(|ledger| ledger.rejected),
        "control": count(|ledger| ledger.control),
        "database_error": report.ledger.as_ref().err(),
        "torn_tail_bytes": found.torn_tail_bytes,
        "torn": damage_json(&found.torn),
        "holes": found.holes.iter().map(|hole| json!({"from": hole.from.0, "to": hole.to.0})).collect::<Vec<_>>(),
        "kept_aside": found.kept_aside.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "damage": damage_json(&found.damage),
        "segments": found.segments.iter().map(segment_json).collect::<Vec<_>>(),
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

    fn segment(first: u64, last: Option<u64>) -> SegmentSummary {
        SegmentSummary {
            path: format!("{first}.seg").into(),
            first: Seq(first),
            last: last.map(Seq),
            records: last.map_or(0, |last| last - first + 1),
            bytes: 100,
            file_bytes: 200,
            received: None,
        }
    }

    fn inspection(segments: Vec<SegmentSummary>) -> Inspection {
        Inspection {
            journal_id: None,
            committed_hint: Some(Seq(12)),
            records: segments.iter().map(|segment| segment.records).sum(),
            bytes: 100 * segments.len() as u64,
            segments,
            torn_tail_bytes: 0,
            torn: Vec::new(),
            holes: Vec::new(),
            kept_aside: Vec::new(),
            damage: Vec::new(),
        }
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    #[test]
    fn without_the_database_pending_is_an_upper_bound_from_the_journal() {
        let found = inspection(vec![segment(5, Some(9)), segment(10, Some(20)), segment(21, None)]);
        assert_eq!((found.range(), found.newest()), (Some((Seq(5), Seq(20))), Seq(20)));
        let mut tail = Tail::new(Some(Seq(12)), second(1_000));
        (5..=20).for_each(|seq| tail.note(Seq(seq), second(900 + seq as i64)));
        let report = Report::new(&found, &tail, Err("no answer".to_owned()), 10_300);
        assert_eq!(report.pending, 8);
        let text = report.lines().join("\n");
        assert!(text.contains("pending    at most 8, the oldest for at most 1m 27s"), "{text}");
        assert!(text.contains("database   unavailable: no answer"), "{text}");
        // 300 bytes of 16 records, and 10,000 free; nothing arrived within the last minute.
        assert_eq!(report.full_in, TimeToFull::Never);

        let nothing_left = inspection(vec![segment(21, None)]);
        assert_eq!((nothing_left.range(), nothing_left.newest()), (None, Seq(20)));
        assert_eq!(inspection(Vec::new()).newest(), Seq::ZERO);
    }

    #[test]
    fn arrivals_are_counted_over_the_last_minute_or_the_age_of_the_journal() {
        let mut tail = Tail::new(Some(Seq(100)), second(1_000));
        (1..=120).for_each(|seq| tail.note(Seq(seq), second(880 + seq as i64)));
        assert_eq!(tail.arriving(), 1.0);
        assert_eq!(tail.oldest_pending, Some(second(981)), "the first one behind the position");
        let mut young = Tail::new(None, second(1_000));
        (1..=50).for_each(|seq| young.note(Seq(seq), second(990)));
        assert_eq!(young.arriving(), 5.0);
        assert_eq!(Tail::new(None, second(1_000)).arriving(), 0.0);
    }
}
