//! `clock.json`: the record of the trusted time beside the journal, for a start while the database is away.
//!
//! The file is always replaced as a whole: written to a temporary file, fsynced, renamed, directory fsynced. An unreadable
//! file, or one of another site (a copied directory), counts as none: the database has a record, too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{ClockRecord, Timestamp};
use crate::new_file::replace;

const FILE_NAME: &str = "clock.json";
const VERSION: u32 = 1;
/// As the umask leaves it.
const FILE_MODE: u32 = 0o666;
/// A larger file is not ours.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    site: String,
    seq: u64,
    trusted_us: i64,
    wall_us: i64,
    step_held_us: Option<u64>,
}

/// The file of one site.
#[derive(Debug, Clone)]
pub struct ClockFile {
    directory: PathBuf,
    site: String,
}

impl ClockFile {
    /// Names the file in the journal's directory.
    #[must_use]
    pub fn in_directory(directory: &Path, site: &str) -> Self {
        Self { directory: directory.to_owned(), site: site.to_owned() }
    }

    /// Returns its path, for the operator.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }

    /// Reads the record, if the file has one of this site.
    #[must_use]
    pub fn read(&self) -> Option<ClockRecord> {
        let path = self.path();
        if fs::metadata(&path).ok()?.len() > FILE_BYTES_MAX {
            return None;
        }
        let content: Content = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        if content.version != VERSION || content.site != self.site {
            return None;
        }
        let record = ClockRecord {
            seq: content.seq,
            trusted_at: Timestamp::from_micros(content.trusted_us),
            wall_at: Timestamp::from_micros(content.wall_us),
            step_held: content.step_held_us.map(Duration::from_micros),
        };
        record.is_consistent().then_some(record)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write(&self, record: &ClockRecord) -> io::Result<()> {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let content = Content {
            version: VERSION,
            site: self.site.clone(),
            seq: record.seq,
            trusted_us: record.trusted_at.as_micros(),
            wall_us: record.wall_at.as_micros(),
            step_held_us: record.step_held.map(micros),
        };
        replace(&self.path(), &serde_json::to_vec(&content)?, FILE_MODE)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_anything_else_counts_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = ClockFile::in_directory(directory.path(), "north");
        assert_eq!(file.read(), None);
        let at = |micros: i64| Timestamp::from_micros(1_790_000_000_000_000 + micros);
        let record = ClockRecord {
            seq: 7,
            trusted_at: at(1),
            wall_at: at(2),
            step_held: Some(Duration::from_micros(3)),
        };
        for record in [record, ClockRecord { step_held: None, ..record }] {
            file.write(&record).unwrap();
            assert_eq!(file.read(), Some(record));
        }
        assert_eq!(ClockFile::in_directory(directory.path(), "south").read(), None, "a copied directory");
        file.write(&ClockRecord { trusted_at: Timestamp::from_micros(5), ..record }).unwrap();
        assert_eq!(file.read(), None, "no time that was ever trusted");
        fs::write(file.path(), "{").unwrap();
        assert_eq!(file.read(), None);
    }
}
