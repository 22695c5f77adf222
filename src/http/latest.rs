//! The newest reading of every machine, kept for a moment, so that any number of viewers costs the database the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{HistoryError, HistoryPool};
use crate::domain::MachineId;
use crate::store::LatestReading;

/// Readings are not older than this, unless reading them takes long.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Of one database connection's time at most one part in so many goes into this.
const SHARE_OF_TIME: u32 = 10;

/// By machine.
pub type LatestReadings = Arc<HashMap<MachineId, LatestReading>>;

/// The cache.
#[derive(Default)]
pub struct LatestCache {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    readings: LatestReadings,
    /// Nobody asks the database again before.
    not_before: Option<Instant>,
    is_asking: bool,
}

impl LatestCache {
    /// The newest readings; while the database is away, or somebody is asking it already, the last known ones.
    pub async fn get(&self, history: &HistoryPool) -> LatestReadings {
        {
            let mut known = self.lock();
            let is_fresh = known.not_before.is_some_and(|at| Instant::now() < at);
            if is_fresh || known.is_asking {
                return Arc::clone(&known.readings);
            }
            known.is_asking = true;
        }
        // Also when this request is dropped while it waits.
        let asking = Asking(self);
        let begun = Instant::now();
        let answer: Result<Vec<_>, HistoryError> = history.ask(|history| history.latest()).await;
        let pause = FRESH_FOR.max(begun.elapsed() * SHARE_OF_TIME);
        let mut known = self.lock();
        if let Ok(readings) = answer {
            known.readings = Arc::new(readings.into_iter().collect());
        }
        known.not_before = Some(Instant::now() + pause);
        let readings = Arc::clone(&known.readings);
        drop(known);
        drop(asking);
        readings
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Asking<'a>(&'a LatestCache);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().is_asking = false;
    }
}
