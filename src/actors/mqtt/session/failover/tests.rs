//! Several hosts, both protocols, and refusals.

use super::*;

const NOW: Mono = Mono(5);

fn later(days: u64) -> Mono {
    Mono(NOW.0 + days * 86_400_000_000)
}

fn hosts(count: u16, protocol: ProtocolChoice) -> Arc<Hosts> {
    let endpoints = (1..=count).map(|port| Endpoint { host: "broker".to_owned(), port }).collect();
    Arc::new(Hosts::new(endpoints, protocol))
}

/// Proves HOST-1.
#[test]
fn each_is_asked_once_between_two_waits() {
    for count in 1..=4 {
        let mut failover = Failover::new(hosts(count, ProtocolChoice::Auto));
        for _round in 0..3 {
            let mut asked = Vec::new();
            loop {
                asked.push(failover.endpoint().port);
                if failover.failed(Failure::Other) == Next::Wait {
                    break;
                }
            }
            asked.sort_unstable();
            assert_eq!(asked, (1..=count).collect::<Vec<_>>());
        }
    }
}

#[test]
fn the_broker_that_accepted_us_is_asked_first_also_by_the_next_incarnation() {
    let hosts = hosts(3, ProtocolChoice::Auto);
    let mut failover = Failover::new(Arc::clone(&hosts));
    assert_eq!(failover.failed(Failure::Other), Next::AskNow);
    failover.accepted(true, NOW);
    assert_eq!(failover.endpoint().port, 2);
    assert_eq!(Failover::new(Arc::clone(&hosts)).endpoint().port, 2);
    // A full round again before the next wait.
    assert_eq!(
        [failover.failed(Failure::Other), failover.failed(Failure::Other), failover.failed(Failure::Other)],
        [Next::AskNow, Next::AskNow, Next::Wait]
    );
    assert_eq!(failover.endpoint().port, 2);
}

#[test]
fn a_refusal_of_version_5_is_remembered_for_that_broker_and_the_run() {
    let hosts = hosts(2, ProtocolChoice::Auto);
    let mut failover = Failover::new(Arc::clone(&hosts));
    assert!(failover.ask(NOW));
    assert_eq!(failover.refused_v5(), Some(Next::AskNow));
    assert_eq!((failover.endpoint().port, failover.ask(NOW)), (1, false));
    assert_eq!(failover.refused_v5(), None, "3.1.1 is the oldest there is");
    failover.failed(Failure::Other);
    assert!(failover.ask(NOW));
    assert!(!Failover::new(hosts).ask(later(365)), "the next incarnation knows it");
}

/// Returns whether each attempt asks for MQTT 5, while the broker fails like this.
fn asked(protocol: ProtocolChoice, failures: &[Failure]) -> Vec<bool> {
    let mut failover = Failover::new(hosts(1, protocol));
    let mut ask = |failure: &Failure| {
        let v5 = failover.ask(NOW);
        assert_eq!(failover.failed(*failure), Next::Wait);
        v5
    };
    failures.iter().map(&mut ask).collect()
}

/// Proves HOST-3.
#[test]
fn version_5_without_an_answer_twice_in_a_row_is_left_for_one_attempt() {
    use Failure::{HungUp, Other, Refused, Silent};
    let table: [(&[Failure], &[bool]); 8] = [
        (&[HungUp; 6], &[true, true, false, true, true, false]),
        (&[Silent; 6], &[true, true, false, true, true, false]),
        (&[Silent, HungUp, Other, Silent], &[true, true, false, true]),
        (&[HungUp, Other, HungUp, HungUp, HungUp], &[true, true, true, true, false]),
        (&[Silent, Other, Silent, Other, Silent], &[true; 5]),
        (&[Other; 4], &[true; 4]),
        (&[Silent, Silent, Refused, Refused, Other, Silent], &[true, true, false, false, false, true]),
        (&[Silent, Refused, Silent, Silent, Silent], &[true, true, true, true, false]),
    ];
    for (failures, v5) in table {
        assert_eq!(asked(ProtocolChoice::Auto, failures), v5, "{failures:?}");
        assert_eq!(asked(ProtocolChoice::V5, failures), vec![true; v5.len()], "{failures:?}");
        assert_eq!(asked(ProtocolChoice::V311, failures), vec![false; v5.len()], "{failures:?}");
    }
}

#[test]
fn knowledge_from_silence_expires_after_a_day_and_from_a_hang_up_never() {
    use Failure::{HungUp, Silent};
    let table = [
        ([HungUp, HungUp], Learnt::HangsUp, true),
        ([Silent, Silent], Learnt::SaysNothing, false),
        ([Silent, HungUp], Learnt::SaysNothing, false),
        ([HungUp, Silent], Learnt::SaysNothing, false),
    ];
    for (failures, learnt, for_good) in table {
        let hosts = hosts(1, ProtocolChoice::Auto);
        let mut failover = Failover::new(Arc::clone(&hosts));
        for failure in failures {
            assert!(failover.ask(NOW));
            failover.failed(failure);
        }
        assert!(!failover.ask(NOW));
        assert_eq!(failover.accepted(true, NOW), Some(learnt));
        assert_eq!(failover.accepted(true, NOW), None, "it is reported once");
        assert!(!failover.ask(Mono(later(1).0 - 1)), "{failures:?}");
        assert!(
            !Failover::new(Arc::clone(&hosts)).ask(Mono(later(1).0 - 1)),
            "the next incarnation knows it"
        );
        assert_eq!(failover.ask(later(1)), !for_good, "{failures:?}");
        // A protocol that is forgotten while it is spoken is still the one that is spoken.
        assert_eq!(failover.speaks_v5(), !for_good);
    }
}

#[test]
fn silence_of_one_broker_is_none_of_another() {
    let mut failover = Failover::new(hosts(2, ProtocolChoice::Auto));
    for _ in 0..2 {
        assert!(failover.ask(NOW));
        failover.failed(Failure::Silent);
    }
    for (port, v5) in [(1, true), (2, true), (1, false), (2, false)] {
        assert_eq!((failover.endpoint().port, failover.ask(NOW)), (port, v5));
        failover.failed(Failure::Silent);
    }
}

/// Proves HOST-2.
#[test]
fn a_broker_that_keeps_refusing_a_subscription_is_left_at_growing_intervals() {
    let mut failover = Failover::new(hosts(3, ProtocolChoice::Auto));
    for (asked, next) in [(3, 2), (6, 3), (12, 1), (24, 2), (48, 3), (96, 1), (96, 2)] {
        failover.accepted(false, NOW);
        assert!(!failover.is_over_for_refusing(asked - 1) && failover.is_over_for_refusing(asked));
        failover.leave_refusing();
        assert_eq!(failover.endpoint().port, next);
    }
    failover.accepted(true, NOW);
    assert!(failover.is_over_for_refusing(3), "a broker that grants all resets the count");
    assert!(!Failover::new(hosts(1, ProtocolChoice::Auto)).is_over_for_refusing(1_000), "there is no other");
}

#[test]
fn a_fixed_protocol_is_not_left() {
    let mut fixed = Failover::new(hosts(1, ProtocolChoice::V5));
    assert!(fixed.ask(NOW));
    assert_eq!(fixed.refused_v5(), None);
    assert!(!Failover::new(hosts(1, ProtocolChoice::V311)).ask(NOW));
}

#[test]
fn an_ipv6_address_is_written_in_brackets() {
    let endpoint = |host: &str| Endpoint { host: host.to_owned(), port: 1 }.address();
    assert_eq!((endpoint("a.b"), endpoint("::1")), ("a.b:1".to_owned(), "[::1]:1".to_owned()));
}
