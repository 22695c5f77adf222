//! The fleet: which machine publishes when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::RngExt;

use crate::domain::Timestamp;

use super::faults::{self, Fault, FaultCounts};
use super::machine::Machine;

/// Placeholder for the machine's id in a topic template.
pub const MACHINE_PLACEHOLDER: &str = "{machine}";

/// Most messages that [`Fleet::next`] returns at once (a burst may exceed it).
const AT_ONCE_MAX: usize = 512;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// When it is due: the time of the measurement by a correct clock.
    pub due: Timestamp,
    /// The topic.
    pub topic: String,
    /// Its bytes; JSON, unless the fault is [`Fault::Malformed`] or [`Fault::BareTokens`].
    pub payload: Vec<u8>,
    /// The fault of this message.
    pub fault: Option<Fault>,
}

/// Machines with a schedule. The same seed, options and instants produce the same messages.
#[derive(Debug)]
pub struct Fleet {
    machines: Vec<Member>,
    /// When each machine is due, one entry per machine.
    schedule: BinaryHeap<Reverse<(Timestamp, usize)>>,
    interval: Duration,
    started_at: Timestamp,
    counts: FaultCounts,
}

#[derive(Debug)]
struct Member {
    machine: Machine,
    topic: String,
    fault: Option<Fault>,
}

impl Fleet {
    /// Creates a fleet of `machines` that each publish every `interval`, spread evenly over the first one. `topic_template`
    /// contains [`MACHINE_PLACEHOLDER`].
    #[must_use]
    pub fn new(
        machines: u32,
        interval: Duration,
        topic_template: &str,
        seed: u64,
        faulty: bool,
        started_at: Timestamp,
    ) -> Self {
        // A machine without a pause would never let `next` end.
        let interval = interval.max(Duration::from_micros(1));
        let members: Vec<Member> = (0..machines)
            .map(|index| {
                let machine = Machine::new(index, seed);
                let topic = topic_template.replace(MACHINE_PLACEHOLDER, machine.id());
                Member { machine, topic, fault: Fault::of(index, machines).filter(|_| faulty) }
            })
            .collect();
        let first_due =
            |index: u32| started_at.plus(interval.mul_f64(f64::from(index) / f64::from(machines)));
        let schedule =
            (0..machines).zip(0_usize..).map(|(index, at)| Reverse((first_due(index), at))).collect();
        Self { machines: members, schedule, interval, started_at, counts: FaultCounts::default() }
    }

    /// Returns when the next machine publishes; `None` for an empty fleet.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.schedule.peek().map(|Reverse((due, _))| *due)
    }

    /// Returns how often each fault has occurred so far.
    #[must_use]
    pub fn fault_counts(&self) -> FaultCounts {
        self.counts
    }

    /// Returns the messages due up to `now`, oldest first, a few hundred at most: call again until it returns none.
    pub fn next(&mut self, now: Timestamp) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        while outgoing.len() < AT_ONCE_MAX {
            let Some(Reverse((due, at))) =
                self.schedule.peek().copied().filter(|Reverse((due, _))| *due <= now)
            else {
                break;
            };
            self.schedule.pop();
            let pause = self.publish(at, due, &mut outgoing);
            self.schedule.push(Reverse((due.plus(pause), at)));
        }
        outgoing
    }

    /// Lets machine `at` publish; returns the time until it is due again.
    fn publish(&mut self, at: usize, due: Timestamp, outgoing: &mut Vec<Outgoing>) -> Duration {
        let interval = self.interval;
        let Some(member) = self.machines.get_mut(at) else {
            return interval;
        };
        let messages_before = outgoing.len();
        let uptime = due.since(self.started_at);
        let first = member.message(due, uptime, None);
        let mut pause = interval;
        match member.fault {
            Some(Fault::Silence) => {
                if let Some(silence) = faults::silence(&mut member.machine.rng, interval) {
                    self.counts.add(Fault::Silence);
                    pause = silence;
                }
                outgoing.push(first);
            }
            Some(Fault::Duplicates) => {
                outgoing.push(first.clone());
                if member.machine.rng.random_bool(0.35) {
                    outgoing.push(Outgoing { fault: Some(Fault::Duplicates), ..first });
                }
            }
            Some(Fault::Burst) => {
                let size = faults::burst(&mut member.machine.rng, interval).unwrap_or(0);
                for earlier in (1..=size).rev() {
                    let measured_at = Timestamp::from_micros(due.as_micros() - i64::from(earlier) * 50_000);
                    let message = member.message(measured_at, uptime, Some(Fault::Burst));
                    outgoing.push(Outgoing { due, ..message });
                }
                outgoing.push(first);
            }
            _ => outgoing.push(first),
        }
        outgoing
            .iter()
            .skip(messages_before)
            .filter_map(|message| message.fault)
            .for_each(|fault| self.counts.add(fault));
        pause
    }
}

impl Member {
    /// Returns a reading of `at`, with the machine's fault applied; otherwise marked with `fault`.
    fn message(&mut self, at: Timestamp, uptime: Duration, fault: Option<Fault>) -> Outgoing {
        let mut members = self.machine.measure(at);
        let rng = &mut self.machine.rng;
        let spoiled = self.fault.filter(|own| faults::spoil(*own, &mut members, uptime, rng));
        let mut payload = members.to_json();
        let malformed = self.fault.filter(|own| *own == Fault::Malformed && faults::cut(&mut payload, rng));
        Outgoing {
            due: at,
            topic: self.topic.clone(),
            payload: payload.into_bytes(),
            fault: fault.or(spoiled).or(malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const START: Timestamp = Timestamp::from_micros(1_763_806_272_000_000);
    const TEMPLATE: &str = "factory/machine/{machine}/telemetry";

    fn fleet(machines: u32, seed: u64, faulty: bool) -> Fleet {
        Fleet::new(machines, Duration::from_secs(1), TEMPLATE, seed, faulty, START)
    }

    fn all(fleet: &mut Fleet, seconds: u64) -> Vec<Outgoing> {
        let now = START.plus(Duration::from_secs(seconds));
        std::iter::from_fn(|| Some(fleet.next(now)).filter(|batch| !batch.is_empty())).flatten().collect()
    }

    fn of<'a>(messages: &'a [Outgoing], machine: &str) -> Vec<&'a Outgoing> {
        let topic = TEMPLATE.replace(MACHINE_PLACEHOLDER, machine);
        messages.iter().filter(|message| message.topic == topic).collect()
    }

    fn json(message: &Outgoing) -> serde_json::Value {
        serde_json::from_slice(&message.payload).expect("valid JSON")
    }

    #[test]
    fn the_same_seed_produces_the_same_messages_and_another_one_does_not() {
        let messages = all(&mut fleet(12, 7, true), 120);
        assert_eq!(messages, all(&mut fleet(12, 7, true), 120));
        assert_ne!(messages, all(&mut fleet(12, 8, true), 120));
        let mut asked_often = fleet(12, 7, true);
        let often: Vec<Outgoing> = (0..=1200)
            .flat_map(|tick| asked_often.next(START.plus(Duration::from_millis(tick * 100))))
            .collect();
        assert_eq!(messages, often, "how often it is asked makes no difference");
    }

    #[test]
    fn healthy_machines_publish_once_per_interval_in_order_and_plausibly() {
        let messages = all(&mut fleet(10, 1, false), 3600);
        assert!(messages.is_sorted_by_key(|message| message.due));
        assert!(messages.iter().all(|message| message.fault.is_none()));
        for machine in 1..=10 {
            let id = format!("press-{machine:02}");
            let own = of(&messages, &id);
            assert!((3600..=3601).contains(&own.len()), "{id}: {}", own.len());
            for message in own {
                let value = json(message);
                assert_eq!(value["machine_id"], id.as_str());
                let within = |name: &str, low: f64, high: f64| {
                    let number = value[name].as_f64().expect("a number");
                    assert!((low..=high).contains(&number), "{name} {number}");
                };
                within("temperature", 30.0, 85.0);
                within("humidity", 25.0, 60.0);
                within("vibration", 0.0, 0.3);
                assert!(message.payload.len() < 220);
            }
        }
    }

    #[test]
    fn a_number_of_calls_gets_through_a_long_absence_with_bounded_batches() {
        let mut fleet = fleet(20, 3, true);
        let now = START.plus(Duration::from_secs(3600));
        let mut total = 0;
        loop {
            let batch = fleet.next(now);
            assert!(batch.len() <= AT_ONCE_MAX + 30);
            if batch.is_empty() {
                break;
            }
            total += batch.len();
        }
        assert!(total > 60_000, "{total}");
        assert!(fleet.next_due().is_some_and(|due| due > now));
    }

    #[test]
    fn each_fault_occurs_on_its_own_machine_only() {
        let mut fleet = fleet(12, 42, true);
        let messages = all(&mut fleet, 900);
        let counts = fleet.fault_counts();
        for (fault, count) in counts.iter() {
            assert!(count > 0, "{} never occurs", fault.as_str());
            let marked = messages.iter().filter(|message| message.fault == Some(fault)).count();
            if fault != Fault::Silence {
                assert_eq!(u64::try_from(marked), Ok(count), "{}", fault.as_str());
            }
        }
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            let topic = TEMPLATE.replace(MACHINE_PLACEHOLDER, &format!("press-{:02}", 12 - index));
            assert!(messages.iter().filter(|m| m.fault == Some(fault)).all(|m| m.topic == topic));
        }
        for machine in ["press-01", "press-02", "press-03", "press-04"] {
            assert!(of(&messages, machine).iter().all(|message| message.fault.is_none()));
        }
    }

    #[test]
    fn silence_lasts_30_to_60_seconds() {
        let messages = all(&mut fleet(12, 42, true), 1800);
        let dues: Vec<Timestamp> = of(&messages, "press-12").iter().map(|message| message.due).collect();
        let gaps: Vec<Duration> = dues.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        let silences: Vec<&Duration> = gaps.iter().filter(|gap| **gap > Duration::from_secs(1)).collect();
        assert!(silences.len() >= 3, "{silences:?}");
        assert!(silences.iter().all(|gap| (30..=60).contains(&gap.as_secs())), "{silences:?}");
    }

    #[test]
    fn the_faults_of_a_payload_are_what_they_are_called() {
        let messages = all(&mut fleet(12, 42, true), 600);
        for message in messages.iter().filter(|message| message.fault.is_some()) {
            let text = String::from_utf8(message.payload.clone()).expect("UTF-8");
            match message.fault.expect("has one") {
                Fault::UptimeClock => assert!(json(message)["timestamp"].as_u64().expect("whole") <= 600),
                Fault::BareTokens => {
                    assert!(serde_json::from_str::<serde_json::Value>(&text).is_err(), "{text}");
                    assert!(
                        ["NaN", "nan", "inf"].iter().any(|token| text.contains(&format!(":{token},"))),
                        "{text}"
                    );
                }
                Fault::Malformed => {
                    assert!(serde_json::from_str::<serde_json::Value>(&text).is_err(), "{text}")
                }
                Fault::TextNumbers => assert!(json(message)["humidity"].is_string()),
                Fault::NoMachineId => assert!(json(message).get("machine_id").is_none()),
                Fault::Silence | Fault::Duplicates | Fault::Burst => {}
            }
        }
        let mut seen: HashMap<&[u8], u32> = HashMap::new();
        messages.iter().for_each(|message| *seen.entry(&message.payload).or_default() += 1);
        let doubled = seen.values().filter(|count| **count == 2).count();
        let duplicates = messages.iter().filter(|message| message.fault == Some(Fault::Duplicates)).count();
        let cut_to_the_same = seen.values().filter(|count| **count > 2).count();
        assert!(doubled >= duplicates && duplicates > 100, "{doubled} {duplicates} {cut_to_the_same}");
        assert_eq!(of(&messages, "press-01").len(), 601, "no fault delays another machine");
    }

    #[test]
    fn small_fleets_keep_a_healthy_first_machine() {
        for machines in 1..=9 {
            assert_eq!(Fault::of(0, machines), None);
            let faulty = (0..machines).filter(|index| Fault::of(*index, machines).is_some()).count();
            assert_eq!(faulty, usize::try_from(machines - 1).expect("small").min(8));
        }
        assert!(fleet(0, 1, true).next(START).is_empty());
        assert_eq!(fleet(0, 1, true).next_due(), None);
    }
}
