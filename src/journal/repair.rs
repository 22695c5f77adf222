//! Repairs a damaged journal so that it opens, without losing a readable record.
//!
//! Seqs are kept. Lost records become a *hole*: `journal.meta` lists its seqs, a new segment begins after it, and a reader
//! reports it as a gap with reason [`super::GapReason::Damaged`].
//!
//! | found | what the repair does |
//! |---|---|
//! | a record that cannot be read | moves the later records of its segment to a new segment, and cuts the segment before it |
//! | no record of a segment can be read, or not its first one | the same, and removes the segment |
//! | a header that cannot be read | writes it again from the name and the journal id |
//! | missing segments, in front, between others, or at the end | records a hole |
//! | a segment whose name does not match its header | renames it if the name is free, otherwise removes it |
//! | a segment of another journal | removes it |
//! | `journal.meta` cannot be read | rebuilds it from the headers; under a new id unless they all have one id |
//! | a segment of a newer format | returns [`JournalError::Version`] and changes nothing |
//!
//! # Order of work: why an interrupted repair loses nothing
//!
//! 1. Copy the bytes that will leave the journal to `damaged-<segment>-<offset>-<µs>.bin`, and sync.
//! 2. Write again and sync what stays and is not proven durable.
//! 3. Store the holes in `journal.meta` and raise `synced` to the newest known seq. From here on the journal opens only if
//!    every other record is there (`recovery/mod.rs`), so a half-done repair cannot pass for a whole journal.
//! 4. Write moved records to `repair.tmp`, sync and rename it; sync the directory.
//! 5. Only then write headers, cut segments and remove files.
//!
//! A repeated repair surveys everything again: a moved run counts in its new segment, because a segment ends where the next
//! one begins. At the end the repair checks the journal as opening does.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::JournalError;
use super::cursor::{Cursor, Step};
use super::fs::{Access, Fs, FsFile, copy_range, write_all_at};
use super::lock::DirLock;
use super::meta::{Hole, META_NAME, Meta};
use super::record;
use super::recovery;
use super::salvage::{BadPlace, Run, SourceSegment, Survey};
use super::segment::{self, HEADER_BYTES, Header};
use super::tail_scan;
use crate::domain::{JournalId, Seq};

/// Holds moved records until they are durable.
pub(super) const REPAIR_TMP_NAME: &str = "repair.tmp";

/// Result of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repair {
    /// What was cut, file by file. Empty if the journal was whole; then nothing was changed.
    pub cuts: Vec<Cut>,
    /// Records now in the journal; 0 if it was whole.
    pub records: u64,
    /// The journal's new id, if the old one was lost: then every record counts as pending.
    pub new_identity: Option<JournalId>,
}

/// A place that was damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file; it may be missing or removed.
    pub path: PathBuf,
    /// Offset in the file.
    pub offset: u64,
    /// Number of bytes removed there.
    pub bytes: u64,
    /// The seqs whose records were lost.
    pub missing: Option<Hole>,
    /// What was wrong.
    pub what: String,
    /// The file that keeps the bytes.
    pub kept: Option<PathBuf>,
}

/// Repairs the journal. Holds its lock, so it cannot run beside the service.
///
/// # Errors
/// [`JournalError::Locked`]; [`JournalError::Version`], with nothing changed; I/O errors, after which the repair can be
/// repeated.
pub fn repair(dir: &Path, fs: &dyn Fs) -> Result<Repair, JournalError> {
    Meta::refuse_newer(fs, dir)?;
    let _lock = DirLock::take(fs, dir)?;
    match recovery::check(fs, dir) {
        Ok(()) => return Ok(Repair::default()),
        Err(JournalError::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut survey = Survey::load(fs, dir)?;
    let mut cuts = rename_to_match_headers(fs, &survey)?;
    if !cuts.is_empty() {
        survey = Survey::load(fs, dir)?;
    }
    let plan = RepairPlan::new(fs, &survey)?;
    cuts.extend(plan.copy_aside()?);
    plan.make_durable()?;
    plan.new_meta().store(fs, dir)?;
    plan.move_runs()?;
    plan.finish_segments()?;
    recovery::check(fs, dir)?;
    let new_identity = survey.is_of_new_identity.then_some(survey.meta.journal_id);
    Ok(Repair { cuts, records: survey.records(), new_identity })
}

/// Renames segments whose name does not match their header, where the right name is free.
fn rename_to_match_headers(fs: &dyn Fs, survey: &Survey) -> Result<Vec<Cut>, JournalError> {
    let dir = &survey.dir;
    let mut cuts = Vec::new();
    for source in &survey.sources {
        let path = segment::segment_path(dir, source.first());
        if path != source.path {
            fs.rename(&source.path, &path).map_err(JournalError::io("rename", &source.path))?;
            let what = format!("the segment begins with record {}: renamed to match", source.first());
            cuts.push(Cut {
                path: source.path.clone(),
                offset: 0,
                bytes: 0,
                missing: None,
                what,
                kept: None,
            });
        }
    }
    fs.sync_dir(dir).map_err(JournalError::io("sync directory", dir))?;
    Ok(cuts)
}

/// What the repair does with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    /// Keeps the records up to `end`, and cuts the file there if `is_cut`.
    Keep { end: u64, is_cut: bool },
    /// Removes the file.
    Remove,
}

struct RepairPlan<'a> {
    fs: &'a dyn Fs,
    survey: &'a Survey,
    /// Placement and bad places of each source.
    work: Vec<(Placement, Vec<BadPlace>)>,
    newest: Seq,
}

impl<'a> RepairPlan<'a> {
    fn new(fs: &'a dyn Fs, survey: &'a Survey) -> Result<Self, JournalError> {
        let mut plan = Self { fs, survey, work: Vec::new(), newest: survey.newest_known() };
        for (index, source) in survey.sources.iter().enumerate() {
            let work = plan.place(index, source).map_err(JournalError::io("read", &source.path))?;
            plan.work.push(work);
        }
        Ok(plan)
    }

    fn place(&self, index: usize, source: &SourceSegment) -> std::io::Result<(Placement, Vec<BadPlace>)> {
        let file = self.fs.open(&source.path, Access::Read)?;
        let mut bad = self.survey.bad_places(index, &*file)?;
        let header = HEADER_BYTES as u64;
        if let Some(run) = source.run_in_place() {
            let is_cut = bad.iter().any(|bad| bad.bytes.end > run.end);
            return Ok((Placement::Keep { end: run.end, is_cut }, bad));
        }
        if source.runs.is_empty() {
            if source.first() > self.newest {
                // It never held a record: the journal continues in it.
                return Ok((Placement::Keep { end: header, is_cut: false }, bad));
            }
            // The whole file is kept aside, header included.
            let written = tail_scan::written_end(&*file, 0)?;
            let missing = bad.iter().rev().find_map(|bad| bad.missing);
            let what = bad.last().map(|bad| bad.what.clone()).unwrap_or_default();
            bad = vec![BadPlace { bytes: 0..written, path: source.path.clone(), missing, what }];
        }
        Ok((Placement::Remove, bad))
    }

    fn path(&self, first: Seq) -> PathBuf {
        segment::segment_path(&self.survey.dir, first)
    }

    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn FsFile>, JournalError> {
        self.fs.open(path, access).map_err(JournalError::io("open", path))
    }

    fn sync_dir(&self) -> Result<(), JournalError> {
        let dir = &self.survey.dir;
        self.fs.sync_dir(dir).map_err(JournalError::io("sync directory", dir))
    }

    /// Copies what will be removed, and returns the list.
    fn copy_aside(&self) -> Result<Vec<Cut>, JournalError> {
        let survey = self.survey;
        let mut cuts = Vec::new();
        if let Some(what) = &survey.meta_lost {
            cuts.push(self.keep_file(&survey.dir.join(META_NAME), what)?);
        }
        for foreign in &survey.foreign {
            cuts.push(self.keep_file(&foreign.path, &foreign.what)?);
        }
        let mut bad: Vec<&BadPlace> = self.work.iter().flat_map(|(_, bad)| bad).collect();
        let front = survey.missing_front();
        bad.splice(0..0, &front);
        for bad in bad {
            let kept = self.keep_bytes(&bad.path, bad.bytes.clone())?;
            cuts.push(Cut {
                path: bad.path.clone(),
                offset: bad.bytes.start,
                bytes: bad.bytes.end - bad.bytes.start,
                missing: bad.missing,
                what: bad.what.clone(),
                kept,
            });
        }

        self.sync_dir()?;
        Ok(cuts)
    }

    /// Copies a whole file, if it exists.
    fn keep_file(&self, path: &Path, what: &str) -> Result<Cut, JournalError> {
        let written = match self.fs.open(path, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            opened => opened.and_then(|file| tail_scan::written_end(&*file, 0)),
        };
        let bytes = written.map_err(JournalError::io("read", path))?;
        let kept = self.keep_bytes(path, 0..bytes)?;
        Ok(Cut { path: path.to_owned(), offset: 0, bytes, missing: None, what: what.to_owned(), kept })
    }

    fn keep_bytes(&self, path: &Path, bytes: Range<u64>) -> Result<Option<PathBuf>, JournalError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        #[expect(clippy::disallowed_methods, reason = "part of a file name; nothing is decided by it")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("damaged-{name}-{}-{}.bin", bytes.start, now.as_micros());
        let kept = self.survey.dir.join(name);
        let file = self.open(path, Access::Read)?;
        let aside = self.fs.create(&kept).map_err(JournalError::io("create", &kept))?;
        copy_range(&*file, bytes, &*aside, 0).map_err(JournalError::io("write", &kept))?;
        aside.sync_all().map_err(JournalError::io("sync", &kept))?;
        Ok(Some(kept))
    }

    /// After a failed fdatasync the kernel may hold pages that look clean and are not on the disk (JRN-4).
    fn make_durable(&self) -> Result<(), JournalError> {
        let proven = self.survey.meta.synced.max(self.survey.watermark);
        for (source, (placement, _)) in self.survey.sources.iter().zip(&self.work) {
            let Placement::Keep { end, .. } = *placement else { continue };
            let last = source.run_in_place().map_or(source.first(), |run| run.last);
            if last <= proven || !source.header_is_whole && source.runs.is_empty() {
                continue;
            }
            let (file, path) = (self.open(&source.path, Access::ReadWrite)?, &source.path);
            copy_range(&*file, 0..end, &*file, 0).map_err(JournalError::io("write", path))?;
            file.sync_all().map_err(JournalError::io("sync", path))?;
        }
        Ok(())
    }

    fn new_meta(&self) -> Meta {
        Meta { holes: self.survey.holes(), synced: self.newest, ..self.survey.meta.clone() }
    }

    /// Returns the runs that move to a new segment.
    fn moving(&self) -> impl Iterator<Item = (&'a SourceSegment, Run)> + '_ {
        let with_placement = self.survey.sources.iter().zip(&self.work);
        with_placement.flat_map(|(source, (placement, _))| {
            let staying = usize::from(*placement != Placement::Remove && !source.runs.is_empty());
            source.runs[staying..].iter().map(move |run| (source, *run))
        })
    }

    fn move_runs(&self) -> Result<(), JournalError> {
        for (source, run) in self.moving() {
            self.move_run(source, run)?;
        }
        if self.needs_empty_tail_segment() {
            let file = self.create_segment(self.newest.next())?;
            self.name_segment(&*file, self.newest.next())?;
        }
        self.sync_dir()
    }

    /// Returns whether the journal ends with a hole: then an empty segment tells where the seqs continue.
    fn needs_empty_tail_segment(&self) -> bool {
        let last = self.survey.sources.iter().filter_map(|source| source.runs.last()).next_back();
        let newest_record = last.map_or(Seq(self.survey.meta.first_kept.0 - 1), |run| run.last);
        let newest_segment = self.survey.sources.last().map_or(Seq::ZERO, SourceSegment::first);
        newest_record < self.newest && newest_segment <= self.newest
    }

    fn move_run(&self, source: &SourceSegment, run: Run) -> Result<(), JournalError> {
        let tmp = self.survey.dir.join(REPAIR_TMP_NAME);
        let target = self.create_segment(run.first)?;
        let seed = self.header(run.first).seed();
        let file = self.open(&source.path, Access::Read)?;
        let mut cursor = Cursor::new(file, source.header.seed(), run.start, run.end);
        let mut buffer = Vec::new();
        let mut end = HEADER_BYTES as u64;
        let mut next = run.first;
        loop {
            let offset = cursor.offset();
            match cursor.step().map_err(JournalError::io("read", &source.path))? {
                Step::Record(stored) if stored.seq == next => {
                    record::encode(&mut buffer, seed, stored.seq, stored.watermark, &stored.message);
                }
                Step::End if next == run.last.next() => break,
                // The disk is failing now; nothing has been cut yet.
                _ => {
                    return Err(JournalError::damaged(
                        &source.path,
                        offset,
                        format!("record {next} is missing"),
                    ));
                }
            }
            write_all_at(&*target, &buffer, end).map_err(JournalError::io("write", &tmp))?;
            end += buffer.len() as u64;
            next = next.next();
        }
        self.name_segment(&*target, run.first)
    }

    fn header(&self, first: Seq) -> Header {
        Header { first, journal_id: self.survey.meta.id_of_segment(first) }
    }

    fn create_segment(&self, first: Seq) -> Result<Arc<dyn FsFile>, JournalError> {
        let tmp = self.survey.dir.join(REPAIR_TMP_NAME);
        let file = self.fs.create(&tmp).map_err(JournalError::io("create", &tmp))?;
        let header = self.header(first).encode();
        write_all_at(&*file, &header, 0).map_err(JournalError::io("write", &tmp))?;
        Ok(file)
    }

    fn name_segment(&self, file: &dyn FsFile, first: Seq) -> Result<(), JournalError> {
        let (tmp, path) = (self.survey.dir.join(REPAIR_TMP_NAME), self.path(first));
        file.sync_all().map_err(JournalError::io("sync", &tmp))?;
        self.fs.rename(&tmp, &path).map_err(JournalError::io("create", &path))
    }

    /// Writes headers, cuts segments and removes files: every record is now durable elsewhere, or stays.
    fn finish_segments(&self) -> Result<(), JournalError> {
        let mut gone: Vec<&Path> = self.survey.foreign.iter().map(|foreign| &*foreign.path).collect();
        for (source, (placement, _)) in self.survey.sources.iter().zip(&self.work) {
            match *placement {
                Placement::Remove => gone.push(&source.path),
                Placement::Keep { end, is_cut } => self.finish_segment(source, end, is_cut)?,
            }
        }
        let mut replaced: Vec<PathBuf> = self.moving().map(|(_, run)| self.path(run.first)).collect();
        if self.needs_empty_tail_segment() {
            replaced.push(self.path(self.newest.next()));
        }
        for path in gone.into_iter().filter(|path| !replaced.iter().any(|replaced| replaced == path)) {
            self.fs.remove(path).map_err(JournalError::io("delete", path))?;
        }
        self.sync_dir()
    }

    fn finish_segment(&self, source: &SourceSegment, end: u64, is_cut: bool) -> Result<(), JournalError> {
        if source.header_is_whole && !is_cut {
            return Ok(());
        }
        let path = &source.path;
        let file = self.open(path, Access::ReadWrite)?;
        if !source.header_is_whole {
            let header = source.header.encode();
            write_all_at(&*file, &header, 0).map_err(JournalError::io("write", path))?;
        }
        if is_cut {
            file.set_len(end).map_err(JournalError::io("cut", path))?;
        }
        file.sync_all().map_err(JournalError::io("sync", path))
    }
}
