//! Twenty thousand machines that fall silent at once.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::{self, Single};
use crate::support::subscriber::{Subscriber, field_of};

const MACHINES: usize = 20_000;
const A_MESSAGE: usize = 500;

/// Proves TRK-3.
#[test]
fn twenty_thousand_silent_machines_are_all_noticed_at_their_deadlines() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("liveness.offline_after=5s");
    let url = site.sqlite_url();
    let subscriber = Subscriber::start(broker.port(), "andon/test/machine/+/status");
    let mut andon = site.run();
    andon.wait_until_seeing();
    let mut single = Single::connect(broker.port());
    for first in (0..MACHINES).step_by(A_MESSAGE) {
        let elements: Vec<String> =
            (first..first + A_MESSAGE).map(|number| format!(r#"{{"machine_id":"m-{number:05}"}}"#)).collect();
        single.publish("factory/machine/x/telemetry", format!("[{}]", elements.join(",")).as_bytes(), 1);
    }
    let offline = |subscriber: &Subscriber| {
        subscriber.received().iter().filter(|each| each.payload.contains(r#""status":"offline""#)).count()
    };
    wait_until("all machines offline on MQTT", || {
        // The cheap check first.
        subscriber.len() >= 2 * MACHINES && offline(&subscriber) >= MACHINES
    });
    let mut database = Database::open(&url).unwrap();
    let events = "SELECT count(*) AS value FROM machine_event WHERE reason = 'silence'";
    wait_until("all events", || database.number(events) == MACHINES as i64);
    wait_until("all confirmations", || {
        database.number("SELECT count(*) AS value FROM machine_event WHERE publish_pending") == 0
    });
    let exact = "SELECT count(*) AS value FROM machine_event e WHERE reason = 'silence' AND \
                 strftime('%s', substr(occurred_at, 1, 19)) - strftime('%s', substr(last_seen_at, 1, 19)) = 5 AND \
                 substr(occurred_at, 20) = substr(last_seen_at, 20)";
    assert_eq!(
        database.number(exact),
        MACHINES as i64,
        "each at its last_seen + offline_after, to the microsecond"
    );
    print_lag(&subscriber);
    let noticed = latest(&andon.log());
    println!("from the deadline until it was noticed: at most {noticed:?}");
    assert!(noticed < Duration::from_secs(30), "{noticed:?}");
    assert!(andon.stop().success());
    assert_eq!(database.number("SELECT count(*) AS value FROM machine_event"), 2 * MACHINES as i64);
}

#[test]
fn two_thousand_machines_appearing_one_by_one_take_few_log_lines_that_count_them_all() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("liveness.offline_after=1h").set("log.level=info");
    let mut andon = site.run();
    andon.wait_until_connected();
    let publish = |numbers| {
        publisher::publish_each(broker.port(), numbers, 1, |number| {
            (format!("factory/machine/m-{number}, status: offline/telemetry"), "{}".to_owned())
        });
    };
    // One that appears alone has a line of its own; whether one of many does depends on how fast they are
    // read.
    publish(0..1);
    andon.wait_for_log("machine changed its status");
    publish(1..2_000);
    let logged = || {
        let log = andon.log();
        let singly = log.lines().filter(|line| line.contains("machine changed its status")).count();
        let sums: Vec<usize> = log
            .lines()
            .filter(|line| line.contains("many machines changed their status"))
            .map(|line| line.split("changes: ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap())
            .collect();
        (singly, sums)
    };
    wait_until("all of them", || {
        let (singly, sums) = logged();
        singly + sums.iter().sum::<usize>() == 2_000
    });
    let (singly, sums) = logged();
    assert!(singly + sums.len() <= 100, "{singly} lines, {sums:?}");
    let first =
        andon.log().lines().find(|line| line.contains("machine changed its status")).map(str::to_owned);
    let first = first.expect("the first ones have lines of their own");
    assert!(first.contains(", machine_id: \"m-") && first.matches("status: online").count() == 1, "{first}");
    assert!(andon.stop().success());
}

/// Returns the largest `late_ms` of the summaries: so many machines fall silent that not all have lines of
/// their own.
fn latest(log: &str) -> Duration {
    let lines = log.lines().filter(|line| line.contains("many machines changed their status"));
    let values = lines.filter_map(|line| line.rsplit("late_ms: ").next());
    let late = values.map(|text| text.parse().unwrap()).max().expect("there is such a line");
    Duration::from_millis(late)
}

/// Prints how long after its deadline each status reached a subscriber, all delays together.
fn print_lag(subscriber: &Subscriber) {
    let mut lags: HashMap<String, Duration> = HashMap::new();
    for message in subscriber.received().iter().filter(|each| each.payload.contains(r#""status":"offline""#))
    {
        let since: SystemTime =
            chrono::DateTime::parse_from_rfc3339(&field_of(&message.payload, "since")).unwrap().into();
        lags.entry(message.topic.clone()).or_insert(message.at.duration_since(since).unwrap_or_default());
    }
    let mut lags: Vec<Duration> = lags.into_values().collect();
    lags.sort_unstable();
    let at = |share: f64| lags[((lags.len() - 1) as f64 * share) as usize];
    println!(
        "from the deadline to a subscriber, {} machines: p50 {:?}, p99 {:?}, max {:?}",
        lags.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    assert_eq!(lags.len(), MACHINES);
}
