//! The reload at SIGHUP: reads every source again, checks all of it as a start would, and applies what can change while
//! Andon runs.
//!
//! Owns the configuration in effect and a thread of its own: files may lie on a disk that stalls. Requests come from the
//! signals' thread through [`ReloadRequests`].
//!
//! Invariants
//! - **REL-1** One reload runs at a time. A request during a reload is never lost: another reload follows it.
//! - **REL-2** A configuration with a mistake changes nothing, and every mistake is logged.
//! - **REL-3** What a reload says to have applied is in effect, also for parts that restart later; what it says to need
//!   a restart is said again at each reload until then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use slog::{Logger, error, info, o, warn};

use super::live::LiveParts;
use super::signals::Sender;
use crate::audit::{AuditTrail, event_now};
use crate::clock::wall_now;
use crate::config::{ConfigError, Loaded, Sources, load};
use crate::domain::ReloadOutcome;
use crate::logging::{causes, keys};
use crate::metrics::Metrics;
use crate::operator::user_name;
use crate::service_manager::ServiceManager;
use crate::shutdown::StopDeadline;
use crate::store::AuditEvent;

/// What asks for a reload; also the actor, if nobody knows whose signal it was.
const SIGNAL: &str = "SIGHUP";

/// Where a signal asks for a reload. Clones share it.
#[derive(Clone)]
pub(super) struct ReloadRequests {
    queue: SyncSender<Sender>,
    is_busy: Arc<AtomicBool>,
    logger: Logger,
}

/// The other end, for the thread that reloads.
pub(super) struct ReloadQueue {
    requests: Receiver<Sender>,
    is_busy: Arc<AtomicBool>,
}

impl ReloadRequests {
    /// Makes a queue with room for one request: it covers all that come before its reload begins (REL-1).
    pub(super) fn new(logger: &Logger) -> (Self, ReloadQueue) {
        let (queue, requests) = sync_channel(1);
        let is_busy = Arc::new(AtomicBool::new(false));
        let logger = logger.new(o!(keys::COMPONENT => "config"));
        let queue_end = ReloadQueue { requests, is_busy: Arc::clone(&is_busy) };
        (Self { queue, is_busy, logger }, queue_end)
    }

    /// Asks for a reload. `sender` is whose signal it was.
    pub(super) fn request(&self, sender: Sender) {
        match self.queue.try_send(sender) {
            Ok(()) if self.is_busy.load(Ordering::SeqCst) => {
                info!(self.logger, "a reload is under way: another one follows when it has ended");
            }
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                info!(self.logger, "a reload is requested already: it covers this request, too");
            }
            Err(TrySendError::Disconnected(_)) => {
                error!(self.logger, "cannot reload the configuration: its thread has ended; restart Andon");
            }
        }
    }
}

/// What a reload needs, beside the parts.
pub(super) struct Reloader {
    pub(super) sources: Sources,
    /// What is in effect.
    pub(super) loaded: Loaded,
    pub(super) parts: LiveParts,
    pub(super) audit: AuditTrail,
    pub(super) metrics: Arc<Metrics>,
    pub(super) manager: ServiceManager,
    pub(super) deadline: StopDeadline,
    pub(super) logger: Logger,
}

impl Reloader {
    /// Starts the thread, which ends with the process.
    pub(super) fn start(self, queue: ReloadQueue) {
        let logger = self.logger.clone();
        let reload_for_ever = move || {
            let mut reloader = self;
            while let Ok(sender) = queue.requests.recv() {
                queue.is_busy.store(true, Ordering::SeqCst);
                reloader.on_request(sender);
                queue.is_busy.store(false, Ordering::SeqCst);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("reload".to_owned()).spawn(reload_for_ever) {
            error!(logger, "cannot start the thread that reloads the configuration: a change needs a restart";
                keys::ERROR => causes(&error));
        }
    }

    fn on_request(&mut self, sender: Sender) {
        if self.deadline.is_armed() {
            info!(self.logger, "stopping: the reload is left out");
            return;
        }
        self.manager.reloading();
        let (outcome, detail) = self.reload();
        self.record(sender, outcome, detail);
        self.metrics.reloads.of(outcome).add(1);
        if outcome != ReloadOutcome::Refused {
            let seconds = u64::try_from(wall_now().as_micros() / 1_000_000).unwrap_or(0);
            self.metrics.reloaded_at.set(seconds);
        }
        self.manager.reloaded();
    }

    /// Records who asked, and which keys were applied: their names, never their values.
    fn record(&self, sender: Sender, outcome: ReloadOutcome, detail: String) {
        let actor = sender.map_or_else(|| SIGNAL.to_owned(), user_name);
        let outcome = if outcome == ReloadOutcome::Refused { "refused" } else { "done" };
        let event = event_now(&actor, SIGNAL, "reload", outcome);
        self.audit.record(AuditEvent { detail: Some(detail), ..event });
    }

    fn reload(&mut self) -> (ReloadOutcome, String) {
        fail_point!("reload::reading");
        let newer = match load(&self.sources) {
            Ok(newer) => newer,
            Err(error) => return self.refuse(&error),
        };
        for warning in newer.new_warnings(&self.loaded) {
            warn!(self.logger, "questionable setting"; keys::REASON => warning);
        }
        let reload = match self.loaded.reload(&newer) {
            Ok(reload) => reload,
            Err(error) => {
                error!(self.logger, "the new configuration needs a restart, and cannot be applied in part: keeping what \
                    is in effect"; keys::REASON => causes(&error));
                return (ReloadOutcome::Refused, error.to_string());
            }
        };
        if let Err(error) = self.parts.apply(&self.loaded.settings, &reload.loaded.settings) {
            error!(self.logger, "the new configuration cannot be applied: keeping what is in effect";
                keys::REASON => causes(&*error));
            return (ReloadOutcome::Refused, causes(&*error));
        }
        self.loaded = reload.loaded;
        let applied =
            if reload.applied.is_empty() { "nothing".to_owned() } else { reload.applied.join(", ") };
        if reload.needs_restart.is_empty() {
            info!(self.logger, "reloaded the configuration"; "applied" => &applied);
            return (ReloadOutcome::Applied, format!("applied: {applied}"));
        }
        let waiting = reload.needs_restart.join(", ");
        warn!(self.logger, "reloaded the configuration; some keys wait for a restart"; "applied" => &applied,
            "needs_restart" => &waiting);
        (ReloadOutcome::NeedsRestart, format!("applied: {applied}; need a restart: {waiting}"))
    }

    /// Logs what `config check` would print (REL-2).
    fn refuse(&self, error: &ConfigError) -> (ReloadOutcome, String) {
        for problem in &error.problems {
            error!(self.logger, "mistake in the configuration"; keys::REASON => problem.to_string());
        }
        error!(self.logger, "the new configuration has mistakes: keeping what is in effect. Correct them, run \
            `andon config check`, and reload again"; "mistakes" => error.problems.len());
        (ReloadOutcome::Refused, format!("mistakes in the configuration: {}", error.problems.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves REL-1.
    #[test]
    fn requests_before_a_reload_begins_are_one_and_a_request_during_it_follows() {
        let (requests, queue) = ReloadRequests::new(&Logger::root(slog::Discard, o!()));
        (0..5).for_each(|_| requests.request(Some(0)));
        assert_eq!((queue.requests.try_recv().is_ok(), queue.requests.try_recv().is_ok()), (true, false));
        queue.is_busy.store(true, Ordering::SeqCst);
        requests.clone().request(None);
        assert!(queue.requests.try_recv().is_ok());
    }
}
