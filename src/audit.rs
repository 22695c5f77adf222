//! The audit log: who changed what, from where, and how it ended.
//!
//! Each event is a line of the log with `component=audit`, at once, and a row of the table `audit_event`. Owns one thread
//! that writes the rows, so that nobody waits for the database: while it is away, the line alone remains (DESIGN §4).
//! Its connection is opened for each row and closed again: such events are rare, and no idle connection holds a file that
//! was moved. What needs no trace, such as reading, is no event. Commands have no thread: see [`record_and_wait`].

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use slog::{Logger, info, o, warn};

use crate::clock::wall_now;
use crate::logging::{causes, keys};
use crate::store::{self, AuditEvent, StoreOptions, Worker, WorkerConnection};

/// Most rows that wait for the database.
const QUEUE_MAX: usize = 256;

/// How long the end of the process waits for the rows.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// Where events are recorded. Clones share it.
#[derive(Clone)]
pub struct AuditTrail {
    thread: Worker<Connection>,
    logger: Logger,
}

struct Connection {
    options: StoreOptions,
    logger: Logger,
}

impl WorkerConnection for Connection {}

impl Connection {
    fn record(&self, events: &[AuditEvent]) {
        if let Some(path) = self.options.url.sqlite_path()
            && !path.exists()
        {
            return self.line_alone("its file is not there"); // Opening would create it.
        }
        let recorded = store::open(&self.options)
            .and_then(|mut store| events.iter().try_for_each(|event| store.record_audit(event)));
        if let Err(error) = recorded {
            self.line_alone(&causes(&error));
        }
    }

    fn line_alone(&self, why: &str) {
        warn!(self.logger, "the database does not take the row of an audit event: it is in the log alone";
            keys::REASON => why);
    }
}

/// Describes an event that happens now.
#[must_use]
pub fn event_now(actor: &str, source: &str, action: &str, outcome: &str) -> AuditEvent {
    AuditEvent {
        at: wall_now(),
        actor: actor.to_owned(),
        source: source.to_owned(),
        action: action.to_owned(),
        target: None,
        outcome: outcome.to_owned(),
        detail: None,
    }
}

impl AuditTrail {
    /// Starts the thread. It ends when the last clone is dropped.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(store: &StoreOptions, logger: &Logger) -> std::io::Result<Self> {
        let logger = logger.new(o!(keys::COMPONENT => "audit"));
        let (options, of_thread) = (store.clone(), logger.clone());
        let connection = move || Connection { options: options.clone(), logger: of_thread.clone() };
        Ok(Self { thread: Worker::start("audit", 1, QUEUE_MAX, connection)?, logger })
    }

    /// Logs an event, and has its row written. Returns at once.
    pub fn record(&self, event: AuditEvent) {
        log_line(&self.logger, &event);
        if self.thread.run(move |connection| connection.record(std::slice::from_ref(&event))).is_err() {
            warn!(self.logger, "too many audit events wait for the database: this one is in the log alone");
        }
    }

    /// Waits a moment until the rows of all events so far are written; logs it if they are not. For the end of the process,
    /// which ends the thread.
    pub fn finish(&self) {
        let (done, written) = sync_channel(1);
        let has_room = self.thread.run(move |_| done.send(()).unwrap_or_default()).is_ok();
        if !has_room || written.recv_timeout(FINISH_MAX).is_err() {
            warn!(
                self.logger,
                "the database did not take the rows of the last audit events: they are in the log alone"
            );
        }
    }
}

/// Logs events, and returns once their rows are written, or cannot be, or after `within`: no timeout of a server or of
/// libpq ends the wait for a database that takes a statement and never answers.
pub fn record_and_wait(store: &StoreOptions, events: Vec<AuditEvent>, within: Duration, logger: &Logger) {
    events.iter().for_each(|event| log_line(logger, event));
    let connection = Connection { options: store.clone(), logger: logger.clone() };
    let (done, recorded) = sync_channel(1);
    let record = move || {
        connection.record(&events);
        done.send(()).ok()
    };
    let late = Connection { options: store.clone(), logger: logger.clone() };
    match std::thread::Builder::new().name("audit".to_owned()).spawn(record) {
        Ok(_) if recorded.recv_timeout(within) != Err(RecvTimeoutError::Timeout) => {}
        Ok(_) => late.line_alone(&format!("no answer within {} s", within.as_secs())),
        Err(error) => late.line_alone(&causes(&error)),
    }
}

/// Logs an event, without its row.
pub fn log_line(logger: &Logger, event: &AuditEvent) {
    info!(logger, "audit"; "actor" => &event.actor, "source" => &event.source, "action" => &event.action,
        "target" => &event.target, "outcome" => &event.outcome, "detail" => &event.detail);
}
