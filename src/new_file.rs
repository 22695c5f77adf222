//! A file that appears under its name only when it is whole: of a backup or an export, or in place of an older one.
//!
//! Invariants
//! - **NEW-1** The file appears under its name only when it is finished and durable, and never in place of another. A process
//!   that is killed leaves `<file>.partial`, which the next one deletes.
//! - **NEW-2** [`replace`] shows a reader the old content or the new one, also after a power cut. It never writes through a
//!   symbolic link: whoever may write to the directory changes no file elsewhere with the rights of this process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags};

/// What it holds may be confidential: only its owner can read it.
const FILE_MODE: u32 = 0o600;

/// A file that is being written; deleted unless it is finished.
pub struct NewFile {
    file: PathBuf,
    partial: PathBuf,
    /// Holds the lock that keeps another writer away.
    handle: File,
}

impl NewFile {
    /// Begins `file`, which must not exist.
    ///
    /// # Errors
    /// There is one, another process writes it, or the directory does not take it.
    pub fn create(file: &Path) -> io::Result<Self> {
        let file = std::path::absolute(file)?;
        refuse_existing(&file)?;
        let mut partial = file.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        if let Ok(abandoned) = File::open(&partial) {
            lock(&abandoned, &partial)?;
            fs::remove_file(&partial)?;
        }
        let mut options = OpenOptions::new();
        let handle = options.write(true).create_new(true).mode(FILE_MODE).open(&partial)?;
        lock(&handle, &partial)?;
        Ok(Self { file, partial, handle })
    }

    /// Returns where it is until it is finished.
    #[must_use]
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Returns the file to write to.
    #[must_use]
    pub const fn handle(&self) -> &File {
        &self.handle
    }

    /// Makes it durable and gives it its name. Returns its size.
    ///
    /// # Errors
    /// Errors of the disk; another file has got the name meanwhile. Then it is deleted.
    pub fn finish(self) -> io::Result<u64> {
        self.handle.sync_all()?;
        let bytes = self.handle.metadata()?.len();
        match rustix::fs::renameat_with(CWD, &self.partial, CWD, &self.file, RenameFlags::NOREPLACE) {
            // This file system cannot rename without overwriting.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
                refuse_existing(&self.file)?;
                fs::rename(&self.partial, &self.file)?;
            }
            renamed => renamed?,
        }
        File::open(self.file.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        Ok(bytes)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Nothing is there once it has its name.
        let _ = fs::remove_file(&self.partial);
    }
}

/// Puts `content` into the place of `file`, by way of `<file>.tmp`. A new file has `mode`, less the umask.
///
/// # Errors
/// Errors of the disk; `<file>.tmp` is a symbolic link or a directory.
pub fn replace(file: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut tmp = file.as_os_str().to_owned();
    tmp.push(".tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode).custom_flags(libc::O_NOFOLLOW);
    let mut handle = options.open(&tmp)?;
    handle.write_all(content)?;
    handle.sync_all()?;
    fs::rename(&tmp, file)?;
    File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Refuses a name that is taken.
///
/// # Errors
/// It is taken.
pub fn refuse_existing(file: &Path) -> io::Result<()> {
    if file.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of that name; Andon overwrites none"))
}

fn lock(handle: &File, path: &Path) -> io::Result<()> {
    match rustix::fs::flock(handle, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(io::Error::other(format!("another process is writing {}", path.display())))
        }
        locked => Ok(locked?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Proves NEW-1.
    #[test]
    fn a_file_has_its_name_only_when_it_is_finished_and_replaces_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.csv");
        drop(NewFile::create(&file).unwrap());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "one that is given up is deleted");

        let new = NewFile::create(&file).unwrap();
        new.handle().write_all(b"whole").unwrap();
        assert!(!file.exists());
        let said = NewFile::create(&file).err().unwrap().to_string();
        assert!(said.contains("another process is writing"), "{said}");
        assert_eq!(new.finish().unwrap(), 5);
        assert_eq!(fs::read(&file).unwrap(), b"whole");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(NewFile::create(&file).err().unwrap().kind(), io::ErrorKind::AlreadyExists);

        fs::remove_file(&file).unwrap();
        let new = NewFile::create(&file).unwrap();
        fs::write(&file, "of another").unwrap();
        assert!(new.finish().is_err());
        assert_eq!(fs::read(&file).unwrap(), b"of another");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    /// Proves NEW-1.
    #[test]
    fn what_a_killed_process_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.csv");
        fs::write(directory.path().join("a.csv.partial"), "half of it").unwrap();
        let new = NewFile::create(&file).unwrap();
        assert_eq!(new.finish().unwrap(), 0);
    }

    /// Proves NEW-2.
    #[test]
    fn a_file_is_replaced_as_a_whole_and_never_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("clock.json");
        for content in ["a longer first one", "second"] {
            replace(&file, content.as_bytes(), 0o600).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), content);
        }
        let victim = directory.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join("clock.json.tmp")).unwrap();
        assert!(replace(&file, b"third", 0o600).is_err());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(fs::read_to_string(&file).unwrap(), "second");
    }
}
