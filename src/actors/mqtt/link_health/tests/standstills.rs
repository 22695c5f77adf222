//! Standstills of the broker and of our own: how long silence proves nothing.

use super::*;

/// Proves LINK-3.
#[test]
fn an_echo_that_waited_behind_a_backlog_is_a_proof_however_long_it_took() {
    let mut link = TestLink::proven();
    link.want(1_000);
    link.health.acknowledged(2, at(1_010));
    assert_eq!(link.messages_until(41_000), [], "and nothing else is asked meanwhile");
    assert!(link.echo(2, 41_010, 4_000));
    assert_eq!(link.proven_at(), Some(at(1_000)));
}

/// Proves LINK-3, MQTT-8.
#[test]
fn after_a_silence_of_the_broker_two_echoes_are_needed_and_the_second_waits_as_long_as_it_lasted() {
    let mut link = TestLink::proven();
    link.want(1_000);
    link.health.acknowledged(2, at(1_010));
    assert_eq!(link.check_until(4_700), []);
    link.message(4_750);
    assert!(!link.echo(2, 4_760, 0), "3.74 s without a word: it was frozen");
    assert_eq!(link.messages_until(8_400), []);
    assert_eq!(link.messages_until(8_500), [SendEcho(3)]);
    assert!(link.echo(3, 8_510, 9));
    assert_eq!(link.proven_at(), Some(at(8_500)));
}

/// Proves LINK-3.
#[test]
fn a_broker_that_is_always_slow_is_believed_after_a_while_and_reported_once() {
    let mut link = TestLink::proven();
    link.want(1_000);
    let mut seen = Vec::new();
    let mut number = 2;
    // Each echo comes 700 ms after it was sent, with nothing in between.
    while link.proven_at() == Some(at(100)) {
        assert!(link.checked_at < 30_000, "never believed");
        let sent = link.checked_at;
        seen.extend(link.check_until(sent + 600));
        link.echo(number, sent + 700, 0);
        while !seen.contains(&SendEcho(number + 1)) && link.proven_at() == Some(at(100)) {
            seen.extend(link.check_until(link.checked_at + 100));
        }
        number += 1;
    }
    // Late at 1.7 s: settled at 3.7 s, and believed 8 s after that.
    let proven_at = link.proven_at().expect("believed");
    assert!((at(10_900)..at(13_700)).contains(&proven_at), "{proven_at:?}");
    let late = Log(HealthLine::LateAgain(ms(700)));
    assert_eq!(seen.iter().filter(|effect| **effect == late).count(), 1, "{seen:?}");
    let sent = link.checked_at;
    assert_eq!(link.want(sent), [SendEcho(number)]);
    assert!(link.echo(number, sent + 10, 0));
    assert_eq!(link.check_until(sent + 100), [Log(HealthLine::PromptAgain)]);
}

/// Proves LINK-3.
#[test]
fn a_longer_silence_than_the_one_before_begins_anew() {
    let mut link = TestLink::proven();
    link.want(1_000);
    link.check_until(1_600);
    assert!(!link.echo(2, 1_700, 0));
    assert_eq!(link.messages_until(3_700), [SendEcho(3)]);
    link.health.acknowledged(3, at(3_710));
    link.check_until(7_400);
    assert!(!link.echo(3, 7_450, 0), "3.74 s is no 0.7 s");
    assert_eq!(link.messages_until(11_100), [Log(HealthLine::LateAgain(ms(3_740)))]);
    assert_eq!(link.messages_until(11_200), [SendEcho(4)]);
    assert!(link.echo(4, 11_201, 0));
}

/// Proves LINK-3.
#[test]
fn without_an_echo_all_the_time_of_an_answer_counts() {
    let mut link = TestLink::new(None);
    assert_eq!(link.want(100), [SendUnsubscribe(1)]);
    assert_eq!(link.messages_until(2_100), []);
    assert!(!link.health.unsubscribed(1, at(2_100), Seq(0)), "what came in between did not wait for it");
    assert_eq!(link.messages_until(4_000), []);
    assert_eq!(link.messages_until(4_100), [SendUnsubscribe(2)]);
    assert!(link.health.unsubscribed(2, at(4_600), Seq(0)));
}

/// Proves LINK-4.
#[test]
fn an_echo_in_flight_during_a_standstill_is_no_proof_and_the_next_one_waits_as_long() {
    let mut link = TestLink::proven();
    link.want(1_000);
    // The callback is the first to run again.
    assert!(!link.echo(2, 9_000, 0));
    assert_eq!(link.look_again_at(9_001), [Log(HealthLine::StoodStill(ms(8_001)))]);
    assert_eq!(link.messages_until(17_000), [], "logged once, and nothing is asked");
    assert_eq!(link.messages_until(17_101), [SendEcho(3)]);
    assert!(link.echo(3, 17_110, 0));
}

/// Proves LINK-4.
#[test]
fn a_message_that_takes_long_voids_the_echo_behind_it() {
    let mut link = TestLink::proven();
    link.want(1_000);
    assert_eq!(link.check_until(1_500), []);
    link.health.message(at(1_001), at(1_502));
    assert!(!link.echo(2, 1_503, 0));
    assert_eq!(link.messages_until(3_500), []);
    assert_eq!(link.messages_until(3_600), [SendEcho(3)]);
    assert!(link.echo(3, 3_610, 0));
    assert_eq!(link.check_until(3_700), []);
    link.health.message(at(3_701), at(4_200));
    assert_eq!(link.want(4_200), [SendEcho(4)], "499 ms are nothing");
}

/// Proves LINK-4.
#[test]
fn repeated_standstills_are_believed_in_the_end() {
    let mut link = TestLink::proven();
    let mut asked_at = None;
    // Each second, for 600 ms.
    for second in 1..30 {
        let now = second * 1_000;
        link.message(now - 1);
        let effects = [link.look_again_at(now), link.check_until(now + 400)].concat();
        if let Some(SendEcho(number)) = effects.first().copied() {
            asked_at = Some((now, number));
            break;
        }
    }
    let (now, number) = asked_at.expect("it is never asked");
    assert!((10_000..14_000).contains(&now), "{now}");
    assert!(link.echo(number, now + 700, 0));
}

/// Proves LINK-4.
#[test]
fn the_grace_of_a_short_standstill_does_not_cover_a_long_one_and_ends() {
    let mut link = TestLink::proven();
    link.message(999);
    link.look_again_at(1_000);
    link.message(40_999);
    link.look_again_at(41_000);
    assert_eq!(link.messages_until(80_900), []);
    assert_eq!(link.messages_until(81_000), [SendEcho(2)]);
    assert!(link.echo(2, 81_001, 0));
    link.message(3_999_999);
    link.look_again_at(4_000_000);
    assert_eq!(link.messages_until(4_059_900), []);
    assert_eq!(link.messages_until(4_060_000), [SendEcho(3)]);
}

/// Proves LINK-4.
#[test]
fn a_standstill_without_a_link_has_no_effect() {
    let mut link = TestLink::proven();
    link.health.link_down(Seq(9));
    assert_eq!(link.look_again_at(90_000), []);
    link.health.link_up(at(90_000), Some(NONCE));
    assert_eq!(link.check_until(90_100), [SendEcho(1)]);
    assert!(link.echo(1, 90_101, 0));
}
