//! The oracle: compares what was sent with what is stored, and checks every sum of the ledger.
//!
//! Every fault test leaves its verdict about messages to this file. Once Andon has stopped, the oracle reads the tables, the
//! journal's directory, and the broker's log.
//!
//! A message with a time of its own has exactly one row. A message without a usable time, or a rejected one, looks the same when it
//! is delivered again: it has at least one row, and at most as many as the broker sent copies.

mod events;
mod ledger;

use std::collections::BTreeMap;
use std::path::Path;

pub use ledger::judge_journal;

use super::broker_log::BrokerLog;
use super::kinds::{self, Row};
use crate::support::database::Database;

/// Limit of the findings of one kind that are shown.
const SHOWN_MAX: usize = 20;

/// What was sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// End of the numbers, exclusive; they begin at 0.
    pub numbered: u64,
    /// Other messages that make one row each.
    pub others: u64,
    /// Other messages; each is rejected, and makes one row.
    pub others_rejected: u64,
    /// Other machines that published and are tracked.
    pub other_machines: u64,
    /// The seqs in `journal_gap` may be missing: the journal dropped its oldest records (`drop_oldest`), or the database was restored.
    pub may_have_gaps: bool,
    /// The journal took a new id and was read again, so rejections may have more rows than the broker sent copies.
    pub is_replayed: bool,
}

impl Sent {
    /// All messages, each once.
    pub fn total(&self) -> u64 {
        kinds::RETAINED + self.numbered + self.others + self.others_rejected
    }

    /// Machines that published.
    pub fn machines(&self) -> u64 {
        kinds::sums(self.numbered).machines + self.other_machines
    }
}

/// What the oracle found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Numbers that miss a row, in either table.
    pub lost: Vec<u64>,
    /// Numbers with more rows than they may have.
    pub doubled: Vec<u64>,
    /// Rows that are not what was sent, or were never sent.
    pub unexpected: Vec<String>,
    /// Each sum of the ledger that differs, with both sides.
    pub ledger: Vec<String>,
    /// Events without a cause, and missing events.
    pub events: Vec<String>,
    /// Seqs in `journal_gap`.
    pub gap_seqs: Vec<u64>,
    /// Duplicates beyond those that were sent on purpose.
    pub duplicate: i64,
    /// The broker sent each message once, and the journal has each once. The sums are then known exactly, and compared exactly.
    pub each_once: bool,
}

impl Verdict {
    /// True if nothing is lost, doubled, false or unaccounted for.
    pub fn is_exact(&self) -> bool {
        self.lost.is_empty()
            && self.doubled.is_empty()
            && self.unexpected.is_empty()
            && self.ledger.is_empty()
            && self.events.is_empty()
    }

    pub fn balance(&mut self, what: &str, left: i64, right: i64) {
        if left != right {
            self.ledger.push(format!("{what}: {left} ≠ {right}"));
        }
    }

    fn add_unexpected(&mut self, what: impl FnOnce() -> String) {
        if self.unexpected.len() < SHOWN_MAX {
            self.unexpected.push(what());
        }
    }
}

/// Judges the database at `url` and the journal in `journal` by the broker's log.
pub fn judge(url: &str, journal: &Path, sent: Sent, broker: &str) -> Verdict {
    let mut database = Database::open(url).expect("the database is there to be judged");
    let broker_log = BrokerLog::of(broker);
    let committed = sum(&mut database, "committed_seq", "ingest_checkpoint");
    let total = sent.total();
    let each_once = broker_log.total == total && u64::try_from(committed) == Ok(total) && !sent.may_have_gaps;
    let mut verdict = Verdict { each_once, ..Verdict::default() };
    let mut copies = Copies::default();
    judge_rows(&mut database, url, sent, &mut copies, &mut verdict);
    let arrays = judge_rejections(&mut database, sent, &broker_log, &mut copies, &mut verdict);
    copies.judge(sent, &broker_log, &mut verdict);
    ledger::judge(&mut database, journal, sent, arrays, &mut verdict);
    events::judge(&mut database, sent, &broker_log, &mut verdict);
    verdict
}

/// Counts the numbered messages that have a row; 0 while the database is away.
pub fn numbers_shown(url: &str) -> u64 {
    let number = number_column(url);
    let stored = format!("SELECT count(DISTINCT {number}) AS value FROM machine_telemetry");
    // An array (a-…) has a reading, too, and is counted by it.
    let rejected = "SELECT count(DISTINCT topic) AS value FROM rejected_message \
        WHERE topic LIKE 'factory/machine/r-%' OR topic LIKE 'factory/machine/b-%' OR topic LIKE 'nameless/%'";
    let count = |sql: &str| Database::open(url).and_then(|mut database| database.try_number(sql));
    let both = [count(&stored), count(rejected)];
    both.into_iter().map(|count| count.map_or(0, |count| u64::try_from(count).unwrap())).sum()
}

pub fn number_column(url: &str) -> &'static str {
    if url.starts_with("sqlite") { "json_extract(extra, '$.n')" } else { "(extra->>'n')::bigint" }
}

fn sum(database: &mut Database, expression: &str, table: &str) -> i64 {
    database.number(&format!("SELECT CAST(coalesce(sum({expression}), 0) AS bigint) AS value FROM {table}"))
}

/// Counts the rows by number, and by part or element.
#[derive(Default)]
struct Copies {
    rows: BTreeMap<(u64, u64), u64>,
    rejected: BTreeMap<(u64, u32), u64>,
}

impl Copies {
    fn judge(&self, sent: Sent, broker_log: &BrokerLog, verdict: &mut Verdict) {
        for number in 0..sent.numbered {
            let sample = kinds::sample(number);
            let of_row = |row: &Row| {
                let copies = self.rows.get(&(number, row.part)).copied().unwrap_or(0);
                (copies, if row.instant.is_some() { 1 } else { broker_log.copies_max(&sample.topic) })
            };
            let rejected = sample.rejected.as_ref().map(|rejected| {
                let copies = self.rejected.get(&(number, rejected.element)).copied().unwrap_or(0);
                (copies, if sent.is_replayed { u64::MAX } else { broker_log.copies_max(&sample.topic) })
            });
            let found: Vec<(u64, u64)> = sample.rows.iter().map(of_row).chain(rejected).collect();
            if found.iter().any(|(copies, _)| *copies == 0) {
                verdict.lost.push(number);
            }
            if found.iter().any(|(copies, max)| copies > max) {
                verdict.doubled.push(number);
            }
        }
    }
}

fn judge_rows(database: &mut Database, url: &str, sent: Sent, copies: &mut Copies, verdict: &mut Verdict) {
    let number = number_column(url);
    let (part, kept) =
        (number.replace("'n'", "'part'").replace("$.n", "$.part"), number.replace("'n'", "'kept'"));
    let kept = kept.replace("$.n", "$.kept");
    let sql = format!(
        "SELECT coalesce(CAST({number} AS text), '-') || ' ' || coalesce(CAST({part} AS text), '0') || ' ' \
         || coalesce(CAST({kept} AS text), '-') || ' ' || coalesce(CAST(temperature AS text), '-') || ' ' || time_source \
         || ' ' || machine_id AS value FROM machine_telemetry"
    );
    let (mut others, mut kept) = (0, Vec::new());
    for row in database.words(&sql).into_iter().flatten() {
        let mut columns = row.splitn(6, ' ');
        let mut column = || columns.next().unwrap_or_default();
        let [number, part, of_kept, temperature, source, machine] = std::array::from_fn(|_| column());
        if of_kept != "-" {
            kept.push(format!("{machine} {temperature}"));
            continue;
        }
        let (Ok(number), Ok(part)) = (number.parse::<u64>(), part.parse::<u64>()) else {
            others += 1;
            continue;
        };
        *copies.rows.entry((number, part)).or_default() += 1;
        let as_sent = number < sent.numbered
            && kinds::sample(number).rows.iter().any(|expected| {
                expected.part == part
                    && expected.machine == machine
                    && temperature
                        .parse::<f64>()
                        .is_ok_and(|stored| (stored - expected.temperature).abs() < 1e-9)
                    && source == if expected.instant.is_some() { "device" } else { "server" }
            });
        if !as_sent {
            verdict.add_unexpected(|| format!("row {row}"));
        }
    }
    if others != sent.others {
        verdict.add_unexpected(|| format!("{others} rows without a number, sent: {}", sent.others));
    }
    kept.sort();
    let expected: Vec<String> =
        (0..kinds::RETAINED - 1).map(|index| format!("kept-{index} {index}.5")).collect();
    if kept != expected {
        verdict.add_unexpected(|| format!("of the retained messages: {kept:?}"));
    }
}

/// The arrays in the journal, counted by their rejections: each array has one bad element.
struct Arrays {
    /// Elements beyond one for each message.
    elements_more: i64,
}

fn judge_rejections(
    database: &mut Database,
    sent: Sent,
    broker_log: &BrokerLog,
    copies: &mut Copies,
    verdict: &mut Verdict,
) -> Arrays {
    let hex = if matches!(database, Database::Sqlite(_)) {
        "lower(hex(payload))"
    } else {
        "encode(payload, 'hex')"
    };
    // Payloads may be long: select only those that are compared.
    let sql = format!(
        "SELECT topic || ' ' || seq || ' ' || element || ' ' || reason || ' ' || CAST(retained AS integer) || ' ' || qos \
         || ' ' || CASE WHEN detail = '' THEN '-' ELSE 'said' END || ' ' \
         || CASE WHEN topic LIKE 'factory/machine/_-%' OR topic LIKE 'nameless/%' OR topic LIKE '%/kept-%' \
            THEN {hex} ELSE '' END AS value FROM rejected_message"
    );
    let (mut others_rejected, mut kept, mut elements_more) = (0, 0, 0);
    for row in database.words(&sql).into_iter().flatten() {
        let columns: Vec<&str> = row.split(' ').collect();
        let (topic, seq) = (columns[0], columns[1].parse::<u64>().unwrap());
        let is_kept = topic.contains("/kept-");
        let sample = match kinds::number_of(topic) {
            Some(number) if number < sent.numbered => kinds::sample(number),
            None if is_kept => kinds::retained(kinds::RETAINED - 1),
            _ => {
                others_rejected += 1;
                continue;
            }
        };
        kept += u64::from(is_kept);
        let expected = sample.rejected.as_ref().filter(|_| sample.topic == topic).map(|rejected| {
            let payload: String = rejected.payload.iter().map(|byte| format!("{byte:02x}")).collect();
            let retained = u8::from(is_kept);
            format!("{} {} {retained} 1 said {payload}", rejected.element, rejected.reason)
        });
        if expected.as_deref() != Some(&columns[2..].join(" ")) {
            verdict.add_unexpected(|| format!("rejected {row}, expected {expected:?}"));
        }
        if verdict.each_once && broker_log.place(topic) != Some(seq) {
            verdict
                .add_unexpected(|| format!("rejected {row}, sent as number {:?}", broker_log.place(topic)));
        }
        if let Some(number) = kinds::number_of(topic) {
            let element = columns[2].parse().unwrap_or(u32::MAX);
            *copies.rejected.entry((number, element)).or_default() += 1;
            elements_more += i64::try_from(kinds::elements(number)).unwrap() - 1;
        }
    }
    let kept_topic = kinds::retained(kinds::RETAINED - 1).topic;
    if kept == 0 || kept > broker_log.copies_max(&kept_topic) && !sent.is_replayed {
        verdict.add_unexpected(|| format!("the retained message that is rejected, {kept} times"));
    }
    if others_rejected != sent.others_rejected && !sent.may_have_gaps {
        verdict
            .add_unexpected(|| format!("{others_rejected} other rejections, sent: {}", sent.others_rejected));
    }
    Arrays { elements_more }
}
