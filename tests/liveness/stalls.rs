//! A standstill of the broker or of Andon makes no machine offline that kept sending.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::machines::{speak, wait_for_events};
use crate::support::andon::{Andon, Site};
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::Single;

/// A gateway: many machines send through its one connection, every second, whether or not the broker reads.
struct Gateway {
    child: Child,
    writer: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

impl Gateway {
    fn start(port: u16, machines: usize) -> Self {
        let mut child = Command::new("mosquitto_pub")
            .args(["-p", &port.to_string(), "-q", "0", "-l", "-t", "factory/machine/x/telemetry"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, over) = (child.stdin.take().unwrap(), Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&over);
        let writer = std::thread::spawn(move || send_until_over(stdin, machines, &is_over));
        Self { child, writer: Some(writer), over }
    }
}

fn send_until_over(mut stdin: ChildStdin, machines: usize, is_over: &AtomicBool) {
    let mut order: Vec<usize> = (0..machines).collect();
    while !is_over.load(Ordering::Relaxed) {
        // Reverse the order each time: the machine with the first deadline then has the last message in the
        // broker's queue.
        order.reverse();
        let lines: String =
            order.iter().map(|number| format!("{{\"machine_id\":\"m-{number}\"}}\n")).collect();
        if stdin.write_all(lines.as_bytes()).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        let _written = self.writer.take().map(JoinHandle::join);
    }
}

type Action = fn(&Mosquitto, &Andon);
const FREEZE: Action = |broker, _| broker.freeze();
const THAW: Action = |broker, _| broker.thaw();
const STOP: Action = |_, andon| andon.signal("STOP");
const CONTINUE: Action = |_, andon| andon.signal("CONT");

/// A gateway keeps sending for thousands of machines, each about once a second, during a standstill.
fn no_machine_is_offline_after_a_standstill(
    settings: &[&str],
    standstill: Duration,
    freeze: Action,
    thaw: Action,
) {
    const MACHINES: usize = 3_000;
    let broker = Mosquitto::start("");
    let site = settings.iter().fold(Site::new(broker.port()), |site, setting| site.set(setting));
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_seeing();
    let gateway = Gateway::start(broker.port(), MACHINES);
    let mut database = Database::open(&url).unwrap();
    let first_seen = "SELECT count(*) AS value FROM machine_event WHERE reason = 'first_seen'";
    wait_until("all of them", || database.number(first_seen) == MACHINES as i64);
    speak(&mut Single::connect(broker.port()), "silent");
    wait_for_events(&url, "silent", &["online - first_seen"]);
    freeze(&broker, &andon);
    // With the second before it, it is longer than offline_after: if the first answer after it were a proof,
    // all would be offline.
    std::thread::sleep(standstill);
    thaw(&broker, &andon);
    // Its deadline and theirs passed at the same time, so once it is offline they would be, too.
    wait_for_events(&url, "silent", &["online - first_seen", "offline online silence"]);
    let silences = "SELECT count(*) AS value FROM machine_event WHERE reason = 'silence'";
    assert_eq!(database.number(silences), 1, "{}", andon.log());
    assert_eq!(andon.connections(), 1, "the link was never lost");
    drop(gateway);
    assert!(andon.stop().success());
}

/// Proves MQTT-8.
#[test]
fn a_frozen_broker_makes_no_sending_machine_offline() {
    no_machine_is_offline_after_a_standstill(
        &["liveness.offline_after=5s"],
        Duration::from_secs(8),
        FREEZE,
        THAW,
    );
}

/// Proves MQTT-8.
#[test]
fn a_broker_that_thaws_just_before_the_deadlines_makes_no_sending_machine_offline() {
    let standstill = Duration::from_millis(4_750);
    no_machine_is_offline_after_a_standstill(&["liveness.offline_after=5s"], standstill, FREEZE, THAW);
}

/// Proves MQTT-8.
#[test]
fn a_frozen_broker_without_our_echo_makes_no_sending_machine_offline() {
    let settings = ["liveness.offline_after=5s", "liveness.publish_prefix="];
    no_machine_is_offline_after_a_standstill(&settings, Duration::from_secs(8), FREEZE, THAW);
}

/// Proves MQTT-8.
#[test]
fn a_standstill_of_our_own_makes_no_sending_machine_offline() {
    no_machine_is_offline_after_a_standstill(
        &["liveness.offline_after=5s"],
        Duration::from_secs(8),
        STOP,
        CONTINUE,
    );
}

/// Proves MQTT-8.
#[test]
fn a_standstill_of_our_own_slightly_longer_than_offline_after_makes_no_sending_machine_offline() {
    let standstill = Duration::from_millis(2_900);
    no_machine_is_offline_after_a_standstill(&["liveness.offline_after=2500ms"], standstill, STOP, CONTINUE);
}
