//! The bytes that recovery cut off and kept in files of their own (`torn-<seq>-<µs>.bin`): nobody reads them again but
//! a person, so they have an age limit. What a repair cut out (`damaged-…`) stays, because a person ran the repair.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::JournalError;
use super::fs::Fs;

/// Torn tails older than this are deleted.
pub const TORN_TAIL_AGE_MAX: Duration = Duration::from_secs(90 * 86_400);
/// How often maintenance looks for them.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(3_600);

/// Returns when the file of that name was written, in microseconds since 1970; `None` if it is not a torn tail.
fn torn_at(name: &str) -> Option<u64> {
    let (_seq, micros) = name.strip_prefix("torn-")?.strip_suffix(".bin")?.rsplit_once('-')?;
    micros.parse().ok()
}

/// Deletes the torn tails that are too old by the wall clock, as their names were given by it.
pub(super) fn delete_old_torn_tails(fs: &dyn Fs, dir: &Path) -> Result<(), JournalError> {
    #[expect(clippy::disallowed_methods, reason = "the names of the files are from this clock")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    delete_before(fs, dir, now.saturating_sub(TORN_TAIL_AGE_MAX))
}

/// Deletes the torn tails written before `before`, a time since 1970.
pub(super) fn delete_before(fs: &dyn Fs, dir: &Path, before: Duration) -> Result<(), JournalError> {
    let is_old = |name: &String| torn_at(name).is_some_and(|at| Duration::from_micros(at) < before);
    let names = fs.list(dir).map_err(JournalError::io("list", dir))?;
    for name in names.into_iter().filter(is_old) {
        let path = dir.join(name);
        fs.remove(&path).map_err(JournalError::io("delete", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::sim_fs::SimFs;
    use super::*;

    #[test]
    fn torn_tails_are_deleted_once_they_are_old_and_nothing_else_is() {
        let (fs, dir) = (SimFs::default(), Path::new("/journal"));
        fs.create_dir_all(dir).unwrap();
        let kept = [
            "00000000000000000001.seg",
            "damaged-00000000000000000001-64-1000000.bin",
            "journal.meta",
            "torn-5-2000000.bin",
            "torn-6-yesterday.bin",
            "torn-7-18446744073709551616.bin",
        ];
        for name in kept.into_iter().chain(["torn-5-1000000.bin", "torn-9-1999999.bin"]) {
            fs.create(&dir.join(name)).unwrap();
        }
        delete_before(&fs, dir, Duration::from_secs(2)).unwrap();
        let mut left = fs.list(dir).unwrap();
        left.sort();
        assert_eq!(left, kept);
    }

    #[test]
    fn a_torn_tail_of_today_is_young() {
        let directory = tempfile::tempdir().unwrap();
        #[expect(clippy::disallowed_methods, reason = "as recovery names them")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let old = now - TORN_TAIL_AGE_MAX - Duration::from_secs(1);
        for at in [now, old] {
            std::fs::write(directory.path().join(format!("torn-1-{}.bin", at.as_micros())), "x").unwrap();
        }
        delete_old_torn_tails(&super::super::RealFs, directory.path()).unwrap();
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert!(directory.path().join(format!("torn-1-{}.bin", now.as_micros())).exists());
    }
}
