//! Panics: logs each one once, and keeps its message for the supervisor of the thread.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::HashMap;
use std::panic::{self, PanicHookInfo};
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, ThreadId};

use slog::{Logger, error};

use super::keys;

/// Most threads whose last panic is kept; beyond it, one is dropped.
const THREADS_MAX: usize = 64;

static LAST_PANICS: LazyLock<Mutex<HashMap<ThreadId, String>>> = LazyLock::new(Mutex::default);
static PANIC_LOGGER: Mutex<Option<Logger>> = Mutex::new(None);

/// Locks a mutex, poisoned or not: its data is consistent between any two statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Installs a hook that logs every panic of the process to `logger` as one ERROR record, with place, thread and, if
/// `RUST_BACKTRACE` is set, backtrace, instead of the standard text on standard error. Also keeps the message.
pub fn install_panic_hook(logger: Logger) {
    *locked(&PANIC_LOGGER) = Some(logger);
    remember_panics();
}

/// Installs a hook that keeps the last panic of each thread. Without [`install_panic_hook`] the standard text still goes to
/// standard error. Idempotent.
pub fn remember_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let standard = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let message = message(info);
            let location = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
            remember(&mut locked(&LAST_PANICS), thread::current().id(), format!("{message} ({location})"));
            // Cloned, so that the lock is not held while logging.
            let logger = locked(&PANIC_LOGGER).clone();
            match logger {
                Some(logger) => log(&logger, &message, &location),
                None => standard(info),
            }
        }));
    });
}

/// Returns the message and place of the last panic of `thread`, once. `None` if it has not panicked since the last call, or
/// since the hook was installed.
#[must_use]
pub fn take_panic_message(thread: ThreadId) -> Option<String> {
    locked(&LAST_PANICS).remove(&thread)
}

/// Returns the message and place of the last panic of this thread, for the code that has just caught it.
#[must_use]
pub fn last_panic_message() -> String {
    take_panic_message(thread::current().id()).unwrap_or_else(|| "a panic without a known message".to_owned())
}

fn log(logger: &Logger, message: &str, location: &str) {
    let current = thread::current();
    let thread_name = current.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        error!(logger, "panic"; keys::REASON => message, keys::LOCATION => location,
               keys::THREAD => thread_name, "backtrace" => %backtrace);
    } else {
        error!(logger, "panic"; keys::REASON => message, keys::LOCATION => location, keys::THREAD => thread_name);
    }
}

fn remember(panics: &mut HashMap<ThreadId, String>, thread: ThreadId, message: String) {
    if panics.len() >= THREADS_MAX
        && !panics.contains_key(&thread)
        && let Some(forgotten) = panics.keys().next().copied()
    {
        panics.remove(&forgotten);
    }
    panics.insert(thread, message);
}

fn message(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is not text")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use slog::{Drain, KV, Key, Never, OwnedKVList, Record, Serializer, o};

    use super::*;

    /// Takes the value of the key `reason`.
    struct Reason(String);

    impl Serializer for Reason {
        fn emit_arguments(&mut self, key: Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
            if AsRef::<str>::as_ref(&key) == keys::REASON {
                self.0 = value.to_string();
            }
            Ok(())
        }
    }

    /// Keeps level and reason of records.
    #[derive(Clone, Default)]
    struct Records(Arc<Mutex<Vec<(slog::Level, String)>>>);

    impl Drain for Records {
        type Ok = ();
        type Err = Never;

        fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
            let mut reason = Reason(String::new());
            record.kv().serialize(record, &mut reason).ok();
            locked(&self.0).push((record.level(), reason.0));
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_logged_once_and_its_message_handed_out_once() {
        let records = Records::default();
        install_panic_hook(Logger::root(records.clone(), o!()));
        let thread = thread::Builder::new().name("victim".to_owned()).spawn(|| panic!("number {}", 7));
        let thread = thread.expect("a thread");
        let id = thread.thread().id();
        let outcome = thread.join();
        *locked(&PANIC_LOGGER) = None;

        assert!(outcome.is_err());
        let told = take_panic_message(id).expect("a message");
        assert!(told.starts_with("number 7 (") && told.contains("panics.rs:"), "{told}");
        assert_eq!(take_panic_message(id), None);
        // Other tests may have panicked on purpose meanwhile.
        let ours =
            |(level, reason): &&(slog::Level, String)| *level == slog::Level::Error && reason == "number 7";
        assert_eq!(locked(&records.0).iter().filter(ours).count(), 1);
    }

    #[test]
    fn code_that_catches_a_panic_gets_its_message() {
        remember_panics();
        let caught = panic::catch_unwind(|| panic!("caught"));
        assert!(caught.is_err());
        assert!(last_panic_message().starts_with("caught ("));
        assert_eq!(last_panic_message(), "a panic without a known message");
    }

    #[test]
    fn the_memory_of_panics_is_bounded() {
        // One of its own: that of the process holds what other tests are about to ask for.
        let mut panics = HashMap::new();
        for _ in 0..THREADS_MAX + 10 {
            let id = thread::spawn(|| thread::current().id()).join().expect("no panic");
            remember(&mut panics, id, "gone".to_owned());
        }
        assert_eq!(panics.len(), THREADS_MAX);
    }
}
