//! When a connection last finished a statement: tells a slow job from a hung one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{Connection, InstrumentationEvent};

/// Shared by a connection, which records each statement that it finishes, and the waiter for its job.
#[derive(Clone)]
pub struct Progress(Arc<Finished>);

struct Finished {
    epoch: Instant,
    /// Microseconds since `epoch`.
    last: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Finished { epoch: Instant::now(), last: AtomicU64::new(0) }))
    }
}

impl Progress {
    /// Returns when the newest statement finished; before the first one, when this was created.
    #[must_use]
    pub fn last(&self) -> Instant {
        self.0.epoch + Duration::from_micros(self.0.last.load(Ordering::Relaxed))
    }

    /// Records every statement of `connection` from here on.
    pub(super) fn watch(&self, connection: &mut impl Connection) {
        let finished = Arc::clone(&self.0);
        connection.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if matches!(event, InstrumentationEvent::FinishQuery { .. }) {
                let elapsed = finished.epoch.elapsed().as_micros();
                finished.last.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
    }
}
