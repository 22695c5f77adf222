//! Who is measured: `mosquitto_sub`, which stores nothing, and Andon into both databases.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::measure::{Cost, cpu_of, cpu_of_children, peak_rss};
use super::support::andon::{Andon, Site};
use super::support::database::Database;
use super::support::poll::wait_for;
use super::support::postgres::Postgres;

pub const NAMES: &[&str] = &["mosquitto_sub", "SQLite", "PostgreSQL", "SQLite, background"];
const TOPIC: &str = "factory/machine/+/telemetry";

const COMMITTED: &str =
    "SELECT CAST(coalesce(sum(stored + duplicate), 0) AS bigint) AS value FROM ingest_checkpoint";

/// Andon into a database of its own.
pub struct Target<'a> {
    site: Site,
    url: String,
    postgres: Option<&'a Postgres>,
}

impl<'a> Target<'a> {
    /// Returns one for each name but the first. `label` tells databases and clients of one run apart.
    pub fn all(port: u16, label: &str, qos: i32, postgres: &'a Postgres) -> [Self; 3] {
        let site = |name: &str| {
            let site = Site::new(port).set("log.level=info").set(&format!("mqtt.qos={qos}"));
            site.set(&format!("mqtt.client_id={name}-{label}"))
        };
        let sqlite = |site: Site| Self { url: site.sqlite_url(), site, postgres: None };
        let url = postgres.create_database(label);
        [
            sqlite(site("sqlite")),
            Self { site: site("pg").set(&format!("store.url={url}")), url, postgres: Some(postgres) },
            sqlite(site("background").set("journal.sync=background")),
        ]
    }

    /// Has the broker make its session.
    pub fn subscribe(&self) {
        let mut andon = self.site.run();
        andon.wait_until_connected();
        assert!(andon.stop().success());
    }

    pub fn start(&self) -> Andon {
        self.site.run()
    }

    /// Appends to its configuration file.
    pub fn configure(self, toml: &str) -> Self {
        Self { site: self.site.configure(toml), ..self }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the size of the readings with their indexes, for each row.
    pub fn bytes_per_row(&self) -> f64 {
        let mut database = Database::open(&self.url).unwrap();
        let size = if self.postgres.is_some() {
            "SELECT pg_total_relation_size('machine_telemetry') AS value"
        } else {
            "SELECT page_count * page_size AS value FROM pragma_page_count(), pragma_page_size()"
        };
        let rows = database.number("SELECT count(*) AS value FROM machine_telemetry");
        database.number(size) as f64 / rows as f64
    }

    pub fn database_cpu(&self) -> f64 {
        self.postgres.map_or(0.0, |postgres| cpu_of_children(postgres.pid()))
    }

    /// Returns how many messages it has counted.
    pub fn counted(&self) -> u64 {
        let counted = Database::open(&self.url).and_then(|mut database| database.try_number(COMMITTED));
        counted.unwrap_or(0).try_into().unwrap()
    }

    /// Waits until `messages` are rows, ends `andon`, and returns what it cost since `begun`.
    pub fn stored(&self, andon: Andon, messages: u64, begun: Instant, database_before: f64) -> Cost {
        let mut database = wait_for("the database", || Database::open(&self.url));
        let all = i64::try_from(messages).unwrap();
        while database.try_number(COMMITTED).unwrap_or(0) < all {
            assert!(begun.elapsed() < Duration::from_secs(300), "not all are stored:\n{}", andon.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        let seconds = begun.elapsed().as_secs_f64();
        let (own_cpu, peak_rss_mib) = (cpu_of(andon.pid()), peak_rss(andon.pid()));
        let of_bench = "SELECT count(*) AS value FROM machine_telemetry WHERE recorded_at >= '2026-01-01'";
        assert_eq!(database.number(of_bench), all);
        drop(database);
        let database_cpu = self.database_cpu() - database_before;
        assert!(andon.stop().success());
        Cost { seconds, own_cpu, database_cpu, peak_rss_mib }
    }
}

/// Has the broker make a session for `mosquitto_sub`.
pub fn subscribe_plain(port: u16) {
    let status = plain(port, 1).arg("-E").status().unwrap();
    assert!(status.success(), "mosquitto_sub could not subscribe");
}

/// Starts `mosquitto_sub`; it ends after `messages`.
pub fn start_plain(port: u16, qos: i32, messages: u64) -> Child {
    plain(port, qos).args(["-C", &messages.to_string()]).stdout(Stdio::null()).spawn().unwrap()
}

fn plain(port: u16, qos: i32) -> Command {
    let mut command = Command::new("mosquitto_sub");
    command.args(["-p", &port.to_string(), "-i", "plain", "-c", "-q", &qos.to_string(), "-t", TOPIC]);
    command
}
