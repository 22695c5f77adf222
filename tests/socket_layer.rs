//! The buffered connection to the broker, as it is in the real process: how few system calls and syncs it
//! takes, and that no PUBACK leaves before its message is on the disk.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use andon::actors::mqtt::client::socket_layer;
use andon::journal::{RealFs, inspect};
use paho_mqtt as mqtt;

use crate::broker_tls::{MONTHS, Plant};
use crate::support::andon::{Andon, Site};
use crate::support::database::rows_stored;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::{wait_for, wait_until};
use crate::support::publisher;
use crate::support::scripted_broker::{Answer, ScriptedBroker, connack_5, puback, publish, suback_5};
use crate::support::slow_line::SlowLine;

const TOPIC: &str = "factory/machine/{machine}/telemetry";
const UNBUFFERED: &str = "the connection to the broker is not buffered";

/// The value of a metric, added up over its labels.
fn metric(client: &Client, name: &str) -> f64 {
    let page = client.get("/metrics").body;
    let lines =
        page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    let values: Vec<f64> = lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(!values.is_empty(), "no {name} in\n{page}");
    values.iter().sum()
}

fn client_of(andon: &mut Andon) -> Client {
    Client::new(&andon.wait_for_http())
}

/// Leaves a backlog for a site, drains it, and returns system calls and syncs for each message.
fn drain(site: Site, broker: &Mosquitto, messages: u64, qos: i32) -> (f64, f64) {
    let site = site.set("journal.sync=before_ack").set(&format!("mqtt.qos={qos}"));
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    assert!(andon.stop().success());
    publisher::publish_numbered(broker.port(), TOPIC, 10, 0..messages, qos);
    let mut andon = site.run();
    let client = client_of(&mut andon);
    let all = i64::try_from(messages).unwrap();
    wait_until("the backlog", || rows_stored(&url) == all);
    let of_each = |name| metric(&client, name) / messages as f64;
    let figures = (of_each("andon_broker_socket_calls_total"), of_each("andon_journal_syncs_total"));
    assert!((metric(&client, "andon_broker_buffered") - 1.0).abs() < 0.1);
    assert!(!andon.log().contains(UNBUFFERED), "{}", andon.log());
    assert!(andon.stop().success());
    figures
}

/// Everything that arrives at once is read, synced and answered together. Without the layer it would be
/// nine system calls and one sync a message.
#[test]
fn what_arrives_together_takes_a_hundredth_of_the_system_calls() {
    const MESSAGES: u16 = 2_000;
    let mut sent = false;
    let broker = ScriptedBroker::start(move |packet| match packet.head >> 4 {
        1 => Answer::Send(connack_5(0, "")),
        3 => Answer::Send(puback(packet)),
        8 => {
            let mut answer = suback_5(packet, 1, "");
            let all = (1..=MESSAGES).filter(|_| !sent);
            answer.extend(all.flat_map(|id| {
                let payload = format!(r#"{{"n":{id},"temperature":21.5,"vibration":0.25}}"#);
                publish(true, "factory/machine/press/telemetry", &payload, id)
            }));
            sent = true;
            Answer::Send(answer)
        }
        _ => Answer::Send(Vec::new()),
    });
    let site = Site::new(broker.port()).set("journal.sync=before_ack").set("liveness.publish_prefix=");
    let mut andon = site.run();
    let client = client_of(&mut andon);
    let answered = || broker.packets().iter().filter(|packet| packet.head >> 4 == 4).count();
    wait_until("the answers", || answered() == usize::from(MESSAGES));
    let of_each = |name| metric(&client, name) / f64::from(MESSAGES);
    let (calls, syncs) = (of_each("andon_broker_socket_calls_total"), of_each("andon_journal_syncs_total"));
    assert!(calls > 0.0 && calls < 0.09, "{calls} calls a message");
    assert!(syncs > 0.0 && syncs < 0.01, "{syncs} syncs a message");
    assert!(andon.stop().success());
}

/// Real brokers send in smaller portions; it still takes far fewer calls than one message at a time.
#[test]
fn a_backlog_takes_few_system_calls_and_syncs_over_every_transport() {
    let plant = Plant::new();
    for (transport, extra) in
        [("tcp", ""), ("tls", ""), ("ws", "protocol websockets"), ("wss", "protocol websockets")]
    {
        for (protocol, qos) in [("5", 1), ("5", 2), ("3.1.1", 1)] {
            let (broker, site) = if transport == "tls" || transport == "wss" {
                let broker = plant.broker("localhost", MONTHS, extra);
                let site = plant.site(&broker);
                (broker, site)
            } else {
                let broker = Mosquitto::start_with_listener("127.0.0.1", extra);
                let site = Site::new(broker.second_port());
                (broker, site)
            };
            let site =
                site.set(&format!("mqtt.transport={transport}")).set(&format!("mqtt.protocol={protocol}"));
            let (calls, syncs) = drain(site, &broker, 2_000, qos);
            let which = format!("{transport}, {protocol}, QoS {qos}: {calls} calls, {syncs} syncs a message");
            assert!(calls > 0.0 && calls < 3.0, "{which}");
            assert!(syncs > 0.0 && syncs < 0.5, "{which}");
        }
    }
}

/// Watches every PUBACK of a process whose syncs take long: asked at once, its journal is durable as far
/// as was acknowledged.
struct Watch {
    acknowledged: AtomicU64,
    durable: AtomicU64,
    metrics: Mutex<Option<Client>>,
    early: Mutex<Vec<String>>,
}

impl Watch {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            acknowledged: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            metrics: Mutex::default(),
            early: Mutex::default(),
        })
    }

    fn puback(&self) {
        let acknowledged = self.acknowledged.fetch_add(1, Ordering::SeqCst) + 1;
        if acknowledged <= self.durable.load(Ordering::SeqCst) {
            return;
        }
        let metrics = self.metrics.lock().unwrap();
        let Some(client) = metrics.as_ref() else { return };
        let durable = metric(client, "andon_journal_synced_seq") as u64;
        self.durable.store(durable, Ordering::SeqCst);
        if acknowledged > durable {
            self.early
                .lock()
                .unwrap()
                .push(format!("{acknowledged} are acknowledged, {durable} are durable"));
        }
    }
}

/// A site without messages of its own on a line to `broker`, watched, in mode `before_ack`.
fn watched(broker: &Mosquitto, window: usize) -> (Site, Arc<Watch>, SlowLine) {
    let watch = Watch::new();
    let watching = Arc::clone(&watch);
    let on_puback = Arc::new(move || watching.puback());
    let line = SlowLine::start_watched(broker.port(), Duration::from_millis(1), window, on_puback);
    let site = Site::new(line.port()).set("journal.sync=before_ack").set("liveness.publish_prefix=");
    (site, watch, line)
}

/// Proves ACK-1.
#[test]
fn every_puback_leaves_after_the_sync_of_its_message() {
    for (messages, window, sync_ms) in [(300, 20, 100), (2_000, 400, 100), (2_000, 20, 20)] {
        let broker = Mosquitto::start("");
        let (site, watch, _line) = watched(&broker, window);
        let url = site.sqlite_url();
        let mut andon = site.run_with(&format!("journal::sync=sleep({sync_ms})"));
        *watch.metrics.lock().unwrap() = Some(client_of(&mut andon));
        andon.wait_until_connected();
        let begun = Instant::now();
        publisher::publish_numbered(broker.port(), TOPIC, 10, 0..messages, 1);
        wait_until("the rows", || rows_stored(&url) == i64::try_from(messages).unwrap());
        let rate = messages as f64 / begun.elapsed().as_secs_f64();
        println!("a sync takes {sync_ms} ms, the window is {window}: {rate:.0} messages/s");
        wait_until("the acknowledgements", || watch.acknowledged.load(Ordering::SeqCst) == messages);
        assert_eq!(*watch.early.lock().unwrap(), [""; 0], "{}", andon.log());
        let client = client_of(&mut andon);
        let syncs = metric(&client, "andon_journal_syncs_total") as u64;
        // A window at a time, with a message or two before the others now and then.
        let groups = messages / window as u64;
        assert!(syncs <= 4 * groups + 4, "{syncs} syncs for {groups} windows");
        assert!(andon.stop().success());
    }
}

/// Killed in mid-drain: what was acknowledged is in the journal, and what is in the journal without being
/// acknowledged, which the broker delivers again, is one group.
///
/// Proves SOCK-6.
#[test]
fn kill_9_in_mid_drain_leaves_one_group_unacknowledged() {
    let broker = Mosquitto::start("");
    let (site, watch, _line) = watched(&broker, 60_000);
    let mut andon = site.run();
    andon.wait_until_connected();
    assert!(andon.stop().success());
    publisher::publish_numbered(broker.port(), TOPIC, 10, 0..20_000, 1);
    let andon = site.run_with("journal::sync=sleep(20)");
    wait_until("something is acknowledged", || watch.acknowledged.load(Ordering::SeqCst) > 2_000);
    andon.kill();
    let acknowledged = when_still(&watch.acknowledged);
    let appended = inspect(&site.journal_dir(), &RealFs).unwrap().range().unwrap().1.0;
    assert!(appended >= acknowledged, "{acknowledged} acknowledged, {appended} in the journal");
    assert!(appended < 20_000, "killed too late to say anything");
    assert!(appended - acknowledged <= 1024, "{} are delivered again", appended - acknowledged);
    let mut andon = site.run();
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 20_000);
    andon.wait_until_connected();
    assert!(andon.stop().success());
}

/// What is on its way has arrived.
fn when_still(count: &AtomicU64) -> u64 {
    let mut last = (count.load(Ordering::SeqCst), Instant::now());
    wait_for("the line to be quiet", || {
        let now = count.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(300)).then_some(now)
    })
}

/// A connection that the layer does not see, a Unix socket: nothing is deferred, and messages come in all
/// the same.
#[test]
fn a_connection_of_another_family_is_unseen_and_works() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broker");
    let broker = Mosquitto::start(&format!("listener 0 {}", path.display()));
    for (uri, sees) in
        [(format!("tcp://127.0.0.1:{}", broker.port()), true), (format!("unix://{}", path.display()), false)]
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let options =
            mqtt::CreateOptionsBuilder::new().server_uri(&uri).persistence(mqtt::PersistenceType::None);
        let client = mqtt::AsyncClient::new(options.finalize()).unwrap();
        let seeing = Arc::clone(&seen);
        client.set_message_callback(move |_, message| {
            if message.is_some() {
                seeing.lock().unwrap().push(socket_layer::begin_message(true, false));
            }
        });
        client.connect(None).wait_for(Duration::from_secs(20)).unwrap();
        client.subscribe("t", 1).wait_for(Duration::from_secs(20)).unwrap();
        for _ in 0..20 {
            let published = Command::new("mosquitto_pub")
                .args(["-p", &broker.port().to_string(), "-q", "1", "-t", "t", "-m", "x"])
                .status();
            assert!(published.unwrap().success());
        }
        wait_until("the messages", || seen.lock().unwrap().len() == 20);
        assert!(seen.lock().unwrap().iter().all(|seen| *seen == sees), "{uri}: {seen:?}");
        client.disconnect(None).wait_for(Duration::from_secs(20)).unwrap();
    }
}
