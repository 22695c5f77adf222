//! The journal's own threads: one for maintenance and, in mode `background`, one that syncs.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::shared::{Shared, lock};
use super::{JournalError, SyncMode, maintenance, sync};

/// Who runs maintenance and syncs: threads, or a test by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drive {
    Threads,
    #[cfg(test)]
    ByHand,
}

/// The running threads; stops them when the last handle is dropped.
pub(super) struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    pub(super) fn start(shared: &Arc<Shared>, drive: Drive) -> Result<Self, JournalError> {
        let threads = Self { shared: shared.clone(), handles: Mutex::new(Vec::new()) };
        if drive == Drive::Threads {
            let maintenance = threads.spawn("journal-maint", maintenance::run)?;
            shared.maintenance_thread.get_or_init(|| maintenance);
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

    pub(super) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        for handle in lock(&self.handles).drain(..) {
            handle.thread().unpark();
            // A panic in the thread has been caught and reported there.
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
