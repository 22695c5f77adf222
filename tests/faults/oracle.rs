//! The oracle: what was sent against what is stored, and the ledger to the message.
//!
//! Everything that any fault test concludes about messages is concluded here. It looks from outside, into the tables and into
//! the journal's directory, when Andon has stopped.

use std::collections::BTreeMap;
use std::path::Path;

use andon::journal::{RealFs, inspect};

use super::load;
use crate::support::database::Database;

/// What was sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// Numbered messages: 0 to this, without it.
    pub numbered: u64,
    /// Other messages that make one row each.
    pub others: u64,
    /// Messages that are rejected, each once.
    pub hopeless: u64,
    /// Machines that spoke.
    pub machines: u64,
    /// The journal may have given up its oldest records (`drop_oldest`): what is in `journal_gap` may be missing.
    pub may_give_up: bool,
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Numbers without a row.
    pub lost: Vec<u64>,
    /// Numbers with more than one row.
    pub doubled: Vec<u64>,
    /// Rows that nobody sent, or that are not as they were sent.
    pub strange: u64,
    /// Each sum of the ledger that does not come out, in words with the difference.
    pub ledger: Vec<String>,
    /// Events that nothing in the world caused, or that are missing.
    pub events: Vec<String>,
    /// Seqs in `journal_gap`.
    pub given_up: i64,
    /// Elements that were there already.
    pub duplicate: i64,
}

impl Verdict {
    /// Nothing lost, nothing twice, nothing false, nothing silent.
    pub fn is_exact(&self) -> bool {
        self.lost.is_empty()
            && self.doubled.is_empty()
            && self.strange == 0
            && self.ledger.is_empty()
            && self.events.is_empty()
    }
}

struct Ledger {
    committed: i64,
    messages: i64,
    stored: i64,
    duplicate: i64,
    rejected: i64,
    control: i64,
}

/// Judges the database at `url` and the journal in `journal`.
pub fn judge(url: &str, journal: &Path, sent: Sent) -> Verdict {
    let mut database = Database::open(url).expect("the database is there to be judged");
    let mut verdict = Verdict::default();
    judge_rows(&mut database, url, sent, &mut verdict);
    judge_ledger(&mut database, journal, sent, &mut verdict);
    judge_events(&mut database, sent, &mut verdict);
    verdict
}

/// How many of the numbered messages have a row; 0 while the database is not there.
pub fn numbers_stored(url: &str) -> u64 {
    let number = number_column(url);
    let sql = format!("SELECT count(DISTINCT {number}) AS value FROM machine_telemetry");
    let count = Database::open(url).and_then(|mut database| database.try_number(&sql));
    count.map_or(0, |count| u64::try_from(count).unwrap())
}

fn number_column(url: &str) -> &'static str {
    if url.starts_with("sqlite") { "json_extract(extra, '$.n')" } else { "(extra->>'n')::bigint" }
}

fn judge_rows(database: &mut Database, url: &str, sent: Sent, verdict: &mut Verdict) {
    let number = number_column(url);
    let sql = format!(
        "SELECT coalesce(CAST({number} AS text), '-') || ' ' || coalesce(CAST(temperature AS text), '-') AS value \
         FROM machine_telemetry"
    );
    let mut times_stored: BTreeMap<u64, u32> = BTreeMap::new();
    let mut others = 0;
    for row in database.words(&sql).into_iter().flatten() {
        let (number, temperature) = row.split_once(' ').unwrap();
        match number.parse::<u64>() {
            Ok(number) if number < sent.numbered => {
                *times_stored.entry(number).or_default() += 1;
                let as_sent = temperature
                    .parse::<f64>()
                    .is_ok_and(|stored| (stored - load::temperature(number)).abs() < 1e-9);
                verdict.strange += u64::from(!as_sent);
            }
            Ok(_) => verdict.strange += 1,
            Err(_) => others += 1,
        }
    }
    verdict.strange += sent.others.abs_diff(others);
    verdict.lost = (0..sent.numbered).filter(|number| !times_stored.contains_key(number)).collect();
    verdict.doubled =
        times_stored.into_iter().filter(|(_, times)| *times > 1).map(|(number, _)| number).collect();
}

fn judge_ledger(database: &mut Database, journal: &Path, sent: Sent, verdict: &mut Verdict) {
    let mut sum = |expression: &str, table: &str| {
        database
            .number(&format!("SELECT CAST(coalesce(sum({expression}), 0) AS bigint) AS value FROM {table}"))
    };
    let ledger = Ledger {
        committed: sum("committed_seq", "ingest_checkpoint"),
        messages: sum("messages", "ingest_checkpoint"),
        stored: sum("stored", "ingest_checkpoint"),
        duplicate: sum("duplicate", "ingest_checkpoint"),
        rejected: sum("rejected", "ingest_checkpoint"),
        control: sum("control", "ingest_checkpoint"),
    };
    let gaps = sum("to_seq - from_seq + 1", "journal_gap");
    let (rows, rejections) = (sum("1", "machine_telemetry"), sum("1", "rejected_message"));
    let in_buckets = sum("readings", "machine_rollup");
    let inspection = inspect(journal, &RealFs).expect("the journal can be inspected");
    let newest = inspection
        .segments
        .iter()
        .rev()
        .find_map(|segment| segment.last.map(|last| last.0).or_else(|| segment.first.0.checked_sub(1)));
    let mut balance = |what: &str, left: i64, right: i64| {
        if left != right {
            verdict.ledger.push(format!("{what}: {left} ≠ {right}"));
        }
    };
    balance("journaled = committed", i64::try_from(newest.unwrap_or(0)).unwrap(), ledger.committed);
    balance("committed = messages + gaps", ledger.committed, ledger.messages + gaps);
    let elements = ledger.stored + ledger.duplicate + ledger.rejected + ledger.control;
    balance("messages = stored + duplicate + rejected + control", ledger.messages, elements);
    balance("stored = rows", ledger.stored, rows);
    balance("rows = readings in buckets of five minutes", rows, in_buckets);
    balance("rejected = rows of rejected_message", ledger.rejected, rejections);
    balance("damaged places in the journal = none", i64::try_from(inspection.damage.len()).unwrap(), 0);
    if !sent.may_give_up {
        balance("gaps = none", gaps, 0);
        balance("rejected = hopeless", ledger.rejected, i64::try_from(sent.hopeless).unwrap());
    }
    verdict.given_up = gaps;
    verdict.duplicate = ledger.duplicate;
}

/// Every machine speaks within `offline_after`: each has one event, and that is `first_seen`.
fn judge_events(database: &mut Database, sent: Sent, verdict: &mut Verdict) {
    let counted = "SELECT reason || ' ' || count(*) AS value FROM machine_event GROUP BY reason";
    let events: Vec<String> = database.words(counted).into_iter().flatten().collect();
    let expected =
        if sent.machines == 0 { Vec::new() } else { vec![format!("first_seen {}", sent.machines)] };
    if events != expected && !sent.may_give_up {
        verdict.events = events;
        verdict.events.push(format!("expected: {expected:?}"));
    }
}
