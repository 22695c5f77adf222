//! Exports every readable record of a journal: while a service runs, and from a damaged journal.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::cursor::{Cursor, Step};
use super::fs::{Access, Fs};
use super::meta::Meta;
use super::salvage::{BadPlace, SourceSegment, Survey};
use super::{Damage, JournalError, Record};
use crate::domain::Seq;

/// Result of an export.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exported {
    /// Number of records exported.
    pub records: u64,
    /// Places left out because they cannot be read. Seqs that a repair has already reported are not among them.
    pub skipped: Vec<Damage>,
}

/// Passes the readable records with seqs from `from` to `to` to `sink`, in order, until `sink` breaks off. Locks and
/// changes nothing; leaves out records that are trimmed meanwhile.
///
/// # Errors
/// I/O errors; [`JournalError::Version`]. Damage is not an error but part of the result.
pub fn export(
    dir: &Path,
    fs: &dyn Fs,
    from: Seq,
    to: Seq,
    sink: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
) -> Result<Exported, JournalError> {
    let survey = Survey::load(fs, dir)?;
    let mut exported = Exported { records: 0, skipped: lost_files(&survey, fs)? };
    let is_wanted =
        |bad: &BadPlace| bad.missing.is_none_or(|missing| missing.from <= to && missing.to >= from);
    for (index, source) in survey.sources.iter().enumerate() {
        let file = match fs.open(&source.path, Access::Read) {
            // It has been trimmed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(JournalError::io("open", &source.path))?,
        };
        let bad = survey.bad_places(index, &*file).map_err(JournalError::io("read", &source.path))?;
        exported.skipped.extend(bad.into_iter().filter(is_wanted).map(as_damage));
        for run in source.runs.iter().filter(|run| run.first <= to && run.last >= from) {
            let mut cursor = Cursor::new(file.clone(), source.header.seed(), run.start, run.end);
            if export_run(&mut cursor, source, from, to, sink, &mut exported)?.is_break() {
                return Ok(exported);
            }
        }
    }
    Ok(exported)
}

/// Returns what is wrong with whole files: `journal.meta`, files of another journal, missing segments in front.
fn lost_files(survey: &Survey, fs: &dyn Fs) -> Result<Vec<Damage>, JournalError> {
    let meta_path = survey.dir.join(super::meta::META_NAME);
    let mut lost: Vec<Damage> = Vec::new();
    if let (Some(what), false) = (&survey.meta_lost, survey.sources.is_empty()) {
        lost.push(Damage { path: meta_path, offset: 0, what: what.clone() });
    }
    let foreign = survey.foreign.iter();
    lost.extend(foreign.map(|file| Damage { path: file.path.clone(), offset: 0, what: file.what.clone() }));
    if let Some(bad) = survey.missing_front()
        && survey.meta_lost.is_none()
        && Meta::load(fs, &survey.dir)?.as_ref() == Some(&survey.meta)
    {
        lost.push(as_damage(bad));
    }
    Ok(lost)
}

fn as_damage(bad: BadPlace) -> Damage {
    Damage { path: bad.path, offset: bad.bytes.start, what: bad.what }
}

fn export_run(
    cursor: &mut Cursor,
    source: &SourceSegment,
    from: Seq,
    to: Seq,
    sink: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    exported: &mut Exported,
) -> Result<ControlFlow<()>, JournalError> {
    loop {
        let offset = cursor.offset();
        let what = match cursor.step().map_err(JournalError::io("read", &source.path))? {
            Step::Record(stored) if stored.seq > to => return Ok(ControlFlow::Continue(())),
            Step::Record(stored) => {
                if stored.seq >= from {
                    exported.records += 1;
                    if sink(Record { seq: stored.seq, message: stored.message }).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                continue;
            }
            Step::End => return Ok(ControlFlow::Continue(())),
            // The survey has just read this record: the disk is failing now.
            Step::Bad(bad) => bad.to_string(),
        };
        exported.skipped.push(Damage { path: source.path.clone(), offset, what });
        return Ok(ControlFlow::Continue(()));
    }
}
