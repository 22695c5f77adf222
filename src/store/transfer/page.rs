//! Rows that are sent together.

use super::checksum::Checksum;
use super::row::EncodedRow;
use super::tables::{READINGS, Table};
use super::target::Target;
use super::{Left, PAGE_BYTES_MAX};
use crate::store::Cause;

/// Rows that are inserted together.
#[derive(Default)]
pub struct Page {
    numbers: Vec<i64>,
    pub rows: Vec<EncodedRow>,
    bytes: usize,
}

impl Page {
    pub fn push(&mut self, number: i64, row: EncodedRow) {
        self.numbers.push(number);
        self.bytes += row.0.len();
        self.rows.push(row);
    }

    pub fn is_full(&self, rows_max: usize) -> bool {
        self.rows.len() >= rows_max || self.bytes >= PAGE_BYTES_MAX
    }

    /// Inserts the rows, counts those that the target took, and empties the page.
    pub fn insert(
        &mut self,
        target: &mut Target,
        table: &Table,
        left: &mut Left,
        taken: &mut Checksum,
    ) -> Result<(), Cause> {
        let refused = match table.name.as_str() {
            READINGS => target.insert_readings(table, &self.rows)?,
            _ => target.insert(table, &self.rows)?,
        };
        for (place, why) in &refused {
            left.add(table, self.numbers[*place], why)?;
        }
        for (place, row) in self.rows.iter().enumerate() {
            if !refused.iter().any(|(refused, _)| *refused == place) {
                taken.add(row.hash(&table.columns));
            }
        }
        self.numbers.clear();
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }
}
