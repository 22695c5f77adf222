//! The view in the place of the old table, and what makes it behave like that table.
//!
//! The application orders by the text of `recorded_at`. That text has one length, so its order is that of time, and
//! an index on it makes "the newest 50 of a machine" as quick as it is on the time itself. A deletion through the view is a
//! trigger, which runs with the rights of the view's owner, as the view's queries do.
//!
//! Rollups follow a deletion (IMP-3): the trigger notes the bucket of each deleted row, and a deferred trigger computes the
//! noted buckets anew at the end of the transaction, each once. It locks the buckets first, in the order of their keys, as
//! every writer does. A writer that comes later waits, and adds to the new numbers; one that was there before has
//! committed its readings, so that they are counted.

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Nullable, Text};

use super::super::sqlstate;
use super::rows::column_types;
use super::{literal, quoted};
use crate::store::SchemaName;
use crate::store::reference::TABLE;
use crate::store::rollup::{BUCKET_SECONDS, EXTRA_FIELDS_MAX, FIELD_CHARS_MAX, MEASUREMENT_MAX};

const INDEX: &str = "machine_telemetry_reference";
/// SQLSTATE of an index that cannot be built beside writers, as on a partitioned table.
const FEATURE_NOT_SUPPORTED: &str = "0A000";
const FUNCTIONS: &str = include_str!("functions.sql");

#[derive(QueryableByName)]
struct IndexRow {
    #[diesel(sql_type = Bool)]
    is_valid: bool,
    #[diesel(sql_type = Bool)]
    is_partitioned: bool,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct Grant {
    #[diesel(sql_type = Nullable<Text>)]
    grantee: Option<String>,
    #[diesel(sql_type = Text)]
    privilege: String,
    #[diesel(sql_type = Bool)]
    is_grantable: bool,
}

/// Creates the functions of the view and its triggers in our schema.
pub(super) fn create_functions(connection: &mut PgConnection, schema: &SchemaName) -> QueryResult<()> {
    let sql = FUNCTIONS
        .replace(":schema", &schema.quoted())
        .replace(":bucket_seconds", &BUCKET_SECONDS.to_string())
        .replace(":measurement_max", &format!("{MEASUREMENT_MAX:e}"))
        .replace(":fields_max", &EXTRA_FIELDS_MAX.to_string())
        .replace(":field_chars_max", &FIELD_CHARS_MAX.to_string());
    connection.batch_execute(&sql)
}

/// Builds the index on the text of `recorded_at`, unless it is there. One that a crash left half built is built anew.
pub(super) fn index(connection: &mut PgConnection) -> QueryResult<()> {
    let state: IndexRow = sql_query(format!(
        "SELECT coalesce((SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass('{INDEX}')), false) AS is_valid, \
         (SELECT relkind = 'p' FROM pg_class WHERE oid = '{TABLE}'::regclass) AS is_partitioned"
    ))
    .get_result(connection)?;
    if state.is_valid {
        return Ok(());
    }
    let build = |concurrently: &str| {
        format!(
            "CREATE INDEX {concurrently} {INDEX} ON {TABLE} (site, machine_id, (reference_text(recorded_at)) COLLATE \"C\")"
        )
    };
    let timeout: Name =
        sql_query("SELECT current_setting('statement_timeout') AS value").get_result(connection)?;
    // No statement of the application waits for either.
    connection.batch_execute("SET statement_timeout = 0")?;
    connection.batch_execute(&format!("DROP INDEX IF EXISTS {INDEX}"))?;
    let built = match state.is_partitioned {
        true => connection.batch_execute(&build("")),
        false => match connection.batch_execute(&build("CONCURRENTLY")) {
            Err(error) if sqlstate::is(&error, FEATURE_NOT_SUPPORTED) => connection.batch_execute(&build("")),
            result => result,
        },
    };
    built?;
    connection.batch_execute(&format!("SET statement_timeout = {}", literal(&timeout.value)))
}

/// Renames the old table to `kept` and puts the view in its place, with the rights that the old table gave.
pub(super) fn put_in_place(
    connection: &mut PgConnection,
    site: &str,
    schema: &SchemaName,
    source: &str,
    kept: &str,
) -> QueryResult<()> {
    let old = format!("{}.{}", quoted(source), quoted(TABLE));
    let view = view_sql(connection, site, schema, &old)?;
    let grants = grants(connection, &old)?;
    connection.batch_execute(&format!("ALTER TABLE {old} RENAME TO {}", quoted(kept)))?;
    connection.batch_execute(&view)?;
    connection.batch_execute(&triggers_sql(site, schema, &old))?;
    connection.batch_execute(&format!(
        "COMMENT ON VIEW {old} IS {}",
        literal(&format!(
            "Readings of site {site} in schema {schema}, as the reference worker stored them. Made by andon db import; the old \
             table is {kept}."
        ))
    ))?;
    grants.iter().try_for_each(|grant| connection.batch_execute(&grant.sql(&old)))
}

/// Returns the statement that creates the view, with the types of the old columns. `id` is always a bigint: a plant's
/// readings outgrow an integer.
fn view_sql(
    connection: &mut PgConnection,
    site: &str,
    schema: &SchemaName,
    old: &str,
) -> QueryResult<String> {
    let types = column_types(connection, old)?;
    let cast = |name: &str, expression: &str| {
        let found = types.iter().find(|(column, _)| column == name).map_or("text", |(_, kind)| kind.as_str());
        // As a cast, `character` alone would keep one character.
        let kind = if found == "character" { "bpchar" } else { found };
        format!("({expression})::{kind} AS {name}")
    };
    let schema = schema.quoted();
    let text = |name: &str| cast(name, &format!("{schema}.reference_text(t.{name}) COLLATE \"C\""));
    let columns = [
        "t.id".to_owned(),
        cast("machine_id", "t.machine_id"),
        cast("temperature", "t.temperature"),
        cast("humidity", "t.humidity"),
        cast("vibration", "t.vibration"),
        cast("source_topic", "nullif(t.source_topic, '')"),
        text("recorded_at"),
        text("created_at"),
    ];
    Ok(format!(
        "CREATE VIEW {old} AS SELECT {} FROM {schema}.{TABLE} AS t WHERE t.site = {}",
        columns.join(", "),
        literal(site)
    ))
}

fn triggers_sql(site: &str, schema: &SchemaName, view: &str) -> String {
    let (schema, site) = (schema.quoted(), literal(site));
    format!(
        "CREATE TRIGGER reference_delete INSTEAD OF DELETE ON {view} FOR EACH ROW \
             EXECUTE FUNCTION {schema}.reference_delete({site}); \
         CREATE TRIGGER reference_refuse INSTEAD OF INSERT OR UPDATE ON {view} FOR EACH ROW \
             EXECUTE FUNCTION {schema}.reference_refuse()"
    )
}

/// Returns the rights of other roles on `table`. Its owner gets all: the view may belong to another role.
fn grants(connection: &mut PgConnection, table: &str) -> QueryResult<Vec<Grant>> {
    sql_query(format!(
        "SELECT g.grantee, g.privilege, g.is_grantable FROM (\
             SELECT r.rolname::text AS grantee, a.privilege_type AS privilege, a.is_grantable, a.grantee AS oid \
             FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee \
             WHERE c.oid = {0}::regclass \
             UNION SELECT r.rolname::text, 'ALL', true, r.oid FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner \
             WHERE c.oid = {0}::regclass) g \
         WHERE g.oid <> (SELECT oid FROM pg_roles WHERE rolname = current_user) ORDER BY 1 NULLS FIRST, 2",
        literal(table)
    ))
    .load(connection)
}

impl Grant {
    fn sql(&self, view: &str) -> String {
        let grantee = self.grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), quoted);
        let option = if self.is_grantable { " WITH GRANT OPTION" } else { "" };
        format!("GRANT {} ON {view} TO {grantee}{option}", self.privilege)
    }
}

/// Returns the views and tables that refer to `table`.
pub(super) fn dependents(connection: &mut PgConnection, table: &str) -> QueryResult<Vec<String>> {
    let names: Vec<Name> = sql_query(format!(
        "SELECT DISTINCT 'the view ' || r.ev_class::regclass::text AS value FROM pg_depend d \
             JOIN pg_rewrite r ON r.oid = d.objid \
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = {0}::regclass \
                 AND r.ev_class <> d.refobjid \
         UNION SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass::text FROM pg_constraint \
             WHERE contype = 'f' AND confrelid = {0}::regclass ORDER BY 1",
        literal(table)
    ))
    .load(connection)?;
    Ok(names.into_iter().map(|name| name.value).collect())
}
