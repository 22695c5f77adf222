//! `andon machines`: which machines are online, or how available they were, as the database has it.
//!
//! Works with and without the service, and says which it is (see [`status`]). While the database is away it asks the
//! running service, which knows the machines without it.

mod forget;
mod report;
mod running;
mod status;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};

use self::report::{Outlook, availability_report, from_database, machines_report};
use super::arguments::duration_within;
use super::{Exit, Output, db, failed_to};
use crate::app::store_options;
use crate::clock::wall_now;
use crate::config::Settings;
use crate::store::{self, PastWanted, Store, StoreError};

/// Most changes of status to read to find flapping machines.
const CHANGES_MAX: usize = 1_000_000;
/// Clears the screen and moves to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Options of `andon machines`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
    /// Refresh until interrupted, in place on a terminal
    #[arg(long)]
    watch: bool,
    /// How often --watch refreshes
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval, requires = "watch")]
    interval: Duration,
    /// Show uptime, outages and the longest outage over the last 24h, 7d, 30d or the like, instead of the present
    #[arg(long, value_name = "WINDOW", value_parser = window)]
    availability: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forget machines that will not come back: their rows and their retained statuses go, their readings and events stay
    Forget(forget::Options),
}

fn interval(text: &str) -> Result<Duration, String> {
    duration_within(text, Duration::from_millis(200), Duration::from_secs(3_600), "200ms to 1h")
}

fn window(text: &str) -> Result<Duration, String> {
    let day = Duration::from_secs(86_400);
    duration_within(text, Duration::from_secs(60), 3_660 * day, "1m to 3660d")
}

/// How to write a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Colour,
    Json,
}

pub(super) fn run(options: &Options, settings: &Settings) -> Exit {
    if let Some(Command::Forget(options)) = &options.command {
        return forget::run(options, settings).print();
    }
    let is_terminal = io::stdout().is_terminal();
    let wants_colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let style = match (options.json, wants_colour) {
        (true, _) => Style::Json,
        (false, true) => Style::Colour,
        (false, false) => Style::Plain,
    };
    if !options.watch {
        return look(options, settings, style).print();
    }
    loop {
        let output = look(options, settings, style);
        if is_terminal && !options.json && io::stdout().write_all(CLEAR.as_bytes()).is_err() {
            return Exit::Failure;
        }
        // A database that is away may come back; a reader of standard output that is gone does not.
        let complaints_only = output.text.is_empty();
        let exit = output.print();
        if (exit == Exit::Failure && !complaints_only) || io::stdout().flush().is_err() {
            return Exit::Failure;
        }
        std::thread::sleep(options.interval);
    }
}

fn look(options: &Options, settings: &Settings, style: Style) -> Output {
    if let Some(complaint) = db::missing_file(settings) {
        return without_database(options, settings, style, complaint);
    }
    let store_options = store_options(settings);
    let report = store::open(&store_options).and_then(|mut store| {
        if !store.migration_status()?.pending.is_empty() {
            return Ok(None);
        }
        report(options, settings, store.as_mut(), style).map(Some)
    });
    match report {
        Ok(Some(text)) => {
            let skipped = store_options.unreadable.take_unnamed();
            let complaints = skipped.iter().map(|row| format!("warning: skipped {row}")).collect();
            Output { complaints, ..Output::clean(text) }
        }
        Ok(None) => Output::failed(Exit::Failure, db::TABLES_BEHIND),
        Err(error) => without_database(options, settings, style, failed_to(&error)),
    }
}

/// Reports what the running service knows; `complaint` says what is wrong with the database.
fn without_database(options: &Options, settings: &Settings, style: Style, complaint: String) -> Output {
    if options.availability.is_some() {
        return Output::failed(Exit::Failure, complaint);
    }
    match running::machines(&settings.http) {
        Ok((machines, outlook)) => {
            let complaint = format!("{complaint}; the running service answers in its place");
            let text = machines_report(&machines, &outlook, style);
            Output { complaints: vec![complaint], ..Output::clean(text) }
        }
        Err(error) => Output {
            complaints: vec![complaint, format!("asked the running service instead: {error}")],
            ..Output::failed(Exit::Failure, String::new())
        },
    }
}

fn report(
    options: &Options,
    settings: &Settings,
    store: &mut dyn Store,
    style: Style,
) -> Result<String, StoreError> {
    let now = wall_now();
    let machines = store.machines()?;
    let changes_since = now.minus(settings.liveness.flapping_window);
    let mut past = store.liveness_past(PastWanted { changes_since, rows_max: CHANGES_MAX })?;
    // Changes in the future: the clock was set back since, and their age is unknown.
    past.recent_changes.retain(|(_, at)| *at <= now);
    let visibility = status::Visibility::new(past.seen_until, &machines, past.newest_outage, now);
    if let Some(window) = options.availability {
        let from = now.minus(window);
        let history = store.history(from)?;
        return Ok(availability_report(&machines, &history, &visibility, from, style));
    }
    let readings = store.readings_between(now.minus(Duration::from_secs(3_600)), now)?;
    let shown = from_database(machines, &past.recent_changes, readings, &visibility, &settings.liveness);
    Ok(machines_report(&shown, &Outlook::from(&visibility), style))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_intervals_have_bounds() {
        assert_eq!(window("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert!(window("1s").is_err() && window("soon").is_err() && interval("1ms").is_err());
    }
}
