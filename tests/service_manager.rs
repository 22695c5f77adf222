//! What the real program reports to its service manager, through a real socket.

use std::time::Duration;

use crate::support::andon::Site;
use crate::support::mosquitto::{FreePort, Mosquitto};
use crate::support::notify_socket::NotifySocket;
use crate::support::publisher::publish_numbered;

/// `WatchdogSec=` in these tests. Andon feeds it four times as often.
const WATCHDOG: Duration = Duration::from_secs(2);

/// Neither the broker nor the database of this site is up.
fn site_without_anything(socket: &NotifySocket) -> Site {
    let (broker, database) = (FreePort::find().number(), FreePort::find().number());
    supervised(Site::new(broker), socket)
        .without("store.url")
        .set(&format!("store.url=postgres://andon@127.0.0.1:{database}/andon"))
}

fn supervised(site: Site, socket: &NotifySocket) -> Site {
    site.environment("NOTIFY_SOCKET", socket.path().to_str().unwrap())
        .environment("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string())
}

fn count(lines: &[String], wanted: &str) -> usize {
    lines.iter().filter(|line| *line == wanted).count()
}

/// Proves NTF-1.
#[test]
fn it_is_ready_without_broker_and_database_and_says_when_it_stops() {
    let mut socket = NotifySocket::bind();
    let site = site_without_anything(&socket);
    let andon = site.run();
    socket.wait_for("READY=1");
    let status = socket.wait_for("STATUS=mqtt: not connected to ");
    assert!(status.contains("pending"), "{status}");
    assert_eq!(andon.stop().code(), Some(0));
    socket.listen(Duration::from_millis(200));
    for (wanted, times) in [("READY=1", 1), ("STOPPING=1", 1), ("STATUS=ended with exit code 0", 1)] {
        assert_eq!(count(socket.lines(), wanted), times, "{wanted}: {:#?}", socket.lines());
    }
    assert!(socket.lines().iter().any(|line| line.starts_with("EXTEND_TIMEOUT_USEC=")));
}

/// Proves NTF-1.
#[test]
fn it_is_not_ready_before_the_journal_is_open() {
    let mut socket = NotifySocket::bind();
    let site = site_without_anything(&socket);
    let _andon = site.run_with("app::opening=sleep(3000)");
    let status = socket.wait_for("STATUS=");
    assert!(status.starts_with("STATUS=opening the journal in "), "{status}");
    let meanwhile = socket.listen(Duration::from_millis(1500));
    assert_eq!(count(&meanwhile, "READY=1"), 0, "{meanwhile:?}");
    socket.wait_for("READY=1");
}

/// Proves NTF-1.
#[test]
fn an_exit_without_an_error_is_ready_and_a_failed_start_says_why() {
    let mut socket = NotifySocket::bind();
    let status = site_without_anything(&socket).environment("RUN_MQTT_WORKER", "false").run().wait();
    socket.listen(Duration::from_millis(200));
    assert_eq!(status.code(), Some(0));
    assert_eq!(count(socket.lines(), "READY=1"), 1);
    assert_eq!(count(socket.lines(), "STATUS=not running, because RUN_MQTT_WORKER is false"), 1);

    let mut socket = NotifySocket::bind();
    let site = site_without_anything(&socket);
    std::fs::write(site.journal_dir(), "a file in place of the directory").unwrap();
    assert_eq!(site.run().wait().code(), Some(1));
    socket.listen(Duration::from_millis(200));
    assert_eq!(count(socket.lines(), "READY=1"), 0);
    let status = socket.lines().iter().rfind(|line| line.starts_with("STATUS=")).unwrap();
    assert!(status.starts_with("STATUS=the journal cannot be opened: "), "{status}");
}

/// Proves NTF-2.
#[test]
fn an_outage_of_broker_and_database_feeds_the_watchdog_all_the_same() {
    let mut socket = NotifySocket::bind();
    let site = site_without_anything(&socket);
    let _andon = site.run();
    socket.wait_for("STATUS=mqtt: not connected to ");
    let fed = count(&socket.listen(WATCHDOG * 2), "WATCHDOG=1");
    assert!(fed >= 4, "fed {fed} times");
}

/// Proves NTF-2.
#[test]
fn a_stalled_disk_feeds_the_watchdog_and_is_shown() {
    let broker = Mosquitto::start("");
    let mut socket = NotifySocket::bind();
    let site = supervised(Site::new(broker.port()), &socket);
    let mut andon = site.run_with("journal::write=1*sleep(600000)->off");
    andon.wait_until_connected();
    let port = broker.port();
    let publishing = std::thread::spawn(move || {
        publish_numbered(port, "factory/machine/{machine}/telemetry", 1, 0..3, 1);
    });
    socket.wait_for("STATUS=journal: disk stalled for ");
    let fed = count(&socket.listen(WATCHDOG * 2), "WATCHDOG=1");
    assert!(fed >= 4, "fed {fed} times");
    andon.kill();
    publishing.join().unwrap();
}

/// Proves NTF-2.
#[test]
fn a_supervisor_that_stands_still_starves_the_watchdog() {
    let mut socket = NotifySocket::bind();
    let site = site_without_anything(&socket);
    let mut andon = site.run_with("supervisor::beat=20*off->sleep(600000)");
    socket.wait_for("WATCHDOG=1");
    andon.wait_for_log("no connection to the broker");
    starves(&mut socket);
    assert!(andon.is_running());
    andon.kill();
}

/// Proves NTF-2.
#[test]
fn actors_that_stand_still_starve_the_watchdog() {
    let mut socket = NotifySocket::bind();
    let site = site_without_anything(&socket).set("supervisor.hang_after=1h");
    let actors = ["http", "writer", "liveness", "parser", "mqtt"];
    let hang = actors.map(|actor| format!("{actor}::handle=20*off->sleep(600000)")).join(";");
    let mut andon = site.run_with(&hang);
    socket.wait_for("WATCHDOG=1");
    starves(&mut socket);
    assert!(andon.is_running(), "the supervisor waits for an hour here");
    andon.kill();
}

/// Waits until the watchdog is not fed for as long as it allows.
fn starves(socket: &mut NotifySocket) {
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    while count(&socket.listen(WATCHDOG), "WATCHDOG=1") > 0 {
        assert!(std::time::Instant::now() < limit, "it is fed for ever");
    }
}
