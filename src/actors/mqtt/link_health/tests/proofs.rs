//! What proves that a machine was silent, and what does not.

use super::*;

/// Proves LINK-1.
#[test]
fn an_echo_proves_the_time_until_it_was_sent_and_takes_the_records_until_it_came() {
    let mut link = TestLink::proven();
    assert_eq!(link.want(1_000), [SendEcho(2)]);
    link.message(1_100);
    assert!(link.echo(2, 1_200, 42));
    assert_eq!(link.health.proof(), Some(LinkProof { at: at(1_000), upto: Seq(42) }));
}

/// Proves LINK-1.
#[test]
fn one_echo_is_in_flight_at_a_time_and_the_next_request_follows_it() {
    let mut link = TestLink::proven();
    assert_eq!(link.want(1_000), [SendEcho(2)]);
    assert_eq!(link.want(1_050), []);
    assert!(link.echo(2, 1_060, 0));
    assert!(!link.echo(2, 1_070, 0), "it counts once");
    assert_eq!(link.check_until(1_150), [SendEcho(3)]);
    assert!(link.echo(3, 1_151, 0));
    assert_eq!(link.check_until(1_250), []);
}

/// Proves LINK-1.
#[test]
fn a_foreign_echo_an_old_one_and_one_of_a_former_link_prove_nothing() {
    let mut link = TestLink::proven();
    link.want(1_000);
    for foreign in ["", "-", "2", "0000000000000008-2", "0000000000000007", "0000000000000007-x", "\u{fc}-2"]
    {
        assert!(!link.health.echo(foreign.as_bytes(), at(1_010), Seq(9)), "{foreign:?}");
    }
    assert!(!link.health.echo(&[0xff, b'-', b'2'], at(1_010), Seq(9)));
    assert!(!link.echo(1, 1_010, 9), "old");
    let of_this_link = link.health.echo_payload(2).expect("a link");
    link.health.link_down(Seq(9));
    assert!(!link.health.echo(of_this_link.as_bytes(), at(1_020), Seq(9)), "no link");
    link.health.link_up(at(1_030), Some(NONCE + 1));
    link.check_until(1_100);
    assert!(!link.health.echo(of_this_link.as_bytes(), at(1_110), Seq(9)), "the link before");
    assert_eq!(link.proven_at(), Some(at(100)));
    assert!(link.echo(1, 1_120, 9));
}

/// Proves LINK-1.
#[test]
fn an_echo_is_tested_when_the_link_comes_up() {
    assert_eq!(TestLink::new(Some(NONCE)).check_until(100), [SendEcho(1)]);
    assert_eq!(TestLink::new(None).check_until(3_700), []);
}

/// Proves LINK-2, MQTT-8.
#[test]
fn messages_and_acknowledgements_are_signs_of_life_and_no_proofs() {
    let mut link = TestLink::proven();
    link.want(1_000);
    link.message(1_010);
    link.health.acknowledged(2, at(1_020));
    link.health.sign_of_life(at(1_030));
    assert!(!link.health.unsubscribed(1, at(1_040), Seq(9)));
    assert_eq!((link.proven_at(), link.health.heard_at()), (Some(at(100)), at(1_040)));
}

/// Proves LINK-1.
#[test]
fn without_an_echo_the_answer_to_an_unsubscribe_is_the_proof() {
    let mut link = TestLink::new(None);
    assert_eq!(link.want(1_000), [SendUnsubscribe(1)]);
    assert!(!link.health.unsubscribed(9, at(1_010), Seq(3)));
    assert!(link.health.unsubscribed(1, at(1_010), Seq(3)));
    assert_eq!(link.health.proof(), Some(LinkProof { at: at(1_000), upto: Seq(3) }));
}

#[test]
fn a_question_that_was_not_sent_is_asked_again() {
    let mut link = TestLink::proven();
    assert_eq!(link.want(1_000), [SendEcho(2)]);
    link.health.not_asked(2);
    assert_eq!(link.check_until(1_100), [SendEcho(3)]);
}

#[test]
fn records_are_distinguished_by_their_link() {
    let mut link = TestLink::proven();
    assert_eq!(link.health.ended_upto(), Seq(3), "what was there before the process began");
    link.health.link_down(Seq(9));
    assert_eq!(link.health.ended_upto(), Seq(9));
}
