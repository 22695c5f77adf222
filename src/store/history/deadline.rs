//! A bound on how long SQLite may work on one statement; SQLite has none.
//!
//! SQLite calls a progress handler every [`STEPS`] steps of its virtual machine, which may end the statement.
//! diesel does not expose the connection on which to set a handler. So an automatic extension, which SQLite
//! runs for each connection that it opens, sets it on those opened within [`Deadline::guard`].

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libsqlite3_sys as ffi;

/// Steps of SQLite's virtual machine between two readings of the clock; a few hundred microseconds.
const STEPS: c_int = 10_000;
/// No deadline.
const NEVER: u64 = u64::MAX;

thread_local! {
    /// The deadline of the connection that this thread is opening.
    static OPENING: Cell<*const Shared> = const { Cell::new(ptr::null()) };
}

struct Shared {
    epoch: Instant,
    /// In microseconds since `epoch`.
    due: AtomicU64,
}

/// When the current statement of a connection must end. Must outlive the connection.
pub struct Deadline(Box<Shared>);

impl Deadline {
    /// Creates one that never passes.
    pub fn new() -> Self {
        Self(Box::new(Shared { epoch: Instant::now(), due: AtomicU64::new(NEVER) }))
    }

    /// Binds every connection that `open` opens on this thread to this deadline.
    pub fn guard<T>(&self, open: impl FnOnce() -> T) -> T {
        static REGISTERED: Once = Once::new();
        // SAFETY: `install` has the signature that SQLite calls an entry point with.
        REGISTERED.call_once(|| _ = unsafe { ffi::sqlite3_auto_extension(Some(install)) });
        let _closed = Closing;
        OPENING.set(&raw const *self.0);
        open()
    }

    /// Sets it `limit` from now. A limit of zero never passes.
    pub fn set(&self, limit: Duration) {
        let due = self.0.epoch.elapsed().saturating_add(limit).as_micros();
        let due = if limit.is_zero() { NEVER } else { u64::try_from(due).unwrap_or(NEVER) };
        self.0.due.store(due, Ordering::Relaxed);
    }
}

/// Ends [`Deadline::guard`], also after a panic.
struct Closing;

impl Drop for Closing {
    fn drop(&mut self) {
        OPENING.set(ptr::null());
    }
}

unsafe extern "C" fn install(
    connection: *mut ffi::sqlite3,
    _error: *mut *mut c_char,
    _api: *const ffi::sqlite3_api_routines,
) -> c_int {
    let deadline = OPENING.get();
    if !deadline.is_null() {
        // SAFETY: SQLite passes the connection that it is opening; `deadline` outlives it.
        unsafe {
            ffi::sqlite3_progress_handler(connection, STEPS, Some(is_overdue), deadline.cast_mut().cast());
        }
    }
    ffi::SQLITE_OK
}

/// Returns anything but 0 to end the statement.
unsafe extern "C" fn is_overdue(deadline: *mut c_void) -> c_int {
    // SAFETY: `install` passed a `Shared` that outlives the connection and is only changed through atomics.
    let shared = unsafe { &*deadline.cast::<Shared>() };
    let elapsed = u64::try_from(shared.epoch.elapsed().as_micros()).unwrap_or(NEVER);
    c_int::from(elapsed >= shared.due.load(Ordering::Relaxed))
}
