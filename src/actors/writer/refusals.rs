//! What is said of rows beside the readings that the database refuses.
//!
//! A status change or an outage that is refused is said once, for the log is the only place where it is kept. A mark or a sighting
//! is refused again with the next batch: of those, one line in ten minutes.

use std::time::{Duration, Instant};

use slog::{Logger, error};

use crate::domain::RefusedKind;
use crate::logging::keys;
use crate::metrics::Metrics;
use crate::store::RefusedRow;

/// Lines of one batch; of more rows, the number is said.
const LINES_MAX: usize = 20;
/// Between two lines of one kind that is refused with every batch.
const REPETITION: Duration = Duration::from_secs(600);

/// Remembers what was said lately.
#[derive(Debug, Default)]
pub struct Refusals {
    repeated: [Option<Instant>; RefusedKind::ALL.len()],
}

impl Refusals {
    /// Counts the rows that one commit left out, and says which they are.
    pub fn report(&mut self, rows: &[RefusedRow], metrics: &Metrics, logger: &Logger, now: Instant) {
        let (mut said, mut unsaid) = (0, 0);
        for row in rows {
            metrics.count_refusal(row.kind);
            if row.kind.is_repeated() && !self.is_due(row.kind, now) {
                continue;
            }
            if said == LINES_MAX {
                unsaid += 1;
                continue;
            }
            said += 1;
            say(row, logger);
        }
        if unsaid > 0 {
            error!(logger, "the database refuses more rows of the same batch; andon_refused_rows_total counts them";
                "rows" => unsaid);
        }
    }

    fn is_due(&mut self, kind: RefusedKind, now: Instant) -> bool {
        let said_at = &mut self.repeated[kind as usize];
        if said_at.is_some_and(|said_at| now.saturating_duration_since(said_at) < REPETITION) {
            return false;
        }
        *said_at = Some(now);
        true
    }
}

fn say(row: &RefusedRow, logger: &Logger) {
    let machine_id = row.machine_id.as_ref().map_or("-", |machine_id| machine_id.as_str());
    let status = row.status.map_or("-", |status| status.as_str());
    let at = row.at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    error!(logger, "the database refuses a row for what it holds and it is stored nowhere; everything else is stored. \
        Change the constraint or trigger of that table that refuses it";
        "table" => row.kind.table(), "kind" => row.kind.as_str(), keys::MACHINE_ID => machine_id,
        keys::STATUS => status, "occurred_at" => at, keys::REASON => &row.detail);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: RefusedKind) -> RefusedRow {
        RefusedRow { kind, machine_id: None, status: None, at: None, detail: "no".to_owned() }
    }

    #[test]
    fn all_are_counted_and_repeated_ones_said_once_in_a_while() {
        let mut refusals = Refusals::default();
        let (metrics, logger, begun) =
            (Metrics::default(), Logger::root(slog::Discard, slog::o!()), Instant::now());
        let rows = [row(RefusedKind::Sighting), row(RefusedKind::Sighting), row(RefusedKind::Event)];
        for _ in 0..3 {
            refusals.report(&rows, &metrics, &logger, begun);
        }
        assert_eq!((metrics.refused(RefusedKind::Sighting), metrics.refused(RefusedKind::Event)), (6, 3));
        assert!(!refusals.is_due(RefusedKind::Sighting, begun + REPETITION / 2));
        assert!(refusals.is_due(RefusedKind::Mark, begun), "each kind by itself");
        assert!(refusals.is_due(RefusedKind::Sighting, begun + REPETITION));
    }
}
