//! Whether what a connection has open is still what lies at its path.
//!
//! SQLite goes on with a file that was removed, renamed or replaced as if nothing had happened, and what it commits is gone with
//! the file. The same holds for the write-ahead log and the shared memory beside it (`-wal`, `-shm`). These are found by name, so that
//! a file that was put in the place of another would also be read with the other one's log; see "How To Corrupt An SQLite
//! Database File", sections 2.4 and 4, on sqlite.org.
//!
//! - FILE-1 Nothing is reported as committed unless the files were at their path after the commit.
//! - FILE-2 No connection of this process opens a path while another one still has a former file of it open.
//! - FILE-3 A file that is missing is made anew only in the directory in which this process had it open: another one may be the
//!   bare place where a disk is mounted otherwise.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::store::{Cause, StoreError};

/// The file itself, and what SQLite keeps beside it.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// `None` if there is no such file.
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

/// What a connection has open.
#[derive(Debug)]
pub struct FileIdentity {
    /// As configured; links in it are followed each time.
    path: PathBuf,
    /// With links followed, as SQLite names the files beside it.
    resolved: PathBuf,
    files: [Option<FileId>; 3],
}

/// What this process has or had open, by resolved path.
#[derive(Default)]
struct Opened {
    directory: Option<FileId>,
    places: Vec<Weak<FileIdentity>>,
}

static OPENED: Mutex<Option<HashMap<PathBuf, Opened>>> = Mutex::new(None);

fn with_opened<T>(resolved: &Path, work: impl FnOnce(&mut Opened) -> T) -> T {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    work(opened.get_or_insert_default().entry(resolved.to_owned()).or_default())
}

impl FileIdentity {
    /// Calls `open`, which opens the database at `path` and reads from it, and notes what it has opened.
    pub fn open<T>(path: &Path, open: impl FnOnce() -> Result<T, Cause>) -> Result<(T, Arc<Self>), Cause> {
        let resolved = resolve(path);
        let places = with_opened(&resolved, |opened| {
            opened.places.retain(|place| place.strong_count() > 0);
            opened.places.clone()
        });
        if places.iter().filter_map(Weak::upgrade).any(|place| place.check().is_err()) {
            return Err("another connection of this process has not let go of the former file yet".into());
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
        let place = Arc::new(Self { path: path.to_owned(), resolved, files });
        with_opened(&place.resolved, |opened| {
            opened.directory =
                place.resolved.parent().and_then(|directory| FileId::of(directory).ok().flatten());
            opened.places.push(Arc::downgrade(&place));
        });
        Ok((connection, place))
    }

    /// Whether all is where it was.
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
                Ok(_) => return moved(format!("lost {}, which belongs to it,", path.display())),
                Err(error) => return moved(format!("can no longer be looked at ({error})")),
            }
        }
        Ok(())
    }

    /// Keeps the log of the file that was here from the file that is here now. To be called when the log's content has been copied
    /// into the former file, wherever that is; what could not be copied is kept under another name.
    pub fn put_logs_aside(&self) {
        if FileId::of(&self.path).ok().flatten() == self.files[0] {
            return;
        }
        for (file, suffix) in self.files.into_iter().zip(SUFFIXES).skip(1) {
            let path = with_suffix(&self.resolved, suffix);
            if file.is_none() || FileId::of(&path).ok().flatten() != file {
                continue;
            }
            let is_needed = suffix == "-wal" && fs::metadata(&path).is_ok_and(|found| found.len() > 0);
            // In a directory in which the file could be replaced both work; a log without content does no harm.
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

/// Whether a file may be made at `path` if there is none (FILE-3).
pub fn check_directory(path: &Path) -> Result<(), Cause> {
    let resolved = resolve(path);
    let known = with_opened(&resolved, |opened| opened.directory);
    let Some(known) = known else { return Ok(()) };
    let directory = resolved.parent().map_or(Ok(None), FileId::of)?;
    if directory == Some(known) || FileId::of(path)?.is_some() {
        return Ok(());
    }
    Err("it is gone, and where it was is another directory or none (renamed, or a disk that is not mounted?); put it back, or \
         restart Andon to begin a new file there"
        .into())
}

/// Follows links, in the directories alone if the file is not there.
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
