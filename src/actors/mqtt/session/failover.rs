//! Which broker to ask next, and with which protocol: pure bookkeeping.
//!
//! Brokers are asked in turn, starting with the one that accepted us last. A broker that refused MQTT 5 is
//! not asked for it again in this run. Some brokers refuse it by hanging up, as does one that is just
//! shutting down; some by accepting the connection and never answering, as does one that is frozen. So the
//! second such failure in a row leads to one attempt with 3.1.1. If that works, 3.1.1 stays: for the run
//! after a hang-up, for a day after silence, which proves less. What was learnt survives a restart of the
//! actor.
//!
//! - HOST-1 Between two waits of the backoff each broker is asked at most once (twice, the first time, if it
//!   refuses MQTT 5).
//! - HOST-2 A broker that keeps refusing a subscription is left for the next one after [`ASKED_MAX`] more
//!   requests, and after twice as many each time while none grants all: each change leaves machines unseen
//!   for a moment.
//! - HOST-3 A broker that cannot be reached proves nothing about its protocol.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::actors::mqtt::client::error::LinkError;
use crate::clock::Mono;
use crate::domain::{Endpoint, ProtocolChoice};

/// The brokers and what this run has learnt about them; shared by all incarnations of the actor.
#[derive(Debug)]
pub struct Hosts {
    endpoints: Vec<Endpoint>,
    protocol: ProtocolChoice,
    /// The one that accepted us last.
    preferred: AtomicUsize,
    /// For each broker: until when it is not asked for MQTT 5, in microseconds of [`Mono`].
    v311_until: Vec<AtomicU64>,
}

impl Hosts {
    /// Starts without knowledge. `endpoints` holds at least one.
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
    /// All have failed: wait, then ask the current one.
    Wait,
}

/// After so many repeated requests a broker that refuses a filter is left, the first time.
const ASKED_MAX: u32 = 3;
/// Up to 96 requests, most of them a `mqtt.backoff_max` apart.
const DOUBLINGS_MAX: u32 = 5;

/// How a broker has failed us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It closed the connection instead of answering CONNECT.
    HungUp,
    /// It accepted the connection and left CONNECT unanswered.
    Silent,
    /// It answered CONNECT with a refusal.
    Refused,
    /// Anything else.
    Other,
}

impl From<&LinkError> for Failure {
    /// What the outcome of an attempt says about the broker.
    fn from(error: &LinkError) -> Self {
        match error {
            LinkError::HungUp => Self::HungUp,
            LinkError::Silent => Self::Silent,
            LinkError::Refused(_) => Self::Refused,
            _ => Self::Other,
        }
    }
}

/// How often in a row MQTT 5 got no answer.
#[derive(Debug, Clone, Copy, Default)]
struct Unanswered {
    times: u8,
    /// At least once by silence.
    by_silence: bool,
}

/// So many in a row count as a refusal of MQTT 5, for one attempt with 3.1.1.
const UNANSWERED_MAX: u8 = 2;
/// How long 3.1.1 stays after silence: the broker may only have been frozen.
const SILENCE_COUNTS_FOR: Duration = Duration::from_secs(86_400);

/// Why a broker counts as one that speaks 3.1.1 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learnt {
    /// It hangs up on MQTT 5; holds for the run.
    HangsUp,
    /// It does not answer MQTT 5; holds for a day.
    SaysNothing,
}

impl Learnt {
    /// Returns the reason, for the operator.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::HangsUp => "the broker hangs up on MQTT 5",
            Self::SaysNothing => {
                "the broker left MQTT 5 unanswered twice; Andon asks for 5 again after a day"
            }
        }
    }
}

/// Which broker is current.
#[derive(Debug)]
pub struct Failover {
    hosts: Arc<Hosts>,
    at: usize,
    /// The current one was asked for MQTT 5.
    v5: bool,
    /// How many have failed since the last wait.
    failed: usize,
    unanswered: Vec<Unanswered>,
    /// How many were left for refusing a subscription since one granted all.
    left_refusing: u32,
}

impl Failover {
    /// Begins with the broker that accepted us last, or with the first.
    #[must_use]
    pub fn new(hosts: Arc<Hosts>) -> Self {
        let at = hosts.preferred.load(Ordering::Relaxed);
        let unanswered = vec![Unanswered::default(); hosts.endpoints.len()];
        Self { hosts, at, v5: false, failed: 0, unanswered, left_refusing: 0 }
    }

    /// Returns the address of the current broker.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.hosts.endpoints[self.at]
    }

    /// Returns the addresses of the others.
    #[must_use]
    pub fn others(&self) -> Vec<Endpoint> {
        self.hosts.endpoints.iter().filter(|each| *each != self.endpoint()).cloned().collect()
    }

    /// Chooses the protocol for the next attempt at the current broker. Returns whether it is MQTT 5.
    pub fn ask(&mut self, now: Mono) -> bool {
        let refused = now.0 < self.hosts.v311_until[self.at].load(Ordering::Relaxed);
        let unanswered = self.unanswered[self.at].times >= UNANSWERED_MAX;
        self.v5 = self.hosts.protocol != ProtocolChoice::V311 && !refused && !unanswered;
        self.v5
    }

    /// Returns whether the current broker was asked for MQTT 5.
    #[must_use]
    pub fn speaks_v5(&self) -> bool {
        self.v5
    }

    /// Notes that the current broker accepted us, and whether it granted every subscription: it will be the
    /// first to be asked again. Returns what is newly known about its protocol.
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

    /// Returns whether another broker is next, after `asked` repeated requests for what this one refuses
    /// (HOST-2).
    #[must_use]
    pub fn is_over_for_refusing(&self, asked: u32) -> bool {
        let enough = ASKED_MAX << self.left_refusing.min(DOUBLINGS_MAX);
        self.hosts.endpoints.len() > 1 && asked >= enough
    }

    /// Leaves the current broker, which keeps refusing a subscription, for the next.
    pub fn leave_refusing(&mut self) {
        self.left_refusing = self.left_refusing.saturating_add(1);
        self.at = (self.at + 1) % self.hosts.endpoints.len();
    }

    /// Notes that the current broker refuses MQTT 5. `None` if it was not asked for it, or the configuration
    /// allows nothing else.
    pub fn refused_v5(&mut self) -> Option<Next> {
        let may_speak_older = self.hosts.protocol == ProtocolChoice::Auto && self.v5;
        may_speak_older.then(|| {
            self.hosts.v311_until[self.at].store(u64::MAX, Ordering::Relaxed);
            Next::AskNow
        })
    }

    /// Notes that the current broker is unreachable or refuses us, and moves on to the next.
    pub fn failed(&mut self, how: Failure) -> Next {
        let may_speak_older = self.hosts.protocol == ProtocolChoice::Auto && self.v5;
        let Unanswered { times, by_silence } = self.unanswered[self.at];
        self.unanswered[self.at] = match how {
            Failure::HungUp | Failure::Silent if may_speak_older => {
                Unanswered { times: times + 1, by_silence: by_silence || how == Failure::Silent }
            }
            // It answers 3.1.1, whatever its reason to refuse.
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
