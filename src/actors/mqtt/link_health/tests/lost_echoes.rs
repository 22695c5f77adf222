//! Echoes that do not come back.

use super::*;

/// Proves LINK-6.
#[test]
fn a_lost_echo_is_sent_again_and_ends_no_link() {
    let mut link = TestLink::proven();
    link.want(1_000);
    link.health.acknowledged(2, at(1_010));
    assert_eq!(link.check_until(4_700), []);
    assert_eq!(link.check_until(4_800), [SendEcho(3)]);
    assert!(!link.echo(2, 4_801, 0), "it comes after all");
    assert!(link.echo(3, 4_802, 0));
    // A full queue drops one, and messages go on.
    link.want(5_000);
    link.health.acknowledged(4, at(5_010));
    assert_eq!(link.messages_until(64_900), []);
    assert_eq!(link.messages_until(65_000), [SendEcho(5)]);
}

/// Acknowledges each echo and hands none back.
fn lose_echoes(link: &mut TestLink, until: u64, messages: bool) -> Vec<Effect> {
    let mut effects = Vec::new();
    while link.checked_at < until {
        let next = link.checked_at + 100;
        let new = if messages { link.messages_until(next) } else { link.check_until(next) };
        for effect in &new {
            if let SendEcho(number) = effect {
                link.health.acknowledged(*number, at(next));
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
    let mut link = TestLink::new(Some(NONCE));
    let effects = lose_echoes(&mut link, 60_000, false);
    assert!(effects.contains(&Log(HealthLine::EchoLost { quiet: true })), "{effects:?}");
    assert!((15_000..19_000).contains(&link.checked_at), "{}", link.checked_at);
    let Some(SendUnsubscribe(number)) =
        effects.iter().find(|effect| matches!(effect, SendUnsubscribe(_))).copied()
    else {
        panic!("{effects:?}")
    };
    let asked = link.checked_at;
    assert!(link.health.unsubscribed(number, at(asked + 10), Seq(1)));
    assert_eq!(link.proven_at(), Some(at(asked)));
}

/// Proves LINK-6.
#[test]
fn while_messages_come_the_echo_is_unusable_after_three_minutes_or_an_hour() {
    let mut link = TestLink::new(Some(NONCE));
    let effects = lose_echoes(&mut link, 400_000, true);
    assert!(effects.contains(&Log(HealthLine::EchoLost { quiet: false })), "{effects:?}");
    assert!((180_000..190_000).contains(&link.checked_at), "{}", link.checked_at);
    let mut link = TestLink::proven();
    link.health.request_proof();
    lose_echoes(&mut link, 5_000_000, true);
    assert!((3_600_000..3_700_000).contains(&link.checked_at), "{}", link.checked_at);
}

/// Proves LINK-6.
#[test]
fn a_forbidden_echo_is_unusable_at_once_and_tested_until_it_comes_back() {
    let mut link = TestLink::new(Some(NONCE));
    assert_eq!(link.check_until(100), [SendEcho(1)]);
    assert!(link.health.forbidden(1, at(110)), "to be logged");
    assert_eq!(link.check_until(200), [SendUnsubscribe(2)]);
    assert!(link.health.unsubscribed(2, at(210), Seq(0)));
    assert_eq!(link.messages_until(60_000), []);
    assert_eq!(link.want(60_200), [SendUnsubscribe(3), SendEcho(4)], "a test");
    assert!(!link.health.forbidden(4, at(60_210)), "logged once");
    assert!(link.health.unsubscribed(3, at(60_220), Seq(0)));
    link.messages_until(120_200);
    assert_eq!(link.want(120_300), [SendUnsubscribe(5), SendEcho(6)]);
    assert!(!link.echo(6, 120_310, 0), "a test is no proof");
    assert!(link.health.unsubscribed(5, at(120_320), Seq(0)));
    assert_eq!(link.messages_until(120_400), [Log(HealthLine::EchoBack)]);
    assert_eq!(link.want(120_500), [SendEcho(7)]);
    assert!(link.echo(7, 120_510, 0));
}

/// Proves LINK-6.
#[test]
fn a_forbidden_echo_is_only_tested_after_a_reconnect() {
    let mut link = TestLink::new(Some(NONCE));
    link.check_until(200);
    link.health.forbidden(1, at(210));
    link.health.link_down(Seq(9));
    link.health.link_up(at(220), Some(NONCE));
    assert_eq!(link.check_until(300), [SendUnsubscribe(1), SendEcho(2)]);
}
