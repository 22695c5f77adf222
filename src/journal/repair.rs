//! Making a damaged journal one that opens, without losing a record that can be read.
//!
//! Seqs are kept. What is lost becomes a *hole*: its seqs stand in `journal.meta`, behind it a new segment begins, and a
//! reader reports it as a gap with reason [`super::GapReason::Damaged`].
//!
//! | found | done |
//! |---|---|
//! | a record that cannot be read | the records behind it in its segment move to a segment of their own; the segment is cut before it |
//! | no record of a segment can be read, or not its first one | the same, and the segment is taken out |
//! | a header that cannot be read | written again: name and id tell what is in it |
//! | segments are missing, in front, between others, or at the end | a hole |
//! | a segment under another name than its header says | renamed, if the name is free; otherwise taken out |
//! | a segment of another journal | taken out |
//! | `journal.meta` cannot be read | made anew from the headers; without exactly one id in them, under a new id |
//! | a segment of a newer format | [`JournalError::Version`], and nothing is changed |
//!
//! # The order, and why a repair that dies loses nothing
//!
//! 1. Bytes that will leave the journal are copied to `damaged-<segment>-<offset>-<µs>.bin` and synced.
//! 2. What stays and is not proven durable is written again and synced.
//! 3. `journal.meta` gets the holes, and `synced` is raised to the newest seq known: from here on the journal opens
//!    only if every other record is there (`recovery.rs`), so a half-done repair cannot be taken for a journal.
//! 4. Moved records are written to `repair.tmp`, which is synced and renamed; the directory is synced.
//! 5. Only now are headers written, segments cut, and files taken out.
//!
//! A repair run again looks at everything anew: a moved run counts in its new segment, since a segment ends where
//! the next one begins. In the end the journal is checked as at open.

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

/// Holds records that move to a segment of their own, until they are durable.
pub(super) const REPAIR_TMP_NAME: &str = "repair.tmp";

/// What a repair has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repair {
    /// What was cut, file by file. Empty: the journal was whole, and nothing has been changed.
    pub cuts: Vec<Cut>,
    /// Records that are in the journal now; not counted if it was whole.
    pub records: u64,
    /// The journal's id had to be given anew: everything in it counts as pending.
    pub new_identity: Option<JournalId>,
}

/// A place that was damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file; it may be missing, or have been taken out.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// How many bytes have been taken out there.
    pub bytes: u64,
    /// The seqs whose records are lost with them.
    pub missing: Option<Hole>,
    /// What was wrong.
    pub what: String,
    /// The file that keeps the bytes.
    pub kept: Option<PathBuf>,
}

/// Repairs the journal. The lock is held meanwhile: never beside a running service.
///
/// # Errors
/// [`JournalError::Locked`]; [`JournalError::Version`], with nothing changed; I/O errors, after which it can be run
/// again.
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

/// Segments under another name than their header's, which is free.
fn rename_to_match_headers(fs: &dyn Fs, survey: &Survey) -> Result<Vec<Cut>, JournalError> {
    let dir = &survey.dir;
    let mut cuts = Vec::new();
    for source in &survey.sources {
        let path = segment::segment_path(dir, source.first());
        if path != source.path {
            fs.rename(&source.path, &path).map_err(JournalError::io("rename", &source.path))?;
            let what = format!("the segment begins with record {}: renamed so", source.first());
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

/// What becomes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    /// It stays, with the records up to this offset, and is cut there if the flag says so.
    Keep { end: u64, is_cut: bool },
    /// It is taken out.
    Remove,
}

struct RepairPlan<'a> {
    fs: &'a dyn Fs,
    survey: &'a Survey,
    /// For each source.
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
                // Nothing was in it: it is the one to go on with.
                return Ok((Placement::Keep { end: header, is_cut: false }, bad));
            }
            // Kept whole, header included.
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

    /// Copies what will be taken out, and says what that is.
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

    /// Copies a whole file, if it is there.
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

    /// The runs that do not stay where they are.
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

    /// Behind a hole at the end, a segment without records tells where the row goes on.
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
                // A disk that fails right now: nothing has been cut yet.
                _ => {
                    return Err(JournalError::damaged(
                        &source.path,
                        offset,
                        format!("record {next} is not there"),
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

    /// Everything that will be read is durable elsewhere, or stays.
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
