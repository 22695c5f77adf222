//! The table of readings: copied in pages, and compared day by day.

use std::thread;

use super::CopyRun;
use super::checksum::Checksum;
use super::insert::reading_columns;
use super::page::Page;
use super::row::EncodedRow;
use super::tables::Table;
use super::target::{DayChecksums, day_of, differing_days};
use crate::store::Cause;

/// Readings of one transaction.
const PAGE_READINGS: u32 = 8_192;
/// Comparisons before the run gives up: the first one, and one after the days that differed were copied anew.
const COMPARISONS: u32 = 2;

/// Returns the table with its columns in the order of COPY.
pub fn in_order_of_copy(table: Table) -> Result<Table, String> {
    let column = |name: &&str| table.columns.iter().find(|column| column.name == *name).cloned();
    let columns: Vec<_> = reading_columns::NAMES.iter().filter_map(column).collect();
    if columns.len() != reading_columns::NAMES.len() || columns.len() != table.columns.len() {
        return Err(format!("{} has other columns than this version of Andon knows", table.name));
    }
    Ok(Table { columns, ..table })
}

impl CopyRun<'_> {
    /// Begins anew if the file does not hold the reading up to which an earlier run has copied: then numbers may have been
    /// given again, to other readings. What is copied already stays.
    pub(super) fn forget_progress_of_another_file(&mut self) -> Result<(), Cause> {
        let last = self.source.row(&self.readings, self.progress.upto_id)?;
        let encoded = last.and_then(|row| row.encoded(&self.readings.columns).ok());
        let hash = encoded.map(|row| row.hash(&self.readings.columns).cast_signed());
        if hash != Some(self.progress.upto_hash) {
            self.progress.upto_id = 0;
        }
        Ok(())
    }

    /// Copies the readings that are not copied yet, each page in one transaction with its progress.
    pub(super) fn copy_readings(&mut self) -> Result<(), Cause> {
        let (first, last) = self.source.numbers(&self.readings, self.progress.upto_id)?;
        if last == 0 {
            return Ok(());
        }
        let total = u64::try_from(last - first + 1).unwrap_or(0);
        self.watch.begins("copying readings", 0, total);
        loop {
            let (rows, is_last) = self.source.page(&self.readings, self.progress.upto_id, PAGE_READINGS)?;
            let Some(newest) = rows.last().map(|row| row.number) else { return Ok(()) };
            let mut page = Page::default();
            let mut newest_hash = 0;
            for row in &rows {
                // A row that cannot be encoded is named by the comparison.
                if let Ok(encoded) = row.encoded(&self.readings.columns) {
                    if row.number == newest {
                        newest_hash = encoded.hash(&self.readings.columns).cast_signed();
                    }
                    page.push(row.number, encoded);
                }
            }
            self.commit_page(page, newest, newest_hash)?;
            self.readings_copied += rows.len() as u64;
            self.watch.advances(rows.len() as u64);
            if is_last {
                return Ok(());
            }
        }
    }

    fn commit_page(&mut self, mut page: Page, newest: i64, newest_hash: i64) -> Result<(), Cause> {
        self.progress.upto_id = newest;
        self.progress.upto_hash = newest_hash;
        let (table, left, progress) = (&self.readings, &mut self.left, &self.progress);
        let source_name = self.source_name.as_str();
        self.target.transaction(|target| {
            page.insert(target, table, left, &mut Checksum::default())?;
            Ok(target.note_progress(source_name, progress)?)
        })
    }

    /// Compares the readings of each day, and copies the days that differ anew: retention deletes from the file, and the target
    /// keeps what it had. Returns the checksum of all.
    pub(super) fn compare_readings(&mut self) -> Result<Checksum, Cause> {
        let mut days = Vec::new();
        for comparison in 1..=COMPARISONS {
            let (wanted, found) = self.day_checksums()?;
            days = differing_days(&wanted, &found);
            if days.is_empty() {
                return Ok(wanted.values().fold(Checksum::default(), |sum, day| sum.with(*day)));
            }
            if comparison < COMPARISONS {
                self.copy_days_again(&days)?;
            }
        }
        Err(format!("the readings of {} days differ although they were copied again: does another program write to the target?", days.len()).into())
    }

    /// Returns the checksums of both sides; reads both at once.
    fn day_checksums(&mut self) -> Result<(DayChecksums, DayChecksums), Cause> {
        let (first, last) = self.source.numbers(&self.readings, 0)?;
        let total = u64::try_from(last - first + 1).unwrap_or(0);
        self.watch.begins("comparing readings", 0, total);
        let (source, target) = (&mut self.source, &mut self.target);
        let (table, owners) = (&self.readings, &self.owners);
        let (watch, left) = (&mut *self.watch, &mut self.left);
        thread::scope(|scope| {
            let wanted = scope.spawn(|| {
                let mut days = DayChecksums::new();
                source.each(table, &mut |row| match row.encoded(&table.columns) {
                    Ok(_) if left.readings.contains(&row.number) => Ok(()),
                    Ok(encoded) => {
                        count(&mut days, day_of(table, &encoded), encoded.hash(&table.columns));
                        Ok(())
                    }
                    Err(why) => left.add(table, row.number, &why),
                })?;
                Ok::<_, Cause>(days)
            });
            let mut found = DayChecksums::new();
            let (mut rows, step) = (0, u64::from(PAGE_READINGS));
            let read = target.each_hash(table, owners, &mut |day, hash| {
                count(&mut found, day, hash);
                rows += 1;
                if rows % step == 0 {
                    watch.advances(step);
                }
            });
            let wanted = wanted.join().map_err(|_| "reading the file panicked")??;
            read?;
            Ok((wanted, found))
        })
    }

    fn copy_days_again(&mut self, days: &[i32]) -> Result<(), Cause> {
        self.watch.begins("copying again the days that differ", 0, self.source.rows(&self.readings)?);
        let (source, table, owners) = (&mut self.source, &self.readings, &self.owners);
        let (left, watch) = (&mut self.left, &mut *self.watch);
        self.target.transaction(|target| {
            target.delete_days(table, owners, days)?;
            let (mut page, mut taken) = (Page::default(), Checksum::default());
            let is_wanted =
                |row: &EncodedRow| day_of(table, row).is_some_and(|day| days.binary_search(&day).is_ok());
            source.each(table, &mut |row| {
                if let Some(encoded) = row.encoded(&table.columns).ok().filter(is_wanted) {
                    page.push(row.number, encoded);
                }
                if page.is_full(PAGE_READINGS as usize) {
                    watch.advances(page.rows.len() as u64);
                    page.insert(target, table, left, &mut taken)?;
                }
                Ok(())
            })?;
            page.insert(target, table, left, &mut taken)
        })
    }
}

fn count(days: &mut DayChecksums, day: Option<i32>, hash: u64) {
    days.entry(day.unwrap_or(i32::MAX)).or_default().add(hash);
}
