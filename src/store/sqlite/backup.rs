//! A consistent copy of the SQLite file, while other processes write to it.
//!
//! `VACUUM INTO` reads in one transaction: commits that come meanwhile wait for nothing and are not in the
//! copy. They stay in the write-ahead log until the copy is done.
//!
//! Invariants
//! - **BAK-1** A backup is the database at one instant, checked for its structure before it gets its name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use super::{Database, read_only_uri};
use crate::new_file::{NewFile, refuse_existing};
use crate::store::{Cause, StoreError, StoreOptions};

/// Room on the disk beyond the size of the copy: a full disk would stop the journal, too.
const ROOM_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// How often the growth of the copy is reported.
const REPORT_EVERY: Duration = Duration::from_millis(200);

#[derive(QueryableByName)]
struct SizeRow {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

#[derive(QueryableByName)]
struct CheckRow {
    #[diesel(sql_type = Text)]
    quick_check: String,
}

/// A backup that is about to be made.
pub struct Backup {
    database: Database,
    file: PathBuf,
    bytes_expected: u64,
}

impl Backup {
    /// Opens the database at `path`, which must exist, and checks that `file` can be made.
    ///
    /// # Errors
    /// [`StoreError::Connect`]; [`StoreError::Backup`] if `file` exists or the disk has too little room.
    pub fn prepare(path: &Path, file: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        refuse_existing(file).map_err(|error| failed(file, error))?;
        let mut database = Database::open(path, options)?;
        let size = "SELECT (page_count - freelist_count) * page_size AS bytes \
             FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let size = sql_query(size).get_result::<SizeRow>(&mut database.connection);
        let bytes = size.map_err(|error| failed(file, error))?.bytes;
        let bytes_expected = u64::try_from(bytes).unwrap_or(0);
        check_room(file, bytes_expected)?;
        Ok(Self { database, file: file.to_path_buf(), bytes_expected })
    }

    /// Returns about how large the copy will be.
    #[must_use]
    pub fn bytes_expected(&self) -> u64 {
        self.bytes_expected
    }

    /// Makes the copy; passes on by how many bytes it has grown since the last call. Returns its size.
    ///
    /// # Errors
    /// [`StoreError::Backup`]; then there is no file. [`StoreError::FileMoved`].
    pub fn make(mut self, grown: &(dyn Fn(u64) + Sync)) -> Result<u64, StoreError> {
        let file = self.file;
        let new = NewFile::create(&file).map_err(|error| failed(&file, error))?;
        self.database.checked(|session| {
            let copied = copy(session.connection, new.partial(), grown);
            copied.map_err(|source| failed(&file, source))
        })?;
        check(new.partial()).map_err(|source| failed(&file, source))?;
        new.finish().map_err(|error| failed(&file, error))
    }
}

fn failed(file: &Path, source: impl Into<Cause>) -> StoreError {
    StoreError::Backup { file: file.display().to_string(), source: source.into() }
}

/// Refuses to fill the disk, on which the journal may be.
fn check_room(file: &Path, bytes: u64) -> Result<(), StoreError> {
    let absolute = std::path::absolute(file).map_err(|error| failed(file, error))?;
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    let disk = rustix::fs::statvfs(directory).map_err(|error| failed(file, io::Error::from(error)))?;
    match too_little_room(disk.f_bavail * disk.f_frsize, bytes) {
        Some(reason) => Err(failed(file, format!("{} {reason}", directory.display()))),
        None => Ok(()),
    }
}

/// Says that a copy of `bytes` does not fit where `free` bytes are free, and what to do.
fn too_little_room(free: u64, bytes: u64) -> Option<String> {
    let needed = bytes + ROOM_BYTES_MIN;
    let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
    (free < needed).then(|| {
        format!("has {} MiB free, and {} MiB are needed; name a file on another disk", mib(free), mib(needed))
    })
}

/// Copies the database into the empty file `to`, and reports how it grows.
fn copy(connection: &mut SqliteConnection, to: &Path, grown: &(dyn Fn(u64) + Sync)) -> Result<(), Cause> {
    let name = to.to_str().ok_or("SQLite needs a path that is UTF-8")?;
    let (done, ended) = sync_channel::<()>(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut seen = 0;
            while ended.recv_timeout(REPORT_EVERY) == Err(RecvTimeoutError::Timeout) {
                let size = fs::metadata(to).map_or(seen, |found| found.len());
                grown(size.saturating_sub(seen));
                seen = size.max(seen);
            }
        });
        let copied = sql_query("VACUUM INTO ?").bind::<Text, _>(name).execute(connection);
        drop(done);
        copied.map(drop).map_err(Cause::from)
    })
}

/// Checks the structure of the copy.
fn check(path: &Path) -> Result<(), Cause> {
    let mut connection = SqliteConnection::establish(&read_only_uri(path))?;
    connection.batch_execute("PRAGMA query_only = true")?;
    let found = sql_query("PRAGMA quick_check(1)").get_result::<CheckRow>(&mut connection)?.quick_check;
    if found == "ok" {
        return Ok(());
    }
    Err(format!("the copy is damaged ({found}), as the database itself must be: restore an older backup")
        .into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_backup_leaves_room_on_the_disk() {
        let mib = 1024 * 1024;
        assert_eq!(too_little_room(116 * mib, 100 * mib), None);
        let said = too_little_room(115 * mib, 100 * mib).unwrap();
        assert_eq!(said, "has 115 MiB free, and 116 MiB are needed; name a file on another disk");
    }

    /// Proves BAK-1.
    #[test]
    fn a_copy_that_the_disk_has_spoilt_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("copy.db");
        let mut connection = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
        let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT i, 'text' FROM n";
        let filled = format!("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t {rows}");
        connection.batch_execute(&filled).unwrap();
        drop(connection);
        check(&path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0x5a; 200], 3 * 4_096).unwrap();
        let said = check(&path).unwrap_err().to_string();
        assert!(said.contains("damaged") || said.contains("malformed"), "{said}");
    }
}
