//! Taking over from the reference Python worker: the real process beside a PostgreSQL with that worker's table.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;

const OLD_TABLE: &str = "CREATE TABLE machine_telemetry (
    id SERIAL PRIMARY KEY, machine_id VARCHAR(100) NOT NULL, temperature DOUBLE PRECISION, humidity DOUBLE PRECISION,
    vibration DOUBLE PRECISION, source_topic TEXT, recorded_at TEXT NOT NULL, created_at TEXT NOT NULL)";

/// A server with the worker's table and `rows` rows: 50 machines, a second apart.
fn plant(rows: u32) -> Postgres {
    let server = Postgres::start();
    server.create_database("plant");
    server.psql("plant", OLD_TABLE);
    server.psql(
        "plant",
        &format!(
            "INSERT INTO machine_telemetry (machine_id, temperature, humidity, vibration, source_topic, recorded_at, created_at) \
             SELECT 'press-' || i % 50, i % 40, i % 7, 0.25, 'factory/machine/press-' || i % 50 || '/telemetry', \
                 to_char(timestamp '2026-01-05 06:00:00' + i * interval '1 s', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"'), \
                 to_char(timestamp '2026-01-05 06:00:01' + i * interval '1 s', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"') \
             FROM generate_series(1, {rows}) i; ANALYZE machine_telemetry"
        ),
    );
    server
}

/// A site configured by that worker's own variables alone.
fn site(broker_port: u16, server: &Postgres) -> Site {
    Site::new(broker_port)
        .without("store.url")
        .without("mqtt.port")
        .without("mqtt.host")
        .environment("MQTT_BROKER_HOST", "127.0.0.1")
        .environment("MQTT_BROKER_PORT", &broker_port.to_string())
        .environment("MQTT_TOPIC", "factory/machine/+/telemetry")
        .environment("MACHINE_OFFLINE_AFTER_SECONDS", "15")
        .environment("RUN_MQTT_WORKER", "true")
        .environment("DATABASE_URL", &server.tcp_url("plant").replace("postgres://", "postgresql+psycopg://"))
}

fn run(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    ended(site.command(arguments).output().unwrap())
}

fn ended(output: Output) -> (Option<i32>, String) {
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

#[test]
fn the_table_of_the_reference_worker_is_recognised_and_never_migrated_over() {
    let (broker, server) = (Mosquitto::start(""), plant(3));
    let site = site(broker.port(), &server);
    for (arguments, code) in [
        (vec!["config", "check", "--connect"], 1),
        (vec!["db", "status"], 1),
        (vec!["db", "migrate"], 1),
        (vec!["db", "import"], 2),
    ] {
        let (found, text) = run(&site, &arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {text}");
        assert!(text.contains("andon db import") || text.contains("store.schema"), "{arguments:?}: {text}");
        assert!(text.contains("store.schema"), "{arguments:?}: {text}");
    }
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("public.machine_telemetry is the table of the reference worker");
    let client = Client::new(&andon.wait_for_http());
    assert_eq!(client.get("/readyz").status, 503, "though nothing is pending");
    Single::connect(broker.port()).publish("factory/machine/press-1/telemetry", b"{\"temperature\":7}", 1);
    wait_until("the message in the journal", || client.json("/api/v1/status")["ledger"]["journaled"] == 1);
    let health = client.get("/readyz");
    assert_eq!((health.status, client.get("/livez").status), (503, 200));
    assert!(health.body.contains("andon db import"), "{}", health.body);
    assert_eq!(
        andon.log().matches("the database does not accept the data").count(),
        1,
        "said once:\n{}",
        andon.log()
    );
    assert!(andon.stop().code().is_some());
    assert_eq!(server.psql("plant", "SELECT count(*) FROM machine_telemetry"), "3");
    assert_eq!(
        server.psql("plant", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
        "1",
        "nothing was made"
    );

    // With a schema of its own the same journal is stored, and the way is named still.
    let site = site.environment("ANDON__STORE__SCHEMA", "andon");
    let mut andon = site.run();
    andon.wait_for_log("the table of the reference worker is still there");
    wait_until("the message in the table", || {
        server.psql("plant", "SELECT count(*) FROM andon.machine_telemetry") == "1"
    });
    wait_until("readiness", || Client::new(&andon.wait_for_http()).get("/readyz").status == 200);
    for arguments in [vec!["config", "check", "--connect"], vec!["db", "status"]] {
        let (code, text) = run(&site, &arguments);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("andon db import"), "{arguments:?}: {text}");
    }
    assert!(andon.stop().success());
}

/// The import is killed twice, the service runs beside it, and the application reads and counts all the while.
/// Proves IMP-1, IMP-2.
#[test]
fn a_hundred_thousand_rows_are_taken_over_under_kill_9_while_the_application_reads_on() {
    const ROWS: u32 = 100_000;
    let (broker, server) = (Mosquitto::start(""), plant(ROWS));
    server.psql(
        "plant",
        "UPDATE machine_telemetry SET recorded_at = 'gestern' WHERE id = 70000; \
                          UPDATE machine_telemetry SET machine_id = ' ' WHERE id = 70001",
    );
    let site = site(broker.port(), &server).environment("ANDON__STORE__SCHEMA", "andon");
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("database open");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let application = scope.spawn(|| application(&server, ROWS, &is_over));
        for killed_after in [1, 40_000] {
            let mut import = site.command(&["db", "import"]).spawn().unwrap();
            let read = "SELECT coalesce((SELECT rows_read FROM andon.reference_import), 0)";
            wait_until("some rows", || {
                let begun = !server.psql("plant", "SELECT to_regclass('andon.reference_import')").is_empty();
                begun && server.psql("plant", read).parse::<u32>().unwrap() >= killed_after
            });
            import.kill().unwrap();
            assert!(import.wait().unwrap().code().is_none(), "it was killed while it worked");
        }
        let begun = Instant::now();
        let (code, text) = run(&site, &["db", "import"]);
        assert_eq!(code, Some(0), "{text}");
        eprintln!("the rest was imported in {:?}", begun.elapsed());
        assert!(text.contains("100000 rows: 99998 stored, 2 unreadable"), "{text}");
        assert!(text.contains("id 70000: recorded_at is \"gestern\", which is no time"), "{text}");
        assert!(text.contains("id 70001: it has no machine_id"), "{text}");
        assert!(text.contains("public.machine_telemetry_before_andon"), "{text}");
        is_over.store(true, Ordering::Relaxed);
        assert!(application.join().unwrap() > 10, "it asked all the while");
    });
    Single::connect(broker.port()).publish("factory/machine/press-1/telemetry", b"{\"temperature\":7}", 1);
    wait_until("the new reading", || {
        server.psql("plant", "SELECT count(*) FROM machine_telemetry") == "99999"
    });
    let newest = "SELECT temperature, id > 100000, recorded_at ~ '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{6}\\+00:00$' \
        FROM machine_telemetry WHERE machine_id = 'press-1' ORDER BY recorded_at DESC, id DESC LIMIT 1";
    assert_eq!(server.psql("plant", newest), "7|t|t");
    let (code, text) = run(&site, &["db", "import"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("was imported before") && text.contains("99998 stored"), "{text}");
    // Rollups answer for old rows, too.
    let day = Client::new(&andon.wait_for_http()).json(
        "/api/v1/machines/press-1/readings?from=2026-01-05T06:00:00Z&to=2026-01-07T06:00:00Z&bucket=1h",
    );
    let counts = day["buckets"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 1_999, "{day:#}");
    assert!(andon.stop().success());
}

/// Reads as a web application does, until the import is over; returns how often.
fn application(server: &Postgres, rows: u32, is_over: &AtomicBool) -> u32 {
    let url = server.tcp_url("plant");
    let mut database = Database::open(&url).unwrap();
    let mut asked = 0;
    let mut slowest = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let count = database.number("SELECT count(*) AS value FROM machine_telemetry");
        assert!(count == i64::from(rows) || count == i64::from(rows) - 2, "{count} rows");
        let newest = database.words(
            "SELECT recorded_at AS value FROM machine_telemetry WHERE machine_id = 'press-7' ORDER BY recorded_at DESC, id DESC LIMIT 3",
        );
        assert_eq!(newest.len(), 3);
        assert_eq!(newest[0].as_deref(), Some("2026-01-06T09:45:57.000000+00:00"));
        slowest = slowest.max(begun.elapsed());
        asked += 1;
    }
    eprintln!("the application asked {asked} times; its slowest page took {slowest:?}");
    asked
}
