//! The composition root: makes every part and connects them.
//!
//! Opens the journal, makes the wires and what outlives the actors ([`plan`]), gives the supervisor the specs of its
//! [`children`] (downstream first), and runs the system until a signal or the supervisor ends it. No module but the
//! commands imports it.

mod children;
mod clock_watch;
mod live;
mod options;
mod plan;
mod reload;
mod replace;
mod service_status;
mod signals;
mod status_line;
mod wires;
#[cfg(test)]
mod wiring_tests;

use std::sync::Arc;

use actix::prelude::*;
use slog::{Logger, debug, error, info, warn};

use self::live::LiveParts;
use self::options::journal_options;
pub use self::options::{
    echo_topic, endpoints, link_options, payload_options, retention, shortest_retention, store_options,
    subscriptions, topic_prefix,
};
use self::plan::Plan;
use self::reload::{ReloadQueue, ReloadRequests, Reloader};
use self::signals::StopSignals;
pub use self::signals::hold_hangup;
use self::wires::{JournalEvents, Wires};
use crate::clock::ClockKeeper;
use crate::config::{Loaded, Settings, Sources};
use crate::journal::{Holder, Journal, JournalError, RealFs, Recovery};
use crate::logging::{LevelSwitch, causes, keys};
use crate::service_manager::ServiceManager;
use crate::shutdown::{Exit, StopDeadline};

/// What the service runs with, beside the configuration.
pub struct Surroundings {
    /// Where the configuration came from, and is read again.
    pub sources: Sources,
    /// Logs everything.
    pub logger: Logger,
    /// The levels of that logger.
    pub levels: LevelSwitch,
    /// Hears how the service is.
    pub manager: ServiceManager,
    /// Take over from an Andon that has the journal open, instead of failing.
    pub replaces: bool,
}

/// Runs the service until a signal stops it or the supervisor gives up; returns the exit code.
#[must_use]
pub fn run(loaded: Loaded, surroundings: Surroundings) -> Exit {
    let Surroundings { logger, manager, .. } = &surroundings;
    let settings = &loaded.settings;
    // Before the MQTT client library initialises OpenSSL, which would then be torn down at exit under threads
    // that use it.
    openssl_sys::init();
    let system = System::new();
    // From here on a signal stops the service in order, even while the journal is being opened.
    let deadline = StopDeadline::new(logger);
    let (reloads, queue) = ReloadRequests::new(logger);
    let signals = StopSignals::watch(deadline.clone(), reloads, logger.clone());
    #[cfg(feature = "failpoints")]
    let _armed = fail::FailScenario::setup();
    let wires = Wires::default();
    let listener = Arc::new(JournalEvents::new(wires.clone(), logger));
    if surroundings.replaces {
        manager.status("waiting for the Andon that has the journal open to end");
        if let Err(why) = replace::take_over(&settings.journal.dir, &deadline, logger) {
            return not_replaced(why, logger, manager);
        }
    }
    let journal = match open_journal(settings, listener, logger, manager) {
        Ok(journal) => journal,
        Err(exit) => return exit,
    };
    let clock = clock_watch::start(settings, logger);
    let plan = match Plan::new(settings, journal.clone(), Arc::clone(&clock), wires, deadline.clone(), logger)
    {
        Ok(plan) => plan,
        Err(error) => {
            error!(logger, "cannot start"; "error" => causes(&*error));
            manager.status(&format!("cannot start: {}", causes(&*error)));
            return Exit::Usage;
        }
    };
    info!(logger, "Andon is starting"; "version" => env!("CARGO_PKG_VERSION"), "site" => &settings.site.id,
        "journal_id" => %journal.id(), "journal_dir" => %settings.journal.dir.display(),
        "pending" => journal.positions().appended.since(journal.positions().committed),
        "database" => %settings.store.url);
    manager.watch(service_status::watch(Arc::clone(&plan.http_state), deadline));
    start_reloading(&plan, loaded.clone(), &surroundings, queue);
    let audit = plan.http_state.audit.clone();
    let code = plan.run(system, signals);
    manager.status(&format!("ended with exit code {code}"));
    close(journal, &clock, logger);
    audit.finish();
    info!(logger, "Andon has stopped"; "exit_code" => code);
    match code {
        0 => Exit::Clean,
        4 => Exit::GaveUp,
        _ => Exit::Failure,
    }
}

/// Ends without having taken over.
fn not_replaced(why: Option<String>, logger: &Logger, manager: &ServiceManager) -> Exit {
    let Some(why) = why else {
        info!(logger, "stopped before it took over; the old Andon goes on, or ends as it was asked to");
        return Exit::Clean;
    };
    error!(logger, "the Andon that has the journal open does not end: nothing was replaced. End it, then start again";
        "reason" => &why);
    manager.status(&format!("nothing was replaced: {why}"));
    Exit::Failure
}

/// Reloads from now on, first for the requests that have come since the start.
fn start_reloading(plan: &Plan, loaded: Loaded, surroundings: &Surroundings, queue: ReloadQueue) {
    let parts = LiveParts {
        cells: plan.live.clone(),
        health: Arc::clone(&plan.health),
        http: Arc::clone(&plan.http_state),
        levels: surroundings.levels.clone(),
    };
    let reloader = Reloader {
        sources: surroundings.sources.clone(),
        loaded,
        parts,
        audit: plan.http_state.audit.clone(),
        metrics: Arc::clone(&plan.metrics),
        manager: surroundings.manager.clone(),
        deadline: plan.deadline.clone(),
        logger: surroundings.logger.new(slog::o!(keys::COMPONENT => "config")),
    };
    reloader.start(queue);
}

/// Opens the journal, and reports what its recovery found; returns how the process ends if it cannot be opened.
fn open_journal(
    settings: &Settings,
    listener: Arc<JournalEvents>,
    logger: &Logger,
    manager: &ServiceManager,
) -> Result<Journal, Exit> {
    let dir = settings.journal.dir.display();
    debug!(logger, "opening the journal"; "dir" => %dir);
    manager.status(&format!("opening the journal in {dir}"));
    fail_point!("app::opening");
    let opened = Journal::open(journal_options(settings), Arc::new(RealFs), listener);
    let (journal, recovery) = opened.map_err(|error| {
        let error_text = match &error {
            JournalError::Locked { pid, .. } => {
                let who = replace::words(Holder { pid: *pid });
                format!(
                    "{}: {who}. Stop it first, or start this one with `andon run --replace`",
                    causes(&error)
                )
            }
            _ => causes(&error),
        };
        error!(logger, "the journal cannot be opened"; "dir" => %dir, "error" => &error_text);
        manager.status(&format!("the journal cannot be opened: {error_text}"));
        exit_of(&error)
    })?;
    report_torn_tail(&recovery, logger);
    if let Some(owner) = &recovery.taken_from {
        warn!(logger, "the journal belonged to another site, and all its messages are stored: taking it over \
            under a new journal id, from behind its newest record"; "owner" => owner, "site" => &settings.site.id,
            "behind" => recovery.last.0);
    }
    Ok(journal)
}

/// Closes the journal, and stores the trusted time.
fn close(journal: Journal, clock: &ClockKeeper, logger: &Logger) {
    if let Err(error) = journal.close() {
        error!(logger, "the journal could not be closed"; "error" => causes(&error));
    }
    if let Err(error) = clock.close() {
        warn!(logger, "the trusted time could not be stored beside the journal"; "error" => causes(&error));
    }
}

/// Returns how the process ends if it cannot use its journal.
#[must_use]
pub fn exit_of(error: &JournalError) -> Exit {
    match error {
        error if error.is_damage() => Exit::JournalDamaged,
        error if error.is_misuse() => Exit::Usage,
        _ => Exit::Failure,
    }
}

fn report_torn_tail(recovery: &Recovery, logger: &Logger) {
    let torn = recovery.torn.as_ref();
    let kept = torn.map(|torn| torn.kept.iter().map(|path| path.display().to_string()).collect::<Vec<_>>());
    let (kept, bytes) = (kept.unwrap_or_default().join(", "), torn.map_or(0, |torn| torn.bytes));
    if let Some(lost) = recovery.lost {
        error!(logger, "the end of the journal is missing although it had reached the disk: cut at the last \
            whole record; what the database does not have becomes a gap. Check the disk, and whether anything \
            else writes to the journal's directory";
            "records" => %lost, "bytes_cut" => bytes, "kept_in" => kept);
    } else if let Some(torn) = torn {
        warn!(logger, "the journal ended in a torn record, as after a power cut: cut at the last whole record";
            "segment" => %torn.path.display(), "offset" => torn.offset, "what" => &torn.what,
            "bytes_cut" => bytes, "kept_in" => kept);
    }
}
