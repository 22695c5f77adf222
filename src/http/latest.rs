//! The newest reading of every machine, kept for a moment, so that any number of viewers costs the database the same.
//!
//! Large fields are not kept: of an `extra` above [`EXTRA_LISTED_BYTES_MAX`](crate::store::EXTRA_LISTED_BYTES_MAX), and of every
//! one once all together are [`EXTRAS_BYTES_MAX`], there is the size alone.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{HistoryError, HistoryPool};
use crate::domain::MachineId;
use crate::store::{History, LatestReading, StoreError};

/// Readings are not older than this, unless reading them takes long.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Of one database connection's time at most one part in so many goes into this.
const SHARE_OF_TIME: u32 = 10;

/// Bytes of the `extra` of all machines together, about.
const EXTRAS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a size takes up itself; nothing shorter is replaced by one.
const SIZE_BYTES: usize = 64;

/// How long an answer is waited for.
const WAIT_MAX: Duration = Duration::from_millis(300);
const WAIT_STEP: Duration = Duration::from_millis(5);

/// By machine.
pub type LatestReadings = Arc<HashMap<MachineId, LatestReading>>;

/// The cache.
#[derive(Default)]
pub struct LatestCache {
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    readings: LatestReadings,
    /// Nobody asks the database again before.
    not_before: Option<Instant>,
    is_asking: bool,
}

impl LatestCache {
    /// The newest readings. A database that does not answer soon is waited for by nobody: then the last known ones.
    pub async fn get(&self, history: &HistoryPool) -> LatestReadings {
        if begin_asking(&self.known) {
            actix_rt::spawn(refresh(Arc::clone(&self.known), history.clone()));
        }
        let mut waited = Duration::ZERO;
        while lock(&self.known).is_asking && waited < WAIT_MAX {
            actix_rt::time::sleep(WAIT_STEP).await;
            waited += WAIT_STEP;
        }
        Arc::clone(&lock(&self.known).readings)
    }
}

/// Whether it is time to ask, and nobody does.
fn begin_asking(known: &Mutex<Known>) -> bool {
    let mut known = lock(known);
    let is_fresh = known.not_before.is_some_and(|at| Instant::now() < at);
    let begins = !is_fresh && !known.is_asking;
    known.is_asking |= begins;
    begins
}

async fn refresh(known: Arc<Mutex<Known>>, history: HistoryPool) {
    // Also when the server ends while we wait.
    let _asking = Asking(Arc::clone(&known));
    let begun = Instant::now();
    let answer: Result<HashMap<_, _>, HistoryError> = history.ask(|history| read(history)).await;
    let mut known = lock(&known);
    // What failed cost the database nothing, and is tried again soon.
    let pause = if answer.is_ok() { FRESH_FOR.max(begun.elapsed() * SHARE_OF_TIME) } else { FRESH_FOR };
    if let Ok(readings) = answer {
        known.readings = Arc::new(readings);
    }
    known.not_before = Some(Instant::now() + pause);
}

fn read(history: &mut dyn History) -> Result<HashMap<MachineId, LatestReading>, StoreError> {
    let mut readings = HashMap::new();
    let mut extras = 0;
    history.latest(&mut |(machine_id, mut reading)| {
        if let Some(extra) = &mut reading.extra {
            cut(extra, EXTRAS_BYTES_MAX.saturating_sub(extras));
            extras += extra.len();
        }
        readings.insert(machine_id, reading);
        ControlFlow::Continue(())
    })?;
    Ok(readings)
}

/// Leaves only the size of an `extra` that is longer than `room`.
fn cut(extra: &mut String, room: usize) {
    if extra.len() > room.max(SIZE_BYTES) {
        *extra = size_alone(extra.len());
    }
}

/// What stands for an `extra` of that many bytes.
pub fn size_alone(bytes: usize) -> String {
    format!("{{\"_bytes\":{bytes}}}")
}

fn lock(known: &Mutex<Known>) -> std::sync::MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Asking(Arc<Mutex<Known>>);

impl Drop for Asking {
    fn drop(&mut self) {
        lock(&self.0).is_asking = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_room_only_the_size_is_left() {
        let after = |bytes: usize, room: usize| {
            let mut extra = "x".repeat(bytes);
            cut(&mut extra, room);
            extra
        };
        assert_eq!(after(1_000, 1_000).len(), 1_000);
        assert_eq!(after(1_000, 999), r#"{"_bytes":1000}"#);
        assert_eq!(after(SIZE_BYTES, 0).len(), SIZE_BYTES, "a size would be no shorter");
    }
}
