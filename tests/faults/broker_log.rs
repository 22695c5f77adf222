//! Reads from the broker's log what the broker sent to Andon, and how often.

use std::collections::HashMap;

use super::kinds;

/// How the log begins a line about a message to Andon.
const SENT: &str = "Sending PUBLISH to andon-test (";

/// What the broker sent.
#[derive(Debug, Default)]
pub struct BrokerLog {
    /// Messages sent for the journal, copies included.
    pub total: u64,
    /// By topic, for topics of one message only: the places among all messages, from 1.
    places: HashMap<String, Vec<u64>>,
}

impl BrokerLog {
    /// Reads the broker's log, which several runs may have written.
    pub fn of(log: &str) -> Self {
        let mut broker_log = Self::default();
        for line in log.lines() {
            let sent = line.split_once(SENT).and_then(|(_, packet)| packet.split_once('\''));
            let Some((_, rest)) = sent else { continue };
            let topic = rest.split_once("', ... (").map_or(rest, |(topic, _)| topic);
            if topic.starts_with("andon/") {
                continue; // Andon's own messages do not go into the journal.
            }
            broker_log.total += 1;
            let is_own =
                kinds::number_of(topic).is_some() || topic.contains("/mortal-") || topic.contains("/kept-");
            if is_own {
                broker_log.places.entry(topic.to_owned()).or_default().push(broker_log.total);
            }
        }
        broker_log
    }

    /// Returns how often a message on a topic of its own may be recorded: once for each copy sent, and once if it reached the journal
    /// without the broker.
    pub fn copies_max(&self, topic: &str) -> u64 {
        self.places.get(topic).map_or(1, |places| places.len() as u64)
    }

    /// Returns the place of a message that was sent once.
    pub fn place(&self, topic: &str) -> Option<u64> {
        self.places.get(topic).filter(|places| places.len() == 1).map(|places| places[0])
    }
}

#[test]
fn the_log_is_read_packet_by_packet() {
    let log = "1: Sending PUBLISH to andon-test (d0, q1, r1, m1, 'factory/machine/kept-0/telemetry', ... (8 bytes))\n\
        1: Received PUBLISH from auto-1 (d0, q1, r0, m1, 'factory/machine/r-2/telemetry', ... (8 bytes))\n\
        1: Sending PUBLISH to auto-1 (d0, q1, r0, m1, 'factory/machine/r-2/telemetry', ... (8 bytes))\n\
        1: Sending PUBLISH to andon-test (d0, q1, r0, m2, 'andon/test/echo', ... (8 bytes))\n\
        1: Sending PUBLISH to andon-test (d0, q1, r0, m2, 'factory/machine/r-2/telemetry', ... (8 bytes))\n\
        2: Sending PUBLISH to andon-test (d1, q1, r0, m2, 'factory/machine/r-2/telemetry', ... (8 bytes))\n";
    let broker_log = BrokerLog::of(log);
    assert_eq!(broker_log.total, 3);
    assert_eq!(broker_log.copies_max("factory/machine/r-2/telemetry"), 2);
    assert_eq!(broker_log.place("factory/machine/r-2/telemetry"), None);
    assert_eq!(broker_log.place("factory/machine/kept-0/telemetry"), Some(1));
    assert_eq!(broker_log.copies_max("factory/machine/r-9/telemetry"), 1, "it came another way");
}
