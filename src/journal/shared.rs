//! The state that the journal's handles, readers and threads share, and the lock of each part.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::capacity::SpaceState;
use super::disk_stall::DiskStallClock;
use super::fs::{Fs, FsFile};
use super::lock::DirLock;
use super::meta::{Hole, Meta};
use super::receipt_times::ReceiptTimes;
use super::segment::{self, Segment};
use super::{JournalError, JournalListener, JournalOptions, JournalStats, Positions};
use crate::domain::{JournalId, Seq};

pub(super) struct Shared {
    pub options: JournalOptions,
    pub segment_bytes: u64,
    /// Newest seq at open.
    pub newest_at_open: Seq,
    pub fs: Arc<dyn Fs>,
    pub listener: Arc<dyn JournalListener>,

    /// Held by the thread that syncs.
    pub syncing: Mutex<()>,
    pub writer: Mutex<Writer>,
    /// The next segment's file, preallocated and without a header, named `ahead.tmp`.
    pub ahead: Mutex<Option<Arc<dyn FsFile>>>,
    pub meta: Mutex<Meta>,
    pub table: Mutex<Table>,
    pub receipt_times: Mutex<ReceiptTimes>,
    pub space: Mutex<SpaceState>,

    // `appended` is written under the writer's lock, `synced` under `syncing`, `committed` by commit and resume.
    pub appended: AtomicU64,
    pub synced: AtomicU64,
    pub committed: AtomicU64,
    /// Bytes written to the segments in the table.
    pub bytes: AtomicU64,
    pub dropped_records: AtomicU64,
    pub unsynced: UnsyncedClock,
    pub disk: DiskStallClock,

    pub failure: OnceLock<Arc<JournalError>>,
    pub closed: AtomicBool,
    pub stopping: AtomicBool,
    pub dir_lock: Mutex<Option<DirLock>>,
    pub sync_thread: OnceLock<Thread>,
    pub maintenance_thread: OnceLock<Thread>,
}

/// State of the append path.
pub(super) struct Writer {
    pub active: Active,
    /// Seq of the next record.
    pub next: Seq,
    /// Encoded records that are not in the file yet: behind the active segment's end, in order.
    pub unwritten: Vec<u8>,
    /// Sealed segments whose last records may not be durable yet.
    pub unsynced_files: Vec<(Seq, Arc<dyn FsFile>)>,
    /// A segment's name may not be durable yet.
    pub dir_unsynced: bool,
}

impl Writer {
    /// Returns the offset behind the newest record of the active segment.
    pub(super) fn end(&self) -> u64 {
        self.active.segment.end() + self.unwritten.len() as u64
    }
}

/// The segment that records are added to.
pub(super) struct Active {
    pub segment: Arc<Segment>,
    pub file: Arc<dyn FsFile>,
    /// Seed of its records' CRCs.
    pub seed: u32,
    /// Offset up to which it takes records.
    pub capacity: u64,
}

/// The table of segments.
pub(super) struct Table {
    /// Ascending; the last one is active. Never empty.
    pub segments: VecDeque<Arc<Segment>>,
    /// First seqs of segments that are no longer part of the journal, but whose files still exist.
    pub retired: Vec<Seq>,
    /// Deleted records up to here were in a database when they were deleted.
    pub trimmed: Seq,
    /// Seqs up to here belong to an earlier identity.
    pub identity_base: Seq,
    /// Seqs lost to damage, ascending; none after the active segment's first record.
    pub holes: Vec<Hole>,
    /// The current journal id, which new segments carry.
    pub journal_id: JournalId,
}

impl Table {
    /// Returns the first seq of the oldest segment.
    pub(super) fn first(&self) -> Seq {
        self.segments.front().expect("the active segment is always there").first
    }

    /// Returns the segment that holds `seq`, or would hold it if it were appended now.
    pub(super) fn find(&self, seq: Seq) -> Option<Arc<Segment>> {
        let after = self.segments.partition_point(|segment| segment.first <= seq);
        self.segments.get(after.checked_sub(1)?).cloned()
    }
}

/// Measures how long unsynced records wait.
pub(super) struct UnsyncedClock {
    started: Instant,
    /// When the oldest record not yet in a sync was appended, in µs since `started`, plus 1; 0: there is none.
    waiting_since: AtomicU64,
    /// The same for the sync under way.
    syncing_since: AtomicU64,
    syncs: AtomicU64,
    sync_longest_micros: AtomicU64,
}

impl UnsyncedClock {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            waiting_since: AtomicU64::new(0),
            syncing_since: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            sync_longest_micros: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Notes an append. Called under the writer's lock.
    pub(super) fn appended(&self) {
        if self.waiting_since.load(Ordering::Relaxed) == 0 {
            self.waiting_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Under the writer's lock: a sync takes up what has been appended.
    pub(super) fn sync_started(&self) {
        self.syncing_since.store(self.waiting_since.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(super) fn sync_ended(&self, took: Duration) {
        self.syncing_since.store(0, Ordering::Relaxed);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sync_longest_micros.fetch_max(took, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        let since = [&self.syncing_since, &self.waiting_since].map(|since| since.load(Ordering::Relaxed));
        let oldest = since.into_iter().filter(|since| *since != 0).min();
        Duration::from_micros(oldest.map_or(0, |since| self.now().saturating_sub(since)))
    }
}

/// Locks. A panic elsewhere (a failpoint, a listener) does not make the state unusable: it is changed only
/// after everything that can fail.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn dir(&self) -> &Path {
        &self.options.dir
    }

    pub(super) fn segment_path(&self, first: Seq) -> PathBuf {
        segment::segment_path(self.dir(), first)
    }

    pub(super) fn appended(&self) -> Seq {
        Seq(self.appended.load(Ordering::Acquire))
    }

    pub(super) fn synced(&self) -> Seq {
        Seq(self.synced.load(Ordering::Acquire))
    }

    pub(super) fn committed(&self) -> Seq {
        Seq(self.committed.load(Ordering::Acquire))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn check_usable(&self) -> Result<(), JournalError> {
        if let Some(cause) = self.failure.get() {
            return Err(JournalError::Failed { cause: cause.clone() });
        }
        if self.closed.load(Ordering::Acquire) { Err(JournalError::Closed) } else { Ok(()) }
    }

    /// The journal fails for good (JRN-4). Returns what the operation at hand returns.
    pub(super) fn fail(&self, error: JournalError) -> JournalError {
        let error = Arc::new(error);
        if self.failure.set(error.clone()).is_ok() {
            self.listener.failed(&error);
        }
        JournalError::Failed { cause: self.failure.get().cloned().unwrap_or(error) }
    }

    pub(super) fn wake_sync(&self) {
        if let Some(thread) = self.sync_thread.get() {
            thread.unpark();
        }
    }

    pub(super) fn wake_maintenance(&self) {
        if let Some(thread) = self.maintenance_thread.get() {
            thread.unpark();
        }
    }

    pub(super) fn positions(&self) -> Positions {
        // In this order, so that committed ≤ synced ≤ appended holds in what is returned.
        let committed = self.committed();
        let synced = self.synced();
        let appended = self.appended();
        let first = lock(&self.table).first();
        Positions { first, appended, synced, committed }
    }

    pub(super) fn stats(&self) -> JournalStats {
        let positions = self.positions();
        let pending = positions.appended > positions.committed;
        let oldest_pending =
            if pending { lock(&self.receipt_times).at_or_before(positions.committed.next()) } else { None };
        JournalStats {
            positions,
            bytes: self.bytes(),
            bytes_max: self.options.max_bytes,
            segments: lock(&self.table).segments.len(),
            unsynced_age: self.unsynced.age(),
            oldest_pending,
            space: lock(&self.space).now(),
            dropped_records: self.dropped_records.load(Ordering::Relaxed),
            syncs: self.unsynced.syncs.load(Ordering::Relaxed),
            sync_longest: Duration::from_micros(self.unsynced.sync_longest_micros.load(Ordering::Relaxed)),
            disk_busy_for: self.disk.busy_for(),
            failed: self.failure.get().is_some(),
        }
    }
}
