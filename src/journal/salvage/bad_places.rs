//! The places of a journal without the records that they should hold.

use std::io;
use std::ops::Range;

use super::{BadPlace, SourceSegment, Survey};
use crate::journal::fs::FsFile;
use crate::journal::meta::Hole;
use crate::journal::segment::{self, HEADER_BYTES};
use crate::journal::tail_scan;

impl Survey {
    /// Returns the missing seqs before the first segment, if any.
    pub(in crate::journal) fn missing_front(&self) -> Option<BadPlace> {
        let next = self.sources.first().map_or_else(|| self.newest_known().next(), SourceSegment::first);
        let missing = Hole::before(self.meta.first_kept, next)?;
        (!self.is_known(&missing)).then(|| self.missing_segments(missing))
    }

    /// Returns the bad places of a segment, in order.
    pub(in crate::journal) fn bad_places(
        &self,
        index: usize,
        file: &dyn FsFile,
    ) -> io::Result<Vec<BadPlace>> {
        let source = &self.sources[index];
        let header = HEADER_BYTES as u64;
        let written = tail_scan::written_end(file, 0)?;
        let bad = |bytes: Range<u64>, missing: Option<Hole>, what: String| BadPlace {
            bytes,
            path: source.path.clone(),
            missing,
            what,
        };
        let mut places = Vec::new();
        if !source.header_is_whole {
            places.push(bad(0..written.min(header), None, "the segment's header is not readable".to_owned()));
        }
        let (mut next, mut offset) = (source.first(), header);
        for run in &source.runs {
            if run.start > offset || run.first > next {
                let missing = Hole::before(next, run.first);
                places.push(bad(offset..run.start, missing, no_records(missing)));
            }
            (next, offset) = (run.last.next(), run.end);
        }
        let following = self.sources.get(index + 1).map(SourceSegment::first);
        let end = following.unwrap_or_else(|| self.newest_known().next());
        let remains = offset..written.max(offset);
        match Hole::before(next, end) {
            Some(missing) if following.is_some() && self.is_known(&missing) && source.runs.len() == 1 => {}
            Some(missing) if remains.is_empty() => places.push(self.missing_segments(missing)),
            Some(missing) => places.push(bad(remains, Some(missing), no_records(Some(missing)))),
            // Left by a failed or torn append; opening handles that.
            None if source.runs.len() <= 1 => {}
            None if remains.is_empty() => {}
            None => places.push(bad(remains, None, no_records(None))),
        }
        Ok(places)
    }

    fn missing_segments(&self, missing: Hole) -> BadPlace {
        BadPlace {
            bytes: 0..0,
            path: segment::segment_path(&self.dir, missing.from),
            what: format!("the segments with {} are missing", records(missing)),
            missing: Some(missing),
        }
    }

    fn is_known(&self, missing: &Hole) -> bool {
        self.meta.holes.iter().any(|hole| hole.from <= missing.from && missing.to <= hole.to)
    }
}

fn records(hole: Hole) -> String {
    let noun = if hole.seqs() == 1 { "record" } else { "records" };
    format!("{noun} {hole}")
}

fn no_records(missing: Option<Hole>) -> String {
    match missing {
        Some(missing) => format!("{} cannot be read", records(missing)),
        None => "these bytes are not a record".to_owned(),
    }
}
