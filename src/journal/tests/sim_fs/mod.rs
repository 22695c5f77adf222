//! A file system in memory that dies in every way a real one can: it loses what was not synced, page by page and in
//! any order; its Nth call fails; a failed sync leaves pages that look clean.

mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

/// A disk's sector: what is written whole or not at all.
const PAGE: usize = 512;

#[derive(Clone, Default)]
pub(crate) struct SimFs(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    live: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    /// Since the last sync of the directory, in order.
    dir_ops: Vec<DirOp>,
    boots: u64,
    /// The last thing that happened to the machine was a power cut.
    lost: bool,
    locked: Arc<AtomicBool>,
    calls: u64,
    fault: Option<Fault>,
    /// The next write fails: the second half of a short write.
    fail_next_write: bool,
    no_fallocate: bool,
    /// Allocating fails with ENOSPC.
    /// Longest file that can still be preallocated; `None`: any.
    room: Option<u64>,
    syncs_fail: bool,
    writes_fail: Option<Kind>,
}

#[derive(Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

enum DirOp {
    Set(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Eio,
    Enospc,
    /// A write does half its work, then fails; other calls fail.
    Short,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::journal::tests) struct Fault {
    /// The call that fails, counted from now; 0 is the next one.
    pub at: u64,
    pub kind: Kind,
}

/// A small deterministic source of coin tosses.
pub(in crate::journal::tests) struct Coins(u64);

impl Coins {
    pub(in crate::journal::tests) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(in crate::journal::tests) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn toss(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }
}

impl SimFs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while holding it")
    }

    pub(in crate::journal::tests) fn fail(&self, fault: Fault) {
        let mut state = self.state();
        let at = state.calls + fault.at;
        state.fault = Some(Fault { at, ..fault });
    }

    /// True if the planned fault has not happened yet; it is forgotten.
    pub(in crate::journal::tests) fn forget_fault(&self) -> bool {
        let mut state = self.state();
        state.fail_next_write = false;
        state.fault.take().is_some()
    }

    pub(in crate::journal::tests) fn set_no_fallocate(&self) {
        self.state().no_fallocate = true;
    }

    /// There is room for files of so many bytes, and no more.
    pub(in crate::journal::tests) fn set_room(&self, bytes: u64) {
        self.state().room = Some(bytes);
    }

    pub(in crate::journal::tests) fn set_disk_full(&self, full: bool) {
        self.state().room = full.then_some(0);
    }

    pub(in crate::journal::tests) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// From now on every write fails.
    pub(crate) fn set_writes_fail(&self, kind: Kind) {
        self.state().writes_fail = Some(kind);
    }

    /// From now on every sync fails.
    pub(crate) fn set_syncs_fail(&self) {
        self.state().syncs_fail = true;
    }

    /// Whether the last event was a power cut; asked once per event.
    pub(in crate::journal::tests) fn unsynced_is_lost(&self) -> bool {
        std::mem::take(&mut self.state().lost)
    }

    /// The machine boots without having lost anything.
    pub(in crate::journal::tests) fn reboot(&self) {
        self.state().boots += 1;
    }

    /// The power fails: what was not synced is there or not, page by page, entry by entry.
    pub(in crate::journal::tests) fn power_cut(&self, seed: u64) {
        let mut coins = Coins::new(seed);
        let mut state = self.state();
        for inode in &mut state.inodes {
            let len = if coins.toss() { inode.live.len() } else { inode.durable.len() };
            inode.durable.resize(len, 0);
            for page in std::mem::take(&mut inode.dirty) {
                if coins.toss() {
                    let from = page * PAGE;
                    let to = (from + PAGE).min(inode.live.len()).min(len);
                    if from < to {
                        inode.durable[from..to].copy_from_slice(&inode.live[from..to]);
                    }
                }
            }
            inode.live = inode.durable.clone();
        }
        for op in std::mem::take(&mut state.dir_ops) {
            if coins.toss() {
                op.apply(&mut state.durable);
            }
        }
        state.live = state.durable.clone();
        state.boots += 1;
        state.lost = true;
    }

    pub(in crate::journal::tests) fn contents(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.inodes[state.live[path]].live.clone()
    }

    /// Changes a file from outside, durably.
    pub(in crate::journal::tests) fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let index = state.live[path];
        change(&mut state.inodes[index].live);
        state.inodes[index].durable = state.inodes[index].live.clone();
        state.inodes[index].dirty.clear();
    }

    /// Changes a byte as the running machine sees it; what is on the disk stays.
    pub(in crate::journal::tests) fn damage_pages(&self, path: &Path, at: usize) {
        let mut state = self.state();
        let index = state.live[path];
        state.inodes[index].live[at] ^= 1;
    }

    pub(in crate::journal::tests) fn names(&self, dir: &Path) -> Vec<String> {
        let state = self.state();
        let names = state.live.keys().filter_map(|path| {
            let name = path.strip_prefix(dir).ok()?;
            Some(name.to_str().expect("names are UTF-8").to_owned())
        });
        names.collect()
    }

    /// A copy of the whole disk as it is, nothing unsynced.
    pub(in crate::journal::tests) fn fork(&self) -> Self {
        let state = self.state();
        let inodes = state.inodes.iter().map(|inode| Inode {
            live: inode.live.clone(),
            durable: inode.live.clone(),
            dirty: BTreeSet::new(),
        });
        let copy = State {
            inodes: inodes.collect(),
            live: state.live.clone(),
            durable: state.live.clone(),
            boots: state.boots,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(copy)))
    }
}

impl DirOp {
    fn apply(self, entries: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set(path, inode) => {
                entries.insert(path, inode);
            }
            Self::Rename(from, to, inode) => {
                entries.remove(&from);
                entries.insert(to, inode);
            }
            Self::Remove(path) => {
                entries.remove(&path);
            }
        }
    }
}

impl State {
    /// Counts a call and fails it if it is the one to fail.
    fn call(&mut self) -> io::Result<()> {
        match self.planned() {
            Some(kind) => Err(error(kind)),
            None => Ok(()),
        }
    }

    fn planned(&mut self) -> Option<Kind> {
        let call = self.calls;
        self.calls += 1;
        let fault = self.fault.filter(|fault| fault.at == call)?;
        self.fault = None;
        Some(fault.kind)
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        self.live.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn error(kind: Kind) -> io::Error {
    match kind {
        Kind::Eio | Kind::Short => io::Error::from_raw_os_error(libc::EIO),
        Kind::Enospc => io::Error::from_raw_os_error(libc::ENOSPC),
    }
}
