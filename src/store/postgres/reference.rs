//! Looks for the table of the reference worker ([`reference`](crate::store::reference)) in the catalogue. Reads no row of it.

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text};

use crate::store::SchemaName;
use crate::store::reference::{ReferenceTable, TABLE, has_its_columns};

#[derive(QueryableByName)]
struct Places {
    #[diesel(sql_type = Nullable<Text>)]
    current: Option<String>,
    #[diesel(sql_type = Array<Text>)]
    all: Vec<String>,
}

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct Relation {
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Bool)]
    is_view: bool,
    #[diesel(sql_type = BigInt)]
    rows: i64,
    #[diesel(sql_type = Array<Text>)]
    names: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    types: Vec<String>,
}

/// `$1` schemas in the order in which to look, `$2` the name of the table.
const RELATIONS: &str = "SELECT n.nspname::text AS schema, c.relkind = 'v' AS is_view, c.reltuples::bigint AS rows, \
         array_agg(a.attname::text ORDER BY a.attnum) AS names, \
         array_agg(format_type(a.atttypid, NULL) ORDER BY a.attnum) AS types \
     FROM unnest($1) WITH ORDINALITY AS place (name, number) \
     JOIN pg_namespace n ON n.nspname = place.name JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = $2 \
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     WHERE c.relkind IN ('r', 'p', 'v') GROUP BY n.nspname, c.oid, c.relkind, c.reltuples ORDER BY min(place.number)";

/// Looks in the schema of Andon's tables, then where the role's own search path leads.
pub fn find(
    connection: &mut PgConnection,
    schema: Option<&SchemaName>,
) -> QueryResult<Option<ReferenceTable>> {
    let places = role_places(connection)?;
    let ours = schema.map(ToString::to_string).or(places.current);
    let mut wanted: Vec<String> = ours.iter().cloned().collect();
    wanted.extend(places.all);
    let found: Vec<Relation> =
        sql_query(RELATIONS).bind::<Array<Text>, _>(wanted).bind::<Text, _>(TABLE).load(connection)?;
    let is_its = |relation: &Relation| {
        let names = relation.names.iter().map(String::as_str);
        let columns: Vec<_> = names.zip(relation.types.iter().map(String::as_str)).collect();
        has_its_columns(&columns)
    };
    Ok(found.into_iter().find(is_its).map(|relation| ReferenceTable {
        is_view: relation.is_view,
        is_in_the_way: ours.as_ref() == Some(&relation.schema),
        // -1, or 0 before PostgreSQL 14: never counted.
        rows: u64::try_from(relation.rows).ok().filter(|rows| *rows > 0),
        schema: relation.schema,
    }))
}

/// Returns where the role's own search path leads, whatever the session has set.
fn role_places(connection: &mut PgConnection) -> QueryResult<Places> {
    connection.transaction(|connection| {
        let set: Setting =
            sql_query("SELECT current_setting('search_path') AS value").get_result(connection)?;
        connection.batch_execute("SET LOCAL search_path TO DEFAULT")?;
        let places =
            sql_query("SELECT current_schema()::text AS current, current_schemas(false)::text[] AS all")
                .get_result(connection)?;
        // It would last until the end of the outermost transaction.
        sql_query("SELECT set_config('search_path', $1, true) AS value")
            .bind::<Text, _>(set.value)
            .get_result::<Setting>(connection)?;
        Ok(places)
    })
}
