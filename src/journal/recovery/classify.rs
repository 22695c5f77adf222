//! The rules of recovery: is the place where the records end the work of a crash, or damage? Is the directory ours?

use super::super::JournalError;
use super::super::fs::Access;
use super::super::meta::{Hole, META_NAME};
use super::super::segment::HEADER_BYTES;
use super::super::tail_scan::{self, FoundRecord};
use super::scan::{Directory, Scan, ScanEnd};
use crate::domain::Seq;

/// What recovery may do with the end of the records.
pub(super) struct Tail {
    /// True if bytes after the last record may have to be cut.
    pub(super) may_be_torn: bool,
    /// Durable records that were lost with it.
    pub(super) lost: Option<Hole>,
}

impl Directory<'_> {
    /// Applies the rules: an end that a crash can leave, or at worst a newest segment without its end, is a tail;
    /// anything else is damage.
    pub(super) fn classify_tail(&self, scan: &Scan, rebooted: bool) -> Result<Tail, JournalError> {
        let end = &scan.end;
        let path =
            self.names.get(end.index).map_or_else(|| self.dir.join(META_NAME), |first| self.path(*first));
        let damaged = |why: String| {
            let what = format!("expected record {}, but {}; {why}", end.seq, end.what);
            Err(JournalError::damaged(&path, end.whole_to.unwrap_or(0), what))
        };
        let mut later: Option<FoundRecord> = None;
        let mut durable = scan.watermark.max(self.meta.synced);
        self.find_records_after(scan, &mut |found| {
            durable = durable.max(found.watermark);
            later = later.or(Some(found));
        })?;
        let is_expected =
            end.whole_to.is_some() || self.names.get(end.index).is_none_or(|first| *first == end.seq);
        let in_newest = is_expected && end.index + 1 >= self.names.len();
        if durable >= end.seq {
            let lost = Hole { from: end.seq, to: durable };
            return if later.is_none() && in_newest && self.end_is_gone(end)? {
                Ok(Tail { may_be_torn: true, lost: Some(lost) })
            } else {
                damaged(format!("records up to {durable} were durable"))
            };
        }
        if let Some(found) = later
            && !rebooted
        {
            return damaged(format!("a whole record {} follows at byte {}", found.seq, found.offset));
        }
        if !in_newest && !rebooted {
            return damaged("other segments follow".to_owned());
        }
        Ok(Tail { may_be_torn: !self.names.is_empty(), lost: None })
    }

    /// Returns the other site that owns this directory, if ours may take it over.
    pub(super) fn check_site(
        &self,
        site: &str,
        scan: &Scan,
        tail: &Tail,
    ) -> Result<Option<String>, JournalError> {
        let Some(owner) = self.meta.site.clone().filter(|owner| owner != site) else { return Ok(None) };
        let newest = tail.lost.map_or(Seq(scan.next.0 - 1), |lost| lost.to);
        match newest.since(self.meta.committed) {
            0 => Ok(Some(owner)),
            pending => {
                let (dir, site) = (self.dir.to_owned(), site.to_owned());
                Err(JournalError::OtherSite { dir, owner, site, pending })
            }
        }
    }

    /// Visits the whole records after the break.
    fn find_records_after(
        &self,
        scan: &Scan,
        visit: &mut dyn FnMut(FoundRecord),
    ) -> Result<(), JournalError> {
        for (index, first) in self.names.iter().copied().enumerate().skip(scan.end.index) {
            let from = match scan.end.whole_to {
                Some(whole_to) if index == scan.end.index => whole_to,
                _ => HEADER_BYTES as u64,
            };
            let file = self.open(first, Access::Read)?;
            let found = tail_scan::find_records(&file, self.header(first).seed(), from, scan.end.seq, visit);
            found.map_err(JournalError::io("read", &self.path(first)))?;
        }
        Ok(())
    }

    /// Returns whether the newest segment ends with leftover bytes, or with its last record. A segment that was full and
    /// whose successor is missing ends otherwise.
    fn end_is_gone(&self, end: &ScanEnd) -> Result<bool, JournalError> {
        let (Some(whole_to), Some(first)) = (end.whole_to, self.names.get(end.index)) else {
            return Ok(false);
        };
        let path = self.path(*first);
        let file = self.open(*first, Access::Read)?;
        let size = file.size().map_err(JournalError::io("read", &path))?;
        let written = tail_scan::written_end(&*file, whole_to).map_err(JournalError::io("read", &path))?;
        Ok(written > whole_to || size == whole_to)
    }
}
