//! The journal's handle: open, append, rotate, close.
//!
//! An append is one `pwrite` into a preallocated segment under the writer's lock; buffer and file are reused.
//! Nothing is changed in memory before the write has succeeded, so a failed append leaves no trace but
//! bytes behind the end, which the next append overwrites (JRN-3).
//!
//! Rotation gives the preallocated file its header, then its name. Until the next sync neither is durable, and
//! no record in it counts as durable before both are.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};

use super::capacity::SpaceState;
use super::disk_stall::{DiskClock, Use};
use super::fs::{Fs, FsFile, write_all_at};
use super::lock::DirLock;
use super::maintenance::{self, AHEAD_NAME};
use super::meta::Meta;
use super::record;
use super::recovery::{self, Recovered, Recovery};
use super::segment::{HEADER_BYTES, Header, Segment};
use super::shared::{Active, Shared, Table, UnsyncedClock, Writer, lock};
use super::{JournalError, JournalListener, JournalOptions, JournalStats, Positions, Reader, SyncMode, sync};
use crate::domain::{JournalHistory, JournalId, Message, OpenId, Seq};

/// A segment made by the append path itself: the one ahead was not ready, or is too small for the record.
pub(super) const OWN_NAME: &str = "own.tmp";

/// A buffer that a large record has grown beyond this is given back.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// An open journal. Clones are handles to the same one; when the last is dropped without [`Journal::close`],
/// its threads stop and what is unsynced stays so, as after a crash.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
}

/// Whether upkeep and sync run on threads, or tests drive them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drive {
    Threads,
    #[cfg(test)]
    ByHand,
}

impl Journal {
    /// Locks the directory, recovers what is there, and starts the journal's threads.
    ///
    /// # Errors
    /// [`JournalError::Locked`] if another process has it; [`JournalError::Damaged`] for what no crash
    /// explains, [`JournalError::Version`] and [`JournalError::OtherSite`] (nothing is changed then); I/O errors.
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

    /// Adds a message and returns its seq. One write; in mode `before_ack` an fdatasync too. Safe from any thread;
    /// must not be called from the listener.
    ///
    /// # Errors
    /// The message is then not in the journal and must not be acknowledged: [`JournalError::DiskFull`],
    /// [`JournalError::Full`] beyond the overrun, [`JournalError::TooLarge`], [`JournalError::Failed`], I/O errors.
    pub fn append(&self, message: &Message<'_>) -> Result<Seq, JournalError> {
        let _under_way = self.shared.disk.enter(Use::Append);
        fail::fail_point!("journal::append", |_| Err(super::error::injected("append to the journal")));
        let seq = self.shared.append(message)?;
        match self.shared.options.sync {
            SyncMode::BeforeAck => {
                self.shared.sync_upto(seq)?;
            }
            SyncMode::Background => self.shared.wake_sync(),
            SyncMode::Os => self.shared.listener.readable(seq),
        }
        Ok(seq)
    }

    /// Reads on after `after`, usually the position that the database has committed.
    #[must_use]
    pub fn reader(&self, after: Seq) -> Reader {
        Reader::new(self.shared.clone(), after)
    }

    /// The database has everything up to here: segments that are no longer needed are deleted soon, by the
    /// upkeep thread. Idempotent; a lower position than the present one changes nothing. Waits for no disk.
    ///
    /// # Errors
    /// [`JournalError::Ahead`] if the position is beyond what is durable here.
    pub fn commit(&self, upto: Seq) -> Result<(), JournalError> {
        self.shared.commit(upto)
    }

    /// The database stands at `position`, which [`Journal::history`] believes: from there it is filled on. If it has been further
    /// (it was restored from a backup, or is another one), what is held beyond counts as pending again; returns the newest seq
    /// that a database is known to have had then.
    ///
    /// # Errors
    /// [`JournalError::Ahead`] if the position is beyond what is durable here.
    pub fn resume(&self, position: Seq) -> Result<Option<Seq>, JournalError> {
        self.shared.resume(position)
    }

    /// What this journal can believe of a position in the database. The first call of a process draws the id under which its
    /// positions are written from now on, and waits until that is durable in `journal.meta`.
    ///
    /// # Errors
    /// I/O errors: no position may be written then.
    pub fn history(&self) -> Result<JournalHistory, JournalError> {
        let shared = &*self.shared;
        let mut meta = lock(&shared.meta);
        let open = meta.opens.last().expect("opening notes one");
        let own = match open.id {
            // Opening leaves none behind it that has an id.
            Some(id) => id,
            None => {
                let id = OpenId(uuid::Uuid::new_v4());
                let mut next = meta.clone();
                next.opens.last_mut().expect("it is the same").id = Some(id);
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

    /// The newest record that was there when this process opened the journal.
    #[must_use]
    pub fn inherited(&self) -> Seq {
        self.shared.inherited
    }

    /// Name of this journal; changes only by [`Journal::new_identity`].
    #[must_use]
    pub fn id(&self) -> JournalId {
        lock(&self.shared.table).journal_id
    }

    /// Where the journal stands.
    #[must_use]
    pub fn positions(&self) -> Positions {
        self.shared.positions()
    }

    /// Positions and figures.
    #[must_use]
    pub fn stats(&self) -> JournalStats {
        self.shared.stats()
    }

    /// How long the disk has kept somebody waiting who still waits. Takes no lock.
    #[must_use]
    pub fn disk_busy_for(&self) -> std::time::Duration {
        self.shared.disk.busy_for()
    }

    /// Whether everything appended is durable and nothing is under way. Takes no lock.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.shared.synced() >= self.shared.appended() && self.disk_busy_for().is_zero()
    }

    /// Makes everything appended so far durable, and returns the newest durable seq.
    ///
    /// # Errors
    /// [`JournalError::Failed`]: see JRN-4.
    pub fn sync(&self) -> Result<Seq, JournalError> {
        self.shared.sync_upto(self.shared.appended())
    }

    /// The position in the database is not this journal's: another copy of the directory went on, or this one was restored from
    /// a backup. The journal goes on under a new id, so that seqs can never mean two messages. Every record that is kept counts as
    /// pending under the new id (some may be in the database already, which knows them by their content): read on from
    /// [`Seq::ZERO`]; earlier seqs come as a gap [`super::GapReason::EarlierIdentity`].
    ///
    /// `owner` is the site of the position. If it is another one, records from before directories named their site were its own,
    /// and are left to the directory that this is a copy of.
    ///
    /// # Errors
    /// I/O errors; the old id stays then.
    pub fn new_identity(&self, owner: &str) -> Result<JournalId, JournalError> {
        self.sync()?;
        let _under_way = self.shared.disk.enter(Use::Meta);
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
        // What was not this site's before is not now.
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

    /// Accepts nothing more, syncs, stops the threads, notes the positions and unlocks the directory.
    /// Readers that still exist can read on.
    ///
    /// # Errors
    /// The first one; threads are stopped and the directory is unlocked all the same.
    pub fn close(self) -> Result<(), JournalError> {
        {
            let _no_append_under_way = lock(&self.shared.writer);
            self.shared.closed.store(true, Ordering::Release);
        }
        let synced = self.sync();
        self.threads.stop();
        let noted = synced.and_then(|synced| {
            self.shared.delete_doomed()?;
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
    pub(super) fn upkeep(&self) -> Result<maintenance::Upkeep, JournalError> {
        self.shared.upkeep()
    }
}

fn assemble(
    options: JournalOptions,
    fs: Arc<dyn Fs>,
    listener: Arc<dyn JournalListener>,
    dir_lock: DirLock,
    recovered: Recovered,
) -> Shared {
    let Recovered { meta, segments, active, next, ages } = recovered;
    let last = next.0 - 1;
    Shared {
        inherited: Seq(last),
        segment_bytes: options.effective_segment_bytes(),
        options,
        fs,
        listener,
        syncing: Mutex::new(()),
        writer: Mutex::new(Writer {
            active,
            next,
            buffer: Vec::new(),
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
            doomed: Vec::new(),
            trimmed: meta.trimmed,
            identity_base: meta.identity_base,
            holes: meta.holes.clone(),
            journal_id: meta.journal_id,
        }),
        meta: Mutex::new(meta),
        ages: Mutex::new(ages),
        space: Mutex::new(SpaceState::default()),
        dropped_records: AtomicU64::new(0),
        unsynced: UnsyncedClock::new(),
        disk: DiskClock::new(),
        failure: OnceLock::new(),
        closed: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        dir_lock: Mutex::new(Some(dir_lock)),
        sync_thread: OnceLock::new(),
        upkeep_thread: OnceLock::new(),
    }
}

impl Shared {
    fn append(&self, message: &Message<'_>) -> Result<Seq, JournalError> {
        let len = record::encoded_len(message)? as u64;
        let mut writer = lock(&self.writer);
        self.check_usable()?;
        self.check_limit()?;
        if writer.active.segment.end() + len > writer.active.capacity {
            self.make_room(&mut writer, len)?;
        }
        let Writer { active, next, buffer, .. } = &mut *writer;
        let (seq, end) = (*next, active.segment.end());
        record::encode(buffer, active.seed, seq, self.synced(), message);
        fail::fail_point!("journal::write");
        if let Err(error) = write_all_at(&*active.file, buffer, end) {
            return Err(self.write_failed(active.segment.first, error));
        }
        active.segment.set_end(end + len);
        *next = seq.next();
        if buffer.capacity() > BUFFER_BYTES_KEPT {
            *buffer = Vec::new();
        }
        self.bytes.fetch_add(len, Ordering::AcqRel);
        self.unsynced.appended();
        lock(&self.ages).note(seq, message.received_at);
        self.appended.store(seq.0, Ordering::Release);
        drop(writer);
        self.note_growth();
        Ok(seq)
    }

    /// The bound is looked at before a record, not with it: a record larger than all the room there is
    /// could otherwise never be taken, and would be delivered for ever.
    fn check_limit(&self) -> Result<(), JournalError> {
        let (bytes, limit) = (self.bytes(), self.options.hard_limit_bytes());
        if bytes >= limit { Err(JournalError::Full { bytes, limit }) } else { Ok(()) }
    }

    fn write_failed(&self, first: Seq, error: std::io::Error) -> JournalError {
        let error = JournalError::io("write", &self.segment_path(first))(error);
        if error.is_disk_full() {
            self.note_disk_full(true);
            self.wake_upkeep();
        }
        error
    }

    /// Makes the active segment one that has room for a record of this length.
    fn make_room(&self, writer: &mut Writer, len: u64) -> Result<(), JournalError> {
        let needed = HEADER_BYTES as u64 + len;
        if writer.active.segment.first < writer.next {
            return self.rotate(writer, needed);
        }
        // Empty, and too small all the same: the next segment would have the same name, so this one grows.
        match writer.active.file.allocate(needed) {
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {}
            Err(error) => return Err(self.write_failed(writer.active.segment.first, error)),
            Ok(()) => {}
        }
        writer.active.capacity = needed;
        Ok(())
    }

    /// Begins a new segment with room for at least `needed` bytes, header included.
    pub(super) fn rotate(&self, writer: &mut Writer, needed: u64) -> Result<(), JournalError> {
        fail::fail_point!("journal::rotate", |_| Err(super::error::injected("rotate the journal")));
        let first = writer.next;
        let capacity = needed.max(self.segment_bytes);
        let header = Header { first, journal_id: lock(&self.table).journal_id };
        let file = self.name_blank_segment(&header, capacity).inspect_err(|error| {
            if error.is_disk_full() {
                self.note_disk_full(true);
                self.wake_upkeep();
            }
        })?;
        let segment = Arc::new(Segment::active(first, HEADER_BYTES as u64));
        let active = Active { segment: segment.clone(), file, seed: header.seed(), capacity };
        let sealed = std::mem::replace(&mut writer.active, active);
        sealed.segment.seal(Seq(first.0 - 1));
        if self.appended() > self.synced() {
            writer.unsynced_files.push((sealed.segment.first, sealed.file));
        }
        writer.dir_unsynced = true;
        self.bytes.fetch_add(HEADER_BYTES as u64, Ordering::AcqRel);
        lock(&self.table).segments.push_back(segment);
        self.wake_upkeep();
        Ok(())
    }

    /// Gives a header and a name to the segment prepared ahead if it is large enough, otherwise to one made
    /// here and now.
    fn name_blank_segment(&self, header: &Header, capacity: u64) -> Result<Arc<dyn FsFile>, JournalError> {
        // Until it has its name, nobody may begin a new file under the old one.
        let mut ahead = lock(&self.ahead);
        let prepared = if capacity == self.segment_bytes { ahead.take() } else { None };
        let tmp = self.dir().join(if prepared.is_some() { AHEAD_NAME } else { OWN_NAME });
        let named = || {
            let file = match prepared {
                Some(file) => file,
                None => maintenance::create_segment_file(&*self.fs, &tmp, capacity)?,
            };
            write_all_at(&*file, &header.encode(), 0).map_err(JournalError::io("write", &tmp))?;
            let path = self.segment_path(header.first);
            self.fs.rename(&tmp, &path).map_err(JournalError::io("create", &path))?;
            Ok(file)
        };
        named().inspect_err(|_| {
            // Gives back what the attempt took; at worst the next one empties it.
            let _ = self.fs.remove(&tmp);
        })
    }
}

/// The journal's threads; stops them when the last handle goes.
struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    fn start(shared: &Arc<Shared>, drive: Drive) -> Result<Self, JournalError> {
        let threads = Self { shared: shared.clone(), handles: Mutex::new(Vec::new()) };
        if drive == Drive::Threads {
            let upkeep = threads.spawn("journal-upkeep", maintenance::run)?;
            shared.upkeep_thread.get_or_init(|| upkeep);
            if shared.options.sync == SyncMode::Background {
                let sync = threads.spawn("journal-sync", sync::run)?;
                shared.sync_thread.get_or_init(|| sync);
            }
        }
        Ok(threads)
    }

    fn spawn(&self, name: &str, run: fn(&Shared)) -> Result<thread::Thread, JournalError> {
        let shared = self.shared.clone();
        let handle = thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
        let handle = handle.map_err(JournalError::io("start a thread for", self.shared.dir()))?;
        let thread = handle.thread().clone();
        lock(&self.handles).push(handle);
        Ok(thread)
    }

    fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        for handle in lock(&self.handles).drain(..) {
            handle.thread().unpark();
            // A panic in it has been caught and told already.
            let _ = handle.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.stop();
        lock(&self.shared.dir_lock).take();
    }
}
