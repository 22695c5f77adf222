//! The rules, one claim a test.

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
struct Bench {
    health: LinkHealth,
    checked_at: u64,
}

impl Bench {
    fn new(nonce: Option<u64>) -> Self {
        let mut health =
            LinkHealth::new(Timing::of(Duration::from_secs(30), Duration::from_secs(15)), Seq(3));
        health.link_up(at(0), nonce);
        Self { health, checked_at: 0 }
    }

    /// With an echo that has come back once.
    fn proven() -> Self {
        let mut bench = Self::new(Some(NONCE));
        assert_eq!(bench.check_until(100), [SendEcho(1)]);
        assert!(bench.echo(1, 101, 0));
        bench
    }

    /// What it wants done up to then.
    fn check_until(&mut self, until: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.checked_at + 100 <= until {
            self.checked_at += 100;
            effects.extend(self.health.check(at(self.checked_at), false));
        }
        effects
    }

    /// Looks for the first time after a standstill.
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

    /// Messages come ten times a second, and it looks as often.
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

/// Proves LINK-1.
#[test]
fn an_echo_proves_the_time_until_it_was_sent_and_takes_the_records_until_it_came() {
    let mut bench = Bench::proven();
    assert_eq!(bench.want(1_000), [SendEcho(2)]);
    bench.message(1_100);
    assert!(bench.echo(2, 1_200, 42));
    assert_eq!(bench.health.proof(), Some(LinkProof { at: at(1_000), upto: Seq(42) }));
}

/// Proves LINK-1.
#[test]
fn one_echo_is_in_flight_at_a_time_and_the_next_request_follows_it() {
    let mut bench = Bench::proven();
    assert_eq!(bench.want(1_000), [SendEcho(2)]);
    assert_eq!(bench.want(1_050), []);
    assert!(bench.echo(2, 1_060, 0));
    assert!(!bench.echo(2, 1_070, 0), "it counts once");
    assert_eq!(bench.check_until(1_150), [SendEcho(3)]);
    assert!(bench.echo(3, 1_151, 0));
    assert_eq!(bench.check_until(1_250), []);
}

/// Proves LINK-1.
#[test]
fn a_foreign_echo_an_old_one_and_one_of_a_former_link_prove_nothing() {
    let mut bench = Bench::proven();
    bench.want(1_000);
    for foreign in ["", "-", "2", "0000000000000008-2", "0000000000000007", "0000000000000007-x", "\u{fc}-2"]
    {
        assert!(!bench.health.echo(foreign.as_bytes(), at(1_010), Seq(9)), "{foreign:?}");
    }
    assert!(!bench.health.echo(&[0xff, b'-', b'2'], at(1_010), Seq(9)));
    assert!(!bench.echo(1, 1_010, 9), "old");
    let of_this_link = bench.health.echo_payload(2).expect("a link");
    bench.health.link_down(Seq(9));
    assert!(!bench.health.echo(of_this_link.as_bytes(), at(1_020), Seq(9)), "no link");
    bench.health.link_up(at(1_030), Some(NONCE + 1));
    bench.check_until(1_100);
    assert!(!bench.health.echo(of_this_link.as_bytes(), at(1_110), Seq(9)), "the link before");
    assert_eq!(bench.proven_at(), Some(at(100)));
    assert!(bench.echo(1, 1_120, 9));
}

/// Proves LINK-1.
#[test]
fn an_echo_is_tested_when_the_link_comes_up() {
    assert_eq!(Bench::new(Some(NONCE)).check_until(100), [SendEcho(1)]);
    assert_eq!(Bench::new(None).check_until(3_700), []);
}

/// Proves LINK-2, MQTT-8.
#[test]
fn messages_and_acknowledgements_are_signs_of_life_and_no_proofs() {
    let mut bench = Bench::proven();
    bench.want(1_000);
    bench.message(1_010);
    bench.health.acknowledged(2, at(1_020));
    bench.health.sign_of_life(at(1_030));
    assert!(!bench.health.unsubscribed(1, at(1_040), Seq(9)));
    assert_eq!((bench.proven_at(), bench.health.heard_at()), (Some(at(100)), at(1_040)));
}

/// Proves LINK-1.
#[test]
fn without_an_echo_the_answer_to_an_unsubscribe_is_the_proof() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.want(1_000), [SendUnsubscribe(1)]);
    assert!(!bench.health.unsubscribed(9, at(1_010), Seq(3)));
    assert!(bench.health.unsubscribed(1, at(1_010), Seq(3)));
    assert_eq!(bench.health.proof(), Some(LinkProof { at: at(1_000), upto: Seq(3) }));
}

/// Proves LINK-3.
#[test]
fn an_echo_that_waited_behind_a_backlog_is_a_proof_however_long_it_took() {
    let mut bench = Bench::proven();
    bench.want(1_000);
    bench.health.acknowledged(2, at(1_010));
    assert_eq!(bench.messages_until(41_000), [], "and nothing else is asked meanwhile");
    assert!(bench.echo(2, 41_010, 4_000));
    assert_eq!(bench.proven_at(), Some(at(1_000)));
}

/// Proves LINK-3, MQTT-8.
#[test]
fn after_a_silence_of_the_broker_two_echoes_are_needed_and_the_second_waits_as_long_as_it_lasted() {
    let mut bench = Bench::proven();
    bench.want(1_000);
    bench.health.acknowledged(2, at(1_010));
    assert_eq!(bench.check_until(4_700), []);
    bench.message(4_750);
    assert!(!bench.echo(2, 4_760, 0), "3.74 s without a word: it was frozen");
    assert_eq!(bench.messages_until(8_400), []);
    assert_eq!(bench.messages_until(8_500), [SendEcho(3)]);
    assert!(bench.echo(3, 8_510, 9));
    assert_eq!(bench.proven_at(), Some(at(8_500)));
}

/// Proves LINK-3.
#[test]
fn a_broker_that_is_always_slow_is_believed_after_a_while_and_reported_once() {
    let mut bench = Bench::proven();
    bench.want(1_000);
    let mut seen = Vec::new();
    let mut number = 2;
    // Each echo comes 700 ms after it was sent, with nothing in between.
    while bench.proven_at() == Some(at(100)) {
        assert!(bench.checked_at < 30_000, "never believed");
        let sent = bench.checked_at;
        seen.extend(bench.check_until(sent + 600));
        bench.echo(number, sent + 700, 0);
        while !seen.contains(&SendEcho(number + 1)) && bench.proven_at() == Some(at(100)) {
            seen.extend(bench.check_until(bench.checked_at + 100));
        }
        number += 1;
    }
    // Late at 1.7 s: settled at 3.7 s, and believed 8 s after that.
    let proven_at = bench.proven_at().expect("believed");
    assert!((at(10_900)..at(13_700)).contains(&proven_at), "{proven_at:?}");
    let late = Log(HealthLine::LateAgain(ms(700)));
    assert_eq!(seen.iter().filter(|effect| **effect == late).count(), 1, "{seen:?}");
    let sent = bench.checked_at;
    assert_eq!(bench.want(sent), [SendEcho(number)]);
    assert!(bench.echo(number, sent + 10, 0));
    assert_eq!(bench.check_until(sent + 100), [Log(HealthLine::PromptAgain)]);
}

/// Proves LINK-3.
#[test]
fn a_longer_silence_than_the_one_before_begins_anew() {
    let mut bench = Bench::proven();
    bench.want(1_000);
    bench.check_until(1_600);
    assert!(!bench.echo(2, 1_700, 0));
    assert_eq!(bench.messages_until(3_700), [SendEcho(3)]);
    bench.health.acknowledged(3, at(3_710));
    bench.check_until(7_400);
    assert!(!bench.echo(3, 7_450, 0), "3.74 s is no 0.7 s");
    assert_eq!(bench.messages_until(11_100), [Log(HealthLine::LateAgain(ms(3_740)))]);
    assert_eq!(bench.messages_until(11_200), [SendEcho(4)]);
    assert!(bench.echo(4, 11_201, 0));
}

/// Proves LINK-3.
#[test]
fn without_an_echo_all_the_time_of_an_answer_counts() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.want(100), [SendUnsubscribe(1)]);
    assert_eq!(bench.messages_until(2_100), []);
    assert!(!bench.health.unsubscribed(1, at(2_100), Seq(0)), "what came in between did not wait for it");
    assert_eq!(bench.messages_until(4_000), []);
    assert_eq!(bench.messages_until(4_100), [SendUnsubscribe(2)]);
    assert!(bench.health.unsubscribed(2, at(4_600), Seq(0)));
}

/// Proves LINK-4.
#[test]
fn an_echo_in_flight_during_a_standstill_is_no_proof_and_the_next_one_waits_as_long() {
    let mut bench = Bench::proven();
    bench.want(1_000);
    // The callback is the first to run again.
    assert!(!bench.echo(2, 9_000, 0));
    assert_eq!(bench.look_again_at(9_001), [Log(HealthLine::StoodStill(ms(8_001)))]);
    assert_eq!(bench.messages_until(17_000), [], "logged once, and nothing is asked");
    assert_eq!(bench.messages_until(17_101), [SendEcho(3)]);
    assert!(bench.echo(3, 17_110, 0));
}

/// Proves LINK-4.
#[test]
fn a_message_that_takes_long_voids_the_echo_behind_it() {
    let mut bench = Bench::proven();
    bench.want(1_000);
    assert_eq!(bench.check_until(1_500), []);
    bench.health.message(at(1_001), at(1_502));
    assert!(!bench.echo(2, 1_503, 0));
    assert_eq!(bench.messages_until(3_500), []);
    assert_eq!(bench.messages_until(3_600), [SendEcho(3)]);
    assert!(bench.echo(3, 3_610, 0));
    assert_eq!(bench.check_until(3_700), []);
    bench.health.message(at(3_701), at(4_200));
    assert_eq!(bench.want(4_200), [SendEcho(4)], "499 ms are nothing");
}

/// Proves LINK-4.
#[test]
fn repeated_standstills_are_believed_in_the_end() {
    let mut bench = Bench::proven();
    let mut asked_at = None;
    // Each second, for 600 ms.
    for second in 1..30 {
        let now = second * 1_000;
        bench.message(now - 1);
        let effects = [bench.look_again_at(now), bench.check_until(now + 400)].concat();
        if let Some(SendEcho(number)) = effects.first().copied() {
            asked_at = Some((now, number));
            break;
        }
    }
    let (now, number) = asked_at.expect("it is never asked");
    assert!((10_000..14_000).contains(&now), "{now}");
    assert!(bench.echo(number, now + 700, 0));
}

/// Proves LINK-4.
#[test]
fn the_grace_of_a_short_standstill_does_not_cover_a_long_one_and_ends() {
    let mut bench = Bench::proven();
    bench.message(999);
    bench.look_again_at(1_000);
    bench.message(40_999);
    bench.look_again_at(41_000);
    assert_eq!(bench.messages_until(80_900), []);
    assert_eq!(bench.messages_until(81_000), [SendEcho(2)]);
    assert!(bench.echo(2, 81_001, 0));
    bench.message(3_999_999);
    bench.look_again_at(4_000_000);
    assert_eq!(bench.messages_until(4_059_900), []);
    assert_eq!(bench.messages_until(4_060_000), [SendEcho(3)]);
}

/// Proves LINK-4.
#[test]
fn a_standstill_without_a_link_has_no_effect() {
    let mut bench = Bench::proven();
    bench.health.link_down(Seq(9));
    assert_eq!(bench.look_again_at(90_000), []);
    bench.health.link_up(at(90_000), Some(NONCE));
    assert_eq!(bench.check_until(90_100), [SendEcho(1)]);
    assert!(bench.echo(1, 90_101, 0));
}

/// Proves LINK-5.
#[test]
fn a_silent_broker_is_asked_and_given_up_if_it_does_not_answer() {
    for nonce in [Some(NONCE), None] {
        let mut bench = Bench::new(nonce);
        bench.check_until(100);
        if nonce.is_some() {
            assert!(bench.echo(1, 100, 0));
        } else {
            bench.message(100);
        }
        assert_eq!(bench.check_until(3_800), []);
        let number = 1 + u64::from(nonce.is_some());
        let question = if nonce.is_some() { SendEcho(number) } else { SendUnsubscribe(number) };
        assert_eq!(bench.check_until(3_900), [question]);
        assert_eq!(bench.check_until(37_600), []);
        assert_eq!(bench.check_until(37_700), [GiveUp]);
        assert_eq!(bench.check_until(90_000), [], "logged once");
    }
}

/// Proves LINK-5.
#[test]
fn a_broker_that_falls_silent_after_a_sign_of_life_is_given_up_in_time() {
    let mut bench = Bench::proven();
    bench.want(1_000);
    bench.message(1_001);
    let effects = bench.check_until(34_700);
    assert_eq!(effects, []);
    assert_eq!(bench.check_until(34_800), [GiveUp]);
}

/// Proves LINK-5.
#[test]
fn the_answer_to_a_request_for_a_sign_of_life_is_a_proof() {
    let mut bench = Bench::proven();
    assert_eq!(bench.check_until(3_900), [SendEcho(2)]);
    assert!(bench.echo(2, 3_910, 0));
    assert_eq!(bench.proven_at(), Some(at(3_900)));
}

/// Proves LINK-5.
#[test]
fn a_broker_that_has_to_settle_is_still_asked_for_signs_of_life() {
    let mut bench = Bench::proven();
    bench.message(19_999);
    bench.look_again_at(20_000);
    assert_eq!(bench.check_until(23_800), [SendEcho(2)], "of 20 s to settle");
    assert!(!bench.echo(2, 23_801, 0), "no proof");
    assert_eq!(bench.check_until(27_600), [SendEcho(3)]);
    bench.health.acknowledged(3, at(27_610));
    assert_eq!(bench.messages_until(39_800), [], "that it is there was all that was asked");
    assert_eq!(bench.messages_until(40_000), [SendEcho(4)]);
    assert!(bench.echo(4, 40_001, 0));
}

/// Proves LINK-5.
#[test]
fn a_broker_that_is_given_up_while_it_has_to_settle_is_given_up_in_time() {
    let mut bench = Bench::proven();
    bench.message(59_999);
    bench.look_again_at(60_000);
    assert_eq!(bench.check_until(63_800), [SendEcho(2)]);
    assert_eq!(bench.check_until(97_500), []);
    assert_eq!(bench.check_until(97_600), [GiveUp]);
}

/// Proves LINK-5.
#[test]
fn a_message_in_the_callback_or_a_standstill_of_our_own_gives_up_no_broker() {
    let mut bench = Bench::proven();
    assert_eq!(bench.check_until(3_900), [SendEcho(2)]);
    for tenth in 40..500 {
        assert_eq!(bench.health.check(at(tenth * 100), true), []);
    }
    bench.health.message(at(4_000), at(50_000));
    bench.checked_at = 50_000;
    assert_eq!(bench.check_until(50_100), [Log(HealthLine::StoodStill(ms(46_000)))]);

    let mut bench = Bench::proven();
    assert_eq!(bench.check_until(3_900), [SendEcho(2)]);
    let effects = bench.look_again_at(60_000);
    assert_eq!(effects, [SendEcho(3), Log(HealthLine::StoodStill(ms(56_100)))], "its answer may be waiting");
    assert_eq!(bench.check_until(93_700), []);
    assert_eq!(bench.check_until(93_800), [GiveUp]);
}

/// Proves LINK-6.
#[test]
fn a_lost_echo_is_sent_again_and_ends_no_link() {
    let mut bench = Bench::proven();
    bench.want(1_000);
    bench.health.acknowledged(2, at(1_010));
    assert_eq!(bench.check_until(4_700), []);
    assert_eq!(bench.check_until(4_800), [SendEcho(3)]);
    assert!(!bench.echo(2, 4_801, 0), "it comes after all");
    assert!(bench.echo(3, 4_802, 0));
    // A full queue drops one, and messages go on.
    bench.want(5_000);
    bench.health.acknowledged(4, at(5_010));
    assert_eq!(bench.messages_until(64_900), []);
    assert_eq!(bench.messages_until(65_000), [SendEcho(5)]);
}

/// Acknowledges each echo and hands none back.
fn lose_echoes(bench: &mut Bench, until: u64, messages: bool) -> Vec<Effect> {
    let mut effects = Vec::new();
    while bench.checked_at < until {
        let next = bench.checked_at + 100;
        let new = if messages { bench.messages_until(next) } else { bench.check_until(next) };
        for effect in &new {
            if let SendEcho(number) = effect {
                bench.health.acknowledged(*number, at(next));
            }
        }
        effects.extend(new.into_iter().filter(|effect| !matches!(effect, SendEcho(_))));
        if effects.iter().any(|effect| matches!(effect, SendUnsubscribe(_))) {
            break;
        }
    }
    effects
}

/// Proves LINK-6.
#[test]
fn without_other_messages_the_echo_is_unusable_after_offline_after() {
    let mut bench = Bench::new(Some(NONCE));
    let effects = lose_echoes(&mut bench, 60_000, false);
    assert!(effects.contains(&Log(HealthLine::EchoLost { quiet: true })), "{effects:?}");
    assert!((15_000..19_000).contains(&bench.checked_at), "{}", bench.checked_at);
    let Some(SendUnsubscribe(number)) =
        effects.iter().find(|effect| matches!(effect, SendUnsubscribe(_))).copied()
    else {
        panic!("{effects:?}")
    };
    let asked = bench.checked_at;
    assert!(bench.health.unsubscribed(number, at(asked + 10), Seq(1)));
    assert_eq!(bench.proven_at(), Some(at(asked)));
}

/// Proves LINK-6.
#[test]
fn while_messages_come_the_echo_is_unusable_after_three_minutes_or_an_hour() {
    let mut bench = Bench::new(Some(NONCE));
    let effects = lose_echoes(&mut bench, 400_000, true);
    assert!(effects.contains(&Log(HealthLine::EchoLost { quiet: false })), "{effects:?}");
    assert!((180_000..190_000).contains(&bench.checked_at), "{}", bench.checked_at);
    let mut bench = Bench::proven();
    bench.health.request_proof();
    lose_echoes(&mut bench, 5_000_000, true);
    assert!((3_600_000..3_700_000).contains(&bench.checked_at), "{}", bench.checked_at);
}

/// Proves LINK-6.
#[test]
fn a_forbidden_echo_is_unusable_at_once_and_tested_until_it_comes_back() {
    let mut bench = Bench::new(Some(NONCE));
    assert_eq!(bench.check_until(100), [SendEcho(1)]);
    assert!(bench.health.forbidden(1, at(110)), "to be logged");
    assert_eq!(bench.check_until(200), [SendUnsubscribe(2)]);
    assert!(bench.health.unsubscribed(2, at(210), Seq(0)));
    assert_eq!(bench.messages_until(60_000), []);
    assert_eq!(bench.want(60_200), [SendUnsubscribe(3), SendEcho(4)], "a test");
    assert!(!bench.health.forbidden(4, at(60_210)), "logged once");
    assert!(bench.health.unsubscribed(3, at(60_220), Seq(0)));
    bench.messages_until(120_200);
    assert_eq!(bench.want(120_300), [SendUnsubscribe(5), SendEcho(6)]);
    assert!(!bench.echo(6, 120_310, 0), "a test is no proof");
    assert!(bench.health.unsubscribed(5, at(120_320), Seq(0)));
    assert_eq!(bench.messages_until(120_400), [Log(HealthLine::EchoBack)]);
    assert_eq!(bench.want(120_500), [SendEcho(7)]);
    assert!(bench.echo(7, 120_510, 0));
}

/// Proves LINK-6.
#[test]
fn a_forbidden_echo_is_only_tested_after_a_reconnect() {
    let mut bench = Bench::new(Some(NONCE));
    bench.check_until(200);
    bench.health.forbidden(1, at(210));
    bench.health.link_down(Seq(9));
    bench.health.link_up(at(220), Some(NONCE));
    assert_eq!(bench.check_until(300), [SendUnsubscribe(1), SendEcho(2)]);
}

#[test]
fn a_question_that_was_not_sent_is_asked_again() {
    let mut bench = Bench::proven();
    assert_eq!(bench.want(1_000), [SendEcho(2)]);
    bench.health.not_asked(2);
    assert_eq!(bench.check_until(1_100), [SendEcho(3)]);
}

#[test]
fn records_are_distinguished_by_their_link() {
    let mut bench = Bench::proven();
    assert_eq!(bench.health.ended_upto(), Seq(3), "what was there before the process began");
    bench.health.link_down(Seq(9));
    assert_eq!(bench.health.ended_upto(), Seq(9));
}
