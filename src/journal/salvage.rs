//! What can still be read of a journal, whatever has happened to it. Only looks; `repair.rs` and
//! `export.rs` make something of it.
//!
//! Every whole record counts that has the checksum of its segment, stands in a segment where its seq belongs, and
//! follows a smaller seq. The checksums need the journal's id: it is in `journal.meta` and in every header, so one of
//! them is enough. In memory are runs of records, not records.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JournalError;
use super::fs::{Access, Fs, FsFile, read_full_at};
use super::meta::{Hole, Meta};
use super::record::RECORD_HEADER_BYTES;
use super::segment::{self, BadHeader, FORMAT_VERSION, HEADER_BYTES, Header};
use super::tail_scan;
use crate::domain::{JournalId, Seq};

/// Records that follow each other in seq and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub first: Seq,
    pub last: Seq,
    pub start: u64,
    pub end: u64,
}

/// A segment of this journal.
pub(super) struct SourceSegment {
    /// The file as it is called now.
    pub path: PathBuf,
    /// What its header says, or should say. The file belongs under this first seq.
    pub header: Header,
    pub header_is_whole: bool,
    pub runs: Vec<Run>,
}

impl SourceSegment {
    pub(super) fn first(&self) -> Seq {
        self.header.first
    }

    /// The run that begins where and with what the segment should.
    pub(super) fn run_in_place(&self) -> Option<Run> {
        let run = self.runs.first().copied();
        run.filter(|run| run.start == HEADER_BYTES as u64 && run.first == self.first())
    }
}

/// A file that is called like a segment and is none of this journal's.
pub(super) struct ForeignFile {
    pub path: PathBuf,
    pub what: String,
}

/// A place that holds no records, though it should, or bytes between records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadPlace {
    /// Empty if the file is missing.
    pub bytes: Range<u64>,
    pub path: PathBuf,
    pub missing: Option<Hole>,
    pub what: String,
}

pub(super) struct Survey {
    pub dir: PathBuf,
    /// As it is on disk, or if that is lost, made from the headers.
    pub meta: Meta,
    /// Why it is lost.
    pub meta_lost: Option<String>,
    /// That was made under a new id.
    pub is_of_new_identity: bool,
    /// By their first seq.
    pub sources: Vec<SourceSegment>,
    pub foreign: Vec<ForeignFile>,
    /// The largest one of any record.
    pub watermark: Seq,
}

/// A segment file and its header, if that can be read.
struct SegmentHead {
    name: Seq,
    path: PathBuf,
    file: Arc<dyn FsFile>,
    header: Option<Header>,
    /// The id that its records have, if the header does not tell.
    guessed: Option<JournalId>,
}

impl SegmentHead {
    fn first(&self) -> Seq {
        self.header.map_or(self.name, |header| header.first)
    }

    fn id(&self) -> Option<JournalId> {
        self.header.map(|header| header.journal_id).or(self.guessed)
    }
}

impl Survey {
    pub(super) fn load(fs: &dyn Fs, dir: &Path) -> Result<Self, JournalError> {
        // Before the listing: what it calls the first kept segment is then still listed, or trimmed since.
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

    /// Tells this journal's segments from others; returns the files of the former.
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
            // A service may append to the newest segment meanwhile: a record that was being written at the first
            // look is whole at the second.
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

    /// A file that is called like a segment, of which nothing can be read, and whose seqs the segment before holds, is none
    /// of ours: it must not end that segment.
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

    /// The newest seq that has been given, as far as anything tells.
    pub(super) fn newest_known(&self) -> Seq {
        let last_runs = self.sources.iter().filter_map(|source| source.runs.last());
        let records = last_runs.map(|run| run.last);
        let names = self.sources.iter().map(|source| source.first()).chain([self.meta.first_kept]);
        let before_names = names.map(|first| Seq(first.0 - 1));
        records.chain(before_names).fold(self.meta.synced.max(self.watermark), Seq::max)
    }

    pub(super) fn records(&self) -> u64 {
        let runs = self.sources.iter().flat_map(|source| &source.runs);
        runs.map(|run| run.last.since(run.first) + 1).sum()
    }

    /// The seqs that are missing, those included that were known before.
    pub(super) fn holes(&self) -> Vec<Hole> {
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

    /// The seqs before the first segment that should be there.
    pub(super) fn missing_front(&self) -> Option<BadPlace> {
        let next = self.sources.first().map_or_else(|| self.newest_known().next(), SourceSegment::first);
        let missing = Hole::before(self.meta.first_kept, next)?;
        (!self.is_known(&missing)).then(|| self.missing_segments(missing))
    }

    /// The bad places of a segment, in order.
    pub(super) fn bad_places(&self, index: usize, file: &dyn FsFile) -> io::Result<Vec<BadPlace>> {
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
            // Of an append that failed or was torn; open knows what to do with that.
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
        None => "these bytes are no record".to_owned(),
    }
}

/// The segments from `first_kept` on; one that is gone by the time it is opened has been trimmed.
fn heads(fs: &dyn Fs, dir: &Path, first_kept: Seq) -> Result<Vec<SegmentHead>, JournalError> {
    let listing = fs.list(dir).map_err(JournalError::io("list", dir))?;
    let mut names: Vec<Seq> = listing.iter().filter_map(|name| segment::parse_segment_name(name)).collect();
    names.sort_unstable();
    let mut heads = Vec::new();
    for name in names.into_iter().filter(|name| *name >= first_kept) {
        let path = segment::segment_path(dir, name);
        let file = match fs.open(&path, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(JournalError::io("open", &path))?,
        };
        let mut bytes = [0; HEADER_BYTES];
        read_full_at(&*file, &mut bytes, 0).map_err(JournalError::io("read", &path))?;
        let header = match Header::decode(&bytes) {
            Ok(header) => Some(header),
            Err(BadHeader::Unreadable) => None,
            Err(BadHeader::Version(found)) => {
                return Err(JournalError::Version { path, found, supported: FORMAT_VERSION });
            }
        };
        heads.push(SegmentHead { name, path, file, header, guessed: None });
    }
    Ok(heads)
}

/// A `journal.meta` from what the headers tell. If they tell of more than one id, or of none, nobody knows which
/// of them the database's position belongs to: the journal goes on under a new one, and everything counts as
/// pending (see `Journal::new_identity`).
fn rebuilt(heads: &mut [SegmentHead]) -> Result<Meta, JournalError> {
    let mut ids: Vec<JournalId> = Vec::new();
    for id in heads.iter().filter_map(SegmentHead::id) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    for head in heads.iter_mut().filter(|head| head.header.is_none()) {
        let mut most = 0;
        for id in &ids {
            let header = Header { first: head.name, journal_id: *id };
            let found = runs(&head.file, &header, None).map_err(JournalError::io("read", &head.path))?;
            let records = found.0.iter().map(|run| run.last.since(run.first) + 1).sum();
            if head.guessed.is_none() || records > most {
                (head.guessed, most) = (Some(*id), records);
            }
        }
    }
    let mut meta = Meta::new();
    meta.first_kept = heads.iter().map(SegmentHead::first).min().unwrap_or(Seq(1));
    meta.committed = Seq(meta.first_kept.0 - 1);
    meta.trimmed = meta.committed;
    if let [id] = ids[..] {
        meta.journal_id = id;
        return Ok(meta);
    }
    meta.identity_base = meta.committed;
    let mut known: Vec<(Seq, JournalId)> =
        heads.iter().filter_map(|head| Some((head.first(), head.id()?))).collect();
    known.sort_by_key(|(first, _)| *first);
    for (first, id) in known {
        match meta.earlier.last_mut() {
            Some((upto, last)) if *last == id => *upto = first,
            _ => meta.earlier.push((first, id)),
        }
    }
    Ok(meta)
}

/// The runs of a segment, with seqs below `end`, and the largest watermark in them.
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
