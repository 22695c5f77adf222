//! When a connection finished a statement last, so that whoever waits for a long job can tell slow from hung.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{Connection, InstrumentationEvent};

/// Shared by a connection, which notes each statement that it has finished, and whoever waits for it.
#[derive(Clone)]
pub struct Progress(Arc<Noted>);

struct Noted {
    epoch: Instant,
    /// Microseconds since `epoch`.
    last: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Noted { epoch: Instant::now(), last: AtomicU64::new(0) }))
    }
}

impl Progress {
    /// When the newest statement was finished; when this was made, if none was yet.
    #[must_use]
    pub fn last(&self) -> Instant {
        self.0.epoch + Duration::from_micros(self.0.last.load(Ordering::Relaxed))
    }

    /// Notes every statement of `connection` from here on.
    pub(super) fn watch(&self, connection: &mut impl Connection) {
        let noted = Arc::clone(&self.0);
        connection.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if matches!(event, InstrumentationEvent::FinishQuery { .. }) {
                let elapsed = noted.epoch.elapsed().as_micros();
                noted.last.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
    }
}
