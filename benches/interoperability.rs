//! `make test-brokers`: runs Andon against every broker that Debian and the language registries offer, and prints a table.
//!
//! Starts each broker on free loopback ports in a directory of its own, and stops it at the end. Leaves out a broker that is not
//! installed, and prints why. Exits with 1 if a cell that every plant needs is "no", unless the broker loses the messages itself
//! and the trial has proved it ([`Trial::redelivers_in_flight`]). Measures nothing: it is a bench so that `make test` skips it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

mod brokers;

// `build.rs` makes the linker replace some C functions by functions of this crate.
use andon as _;

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use brokers::Broker;
use support::andon::{Andon, Site};
use support::database::{Database, rows_stored};
use support::publisher::{Single, publish_numbered_with};

/// A cell that takes longer counts as "no".
const WAIT_MAX: Duration = Duration::from_secs(30);
const MESSAGES: u64 = 5_000;
const KILLS: u64 = 4;
/// Messages that wait for an acknowledgement when the probe's subscriber is killed.
const IN_FLIGHT: usize = 20;
/// How a cell begins whose messages the broker lost with any subscriber. It does not fail the run.
const BROKER_LOSES: &str = "no, the broker loses them";

fn main() -> ExitCode {
    // `cargo test --bench` passes flags of its own; the rest are parts of broker names.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut failed = false;
    let mut table = vec![
        "| broker | connect | subscribe | QoS 0 | QoS 1 | QoS 2 | session kept over Andon's restart | retained | last will | 5,000 exactly once over kill -9 |".to_owned(),
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
        let needed = [&cells[0], &cells[1], &cells[3], &cells[8]];
        failed |= needed.iter().any(|cell| cell.starts_with("no") && !cell.starts_with(BROKER_LOSES));
        table.push(format!("| {} | {} |", broker.name, cells.join(" | ")));
        if cells.iter().any(|cell| cell.starts_with("no")) {
            println!("--- end of the log of {} ---\n{}", broker.name, broker.log_tail());
        }
    }
    println!("\n{}", table.join("\n"));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Polls until `probe` is true; returns false when [`WAIT_MAX`] is over.
fn comes_true(mut probe: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + WAIT_MAX;
    while Instant::now() < deadline {
        if probe() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Fills one cell of the table.
type CellOf<T> = fn(&T) -> String;

struct Trial<'a> {
    broker: &'a Broker,
    /// Counts the cells. Each has topics, a client id and a prefix of its own, so none sees what another left behind.
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
            // Some brokers never answer MQTT 5.
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
        // Some brokers refuse a publisher's QoS 2. This cell is about the subscriber: publish with QoS 1 there.
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
            (true, false) => "yes, but session_present is false".to_owned(),
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
        // amqtt also delivers retained messages of topics outside the subscription.
        let mut statuses =
            lines.filter_map(|line| line.strip_prefix(&format!("{topic} ")).map(str::to_owned));
        let mut heard = Vec::new();
        let andon = site.run();
        let up = Self::up(&andon);
        heard.extend(statuses.next());
        andon.kill();
        heard.extend(statuses.next());
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
        // The broker delivers again before it delivers what is new. This message is the last.
        assert!(Self::up(&andon));
        andon.stop();
        let mut database = Database::open(&url).unwrap();
        let distinct = database.number("SELECT count(DISTINCT digest) AS value FROM machine_telemetry");
        let again = database.number("SELECT duplicate AS value FROM ingest_checkpoint");
        match (rows_stored(&url), distinct) {
            (rows, distinct) if rows == expected && distinct == expected => {
                format!("yes ({again} delivered again)")
            }
            (rows, distinct) if rows == distinct && self.broker.forgets_in_flight => {
                if self.redelivers_in_flight() {
                    return format!("no: {rows} of {MESSAGES}, though the broker delivers again");
                }
                format!("{BROKER_LOSES}: {rows} of {MESSAGES}, none twice")
            }
            (rows, distinct) => format!("no: {rows} rows, {distinct} different"),
        }
    }

    /// Returns whether the broker delivers again what another subscriber had not acknowledged when it was killed.
    ///
    /// The subscriber is a `mosquitto_sub` that is stopped (SIGSTOP) while the messages come, so it acknowledges none of them.
    fn redelivers_in_flight(&self) -> bool {
        let topic = format!("probe{}/machine/press-1/telemetry", self.number.get());
        let mut subscriber = self.persistent_subscriber(&topic);
        let mut lines = BufReader::new(subscriber.stdout.take().unwrap()).lines();
        let mut publisher = self.publisher();
        publisher.publish_retained(&topic, b"ready", 1);
        // amqtt also sends retained messages of other topics.
        let ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
        assert!(ready, "the probe's subscriber receives nothing");
        signal(&subscriber, "STOP");
        for number in 0..IN_FLIGHT {
            publisher.publish(&topic, format!("probe {number}").as_bytes(), 1);
        }
        // SIGKILL ends a stopped process, too.
        subscriber.kill().unwrap();
        subscriber.wait().unwrap();
        let output = self.persistent_subscriber(&topic).wait_with_output().unwrap();
        let redelivered = String::from_utf8_lossy(&output.stdout).matches("probe ").count();
        println!(
            "  probe: mosquitto_sub, killed with {IN_FLIGHT} messages in flight, got {redelivered} of them again"
        );
        redelivered >= IN_FLIGHT
    }

    /// Starts a subscriber with a persistent session. It ends by itself after ten seconds.
    fn persistent_subscriber(&self, topic: &str) -> Child {
        let id = format!("andonprobe{}", self.number.get());
        let mut command = self.client("mosquitto_sub", topic);
        command.args(["-q", "1", "-c", "-i", &id, "-W", "10"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }
}

fn signal(process: &Child, signal: &str) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(process.id().to_string()).status();
    assert!(status.unwrap().success());
}
