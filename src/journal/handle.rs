//! The handle through which everything else uses the journal: open, append, read, commit, close.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::capacity::SpaceState;
use super::disk_stall::{DiskCall, DiskStallClock};
use super::fs::Fs;
use super::lock::DirLock;
use super::meta::Meta;
use super::recovery::{self, RecoveredState, Recovery};
use super::shared::{Shared, Table, UnsyncedClock, Writer, lock};
use super::threads::{Drive, Threads};
use super::{JournalError, JournalListener, JournalOptions, JournalStats, Positions, Reader, SyncMode};
use crate::domain::{JournalHistory, JournalId, Message, OpenId, Seq};

/// An open journal. Clones are handles to the same journal. When the last one is dropped without [`Journal::close`],
/// the threads stop and unsynced records stay unsynced, as after a crash.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
}

impl Journal {
    /// Locks the directory, recovers its records, and starts the journal's threads.
    ///
    /// # Errors
    /// [`JournalError::Locked`] if another process has the journal open. [`JournalError::Damaged`],
    /// [`JournalError::Version`] and [`JournalError::OtherSite`], with nothing changed. I/O errors.
    pub fn open(
        options: JournalOptions,
        fs: Arc<dyn Fs>,
        listener: Arc<dyn JournalListener>,
    ) -> Result<(Self, Recovery), JournalError> {
        Self::open_driven(options, fs, listener, Drive::Threads)
    }

    pub(super) fn open_driven(
        options: JournalOptions,
        fs: Arc<dyn Fs>,
        listener: Arc<dyn JournalListener>,
        drive: Drive,
    ) -> Result<(Self, Recovery), JournalError> {
        let dir = &options.dir;
        Meta::refuse_newer(&*fs, dir)?;
        fs.create_dir_all(dir).map_err(JournalError::io("create directory", dir))?;
        let dir_lock = DirLock::take(&*fs, dir)?;
        let (recovered, recovery) =
            recovery::recover(&*fs, dir, &options.site, options.effective_segment_bytes())?;
        let shared = Arc::new(assemble(options, fs, listener, dir_lock, recovered));
        shared.note_growth();
        let threads = Arc::new(Threads::start(&shared, drive)?);
        Ok((Self { shared, threads }, recovery))
    }

    /// Appends a message and returns its seq. Costs one write; in mode `before_ack` an fdatasync too. Any thread may call
    /// it, but not the listener.
    ///
    /// # Errors
    /// On any error the message is not in the journal and must not be acknowledged: [`JournalError::DiskFull`],
    /// [`JournalError::Full`] beyond the overrun, [`JournalError::TooLarge`], [`JournalError::Failed`], I/O errors.
    pub fn append(&self, message: &Message<'_>) -> Result<Seq, JournalError> {
        let seq = self.append_unsynced(message)?;
        if self.syncs_before_ack() {
            self.sync_upto(seq)?;
        }
        Ok(seq)
    }

    /// Appends like [`Journal::append`], without the fdatasync of mode `before_ack`. There the caller must call
    /// [`Journal::sync_upto`] before it lets the message be acknowledged, and soon: until then no reader sees the record.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_unsynced(&self, message: &Message<'_>) -> Result<Seq, JournalError> {
        let _call = self.shared.disk.enter(DiskCall::Append);
        fail_point!("journal::append", |_| Err(super::error::injected("append to the journal")));
        let seq = self.shared.append(message)?;
        match self.shared.options.sync {
            SyncMode::BeforeAck => {}
            SyncMode::Background => self.shared.wake_sync(),
            SyncMode::Os => self.shared.listener.readable(seq),
        }
        Ok(seq)
    }

    /// Returns whether the mode is `before_ack`.
    #[must_use]
    pub fn syncs_before_ack(&self) -> bool {
        self.shared.options.sync == SyncMode::BeforeAck
    }

    /// Makes everything up to `seq` durable, by one fdatasync at most, and returns the newest durable seq.
    ///
    /// # Errors
    /// [`JournalError::Failed`] and I/O errors, both final (JRN-4).
    pub fn sync_upto(&self, seq: Seq) -> Result<Seq, JournalError> {
        self.shared.sync_upto(seq)
    }

    /// Returns a reader of the records after `after`, usually the position committed in the database.
    #[must_use]
    pub fn reader(&self, after: Seq) -> Reader {
        Reader::new(self.shared.clone(), after)
    }

    /// Notes that the database has everything up to here. The maintenance thread soon deletes segments that are no longer
    /// needed. Idempotent: a position lower than the current one changes nothing. Never waits for the disk.
    ///
    /// # Errors
    /// [`JournalError::Ahead`] if the position is beyond the newest durable record.
    pub fn commit(&self, upto: Seq) -> Result<(), JournalError> {
        self.shared.commit(upto)
    }

    /// Continues from `position` in the database, which [`Journal::history`] believes. If a database has been further (this
    /// one was restored from a backup, or is new), the records after `position` count as pending again; returns the newest
    /// seq that a database is known to have had.
    ///
    /// # Errors
    /// [`JournalError::Ahead`] if the position is beyond the newest durable record.
    pub fn resume(&self, position: Seq) -> Result<Option<Seq>, JournalError> {
        self.shared.resume(position)
    }

    /// Returns the history by which a position in the database is believed or not. The first call of a process draws the
    /// open id under which its positions are written, and waits until `journal.meta` holds it durably.
    ///
    /// # Errors
    /// I/O errors; no position may be written then.
    pub fn history(&self) -> Result<JournalHistory, JournalError> {
        let shared = &*self.shared;
        let mut meta = lock(&shared.meta);
        let open = meta.opens.last().expect("opening the journal adds one");
        let own = match open.id {
            // Opening adds an entry without an id, so this one was drawn by this process.
            Some(id) => id,
            None => {
                let id = OpenId(uuid::Uuid::new_v4());
                let mut next = meta.clone();
                next.opens.last_mut().expect("the entry read above").id = Some(id);
                next.store(&*shared.fs, shared.dir())?;
                *meta = next;
                id
            }
        };
        Ok(JournalHistory {
            journal_id: meta.journal_id,
            own,
            before_opens: meta.before_opens,
            opens: meta.opens.clone(),
            appended: shared.appended(),
        })
    }

    /// Returns the newest record there was when this process opened the journal.
    #[must_use]
    pub fn newest_at_open(&self) -> Seq {
        self.shared.newest_at_open
    }

    /// Returns the id of this journal; only [`Journal::new_identity`] changes it.
    #[must_use]
    pub fn id(&self) -> JournalId {
        lock(&self.shared.table).journal_id
    }

    /// Returns the journal's positions.
    #[must_use]
    pub fn positions(&self) -> Positions {
        self.shared.positions()
    }

    /// Returns positions, sizes and timings.
    #[must_use]
    pub fn stats(&self) -> JournalStats {
        self.shared.stats()
    }

    /// Returns how long the oldest disk call still under way has taken. Takes no lock.
    #[must_use]
    pub fn disk_busy_for(&self) -> std::time::Duration {
        self.shared.disk.busy_for()
    }

    /// Returns whether everything appended is durable and no disk call is under way. Takes no lock.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.shared.synced() >= self.shared.appended() && self.disk_busy_for().is_zero()
    }

    /// Makes everything appended so far durable and returns the newest durable seq.
    ///
    /// # Errors
    /// [`JournalError::Failed`] (JRN-4).
    pub fn sync(&self) -> Result<Seq, JournalError> {
        self.shared.sync_upto(self.shared.appended())
    }

    /// Gives the journal a new id, because the position in the database belongs to another history: a copy of the
    /// directory went on, or this one was restored from a backup. Under the new id no seq can mean two messages.
    ///
    /// Every record kept counts as pending under the new id. The database may have some of them, and recognises them by
    /// their content. Read from [`Seq::ZERO`]; earlier seqs come as a gap [`super::GapReason::EarlierIdentity`].
    ///
    /// `owner` is the site of the position. If it is another site, records from before directories named their site were
    /// its own: they are left to the directory that this one is a copy of.
    ///
    /// # Errors
    /// I/O errors; the old id stays then.
    pub fn new_identity(&self, owner: &str) -> Result<JournalId, JournalError> {
        self.sync()?;
        let _call = self.shared.disk.enter(DiskCall::Meta);
        let shared = &*self.shared;
        let writer = lock(&shared.writer);
        let mut meta = lock(&shared.meta);
        let (first_kept, trimmed) = {
            let table = lock(&shared.table);
            (table.first(), table.trimmed)
        };
        let mut next = meta.clone();
        next.first_kept = first_kept;
        next.synced = shared.synced();
        next.trimmed = trimmed;
        let not_ours = if owner == shared.options.site { Seq::ZERO } else { meta.before_opens };
        // Records that were not this site's before are not its own now.
        let base = meta.base_of(first_kept).max(meta.identity_base).max(not_ours);
        next.begin_identity(base, writer.active.segment.first);
        next.store(&*shared.fs, shared.dir())?;
        *meta = next;
        let mut table = lock(&shared.table);
        table.identity_base = base;
        table.journal_id = meta.journal_id;
        shared.committed.store(base.0, Ordering::Release);
        Ok(meta.journal_id)
    }

    /// Refuses further appends, syncs, stops the threads, stores the positions and unlocks the directory.
    /// Existing readers keep working.
    ///
    /// # Errors
    /// The first error; the threads are stopped and the directory is unlocked in any case.
    pub fn close(self) -> Result<(), JournalError> {
        {
            let _no_append_call = lock(&self.shared.writer);
            self.shared.closed.store(true, Ordering::Release);
        }
        let synced = self.sync();
        self.threads.stop();
        let noted = synced.and_then(|synced| {
            self.shared.delete_retired()?;
            let mut meta = lock(&self.shared.meta);
            meta.trimmed = lock(&self.shared.table).trimmed;
            meta.synced = synced;
            meta.committed = self.shared.committed();
            meta.store(&*self.shared.fs, self.shared.dir())
        });
        lock(&self.shared.dir_lock).take();
        noted
    }

    #[cfg(test)]
    pub(super) fn shared_first_of_segment(&self, index: usize) -> u64 {
        lock(&self.shared.table).segments[index].first.0
    }

    #[cfg(test)]
    pub(super) fn maintain(&self) -> Result<super::maintenance::MaintenanceOutcome, JournalError> {
        self.shared.maintain()
    }
}

fn assemble(
    options: JournalOptions,
    fs: Arc<dyn Fs>,
    listener: Arc<dyn JournalListener>,
    dir_lock: DirLock,
    recovered: RecoveredState,
) -> Shared {
    let RecoveredState { meta, segments, active, next, receipt_times } = recovered;
    let last = next.0 - 1;
    Shared {
        newest_at_open: Seq(last),
        segment_bytes: options.effective_segment_bytes(),
        options,
        fs,
        listener,
        syncing: Mutex::new(()),
        writer: Mutex::new(Writer {
            active,
            next,
            unwritten: Vec::new(),
            unsynced_files: Vec::new(),
            dir_unsynced: false,
        }),
        ahead: Mutex::new(None),
        appended: AtomicU64::new(last),
        synced: AtomicU64::new(last),
        committed: AtomicU64::new(meta.committed.0.min(last)),
        bytes: AtomicU64::new(segments.iter().map(|segment| segment.end()).sum()),
        table: Mutex::new(Table {
            segments,
            retired: Vec::new(),
            trimmed: meta.trimmed,
            identity_base: meta.identity_base,
            holes: meta.holes.clone(),
            journal_id: meta.journal_id,
        }),
        meta: Mutex::new(meta),
        receipt_times: Mutex::new(receipt_times),
        space: Mutex::new(SpaceState::default()),
        dropped_records: AtomicU64::new(0),
        unsynced: UnsyncedClock::new(),
        disk: DiskStallClock::new(),
        failure: OnceLock::new(),
        closed: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        dir_lock: Mutex::new(Some(dir_lock)),
        sync_thread: OnceLock::new(),
        maintenance_thread: OnceLock::new(),
    }
}
