//! Parts of `machine_telemetry`: native partitions by month where the administrator chose them, or chunks of
//! TimescaleDB. A part is dropped whole once every row in it is past retention; next months are created ahead.
//!
//! While a part waits for its last row to become old, no reading in it is deleted one by one: dropping it costs
//! nothing, deleting costs as much as storing did. So readings of the newest old month stay up to a month longer.
//! A part goes only with a proof that all of its rows may: that its time is past by `recorded_at`, that no row
//! was received later (a device with a wrong clock), and that no other site has rows in it. Where the proof
//! takes too long (an index on `received_at` makes it quick) or finds such a row, or where the role may not
//! drop, rows are deleted one by one as in a plain table.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::hypertable::{extension_schema, is};
use super::{FlagRow, partition_functions, sqlstate};
use crate::domain::Timestamp;
use crate::store::exact::postgres as exact;
use crate::store::partitions::{DroppedPart, PartsTended, month_starts};
use crate::store::retention::PruneLimits;
use crate::store::schema::{Instant, SqlInstant};

/// A part wider than this is deleted from one by one: waiting for its end would keep rows for too long.
const WIDTH_MAX: Duration = Duration::from_secs(32 * 86_400);
/// Months that exist ahead, the present one included.
const MONTHS_AHEAD: u32 = 3;
/// How long the proof and the drop may take: batches wait for them.
const STATEMENT_MAX: &str = "SET LOCAL statement_timeout = '1s'; SET LOCAL lock_timeout = '200ms'";

const IS_PARTITIONED: &str = "SELECT EXISTS (SELECT 1 FROM pg_partitioned_table p JOIN pg_attribute a \
     ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] WHERE p.partrelid = to_regclass('machine_telemetry') \
     AND p.partstrat = 'r' AND p.partnatts = 1 AND a.attname = 'recorded_at') AS value";

/// Partitions with their bounds; one without a bound begins, or ends, never. The default partition is not among
/// them.
const PARTITIONS: &str = r"SELECT format('%I.%I', n.nspname, c.relname) AS name,
     (regexp_match(b.bound, 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS begins_at,
     (regexp_match(b.bound, 'TO \(''([^'']+)''\)'))[1]::timestamptz AS ends_at,
     greatest(c.reltuples, 0)::bigint AS rows
     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
     LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) b
     WHERE i.inhparent = to_regclass('machine_telemetry') AND b.bound <> 'DEFAULT' ORDER BY ends_at";

const HAS_HYPERTABLES: &str =
    "SELECT to_regclass('timescaledb_information.hypertables') IS NOT NULL AS value";

const IS_HYPERTABLE: &str = "SELECT EXISTS (SELECT 1 FROM timescaledb_information.hypertables \
     WHERE to_regclass(format('%I.%I', hypertable_schema, hypertable_name)) = to_regclass('machine_telemetry')) AS value";

const CHUNKS: &str = "SELECT format('%I.%I', c.chunk_schema, c.chunk_name) AS name, c.range_start AS begins_at, \
     c.range_end AS ends_at, coalesce((SELECT greatest(r.reltuples, 0)::bigint FROM pg_class r \
         WHERE r.oid = to_regclass(format('%I.%I', c.chunk_schema, c.chunk_name))), 0) AS rows \
     FROM timescaledb_information.chunks c \
     WHERE to_regclass(format('%I.%I', c.hypertable_schema, c.hypertable_name)) = to_regclass('machine_telemetry') \
     ORDER BY ends_at";

/// The table's own name, with its schema.
const OWN_NAME: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS value FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('machine_telemetry')";

/// How the readings are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One table.
    Plain,
    /// Native partitions by `recorded_at`.
    Partitions,
    /// A hypertable.
    Chunks,
}

/// How a part is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the owner of the table.
    Statement,
    /// By the owner's function, for a role that only writes.
    Function,
    /// By TimescaleDB.
    Chunks,
}

#[derive(QueryableByName)]
pub struct NameRow {
    #[diesel(sql_type = Text)]
    pub value: String,
}

#[derive(QueryableByName, Clone)]
struct Part {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<Instant>)]
    begins_at: Option<SqlInstant>,
    #[diesel(sql_type = Nullable<Instant>)]
    ends_at: Option<SqlInstant>,
    /// As the server's statistics estimate.
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

impl Part {
    fn begins(&self) -> Timestamp {
        self.begins_at.map_or(Timestamp::from_micros(i64::MIN), |at| at.0)
    }

    fn ends(&self) -> Timestamp {
        self.ends_at.map_or(Timestamp::from_micros(i64::MAX), |at| at.0)
    }

    fn is_narrow(&self) -> bool {
        self.begins_at.is_some() && self.ends_at.is_some() && self.ends().since(self.begins()) <= WIDTH_MAX
    }
}

/// Why a part stays for now.
enum Kept {
    /// It holds a row that must stay, or nobody can say so in time, or the role may not drop it: rows are
    /// deleted one by one.
    OneByOne(Option<String>),
    /// A reader holds it. The next run tries again.
    Locked,
}

/// Returns how the readings are laid out.
pub fn layout(connection: &mut PgConnection) -> QueryResult<Layout> {
    if is(connection, IS_PARTITIONED)? {
        return Ok(Layout::Partitions);
    }
    let is_hypertable = is(connection, HAS_HYPERTABLES)? && is(connection, IS_HYPERTABLE)?;
    Ok(if is_hypertable { Layout::Chunks } else { Layout::Plain })
}

/// Creates the next months, and drops the parts that are past `limits.readings`.
pub fn tend(
    connection: &mut PgConnection,
    site: &str,
    limits: &PruneLimits,
    now: Timestamp,
) -> QueryResult<PartsTended> {
    let mut tended = PartsTended::unchanged(limits);
    let layout = layout(connection)?;
    if layout == Layout::Plain {
        return Ok(tended);
    }
    let by_function = layout == Layout::Partitions && partition_functions::are_needed(connection)?;
    if layout == Layout::Partitions {
        create_ahead(connection, now, by_function, &mut tended)?;
    }
    if let Some(before) = limits.readings {
        let parts: Vec<Part> =
            sql_query(if layout == Layout::Chunks { CHUNKS } else { PARTITIONS }).load(connection)?;
        let way = match (layout, by_function) {
            (Layout::Chunks, _) => Way::Chunks,
            (_, true) => Way::Function,
            _ => Way::Statement,
        };
        drop_old(connection, site, &parts, before, way, &mut tended)?;
    }
    Ok(tended)
}

/// Creates the partitions of this month and the next ones, unless another partition covers a part of them.
fn create_ahead(
    connection: &mut PgConnection,
    now: Timestamp,
    by_function: bool,
    tended: &mut PartsTended,
) -> QueryResult<()> {
    let parts: Vec<Part> = sql_query(PARTITIONS).load(connection)?;
    let own: NameRow = sql_query(OWN_NAME).get_result(connection)?;
    let months = month_starts(now, MONTHS_AHEAD + 1);
    for month in months.windows(2) {
        let ((name, begins), (_, ends)) = (&month[0], &month[1]);
        if parts.iter().any(|part| part.begins() < *ends && *begins < part.ends()) {
            continue;
        }
        let table = own.value.trim_end_matches('"');
        let quote = if table.len() < own.value.len() { "\"" } else { "" };
        let partition = format!("{table}_{name}{quote}");
        let create = if by_function {
            format!("SELECT andon_create_month((timestamptz '{begins}' AT TIME ZONE 'UTC')::date)")
        } else {
            let own = &own.value;
            format!("CREATE TABLE {partition} PARTITION OF {own} FOR VALUES FROM ('{begins}') TO ('{ends}')")
        };
        let done = connection.transaction(|connection| {
            connection.batch_execute(STATEMENT_MAX)?;
            connection.batch_execute(&create)
        });
        match done {
            Ok(()) => tended.created.push(partition),
            Err(error) => tended.troubles.push(format!("create {partition}: {error}")),
        }
    }
    Ok(())
}

/// Drops parts that end by `before`, and sets before which instant rows are to be deleted one by one. Chunks have no
/// rows outside, and finding rows in compressed ones is slow: nothing is deleted one by one if all old ones are gone.
fn drop_old(
    connection: &mut PgConnection,
    site: &str,
    parts: &[Part],
    before: Timestamp,
    way: Way,
    tended: &mut PartsTended,
) -> QueryResult<()> {
    let around = parts.iter().find(|part| part.begins() <= before && before < part.ends());
    let mut is_rest = way != Way::Chunks || around.is_some_and(|part| !part.is_narrow());
    let mut one_by_one = around.filter(|part| part.is_narrow()).map_or(before, |part| part.begins());
    for part in parts.iter().filter(|part| part.ends() <= before) {
        match drop_part(connection, site, part, before, way)? {
            Ok(()) => {
                let rows = crate::store::from_bigint(part.rows);
                tended.dropped.push(DroppedPart { name: part.name.clone(), rows, ends: part.ends() });
            }
            Err(Kept::OneByOne(why)) => {
                is_rest = true;
                tended.troubles.extend(why);
            }
            Err(Kept::Locked) => one_by_one = one_by_one.min(part.begins()),
        }
    }
    tended.limits.readings = is_rest.then_some(one_by_one);
    tended.limits.rollups = Some(one_by_one);
    Ok(())
}

/// Drops `part` if all of its rows may go.
fn drop_part(
    connection: &mut PgConnection,
    site: &str,
    part: &Part,
    before: Timestamp,
    way: Way,
) -> QueryResult<Result<(), Kept>> {
    sqlstate::forget();
    let done = connection.transaction(|connection| {
        connection.batch_execute(STATEMENT_MAX)?;
        if way == Way::Function {
            return drop_by_function(connection, site, part, before);
        }
        // First without a lock: mostly this already says no.
        if !may_go(connection, site, part, before)? {
            return Ok(false);
        }
        // Nobody stores a reading into it between the proof and the drop.
        connection.batch_execute(&format!(
            "LOCK TABLE ONLY machine_telemetry IN ACCESS EXCLUSIVE MODE; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
            part.name
        ))?;
        if !may_go(connection, site, part, before)? {
            return Ok(false);
        }
        exact::advance(connection, site, before)?;
        drop_now(connection, part, way)?;
        Ok(true)
    });
    match done {
        Ok(true) => Ok(Ok(())),
        Ok(false) => Ok(Err(Kept::OneByOne(None))),
        Err(error @ diesel::result::Error::DatabaseError(..)) => {
            Ok(Err(match sqlstate::newest().as_deref() {
                Some("55P03" | "40P01") => Kept::Locked,
                // The proof takes too long.
                Some("57014") => Kept::OneByOne(None),
                _ => Kept::OneByOne(Some(format!("drop {}: {error}", part.name))),
            }))
        }
        Err(error) => Err(error),
    }
}

/// True if no other site has a row in `part`, and no row in it was received at `before` or later.
fn may_go(connection: &mut PgConnection, site: &str, part: &Part, before: Timestamp) -> QueryResult<bool> {
    let name = &part.name;
    let others = format!(
        "SELECT EXISTS (SELECT 1 FROM {name} WHERE site < $1) OR EXISTS (SELECT 1 FROM {name} WHERE site > $1) AS value"
    );
    let others: FlagRow = sql_query(others).bind::<Text, _>(site).get_result(connection)?;
    if others.value {
        return Ok(false);
    }
    let later = format!("SELECT EXISTS (SELECT 1 FROM {name} WHERE received_at >= $1) AS value");
    let later: FlagRow = sql_query(later).bind::<Instant, _>(SqlInstant(before)).get_result(connection)?;
    Ok(!later.value)
}

/// Has the owner's function prove that `part` may go, and drop it.
fn drop_by_function(
    connection: &mut PgConnection,
    site: &str,
    part: &Part,
    before: Timestamp,
) -> QueryResult<bool> {
    let dropped: FlagRow = sql_query("SELECT andon_drop_month($1, $2, $3) AS value")
        .bind::<Text, _>(&part.name)
        .bind::<Text, _>(site)
        .bind::<Instant, _>(SqlInstant(before))
        .get_result(connection)?;
    if dropped.value {
        exact::advance(connection, site, before)?;
    }
    Ok(dropped.value)
}

fn drop_now(connection: &mut PgConnection, part: &Part, way: Way) -> QueryResult<()> {
    if way != Way::Chunks {
        return connection.batch_execute(&format!("DROP TABLE {}", part.name));
    }
    // By its bounds, so that TimescaleDB forgets it, too.
    let extension = extension_schema(connection)?.unwrap_or_else(|| "public".to_owned());
    sql_query(format!(
        "SELECT {extension}.drop_chunks(to_regclass('machine_telemetry'), older_than => $1, newer_than => $2)"
    ))
    .bind::<Instant, _>(SqlInstant(part.ends()))
    .bind::<Instant, _>(SqlInstant(part.begins()))
    .execute(connection)
    .map(drop)
}
