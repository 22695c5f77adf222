//! Readings as Apache Parquet: a column store that pandas, DuckDB and Spark read.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::ReadingSink;
use crate::domain::MachineId;
use crate::store::StoredReading;

/// The columns of the CSV, with types.
const SCHEMA: &str = "message reading {
    required binary machine_id (STRING);
    required int64 recorded_at (TIMESTAMP(MICROS,true));
    optional double temperature;
    optional double humidity;
    optional double vibration;
    optional binary extra (JSON);
    required binary time_source (STRING);
    required int64 received_at (TIMESTAMP(MICROS,true));
}";
/// Readings of a row group, which is held in memory until it is written.
const GROUP_ROWS_MAX: usize = 100_000;
/// Bytes of text after which a row group is written.
const GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A Parquet file under way.
pub struct ParquetFile<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    group: Group,
}

/// The readings of a row group, by column.
#[derive(Default)]
struct Group {
    machine_ids: Vec<ByteArray>,
    recorded_at: Vec<i64>,
    measurements: [Optional<f64>; 3],
    extra: Optional<ByteArray>,
    time_sources: Vec<ByteArray>,
    received_at: Vec<i64>,
    bytes: usize,
}

/// A column that may have NULLs: the values that are there, and 0 or 1 for each row.
#[derive(Default)]
struct Optional<T> {
    values: Vec<T>,
    levels: Vec<i16>,
}

impl<T> Optional<T> {
    fn push(&mut self, value: Option<T>) {
        self.levels.push(i16::from(value.is_some()));
        self.values.extend(value);
    }
}

impl<W: Write + Send> ParquetFile<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of the output.
    pub fn begin(out: W) -> io::Result<Self> {
        let schema = parse_message_type(SCHEMA).map_err(io_error)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("andon ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let writer =
            SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties)).map_err(io_error)?;
        Ok(Self { writer, group: Group::default() })
    }

    fn write_group(&mut self) -> io::Result<()> {
        let group = std::mem::take(&mut self.group);
        if group.machine_ids.is_empty() {
            return Ok(());
        }
        self.writer.next_row_group().and_then(|writer| group.write(writer)).map_err(io_error)
    }
}

impl Group {
    fn put(&mut self, machine_id: &MachineId, row: &StoredReading) {
        let reading = &row.reading;
        self.bytes += machine_id.as_str().len() + reading.extra.as_ref().map_or(0, String::len);
        self.machine_ids.push(machine_id.as_str().into());
        self.recorded_at.push(reading.recorded_at.as_micros());
        let measured = [reading.temperature, reading.humidity, reading.vibration];
        self.measurements.iter_mut().zip(measured).for_each(|(column, value)| column.push(value));
        self.extra.push(reading.extra.as_deref().map(ByteArray::from));
        self.time_sources.push(row.time_source.as_str().into());
        self.received_at.push(row.received_at.as_micros());
    }

    fn is_full(&self) -> bool {
        self.machine_ids.len() >= GROUP_ROWS_MAX || self.bytes >= GROUP_BYTES_MAX
    }

    /// Writes the columns in the order of the schema.
    fn write<W: Write + Send>(
        &self,
        mut writer: SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let mut texts = [&self.machine_ids, &self.time_sources].into_iter();
        let mut instants = [&self.recorded_at, &self.received_at].into_iter();
        let mut measurements = self.measurements.iter();
        while let Some(mut column) = writer.next_column()? {
            match column.untyped() {
                ColumnWriter::DoubleColumnWriter(column) => {
                    let Optional { values, levels } = measurements.next().expect("three columns of numbers");
                    column.write_batch(values, Some(levels), None)?;
                }
                ColumnWriter::Int64ColumnWriter(column) => {
                    column.write_batch(instants.next().expect("two columns of times"), None, None)?;
                }
                ColumnWriter::ByteArrayColumnWriter(column) => {
                    if column.get_descriptor().max_def_level() > 0 {
                        column.write_batch(&self.extra.values, Some(&self.extra.levels), None)?;
                    } else {
                        column.write_batch(texts.next().expect("two columns of words"), None, None)?;
                    }
                }
                _ => unreachable!("the schema has no such column"),
            }
            column.close()?;
        }
        writer.close().map(drop)
    }
}

impl<W: Write + Send> ReadingSink for ParquetFile<W> {
    fn put(&mut self, machine_id: &MachineId, reading: &StoredReading) -> io::Result<()> {
        self.group.put(machine_id, reading);
        if self.group.is_full() { self.write_group() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.write_group()?;
        let mut out = self.writer.into_inner().map_err(io_error)?;
        out.flush()
    }
}

/// Keeps an error of the output as it was.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        other => io::Error::other(other),
    }
}
