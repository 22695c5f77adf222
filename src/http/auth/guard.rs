//! What stands before every check of a token: counts the refused ones, makes guessing slow, and says so in the log.
//!
//! Owns the memory of wrong tokens ([`Guessing`]) behind a lock that is held for microseconds. Outlives reloads and the
//! generations of the server. One warning when an address begins to guess and one line when it has stopped, however much
//! it sends; of many addresses at once at most [`WARNINGS_PER_MINUTE`] are named.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use slog::{Logger, info, o, warn};

use super::guessing::{Burst, Guess, Guessing, Verdict};
use super::pace::Pace;
use crate::clock::{Mono, mono_now};
use crate::http::network::Network;
use crate::logging::keys;
use crate::metrics::Metrics;

/// Most addresses that are named in a minute.
const WARNINGS_PER_MINUTE: u32 = 10;
/// Most refusals that the audit log takes in a minute.
const REFUSALS_PER_MINUTE: u32 = 60;

/// Stands before every check of a token.
pub struct TokenGuard {
    memory: Mutex<Memory>,
    /// Keys the digests of the tokens that come.
    key: RandomState,
    metrics: Arc<Metrics>,
    logger: Logger,
}

struct Memory {
    guessing: Guessing,
    warnings: Pace,
    refusals: Pace,
}

impl TokenGuard {
    /// Creates a guard that remembers nothing.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>, logger: &Logger) -> Self {
        let pace = |max| Pace::new(max, Duration::from_secs(60));
        let (warnings, refusals) = (pace(WARNINGS_PER_MINUTE), pace(REFUSALS_PER_MINUTE));
        Self {
            memory: Mutex::new(Memory { guessing: Guessing::default(), warnings, refusals }),
            key: RandomState::new(),
            metrics: Arc::clone(metrics),
            logger: logger.new(o!(keys::COMPONENT => "http")),
        }
    }

    /// Judges a token that a client at `address` has sent.
    pub(super) fn judge(&self, address: IpAddr, token: &[u8], is_right: bool) -> Verdict {
        self.judge_at(address, token, is_right, mono_now())
    }

    fn judge_at(&self, address: IpAddr, token: &[u8], is_right: bool, now: Mono) -> Verdict {
        let guess = Guess { digest: self.key.hash_one(token), is_right };
        let (judgement, is_named) = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let judgement = memory.guessing.judge(Network::of(address), guess, now);
            (judgement, judgement.begins.is_some() && memory.warnings.admits(now))
        };
        if judgement.verdict != Verdict::Admitted {
            self.metrics.http_auth_failures.add(1);
        }
        if let Some(burst) = judgement.begins.filter(|_| is_named) {
            warn!(self.logger, "somebody guesses tokens, or a program has a wrong one: further tokens from this address \
                are checked one at a time, up to a minute apart"; "address" => %burst.network, "wrong" => burst.wrong);
        }
        judgement.verdict
    }

    /// True if the audit log takes another refusal now.
    pub(super) fn admits_refusal(&self) -> bool {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).refusals.admits(mono_now())
    }

    /// Returns how many refusals the audit log did not take, once their minute is over.
    pub(super) fn refusals_left_out(&self) -> Option<u64> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).refusals.left_out(mono_now())
    }

    /// Reports what has ended. Called every second or so.
    pub(super) fn tick(&self) {
        self.tick_at(mono_now());
    }

    fn tick_at(&self, now: Mono) {
        let (ended, unnamed) = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            (memory.guessing.ended(now), memory.warnings.left_out(now))
        };
        if let Some(addresses) = unnamed {
            warn!(self.logger, "more addresses sent wrong tokens than the log names"; "addresses" => addresses);
        }
        self.report(&ended);
    }

    /// As many lines as warnings: an attack from everywhere must not fill the log when it ends, either.
    fn report(&self, ended: &[Burst]) {
        let (named, others) = ended.split_at(ended.len().min(WARNINGS_PER_MINUTE as usize));
        for burst in named {
            info!(self.logger, "no new wrong token came from this address for ten minutes: its tokens are checked at \
                once again"; "address" => %burst.network, "wrong" => burst.wrong, "turned_away" => burst.turned_away);
        }
        if !others.is_empty() {
            let wrong: u64 = others.iter().map(|burst| u64::from(burst.wrong)).sum();
            info!(self.logger, "no new wrong token came from these addresses for ten minutes";
                "addresses" => others.len(), "wrong" => wrong);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::logged::Logged;

    #[test]
    fn a_burst_is_one_warning_and_one_line_at_its_end_and_every_refused_token_is_counted() {
        let (metrics, logged) = (Arc::new(Metrics::default()), Logged::default());
        let guard = TokenGuard::new(&metrics, &logged.logger());
        let address: IpAddr = "10.0.0.7".parse().unwrap();
        let at = |seconds: u64| Mono::from(Duration::from_secs(seconds));
        for number in 0..1_000_u64 {
            guard.judge_at(address, format!("guess {number}").as_bytes(), false, at(100));
        }
        assert_eq!(metrics.http_auth_failures.get(), 1_000);
        let text = logged.text();
        assert_eq!(text.matches("somebody guesses tokens").count(), 1, "{text}");
        assert!(text.contains("10.0.0.7") && text.contains("\"wrong\":5"), "{text}");
        guard.tick_at(at(699));
        assert_eq!(logged.text(), text);
        guard.tick_at(at(700));
        let end = logged.text()[text.len()..].to_owned();
        assert!(end.contains("\"wrong\":5") && end.contains("\"turned_away\":995"), "{end}");
        assert_eq!(end.lines().count(), 1, "{end}");
        assert!(!logged.text().contains("guess 1"), "no token is logged");
    }

    #[test]
    fn an_attack_from_everywhere_does_not_fill_the_log() {
        let (metrics, logged) = (Arc::new(Metrics::default()), Logged::default());
        let guard = TokenGuard::new(&metrics, &logged.logger());
        let at = |seconds: u64| Mono::from(Duration::from_secs(seconds));
        for number in 0..500_u32 {
            let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into();
            (0..6_u8).for_each(|guess| _ = guard.judge_at(address, &[guess], false, at(100)));
        }
        guard.tick_at(at(161));
        guard.tick_at(at(800));
        let text = logged.text();
        assert_eq!(text.matches("somebody guesses tokens").count(), 10, "{text}");
        assert!(text.contains("\"addresses\":490"), "{text}");
        assert!(text.lines().count() <= 22, "{text}");
    }
}
