//! The oracle: compares what was sent with what is stored, and checks every sum of the ledger.
//!
//! Every fault test leaves its verdict about messages to this file. Once Andon has stopped, the oracle reads the tables, the
//! journal's directory, and the broker's log.
//!
//! A message with a time of its own has exactly one row. A message without a usable time, or a rejected one, looks the same when it
//! is delivered again: it has at least one row, and at most as many as the broker sent copies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use andon::journal::{RealFs, inspect};

use super::broker_log::BrokerLog;
use super::kinds::{self, Row};
use crate::support::database::Database;

/// Limit of the findings of one kind that are shown.
const SHOWN_MAX: usize = 20;

/// Selects the rows of `journal_gap` that stand for messages. A journal with a new id never had the earlier seqs.
const OF_MESSAGES: &str = "reason <> 'earlier_identity'";

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
    judge_ledger(&mut database, journal, sent, arrays, &mut verdict);
    judge_events(&mut database, sent, &broker_log, &mut verdict);
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

struct Ledger {
    committed: i64,
    messages: i64,
    stored: i64,
    duplicate: i64,
    rejected: i64,
    control: i64,
}

fn judge_ledger(database: &mut Database, journal: &Path, sent: Sent, arrays: Arrays, verdict: &mut Verdict) {
    let mut sum = |expression: &str, table: &str| sum(database, expression, table);
    let ledger = Ledger {
        committed: sum("committed_seq", "ingest_checkpoint"),
        messages: sum("messages", "ingest_checkpoint"),
        stored: sum("stored", "ingest_checkpoint"),
        duplicate: sum("duplicate", "ingest_checkpoint"),
        rejected: sum("rejected", "ingest_checkpoint"),
        control: sum("control", "ingest_checkpoint"),
    };
    let all_gaps = sum("to_seq - from_seq + 1", "journal_gap");
    let gaps = sum("to_seq - from_seq + 1", &format!("journal_gap WHERE {OF_MESSAGES}"));
    let (rows, rejections) = (sum("1", "machine_telemetry"), sum("1", "rejected_message"));
    let since = "(SELECT e.exact_from FROM machine_rollup_exact e WHERE e.site = t.site)";
    let exact_rows = sum("1", &format!("machine_telemetry t WHERE t.recorded_at >= {since}"));
    let in_rollups = sum("readings", &format!("machine_rollup t WHERE t.bucket_start >= {since}"));
    let beyond = sum(
        "1",
        "rejected_message WHERE NOT EXISTS (SELECT 1 FROM ingest_checkpoint WHERE \
         ingest_checkpoint.journal_id = rejected_message.journal_id AND rejected_message.seq <= committed_seq)",
    );
    judge_journal(database, journal, verdict);
    let expected = kinds::sums(sent.numbered);
    let each_once = verdict.each_once;
    let mut balance = |what: &str, left: i64, right: i64| verdict.balance(what, left, right);
    let whole = |count: u64| i64::try_from(count).unwrap();
    balance("committed = messages + gaps", ledger.committed, ledger.messages + all_gaps);
    let elements = ledger.stored + ledger.duplicate + ledger.rejected + ledger.control;
    balance(
        "elements = stored + duplicate + rejected + control",
        ledger.messages + arrays.elements_more,
        elements,
    );
    balance("stored = rows", ledger.stored, rows);
    balance("rows = readings in five-minute rollups, where they are exact", exact_rows, in_rollups);
    balance("rejected = rows of rejected_message", ledger.rejected, rejections);
    balance("rejections beyond their journal's position = none", beyond, 0);
    if each_once {
        balance("stored = sent", ledger.stored, whole(expected.rows + sent.others + kinds::RETAINED - 1));
        balance("duplicate = sent twice", ledger.duplicate, whole(expected.duplicate));
        balance(
            "rejected = sent to be rejected",
            ledger.rejected,
            whole(expected.rejected + sent.others_rejected + 1),
        );
        balance("control = sent", ledger.control, whole(expected.control));
    }
    if !sent.may_have_gaps {
        balance("gaps = none", gaps, 0);
    }
    verdict.duplicate = ledger.duplicate - whole(expected.duplicate);
    let ranges = format!(
        "SELECT from_seq || ' ' || to_seq AS value FROM journal_gap WHERE {OF_MESSAGES} ORDER BY from_seq"
    );
    for range in database.words(&ranges).into_iter().flatten() {
        let (from, to) = range.split_once(' ').unwrap();
        verdict.gap_seqs.extend(from.parse::<u64>().unwrap()..=to.parse().unwrap());
    }
}

/// Checks that everything in the journal is committed under its present id, and that the journal is whole.
pub fn judge_journal(database: &mut Database, journal: &Path, verdict: &mut Verdict) {
    let inspection = inspect(journal, &RealFs).expect("the journal can be inspected");
    let journal_id = inspection.journal_id.expect("the journal has an id");
    let committed = format!(
        "SELECT coalesce(max(committed_seq), 0) AS value FROM ingest_checkpoint WHERE journal_id = '{journal_id}'"
    );
    let newest = i64::try_from(inspection.newest().0).unwrap();
    verdict.balance("journaled = committed", newest, database.number(&committed));
    let damaged = i64::try_from(inspection.damage.len()).unwrap();
    verdict.balance("damaged places in the journal = none", damaged, 0);
}

/// Checks the events. Every machine speaks within `offline_after`, so each has one event, `first_seen`. A mortal machine also goes
/// offline by its last will; each redelivery of its two messages may repeat its two changes.
fn judge_events(database: &mut Database, sent: Sent, broker_log: &BrokerLog, verdict: &mut Verdict) {
    if sent.may_have_gaps {
        return;
    }
    let sql = "SELECT machine_id || ' ' || reason || ' ' || count(*) AS value FROM machine_event \
        GROUP BY machine_id, reason ORDER BY machine_id";
    let mut machines: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for event in database.words(sql).into_iter().flatten() {
        let [machine, reason, count] = event.split(' ').collect::<Vec<&str>>()[..] else { panic!("{event}") };
        machines.entry(machine.to_owned()).or_default().insert(reason.to_owned(), count.parse().unwrap());
    }
    if machines.len() as u64 != sent.machines() {
        verdict.events.push(format!(
            "{} machines with events, {} published",
            machines.len(),
            sent.machines()
        ));
    }
    let mut gone = BTreeSet::new();
    for (machine, mut reasons) in machines {
        let shown = format!("{machine}: {reasons:?}");
        let mut count = |reason: &str| reasons.remove(reason).unwrap_or(0);
        let (first_seen, message, last_will) = (count("first_seen"), count("message"), count("last_will"));
        let lives = kinds::life_of(&machine)
            .map_or(1, |(birth, _)| broker_log.copies_max(&kinds::sample(birth).topic));
        let has_gone = last_will > 0;
        let as_lived =
            first_seen == 1 && message < lives.max(1) && last_will <= 1 + message && last_will >= message;
        if !as_lived || !reasons.is_empty() || machine.starts_with("kept-") {
            verdict.events.push(shown);
        } else if has_gone {
            gone.insert(machine);
        }
    }
    let wills = kinds::sums(sent.numbered).wills;
    if gone.len() as u64 != wills || gone.iter().any(|machine| kinds::life_of(machine).is_none()) {
        verdict.events.push(format!("{} machines are offline by their last will, sent: {wills}", gone.len()));
    }
    verdict.events.truncate(SHOWN_MAX);
}
