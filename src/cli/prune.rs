//! `andon db prune`: deletes what is past retention now, and confirms a clock that Andon does not trust. Works while the service runs.

use std::time::Instant;

use super::{Exit, Output, counted, db, failed_to};
use crate::app::{retention, shortest_retention, store_options};
use crate::clock::trusted::{News, TrustedClock, start_max};
use crate::clock::{ClockFile, reading_now};
use crate::config::Settings;
use crate::domain::{ClockRecord, Timestamp};
use crate::store::{self, PruneLimits, PrunePace, PruneTable, Store, StoreError};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Trust the clock of this computer: from now on it decides how old a row is
    #[arg(long)]
    confirm_clock: bool,
}

impl Options {
    /// Says for the audit log what is done.
    pub(super) const fn action(&self) -> &'static str {
        if self.confirm_clock { "db prune --confirm-clock" } else { "db prune" }
    }
}

pub(super) fn run(options: &Options, settings: &Settings) -> Output {
    // Tests set the clock of this command, too.
    #[cfg(feature = "failpoints")]
    let _armed = fail::FailScenario::setup();
    if let Some(complaint) = db::missing_file(settings) {
        return Output::failed(Exit::Failure, complaint);
    }
    let done = store::open(&store_options(settings)).and_then(|mut store| {
        store.migrate()?;
        prune(options, settings, &mut *store)
    });
    done.unwrap_or_else(|error| Output::failed(Exit::Failure, failed_to(&error)))
}

fn prune(options: &Options, settings: &Settings, store: &mut dyn Store) -> Result<Output, StoreError> {
    let now = reading_now();
    let newest = newest_record(settings, store)?;
    let (clock, news) = TrustedClock::start(newest, now, start_max(shortest_retention(settings)));
    let mut output = Output::clean(String::new());
    let trusted = if options.confirm_clock {
        if now.wall < Timestamp::CLOCK_SET_SINCE {
            let complaint =
                format!("the clock of this computer says {}: set it first, then confirm it", now.wall);
            return Ok(Output::failed(Exit::Failure, complaint));
        }
        confirm(newest, now.wall, store)?;
        output.text = format!("the clock of this computer is confirmed: {}\n", now.wall);
        now.wall
    } else {
        output.complaints.extend(warning(news, &clock, now.wall));
        clock.now(now.boot)
    };
    let wanted = retention(settings).limits(trusted);
    let tended = store.tend_partitions(&wanted, trusted)?;
    output.text.push_str(&db::about_partitions(&tended));
    output.complaints.extend(tended.troubles.iter().map(|trouble| format!("warning: {trouble}")));
    let limits = tended.limits;
    let deleted = delete(&limits, store)?;
    for (table, rows) in PruneTable::ALL.into_iter().zip(deleted) {
        let before = limits.before(table).or(wanted.before(table));
        output.text.push_str(&line(table, rows, before, limits.rejected_bytes_max));
    }
    Ok(output)
}

/// Says what was deleted from a table.
fn line(table: PruneTable, rows: u64, before: Option<Timestamp>, bytes_max: Option<u64>) -> String {
    let (name, noun) = (table.as_str(), if table == PruneTable::Readings { "reading" } else { "row" });
    let deleted = counted(rows, noun);
    match (before, bytes_max.filter(|_| table == PruneTable::Rejected)) {
        (Some(before), None) if table == PruneTable::Readings => {
            format!("{name}: {deleted} recorded before {before} deleted\n")
        }
        (Some(before), None) => format!("{name}: {deleted} from before {before} deleted\n"),
        (Some(before), Some(_)) => {
            format!("{name}: {deleted} from before {before}, or beyond store.rejected_max_bytes, deleted\n")
        }
        (None, Some(_)) => format!("{name}: {deleted} beyond store.rejected_max_bytes deleted\n"),
        (None, None) => format!("{name}: no retention is set, nothing is deleted\n"),
    }
}

/// Records that the clock of this computer is right.
fn confirm(newest: Option<ClockRecord>, wall: Timestamp, store: &mut dyn Store) -> Result<(), StoreError> {
    let seq = newest.map_or(0, |record| record.seq) + ClockRecord::CONFIRMED_AHEAD;
    let confirmed = ClockRecord { seq, trusted_at: wall, wall_at: wall, step_held: None };
    store.exchange_clock(Some(confirmed)).map(drop)
}

/// Deletes what is beyond `limits`, step by step; returns how many rows of each of [`PruneTable::ALL`].
fn delete(limits: &PruneLimits, store: &mut dyn Store) -> Result<[u64; PruneTable::ALL.len()], StoreError> {
    let (mut deleted, mut from, mut pace) = ([0; PruneTable::ALL.len()], None, PrunePace::default());
    loop {
        let begun = Instant::now();
        let step = store.prune(limits, from.as_ref(), pace.bounds())?;
        pace.step_took(begun.elapsed());
        deleted[step.table as usize] += step.rows;
        from = step.next;
        if from.is_none() {
            return Ok(deleted);
        }
    }
}

/// Returns the newest record of the trusted time, from the database or from beside the journal.
fn newest_record(settings: &Settings, store: &mut dyn Store) -> Result<Option<ClockRecord>, StoreError> {
    let in_database = store.exchange_clock(None)?;
    let beside_journal = ClockFile::in_directory(&settings.journal.dir, &settings.site.id).read();
    Ok(in_database.into_iter().chain(beside_journal).max_by_key(|record| record.seq))
}

fn warning(news: Option<News>, clock: &TrustedClock, wall: Timestamp) -> Option<String> {
    let trusted = clock.record().map(|record| record.trusted_at)?;
    let why = match news? {
        News::StepWaits(_) => {
            "Andon deletes nothing that is old by this clock alone; if the clock is right, run `andon db \
             prune --confirm-clock`"
        }
        News::Unset => "the clock is not set; set it",
        News::Followed(..) => return None,
    };
    Some(format!("warning: the clock of this computer says {wall}, the trusted time is {trusted}: {why}"))
}
