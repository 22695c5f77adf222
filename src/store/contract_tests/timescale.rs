//! `store.timescale` beside `store.schema`. A stand-in takes the place of the extension, which few test machines have: it
//! has the functions that Andon calls, in the schema in which an extension usually is.

use super::fixture::Fixture;
use super::postgres_server::Postgres;
use crate::store::{Hypertable, StoreOptions, open};

const STAND_IN: &str = "SET allow_system_table_mods = on;
    INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
        VALUES (99999, 'timescaledb', 10, 'public'::regnamespace, false, '0');
    CREATE TABLE public.hypertables (name text);
    CREATE FUNCTION public.create_hypertable(relation regclass, time_column_name name, chunk_time_interval interval) RETURNS text
        LANGUAGE sql AS 'INSERT INTO public.hypertables VALUES (relation::oid::regclass::text) RETURNING name'";

/// The search path of a session with `store.schema` does not lead to the functions of the extension.
#[test]
fn the_readings_in_a_schema_of_our_own_become_a_hypertable() {
    let server = Postgres::start();
    let fixture = Fixture::postgres(server.create_database("plant")).in_schema("andon");
    server.psql("plant", STAND_IN);
    let mut store = open(&StoreOptions { timescale: true, ..fixture.options() }).unwrap();
    let report = store.migrate().unwrap();
    // The stand-in knows no compression, as an edition without it.
    let Some(Hypertable::Made(how)) = &report.hypertable else { panic!("{:?}", report.hypertable) };
    assert!(how.contains("chunks of 7 days, not compressed"), "{how}");
    assert_eq!(
        server.psql("plant", "SELECT name FROM hypertables"),
        "machine_telemetry",
        "by its own search path"
    );
}
