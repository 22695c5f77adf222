//! `andon export`: readings as a file, also while the service runs.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use clap::{ValueEnum, ValueHint};

use super::arguments::instant;
use super::{Exit, Output, complain, counted, db, failed_to};
use crate::app::store_options;
use crate::config::Settings;
use crate::domain::{MachineId, Timestamp};
use crate::export::{CsvFile, ExportError, ReadingSink, Wanted, export};
use crate::new_file::NewFile;
use crate::store::{self, Store, StoreError};
use crate::terminal::progress::{ProgressDisplay, Unit};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The format of the file
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    format: Format,
    /// Only readings recorded at this UTC instant or later, such as 2026-11-22 or 2026-11-22T10:00:00Z [default: all]
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    from: Option<Timestamp>,
    /// Only readings recorded before this instant [default: all]
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    to: Option<Timestamp>,
    /// Only this machine [default: all machines of the site]
    #[arg(long, value_name = "ID", value_parser = machine_id)]
    machine: Option<MachineId>,
    /// Write to this file, which must not exist [default: standard output]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated values
    Csv,
    /// Apache Parquet
    Parquet,
}

fn machine_id(text: &str) -> Result<MachineId, String> {
    MachineId::parse(text).map_err(|error| error.to_string())
}

pub(super) fn run(options: &Options, settings: &Settings) -> Output {
    if options.format == Format::Parquet {
        if cfg!(not(feature = "parquet")) {
            let complaint = "this build writes no Parquet: that of the Debian package does, as does `cargo build --features parquet`";
            return Output::failed(Exit::Usage, complaint);
        }
        if options.output.is_none() && io::stdout().is_terminal() {
            return Output::failed(Exit::Usage, "a terminal cannot show Parquet: add --output FILE");
        }
    }
    if let Some(complaint) = db::missing_file(settings) {
        return Output::failed(Exit::Failure, complaint);
    }
    write(options, settings).unwrap_or_else(|failure| Output::failed(Exit::Failure, failed_to(&failure)))
}

fn write(options: &Options, settings: &Settings) -> Result<Output, ExportError> {
    check_tables(settings)?;
    let wanted = Wanted {
        machine_id: options.machine.clone(),
        from: options.from.unwrap_or(Timestamp::from_micros(i64::MIN)),
        to: options.to.unwrap_or(Timestamp::from_micros(i64::MAX)),
    };
    let new = options.output.as_deref().map(NewFile::create).transpose().map_err(ExportError::Write)?;
    let out = match &new {
        Some(new) => Out::File(new.handle().try_clone().map_err(ExportError::Write)?),
        None => Out::Stdout(io::stdout()),
    };
    let is_mixed = new.is_none() && io::stdout().is_terminal();
    let progress = match is_mixed {
        true => ProgressDisplay::hidden(),
        false => ProgressDisplay::start("exporting", Unit::Things("readings"), 0, None),
    };
    let mut readings = 0;
    let written = write_all(out, options.format, &wanted, settings, &mut |rows| {
        readings += rows;
        progress.advance(rows);
    });
    drop(progress);
    match (written, new) {
        // The reader has what it wanted, as `head` does.
        (Err(ExportError::Write(error)), None) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Output::clean(String::new()))
        }
        (Err(error), _) => Err(error),
        (Ok(()), None) => Ok(Output::clean(String::new())),
        (Ok(()), Some(new)) => {
            new.finish().map_err(ExportError::Write)?;
            let file = options.output.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
            Ok(Output::clean(format!("{} in {file}\n", counted(readings, "reading"))))
        }
    }
}

fn write_all(
    out: Out,
    format: Format,
    wanted: &Wanted,
    settings: &Settings,
    written: &mut dyn FnMut(u64),
) -> Result<(), ExportError> {
    let store = store_options(settings);
    let mut history = store::open_history(&store)?;
    let mut sink = sink(BufWriter::with_capacity(256 * 1024, out), format).map_err(ExportError::Write)?;
    export(&mut *history, wanted, &mut *sink, written)?;
    sink.finish().map_err(ExportError::Write)?;
    for row in store.unreadable.take_unnamed() {
        complain(&format!("not exported: {row}"));
    }
    Ok(())
}

fn sink(out: BufWriter<Out>, format: Format) -> io::Result<Box<dyn ReadingSink>> {
    match format {
        #[cfg(feature = "parquet")]
        Format::Parquet => Ok(Box::new(crate::export::ParquetFile::begin(out)?)),
        _ => Ok(Box::new(CsvFile::begin(out)?)),
    }
}

/// Where the readings go.
enum Out {
    Stdout(io::Stdout),
    File(File),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

/// Checks that the tables are those that this binary knows (STO-5).
fn check_tables(settings: &Settings) -> Result<(), StoreError> {
    let mut store: Box<dyn Store> = store::open(&store_options(settings))?;
    let migrations = store.migration_status()?;
    let target = store.facts().target.clone();
    match (migrations.unknown.is_empty(), migrations.pending.is_empty()) {
        (false, _) => Err(StoreError::NewerSchema { versions: migrations.unknown }),
        (true, false) => Err(StoreError::Unsupported { target, reason: db::TABLES_BEHIND.to_owned() }),
        (true, true) => Ok(()),
    }
}
