//! Logging: one `slog` logger for everything, as text or JSON on standard error.
//!
//! Drains from the outside in: level filter → bounded channel → format → standard error. The filter comes first, so that
//! a suppressed record costs next to nothing.
//!
//! # Invariants
//! - **LOG-1** Logging never blocks the pipeline: a full channel drops the record, and the number of dropped records is logged.
//! - **LOG-2** Dropping [`LogGuard`] writes every record logged before, but waits at most two seconds.
//! - **LOG-3** A failed write never panics and never ends logging.
//!
//! Warnings and errors of crates that use `log` are included, with their target as the `component`.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use slog::{Drain, FnValue, KV, Key, Level, Logger, Never, OwnedKVList, PushFnValue, Record, Serializer, o};

pub mod keys;
mod level_switch;
mod panics;
#[cfg(test)]
mod tests;
mod text;

pub use self::level_switch::LevelSwitch;
pub use self::panics::{install_panic_hook, last_panic_message, remember_panics, take_panic_message};
use self::text::text_drain;
use crate::config::{LogFormat, LogLevels};
use crate::terminal;

/// Most records waiting to be written; further ones are dropped and counted (LOG-1). A record takes about 300 bytes.
const CHANNEL_RECORDS_MAX: usize = 4096;
/// How long the end of the process waits for the last records if standard error hangs.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Keeps logging alive; dropping it writes the remaining records (LOG-2). Keep it until just before the exit.
#[must_use = "dropping the guard ends logging"]
pub struct LogGuard {
    channel: Option<slog_async::AsyncGuard>,
    levels: LevelSwitch,
}

impl LogGuard {
    /// Returns what changes the levels from now on.
    #[must_use]
    pub fn levels(&self) -> LevelSwitch {
        self.levels.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let Some(channel) = self.channel.take() else {
            return;
        };
        // Joining the writing thread takes for ever if nobody reads our standard error, so another thread does it.
        let (done, finished) = mpsc::sync_channel(1);
        let flush = move || {
            drop(channel);
            done.send(()).ok()
        };
        if thread::Builder::new().name("log-flush".to_owned()).spawn(flush).is_ok() {
            finished.recv_timeout(FLUSH_MAX).ok();
        }
    }
}

/// Starts logging to standard error, including records of the `log` crate (from the first call in a process).
pub fn init(format: LogFormat, levels: &LogLevels) -> (Logger, LogGuard) {
    let (logger, guard) = match format {
        LogFormat::Text => {
            // The decorator uses colours on a terminal only.
            let decorator = slog_term::TermDecorator::new().stderr().build();
            start(text_drain(decorator), levels)
        }
        LogFormat::Json => start(json_drain(std::io::stderr()), levels),
    };
    bridge_log_crate(&logger);
    (logger, guard)
}

fn start<D>(writer: D, levels: &LogLevels) -> (Logger, LogGuard)
where
    D: Drain<Ok = (), Err = Never> + Send + 'static,
{
    let (channel, guard) = slog_async::Async::new(writer)
        .chan_size(CHANNEL_RECORDS_MAX)
        .overflow_strategy(slog_async::OverflowStrategy::DropAndReport)
        .thread_name("log".to_owned())
        .build_with_guard();
    let levels = LevelSwitch::new(levels);
    let filter = ComponentFilter { levels: levels.clone(), drain: channel.ignore_res() };
    (Logger::root(filter, o!()), LogGuard { channel: Some(guard), levels })
}

/// Writes one object per line: `ts`, `level`, `msg`, then the values of the logger and the record.
fn json_drain<W: Write + Send + 'static>(io: W) -> impl Drain<Ok = (), Err = Never> + Send + 'static {
    let format = slog_json::Json::new(PlainJson(io))
        .set_flush(true)
        .add_key_value(o!("ts" => FnValue(|_: &Record<'_>| now())))
        .add_key_value(o!("level" => FnValue(|record: &Record<'_>| level_word(record.level()))))
        .add_key_value(
            o!("msg" => PushFnValue(|record: &Record<'_>, serializer| serializer.emit(record.msg()))),
        )
        .build();
    format.ignore_res()
}

/// Escapes invisible characters, and those that reverse text, in the JSON written through it; `slog_json` does not.
struct PlainJson<W>(W);

impl<W: Write> Write for PlainJson<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.0.write_all(terminal::json(text).as_bytes())?,
            // A serializer writes whole characters; anything else is passed on unchanged.
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Returns the current time: RFC 3339, UTC, microseconds.
#[expect(clippy::disallowed_methods, reason = "the time of a record is for people; nothing is decided by it")]
fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)
}

const fn level_word(level: Level) -> &'static str {
    match level {
        Level::Critical | Level::Error => "error",
        Level::Warning => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// Returns an error with all its causes, on one line.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut texts = Vec::new();
    let mut next: Option<&dyn Error> = Some(error);
    while let Some(error) = next {
        texts.push(error.to_string().trim().replace(['\r', '\n'], " "));
        next = error.source();
    }
    texts.join(": ")
}

/// Passes the records that the levels admit, by component.
struct ComponentFilter<D> {
    levels: LevelSwitch,
    drain: D,
}

impl<D: Drain<Ok = (), Err = Never>> Drain for ComponentFilter<D> {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if !self.levels.may_admit(record.level()) {
            return Ok(());
        }
        let level = self.levels.of(|| component(record, values));
        if record.level().is_at_least(level) { self.drain.log(record, values) } else { Ok(()) }
    }

    fn is_enabled(&self, level: Level) -> bool {
        self.levels.may_admit(level)
    }
}

/// Returns the component of the record, or else of the logger.
fn component(record: &Record<'_>, values: &OwnedKVList) -> Option<String> {
    let mut search = ComponentSearch { found: None };
    record.kv().serialize(record, &mut search).ok()?;
    values.serialize(record, &mut search).ok()?;
    search.found
}

/// Keeps the first value of the key `component`: child loggers come before their parents.
struct ComponentSearch {
    found: Option<String>,
}

impl Serializer for ComponentSearch {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        if self.found.is_none() && AsRef::<str>::as_ref(&key) == keys::COMPONENT {
            self.found = Some(value.to_string());
        }
        Ok(())
    }
}

/// Crates whose warnings repeat our own (a lost link, with a pointer in its text), or that any port scanner can cause, one
/// line each time (malformed HTTP).
const MUTED_CRATES: [&str; 2] = ["paho_mqtt", "actix_http"];

fn is_muted(target: &str) -> bool {
    MUTED_CRATES.iter().any(|name| target.split("::").next() == Some(name))
}

/// Sends records of the `log` crate to `logger`. A later call in the same process only replaces the logger.
fn bridge_log_crate(logger: &Logger) {
    let target = FnValue(|record: &Record<'_>| record.tag().to_owned());
    let admitted = logger.clone().filter(|record| !is_muted(record.tag()));
    let bridge = Logger::root(admitted.ignore_res(), o!(keys::COMPONENT => target));
    // The global logger stays: resetting it would make later records of other crates panic.
    slog_scope::set_global_logger(bridge).cancel_reset();
    // Never below warning: at debug the MQTT client library prints its connect options, passwords included.
    // Fails if a backend is installed already, which is ours from an earlier call.
    slog_stdlog::init_with_level(log::Level::Warn).ok();
}
