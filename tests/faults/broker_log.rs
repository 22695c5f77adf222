//! The broker as a witness: what it has handed to Andon, and how often, read from its log.

use std::collections::HashMap;

use super::kinds;

/// How the log names a packet to Andon.
const SENT: &str = "Sending PUBLISH to andon-test (";

/// What the broker has sent.
#[derive(Debug, Default)]
pub struct BrokerLog {
    /// Messages for the journal, each as often as it was sent.
    pub total: u64,
    /// Of topics that belong to one number alone: at which places among all messages, from 1.
    places: HashMap<String, Vec<u64>>,
}

impl BrokerLog {
    /// From the broker's log, which may have been written by several runs.
    pub fn of(log: &str) -> Self {
        let mut witness = Self::default();
        for line in log.lines() {
            let sent = line.split_once(SENT).and_then(|(_, packet)| packet.split_once('\''));
            let Some((_, rest)) = sent else { continue };
            let topic = rest.split_once("', ... (").map_or(rest, |(topic, _)| topic);
            if topic.starts_with("andon/") {
                continue; // Andon's own words to itself go into no journal.
            }
            witness.total += 1;
            let is_own =
                kinds::number_of(topic).is_some() || topic.contains("/mortal-") || topic.contains("/kept-");
            if is_own {
                witness.places.entry(topic.to_owned()).or_default().push(witness.total);
            }
        }
        witness
    }

    /// How often a message on a topic of its own may be recorded: as often as it was sent. One that reached the journal
    /// otherwise, once.
    pub fn copies_max(&self, topic: &str) -> u64 {
        self.places.get(topic).map_or(1, |places| places.len() as u64)
    }

    /// The place of a message that was sent once.
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
    let witness = BrokerLog::of(log);
    assert_eq!(witness.total, 3);
    assert_eq!(witness.copies_max("factory/machine/r-2/telemetry"), 2);
    assert_eq!(witness.place("factory/machine/r-2/telemetry"), None);
    assert_eq!(witness.place("factory/machine/kept-0/telemetry"), Some(1));
    assert_eq!(witness.copies_max("factory/machine/r-9/telemetry"), 1, "it came another way");
}
