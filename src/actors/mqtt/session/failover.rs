//! Which broker to turn to: pure bookkeeping, no I/O.
//!
//! Brokers are tried in turn. The one that took us last is the first to be asked again. Whoever refused MQTT 5 is not asked
//! for it again in this run. Some brokers refuse it by hanging up, as does one that is just going down; some by taking the
//! connection and never answering, as does one that is frozen. After the second time in a row 3.1.1 is tried, and kept if it is
//! taken: for the run after a hang-up, for a day after silence, which proves less. What was learnt outlives an incarnation of the
//! actor.
//!
//! - HOST-1 Between two waits of the backoff each broker is asked at most once (twice if it refuses MQTT 5, the first time).
//! - HOST-2 One that goes on refusing a subscription is left for the next after [`ASKED_MAX`] more requests; while none grants all, after
//!   twice as many each time, as each change costs a moment of sight.
//! - HOST-3 A broker that cannot be reached proves nothing about its protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::actors::mqtt::client::error::LinkError;
use crate::clock::Mono;
use crate::domain::{Endpoint, ProtocolChoice};

/// The brokers and what was learnt about them; shared by all incarnations.
#[derive(Debug)]
pub struct Hosts {
    endpoints: Vec<Endpoint>,
    protocol: ProtocolChoice,
    /// The one that took us last.
    preferred: AtomicUsize,
    /// For each, until when it is not asked for MQTT 5, in microseconds of [`Mono`].
    v311_until: Vec<AtomicU64>,
}

impl Hosts {
    /// Nothing learnt yet. `endpoints` holds at least one.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, protocol: ProtocolChoice) -> Self {
        assert!(!endpoints.is_empty(), "the configuration names a broker");
        let v311_until = endpoints.iter().map(|_| AtomicU64::new(0)).collect();
        Self { endpoints, protocol, preferred: AtomicUsize::new(0), v311_until }
    }
}

/// What to do after a broker has failed us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask the current broker, which is another one, or the same with another protocol, at once.
    AskNow,
    /// All have been asked: wait, then ask the current one.
    Wait,
}

/// Asked again so often for what it refuses, a broker is left the first time.
const ASKED_MAX: u32 = 3;
/// 96 requests, most of them a `mqtt.backoff_max` apart.
const DOUBLINGS_MAX: u32 = 5;

/// How a broker has failed us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It ended the connection in place of an answer to CONNECT.
    HungUp,
    /// It took the connection and left CONNECT unanswered.
    Silent,
    /// It answered CONNECT with a refusal.
    Refused,
    /// Anything else.
    Other,
}

impl From<&LinkError> for Failure {
    /// What an attempt to connect that ended like this says about the broker.
    fn from(error: &LinkError) -> Self {
        match error {
            LinkError::HungUp => Self::HungUp,
            LinkError::Silent => Self::Silent,
            LinkError::Refused(_) => Self::Refused,
            _ => Self::Other,
        }
    }
}

/// How often in a row MQTT 5 was left without an answer.
#[derive(Debug, Clone, Copy, Default)]
struct Unanswered {
    times: u8,
    /// At least once by silence.
    by_silence: bool,
}

/// So often in a row counts as a refusal of MQTT 5, for one try with 3.1.1.
const UNANSWERED_MAX: u8 = 2;
/// How long 3.1.1 is kept after silence: the broker may only have been frozen.
const SILENCE_COUNTS_FOR: Duration = Duration::from_secs(86_400);

/// That a broker speaks 3.1.1 and not 5, as it was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learnt {
    /// For the run: it hangs up on MQTT 5.
    HangsUp,
    /// For a day: it does not answer MQTT 5.
    SaysNothing,
}

impl Learnt {
    /// In words for the operator.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::HangsUp => "the broker hangs up on MQTT 5",
            Self::SaysNothing => {
                "the broker left MQTT 5 without an answer twice; after a day it is asked for 5 again"
            }
        }
    }
}

/// Whose turn it is.
#[derive(Debug)]
pub struct Failover {
    hosts: Arc<Hosts>,
    at: usize,
    /// What the current one was asked for: MQTT 5.
    v5: bool,
    /// How many have failed since the last wait.
    failed: usize,
    unanswered: Vec<Unanswered>,
    /// How many have been left for refusing a subscription since one of them granted all.
    left_refusing: u32,
}

impl Failover {
    /// Begins with the one that took us last, or else with the first.
    #[must_use]
    pub fn new(hosts: Arc<Hosts>) -> Self {
        let at = hosts.preferred.load(Ordering::Relaxed);
        let unanswered = vec![Unanswered::default(); hosts.endpoints.len()];
        Self { hosts, at, v5: false, failed: 0, unanswered, left_refusing: 0 }
    }

    /// Where the current one is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.hosts.endpoints[self.at]
    }

    /// Where the others are.
    #[must_use]
    pub fn others(&self) -> Vec<Endpoint> {
        self.hosts.endpoints.iter().filter(|each| *each != self.endpoint()).cloned().collect()
    }

    /// The current one is about to be asked: returns whether for MQTT 5.
    pub fn ask(&mut self, now: Mono) -> bool {
        let refused = now.0 < self.hosts.v311_until[self.at].load(Ordering::Relaxed);
        let unanswered = self.unanswered[self.at].times >= UNANSWERED_MAX;
        self.v5 = self.hosts.protocol != ProtocolChoice::V311 && !refused && !unanswered;
        self.v5
    }

    /// Whether the current one was asked for MQTT 5.
    #[must_use]
    pub fn speaks_v5(&self) -> bool {
        self.v5
    }

    /// The current one took us: it will be the first to be asked again. Whether it granted every subscription, too. Returns what
    /// that has shown about it.
    pub fn accepted(&mut self, granted_all: bool, now: Mono) -> Option<Learnt> {
        self.hosts.preferred.store(self.at, Ordering::Relaxed);
        self.failed = 0;
        if granted_all {
            self.left_refusing = 0;
        }
        let Unanswered { times, by_silence } = std::mem::take(&mut self.unanswered[self.at]);
        if times < UNANSWERED_MAX {
            return None;
        }
        let day = u64::try_from(SILENCE_COUNTS_FOR.as_micros()).expect("a day");
        let (learnt, until) = if by_silence {
            (Learnt::SaysNothing, now.0.saturating_add(day))
        } else {
            (Learnt::HangsUp, u64::MAX)
        };
        self.hosts.v311_until[self.at].store(until, Ordering::Relaxed);
        Some(learnt)
    }

    /// The current one has been asked `asked` times for what it refuses: whether it is the turn of another (HOST-2).
    #[must_use]
    pub fn is_over_for_refusing(&self, asked: u32) -> bool {
        let enough = ASKED_MAX << self.left_refusing.min(DOUBLINGS_MAX);
        self.hosts.endpoints.len() > 1 && asked >= enough
    }

    /// On to the next.
    pub fn leave_refusing(&mut self) {
        self.left_refusing = self.left_refusing.saturating_add(1);
        self.at = (self.at + 1) % self.hosts.endpoints.len();
    }

    /// The current one refuses MQTT 5. `None` if it was not asked for it, or if nothing else is allowed.
    pub fn refused_v5(&mut self) -> Option<Next> {
        let may_speak_older = self.hosts.protocol == ProtocolChoice::Auto && self.v5;
        may_speak_older.then(|| {
            self.hosts.v311_until[self.at].store(u64::MAX, Ordering::Relaxed);
            Next::AskNow
        })
    }

    /// The current one cannot be reached or refuses us: on to the next.
    pub fn failed(&mut self, how: Failure) -> Next {
        let may_speak_older = self.hosts.protocol == ProtocolChoice::Auto && self.v5;
        let Unanswered { times, by_silence } = self.unanswered[self.at];
        self.unanswered[self.at] = match how {
            Failure::HungUp | Failure::Silent if may_speak_older => {
                Unanswered { times: times + 1, by_silence: by_silence || how == Failure::Silent }
            }
            // It speaks 3.1.1, whatever it dislikes.
            Failure::Refused if !self.v5 => Unanswered { times, by_silence },
            _ => Unanswered::default(),
        };
        let count = self.hosts.endpoints.len();
        self.at = (self.at + 1) % count;
        self.failed += 1;
        if self.failed < count {
            return Next::AskNow;
        }
        self.failed = 0;
        Next::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono(5);

    fn later(days: u64) -> Mono {
        Mono(NOW.0 + days * 86_400_000_000)
    }

    fn hosts(count: u16, protocol: ProtocolChoice) -> Arc<Hosts> {
        let endpoints = (1..=count).map(|port| Endpoint { host: "broker".to_owned(), port }).collect();
        Arc::new(Hosts::new(endpoints, protocol))
    }

    #[test]
    fn each_is_asked_once_between_two_waits() {
        for count in 1..=4 {
            let mut failover = Failover::new(hosts(count, ProtocolChoice::Auto));
            for _round in 0..3 {
                let mut asked = Vec::new();
                loop {
                    asked.push(failover.endpoint().port);
                    if failover.failed(Failure::Other) == Next::Wait {
                        break;
                    }
                }
                asked.sort_unstable();
                assert_eq!(asked, (1..=count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_one_that_took_us_is_asked_first_also_by_the_next_incarnation() {
        let hosts = hosts(3, ProtocolChoice::Auto);
        let mut failover = Failover::new(Arc::clone(&hosts));
        assert_eq!(failover.failed(Failure::Other), Next::AskNow);
        failover.accepted(true, NOW);
        assert_eq!(failover.endpoint().port, 2);
        assert_eq!(Failover::new(Arc::clone(&hosts)).endpoint().port, 2);
        // A full round again before the next wait.
        assert_eq!(
            [
                failover.failed(Failure::Other),
                failover.failed(Failure::Other),
                failover.failed(Failure::Other)
            ],
            [Next::AskNow, Next::AskNow, Next::Wait]
        );
        assert_eq!(failover.endpoint().port, 2);
    }

    #[test]
    fn a_refusal_of_version_5_is_remembered_for_that_broker_and_the_run() {
        let hosts = hosts(2, ProtocolChoice::Auto);
        let mut failover = Failover::new(Arc::clone(&hosts));
        assert!(failover.ask(NOW));
        assert_eq!(failover.refused_v5(), Some(Next::AskNow));
        assert_eq!((failover.endpoint().port, failover.ask(NOW)), (1, false));
        assert_eq!(failover.refused_v5(), None, "3.1.1 is the oldest there is");
        failover.failed(Failure::Other);
        assert!(failover.ask(NOW));
        assert!(!Failover::new(hosts).ask(later(365)), "the next incarnation knows it");
    }

    /// What a broker is asked for, attempt by attempt, while it fails like this.
    fn asked(protocol: ProtocolChoice, failures: &[Failure]) -> Vec<bool> {
        let mut failover = Failover::new(hosts(1, protocol));
        let mut ask = |failure: &Failure| {
            let v5 = failover.ask(NOW);
            assert_eq!(failover.failed(*failure), Next::Wait);
            v5
        };
        failures.iter().map(&mut ask).collect()
    }

    #[test]
    fn version_5_without_an_answer_twice_in_a_row_is_left_for_one_attempt() {
        use Failure::{HungUp, Other, Refused, Silent};
        let table: [(&[Failure], &[bool]); 8] = [
            (&[HungUp; 6], &[true, true, false, true, true, false]),
            (&[Silent; 6], &[true, true, false, true, true, false]),
            (&[Silent, HungUp, Other, Silent], &[true, true, false, true]),
            (&[HungUp, Other, HungUp, HungUp, HungUp], &[true, true, true, true, false]),
            (&[Silent, Other, Silent, Other, Silent], &[true; 5]),
            (&[Other; 4], &[true; 4]),
            (&[Silent, Silent, Refused, Refused, Other, Silent], &[true, true, false, false, false, true]),
            (&[Silent, Refused, Silent, Silent, Silent], &[true, true, true, true, false]),
        ];
        for (failures, v5) in table {
            assert_eq!(asked(ProtocolChoice::Auto, failures), v5, "{failures:?}");
            assert_eq!(asked(ProtocolChoice::V5, failures), vec![true; v5.len()], "{failures:?}");
            assert_eq!(asked(ProtocolChoice::V311, failures), vec![false; v5.len()], "{failures:?}");
        }
    }

    #[test]
    fn what_is_learnt_from_silence_is_forgotten_after_a_day_and_what_from_a_hang_up_is_not() {
        use Failure::{HungUp, Silent};
        let table = [
            ([HungUp, HungUp], Learnt::HangsUp, true),
            ([Silent, Silent], Learnt::SaysNothing, false),
            ([Silent, HungUp], Learnt::SaysNothing, false),
            ([HungUp, Silent], Learnt::SaysNothing, false),
        ];
        for (failures, learnt, for_good) in table {
            let hosts = hosts(1, ProtocolChoice::Auto);
            let mut failover = Failover::new(Arc::clone(&hosts));
            for failure in failures {
                assert!(failover.ask(NOW));
                failover.failed(failure);
            }
            assert!(!failover.ask(NOW));
            assert_eq!(failover.accepted(true, NOW), Some(learnt));
            assert_eq!(failover.accepted(true, NOW), None, "it is news once");
            assert!(!failover.ask(Mono(later(1).0 - 1)), "{failures:?}");
            assert!(
                !Failover::new(Arc::clone(&hosts)).ask(Mono(later(1).0 - 1)),
                "the next incarnation knows it"
            );
            assert_eq!(failover.ask(later(1)), !for_good, "{failures:?}");
            // A protocol that is forgotten while it is spoken is still the one that is spoken.
            assert_eq!(failover.speaks_v5(), !for_good);
        }
    }

    #[test]
    fn silence_of_one_broker_is_none_of_another() {
        let mut failover = Failover::new(hosts(2, ProtocolChoice::Auto));
        for _ in 0..2 {
            assert!(failover.ask(NOW));
            failover.failed(Failure::Silent);
        }
        for (port, v5) in [(1, true), (2, true), (1, false), (2, false)] {
            assert_eq!((failover.endpoint().port, failover.ask(NOW)), (port, v5));
            failover.failed(Failure::Silent);
        }
    }

    #[test]
    fn h2_one_that_goes_on_refusing_a_subscription_is_left_ever_more_seldom() {
        let mut failover = Failover::new(hosts(3, ProtocolChoice::Auto));
        for (asked, next) in [(3, 2), (6, 3), (12, 1), (24, 2), (48, 3), (96, 1), (96, 2)] {
            failover.accepted(false, NOW);
            assert!(!failover.is_over_for_refusing(asked - 1) && failover.is_over_for_refusing(asked));
            failover.leave_refusing();
            assert_eq!(failover.endpoint().port, next);
        }
        failover.accepted(true, NOW);
        assert!(failover.is_over_for_refusing(3), "once one has granted all it begins anew");
        assert!(
            !Failover::new(hosts(1, ProtocolChoice::Auto)).is_over_for_refusing(1_000),
            "there is no other"
        );
    }

    #[test]
    fn a_fixed_protocol_is_not_left() {
        let mut fixed = Failover::new(hosts(1, ProtocolChoice::V5));
        assert!(fixed.ask(NOW));
        assert_eq!(fixed.refused_v5(), None);
        assert!(!Failover::new(hosts(1, ProtocolChoice::V311)).ask(NOW));
    }

    #[test]
    fn an_ipv6_address_is_written_in_brackets() {
        let endpoint = |host: &str| Endpoint { host: host.to_owned(), port: 1 }.address();
        assert_eq!((endpoint("a.b"), endpoint("::1")), ("a.b:1".to_owned(), "[::1]:1".to_owned()));
    }
}
