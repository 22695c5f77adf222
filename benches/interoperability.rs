//! `make test-brokers`: Andon with every broker that Debian and the language registries have, as a table.
//!
//! Each broker is started here, on free ports of loopback and in a directory of its own, and stopped at the end. One that is
//! not installed is left out and said so. No measurement; it stands here because `make test` does not run what stands here.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

mod brokers;

// For what `build.rs` has the linker put in the place of some C functions.
use andon as _;

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use brokers::Broker;
use support::andon::{Andon, Site};
use support::database::{Database, rows_stored};
use support::publisher::{Single, publish_numbered_with};

/// How long anything may take before it counts as "no".
const PATIENCE: Duration = Duration::from_secs(30);
const MESSAGES: u64 = 5_000;
const KILLS: u64 = 4;

fn main() -> ExitCode {
    // `cargo test --bench` passes nothing of ours on; a filter by name is all there is.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut failed = false;
    let mut table = vec![
        "| broker | connect | subscribe | QoS 0 | QoS 1 | QoS 2 | session over our restart | retained | last will | 5,000 exactly once over kill -9 |".to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for start in brokers::ALL {
        let broker = match start() {
            Ok(broker) => broker,
            Err(why) => {
                println!("left out: {why}");
                continue;
            }
        };
        if !wanted.is_empty() && !wanted.iter().any(|name| broker.name.to_lowercase().contains(name)) {
            continue;
        }
        println!("{} on port {}", broker.name, broker.port());
        let cells = Trial { broker: &broker, number: Cell::new(0) }.run();
        failed |= [&cells[0], &cells[1], &cells[3], &cells[8]].iter().any(|cell| cell.starts_with("no"));
        table.push(format!("| {} | {} |", broker.name, cells.join(" | ")));
        if cells.iter().any(|cell| cell.starts_with("no")) {
            println!("--- what {} says last ---\n{}", broker.name, broker.log_tail());
        }
    }
    println!("\n{}", table.join("\n"));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// True as soon as `probe` is, false if it never is.
fn comes_true(mut probe: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if probe() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// What fills a cell of the table.
type CellOf<T> = fn(&T) -> String;

struct Trial<'a> {
    broker: &'a Broker,
    /// Each cell has topics, a client id and a prefix of its own: none sees what another has left behind.
    number: Cell<u32>,
}

impl Trial<'_> {
    fn run(&self) -> Vec<String> {
        let connected = self.connect();
        let rest: [(&str, CellOf<Self>); 7] = [
            ("QoS 0", |trial| trial.qos(0)),
            ("QoS 1", |trial| trial.qos(1)),
            ("QoS 2", |trial| trial.qos(2)),
            ("session", Self::session),
            ("retained", Self::retained),
            ("last will", Self::last_will),
            ("exactly once", Self::exactly_once),
        ];
        let mut cells = connected;
        for (name, cell) in rest {
            let result = cell(self);
            println!("  {name}: {result}");
            cells.push(result);
        }
        cells
    }

    fn site(&self) -> (Site, String) {
        self.number.set(self.number.get() + 1);
        let number = self.number.get();
        let site = Site::new(self.broker.port())
            // Some brokers leave MQTT 5 without an answer.
            .set("mqtt.connect_timeout=2s")
            .set(&format!("mqtt.client_id=andoncell{number}"))
            .set(&format!("mqtt.subscriptions=cell{number}/machine/+/telemetry"))
            .set(&format!("liveness.publish_prefix=status{number}"));
        (site, format!("cell{number}/machine/{{machine}}/telemetry"))
    }

    fn publisher(&self) -> Single {
        Single::connect_as(self.broker.port(), self.broker.speaks_v5)
    }

    fn up(andon: &Andon) -> bool {
        comes_true(|| andon.log().contains("connected to the broker"))
    }

    fn connect(&self) -> Vec<String> {
        let (site, _) = self.site();
        let andon = site.run();
        let up = Self::up(&andon);
        let log = andon.log();
        let version = if log.contains("protocol: 5") { "MQTT 5" } else { "3.1.1" };
        let complaint = log.lines().find(|line| line.contains("WARN")).unwrap_or_default();
        let reason = complaint.split("reason: ").nth(1).unwrap_or_default();
        let subscribed = if up { "yes".to_owned() } else { format!("no: {reason}") };
        let connected = if up || log.contains("a subscription was refused") {
            format!("yes, {version}")
        } else {
            format!("no: {reason}")
        };
        println!("  connect: {connected}; subscribe: {subscribed}");
        vec![connected, subscribed]
    }

    fn qos(&self, qos: i32) -> String {
        let (site, topic) = self.site();
        let site = site.set(&format!("mqtt.qos={qos}"));
        let andon = site.run();
        if !Self::up(&andon) {
            return "no".to_owned();
        }
        // What a broker refuses of a publisher is not Andon's: then it is published with QoS 1, and received as granted.
        let publish_qos = qos.min(self.broker.publish_qos_max);
        publish_numbered_with(&mut self.publisher(), &topic, 3, 0..50, publish_qos);
        let stored = comes_true(|| rows_stored(&site.sqlite_url()) == 50);
        let granted = andon.log().lines().find_map(|line| {
            let (_, granted) = line.split_once("granted: ")?;
            line.contains("a lower QoS").then(|| granted.to_owned())
        });
        match (stored, granted) {
            (false, _) => format!("no: {} of 50", rows_stored(&site.sqlite_url())),
            (true, Some(granted)) => format!("as {granted}"),
            (true, None) => "yes".to_owned(),
        }
    }

    fn session(&self) -> String {
        let (site, topic) = self.site();
        let andon = site.run();
        if !Self::up(&andon) {
            return "no".to_owned();
        }
        andon.stop();
        publish_numbered_with(&mut self.publisher(), &topic, 3, 0..500, 1);
        let andon = site.run();
        let stored = comes_true(|| rows_stored(&site.sqlite_url()) == 500);
        let present = comes_true(|| andon.log().contains("session_present: true"));
        match (stored, present) {
            (true, true) => "yes".to_owned(),
            (true, false) => "yes, without saying so".to_owned(),
            (false, _) => format!("no: {} of 500", rows_stored(&site.sqlite_url())),
        }
    }

    fn retained(&self) -> String {
        let (site, topic) = self.site();
        let topic = topic.replace("{machine}", "press-1");
        let mut command = self.client("mosquitto_pub", &topic);
        let published = command.args(["-r", "-q", "1", "-m", r#"{"temperature":1}"#]).status().unwrap();
        if !published.success() {
            return "no: the broker refuses it".to_owned();
        }
        let andon = site.run();
        let stored = Self::up(&andon) && comes_true(|| rows_stored(&site.sqlite_url()) == 1);
        if stored { "yes".to_owned() } else { "no".to_owned() }
    }

    fn client(&self, program: &str, topic: &str) -> Command {
        let mut command = Command::new(program);
        let version = if self.broker.speaks_v5 { "5" } else { "mqttv311" };
        command.args(["-h", "127.0.0.1", "-p", &self.broker.port().to_string(), "-V", version, "-t", topic]);
        command.stdin(Stdio::null());
        command
    }

    fn last_will(&self) -> String {
        let (site, _) = self.site();
        let topic = format!("status{}/test/status", self.number.get());
        let mut listener = self
            .client("mosquitto_sub", &topic)
            .args(["-F", "%t %p", "-W", "40"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(listener.stdout.take().unwrap()).lines().map_while(Result::ok);
        // amqtt hands out a retained message of a topic that was not asked for.
        let mut words = lines.filter_map(|line| line.strip_prefix(&format!("{topic} ")).map(str::to_owned));
        let mut heard = Vec::new();
        let andon = site.run();
        let up = Self::up(&andon);
        heard.extend(words.next());
        andon.kill();
        heard.extend(words.next());
        let _ended = listener.kill();
        let _reaped = listener.wait();
        match heard.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["online", "offline"] if up => "yes".to_owned(),
            other => format!("no: heard {other:?}"),
        }
    }

    fn exactly_once(&self) -> String {
        let (site, topic) = self.site();
        let url = site.sqlite_url();
        let mut andon = site.run();
        if !Self::up(&andon) {
            return "no".to_owned();
        }
        let (port, v5) = (self.broker.port(), self.broker.speaks_v5);
        let publishing = std::thread::spawn(move || {
            let mut publisher = Single::connect_as(port, v5);
            for start in (0..MESSAGES).step_by(250) {
                publish_numbered_with(&mut publisher, &topic, 20, start..start + 250, 1);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        for kill in 1..=KILLS {
            let due = i64::try_from(MESSAGES / (KILLS + 1) * kill).unwrap();
            comes_true(|| rows_stored(&url) >= due);
            andon.kill();
            andon = site.run();
        }
        publishing.join().unwrap();
        let expected = i64::try_from(MESSAGES).unwrap();
        comes_true(|| rows_stored(&url) >= expected);
        // Whatever is delivered again comes before what is new: this one is the last.
        assert!(Self::up(&andon));
        andon.stop();
        let mut database = Database::open(&url).unwrap();
        let distinct = database.number("SELECT count(DISTINCT digest) AS value FROM machine_telemetry");
        let again = database.number("SELECT duplicate AS value FROM ingest_checkpoint");
        match (rows_stored(&url), distinct) {
            (rows, distinct) if rows == expected && distinct == expected => {
                format!("yes ({again} delivered again)")
            }
            (rows, distinct) => format!("no: {rows} rows, {distinct} different"),
        }
    }
}
