//! Strikes Andon itself: builds that are broken on purpose. The suite's faults must detect each and name exactly what is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{FaultRun, Report, broker, kinds, process, seed};

/// Runs a fault of the suite against a broken build.
fn broken(switch: &str, fault: fn(&mut FaultRun) -> Report) -> Report {
    broken_at_scale(1, switch, fault)
}

fn broken_at_scale(scale: u64, switch: &str, fault: fn(&mut FaultRun) -> Report) -> Report {
    let mut run = FaultRun::new(switch, seed::chosen(), scale);
    run.mutation = format!("{switch}=return");
    run.no_progress_max = Duration::from_secs(5);
    let report = fault(&mut run);
    assert!(!report.verdict.is_exact(), "{switch} was not noticed");
    report
}

/// Proves SYS-3.
#[test]
fn a_position_committed_before_the_rows_is_noticed() {
    let fault = process::kill_9_before_the_commit_loses_and_doubles_nothing;
    // A kill that hits a commit of transitions alone shows nothing.
    let verdict = broken_at_scale(4, "mutants::position_before_rows", fault).verdict;
    assert!(!verdict.lost.is_empty() && verdict.doubled.is_empty(), "{verdict:?}");
    assert!(!verdict.ledger.is_empty(), "the ledger counts messages without elements: {verdict:?}");
}

#[test]
fn an_ignored_digest_is_noticed() {
    let verdict =
        broken("mutants::ignore_digest", process::without_a_fault_everything_is_stored_once).verdict;
    let mut taken = BTreeSet::new();
    let shares = |number: &u64| {
        let rows = kinds::sample(*number).rows.into_iter();
        let instants = rows.filter_map(|row| row.instant.map(|instant| (row.machine, instant)));
        instants.filter(|instant| !taken.insert(instant.clone())).count() > 0
    };
    let second: Vec<u64> = (0..2_000).filter(shares).collect();
    assert!(second.len() > 300, "{second:?}");
    assert_eq!(verdict.lost, second, "of each two that share machine and instant, the second is lost");
}

#[test]
fn a_digest_that_does_not_know_a_redelivery_is_noticed() {
    let fault = process::kill_9_between_append_and_acknowledgement_loses_and_doubles_nothing;
    let verdict = broken("mutants::digest_of_delivery", fault).verdict;
    assert!(verdict.lost.is_empty() && !verdict.doubled.is_empty(), "{verdict:?}");
}

/// Proves SYS-4.
#[test]
fn rejections_left_out_beside_a_duplicate_are_noticed() {
    let fault = process::without_a_fault_everything_is_stored_once;
    let verdict = broken("mutants::no_rejections_beside_duplicates", fault).verdict;
    let is_rejected = |number: &u64| kinds::sample(*number).rejected.is_some();
    assert!(!verdict.lost.is_empty() && verdict.lost.iter().all(is_rejected), "{verdict:?}");
    assert!(verdict.doubled.is_empty() && verdict.unexpected.is_empty(), "{verdict:?}");
    assert!(!verdict.ledger.is_empty(), "the ledger counts messages without elements: {verdict:?}");
}

/// Proves SYS-1.
#[test]
fn an_append_skipped_every_thousandth_message_is_noticed() {
    let verdict = broken("mutants::skip_append", process::without_a_fault_everything_is_stored_once).verdict;
    assert_eq!(verdict.lost, [999 - kinds::RETAINED, 1_999 - kinds::RETAINED]);
}

#[test]
fn a_missing_resubscription_is_noticed() {
    let fault = broker::a_broker_that_has_forgotten_the_session_is_subscribed_to_again;
    let verdict = broken("mutants::no_resubscribe", fault).verdict;
    let visible = |number: &u64| kinds::sample(*number).is_visible();
    assert_eq!(verdict.lost, (300..600).filter(visible).collect::<Vec<u64>>());
}
