//! The broker restarts in the middle of a long publish of statuses.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::subscriber::field_of;

const MACHINES: usize = 1_000;
const CHANGES: usize = 20;
const PENDING: &str = "SELECT count(*) AS value FROM machine_event WHERE publish_pending";

/// A subscriber with a persistent session that reconnects by itself. Writes payloads into a file, line by
/// line.
struct PersistentSubscriber {
    child: Child,
    file: PathBuf,
}

impl PersistentSubscriber {
    fn start(port: u16, filter: &str, directory: &Path) -> Self {
        let file = directory.join("seen");
        let child = Command::new("mosquitto_sub")
            .args(["-p", &port.to_string(), "-c", "-i", "loyal", "-q", "1", "-t", filter, "-F", "%p"])
            .stdout(File::create(&file).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, file }
    }

    fn seen(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.file).unwrap();
        // The last line may be incomplete.
        let (whole, _unfinished) = text.rsplit_once('\n').unwrap_or_default();
        whole.lines().map(str::to_owned).collect()
    }
}

impl Drop for PersistentSubscriber {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Returns the insert of many unpublished changes: every machine has the same number, at the same instants.
fn many_unpublished_changes() -> String {
    let last = |count: usize| count - 1;
    format!(
        "WITH RECURSIVE change(c) AS (SELECT 0 UNION ALL SELECT c + 1 FROM change WHERE c < {}), \
         one(m) AS (SELECT 0 UNION ALL SELECT m + 1 FROM one WHERE m < {}) \
         INSERT INTO machine_event \
         (site, machine_id, status, previous_status, reason, occurred_at, last_seen_at, publish_pending) \
         SELECT 'test', printf('m-%03d', m), CASE c % 2 WHEN 0 THEN 'online' ELSE 'offline' END, \
         CASE c % 2 WHEN 0 THEN 'offline' ELSE 'online' END, CASE c % 2 WHEN 0 THEN 'message' ELSE 'silence' END, \
         printf('2026-01-01 00:%02d:00.000000+00:00', c), '2026-01-01 00:00:00.000000+00:00', 1 \
         FROM change, one ORDER BY c, m",
        last(CHANGES),
        last(MACHINES)
    )
}

/// Proves LIV-4, OBX-2.
#[test]
fn a_broker_restart_during_a_long_publish_loses_no_change_and_keeps_their_order() {
    let mut broker = Mosquitto::start("");
    // Far longer than the test waits: waiting for answers that can no longer come fails it.
    let site = Site::new(broker.port()).set("mqtt.connect_timeout=10m");
    let mut andon = site.run();
    andon.wait_until_seeing();
    assert!(andon.stop().success());
    let mut database = Database::open(&site.sqlite_url()).unwrap();
    database.execute(&many_unpublished_changes());

    let subscriber = PersistentSubscriber::start(broker.port(), "andon/test/machine/+/status", site.path());
    wait_until("the subscriber", || broker.log().contains("loyal"));
    let mut andon = site.run();
    wait_until("a tenth of it", || subscriber.seen().len() > MACHINES * CHANGES / 10);
    broker.restart();
    let restarted = Instant::now();
    let before = subscriber.seen().len();
    wait_until("the rest", || database.number(PENDING) == 0);
    println!("{before} seen when the broker was back, all published {:?} later", restarted.elapsed());
    wait_until("the subscriber to have seen all", || {
        let seen = subscriber.seen();
        let mut firsts: HashMap<String, Vec<String>> = HashMap::new();
        for status in seen.iter() {
            let since = field_of(status, "since");
            let of_machine = firsts.entry(field_of(status, "machine_id")).or_default();
            if !of_machine.contains(&since) {
                assert!(of_machine.last() < Some(&since), "{status} came too late, after {of_machine:?}");
                of_machine.push(since);
            }
        }
        firsts.len() == MACHINES && firsts.values().all(|changes| changes.len() == CHANGES)
    });
    let connects = andon.connections();
    assert_eq!(connects, 2, "the link was lost once, in the middle");
    assert!(andon.is_running() && andon.stop().success());
}
