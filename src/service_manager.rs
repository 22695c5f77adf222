//! The service manager, such as systemd: it hears when Andon is ready, what it does, that it makes progress, and when it
//! needs more time. The one place that knows the protocol (sd_notify).
//!
//! Owns a thread that looks at the service at least twice a second and sends; so a service manager that does not read its
//! socket delays no actor. Without `NOTIFY_SOCKET` there is no thread, and nothing is sent.
//!
//! Invariants
//! - **NTF-4** A reload is RELOADING with the monotonic time, then READY again; a stop in between is STOPPING alone.
//! - **NTF-1** READY is sent once, but for reloads: when the journal is open and the actors run, whatever broker and database do, and in
//!   any case before an exit with code 0.
//! - **NTF-2** WATCHDOG is sent only after progress: since the last time the supervisor has checked its actors and one of
//!   them has answered; or none could, because the disk stalls or every actor waits for its restart. No outage holds it
//!   back, and a supervisor that stands still does.
//! - **NTF-3** A text from outside, such as a broker's reason, cannot pass for another message.

mod progress;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use slog::{Logger, error, o, warn};

pub use self::progress::{Beat, Phase, Snapshot};

use self::progress::WatchdogFeed;
use crate::logging::{causes, keys};
use crate::shutdown::{Exit, STOP_MAX};
use crate::terminal;

/// Pause between two looks at the service; shorter if the watchdog asks for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// While the state is the same, a new status line is sent no more often than this.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// More time for a start that is still reading or writing: enough for a slow disk to show further progress.
const START_EXTENSION: Duration = Duration::from_secs(60);
/// More time than the longest stop takes.
const STOP_EXTENSION: Duration = STOP_MAX.saturating_add(Duration::from_secs(2));
/// Longest status line, in characters.
const STATUS_CHARS_MAX: usize = 300;

/// One message to the service manager.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Message {
    Ready,
    Reloading,
    Stopping,
    Watchdog,
    Status(String),
    MoreTime(Duration),
}

/// The connection to the service manager, if there is one. Clones share it.
#[derive(Clone)]
pub struct ServiceManager {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    reporter: Mutex<Reporter>,
    /// The newest message could not be sent.
    is_deaf: AtomicBool,
    logger: Logger,
}

impl ServiceManager {
    /// Finds the service manager in the environment, and starts the thread that reports to it.
    #[must_use]
    pub fn connect(logger: &Logger) -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none_or(|socket| socket.is_empty()) {
            return Self { shared: None };
        }
        let watchdog = sd_notify::watchdog_enabled();
        let interval = watchdog
            .map_or(LOOK_INTERVAL, |watchdog| (watchdog / 4).clamp(Duration::from_millis(10), LOOK_INTERVAL));
        let reporter = Reporter { has_watchdog: watchdog.is_some(), ..Reporter::default() };
        let logger = logger.new(o!(keys::COMPONENT => "service_manager"));
        let shared =
            Arc::new(Shared { reporter: Mutex::new(reporter), is_deaf: AtomicBool::new(false), logger });
        let reporting = Arc::clone(&shared);
        let thread = thread::Builder::new().name("service-manager".to_owned());
        if let Err(error) = thread.spawn(move || reporting.report_for_ever(interval)) {
            error!(shared.logger, "cannot start the thread that reports to the service manager: it may consider Andon dead";
                keys::ERROR => causes(&error));
        }
        Self { shared: Some(shared) }
    }

    /// Says what Andon is doing while there is nothing to watch: before [`ServiceManager::watch`], and after it.
    pub fn status(&self, text: &str) {
        self.update(|reporter| {
            reporter.look = None;
            reporter.status(text, text, Instant::now()).into_iter().collect()
        });
    }

    /// Reports from now on what `look` returns. It is called twice a second or more and must not wait for anything.
    pub fn watch(&self, look: impl Fn() -> Snapshot + Send + 'static) {
        self.update(|reporter| {
            reporter.look = Some(Box::new(look));
            Vec::new()
        });
    }

    /// Says that the configuration is being read again.
    pub fn reloading(&self) {
        self.update(Reporter::reloading);
    }

    /// Says that a reload has ended, however it did.
    pub fn reloaded(&self) {
        self.update(Reporter::reloaded);
    }

    /// Says that the process ends with that code. The newest status stays.
    pub fn end(&self, exit: Exit) {
        self.update(|reporter| reporter.end(exit));
    }

    fn update(&self, change: impl FnOnce(&mut Reporter) -> Vec<Message>) {
        if let Some(shared) = &self.shared {
            shared.update(change);
        }
    }
}

impl Shared {
    fn report_for_ever(&self, interval: Duration) -> ! {
        loop {
            self.update(|reporter| reporter.look(Instant::now(), bytes_moved));
            thread::sleep(interval);
        }
    }

    /// Sends what the change results in. One at a time: a READY that is on its way comes before the end.
    fn update(&self, change: impl FnOnce(&mut Reporter) -> Vec<Message>) {
        let mut reporter = self.reporter.lock().unwrap_or_else(PoisonError::into_inner);
        match send(&change(&mut reporter)) {
            Ok(()) => self.is_deaf.store(false, Ordering::Relaxed),
            Err(error) => {
                if !self.is_deaf.swap(true, Ordering::Relaxed) {
                    warn!(self.logger, "the service manager cannot be reached: it may consider Andon dead";
                        keys::ERROR => causes(&error));
                }
            }
        }
    }
}

/// Sends all messages in one datagram.
fn send(messages: &[Message]) -> std::io::Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    // Together with the message of a reload, so that systemd can tell an old READY from a new one.
    let now = messages.contains(&Message::Reloading).then(NotifyState::monotonic_usec_now).transpose()?;
    let states: Vec<NotifyState<'_>> = messages
        .iter()
        .map(|message| match message {
            Message::Ready => NotifyState::Ready,
            Message::Reloading => NotifyState::Reloading,
            Message::Stopping => NotifyState::Stopping,
            Message::Watchdog => NotifyState::Watchdog,
            Message::Status(text) => NotifyState::Status(text),
            Message::MoreTime(time) => {
                NotifyState::ExtendTimeoutUsec(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
            }
        })
        .chain(now)
        .collect();
    sd_notify::notify(&states)
}

/// How many bytes this process has read and written, which is the progress of a start. `None`: the kernel does not say.
fn bytes_moved() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    let value = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
    };
    Some(value("rchar:")? + value("wchar:")?)
}

/// Decides what to send. Pure: callers pass the time and the bytes moved.
#[derive(Default)]
struct Reporter {
    look: Option<Box<dyn Fn() -> Snapshot + Send>>,
    has_watchdog: bool,
    is_ready: bool,
    is_reloading: bool,
    is_stopping: bool,
    feed: WatchdogFeed,
    bytes_moved: Option<u64>,
    last: Option<Sent>,
}

/// The newest status line.
struct Sent {
    state: String,
    line: String,
    at: Instant,
}

impl Reporter {
    fn look(&mut self, now: Instant, bytes_moved: impl FnOnce() -> Option<u64>) -> Vec<Message> {
        let Some(snapshot) = self.look.as_ref().map(|look| look()) else {
            return self.more_time_to_start(bytes_moved());
        };
        let mut messages = Vec::new();
        if snapshot.phase != Phase::Starting {
            messages.extend(self.ready());
        }
        if snapshot.phase == Phase::Stopping {
            messages.extend(self.stopping());
        }
        if self.has_watchdog && self.is_ready && self.feed.is_due(&snapshot.beat) {
            messages.push(Message::Watchdog);
        }
        messages.extend(self.status(&snapshot.state, &snapshot.line, now));
        messages
    }

    /// A start that reads or writes makes progress, and gets more time.
    fn more_time_to_start(&mut self, bytes_moved: Option<u64>) -> Vec<Message> {
        let before = std::mem::replace(&mut self.bytes_moved, bytes_moved);
        // Reading the count moves a few bytes, too.
        const OWN_BYTES: u64 = 4_096;
        let has_moved = before.zip(bytes_moved).is_some_and(|(before, now)| now > before + OWN_BYTES);
        if has_moved { vec![Message::MoreTime(START_EXTENSION)] } else { Vec::new() }
    }

    fn ready(&mut self) -> Option<Message> {
        (!std::mem::replace(&mut self.is_ready, true)).then_some(Message::Ready)
    }

    /// A service that is not ready yet, or stops, has another state to report.
    fn reloading(&mut self) -> Vec<Message> {
        self.is_reloading = self.is_ready && !self.is_stopping;
        if self.is_reloading { vec![Message::Reloading] } else { Vec::new() }
    }

    fn reloaded(&mut self) -> Vec<Message> {
        let was_reloading = std::mem::take(&mut self.is_reloading);
        if was_reloading && !self.is_stopping { vec![Message::Ready] } else { Vec::new() }
    }

    fn stopping(&mut self) -> Vec<Message> {
        if std::mem::replace(&mut self.is_stopping, true) {
            return Vec::new();
        }
        vec![Message::Stopping, Message::MoreTime(STOP_EXTENSION)]
    }

    /// Sends the line at once if the state has changed, else now and then.
    fn status(&mut self, state: &str, line: &str, now: Instant) -> Option<Message> {
        let is_due = self.last.as_ref().is_none_or(|last| {
            last.state != state
                || (last.line != line && now.saturating_duration_since(last.at) >= STATUS_INTERVAL)
        });
        if !is_due {
            return None;
        }
        self.last = Some(Sent { state: state.to_owned(), line: line.to_owned(), at: now });
        Some(status_line(line))
    }

    fn end(&mut self, exit: Exit) -> Vec<Message> {
        self.look = None;
        let mut messages = Vec::new();
        if exit == Exit::Clean {
            messages.extend(self.ready());
        }
        messages.extend(self.stopping());
        messages
    }
}

/// Makes a status of one line: a line break would begin another message (NTF-3).
fn status_line(text: &str) -> Message {
    let text = terminal::printable(text);
    let cut = text.chars().count() > STATUS_CHARS_MAX;
    let mut line: String = text.chars().take(STATUS_CHARS_MAX).collect();
    if cut {
        line.push('…');
    }
    Message::Status(line)
}
