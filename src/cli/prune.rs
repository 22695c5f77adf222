//! `andon db prune`: deletes old readings now, and confirms a clock that Andon does not trust. Works while the service runs.

use std::time::Duration;

use super::{Exit, Output, counted, db, failed_to};
use crate::app::{shortest_retention, store_options};
use crate::clock::trusted::{News, TrustedClock, cutoff, start_max};
use crate::clock::{ClockFile, reading_now};
use crate::config::Settings;
use crate::domain::{ClockRecord, Timestamp};
use crate::store::{self, PruneBounds, PruneTable, Store, StoreError};

/// Bounds of one step, during which the service waits.
const BOUNDS: PruneBounds =
    PruneBounds { machines_max: 1_000, rows_max: 5_000, time_max: Duration::from_millis(100) };

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Trust the clock of this computer: from now on it decides how old a reading is
    #[arg(long)]
    confirm_clock: bool,
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
    let Some(retention) = settings.store.retention else {
        output.text.push_str("store.retention is not set: nothing is deleted\n");
        return Ok(output);
    };
    let before = cutoff(trusted, retention);
    let deleted = delete_readings(before, store)?;
    output.text.push_str(&format!("{} recorded before {before} deleted\n", counted(deleted, "reading")));
    Ok(output)
}

/// Records that the clock of this computer is right.
fn confirm(newest: Option<ClockRecord>, wall: Timestamp, store: &mut dyn Store) -> Result<(), StoreError> {
    let seq = newest.map_or(0, |record| record.seq) + ClockRecord::CONFIRMED_AHEAD;
    let confirmed = ClockRecord { seq, trusted_at: wall, wall_at: wall, step_held: None };
    store.exchange_clock(Some(confirmed)).map(drop)
}

/// Deletes the readings from before `before`, step by step; returns how many.
fn delete_readings(before: Timestamp, store: &mut dyn Store) -> Result<u64, StoreError> {
    let (mut deleted, mut from) = (0, None);
    loop {
        let step = store.prune(before, from.as_ref(), BOUNDS)?;
        deleted += if step.table == PruneTable::Readings { step.rows } else { 0 };
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
