//! One client asks for everything at once: idle connections, live streams and history without end. The others, the health
//! checks and the pipeline notice nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::andon::Site;
use crate::support::database::rows_stored;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::{numbered, publish_each, publish_numbered, publish_windows};

const TOPIC: &str = "factory/machine/{machine}/telemetry";
const MACHINES: u32 = 5;
/// Readings before the attack: enough for pages of 10,000.
const READINGS: i64 = 50_000;
/// Machines that have said one thing each: a long list.
const FLEET: i64 = 5_000;
const IDLE: usize = 1_500;
const STREAMS: usize = 64;
const LOOPS: usize = 80;
/// What each loop asks, in turn: of the history, and then what the board asks, which it can ask, too.
const QUESTIONS: [&str; 7] = [
    "/api/v1/machines/press-001/readings?limit=10000",
    "/api/v1/machines",
    "/api/v1/events?limit=1000",
    "/api/v1/machines/press-002/readings?bucket=1s&from=2026-01-01&to=2026-01-01T00:10:00Z",
    "/api/v1/machines/press-003/readings?format=csv",
    "/board/machines",
    "/machines/press-004?range=30d",
];
/// How many of them are of the history.
const OF_THE_HISTORY: usize = 5;
/// What a browser asks before it shows the board, and then the page of one machine.
const BOARD: [&str; 5] = [
    "/",
    "/board/machines?limit=1000",
    "/api/v1/status",
    "/board/events?limit=30",
    "/board/trends?machine_id=press-001&machine_id=press-002",
];
const MACHINE_PAGE: &str = "/machines/press-001?range=30d";
/// The load: a window each tenth of a second.
const WINDOW: usize = 50;
const WINDOW_EACH: Duration = Duration::from_millis(100);
const LOAD: i64 = 5_000;

/// Proves HTTP-6.
#[test]
fn one_client_that_takes_all_it_can_get_delays_neither_board_nor_health_nor_ingest() {
    let attack = Strategy { questions: &QUESTIONS, opens_again: true };
    attack_is_not_noticed(attack, |attacker| attacker.at(2));
}

/// Proves HTTP-6.
#[test]
fn loops_over_the_history_do_not_delay_the_board_at_their_own_address() {
    let attack = Strategy { questions: &QUESTIONS[..OF_THE_HISTORY], opens_again: false };
    attack_is_not_noticed(attack, Client::clone);
}

/// How the client attacks, beside streams.
#[derive(Clone, Copy)]
struct Strategy {
    questions: &'static [&'static str],
    /// Whether it opens each idle connection again that the server closes.
    opens_again: bool,
}

/// Has one client do all it can, and judges what `browser`, health and ingest notice.
fn attack_is_not_noticed(strategy: Strategy, browser: fn(&Client) -> Client) {
    allow_many_files();
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let socket = site.path().join("health.sock");
    let site = site.set(&format!("http.health_bind=unix:{}", socket.display()));
    let mut andon = site.run();
    andon.wait_until_connected();
    let client = Client::new(&andon.wait_for_http());
    publish_numbered(broker.port(), TOPIC, MACHINES, 0..READINGS.unsigned_abs(), 1);
    let one_of_the_fleet =
        |number| (format!("factory/machine/cell-{number}/telemetry"), r#"{"temperature":21.5}"#);
    publish_each(broker.port(), 0..FLEET.unsigned_abs(), 1, one_of_the_fleet);
    let mut sent = READINGS + FLEET;
    wait_until("the readings", || rows_stored(&site.sqlite_url()) == sent);

    let mut measured_load = || {
        let load = Load::start(broker.port(), sent);
        sent += LOAD;
        load
    };
    let calm = measured_load().stored(&site.sqlite_url());
    let attack = Attack::begin(&client, strategy);
    attack.wait_until_it_hurts();
    let load = measured_load();
    let mut seen = Seen::default();
    while !load.is_published() || seen.boards.len() < 10 {
        seen.look(&browser(&client), &socket);
    }
    let under_attack = load.stored(&site.sqlite_url());
    let answers = attack.end();

    eprintln!(
        "answers {answers}, calm {calm:?}, under attack {under_attack:?}, boards {}",
        seen.boards.len()
    );
    seen.judge();
    assert!(answers > 20, "{answers} answers: the loops are slowed down, not shut out");
    assert!(
        under_attack < calm * 2 + Duration::from_secs(5),
        "ingest: {under_attack:?} after {calm:?} without"
    );
    assert_eq!(rows_stored(&site.sqlite_url()), sent, "every message is stored once");
    wait_until("the budget to come back", || {
        client.get("/metrics").body.contains("andon_http_in_flight_bytes 0\n")
    });
    assert!(andon.stop().success());
}

/// How long others waited during the attack.
#[derive(Default)]
struct Seen {
    boards: Vec<Duration>,
    pages: Vec<Duration>,
    healths: Vec<Duration>,
}

impl Seen {
    fn look(&mut self, browser: &Client, socket: &Path) {
        self.healths.push(timed(|| assert_eq!(status_of("/livez", socket), 200)));
        self.boards.push(timed(|| {
            for path in BOARD {
                assert_eq!(browser.get(path).status, 200, "{path}");
            }
        }));
        self.healths.push(timed(|| assert_eq!(status_of("/livez", socket), 200)));
        self.pages.push(timed(|| assert_eq!(browser.get(MACHINE_PAGE).status, 200)));
    }

    /// The bounds are those of issue 15. Other programs of this computer may delay single answers.
    fn judge(mut self) {
        let health = usual(&mut self.healths);
        assert!(health < Duration::from_millis(100), "health: {health:?} of {:?}", self.healths);
        let board = usual(&mut self.boards);
        assert!(board < Duration::from_secs(1), "board: {board:?} of {:?}", self.boards);
        let page = usual(&mut self.pages);
        assert!(page < Duration::from_secs(2), "page: {page:?} of {:?}", self.pages);
        eprintln!("health {health:?}, board {board:?}, page {page:?}");
    }
}

/// Returns the time that half of them do not exceed.
fn usual(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn timed(act: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    act();
    begun.elapsed()
}

/// Returns the status of a request to a Unix socket.
fn status_of(path: &str, socket: &Path) -> u16 {
    let mut connection = UnixStream::connect(socket).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap()
}

/// Allows this process, and what it starts, as many open files as the system lets it have.
fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(allowed > 2 * IDLE as u64, "this test needs {} open files, and may have {allowed}", 2 * IDLE);
}

/// Messages at a steady rate.
struct Load {
    begun: Instant,
    expected: i64,
    thread: JoinHandle<()>,
}

impl Load {
    fn start(port: u16, from: i64) -> Self {
        let begun = Instant::now();
        let thread = std::thread::spawn(move || {
            let message = |number| numbered(TOPIC, MACHINES, number);
            let mut next = begun;
            let numbers = from.unsigned_abs()..(from + LOAD).unsigned_abs();
            publish_windows(port, numbers, 1, WINDOW, message, |_last| {
                next += WINDOW_EACH;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            });
        });
        Self { begun, expected: from + LOAD, thread }
    }

    fn is_published(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until all is stored, and returns how long that took from the first message.
    fn stored(self, url: &str) -> Duration {
        self.thread.join().unwrap();
        wait_until("the load", || rows_stored(url) == self.expected);
        self.begun.elapsed()
    }
}

/// One client that takes what it can get.
struct Attack {
    ends: Arc<AtomicBool>,
    /// Answers that the loops got.
    answers: Arc<AtomicU64>,
    /// Connections that idle, and streams that flow, at last sight.
    idle: Arc<AtomicU64>,
    streaming: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    fn begin(client: &Client, Strategy { questions, opens_again }: Strategy) -> Self {
        let mut attack = Self {
            ends: Arc::default(),
            answers: Arc::default(),
            idle: Arc::default(),
            streaming: Arc::default(),
            threads: Vec::new(),
        };
        let (address, ends) = (client.address().to_owned(), Arc::clone(&attack.ends));
        let idle = Arc::clone(&attack.idle);
        attack.threads.push(std::thread::spawn(move || idle_for_ever(&address, opens_again, &idle, &ends)));
        for _ in 0..STREAMS {
            let streaming = Arc::clone(&attack.streaming);
            attack.spawn(client, move |address, ends| read_stream(address, &streaming, ends));
        }
        for number in 0..LOOPS {
            let answers = Arc::clone(&attack.answers);
            attack.spawn(client, move |address, ends| ask(address, questions, number, &answers, ends));
        }
        attack
    }

    fn spawn(&mut self, client: &Client, act: impl Fn(&str, &AtomicBool) + Send + 'static) {
        let (address, ends) = (client.address().to_owned(), Arc::clone(&self.ends));
        let act = move || {
            while !ends.load(Ordering::Relaxed) {
                act(&address, &ends);
                // A client that is refused comes again, but does not spin.
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        self.threads.push(std::thread::spawn(act));
    }

    fn wait_until_it_hurts(&self) {
        wait_until("the idle connections", || self.idle.load(Ordering::Relaxed) >= IDLE as u64);
        wait_until("streams", || self.streaming.load(Ordering::Relaxed) > 0);
        wait_until("answers", || self.answers.load(Ordering::Relaxed) > 0);
    }

    /// Ends it, and returns how many answers it got.
    fn end(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.answers.load(Ordering::Relaxed)
    }
}

/// Opens connections that send nothing, and opens each again that the server closes if it `opens_again`.
fn idle_for_ever(address: &str, opens_again: bool, opened: &AtomicU64, ends: &AtomicBool) {
    let mut connections: Vec<TcpStream> = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        if opens_again {
            connections.retain(is_open);
        }
        // In portions, so that the attack does not end in the client's own loop.
        for _ in connections.len()..IDLE.min(connections.len() + 100) {
            let Ok(connection) = TcpStream::connect(address) else { break };
            if connection.set_nonblocking(true).is_ok() {
                connections.push(connection);
                opened.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_open(connection: &TcpStream) -> bool {
    matches!(connection.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Reads a stream until it ends.
fn read_stream(address: &str, streaming: &AtomicU64, ends: &AtomicBool) {
    let Some(mut connection) = request(address, "/api/v1/stream") else { return };
    let mut buffer = [0; 16 * 1024];
    let mut is_counted = false;
    while !ends.load(Ordering::Relaxed) {
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(bytes) if !is_counted && buffer[..bytes].starts_with(b"HTTP/1.1 200") => {
                streaming.fetch_add(1, Ordering::Relaxed);
                is_counted = true;
            }
            Ok(_) => {}
        }
    }
}

/// Asks one question after the other, each on a connection of its own.
fn ask(address: &str, questions: &[&str], number: usize, answers: &AtomicU64, ends: &AtomicBool) {
    for question in questions.iter().cycle().skip(number % questions.len()) {
        if ends.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut connection) = request(address, question) else { return };
        let mut answer = Vec::new();
        if connection.read_to_end(&mut answer).is_err() || !answer.starts_with(b"HTTP/1.1 200") {
            return;
        }
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

fn request(address: &str, path: &str) -> Option<TcpStream> {
    let mut connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(12))).ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).ok()?;
    Some(connection)
}
