//! The ledger: every sum of the counters, the tables, and the journal.

use std::path::Path;

use andon::journal::{RealFs, inspect};

use super::{Arrays, Sent, Verdict, sum};
use crate::faults::kinds;
use crate::support::database::Database;

/// Selects the rows of `journal_gap` that stand for messages. A journal with a new id never had the earlier seqs.
const OF_MESSAGES: &str = "reason <> 'earlier_identity'";

/// The sums over all journals in `ingest_checkpoint`.
struct Ledger {
    committed: i64,
    messages: i64,
    stored: i64,
    duplicate: i64,
    rejected: i64,
    control: i64,
}

impl Ledger {
    fn read(database: &mut Database) -> Self {
        let mut sum = |column: &str| sum(database, column, "ingest_checkpoint");
        Self {
            committed: sum("committed_seq"),
            messages: sum("messages"),
            stored: sum("stored"),
            duplicate: sum("duplicate"),
            rejected: sum("rejected"),
            control: sum("control"),
        }
    }

    fn elements(&self) -> i64 {
        self.stored + self.duplicate + self.rejected + self.control
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap()
}

pub fn judge(database: &mut Database, journal: &Path, sent: Sent, arrays: Arrays, verdict: &mut Verdict) {
    let ledger = Ledger::read(database);
    judge_journal(database, journal, verdict);
    judge_tables(database, &ledger, arrays, verdict);
    if verdict.each_once {
        judge_against_sent(&ledger, sent, verdict);
    }
    judge_gaps(database, sent, verdict);
    verdict.duplicate = ledger.duplicate - whole(kinds::sums(sent.numbered).duplicate);
}

/// Compares the counters with each other and with the numbers of rows.
fn judge_tables(database: &mut Database, ledger: &Ledger, arrays: Arrays, verdict: &mut Verdict) {
    let mut sum = |expression: &str, table: &str| sum(database, expression, table);
    let gaps = sum("to_seq - from_seq + 1", "journal_gap");
    let (rows, rejections) = (sum("1", "machine_telemetry"), sum("1", "rejected_message"));
    let since = "(SELECT e.exact_from FROM machine_rollup_exact e WHERE e.site = t.site)";
    let exact_rows = sum("1", &format!("machine_telemetry t WHERE t.recorded_at >= {since}"));
    let in_rollups = sum("readings", &format!("machine_rollup t WHERE t.bucket_start >= {since}"));
    let beyond = sum(
        "1",
        "rejected_message WHERE NOT EXISTS (SELECT 1 FROM ingest_checkpoint WHERE \
         ingest_checkpoint.journal_id = rejected_message.journal_id AND rejected_message.seq <= committed_seq)",
    );
    let elements = ledger.messages + arrays.elements_more;
    verdict.balance("committed = messages + gaps", ledger.committed, ledger.messages + gaps);
    verdict.balance("elements = stored + duplicate + rejected + control", elements, ledger.elements());
    verdict.balance("stored = rows", ledger.stored, rows);
    verdict.balance("rows = readings in five-minute rollups, where they are exact", exact_rows, in_rollups);
    verdict.balance("rejected = rows of rejected_message", ledger.rejected, rejections);
    verdict.balance("rejections beyond their journal's position = none", beyond, 0);
}

/// Compares the counters with what was sent, which is exact only if each message came once.
fn judge_against_sent(ledger: &Ledger, sent: Sent, verdict: &mut Verdict) {
    let expected = kinds::sums(sent.numbered);
    let stored = whole(expected.rows + sent.others + kinds::RETAINED - 1);
    let rejected = whole(expected.rejected + sent.others_rejected + 1);
    verdict.balance("stored = sent", ledger.stored, stored);
    verdict.balance("duplicate = sent twice", ledger.duplicate, whole(expected.duplicate));
    verdict.balance("rejected = sent to be rejected", ledger.rejected, rejected);
    verdict.balance("control = sent", ledger.control, whole(expected.control));
}

fn judge_gaps(database: &mut Database, sent: Sent, verdict: &mut Verdict) {
    if !sent.may_have_gaps {
        let gaps = sum(database, "to_seq - from_seq + 1", &format!("journal_gap WHERE {OF_MESSAGES}"));
        verdict.balance("gaps = none", gaps, 0);
    }
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
