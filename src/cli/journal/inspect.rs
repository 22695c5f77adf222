//! `andon journal inspect`: the journal as it lies on disk, and the ledger, for which the database is asked.
//!
//! Changes nothing in either, and runs beside the service. With the database away it tells what the journal alone knows.

use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Output, complaints, damage_json, remarks};
use crate::app::store_options;
use crate::cli::{db, table};
use crate::clock::wall_now;
use crate::config::Settings;
use crate::domain::duration_text::rounded;
use crate::domain::{JournalId, Ledger, Seq, Timestamp};
use crate::journal::{self, Inspection, JournalError, RealFs, SegmentSummary};
use crate::logging::causes;
use crate::status::{Pace, Room, TimeToFull};
use crate::store::{self, Store, StoreError};

/// A person waits no longer than this for a database that does not answer.
const DATABASE_PATIENCE: Duration = Duration::from_secs(5);
/// Arrivals are counted over this.
const ARRIVALS_WINDOW: Duration = Duration::from_secs(60);
/// Commits are watched for this, if anything is pending.
const COMMITS_WINDOW: Duration = Duration::from_secs(1);

pub(super) fn run(dir: &Path, settings: &Settings, as_json: bool) -> Result<Output, JournalError> {
    let (journal_id, noted) = journal::identity(dir, &RealFs).unwrap_or_default().unzip();
    // Before the journal is read: what is committed then is journaled in what is read.
    let database = Database::ask(settings, journal_id);
    let committed = database.as_ref().ok().map(|database| database.ledger.committed_seq).or(noted);
    let mut tail = Tail::new(committed, wall_now());
    let found = journal::inspect_records(dir, &RealFs, &mut |record| {
        tail.note(record.seq, record.message.received_at);
    })?;
    let figures = Statistics::new(&found, &tail, database, settings.journal.max_bytes);
    let (complaints, exit) = complaints(&found.damage);
    let text =
        if as_json { format!("{:#}\n", json(dir, &found, &figures)) } else { text(dir, &found, &figures) };
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
    /// Asks, or says why there is no answer.
    fn ask(settings: &Settings, journal_id: Option<JournalId>) -> Result<Self, String> {
        if let Some(complaint) = db::missing_file(settings) {
            return Err(complaint);
        }
        let mut options = store_options(settings);
        options.connect_timeout = options.connect_timeout.min(DATABASE_PATIENCE);
        options.lock_timeout = options.lock_timeout.min(DATABASE_PATIENCE);
        within_patience(move || {
            let mut store = store::open(&options)?;
            let ledger = ledger_of(&mut *store, journal_id)?;
            Ok(Self { store, journal_id, ledger, asked: Instant::now() })
        })
    }

    /// Messages committed per second, watched for a moment.
    fn leaving(mut self) -> Result<f64, String> {
        thread::sleep(COMMITS_WINDOW.saturating_sub(self.asked.elapsed()));
        let (before, asked) = (self.ledger, self.asked);
        let after = within_patience(move || ledger_of(&mut *self.store, self.journal_id))?;
        let seconds = asked.elapsed().as_secs_f64();
        Ok(after.committed_seq.since(before.committed_seq) as f64 / seconds)
    }
}

/// The ledger of a journal; all zero if it has not committed here yet.
fn ledger_of(store: &mut dyn Store, journal_id: Option<JournalId>) -> Result<Ledger, StoreError> {
    let checkpoints = store.checkpoints()?;
    let id = journal_id.map(|id| id.to_string());
    let own = checkpoints.iter().find(|checkpoint| Some(&checkpoint.journal_id) == id.as_ref());
    Ok(own.map_or_else(Ledger::default, store::Checkpoint::ledger))
}

/// Runs `work` on a thread of its own: a frozen server answers no timeout.
fn within_patience<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, String> {
    let (reply, answer) = channel();
    thread::spawn(move || reply.send(work()));
    // Longer than the timeouts that give a better reason.
    match answer.recv_timeout(DATABASE_PATIENCE * 2) {
        Ok(result) => result.map_err(|error| format!("failed to {}", causes(&error))),
        Err(_) => Err("the database does not answer".to_owned()),
    }
}

/// What is seen of the records on the way along the journal.
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

    /// Messages journaled per second, over the last minute or the journal's age.
    fn arriving(&self) -> f64 {
        let age = self.oldest.map_or(ARRIVALS_WINDOW, |oldest| self.now.since(oldest));
        self.recent as f64 / age.clamp(Duration::from_secs(1), ARRIVALS_WINDOW).as_secs_f64()
    }
}

/// The ledger and the forecast.
struct Statistics {
    journaled: Seq,
    /// The database's word, or why it is not known.
    ledger: Result<Ledger, String>,
    /// As the database says, or as last noted in the journal.
    committed: Option<Seq>,
    /// An upper bound if the database was not there to ask.
    pending: u64,
    oldest_pending: Option<Duration>,
    bytes_max: u64,
    pace: Pace,
    full_in: TimeToFull,
}

impl Statistics {
    fn new(found: &Inspection, tail: &Tail, database: Result<Database, String>, bytes_max: u64) -> Self {
        let ledger = database.as_ref().map(|database| database.ledger).map_err(String::clone);
        let committed = ledger.as_ref().ok().map(|ledger| ledger.committed_seq).or(found.committed_hint);
        let journaled = found.newest();
        let pending = journaled.since(committed.unwrap_or(Seq::ZERO));
        let arriving = tail.arriving();
        // Who cannot ask takes it that nothing is committed.
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
                lines.push(format!("committed  {noted} (last noted here; the database knows better)"));
                lines.push(format!("database   could not be asked: {reason}"));
                ("at most ", "for at most")
            }
        };
        let waiting = self.oldest_pending.map(|age| format!(", the oldest {oldest} {}", rounded(age)));
        lines.push(format!("pending    {about}{}{}", self.pending, waiting.unwrap_or_default()));
        lines.push(format!(
            "full in    {} ({:.1} messages a second come, {:.1} are stored)",
            self.full_in, self.pace.arriving, self.pace.leaving
        ));
        lines
    }
}

fn text(dir: &Path, found: &Inspection, figures: &Statistics) -> String {
    let records = match found.range() {
        Some((first, last)) => format!("{} (seq {first} to {last})", found.records),
        None => "0".to_owned(),
    };
    let mut lines = vec![
        format!("journal    {}", dir.display()),
        format!("id         {}", found.journal_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string())),
        format!("records    {records}"),
        format!("bytes      {} of {}", found.bytes, figures.bytes_max),
    ];
    lines.extend(figures.lines());
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

fn json(dir: &Path, found: &Inspection, figures: &Statistics) -> serde_json::Value {
    let ledger = figures.ledger.as_ref().ok();
    let count = |pick: fn(&Ledger) -> u64| ledger.map(pick);
    json!({
        "dir": dir.display().to_string(),
        "journal_id": found.journal_id.map(|id| id.to_string()),
        "first_seq": found.range().map(|(first, _)| first.0),
        "last_seq": found.range().map(|(_, last)| last.0),
        "records": found.records,
        "bytes": found.bytes,
        "bytes_max": figures.bytes_max,
        "journaled": figures.journaled.0,
        "committed": figures.committed.map(|seq| seq.0),
        "committed_hint": found.committed_hint.map(|seq| seq.0),
        "pending": ledger.map(|_| figures.pending),
        "pending_max": figures.pending,
        "oldest_pending_seconds": figures.oldest_pending.map(|age| age.as_secs_f64()),
        "arriving_per_second": figures.pace.arriving,
        "stored_per_second": figures.pace.leaving,
        "full_in_seconds": figures.full_in.seconds(),
        "messages": count(|ledger| ledger.messages),
        "elements": count(Ledger::elements),
        "stored": count(|ledger| ledger.stored),
        "duplicate": count(|ledger| ledger.duplicate),
        "rejected": count(|ledger| ledger.rejected),
        "control": count(|ledger| ledger.control),
        "database_error": figures.ledger.as_ref().err(),
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
    fn without_the_database_pending_is_what_the_hint_leaves_and_said_to_be_a_bound() {
        let found = inspection(vec![segment(5, Some(9)), segment(10, Some(20)), segment(21, None)]);
        assert_eq!((found.range(), found.newest()), (Some((Seq(5), Seq(20))), Seq(20)));
        let mut tail = Tail::new(Some(Seq(12)), second(1_000));
        (5..=20).for_each(|seq| tail.note(Seq(seq), second(900 + seq as i64)));
        let figures = Statistics::new(&found, &tail, Err("it is away".to_owned()), 10_300);
        assert_eq!(figures.pending, 8);
        let said = figures.lines().join("\n");
        assert!(said.contains("pending    at most 8, the oldest for at most 1m 27s"), "{said}");
        assert!(said.contains("could not be asked: it is away"), "{said}");
        // 300 bytes of 16 records, and 10,000 free; nobody came within the last minute.
        assert_eq!(figures.full_in, TimeToFull::Never);

        let nothing_left = inspection(vec![segment(21, None)]);
        assert_eq!((nothing_left.range(), nothing_left.newest()), (None, Seq(20)));
        assert_eq!(inspection(Vec::new()).newest(), Seq::ZERO);
    }

    #[test]
    fn arrivals_are_those_of_the_last_minute_or_of_the_journals_age() {
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
