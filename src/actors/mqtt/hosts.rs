//! Which broker to turn to: pure bookkeeping, no I/O.
//!
//! Brokers are tried in turn. The one that took us last is the first to be asked again. Whoever refused MQTT 5 is not asked
//! for it again in this run. Some brokers refuse it by hanging up, as does one that is just going down: after the second time
//! in a row 3.1.1 is tried, and kept if it is taken. What was learnt outlives an incarnation of the actor.
//!
//! - H1 Between two waits of the backoff each broker is asked at most once (twice if it refuses MQTT 5, the first time).
//! - H2 One that goes on refusing a subscription is left for the next after [`ASKED_MAX`] more requests; while none grants all, after
//!   twice as many each time, as each change costs a moment of sight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::link_options::ProtocolChoice;

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or IP address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// `host:port`, an IPv6 address in brackets.
    #[must_use]
    pub fn address(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// The brokers and what was learnt about them; shared by all incarnations.
#[derive(Debug)]
pub struct Hosts {
    endpoints: Vec<Endpoint>,
    protocol: ProtocolChoice,
    /// The one that took us last.
    preferred: AtomicUsize,
    refuses_v5: Vec<AtomicBool>,
}

impl Hosts {
    /// Nothing learnt yet. `endpoints` holds at least one.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, protocol: ProtocolChoice) -> Self {
        assert!(!endpoints.is_empty(), "the configuration names a broker");
        let refuses_v5 = endpoints.iter().map(|_| AtomicBool::new(false)).collect();
        Self { endpoints, protocol, preferred: AtomicUsize::new(0), refuses_v5 }
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

/// Whose turn it is.
#[derive(Debug)]
pub struct Turn {
    hosts: Arc<Hosts>,
    at: usize,
    /// How many have failed since the last wait.
    failed: usize,
    /// How often in a row each has hung up on MQTT 5.
    hung_up: Vec<u8>,
    /// How many have been left for refusing a subscription since one of them granted all.
    left_refusing: u32,
}

/// How a broker has failed us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It ended the connection in place of an answer to CONNECT.
    HungUp,
    /// Anything else.
    Other,
}

/// Hanging up on MQTT 5 so often in a row counts as a refusal of it, for one try with 3.1.1.
const HUNG_UP_MAX: u8 = 2;

impl Turn {
    /// Begins with the one that took us last, or else with the first.
    #[must_use]
    pub fn new(hosts: Arc<Hosts>) -> Self {
        let at = hosts.preferred.load(Ordering::Relaxed);
        let hung_up = vec![0; hosts.endpoints.len()];
        Self { hosts, at, failed: 0, hung_up, left_refusing: 0 }
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

    /// Whether to speak MQTT 5 with the current one.
    #[must_use]
    pub fn speaks_v5(&self) -> bool {
        let refused = self.hosts.refuses_v5[self.at].load(Ordering::Relaxed);
        self.hosts.protocol != ProtocolChoice::V311 && !refused && self.hung_up[self.at] < HUNG_UP_MAX
    }

    /// The current one took us: it will be the first to be asked again. Whether it granted every subscription, too.
    pub fn accepted(&mut self, granted_all: bool) {
        self.hosts.preferred.store(self.at, Ordering::Relaxed);
        self.failed = 0;
        if self.hung_up[self.at] >= HUNG_UP_MAX {
            self.hosts.refuses_v5[self.at].store(true, Ordering::Relaxed);
        }
        self.hung_up[self.at] = 0;
        if granted_all {
            self.left_refusing = 0;
        }
    }

    /// The current one has been asked `asked` times for what it refuses: whether it is the turn of another (H2).
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
        let may_speak_older = self.hosts.protocol == ProtocolChoice::Auto && self.speaks_v5();
        may_speak_older.then(|| {
            self.hosts.refuses_v5[self.at].store(true, Ordering::Relaxed);
            Next::AskNow
        })
    }

    /// The current one cannot be reached or refuses us: on to the next.
    pub fn failed(&mut self, how: Failure) -> Next {
        let counts =
            how == Failure::HungUp && self.hosts.protocol == ProtocolChoice::Auto && self.speaks_v5();
        self.hung_up[self.at] = if counts { self.hung_up[self.at] + 1 } else { 0 };
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

    fn hosts(count: u16, protocol: ProtocolChoice) -> Arc<Hosts> {
        let endpoints = (1..=count).map(|port| Endpoint { host: "broker".to_owned(), port }).collect();
        Arc::new(Hosts::new(endpoints, protocol))
    }

    #[test]
    fn each_is_asked_once_between_two_waits() {
        for count in 1..=4 {
            let mut turn = Turn::new(hosts(count, ProtocolChoice::Auto));
            for _round in 0..3 {
                let mut asked = Vec::new();
                loop {
                    asked.push(turn.endpoint().port);
                    if turn.failed(Failure::Other) == Next::Wait {
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
        let mut turn = Turn::new(Arc::clone(&hosts));
        assert_eq!(turn.failed(Failure::Other), Next::AskNow);
        turn.accepted(true);
        assert_eq!(turn.endpoint().port, 2);
        assert_eq!(Turn::new(Arc::clone(&hosts)).endpoint().port, 2);
        // A full round again before the next wait.
        assert_eq!(
            [turn.failed(Failure::Other), turn.failed(Failure::Other), turn.failed(Failure::Other)],
            [Next::AskNow, Next::AskNow, Next::Wait]
        );
        assert_eq!(turn.endpoint().port, 2);
    }

    #[test]
    fn a_refusal_of_version_5_is_remembered_for_that_broker_only() {
        let hosts = hosts(2, ProtocolChoice::Auto);
        let mut turn = Turn::new(Arc::clone(&hosts));
        assert!(turn.speaks_v5());
        assert_eq!(turn.refused_v5(), Some(Next::AskNow));
        assert_eq!((turn.endpoint().port, turn.speaks_v5()), (1, false));
        assert_eq!(turn.refused_v5(), None, "3.1.1 is the oldest there is");
        turn.failed(Failure::Other);
        assert!(turn.speaks_v5());
        assert!(!Turn::new(hosts).speaks_v5(), "the next incarnation knows it");
    }

    #[test]
    fn a_broker_that_hangs_up_twice_on_version_5_is_tried_with_3_1_1_and_kept_if_it_takes_it() {
        let hosts = hosts(1, ProtocolChoice::Auto);
        let mut turn = Turn::new(Arc::clone(&hosts));
        let mut spoken = Vec::new();
        for _ in 0..6 {
            spoken.push(turn.speaks_v5());
            assert_eq!(turn.failed(Failure::HungUp), Next::Wait);
        }
        assert_eq!(
            spoken,
            [true, true, false, true, true, false],
            "one that hangs up on both is not given up"
        );
        turn.failed(Failure::HungUp);
        turn.failed(Failure::Other);
        turn.failed(Failure::HungUp);
        assert!(turn.speaks_v5(), "in a row");
        turn.failed(Failure::HungUp);
        turn.accepted(true);
        assert!(!turn.speaks_v5());
        assert!(!Turn::new(hosts).speaks_v5());
        let mut fixed = Turn::new(self::hosts(1, ProtocolChoice::V5));
        for _ in 0..3 {
            fixed.failed(Failure::HungUp);
        }
        assert!(fixed.speaks_v5());
    }

    #[test]
    fn h2_one_that_goes_on_refusing_a_subscription_is_left_ever_more_seldom() {
        let mut turn = Turn::new(hosts(3, ProtocolChoice::Auto));
        for (asked, next) in [(3, 2), (6, 3), (12, 1), (24, 2), (48, 3), (96, 1), (96, 2)] {
            turn.accepted(false);
            assert!(!turn.is_over_for_refusing(asked - 1) && turn.is_over_for_refusing(asked));
            turn.leave_refusing();
            assert_eq!(turn.endpoint().port, next);
        }
        turn.accepted(true);
        assert!(turn.is_over_for_refusing(3), "once one has granted all it begins anew");
        assert!(!Turn::new(hosts(1, ProtocolChoice::Auto)).is_over_for_refusing(1_000), "there is no other");
    }

    #[test]
    fn a_fixed_protocol_is_not_left() {
        assert_eq!(Turn::new(hosts(1, ProtocolChoice::V5)).refused_v5(), None);
        assert!(!Turn::new(hosts(1, ProtocolChoice::V311)).speaks_v5());
    }

    #[test]
    fn an_ipv6_address_is_written_in_brackets() {
        let endpoint = |host: &str| Endpoint { host: host.to_owned(), port: 1 }.address();
        assert_eq!((endpoint("a.b"), endpoint("::1")), ("a.b:1".to_owned(), "[::1]:1".to_owned()));
    }
}
