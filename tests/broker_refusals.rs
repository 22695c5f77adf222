//! A broker that refuses Andon: one log line names the reason, and Andon tries again until the broker accepts.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use crate::support::andon::{Andon, Site};
use crate::support::database::rows_stored;
use crate::support::dynamic_security;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher;
use crate::support::scripted_broker::{Answer, ScriptedBroker, connack_5, disconnect_5, suback_5};

const TOPIC: &str = "factory/machine/{machine}/telemetry";

/// A password file for user `andon`, readable by the broker whichever user it runs as.
fn password_file(directory: &std::path::Path, password: &str) -> std::path::PathBuf {
    let file = directory.join("passwords");
    std::fs::write(&file, "").unwrap();
    let status =
        Command::new("mosquitto_passwd").arg("-b").arg(&file).args(["andon", password]).status().unwrap();
    assert!(status.success());
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    file
}

/// Waits until at least this many attempts have failed.
fn wait_for_failures(andon: &mut Andon, at_least: f64) {
    let client = Client::new(&andon.wait_for_http());
    wait_until("more attempts", || {
        let page = client.get("/metrics").body;
        let count =
            page.lines().find_map(|line| line.strip_prefix("andon_broker_failures_total ")?.parse().ok());
        count.is_some_and(|count: f64| count >= at_least)
    });
}

#[test]
fn a_wrong_password_is_reported_and_never_printed() {
    for protocol in ["5", "3.1.1"] {
        let directory = tempfile::tempdir().unwrap();
        let passwords = password_file(directory.path(), "right");
        let broker = Mosquitto::start(&format!("password_file {}\n", passwords.display()));
        let site = Site::new(broker.port())
            .set(&format!("mqtt.protocol={protocol}"))
            .set("mqtt.username=andon")
            .set("mqtt.password=wrong-secret-77");
        let mut andon = site.run();
        andon.wait_for_log("no connection to the broker");
        andon.wait_for_log("mqtt.password");
        wait_for_failures(&mut andon, 4.0);
        let log = andon.log();
        let complaints = log.lines().filter(|line| line.contains("no connection to the broker")).count();
        assert_eq!(complaints, 1, "one line for one reason:\n{log}");
        assert!(!log.contains("wrong-secret-77"), "a secret in the log:\n{log}");
        assert!(andon.is_running());
        assert!(andon.stop().success());

        let site = site.set("mqtt.password=right");
        let mut andon = site.run();
        andon.wait_until_connected();
        assert!(andon.stop().success());
    }
}

/// Proves MQTT-3.
#[test]
fn a_refused_subscription_is_named_and_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = dynamic_security::start(directory.path(), &[]);
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_for_log("a subscription was refused");
    let log = andon.log();
    let complaint = log.lines().find(|line| line.contains("a subscription was refused")).unwrap();
    assert!(
        complaint.contains("factory/machine/+/telemetry") && complaint.contains("not authorised"),
        "{complaint}"
    );
    assert!(!log.contains("connected to the broker"), "not before every filter is granted:\n{log}");

    dynamic_security::allow_all(&broker, true);
    andon.wait_until_connected();
    assert!(andon.stop().success());
}

#[test]
fn the_brokers_own_words_are_in_the_log() {
    let mut connects = 0;
    let broker = ScriptedBroker::start(move |packet| {
        if packet.is_connect() {
            connects += 1;
            match connects {
                // The client library does not pass on the reason string of a CONNACK.
                1 => Answer::SendAndClose(connack_5(0x87, "licence for ten clients")),
                _ => Answer::Send(connack_5(0, "")),
            }
        } else if packet.is_subscribe() {
            Answer::SendAndClose([suback_5(packet, 1, ""), disconnect_5(0x8b, "closing\ntime")].concat())
        } else {
            Answer::Send(Vec::new())
        }
    });
    let site = Site::new(broker.port()).set("liveness.publish_prefix=").set("mqtt.protocol=5");
    let mut andon = site.run();
    andon.wait_for_log("reason: \"connect: Not authorized; see mqtt.username and mqtt.password");
    andon.wait_for_log("closing time");
    let log = andon.log();
    let line = |words: &str| log.lines().find(|line| line.contains(words)).unwrap().to_owned();
    assert!(line("closing time").contains("the broker ended the connection"), "{log}");
    assert!(andon.is_running());
    andon.signal("KILL");
    andon.wait();
}

#[test]
fn a_refused_subscription_is_logged_with_the_brokers_words() {
    let broker = ScriptedBroker::start(|packet| match packet {
        _ if packet.is_connect() => Answer::Send(connack_5(0, "")),
        _ if packet.is_subscribe() => Answer::Send(suback_5(packet, 0x97, "two filters a day")),
        _ => Answer::Send(Vec::new()),
    });
    let site = Site::new(broker.port()).set("liveness.publish_prefix=");
    let mut andon = site.run();
    andon.wait_for_log("two filters a day");
    let log = andon.log();
    let line = log.lines().find(|line| line.contains("two filters a day")).unwrap();
    assert!(line.contains("a subscription was refused") && line.contains("quota exceeded"), "{line}");
    assert!(andon.is_running());
    andon.signal("KILL");
    andon.wait();
}

/// Proves MQTT-2.
#[test]
fn a_broker_that_is_away_is_waited_for() {
    let mut broker = Mosquitto::start("");
    broker.stop();
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_for_log("no connection to the broker");
    broker.restart();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 2, 0..20, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 20);

    broker.kill();
    andon.wait_for_log("the link to the broker is down");
    broker.restart();
    wait_until("the subscription is there again", || andon.connections() == 2);
    publisher::publish_numbered(broker.port(), TOPIC, 2, 20..40, 1);
    wait_until("the rows after the broker's crash", || rows_stored(&site.sqlite_url()) == 40);
    assert!(andon.stop().success());
}

#[test]
fn a_host_name_that_does_not_resolve_is_reported_and_no_reason_to_leave_version_5() {
    // The name exists nowhere (RFC 6761), whether or not there is a network.
    let site = Site::new(1883).set("mqtt.host=no-such-broker.invalid");
    let mut andon = site.run();
    andon.wait_for_log("no-such-broker.invalid cannot be resolved");
    let log = andon.log();
    let complaint = log.lines().find(|line| line.contains("cannot be resolved")).unwrap();
    assert!(
        complaint.contains("no connection to the broker") && complaint.contains("see mqtt.host"),
        "{complaint}"
    );
    wait_for_failures(&mut andon, 4.0);
    assert!(!andon.log().contains("in place of an answer"), "{}", andon.log());
    assert!(andon.stop().success());
}

/// Returns whether any connection to the port is in `state`, a value of Linux's `tcp_states.h`.
fn has_connection(port: u16, state: &str) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let to = format!(":{port:04X}");
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        fields.get(2).is_some_and(|remote| remote.ends_with(&to)) && fields.get(3) == Some(&state)
    })
}

#[test]
fn a_broker_that_never_answers_does_not_keep_the_service_from_stopping() {
    for transport in ["tcp", "tls", "ws", "wss"] {
        let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        silent.set_nonblocking(true).unwrap();
        let port = silent.local_addr().unwrap().port();
        let site = Site::new(port).set(&format!("mqtt.transport={transport}"));
        let andon = site.run();
        let mut held = None;
        wait_until("the connection", || {
            held = silent.accept().ok();
            held.is_some()
        });
        assert!(andon.stop().success(), "{transport}");
    }
}

/// A listener with a full queue: the kernel drops every further attempt to connect.
fn full_listener() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
    let full = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let address = full.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queued.push(stream);
        assert!(queued.len() < 10, "the queue never fills");
    }
    (full, address, queued)
}

#[test]
fn a_network_that_drops_the_first_packet_does_not_keep_the_service_from_stopping() {
    let (_full, address, _queued) = full_listener();
    let site = Site::new(address.port());
    let andon = site.run();
    const SYN_SENT: &str = "02";
    wait_until("the attempt", || has_connection(address.port(), SYN_SENT));
    assert!(andon.stop().success());
}

/// Proves HOST-3.
#[test]
fn a_host_that_cannot_be_reached_is_no_reason_to_leave_version_5() {
    let (_full, address, _queued) = full_listener();
    let site = Site::new(address.port()).set("mqtt.connect_timeout=1s");
    let mut andon = site.run();
    wait_for_failures(&mut andon, 3.0);
    let log = andon.log();
    assert!(log.contains("no connection to the broker") && !log.contains("does not answer"), "{log}");
    assert!(andon.stop().success());
}
