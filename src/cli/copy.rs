//! `andon db copy`: from an SQLite file to PostgreSQL, also while the service writes to the file.

use std::path::Path;

use super::{Exit, Output, counted, failed_to, table};
use crate::actors::failpoint::failpoint;
use crate::app::store_options;
use crate::config::Settings;
use crate::database_url::{DatabaseUrl, PostgresUrl};
use crate::store::{self, Copied, CopyWatch, StoreError};
use crate::terminal::progress::{ProgressDisplay, Unit};

/// Rows left behind that are listed one by one; the others are counted.
const LISTED_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The SQLite database to copy, such as sqlite:///var/lib/andon/data/hall-3/andon.db [default: store.url]
    #[arg(long, value_name = "URL", value_parser = DatabaseUrl::parse)]
    from: Option<DatabaseUrl>,
    /// The PostgreSQL database to copy into, such as postgres://andon@db/andon; a password is better in PGPASSWORD or ~/.pgpass,
    /// where other users of this computer cannot see it
    #[arg(long, value_name = "URL", value_parser = DatabaseUrl::parse)]
    to: DatabaseUrl,
}

impl Options {
    /// Says for the audit log where the rows go.
    pub(super) fn target(&self) -> String {
        self.to.place()
    }
}

pub(super) fn run(options: &Options, settings: &Settings) -> Output {
    // Tests stop this command between two pages.
    #[cfg(feature = "failpoints")]
    let _armed = fail::FailScenario::setup();
    let from = options.from.as_ref().unwrap_or(&settings.store.url);
    let (DatabaseUrl::Sqlite(path), DatabaseUrl::Postgres(url)) = (from, &options.to) else {
        let complaint = format!(
            "`andon db copy` copies an SQLite file into PostgreSQL, not {} into {}; for PostgreSQL into PostgreSQL use pg_dump and \
             pg_restore",
            from.place(),
            options.to.place()
        );
        return Output::failed(Exit::Usage, complaint);
    };
    if !path.exists() {
        return Output::failed(Exit::Failure, format!("there is no database {}", path.display()));
    }
    let copied = copy(path, url, settings);
    let mut output = copied.unwrap_or_else(|error| Output::failed(Exit::Failure, failed_to(&error)));
    output.complaints.splice(0..0, warnings(&options.to));
    output
}

/// Says who else could read the password of the target, or the data on their way.
fn warnings(to: &DatabaseUrl) -> Vec<String> {
    let visible = "warning: every user of this computer can read a command line; put the password into PGPASSWORD or ~/.pgpass";
    let ssl_mode = std::env::var("PGSSLMODE").ok().filter(|mode| !mode.is_empty());
    let unencrypted = to.unencrypted_host(ssl_mode.as_deref()).map(|host| {
        format!(
            "warning: the connection to {host} may not be encrypted; add sslmode=verify-full to its address"
        )
    });
    to.has_password().then(|| visible.to_owned()).into_iter().chain(unencrypted).collect()
}

fn copy(path: &Path, url: &PostgresUrl, settings: &Settings) -> Result<Output, StoreError> {
    let mut watch = Shown::default();
    let copied = store::copy(path, url, &store_options(settings), &mut watch)?;
    drop(watch);
    Ok(report(path, url, &copied))
}

/// Shows each part of the copy.
#[derive(Default)]
struct Shown {
    display: Option<ProgressDisplay>,
}

impl CopyWatch for Shown {
    fn begins(&mut self, part: &str, done: u64, total: u64) {
        // The display of the part before ends first.
        self.display = None;
        self.display = Some(ProgressDisplay::start(part, Unit::Things("rows"), done, Some(total)));
    }

    fn advances(&mut self, rows: u64) {
        if let Some(display) = &self.display {
            display.advance(rows);
        }
        // A test only holds here.
        failpoint("copy::page").ok();
    }
}

fn report(path: &Path, url: &PostgresUrl, copied: &Copied) -> Output {
    let rows: Vec<Vec<String>> = copied
        .tables
        .iter()
        .map(|(name, checksum)| vec![name.clone(), checksum.rows.to_string(), checksum.to_string()])
        .collect();
    let mut text = table(&["table", ">rows", "checksum"], &rows);
    text.push_str(&format!(
        "\n{} copied by this run; all tables were compared, and are the same in {}\njournals: {}\n\
         To move there: stop the service, run this command once more, set store.url, and start the service.\n",
        counted(copied.readings_copied, "reading"),
        url.place(),
        if copied.positions.is_empty() { "none" } else { &copied.positions },
    ));
    if copied.left.is_empty() {
        return Output::clean(text);
    }
    let left = copied.left.len();
    let mut complaints: Vec<String> =
        copied.left.iter().take(LISTED_MAX).map(|row| format!("not copied: {row}")).collect();
    if left > LISTED_MAX {
        complaints.push(format!("not copied: {} more", left - LISTED_MAX));
    }
    complaints.push(format!(
        "{} could not be copied and stay in {} only; correct them there, or remove what refuses them in PostgreSQL, and run this \
         command again",
        counted(left as u64, "row"),
        path.display()
    ));
    Output { text, complaints, exit: Exit::Failure }
}
