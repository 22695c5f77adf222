//! The file system as the journal uses it: a few calls, each of which a test can make fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading only.
    Read,
    /// For reading and writing.
    ReadWrite,
}

/// Nothing is written through a symbolic link: whoever may write to the directory changes no file elsewhere with our rights.
const NO_LINK: i32 = libc::O_NOFOLLOW;
/// Attempts to lock a directory, and the pause between two.
const LOCK_ATTEMPTS: u32 = 3;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// Outcome of an attempt to lock.
pub enum LockOutcome {
    /// We hold the lock until the guard is dropped.
    Held(Box<dyn Send + Sync>),
    /// Another process holds it.
    Taken {
        /// Its process id, if the file has one.
        pid: Option<u32>,
    },
}

/// Directory and file operations. Errors come from the operating system.
pub trait Fs: Send + Sync {
    /// Creates the directory and its parents if absent, durably.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Returns the names of the plain files in the directory, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates an empty file for reading and writing; truncates an existing one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FsFile>>;
    /// Opens an existing file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn FsFile>>;
    /// Renames a file within the directory, replacing a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and deletions in the directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on a file; creates the file if absent.
    fn lock(&self, path: &Path) -> io::Result<LockOutcome>;
    /// Returns an id that differs from every earlier boot of this machine; `None` if unknown.
    fn boot_id(&self) -> Option<String>;
}

/// An open file. All access is by offset, so threads can share it.
pub trait FsFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes; 0 only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes up to `bytes.len()` bytes and returns how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes the contents durable, and the length where it changed (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// Makes contents and metadata durable (fsync).
    fn sync_all(&self) -> io::Result<()>;
    /// Reserves disk space up to `len` and makes the file at least that long; new bytes read as zero.
    /// Error kind `Unsupported` if the file system cannot.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Truncates or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns the current length in bytes.
    fn size(&self) -> io::Result<u64>;
}

/// Writes all of `bytes`; on an error, some of them may have been written.
pub(super) fn write_all_at(file: &dyn FsFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buffer` as far as the file goes; returns the number of bytes read.
pub(super) fn read_full_at(file: &dyn FsFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

const COPY_CHUNK_BYTES: usize = 256 * 1024;

/// Copies the bytes of `range` to offset `at` of `to`, within bounded memory.
pub(super) fn copy_range(
    from: &dyn FsFile,
    range: Range<u64>,
    to: &dyn FsFile,
    mut at: u64,
) -> io::Result<()> {
    let mut chunk = vec![0; COPY_CHUNK_BYTES];
    let mut offset = range.start;
    while offset < range.end {
        let wanted = chunk.len().min(usize::try_from(range.end - offset).unwrap_or(usize::MAX));
        let held = read_full_at(from, &mut chunk[..wanted], offset)?;
        if held == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all_at(to, &chunk[..held], at)?;
        offset += held as u64;
        at += held as u64;
    }
    Ok(())
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// Payloads may be confidential: only owner and group can read them.
const FILE_MODE: u32 = 0o640;

impl Fs for RealFs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        self.create_dir_all(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.sync_dir(parent),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE).custom_flags(NO_LINK);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn FsFile>> {
        let write = access == Access::ReadWrite;
        let mut options = OpenOptions::new();
        options.read(true).write(write).custom_flags(if write { NO_LINK } else { 0 });
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).custom_flags(NO_LINK);
        let mut file = options.open(path)?;
        // A command that looks who has the journal open holds the lock for an instant.
        let mut attempts = 0;
        let outcome = loop {
            attempts += 1;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) if attempts < LOCK_ATTEMPTS => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
                return Ok(LockOutcome::Taken { pid });
            }
            Err(errno) => return Err(errno.into()),
        }
        // The pid is for people; only the lock counts. A full disk must not keep the journal from opening.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(LockOutcome::Held(Box::new(file)))
    }

    fn boot_id(&self) -> Option<String> {
        let text = fs::read_to_string(BOOT_ID_PATH).ok()?;
        let id = text.trim();
        let plausible = !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_graphic());
        plausible.then(|| id.to_owned())
    }
}

struct RealFile(File);

impl FsFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(&self.0, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
