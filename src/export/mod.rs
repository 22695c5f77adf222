//! Readings as files: CSV and, with the Cargo feature `parquet`, Apache Parquet.
//!
//! [`export`] reads a machine at a time, in pages by the unique index: each page is a statement of its own, so nothing holds up
//! the database's clean-up, and what is written meanwhile may or may not be in the file.

pub mod csv;
#[cfg(feature = "parquet")]
mod parquet;

use std::io::{self, Write};
use std::ops::ControlFlow;

use crate::domain::{MachineId, Timestamp};
use crate::store::{History, Order, ReadingCursor, ReadingsQuery, StoreError, StoredReading};

#[cfg(feature = "parquet")]
pub use parquet::ParquetFile;

/// Rows of one statement; an `extra` may have `mqtt.max_payload` bytes.
const PAGE_ROWS: u32 = 2_000;
/// Bytes of `extra` after which a page ends.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Which readings to export.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// One machine; `None`: all machines of the site that have readings.
    pub machine_id: Option<MachineId>,
    /// Start of the range of `recorded_at`, inclusive.
    pub from: Timestamp,
    /// End of the range, exclusive.
    pub to: Timestamp,
}

/// Takes the readings, and writes them in its format.
pub trait ReadingSink {
    /// Writes a reading.
    ///
    /// # Errors
    /// Those of the output.
    fn put(&mut self, machine_id: &MachineId, reading: &StoredReading) -> io::Result<()>;

    /// Writes what is left.
    ///
    /// # Errors
    /// Those of the output.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database could not be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The output could not be written.
    #[error("write the export")]
    Write(#[source] io::Error),
}

/// Writes the readings to `sink`, in the order of machine and time; passes on how many after each page. Does not finish it.
///
/// # Errors
/// [`ExportError`]; what is written by then is a part.
pub fn export(
    history: &mut dyn History,
    wanted: &Wanted,
    sink: &mut dyn ReadingSink,
    written: &mut dyn FnMut(u64),
) -> Result<(), ExportError> {
    if let Some(machine_id) = &wanted.machine_id {
        return export_machine(history, machine_id, wanted, sink, written);
    }
    let mut last = String::new();
    while let Some(text) = history.machine_with_readings(&last)? {
        // Andon stores no other texts. The readings of a row that another program wrote cannot be asked for.
        if let Some(machine_id) = MachineId::parse(&text).ok().filter(|id| id.as_str() == text) {
            export_machine(history, &machine_id, wanted, sink, written)?;
        }
        last = text;
    }
    Ok(())
}

fn export_machine(
    history: &mut dyn History,
    machine_id: &MachineId,
    wanted: &Wanted,
    sink: &mut dyn ReadingSink,
    written: &mut dyn FnMut(u64),
) -> Result<(), ExportError> {
    let mut query = ReadingsQuery {
        machine_id: machine_id.clone(),
        from: ReadingCursor::before(wanted.from),
        to: ReadingCursor::before(wanted.to),
        order: Order::Ascending,
        limit: PAGE_ROWS,
    };
    loop {
        let (mut rows, mut bytes, mut last, mut put) = (0, 0, None, Ok(()));
        history.readings(&query, &mut |reading| {
            put = sink.put(machine_id, &reading);
            rows += 1;
            bytes += reading.reading.extra.as_ref().map_or(0, String::len);
            last = Some(reading.key);
            if put.is_ok() && bytes < PAGE_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        put.map_err(ExportError::Write)?;
        written(rows);
        let Some(last) = last else { return Ok(()) };
        if rows < u64::from(PAGE_ROWS) && bytes < PAGE_BYTES {
            return Ok(());
        }
        query.advance(last);
    }
}

/// Readings as CSV: the columns of the API, behind the machine.
pub struct CsvFile<W: Write> {
    out: W,
}

impl<W: Write> CsvFile<W> {
    /// Begins with the headings.
    ///
    /// # Errors
    /// Those of the output.
    pub fn begin(mut out: W) -> io::Result<Self> {
        write!(out, "machine_id,{}", csv::HEADINGS)?;
        Ok(Self { out })
    }
}

impl<W: Write> ReadingSink for CsvFile<W> {
    fn put(&mut self, machine_id: &MachineId, reading: &StoredReading) -> io::Result<()> {
        let mut line = String::with_capacity(128);
        csv::put_foreign_cell(&mut |text| line.push_str(text), machine_id.as_str());
        line.push(',');
        csv::put_line(&mut |text| line.push_str(text), reading);
        self.out.write_all(line.as_bytes())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
