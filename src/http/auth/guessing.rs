//! Makes guessing slow: who has sent wrong tokens lately, and how long an address has to wait. Pure; the time comes in.
//!
//! Counts distinct wrong tokens by [`Network`]. Tokens come in as keyed digests, so that this memory is no list of tokens that almost fit.
//!
//! - Up to [`FREE`] wrong tokens cost nothing: people mistype. Then each further token waits, 1 s at first, up to
//!   [`WAIT_MAX`].
//! - A right token has to wait like a wrong one, else the answer would tell them apart. It forgives nothing, else one's own
//!   token would buy guesses at another's.
//! - A wrong token that comes again is no new guess: a scraper with a revoked token must not lock its host out.
//! - After [`FORGOTTEN_AFTER`] without a new one an address begins anew.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Mono;
use crate::http::network::Network;

/// Wrong tokens of an address that are checked at once.
pub const FREE: u32 = 5;
/// Longest wait between two tokens.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// An address without a new wrong token for this long begins anew.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Most addresses that are remembered. The one that was silent longest gives way.
const ADDRESSES_MAX: usize = 4_096;
/// Most wrong tokens of an address that are known again.
const KNOWN_AGAIN_MAX: usize = 16;

/// A token as it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guess {
    /// The keyed digest of its text.
    pub digest: u64,
    /// True if it is one of the configured ones.
    pub is_right: bool,
}

/// What becomes of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is right, and counts.
    Admitted,
    /// It is wrong.
    Wrong {
        /// It did not come from this address before.
        is_new: bool,
    },
    /// It is not looked at before this time has passed.
    Wait(Duration),
}

/// What an address has sent since its first wrong token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// From where.
    pub network: Network,
    /// Distinct wrong tokens.
    pub wrong: u32,
    /// Tokens that came too early, and were not looked at.
    pub turned_away: u64,
}

/// What became of a token, and the burst if it begins with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of the token.
    pub verdict: Verdict,
    /// The address has to wait from now on.
    pub begins: Option<Burst>,
}

/// The addresses that sent wrong tokens lately.
#[derive(Debug, Default)]
pub struct Guessing {
    addresses: HashMap<Network, Attempts>,
    /// Bursts of addresses that had to give way, until [`Guessing::ended`] returns them.
    pushed_out: Vec<Burst>,
}

#[derive(Debug)]
struct Attempts {
    wrong: u32,
    turned_away: u64,
    /// Nothing is looked at before.
    closed_until: Mono,
    /// When the newest distinct wrong token came.
    newest_at: Mono,
    /// When the newest wrong token came, a known one included.
    seen_at: Mono,
    /// Digests of wrong tokens, the one that came last at the end.
    known: VecDeque<u64>,
}

impl Attempts {
    fn new(now: Mono) -> Self {
        let known = VecDeque::new();
        Self { wrong: 0, turned_away: 0, closed_until: now, newest_at: now, seen_at: now, known }
    }

    fn burst(&self, network: Network) -> Option<Burst> {
        let Self { wrong, turned_away, .. } = *self;
        (wrong >= FREE).then_some(Burst { network, wrong, turned_away })
    }

    /// Begins anew, but knows the tokens again that still come.
    fn begin_anew(&mut self) {
        (self.wrong, self.turned_away, self.closed_until) = (0, 0, Mono::default());
    }

    fn is_over(&self, now: Mono) -> bool {
        now.since(self.newest_at) >= FORGOTTEN_AFTER
    }

    /// True if the token is one of those that came before; it then counts as the one that came last.
    fn knows(&mut self, digest: u64, now: Mono) -> bool {
        let Some(place) = self.known.iter().position(|known| *known == digest) else { return false };
        self.known.remove(place);
        self.known.push_back(digest);
        self.seen_at = now;
        true
    }

    fn add(&mut self, digest: u64, now: Mono) {
        self.wrong = self.wrong.saturating_add(1);
        (self.newest_at, self.seen_at) = (now, now);
        if self.known.len() >= KNOWN_AGAIN_MAX {
            self.known.pop_front();
        }
        self.known.push_back(digest);
        self.closed_until = Mono(now.0.saturating_add(Mono::from(wait_after(self.wrong)).0));
    }
}

/// Returns how long an address waits after that many distinct wrong tokens.
fn wait_after(wrong: u32) -> Duration {
    match wrong.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(beyond) => Duration::from_secs(1 << beyond.min(6)).min(WAIT_MAX),
    }
}

impl Guessing {
    /// Judges a token that comes from `network` now.
    pub fn judge(&mut self, network: Network, guess: Guess, now: Mono) -> Judgement {
        let judged = |verdict| Judgement { verdict, begins: None };
        if let Some(attempts) = self.addresses.get_mut(&network) {
            if attempts.is_over(now) {
                self.pushed_out.extend(attempts.burst(network));
                attempts.begin_anew();
            }
            if attempts.knows(guess.digest, now) {
                // A reload may have made it right.
                let wrong = Verdict::Wrong { is_new: false };
                return judged(if guess.is_right { Verdict::Admitted } else { wrong });
            }
            if now < attempts.closed_until {
                attempts.turned_away = attempts.turned_away.saturating_add(1);
                return judged(Verdict::Wait(attempts.closed_until.since(now)));
            }
        }
        if guess.is_right {
            return judged(Verdict::Admitted);
        }
        self.make_room_for(network);
        let attempts = self.addresses.entry(network).or_insert_with(|| Attempts::new(now));
        attempts.add(guess.digest, now);
        let begins = attempts.burst(network).filter(|burst| burst.wrong == FREE);
        Judgement { verdict: Verdict::Wrong { is_new: true }, begins }
    }

    fn make_room_for(&mut self, network: Network) {
        if self.addresses.len() < ADDRESSES_MAX || self.addresses.contains_key(&network) {
            return;
        }
        let silent = self.addresses.iter().min_by_key(|(_, attempts)| attempts.seen_at);
        if let Some((silent, attempts)) = silent.map(|(network, attempts)| (*network, attempts)) {
            self.pushed_out.extend(attempts.burst(silent));
            self.addresses.remove(&silent);
        }
    }

    /// Forgets what is over, and returns the bursts that have ended since it was asked last.
    pub fn ended(&mut self, now: Mono) -> Vec<Burst> {
        let ended = &mut self.pushed_out;
        self.addresses.retain(|network, attempts| {
            if attempts.is_over(now) {
                ended.extend(attempts.burst(*network));
                attempts.begin_anew();
            }
            now.since(attempts.seen_at) < FORGOTTEN_AFTER
        });
        std::mem::take(ended)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NEW: Verdict = Verdict::Wrong { is_new: true };
    const AGAIN: Verdict = Verdict::Wrong { is_new: false };

    fn at(seconds: u64) -> Mono {
        Mono::from(Duration::from_secs(1_000 + seconds))
    }

    fn wait(seconds: u64) -> Verdict {
        Verdict::Wait(Duration::from_secs(seconds))
    }

    fn network(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    fn judge(guessing: &mut Guessing, from: &str, token: u64, second: u64) -> Verdict {
        let guess = Guess { digest: token, is_right: token == 0 };
        guessing.judge(network(from), guess, at(second)).verdict
    }

    /// Proves HTTP-5.
    #[test]
    fn five_wrong_tokens_are_free_and_then_each_one_waits_twice_as_long_up_to_a_minute() {
        let mut guessing = Guessing::default();
        for token in 1..=5 {
            assert_eq!(judge(&mut guessing, "10.0.0.1", token, 0), NEW);
        }
        let (mut second, mut waits) = (0, Vec::new());
        for token in 6..16 {
            let Verdict::Wait(long) = judge(&mut guessing, "10.0.0.1", token, second) else {
                panic!("token {token} is looked at")
            };
            waits.push(long.as_secs());
            second += long.as_secs() - 1;
            assert_eq!(judge(&mut guessing, "10.0.0.1", token, second), wait(1));
            second += 1;
            assert_eq!(judge(&mut guessing, "10.0.0.1", token, second), NEW);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(judge(&mut guessing, "10.0.0.2", 77, second), NEW, "another address is free");
    }

    #[test]
    fn a_right_token_waits_like_a_wrong_one_and_forgives_nothing() {
        let mut guessing = Guessing::default();
        assert_eq!(judge(&mut guessing, "10.0.0.1", 0, 0), Verdict::Admitted);
        for token in 1..=5 {
            judge(&mut guessing, "10.0.0.1", token, 0);
            if token < 5 {
                assert_eq!(judge(&mut guessing, "10.0.0.1", 0, 0), Verdict::Admitted);
            }
        }
        assert_eq!(judge(&mut guessing, "10.0.0.1", 0, 0), wait(1));
        assert_eq!(judge(&mut guessing, "10.0.0.1", 0, 1), Verdict::Admitted);
        assert_eq!(judge(&mut guessing, "10.0.0.1", 6, 1), NEW);
        assert_eq!(judge(&mut guessing, "10.0.0.1", 7, 1), wait(2), "the admitted one changed nothing");
    }

    #[test]
    fn the_same_wrong_token_again_is_no_new_guess_and_becomes_right_by_a_reload() {
        let mut guessing = Guessing::default();
        assert_eq!(judge(&mut guessing, "10.0.0.1", 9, 0), NEW);
        // A scraper, for days.
        for scrape in 0..10_000 {
            assert_eq!(judge(&mut guessing, "10.0.0.1", 9, scrape * 15), AGAIN);
            assert_eq!(judge(&mut guessing, "10.0.0.1", 0, scrape * 15), Verdict::Admitted);
            assert_eq!(guessing.ended(at(scrape * 15)), []);
        }
        // Beside one that guesses it still gets its answer, and is no longer wrong once it is right.
        for token in 11..=15 {
            judge(&mut guessing, "10.0.0.1", token, 150_000);
        }
        assert_eq!(judge(&mut guessing, "10.0.0.1", 16, 150_000), wait(1));
        assert_eq!(judge(&mut guessing, "10.0.0.1", 9, 150_000), AGAIN);
        let guess = Guess { digest: 9, is_right: true };
        assert_eq!(guessing.judge(network("10.0.0.1"), guess, at(150_000)).verdict, Verdict::Admitted);
    }

    #[test]
    fn a_burst_is_reported_when_it_begins_and_when_it_ends_with_its_total() {
        let mut guessing = Guessing::default();
        let from = network("10.0.0.1");
        let mut begun = Vec::new();
        for token in 1..=40 {
            let guess = Guess { digest: token, is_right: false };
            begun.extend(guessing.judge(from, guess, at(token)).begins);
        }
        assert_eq!(begun, [Burst { network: from, wrong: 5, turned_away: 0 }]);
        assert_eq!(guessing.ended(at(600)), []);
        // Looked at: five, then at 6, 8, 12, 20 and 36 s.
        let whole = Burst { network: from, wrong: 10, turned_away: 30 };
        assert_eq!(guessing.ended(at(636)), [whole]);
        assert_eq!((guessing.ended(at(637)), guessing.addresses.len()), (Vec::new(), 0));
        assert_eq!(judge(&mut guessing, "10.0.0.1", 50, 637), NEW);
        assert_eq!(judge(&mut guessing, "10.0.0.1", 51, 637), NEW);
    }

    #[test]
    fn a_burst_that_nobody_asked_about_in_time_is_reported_too() {
        let mut guessing = Guessing::default();
        (1..=5).for_each(|token| _ = judge(&mut guessing, "10.0.0.1", token, 0));
        assert_eq!(judge(&mut guessing, "10.0.0.1", 6, 600), NEW, "it has begun anew");
        assert_eq!(guessing.ended(at(600)).len(), 1);
        assert_eq!(guessing.ended(at(600)).len(), 0);
    }

    #[test]
    fn hosts_cannot_guess_from_all_addresses_of_their_network() {
        let mut guessing = Guessing::default();
        for host in 1..=5 {
            assert_eq!(judge(&mut guessing, &format!("2001:db8:0:7::{host}"), host, 0), NEW);
        }
        assert_eq!(judge(&mut guessing, "2001:db8:0:7:ffff::1", 6, 0), wait(1));
        assert_eq!(judge(&mut guessing, "2001:db8:0:8::1", 6, 0), NEW);
        assert_eq!(network("2001:db8:0:7::9").to_string(), "2001:db8:0:7::/64");
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }

    /// Proves HTTP-2.
    #[test]
    fn many_addresses_push_out_the_one_that_was_silent_longest() {
        let mut guessing = Guessing::default();
        (1..=5).for_each(|token| _ = judge(&mut guessing, "10.0.0.1", token, 0));
        for number in 0..8_192_u32 {
            let from = std::net::Ipv4Addr::from_bits(0x0b00_0000 + number).to_string();
            judge(&mut guessing, &from, 1, if number < 4_095 { 1 } else { 2 });
            if number == 4_094 {
                assert_eq!(judge(&mut guessing, "10.0.0.1", 5, 1), AGAIN, "it still has its place");
            }
        }
        assert_eq!(guessing.addresses.len(), ADDRESSES_MAX);
        assert_eq!(guessing.ended(at(2)).len(), 1, "what it did is reported all the same");
    }

    proptest! {
        /// Proves HTTP-5.
        ///
        /// However tokens and pauses are mixed: once the free ones are used up, the checks of an address are apart by the
        /// wait that belongs to their number, and nothing is admitted before its time.
        #[test]
        fn no_order_of_tokens_gets_more_guesses(steps in prop::collection::vec((0_u64..40, 0_u64..90), 1..200)) {
            let mut guessing = Guessing::default();
            let (mut now, mut closed_until, mut newest, mut seen) = (0, 0, 0, VecDeque::new());
            let mut wrong = 0_u32;
            for (token, pause) in steps {
                now += pause;
                if now - newest >= FORGOTTEN_AFTER.as_secs() {
                    (wrong, closed_until) = (0, 0);
                }
                let verdict = judge(&mut guessing, "10.0.0.1", token, now);
                if let Some(place) = seen.iter().position(|known| *known == token) {
                    seen.remove(place);
                    seen.push_back(token);
                    prop_assert_eq!(verdict, AGAIN);
                } else if now < closed_until {
                    prop_assert_eq!(verdict, wait(closed_until - now));
                } else if token == 0 {
                    prop_assert_eq!(verdict, Verdict::Admitted);
                } else {
                    prop_assert_eq!(verdict, NEW);
                    wrong += 1;
                    newest = now;
                    seen.push_back(token);
                    if seen.len() > KNOWN_AGAIN_MAX { seen.pop_front(); }
                    closed_until = now + if wrong < FREE { 0 } else { 60.min(1 << (wrong - FREE).min(6)) };
                }
            }
        }
    }
}
