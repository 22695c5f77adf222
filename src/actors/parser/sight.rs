//! What one message means: readings and rejections, sightings of machines, or control.

use crate::actors::liveness::{Sighting, SightingKind};
use crate::domain::{MachineId, Topic, TopicFilter, topic_segment};
use crate::journal::Record;
use crate::payload::{Outcome, PayloadRules};

/// Which messages are devices' last wills (`[[liveness.last_will]]`).
#[derive(Debug, Clone)]
pub struct LastWillRule {
    /// Topics of the last wills.
    pub filter: TopicFilter,
    /// Exactly this payload means "gone".
    pub payload: Vec<u8>,
    /// The segment of the topic that names the machine.
    pub machine_segment: i32,
}

/// Everything needed to say what a message means; pure.
#[derive(Debug)]
pub struct Sight {
    /// From payload to reading.
    pub rules: PayloadRules,
    /// The filters of the telemetry subscriptions.
    pub telemetry: Vec<TopicFilter>,
    /// Last wills.
    pub last_wills: Vec<LastWillRule>,
    /// Topics below this are our own status messages, should a wide subscription bring them back.
    pub own_topics_prefix: Option<String>,
}

impl Sight {
    /// Interprets one record. Its readings and rejections replace the content of `outcomes`, its sightings are
    /// appended to `sightings`. `true` if it is control: neither reading nor rejection.
    pub fn interpret(
        &self,
        record: &Record<'_>,
        outcomes: &mut Vec<Outcome>,
        sightings: &mut Vec<Sighting>,
    ) -> bool {
        outcomes.clear();
        let message = &record.message;
        let Topic::Text(topic) = message.topic else {
            // It may look like a topic of our own or of a last will, but it is none.
            self.rules.interpret(message, outcomes);
            return false;
        };
        if self.is_own(topic) {
            return true;
        }
        let mut sighted = |machine_id: MachineId, element, kind| {
            let received_at = message.received_at;
            sightings.push(Sighting { machine_id, received_at, seq: record.seq, element, kind });
        };
        let mut on_last_will_topic = false;
        for rule in self.last_wills.iter().filter(|rule| rule.filter.matches(topic)) {
            on_last_will_topic = true;
            if rule.payload != message.payload {
                continue;
            }
            let machine = topic_segment(topic, rule.machine_segment).map(MachineId::parse);
            if let (Some(Ok(machine_id)), false) = (machine, message.retained) {
                sighted(machine_id, 0, SightingKind::LastWill);
            }
            return true;
        }
        if on_last_will_topic && !self.telemetry.iter().any(|filter| filter.matches(topic)) {
            return true;
        }
        self.rules.interpret(message, outcomes);
        if !message.retained {
            for outcome in outcomes.iter() {
                if let Ok(reading) = &outcome.result {
                    sighted(reading.machine_id.clone(), outcome.element, SightingKind::Message);
                }
            }
        }
        false
    }

    fn is_own(&self, topic: &str) -> bool {
        self.own_topics_prefix.as_deref().is_some_and(|prefix| topic.starts_with(prefix))
    }
}
