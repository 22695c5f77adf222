//! Surveys what can still be read of a journal, whatever has happened to it. Changes nothing; `repair.rs` and `export.rs`
//! use the result.
//!
//! A record counts if it has the checksum of its segment, its seq belongs in that segment, and it follows a smaller seq.
//! The checksums need the journal's id, which is in `journal.meta` and in every header: one of them is enough. The survey
//! keeps runs of records in memory, not records.

mod bad_places;
mod headers;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JournalError;
use super::fs::{Fs, FsFile};
use super::meta::{Hole, Meta};
use super::record::RECORD_HEADER_BYTES;
use super::segment::{HEADER_BYTES, Header};
use super::tail_scan;
use crate::domain::Seq;
use headers::{SegmentHead, heads, rebuilt};

/// Consecutive records, in seq and in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) struct Run {
    pub first: Seq,
    pub last: Seq,
    pub start: u64,
    pub end: u64,
}

/// A segment of this journal.
pub(in crate::journal) struct SourceSegment {
    /// Current name of the file.
    pub path: PathBuf,
    /// Its header, or the header it should have. The file belongs under this first seq.
    pub header: Header,
    pub header_is_whole: bool,
    pub runs: Vec<Run>,
}

impl SourceSegment {
    pub(in crate::journal) fn first(&self) -> Seq {
        self.header.first
    }

    /// Returns the run that begins at the start of the segment with the segment's first seq.
    pub(in crate::journal) fn run_in_place(&self) -> Option<Run> {
        let run = self.runs.first().copied();
        run.filter(|run| run.start == HEADER_BYTES as u64 && run.first == self.first())
    }
}

/// A file with a segment's name that is not a segment of this journal.
pub(in crate::journal) struct ForeignFile {
    pub path: PathBuf,
    pub what: String,
}

/// A place without the records that it should hold, or bytes between records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) struct BadPlace {
    /// Empty if the file is missing.
    pub bytes: Range<u64>,
    pub path: PathBuf,
    pub missing: Option<Hole>,
    pub what: String,
}

pub(in crate::journal) struct Survey {
    pub dir: PathBuf,
    /// The file on disk; if it is lost, rebuilt from the headers.
    pub meta: Meta,
    /// Why the file is lost, if it is.
    pub meta_lost: Option<String>,
    /// True if it was rebuilt under a new journal id.
    pub is_of_new_identity: bool,
    /// Ascending by first seq.
    pub sources: Vec<SourceSegment>,
    pub foreign: Vec<ForeignFile>,
    /// Largest watermark of any record.
    pub watermark: Seq,
}

impl Survey {
    pub(in crate::journal) fn load(fs: &dyn Fs, dir: &Path) -> Result<Self, JournalError> {
        // Read before the listing: its first kept segment is then in the listing, or has been trimmed since.
        let (meta, meta_lost) = match Meta::load(fs, dir) {
            Ok(Some(meta)) => (Some(meta), None),
            Ok(None) => (None, Some("the file is missing".to_owned())),
            Err(JournalError::Damaged { what, .. }) => (None, Some(what)),
            Err(error) => return Err(error),
        };
        let first_kept = meta.as_ref().map_or(Seq::ZERO, |meta| meta.first_kept);
        let mut heads = heads(fs, dir, first_kept)?;
        let meta = match meta {
            Some(meta) => meta,
            None => rebuilt(&mut heads)?,
        };
        let is_of_new_identity =
            meta_lost.is_some() && heads.iter().all(|head| head.id() != Some(meta.journal_id));
        let mut survey = Self {
            dir: dir.to_owned(),
            meta,
            meta_lost,
            is_of_new_identity,
            sources: Vec::new(),
            foreign: Vec::new(),
            watermark: Seq::ZERO,
        };
        let files = survey.sort(heads);
        survey.find_runs(&files)?;
        survey.exclude_impostors(files)?;
        Ok(survey)
    }

    /// Separates this journal's segments from foreign files; returns the files of the segments.
    fn sort(&mut self, heads: Vec<SegmentHead>) -> Vec<Arc<dyn FsFile>> {
        let names: Vec<Seq> = heads.iter().map(|head| head.name).collect();
        let mut ours: Vec<(SourceSegment, Arc<dyn FsFile>)> = Vec::new();
        for head in heads {
            let first = head.first();
            let expected = Header { first, journal_id: self.meta.id_of_segment(first) };
            let is_taken = first != head.name
                && (names.contains(&first) || ours.iter().any(|(source, _)| source.first() == first));
            let what = match head.header {
                Some(header) if header != expected => {
                    Some(format!("the segment belongs to journal {}", header.journal_id))
                }
                Some(_) if is_taken || first < self.meta.first_kept => {
                    Some(format!("the segment begins with record {first}, not with its name's"))
                }
                _ => None,
            };
            match what {
                Some(what) => self.foreign.push(ForeignFile { path: head.path, what }),
                None => {
                    let header_is_whole = head.header.is_some();
                    let source = SourceSegment {
                        path: head.path,
                        header: expected,
                        header_is_whole,
                        runs: Vec::new(),
                    };
                    ours.push((source, head.file));
                }
            }
        }
        ours.sort_by_key(|(source, _)| source.first());
        let (sources, files) = ours.into_iter().unzip();
        self.sources = sources;
        files
    }

    fn find_runs(&mut self, files: &[Arc<dyn FsFile>]) -> Result<(), JournalError> {
        let ends: Vec<Option<Seq>> =
            self.sources.iter().skip(1).map(|next| Some(next.first())).chain([None]).collect();
        for ((source, file), end) in self.sources.iter_mut().zip(files).zip(ends) {
            let find = || runs(file, &source.header, end).map_err(JournalError::io("read", &source.path));
            let (mut found, mut watermark) = find()?;
            // A service may append to the newest segment meanwhile: a record half written at the first pass is whole
            // at the next.
            while end.is_none() && found.len() > 1 {
                let runs_before = found.len();
                (found, watermark) = find()?;
                if found.len() >= runs_before {
                    break;
                }
            }
            source.runs = found;
            self.watermark = self.watermark.max(watermark);
        }
        Ok(())
    }

    /// Excludes unreadable files with a segment's name whose seqs are in the segment before: such a file is not ours and
    /// must not end that segment.
    fn exclude_impostors(&mut self, mut files: Vec<Arc<dyn FsFile>>) -> Result<(), JournalError> {
        let records = |runs: &[Run]| runs.iter().map(|run| run.last.since(run.first) + 1).sum::<u64>();
        let mut index = 1;
        while let Some(suspect) = self.sources.get(index) {
            let end = self.sources.get(index + 1).map(SourceSegment::first);
            let before = &self.sources[index - 1];
            let is_readable = suspect.header_is_whole || !suspect.runs.is_empty();
            let (found, watermark) = if is_readable {
                (Vec::new(), Seq::ZERO)
            } else {
                runs(&files[index - 1], &before.header, end)
                    .map_err(JournalError::io("read", &before.path))?
            };
            if records(&found) <= records(&before.runs) {
                index += 1;
                continue;
            }
            let what = format!("the file is no segment: record {} is in the segment before", suspect.first());
            let path = self.sources.remove(index).path;
            files.remove(index);
            self.foreign.push(ForeignFile { path, what });
            self.sources[index - 1].runs = found;
            self.watermark = self.watermark.max(watermark);
        }
        Ok(())
    }

    /// Returns the newest seq known to have been used, from all evidence.
    pub(in crate::journal) fn newest_known(&self) -> Seq {
        let last_runs = self.sources.iter().filter_map(|source| source.runs.last());
        let records = last_runs.map(|run| run.last);
        let names = self.sources.iter().map(|source| source.first()).chain([self.meta.first_kept]);
        let before_names = names.map(|first| Seq(first.0 - 1));
        records.chain(before_names).fold(self.meta.synced.max(self.watermark), Seq::max)
    }

    pub(in crate::journal) fn records(&self) -> u64 {
        let runs = self.sources.iter().flat_map(|source| &source.runs);
        runs.map(|run| run.last.since(run.first) + 1).sum()
    }

    /// Returns the missing seqs, including those already known.
    pub(in crate::journal) fn holes(&self) -> Vec<Hole> {
        let first_kept = self.meta.first_kept;
        let mut holes: Vec<Hole> =
            self.meta.holes.iter().copied().filter(|hole| hole.to < first_kept).collect();
        let mut next = first_kept;
        for run in self.sources.iter().flat_map(|source| &source.runs) {
            holes.extend(Hole::before(next, run.first));
            next = run.last.next();
        }
        holes.extend(Hole::before(next, self.newest_known().next()));
        holes
    }
}

/// Returns the runs of a segment with seqs below `end`, and the largest watermark in them.
fn runs(file: &Arc<dyn FsFile>, header: &Header, end: Option<Seq>) -> io::Result<(Vec<Run>, Seq)> {
    let mut found_runs: Vec<Run> = Vec::new();
    let mut watermark = Seq::ZERO;
    let start = HEADER_BYTES as u64;
    tail_scan::find_records(file, header.seed(), start, header.first, &mut |found| {
        let records_before_max = (found.offset - start) / RECORD_HEADER_BYTES as u64;
        let seq_max = header.first.0.saturating_add(records_before_max);
        if end.is_some_and(|end| found.seq >= end) || found.seq < header.first || found.seq.0 > seq_max {
            return;
        }
        let found_end = found.offset + found.len;
        match found_runs.last_mut() {
            Some(run) if found.seq <= run.last => return,
            Some(run) if found.seq == run.last.next() && found.offset == run.end => {
                (run.last, run.end) = (found.seq, found_end);
            }
            _ => found_runs.push(Run {
                first: found.seq,
                last: found.seq,
                start: found.offset,
                end: found_end,
            }),
        }
        watermark = watermark.max(found.watermark);
    })?;
    Ok((found_runs, watermark))
}
