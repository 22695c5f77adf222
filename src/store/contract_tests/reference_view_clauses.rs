//! The view that stands where the reference worker's table was, as the application of that worker uses it.

use super::fixture::{SITE, batch};
use super::import_clauses::{OLD_TABLE, import, plant};
use super::postgres_server::Postgres;
use super::rollup_clauses::{Dice, check};

/// Proves IMP-3, ROL-1.
#[test]
fn rollups_follow_what_is_deleted_through_the_view() {
    let (server, fixture) = plant(3_000);
    import(&fixture);
    let (mut store, journal) = fixture.with_journal();
    let mut dice = Dice(7);
    let mut after = 0;
    for round in 0..25 {
        let rows: Vec<_> = (1..=40).map(|n| dice.row(after + n)).collect();
        store.commit(&batch(journal, after, rows)).unwrap();
        after += 40;
        let one = 1 + dice.roll(3);
        let newest = dice.roll(900);
        let deleted = match dice.roll(3) {
            0 => format!(
                "id IN (SELECT id FROM machine_telemetry WHERE machine_id = 'm-{one}' ORDER BY random() LIMIT 20)"
            ),
            1 => format!("recorded_at >= '2026-01-05T07:3' AND machine_id = 'm-{one}'"),
            _ => format!(
                "machine_id = 'm-{one}' AND id NOT IN (SELECT id FROM machine_telemetry WHERE machine_id = 'm-{one}' \
                          ORDER BY recorded_at DESC, id DESC LIMIT {newest})"
            ),
        };
        server.psql("plant", &format!("DELETE FROM machine_telemetry WHERE {deleted}"));
        check(&fixture, &mut dice, &format!("round {round}: {deleted}"));
        assert_rollups_are_exact(&server, &deleted);
    }
    // What a transaction takes back stays.
    server.psql("plant", "BEGIN; DELETE FROM machine_telemetry; ROLLBACK");
    assert_rollups_are_exact(&server, "rollback");
    server.psql("plant", "DELETE FROM machine_telemetry");
    let empty = "SELECT (SELECT count(*) FROM andon.machine_rollup), (SELECT count(*) FROM andon.machine_rollup_extra), \
                 (SELECT count(*) FROM andon.reference_deleted)";
    assert_eq!(server.psql("plant", empty), "0|0|0");
}

fn assert_rollups_are_exact(server: &Postgres, about: &str) {
    let measured = |name: &str| {
        format!(
            "count({name}) FILTER (WHERE abs({name}) <= 1e150), min({name}) FILTER (WHERE abs({name}) <= 1e150), \
                 max({name}) FILTER (WHERE abs({name}) <= 1e150)"
        )
    };
    let exact = format!(
        "SELECT machine_id, to_timestamp(floor(date_part('epoch', recorded_at) / 300) * 300), count(*), {}, {}, {} \
         FROM andon.machine_telemetry GROUP BY 1, 2",
        measured("temperature"),
        measured("humidity"),
        measured("vibration")
    );
    let rolled = "SELECT machine_id, bucket_start, readings, temperature_count, temperature_min, temperature_max, humidity_count, \
                  humidity_min, humidity_max, vibration_count, vibration_min, vibration_max FROM andon.machine_rollup";
    for (one, other) in [(exact.as_str(), rolled), (rolled, exact.as_str())] {
        let differing = server.psql("plant", &format!("SELECT * FROM ({one} EXCEPT {other}) AS differing"));
        assert_eq!(differing, "", "{about}");
    }
}

/// Proves IMP-3.
#[test]
fn rollups_stay_exact_while_the_service_writes_and_the_application_deletes() {
    let (server, fixture) = plant(300);
    import(&fixture);
    let (mut store, journal) = fixture.with_journal();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut dice = Dice(11);
            for round in 0..60 {
                let rows = (1..=20).map(|n| dice.row(round * 20 + n)).collect();
                store.commit(&batch(journal, round * 20, rows)).unwrap();
            }
        });
        let mut deletions = 0;
        while !writer.is_finished() || deletions == 0 {
            let machine = deletions % 3 + 1;
            server.psql("plant", &format!("DELETE FROM machine_telemetry WHERE machine_id = 'm-{machine}' AND id NOT IN \
                (SELECT id FROM machine_telemetry WHERE machine_id = 'm-{machine}' ORDER BY recorded_at DESC, id DESC LIMIT 40)"));
            deletions += 1;
        }
    });
    assert_rollups_are_exact(&server, "after all");
}

#[test]
fn other_roles_keep_their_rights_and_need_none_on_andons_tables() {
    let (server, fixture) = plant(5);
    server.psql("plant", "CREATE ROLE flask LOGIN; CREATE ROLE grafana LOGIN; GRANT SELECT, DELETE ON machine_telemetry TO flask; \
                          GRANT SELECT ON machine_telemetry TO PUBLIC");
    import(&fixture);
    let by = |role: &str, sql: &str| server.psql("plant", &format!("SET ROLE {role}; {sql}"));
    assert_eq!(by("grafana", "SELECT count(*) FROM machine_telemetry"), "5");
    assert_eq!(
        by(
            "flask",
            "DELETE FROM machine_telemetry WHERE id = 2; SELECT count(recorded_at) FROM machine_telemetry"
        ),
        "4"
    );
    assert_rollups_are_exact(&server, "deleted by a role without rights on the rollups");
    let denied = "DO $$ BEGIN DELETE FROM machine_telemetry; RAISE EXCEPTION 'allowed'; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$";
    by("grafana", denied);
    let borrowed = "CREATE TEMP TABLE mine (id bigint, machine_id text, recorded_at text); \
        DO $$ BEGIN CREATE TRIGGER t BEFORE DELETE ON mine FOR EACH ROW EXECUTE FUNCTION andon.reference_delete('halle-7'); \
        RAISE EXCEPTION 'allowed'; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$";
    by("grafana", borrowed);
}

#[test]
fn what_an_application_asks_is_answered_by_index_at_a_million_readings() {
    let (server, fixture) = plant(1);
    import(&fixture);
    server.psql(
        "plant",
        &format!(
            "INSERT INTO andon.machine_telemetry (site, machine_id, temperature, source_topic, recorded_at, time_source, received_at, digest) \
             SELECT '{SITE}', 'press-' || i % 100, i % 40, 't', '2026-02-01Z'::timestamptz + i * interval '0.1 s', 'device', now(), i \
             FROM generate_series(1, 1000000) i; ANALYZE andon.machine_telemetry"
        ),
    );
    let newest =
        "FROM machine_telemetry WHERE machine_id = 'press-7' ORDER BY recorded_at DESC, id DESC LIMIT 50";
    let statistics = "SELECT count(*), avg(temperature), min(temperature), max(temperature) FROM machine_telemetry \
        WHERE machine_id = 'press-7' AND recorded_at::timestamptz >= '2026-02-01T10:00:00Z' AND recorded_at::timestamptz < '2026-02-01T20:00:00Z'";
    let deletion = format!(
        "DELETE FROM machine_telemetry WHERE machine_id = 'press-7' AND id NOT IN (SELECT id {newest})"
    );
    let mut raw = fixture.raw();
    for sql in [&format!("SELECT * {newest}"), statistics, &deletion] {
        raw.execute("SET search_path TO DEFAULT");
        let plan = raw.plan(&format!("EXPLAIN {sql}"));
        assert!(
            plan.contains("machine_telemetry_reference") || plan.contains("machine_telemetry_identity"),
            "{plan}"
        );
        assert!(!plan.contains("Seq Scan"), "{plan}");
    }
    let plan = raw.plan(&format!("EXPLAIN (ANALYZE, TIMING OFF) SELECT * {newest}"));
    assert!(plan.contains("Index Scan Backward using machine_telemetry_reference"), "{plan}");
    let read = plan.lines().find(|line| line.contains("Index Scan Backward")).unwrap().to_owned();
    assert!(read.contains("rows=5"), "it reads about as many rows as it returns: {read}");
    let quickest = (0..5).map(|_| {
        let begun = std::time::Instant::now();
        assert_eq!(raw.rows(&["n"], &format!("(SELECT count(*) AS n FROM ({statistics}) s) s")), ["1"]);
        begun.elapsed()
    });
    let quickest = quickest.min().unwrap();
    assert!(
        quickest.as_millis() < 200,
        "statistics over 10,000 readings of a machine in a million took {quickest:?}"
    );
}

#[test]
fn start_up_checks_find_the_view_by_its_name() {
    let (server, fixture) = plant(5);
    import(&fixture);
    server.psql(
        "plant",
        &OLD_TABLE.split(';').next().unwrap().replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"),
    );
    // As SQLAlchemy's `has_table` asks.
    let has_table = "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relname = 'machine_telemetry' AND c.relkind = ANY (ARRAY['r', 'p', 'f', 'v', 'm']) AND pg_table_is_visible(c.oid)";
    assert_eq!(server.psql("plant", has_table), "1");
    let in_schema = "SELECT table_type FROM information_schema.tables WHERE table_name = 'machine_telemetry' AND table_schema = 'public'";
    assert_eq!(server.psql("plant", in_schema), "VIEW");
    assert_eq!(server.psql("plant", "SELECT count(*) FROM machine_telemetry"), "5");
}
