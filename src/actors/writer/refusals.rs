//! Logs the rows other than readings that the database refuses.
//!
//! The log is the only place that keeps a refused status change, machine, mark or outage, so each is logged
//! once: the first ones of a batch on their own lines with the database's reason, the others by name, many on a
//! line, so that thousands fit into the log's channel. The remaining kinds are refused again with every batch:
//! those get one line in ten minutes.

use std::fmt;
use std::time::{Duration, Instant};

use slog::{Logger, error};

use crate::domain::RefusedKind;
use crate::logging::keys;
use crate::metrics::Metrics;
use crate::store::RefusedRow;

/// Rows of one batch with their own line.
const LINES_MAX: usize = 20;
/// Names on one line, for the others.
const NAMES_MAX: usize = 50;
/// Time between two lines about a kind that is refused with every batch.
const REPETITION: Duration = Duration::from_secs(600);

/// Remembers when each repeated kind was logged.
#[derive(Debug, Default)]
pub struct Refusals {
    repeated: [Option<Instant>; RefusedKind::ALL.len()],
}

impl Refusals {
    /// Counts and logs the rows that one commit left out.
    pub fn report(&mut self, rows: &[RefusedRow], metrics: &Metrics, logger: &Logger, now: Instant) {
        rows.iter().for_each(|row| metrics.refused_rows.of(row.kind).add(1));
        let due = rows.iter().filter(|row| !row.kind.is_repeated() || self.is_due(row.kind, now));
        let due: Vec<&RefusedRow> = due.collect();
        let (first, others) = due.split_at(due.len().min(LINES_MAX));
        first.iter().for_each(|row| log_row(row, logger));
        others.chunks(NAMES_MAX).for_each(|rows| log_names(rows, logger));
    }

    fn is_due(&mut self, kind: RefusedKind, now: Instant) -> bool {
        let logged_at = &mut self.repeated[kind as usize];
        if logged_at.is_some_and(|logged_at| now.saturating_duration_since(logged_at) < REPETITION) {
            return false;
        }
        *logged_at = Some(now);
        true
    }
}

fn log_row(row: &RefusedRow, logger: &Logger) {
    let Name { machine_id, status, at } = Name::of(row);
    error!(logger, "the database refuses a row, which is stored nowhere; everything else is stored. \
        Change the constraint or trigger of that table that refuses it";
        "table" => row.kind.table(), "kind" => row.kind.as_str(), keys::MACHINE_ID => machine_id,
        keys::STATUS => status, "occurred_at" => at, keys::REASON => &row.detail);
}

fn log_names(rows: &[&RefusedRow], logger: &Logger) {
    let names: Vec<String> =
        rows.iter().map(|row| format!("{} {}", row.kind.as_str(), Name::of(row))).collect();
    error!(logger, "the database refuses more rows of the same batch, which are stored nowhere";
        "rows" => names.len(), "which" => names.join(", "));
}

/// Identifies a row within its kind.
struct Name<'a> {
    machine_id: &'a str,
    status: &'static str,
    at: String,
}

impl<'a> Name<'a> {
    fn of(row: &'a RefusedRow) -> Self {
        Self {
            machine_id: row.machine_id.as_ref().map_or("-", |machine_id| machine_id.as_str()),
            status: row.status.map_or("-", |status| status.as_str()),
            at: row.at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.machine_id, self.status, self.at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;
    use std::sync::{Arc, Mutex};

    use slog::{Drain, Never, OwnedKVList, Record, Serializer};

    use super::*;
    use crate::domain::{MachineId, MachineStatus, Timestamp};

    fn row(kind: RefusedKind) -> RefusedRow {
        RefusedRow { kind, machine_id: None, status: None, at: None, detail: "no".to_owned() }
    }

    /// Keeps the lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    struct Values(String);

    impl Serializer for Values {
        fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
            self.0.push_str(&format!(" {key}={value};"));
            Ok(())
        }
    }

    impl Drain for Lines {
        type Ok = ();
        type Err = Never;

        fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
            let mut values = Values(record.msg().to_string());
            slog::KV::serialize(&record.kv(), record, &mut values).unwrap();
            self.0.lock().unwrap().push(values.0);
            Ok(())
        }
    }

    fn logged(rows: &[RefusedRow]) -> Vec<String> {
        let lines = Lines::default();
        let logger = Logger::root(lines.clone(), slog::o!());
        Refusals::default().report(rows, &Metrics::default(), &logger, Instant::now());
        drop(logger);
        lines.0.lock().unwrap().clone()
    }

    #[test]
    fn every_refusal_is_counted_and_repeated_kinds_are_logged_now_and_then() {
        let mut refusals = Refusals::default();
        let (metrics, logger, begun) =
            (Metrics::default(), Logger::root(slog::Discard, slog::o!()), Instant::now());
        let rows = [row(RefusedKind::Sighting), row(RefusedKind::Sighting), row(RefusedKind::Event)];
        for _ in 0..3 {
            refusals.report(&rows, &metrics, &logger, begun);
        }
        let counted = |kind| metrics.refused_rows.of(kind).get();
        assert_eq!((counted(RefusedKind::Sighting), counted(RefusedKind::Event)), (6, 3));
        assert!(!refusals.is_due(RefusedKind::Sighting, begun + REPETITION / 2));
        assert!(refusals.is_due(RefusedKind::Sight, begun), "each kind by itself");
        assert!(refusals.is_due(RefusedKind::Sighting, begun + REPETITION));
    }

    #[test]
    fn every_row_that_is_logged_once_is_named_however_many_there_are() {
        let kinds = [RefusedKind::Event, RefusedKind::Machine, RefusedKind::Mark];
        let rows: Vec<RefusedRow> = kinds
            .into_iter()
            .flat_map(|kind| (0..4_096).map(move |number| (kind, number)))
            .map(|(kind, number)| RefusedRow {
                machine_id: Some(MachineId::parse(&format!("m-{number}")).unwrap()),
                status: Some(MachineStatus::Offline),
                at: Some(Timestamp::from_micros(i64::from(number))),
                ..row(kind)
            })
            .collect();
        let lines = logged(&rows);
        assert!(lines.len() < 300, "the channel of the log has room for {} lines", lines.len());
        let which = lines.iter().filter_map(|line| line.split("which=").nth(1)?.split(';').next());
        let named: HashSet<&str> = which.flat_map(|which| which.split(", ")).collect();
        for row in &rows[LINES_MAX..] {
            let wanted = format!("{} {}", row.kind.as_str(), Name::of(row));
            assert!(named.contains(wanted.as_str()), "{wanted}");
        }
        let first = format!("machine_id={};", rows[LINES_MAX - 1].machine_id.as_ref().unwrap().as_str());
        assert!(lines[..LINES_MAX].iter().any(|line| line.contains(&first)), "{first}");
    }
}
