//! Who else on this computer can reach Andon's files: the umask of the process, and files that are open to every user.
//!
//! Invariants
//! - **FAC-1** Whatever this process creates is closed to other users. Its group gets what the inherited umask leaves to it,
//!   if that umask was made with other users in mind; otherwise nothing.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::umask;

const READABLE: u32 = 0o004;
const WRITABLE: u32 = 0o002;
const PASSABLE: u32 = 0o001;

/// Takes away from other users what this process creates from now on. An umask that already leaves them nothing stays: a unit
/// lets a group in by `UMask=0027`. Call it before there is a second thread, which would inherit and share the umask.
pub fn close_to_others() {
    let inherited = umask(Mode::RWXG | Mode::RWXO);
    if inherited.contains(Mode::RWXO) {
        umask(inherited);
    }
}

/// A file or directory that every user of this computer can read or change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    path: PathBuf,
    mode: u32,
}

/// Finds out whether every user can read or change what is at `path`; `None` also if it is not there.
#[must_use]
pub fn exposed(path: &Path) -> Option<Exposed> {
    with_bits(path, READABLE | WRITABLE)
}

/// As [`exposed`], but reading is no harm.
#[must_use]
pub fn changeable(path: &Path) -> Option<Exposed> {
    with_bits(path, WRITABLE)
}

/// A directory above that lets nobody through protects what is in it.
fn with_bits(path: &Path, bits: u32) -> Option<Exposed> {
    let real = fs::canonicalize(path).ok()?;
    let mode_of = |path: &Path| fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o7777);
    let mode = mode_of(&real).filter(|mode| mode & bits != 0)?;
    let mut above = real.ancestors().skip(1);
    above
        .all(|directory| mode_of(directory).is_none_or(|mode| mode & PASSABLE != 0))
        .then(|| Exposed { path: path.to_owned(), mode })
}

impl fmt::Display for Exposed {
    /// Says what others can do, and the command that ends it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let can = match (self.mode & READABLE != 0, self.mode & WRITABLE != 0) {
            (true, true) => "read and change",
            (true, false) => "read",
            _ => "change",
        };
        let path = self.path.display().to_string();
        let quoted = shell_word(&path);
        write!(
            f,
            "every user of this computer can {can} {path} (mode {:04o}); run chmod o-rwx {quoted}",
            self.mode
        )
    }
}

/// Returns `text` as one word for a shell.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=%".contains(c);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_exposed_by_its_own_mode_unless_a_directory_above_is_closed() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("plant data");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("andon.db");
        fs::write(&file, "").unwrap();
        let shown = file.display();
        let table = [
            (0o755, 0o755, 0o644, Some(("read", "0644"))),
            (0o755, 0o755, 0o646, Some(("read and change", "0646"))),
            (0o755, 0o711, 0o642, Some(("change", "0642"))),
            (0o755, 0o755, 0o640, None),
            (0o755, 0o755, 0o661, None),
            (0o755, 0o750, 0o666, None),
            (0o700, 0o777, 0o666, None),
        ];
        for (of_home, of_directory, of_file, expected) in table {
            set_mode(home.path(), of_home);
            set_mode(&directory, of_directory);
            set_mode(&file, of_file);
            let expected = expected.map(|(can, mode)| {
                format!(
                    "every user of this computer can {can} {shown} (mode {mode}); run chmod o-rwx '{shown}'"
                )
            });
            assert_eq!(exposed(&file).map(|found| found.to_string()), expected, "{of_file:o}");
        }
        set_mode(home.path(), 0o755);
        set_mode(&directory, 0o755);
        set_mode(&file, 0o644);
        assert_eq!(changeable(&file), None);
        set_mode(&file, 0o602);
        assert!(changeable(&file).is_some());
        assert_eq!(exposed(&directory.join("absent")), None);
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for (path, word) in [("/a/b-1.db", "/a/b-1.db"), ("/a b", "'/a b'"), ("/a'$(x)", r"'/a'\''$(x)'")] {
            assert_eq!(shell_word(path), word);
        }
    }
}
