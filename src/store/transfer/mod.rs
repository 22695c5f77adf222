//! Copies all tables of an SQLite file into a PostgreSQL database, while the service writes to the file: `andon db copy`.
//!
//! ```text
//! tables     which tables and columns: what both schemas say
//! row        a row in the binary form of PostgreSQL, from either side
//! checksum   the same number for the same rows
//! source     the SQLite file, read only
//! target     the PostgreSQL database
//! insert     COPY, INSERT, and what is refused
//! page       rows that are sent together
//! readings   the table of readings: copied piece by piece, compared day by day
//! ```
//!
//! 1. Readings never change, and their numbers grow: they are copied in pages, each in one transaction with the
//!    number up to which they are copied (table `db_copy` of the target). A run goes on from there.
//! 2. Then one snapshot of the file: the readings that have come meanwhile; a comparison of the readings of each day,
//!    by count and checksum, which copies a day that differs anew; and last, in one transaction, every other table,
//!    the journals' positions among them.
//!
//! So the target is, at each end of a run, the file at one instant. A service that starts on it goes on from the
//! position in it; what the file got later is still in the file, and the next run brings it.
//!
//! Invariants
//! - **CPY-1** A journal's position reaches the target only in a transaction after which the target holds every row
//!   that the file had at that position, or the run has named it as left behind.
//! - **CPY-2** A target into which a service has stored since the last copy, or which holds rows of these sites from
//!   elsewhere, is not touched.
//! - **CPY-3** No table and no column is left out unsaid: a table that the target does not have is named as left behind, one
//!   with other columns ends the run before it copies anything.
//!
//! Rows of other sites in the target are left alone. The ids of rows are counted anew by the target, in the same order.

mod checksum;
mod insert;
mod page;
mod readings;
mod row;
mod source;
mod tables;
mod target;

use std::path::Path;

pub use checksum::Checksum;
use page::Page;
use source::Source;
use tables::{READINGS, Table};
use target::{CopyProgress, Owners, Target};

use crate::database_url::{DatabaseUrl, PostgresUrl};
use crate::store::{Cause, Store, StoreError, StoreOptions, postgres, sqlite};

/// Rows of one INSERT into a table other than that of the readings.
const PAGE_ROWS: usize = 2_000;
/// Bytes after which a page is sent, whatever its rows: one `extra` may have `mqtt.max_payload` bytes.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// More rows than this are not left behind one by one: the cause must go first.
const LEFT_ROWS_MAX: usize = 10_000;

/// Sees how far a copy is.
pub trait CopyWatch {
    /// A part begins, of which `done` of about `total` rows are done already.
    fn begins(&mut self, part: &str, done: u64, total: u64);
    /// So many further rows of the part are done.
    fn advances(&mut self, rows: u64);
}

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Each table with the rows that both databases hold.
    pub tables: Vec<(String, Checksum)>,
    /// Readings that this run copied.
    pub readings_copied: u64,
    /// Rows that the target cannot hold or refuses, each with the reason. They are in the file only.
    pub left: Vec<String>,
    /// Each journal with its position, as now in the target.
    pub positions: String,
}

/// Copies the file at `path` into the database at `url`, with the timeouts of `options`.
///
/// # Errors
/// [`StoreError::Unsupported`] if the two do not fit; [`StoreError::NewerSchema`]; [`StoreError::Copy`]. The same call
/// goes on later.
pub fn copy(
    path: &Path,
    url: &PostgresUrl,
    options: &StoreOptions,
    watch: &mut dyn CopyWatch,
) -> Result<Copied, StoreError> {
    let failed = |source| StoreError::Copy { source };
    check_source(path, options)?;
    let options = StoreOptions {
        url: DatabaseUrl::Postgres(url.clone()),
        // A check of all readings takes as long as it takes.
        statement_timeout: std::time::Duration::ZERO,
        ..options.clone()
    };
    let mut database = postgres::Database::open(url, &options)?;
    database.migrate()?;
    let place = url.place();
    let target = Target { connection: database.connection };
    let source = Source::open(path, &options).map_err(failed)?;
    let prepared = CopyRun::prepare(source, target, watch).map_err(failed)?;
    let mut run = prepared.map_err(|reason| StoreError::Unsupported { target: place, reason })?;
    run.run().map_err(failed)
}

/// Checks that the file has the tables that this binary knows. Only a service that is about to start migrates it.
fn check_source(path: &Path, options: &StoreOptions) -> Result<(), StoreError> {
    let url = DatabaseUrl::Sqlite(path.to_path_buf());
    let mut database = sqlite::Database::open(path, &StoreOptions { url, ..options.clone() })?;
    let migrations = database.migration_status()?;
    if !migrations.unknown.is_empty() {
        return Err(StoreError::NewerSchema { versions: migrations.unknown });
    }
    if !migrations.pending.is_empty() {
        let reason = "its tables are not up to date; run `andon db migrate` on it, or start the service of this version once";
        return Err(StoreError::Unsupported { target: database.facts.target, reason: reason.to_owned() });
    }
    Ok(())
}

/// A copy under way.
struct CopyRun<'a> {
    source: Source,
    target: Target,
    watch: &'a mut dyn CopyWatch,
    readings: Table,
    others: Vec<Table>,
    owners: Owners,
    /// By what the target knows the file.
    source_name: String,
    progress: CopyProgress,
    readings_copied: u64,
    left: Left,
}

/// Rows that the target cannot hold or refuses.
#[derive(Default)]
struct Left {
    /// Numbers of readings.
    readings: std::collections::BTreeSet<i64>,
    rows: Vec<String>,
}

impl Left {
    fn add(&mut self, table: &Table, number: i64, why: &str) -> Result<(), Cause> {
        if table.name == READINGS && !self.readings.insert(number) {
            return Ok(());
        }
        let which = if table.has_id {
            format!("{} {number}", table.name)
        } else {
            format!("a row of {}", table.name)
        };
        self.rows.push(format!("{which}: {why}"));
        if self.rows.len() <= LEFT_ROWS_MAX {
            return Ok(());
        }
        Err(format!("the target refuses more than {LEFT_ROWS_MAX} rows, the last one {which}: {why}").into())
    }
}

impl<'a> CopyRun<'a> {
    /// Compares the schemas and decides whether the target may be written; `Err` of the inner result says why not.
    fn prepare(
        mut source: Source,
        mut target: Target,
        watch: &'a mut dyn CopyWatch,
    ) -> Result<Result<Self, String>, Cause> {
        if !target.lock()? {
            return Ok(Err("another `andon db copy` into it is running".to_owned()));
        }
        let mut left = Left::default();
        let mut tables = match match_tables(&mut source, &mut target, &mut left)? {
            Ok(tables) => tables,
            Err(reason) => return Ok(Err(reason)),
        };
        let Some(place) = tables.iter().position(|table| table.name == READINGS) else {
            return Ok(Err(format!("the file has no table {READINGS}")));
        };
        let readings = readings::in_order_of_copy(tables.remove(place))?;
        let owners = find_owners(&mut source, &readings, &tables)?;
        let source_name = owners.sites.join(", ");
        let found = target.progress(&source_name)?;
        if let Some(reason) = refusal(&mut target, &readings, &tables, &owners, found.as_ref())? {
            return Ok(Err(reason));
        }
        let progress = found.unwrap_or(CopyProgress { upto_id: 0, upto_hash: 0, positions: String::new() });
        let (readings_copied, others) = (0, tables);
        Ok(Ok(Self {
            source,
            target,
            watch,
            readings,
            others,
            owners,
            source_name,
            progress,
            readings_copied,
            left,
        }))
    }

    fn run(&mut self) -> Result<Copied, Cause> {
        self.forget_progress_of_another_file()?;
        self.copy_readings()?;
        self.source.begin_snapshot()?;
        self.copy_readings()?;
        let readings = self.compare_readings()?;
        let mut tables = vec![(READINGS.to_owned(), readings)];
        tables.extend(self.replace_others()?);
        self.source.end_snapshot()?;
        Ok(Copied {
            tables,
            readings_copied: self.readings_copied,
            left: std::mem::take(&mut self.left.rows),
            positions: self.progress.positions.clone(),
        })
    }

    /// Copies every other table as a whole, unless it is the same already, and the positions, in one transaction (CPY-1).
    fn replace_others(&mut self) -> Result<Vec<(String, Checksum)>, Cause> {
        let (source, owners, left) = (&mut self.source, &self.owners, &mut self.left);
        let (watch, others) = (&mut *self.watch, &self.others);
        let (source_name, progress) = (self.source_name.as_str(), &mut self.progress);
        self.target.transaction(|target| {
            let mut tables = Vec::new();
            for table in others {
                watch.begins(&format!("copying {}", table.name), 0, source.rows(table)?);
                tables.push((table.name.clone(), replace(source, target, table, owners, left, watch)?));
            }
            progress.positions = target.positions(owners)?;
            target.note_progress(source_name, progress)?;
            Ok(tables)
        })
    }
}

/// Returns the tables that both have; `Err` of the inner result says how one differs (CPY-3).
fn match_tables(
    source: &mut Source,
    target: &mut Target,
    left: &mut Left,
) -> Result<Result<Vec<Table>, String>, Cause> {
    let mut tables = Vec::new();
    for (name, columns) in source.tables()? {
        let in_target = target.columns(&name)?;
        if in_target.is_empty() {
            left.rows.push(format!("table {name}: it is not Andon's, and the target has none of that name"));
            continue;
        }
        match Table::matching(&name, &columns, &in_target) {
            Ok(table) => tables.push(table),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    Ok(Ok(tables))
}

/// Returns the checksum of the rows that the target can hold.
fn source_checksum(source: &mut Source, table: &Table) -> Result<Checksum, Cause> {
    let mut sum = Checksum::default();
    source.each(table, &mut |row| {
        if let Ok(row) = row.encoded(&table.columns) {
            sum.add(row.hash(&table.columns));
        }
        Ok(())
    })?;
    Ok(sum)
}

/// Makes the table of the target the same as that of the source.
fn replace(
    source: &mut Source,
    target: &mut Target,
    table: &Table,
    owners: &Owners,
    left: &mut Left,
    watch: &mut dyn CopyWatch,
) -> Result<Checksum, Cause> {
    let wanted = source_checksum(source, table)?;
    if target.checksum(table, owners)? == wanted {
        return Ok(wanted);
    }
    target.delete(table, owners)?;
    let (mut wanted, mut page) = (Checksum::default(), Page::default());
    source.each(table, &mut |row| {
        match row.encoded(&table.columns) {
            Ok(encoded) => page.push(row.number, encoded),
            Err(why) => left.add(table, row.number, &why)?,
        }
        if page.is_full(PAGE_ROWS) {
            watch.advances(page.rows.len() as u64);
            page.insert(target, table, left, &mut wanted)?;
        }
        Ok(())
    })?;
    page.insert(target, table, left, &mut wanted)?;
    let found = target.checksum(table, owners)?;
    if found == wanted {
        return Ok(found);
    }
    let (name, rows) = (&table.name, wanted.rows);
    Err(format!(
        "{name}: {rows} rows were copied, and {} are there, or their checksums differ ({wanted}, {found})",
        found.rows
    )
    .into())
}

/// Returns whose rows the file holds.
fn find_owners(source: &mut Source, readings: &Table, others: &[Table]) -> Result<Owners, Cause> {
    let (mut sites, mut journals) = (Vec::new(), Vec::new());
    for table in std::iter::once(readings).chain(others) {
        if table.place("site").is_some() {
            sites.extend(source.distinct(&table.name, "site")?);
        }
        if table.place("journal_id").is_some() {
            journals.extend(source.distinct(&table.name, "journal_id")?);
        }
    }
    for names in [&mut sites, &mut journals] {
        names.sort_unstable();
        names.dedup();
    }
    Ok(Owners { sites, journals })
}

/// Returns why the target must not be touched (CPY-2).
fn refusal(
    target: &mut Target,
    readings: &Table,
    others: &[Table],
    owners: &Owners,
    progress: Option<&CopyProgress>,
) -> Result<Option<String>, Cause> {
    let sites = owners.sites.join(", ");
    if owners.sites.is_empty() {
        return Ok(Some(
            "the file that should be copied into it holds no site: is it the right one?".to_owned(),
        ));
    }
    if let Some(progress) = progress {
        let is_untouched = target.positions(owners)? == progress.positions;
        return Ok((!is_untouched).then(|| {
            format!("a service has stored readings of {sites} into it since the last copy; a copy would overwrite them. \
                Nothing was changed")
        }));
    }
    for table in std::iter::once(readings).chain(others) {
        if target.holds(table, owners)? {
            let table = &table.name;
            return Ok(Some(format!(
                "its table {table} holds rows of {sites} that no copy has brought. Nothing was changed; copy into a database \
                 without them"
            )));
        }
    }
    Ok(None)
}
