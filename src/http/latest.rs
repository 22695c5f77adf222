//! The newest reading of every machine, cached briefly, so that any number of viewers costs the database the same.
//!
//! Large fields are not cached. An `extra` above [`EXTRA_LISTED_BYTES_MAX`](crate::store::EXTRA_LISTED_BYTES_MAX) is
//! replaced by its size, and so is every further one once all of them together reach [`EXTRAS_BYTES_MAX`].

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{HistoryClient, HistoryError};
use crate::domain::MachineId;
use crate::store::{History, LatestReading, StoreError};

/// How long the cache is fresh, unless the query is slow.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// The query uses at most one part in this many of a database connection's time.
const SHARE_OF_TIME: u32 = 10;

/// Bytes of all cached `extra` fields together, approximately.
const EXTRAS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Upper bound on the placeholder's own length. Nothing shorter is replaced by one.
const SIZE_BYTES: usize = 64;

/// How long a request waits for the query.
const WAIT_MAX: Duration = Duration::from_millis(300);
const WAIT_STEP: Duration = Duration::from_millis(5);

/// The newest reading by machine.
pub type LatestReadings = Arc<HashMap<MachineId, LatestReading>>;

/// The cache.
#[derive(Default)]
pub struct LatestCache {
    cache: Arc<Mutex<Cache>>,
}

#[derive(Default)]
struct Cache {
    readings: LatestReadings,
    /// When the database is queried next at the earliest.
    not_before: Option<Instant>,
    is_refreshing: bool,
}

impl LatestCache {
    /// Returns the newest readings. If the database does not answer soon, returns the last known ones.
    pub async fn get(&self, history: &HistoryClient) -> LatestReadings {
        if begin_refresh(&self.cache) {
            actix_rt::spawn(refresh(Arc::clone(&self.cache), history.clone()));
        }
        let mut waited = Duration::ZERO;
        while lock(&self.cache).is_refreshing && waited < WAIT_MAX {
            actix_rt::time::sleep(WAIT_STEP).await;
            waited += WAIT_STEP;
        }
        Arc::clone(&lock(&self.cache).readings)
    }
}

/// Claims the next query. True if the cache is stale and no query is running.
fn begin_refresh(cache: &Mutex<Cache>) -> bool {
    let mut cache = lock(cache);
    let is_fresh = cache.not_before.is_some_and(|at| Instant::now() < at);
    let begins = !is_fresh && !cache.is_refreshing;
    cache.is_refreshing |= begins;
    begins
}

async fn refresh(cache: Arc<Mutex<Cache>>, history: HistoryClient) {
    // Resets the flag even if the server ends while the query runs.
    let _guard = RefreshGuard(Arc::clone(&cache));
    let begun = Instant::now();
    let answer: Result<HashMap<_, _>, HistoryError> = history.ask(|history| read(history)).await;
    let mut cache = lock(&cache);
    // A failed query cost the database nothing; try again soon.
    let pause = if answer.is_ok() { FRESH_FOR.max(begun.elapsed() * SHARE_OF_TIME) } else { FRESH_FOR };
    if let Ok(readings) = answer {
        cache.readings = Arc::new(readings);
    }
    cache.not_before = Some(Instant::now() + pause);
}

fn read(history: &mut dyn History) -> Result<HashMap<MachineId, LatestReading>, StoreError> {
    let mut readings = HashMap::new();
    let mut extras = 0;
    history.latest(&mut |(machine_id, mut reading)| {
        if let Some(extra) = &mut reading.extra {
            limit_extra(extra, EXTRAS_BYTES_MAX.saturating_sub(extras));
            extras += extra.len();
        }
        readings.insert(machine_id, reading);
        ControlFlow::Continue(())
    })?;
    Ok(readings)
}

/// Replaces an `extra` that is longer than `room` by its size.
fn limit_extra(extra: &mut String, room: usize) {
    if extra.len() > room.max(SIZE_BYTES) {
        *extra = size_placeholder(extra.len());
    }
}

/// Returns the placeholder for an `extra` of that many bytes.
pub fn size_placeholder(bytes: usize) -> String {
    format!("{{\"_bytes\":{bytes}}}")
}

fn lock(cache: &Mutex<Cache>) -> std::sync::MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

struct RefreshGuard(Arc<Mutex<Cache>>);

impl Drop for RefreshGuard {
    fn drop(&mut self) {
        lock(&self.0).is_refreshing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_without_room_is_replaced_by_its_size() {
        let after = |bytes: usize, room: usize| {
            let mut extra = "x".repeat(bytes);
            limit_extra(&mut extra, room);
            extra
        };
        assert_eq!(after(1_000, 1_000).len(), 1_000);
        assert_eq!(after(1_000, 999), r#"{"_bytes":1000}"#);
        assert_eq!(after(SIZE_BYTES, 0).len(), SIZE_BYTES, "the placeholder would be no shorter");
    }
}
