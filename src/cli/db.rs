//! `andon db migrate` and `andon db status`; `backup`, `copy`, `import` and `prune` have files of their own.

use clap::Subcommand;

use super::audit::{self, Detail};
use super::{Exit, Output, backup, copy, counted, failed_to, import, prune, table};
use crate::app::store_options;
use crate::clock::wall_now;
use crate::config::Settings;
use crate::store::{
    self, FileSpace, Hypertable, MigrationStatus, PartsTended, PruneLimits, StoreError, StoreFacts,
    StoreStatus,
};
use crate::terminal::progress::ProgressDisplay;

/// The complaint about migrations that this binary does not know.
pub(super) const TABLES_AHEAD: &str =
    "a newer Andon has migrated this database; run that version or a later one";
/// The complaint about migrations that are not applied yet.
pub(super) const TABLES_BEHIND: &str =
    "the tables are not up to date; `andon db migrate` or `andon run` updates them";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create or update the tables; the service also does this when it starts
    Migrate,
    /// Show which migrations are applied, how many rows there are, and how far each journal is stored
    Status,
    /// Copy the SQLite file, checked, while the service runs; for PostgreSQL, print the line of pg_dump
    Backup(backup::Options),
    /// Copy all tables of an SQLite file into PostgreSQL, and compare them; goes on where an earlier run ended
    Copy(copy::Options),
    /// Bring over the rows of the reference Python worker, and leave a view in the place of its table
    Import,
    /// Delete what is past its retention now; the service does this by itself
    Prune(prune::Options),
}

pub(super) fn run(command: &Command, settings: &Settings) -> Output {
    let output = carry_out(command, settings);
    let place = settings.store.url.place();
    let (action, detail, target) = match command {
        Command::Status => return output,
        Command::Migrate => ("db migrate", Detail::Whole, place),
        Command::Backup(options) => ("db backup", Detail::LastLine, options.target()),
        Command::Copy(options) => ("db copy", Detail::LineWith(" copied by this run"), options.target()),
        Command::Import => ("db import", Detail::Whole, place),
        Command::Prune(options) => (options.action(), Detail::Whole, place),
    };
    audit::recorded(settings, (action, detail), target, output)
}

fn carry_out(command: &Command, settings: &Settings) -> Output {
    let result = match command {
        Command::Backup(options) => return backup::run(options, settings),
        Command::Copy(options) => return copy::run(options, settings),
        Command::Prune(options) => return prune::run(options, settings),
        Command::Import => return import::run(settings),
        Command::Migrate => migrate(settings),
        Command::Status => match missing_file(settings) {
            Some(complaint) => return Output::failed(Exit::Failure, complaint),
            None => status(settings),
        },
    };
    result.unwrap_or_else(|error| Output::failed(Exit::Failure, failed_to(&error)))
}

/// Says that the SQLite file does not exist: opening it would create it.
pub(super) fn missing_file(settings: &Settings) -> Option<String> {
    let path = settings.store.url.sqlite_path()?;
    let shown = path.display();
    (!path.exists())
        .then(|| format!("there is no database {shown} yet; `andon db migrate` or `andon run` creates it"))
}

fn migrate(settings: &Settings) -> Result<Output, StoreError> {
    let mut store = store::open(&store_options(settings))?;
    let target = store.facts().place();
    let progress = ProgressDisplay::waiting(format!("migrating {target}"));
    let report = store.migrate()?;
    drop(progress);
    let applied = report.applied;
    let mut text = match applied.len() {
        0 => format!("{target} is up to date\n"),
        count => format!("{target}: {} applied\n", counted(count as u64, "migration")),
    };
    for name in applied {
        text.push_str(&format!("  {name}\n"));
    }
    let tended = store.tend_partitions(&PruneLimits::default(), wall_now())?;
    text.push_str(&about_partitions(&tended));
    let mut complaints: Vec<String> =
        warnings(store.facts()).into_iter().chain(store.facts().note()).collect();
    match report.hypertable {
        Some(Hypertable::Made(what)) => text.push_str(&format!("{what}\n")),
        Some(Hypertable::NotMade(why)) => complaints.push(format!("warning: {why}")),
        None => {}
    }
    complaints.extend(tended.troubles.iter().map(|trouble| format!("warning: {trouble}")));
    Ok(Output { complaints, ..Output::clean(text) })
}

/// Says which partitions were created and dropped.
pub(super) fn about_partitions(tended: &PartsTended) -> String {
    let created = tended.created.iter().map(|name| format!("partition {name} created ahead\n"));
    let dropped = tended.dropped.iter().map(|part| {
        format!("partition {} dropped: about {}, all past retention\n", part.name, counted(part.rows, "row"))
    });
    created.chain(dropped).collect()
}

/// Says how large an SQLite file is, and what happens to its free space.
fn about_file(file: &FileSpace) -> String {
    const MIB: f64 = 1_048_576.0;
    let fate = if file.is_released {
        "Andon gives back what is more than an eighth"
    } else {
        "the file never shrinks: see \"An SQLite file that does not shrink\" in docs/operations.md"
    };
    let (all, free) = (file.bytes as f64 / MIB, file.free_bytes as f64 / MIB);
    format!("\nfile: {all:.1} MiB, of these {free:.1} MiB free for new rows; {fate}\n")
}

fn status(settings: &Settings) -> Result<Output, StoreError> {
    let mut store = store::open(&store_options(settings))?;
    let migrations = store.migration_status()?;
    let mut text = describe(store.facts(), &migrations);
    let mut complaints = warnings(store.facts());
    complaints.extend(store.facts().note());
    let exit = if let Some(obstacle) = store.facts().obstacle() {
        complaints.push(obstacle);
        Exit::Failure
    } else if !migrations.unknown.is_empty() {
        complaints.push(TABLES_AHEAD.to_owned());
        Exit::Failure
    } else if migrations.pending.is_empty() {
        text.push_str(&contents(&store.status()?));
        Exit::Clean
    } else {
        text.push_str("`andon db migrate` or `andon run` applies pending migrations\n");
        Exit::Clean
    };
    Ok(Output { text, complaints, exit })
}

fn warnings(facts: &StoreFacts) -> Vec<String> {
    facts.warnings.iter().map(|warning| format!("warning: {warning}")).collect()
}

fn describe(facts: &StoreFacts, migrations: &MigrationStatus) -> String {
    let states = [
        ("applied", &migrations.applied),
        ("pending", &migrations.pending),
        ("unknown", &migrations.unknown),
    ];
    let rows: Vec<Vec<String>> = states
        .iter()
        .flat_map(|(state, names)| names.iter().map(move |name| vec![name.clone(), (*state).to_owned()]))
        .collect();
    format!(
        "{} ({} {})\n\n{}\n",
        facts.place(),
        facts.backend,
        facts.version,
        table(&["migration", "state"], &rows)
    )
}

fn contents(status: &StoreStatus) -> String {
    let tables: Vec<Vec<String>> = status
        .tables
        .iter()
        .map(|count| {
            let about = if count.exact { "" } else { "about " };
            vec![count.table.to_owned(), format!("{about}{}", count.rows)]
        })
        .collect();
    let mut text = table(&["table", ">rows"], &tables);
    text.extend(status.file.as_ref().map(about_file));
    if status.checkpoints.is_empty() {
        text.push_str("\nno journal has stored anything here yet\n");
        return text;
    }
    let checkpoints: Vec<Vec<String>> = status
        .checkpoints
        .iter()
        .map(|checkpoint| {
            let numbers = [
                checkpoint.ledger.committed_seq.0,
                checkpoint.ledger.messages,
                checkpoint.ledger.stored,
                checkpoint.ledger.duplicate,
                checkpoint.ledger.rejected,
                checkpoint.ledger.control,
            ];
            let mut row = vec![checkpoint.journal_id.clone(), checkpoint.site.clone()];
            row.extend(numbers.map(|number| number.to_string()));
            row.push(checkpoint.updated_at.to_string());
            row
        })
        .collect();
    let headings =
        ["journal", "site", ">seq", ">messages", ">stored", ">duplicate", ">rejected", ">control", "updated"];
    text.push('\n');
    text.push_str(&table(&headings, &checkpoints));
    text
}
