//! `andon db backup`: a copy of the SQLite file, made while the service runs.

use std::path::{Path, PathBuf};

use clap::ValueHint;

use super::{Exit, Output, db, failed_to};
use crate::app::store_options;
use crate::config::Settings;
use crate::database_url::{DatabaseUrl, PostgresUrl};
use crate::store::{Backup, StoreError};
use crate::terminal::progress::{ProgressDisplay, Unit};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The file to make; it must not exist
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

impl Options {
    /// Says for the audit log where the backup goes.
    pub(super) fn target(&self) -> String {
        self.file.display().to_string()
    }
}

pub(super) fn run(options: &Options, settings: &Settings) -> Output {
    let path = match &settings.store.url {
        DatabaseUrl::Sqlite(path) => path,
        DatabaseUrl::Postgres(url) => return name_pg_dump(url, &options.file),
    };
    if let Some(complaint) = db::missing_file(settings) {
        return Output::failed(Exit::Failure, complaint);
    }
    let made = back_up(path, &options.file, settings);
    made.unwrap_or_else(|error| Output::failed(Exit::Failure, failed_to(&error)))
}

fn back_up(path: &Path, file: &Path, settings: &Settings) -> Result<Output, StoreError> {
    let backup = Backup::prepare(path, file, &store_options(settings))?;
    let progress =
        ProgressDisplay::start("backing up the database", Unit::Bytes, 0, Some(backup.bytes_expected()));
    let bytes = backup.make(&|grown| progress.advance(grown))?;
    let mib = bytes as f64 / f64::from(1024 * 1024);
    Ok(Output::clean(format!("{} is a checked copy of {}, {mib:.1} MiB\n", file.display(), path.display())))
}

/// A server has its own way to be backed up.
fn name_pg_dump(url: &PostgresUrl, file: &Path) -> Output {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let url = quoted(&url.without_password());
    let file = quoted(&file.to_string_lossy());
    Output {
        text: format!("pg_dump --format=custom --file={file} {url}\n"),
        complaints: vec![
            "no backup was made: PostgreSQL has its own program for it. Run the line above; it asks for the password, or takes it \
             from PGPASSWORD or ~/.pgpass"
                .to_owned(),
        ],
        exit: Exit::Failure,
    }
}
