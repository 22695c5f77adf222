//! `andon rejected list`, `show` and `retry`: messages that did not become readings. All of them work beside the service.

mod filter;
mod list;
mod retry;
mod show;

use clap::Subcommand;

use super::audit::{self, Detail};
use super::{Exit, Output, db, failed_to};
use crate::app::store_options;
use crate::config::Settings;
use crate::store::{self, Store, StoreError};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List rejected messages, newest first, with counts by reason
    List(list::Options),
    /// Show one rejected message and its payload
    Show(show::Options),
    /// Read rejected payloads again with the present configuration, and store those that are readings now; works while
    /// the service runs
    Retry(retry::Options),
}

pub(super) fn run(command: &Command, settings: &Settings) -> Output {
    let done = open(settings).and_then(|mut store| match command {
        Command::List(options) => list::run(options, &mut *store),
        Command::Show(options) => show::run(options, &mut *store),
        Command::Retry(options) => retry::run(options, &mut *store, settings),
    });
    let output = done.unwrap_or_else(|failure| Output::failed(failure.exit, failure.complaint));
    match command {
        Command::Retry(options) if !options.is_dry_run() => {
            let action = ("rejected retry", Detail::LineWith(" tried: "));
            audit::recorded(settings, action, options.target(), output)
        }
        _ => output,
    }
}

/// Why a command gave up.
struct Failure {
    exit: Exit,
    complaint: String,
}

impl Failure {
    fn new(complaint: impl Into<String>) -> Self {
        Self { exit: Exit::Failure, complaint: complaint.into() }
    }

    fn usage(complaint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, complaint: complaint.into() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(failed_to(&error))
    }
}

/// Opens the database, if its tables are those that this binary knows (STO-5).
fn open(settings: &Settings) -> Result<Box<dyn Store>, Failure> {
    if let Some(complaint) = db::missing_file(settings) {
        return Err(Failure::new(complaint));
    }
    let mut store = store::open(&store_options(settings))?;
    let migrations = store.migration_status()?;
    if !migrations.unknown.is_empty() {
        return Err(StoreError::NewerSchema { versions: migrations.unknown }.into());
    }
    if !migrations.pending.is_empty() {
        return Err(Failure::new(db::TABLES_BEHIND));
    }
    Ok(store)
}
