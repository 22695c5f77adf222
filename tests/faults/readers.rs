//! Strikes HTTP: readers that ask for more than the memory allows, and read it slowly or not at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::plant::Plant;
use super::{FaultRun, Report, faults};
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::poll::wait_until;

faults![
    hostile_readers_of_large_readings_cost_little_memory_and_no_message_on_sqlite,
    hostile_readers_of_large_readings_cost_little_memory_and_no_message_on_postgres,
];

const READERS: usize = 64;
const READINGS: usize = 2_000;
/// Size of one reading's `extra`.
const READING_BYTES: usize = 250_000;
/// Answers that the fast readers of each path must get together.
const ANSWERS: u64 = 12;
/// Limit for that. A reader that never reads is cut off after 20 s; then there is room for others.
const WAIT_MAX: Duration = Duration::from_secs(180);
/// Between two requests of a reader: the tests share two cores.
const PAUSE: Duration = Duration::from_millis(50);
const ALL: &str = "/api/v1/machines/giant/readings?limit=10000";

/// The paths. Readers of the first three never read, of the next two read slowly, of the others as fast as they can.
const WANTED: [&str; 8] = [
    ALL,
    "/api/v1/machines/giant/readings?format=csv",
    "/api/v1/stream",
    ALL,
    "/api/v1/machines/giant/readings?format=csv&order=asc",
    ALL,
    "/machines/giant?range=30d",
    "/api/v1/machines",
];

fn hostile_readers_of_large_readings_cost_little_memory_and_no_message_on_sqlite(
    run: &mut FaultRun,
) -> Report {
    read_under_load(Plant::sqlite(run))
}

fn hostile_readers_of_large_readings_cost_little_memory_and_no_message_on_postgres(
    run: &mut FaultRun,
) -> Report {
    read_under_load(Plant::postgres(run))
}

fn read_under_load(mut plant: Plant) -> Report {
    plant.open();
    let client = Client::new(&plant.andon().wait_for_http());
    plant.publish(100);
    plant.wait_until_stored(100);
    store_giants(&plant.url);

    let load = plant.load(2_000);
    let readers = Readers::begin(&client);
    readers.wait_for_pages();
    load.join();
    assert!(readers.refused.load(Ordering::Relaxed) > 0, "the readers asked for no more than the budget");
    for path in ["/livez", "/readyz", "/metrics", "/api/v1/status"] {
        assert_eq!(client.get(path).status, 200, "{path}: small answers need no budget");
    }
    readers.end();
    plant.fault_is_over();
    wait_until("the budget to come back", || {
        client.get("/metrics").body.contains("andon_http_in_flight_bytes 0\n")
    });
    wait_until("the streams to end", || client.get("/metrics").body.contains("andon_http_streams 0\n"));

    assert_eq!(read_all_pages(&client), READINGS, "each reading once");
    let csv = client.get("/api/v1/machines/giant/readings?format=csv").body;
    assert_eq!(csv.split_terminator("\r\n").count(), READINGS + 1);
    // These rows are no messages: the ledger does not count them.
    Database::open(&plant.url).unwrap().execute("DELETE FROM machine_telemetry WHERE machine_id = 'giant'");
    plant.finish()
}

/// Stores large readings of one machine, a second apart.
fn store_giants(url: &str) {
    let mut database = Database::open(url).unwrap();
    let columns = "INSERT INTO machine_telemetry (site, machine_id, temperature, extra, source_topic, recorded_at, time_source, \
        received_at, digest)";
    let blob = READING_BYTES - r#"{"blob": ""}"#.len();
    for from in (0..READINGS).step_by(200) {
        let to = from + 199;
        let sql = match database {
            Database::Sqlite(_) => format!(
                "WITH RECURSIVE n (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to}) \
                 {columns} SELECT 'test', 'giant', i, '{{\"blob\": \"' || replace(hex(zeroblob({blob} / 2)), '0', 'x') || '\"}}', 't', \
                 strftime('%Y-%m-%d %H:%M:%S.000000+00:00', 1772323200 + i, 'unixepoch'), 'device', \
                 '2026-01-01 00:00:00.000000+00:00', i FROM n"
            ),
            Database::Postgres(_) => format!(
                "{columns} SELECT 'test', 'giant', i, jsonb_build_object('blob', repeat('x', {blob})), 't', \
                 to_timestamp(1772323200 + i), 'device', now(), i FROM generate_series({from}, {to}) i"
            ),
        };
        database.execute(&sql);
    }
}

/// Follows `next` to the end, and checks the size of every page.
fn read_all_pages(client: &Client) -> usize {
    let (mut readings, mut cursor) = (0, String::new());
    loop {
        let answer = client.get(&format!("{ALL}{cursor}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.len() <= 4 * 1024 * 1024, "{} bytes", answer.body.len());
        let rows = answer.body.matches("\"recorded_at\":").count();
        assert!(answer.body.len() > rows * READING_BYTES, "a reading is incomplete");
        readings += rows;
        let (_, next) = answer.body.rsplit_once("\"next\":").unwrap();
        let Some((next, _)) = next.strip_prefix('"').and_then(|next| next.split_once('"')) else {
            return readings;
        };
        cursor = format!("&cursor={next}");
    }
}

/// All readers, at the same time.
struct Readers {
    over: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    /// Complete answers, by path.
    read: Arc<[AtomicU64; WANTED.len()]>,
    threads: Vec<JoinHandle<()>>,
    /// Connections that are never read.
    _idle: Vec<TcpStream>,
}

impl Readers {
    fn begin(client: &Client) -> Self {
        let (over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let read = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let mut readers = Self { over, refused, read, threads: Vec::new(), _idle: Vec::new() };
        for number in 0..READERS {
            let kind = number % WANTED.len();
            match kind {
                0..3 => readers._idle.push(ask(client, WANTED[kind])),
                3..5 => {
                    let (client, over) = (client.clone(), Arc::clone(&readers.over));
                    readers
                        .threads
                        .push(std::thread::spawn(move || read_slowly(&client, WANTED[kind], &over)));
                }
                _ => {
                    let read = Arc::clone(&readers.read);
                    let (client, over) = (client.clone(), Arc::clone(&readers.over));
                    let refused = Arc::clone(&readers.refused);
                    readers.threads.push(std::thread::spawn(move || {
                        while !over.load(Ordering::Relaxed) {
                            let answer = client.get(WANTED[kind]);
                            let counter = match answer.status {
                                200 => &read[kind],
                                503 if answer.header("retry-after").is_some() => &refused,
                                other => panic!("{other}: {}", answer.body),
                            };
                            counter.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(PAUSE);
                        }
                    }));
                }
            }
        }
        readers
    }

    fn wait_for_pages(&self) {
        let deadline = Instant::now() + WAIT_MAX;
        while !self.read[5..].iter().all(|read| read.load(Ordering::Relaxed) >= ANSWERS) {
            assert!(Instant::now() < deadline, "not enough was answered: {:?}", self.read);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .for_each(|thread| thread.join().expect("a reader fails only for what it reads"));
    }
}

fn ask(client: &Client, path: &str) -> TcpStream {
    let mut connection = client.open();
    let head = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).unwrap();
    connection
}

/// Reads a few kilobytes at a time with pauses, request after request.
fn read_slowly(client: &Client, path: &str, over: &AtomicBool) {
    let mut buffer = vec![0; 16 * 1024];
    while !over.load(Ordering::Relaxed) {
        let mut connection = ask(client, path);
        while !over.load(Ordering::Relaxed) && connection.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(PAUSE);
    }
}
