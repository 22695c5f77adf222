//! The calls of the file system, as the journal makes them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{DirOp, Inode, Kind, PAGE, SimFs, error};
use crate::journal::fs::{Access, Fs, FsFile, LockOutcome};

struct SimFile {
    fs: SimFs,
    inode: usize,
}

impl Fs for SimFs {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        self.state().call()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.state().call()?;
        Ok(self.names(dir))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let mut state = self.state();
        state.call()?;
        // A new inode even for an existing name: emptying the old one would be seen by its open handles, which the
        // journal must not rely on.
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.live.insert(path.to_owned(), inode);
        state.dir_ops.push(DirOp::Set(path.to_owned(), inode));
        Ok(Arc::new(SimFile { fs: self.clone(), inode }))
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<Arc<dyn FsFile>> {
        let mut state = self.state();
        state.call()?;
        let inode = state.inode(path)?;
        Ok(Arc::new(SimFile { fs: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let inode = state.inode(from)?;
        state.live.remove(from);
        state.live.insert(to.to_owned(), inode);
        state.dir_ops.push(DirOp::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.inode(path)?;
        state.live.remove(path);
        state.dir_ops.push(DirOp::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.durable = state.live.clone();
        state.dir_ops.clear();
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<LockOutcome> {
        struct Guard(Arc<AtomicBool>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.store(false, Ordering::SeqCst);
            }
        }
        let mut state = self.state();
        state.call()?;
        if state.locked.swap(true, Ordering::SeqCst) {
            return Ok(LockOutcome::Taken { pid: Some(7) });
        }
        Ok(LockOutcome::Held(Box::new(Guard(state.locked.clone()))))
    }

    fn boot_id(&self) -> Option<String> {
        Some(format!("boot-{}", self.state().boots))
    }
}

impl SimFile {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.fs.state();
        let failed = state.call().and(if state.syncs_fail { Err(error(Kind::Eio)) } else { Ok(()) });
        let inode = &mut state.inodes[self.inode];
        let dirty = std::mem::take(&mut inode.dirty);
        // After a failure the pages look clean, and are not on the disk.
        failed?;
        let len = inode.live.len();
        inode.durable.resize(len, 0);
        for page in dirty {
            let from = page * PAGE;
            let to = (from + PAGE).min(len);
            if from < to {
                inode.durable[from..to].copy_from_slice(&inode.live[from..to]);
            }
        }
        Ok(())
    }
}

impl FsFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.fs.state();
        state.call()?;
        let live = &state.inodes[self.inode].live;
        let from = usize::try_from(offset).expect("small files").min(live.len());
        let len = buffer.len().min(live.len() - from);
        buffer[..len].copy_from_slice(&live[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.fs.state();
        if let Some(kind) = state.writes_fail {
            return Err(error(kind));
        }
        if std::mem::take(&mut state.fail_next_write) {
            return Err(error(Kind::Eio));
        }
        let written = match state.planned() {
            Some(Kind::Short) => {
                state.fail_next_write = true;
                &bytes[..bytes.len() / 2]
            }
            Some(kind) => return Err(error(kind)),
            None => bytes,
        };
        let inode = &mut state.inodes[self.inode];
        let from = usize::try_from(offset).expect("small files");
        let to = from + written.len();
        if inode.live.len() < to {
            inode.live.resize(to, 0);
        }
        inode.live[from..to].copy_from_slice(written);
        inode.dirty.extend(from / PAGE..to.div_ceil(PAGE));
        Ok(written.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.fs.state();
        state.call()?;
        if state.no_fallocate {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if state.room.is_some_and(|room| len > room) {
            return Err(error(Kind::Enospc));
        }
        let live = &mut state.inodes[self.inode].live;
        let len = usize::try_from(len).expect("small files").max(live.len());
        live.resize(len, 0);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.fs.state();
        state.call()?;
        let inode = &mut state.inodes[self.inode];
        let old = inode.live.len();
        let len = usize::try_from(len).expect("small files");
        inode.live.resize(len, 0);
        inode.dirty.extend(len / PAGE..old.div_ceil(PAGE));
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.fs.state();
        state.call()?;
        Ok(state.inodes[self.inode].live.len() as u64)
    }
}
