//! A broker that is asked for a sign of life, and given up if it gives none.

use super::*;

/// Proves LINK-5.
#[test]
fn a_silent_broker_is_asked_and_given_up_if_it_does_not_answer() {
    for nonce in [Some(NONCE), None] {
        let mut link = TestLink::new(nonce);
        link.check_until(100);
        if nonce.is_some() {
            assert!(link.echo(1, 100, 0));
        } else {
            link.message(100);
        }
        assert_eq!(link.check_until(3_800), []);
        let number = 1 + u64::from(nonce.is_some());
        let question = if nonce.is_some() { SendEcho(number) } else { SendUnsubscribe(number) };
        assert_eq!(link.check_until(3_900), [question]);
        assert_eq!(link.check_until(37_600), []);
        assert_eq!(link.check_until(37_700), [GiveUp]);
        assert_eq!(link.check_until(90_000), [], "logged once");
    }
}

/// Proves LINK-5.
#[test]
fn a_broker_that_falls_silent_after_a_sign_of_life_is_given_up_in_time() {
    let mut link = TestLink::proven();
    link.want(1_000);
    link.message(1_001);
    let effects = link.check_until(34_700);
    assert_eq!(effects, []);
    assert_eq!(link.check_until(34_800), [GiveUp]);
}

/// Proves LINK-5.
#[test]
fn the_answer_to_a_request_for_a_sign_of_life_is_a_proof() {
    let mut link = TestLink::proven();
    assert_eq!(link.check_until(3_900), [SendEcho(2)]);
    assert!(link.echo(2, 3_910, 0));
    assert_eq!(link.proven_at(), Some(at(3_900)));
}

/// Proves LINK-5.
#[test]
fn a_broker_that_has_to_settle_is_still_asked_for_signs_of_life() {
    let mut link = TestLink::proven();
    link.message(19_999);
    link.look_again_at(20_000);
    assert_eq!(link.check_until(23_800), [SendEcho(2)], "of 20 s to settle");
    assert!(!link.echo(2, 23_801, 0), "no proof");
    assert_eq!(link.check_until(27_600), [SendEcho(3)]);
    link.health.acknowledged(3, at(27_610));
    assert_eq!(link.messages_until(39_800), [], "that it is there was all that was asked");
    assert_eq!(link.messages_until(40_000), [SendEcho(4)]);
    assert!(link.echo(4, 40_001, 0));
}

/// Proves LINK-5.
#[test]
fn a_broker_that_is_given_up_while_it_has_to_settle_is_given_up_in_time() {
    let mut link = TestLink::proven();
    link.message(59_999);
    link.look_again_at(60_000);
    assert_eq!(link.check_until(63_800), [SendEcho(2)]);
    assert_eq!(link.check_until(97_500), []);
    assert_eq!(link.check_until(97_600), [GiveUp]);
}

/// Proves LINK-5.
#[test]
fn a_message_in_the_callback_or_a_standstill_of_our_own_gives_up_no_broker() {
    let mut link = TestLink::proven();
    assert_eq!(link.check_until(3_900), [SendEcho(2)]);
    for tenth in 40..500 {
        assert_eq!(link.health.check(at(tenth * 100), true), []);
    }
    link.health.message(at(4_000), at(50_000));
    link.checked_at = 50_000;
    assert_eq!(link.check_until(50_100), [Log(HealthLine::StoodStill(ms(46_000)))]);

    let mut link = TestLink::proven();
    assert_eq!(link.check_until(3_900), [SendEcho(2)]);
    let effects = link.look_again_at(60_000);
    assert_eq!(effects, [SendEcho(3), Log(HealthLine::StoodStill(ms(56_100)))], "its answer may be waiting");
    assert_eq!(link.check_until(93_700), []);
    assert_eq!(link.check_until(93_800), [GiveUp]);
}
