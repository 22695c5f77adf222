//! Whether the file that a connection has open is still the file at its path.
//!
//! SQLite keeps writing to a file that was removed, renamed or replaced, and its commits are lost with that
//! file. The same holds for the write-ahead log and the shared memory beside it (`-wal`, `-shm`). SQLite
//! finds these by name, so a file put in place of another is also read with the log of the other; see "How To
//! Corrupt An SQLite Database File", sections 2.4 and 4, on sqlite.org.
//!
//! Invariants
//! - **FILE-1** No commit succeeds unless the files were at their path after it.
//! - **FILE-2** No connection of this process opens a path while another connection still has a former file
//!   of that path open.
//! - **FILE-3** A missing file is created anew only in the directory in which this process had it open: any
//!   other directory may be the mount point of a disk that is not mounted.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::store::{Cause, StoreError};

/// The file itself, its log and its shared memory.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Returns `None` if there is no such file.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Self { device: found.dev(), inode: found.ino() })),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The files that a connection has open.
#[derive(Debug)]
pub struct FileIdentity {
    /// As configured; links in it are followed at each check.
    path: PathBuf,
    /// With links followed, as SQLite does to name the files beside it.
    resolved: PathBuf,
    files: [Option<FileId>; 3],
}

/// What this process has or had open at a resolved path.
#[derive(Default)]
struct Opened {
    directory: Option<FileId>,
    identities: Vec<Weak<FileIdentity>>,
}

static OPENED: Mutex<Option<HashMap<PathBuf, Opened>>> = Mutex::new(None);

fn with_opened<T>(resolved: &Path, work: impl FnOnce(&mut Opened) -> T) -> T {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    work(opened.get_or_insert_default().entry(resolved.to_owned()).or_default())
}

impl FileIdentity {
    /// Calls `open`, which must open the database at `path` and read from it. Returns what it opened, with
    /// its identity.
    pub fn open<T>(path: &Path, open: impl FnOnce() -> Result<T, Cause>) -> Result<(T, Arc<Self>), Cause> {
        let resolved = resolve(path);
        let identities = with_opened(&resolved, |opened| {
            opened.identities.retain(|identity| identity.strong_count() > 0);
            opened.identities.clone()
        });
        if identities.iter().filter_map(Weak::upgrade).any(|identity| identity.check().is_err()) {
            return Err("another connection of this process still has the former file open".into());
        }
        let before = FileId::of(path)?;
        let connection = open()?;
        let mut files = [None; 3];
        for (file, suffix) in files.iter_mut().zip(SUFFIXES) {
            *file = FileId::of(&with_suffix(&resolved, suffix))?;
        }
        if before.is_some_and(|before| files[0] != Some(before)) {
            return Err("it was replaced while it was being opened".into());
        }
        let identity = Arc::new(Self { path: path.to_owned(), resolved, files });
        with_opened(&identity.resolved, |opened| {
            opened.directory =
                identity.resolved.parent().and_then(|directory| FileId::of(directory).ok().flatten());
            opened.identities.push(Arc::downgrade(&identity));
        });
        Ok((connection, identity))
    }

    /// Checks that the files are where they were.
    pub fn check(&self) -> Result<(), StoreError> {
        let moved = |what: String| Err(StoreError::FileMoved { path: self.path.display().to_string(), what });
        for (file, suffix) in self.files.into_iter().zip(SUFFIXES) {
            let path =
                if suffix.is_empty() { self.path.clone() } else { with_suffix(&self.resolved, suffix) };
            let found = FileId::of(&path);
            match found {
                Ok(found) if found == file => {}
                Ok(Some(_)) if suffix.is_empty() => return moved("was replaced by another file".to_owned()),
                Ok(None) if suffix.is_empty() => return moved("was removed or renamed".to_owned()),
                Ok(_) => return moved(format!("lost {} (its log or shared memory)", path.display())),
                Err(error) => return moved(format!("cannot be examined any more ({error})")),
            }
        }
        Ok(())
    }

    /// Moves the log of the former file away, so that the file at the path now is not read with it. Call it
    /// once the log is copied into the former file, wherever that is. Keeps what could not be copied under
    /// another name.
    pub fn set_logs_aside(&self) {
        if FileId::of(&self.path).ok().flatten() == self.files[0] {
            return;
        }
        for (file, suffix) in self.files.into_iter().zip(SUFFIXES).skip(1) {
            let path = with_suffix(&self.resolved, suffix);
            if file.is_none() || FileId::of(&path).ok().flatten() != file {
                continue;
            }
            let is_needed = suffix == "-wal" && fs::metadata(&path).is_ok_and(|found| found.len() > 0);
            // Both work in a directory in which the file could be replaced. An empty log does no harm.
            let _ = if is_needed {
                fs::rename(
                    &path,
                    with_suffix(&path, &format!(".of-{}", self.files[0].map_or(0, |file| file.inode))),
                )
            } else {
                fs::remove_file(&path)
            };
        }
    }
}

/// Checks that a missing file may be created at `path` (FILE-3).
pub fn check_directory(path: &Path) -> Result<(), Cause> {
    let resolved = resolve(path);
    let known = with_opened(&resolved, |opened| opened.directory);
    let Some(known) = known else { return Ok(()) };
    let directory = resolved.parent().map_or(Ok(None), FileId::of)?;
    if directory == Some(known) || FileId::of(path)?.is_some() {
        return Ok(());
    }
    Err("the file and its directory are gone (renamed, or a disk that is not mounted?); put them back, or \
         restart Andon to create a new file there"
        .into())
}

/// Follows links; those of the directories only, if there is no file.
fn resolve(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let in_parent = || Some(fs::canonicalize(parent).ok()?.join(path.file_name()?));
    let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    fs::canonicalize(path).ok().or_else(in_parent).unwrap_or_else(absolute)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
