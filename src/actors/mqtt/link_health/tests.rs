//! The rules, one claim a test.

mod lost_echoes;
mod proofs;
mod signs_of_life;
mod standstills;

use super::Effect::{GiveUp, Log, SendEcho, SendUnsubscribe};
use super::*;

const NONCE: u64 = 7;

fn at(ms: u64) -> Mono {
    Mono(ms * 1_000)
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A link that came up at 0 s, checked every 100 ms. Keep-alive 30 s, `offline_after` 15 s: it asks after
/// 3.75 s of silence and gives up 33.75 s later.
struct TestLink {
    health: LinkHealth,
    checked_at: u64,
}

impl TestLink {
    fn new(nonce: Option<u64>) -> Self {
        let mut health =
            LinkHealth::new(Timing::of(Duration::from_secs(30), Duration::from_secs(15)), Seq(3));
        health.link_up(at(0), nonce);
        Self { health, checked_at: 0 }
    }

    /// With an echo that has come back once.
    fn proven() -> Self {
        let mut link = Self::new(Some(NONCE));
        assert_eq!(link.check_until(100), [SendEcho(1)]);
        assert!(link.echo(1, 101, 0));
        link
    }

    /// Runs the checks until then; returns what they ask for.
    fn check_until(&mut self, until: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.checked_at + 100 <= until {
            self.checked_at += 100;
            effects.extend(self.health.check(at(self.checked_at), false));
        }
        effects
    }

    /// Runs the first check after a standstill.
    fn look_again_at(&mut self, now: u64) -> Vec<Effect> {
        self.checked_at = now;
        self.health.check(at(now), false)
    }

    fn want(&mut self, now: u64) -> Vec<Effect> {
        let before = self.check_until(now.saturating_sub(50));
        self.health.request_proof();
        self.checked_at = now;
        [before, self.health.check(at(now), false)].concat()
    }

    fn echo(&mut self, number: u64, now: u64, upto: u64) -> bool {
        let payload = self.health.echo_payload(number).expect("a link with an echo");
        self.health.echo(payload.as_bytes(), at(now), Seq(upto))
    }

    fn message(&mut self, now: u64) {
        self.health.message(at(now), at(now));
    }

    /// Receives ten messages a second until then, and checks as often.
    fn messages_until(&mut self, until: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.checked_at + 100 <= until {
            self.message(self.checked_at + 99);
            effects.extend(self.check_until(self.checked_at + 100));
        }
        effects
    }

    fn proven_at(&self) -> Option<Mono> {
        self.health.proof().map(|proof| proof.at)
    }
}
