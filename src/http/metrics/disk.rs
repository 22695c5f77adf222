//! How full the disks are on which Andon writes. What the system does not say is omitted.

use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::Exposition;
use crate::http::HttpState;

/// A directory that Andon writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPlace {
    /// What it holds: `journal` or `store`.
    pub holds: &'static str,
    /// Where it is.
    pub directory: PathBuf,
}

/// Returns the bytes that are free for Andon on the disk of `directory`, and its size.
fn room(directory: &Path) -> Option<(u64, u64)> {
    let disk = statvfs(directory).ok()?;
    Some((disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize)))
}

/// Writes free space and size of each place's disk.
pub(super) fn disks(out: &mut Exposition<'_>, state: &HttpState) {
    let known = state.data_places.iter().filter_map(|place| Some((place.holds, room(&place.directory)?)));
    let known: Vec<(&str, (u64, u64))> = known.collect();
    let free = known.iter().map(|(holds, (free, _))| (*holds, *free));
    out.gauges(
        "andon_disk_free_bytes",
        "Free space on the disk of the journal, and of an SQLite file.",
        "place",
        free,
    );
    let size = known.iter().map(|(holds, (_, size))| (*holds, *size));
    out.gauges("andon_disk_size_bytes", "Size of that disk.", "place", size);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_and_a_missing_directory_has_none() {
        let (free, size) = room(Path::new("/tmp")).expect("it is there");
        assert!(free <= size && size > 0, "{free} of {size}");
        assert_eq!(room(Path::new("/no/such/directory")), None);
    }
}
