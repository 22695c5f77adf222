//! The outage log (OUT-1, OUT-2, OUT-3).

use super::*;

const SECOND: u64 = 1_000_000;
const EPOCH: i64 = 1_000_000_000_000;

fn wall(seconds: u64) -> Timestamp {
    Timestamp::from_micros(EPOCH + i64::try_from(seconds * SECOND).expect("small"))
}

fn time_point(seconds: u64) -> TimePoint {
    TimePoint { mono: Mono(seconds * SECOND), wall: wall(seconds) }
}

fn outage(began: u64, ended: Option<u64>, reason: OutageReason) -> LinkOutage {
    LinkOutage { began_at: wall(began), ended_at: ended.map(wall), reason }
}

fn history(newest_outage: Option<LinkOutage>, seen_until: Option<u64>) -> OutageHistory {
    OutageHistory { newest_outage, seen_until: seen_until.map(wall) }
}

use OutageReason::{FilterRefused, Hold, LinkDown, Start, Stopped};

/// Proves OUT-1.
#[test]
fn an_outage_begins_at_the_last_proof_and_ends_when_the_link_is_up() {
    let mut log = OutageLog::default();
    log.start_from(history(None, Some(1)), wall(1));
    log.link_up(time_point(2));
    log.link_down(time_point(100), Mono(70 * SECOND), LinkDown);
    log.link_down(time_point(101), Mono(70 * SECOND), Stopped);
    log.link_up(time_point(110));
    let expected = [
        outage(1, None, Start),
        outage(1, Some(2), Start),
        outage(70, None, LinkDown),
        outage(70, Some(110), LinkDown),
    ];
    assert_eq!(
        log.pending(),
        OutagesToRecord { outages: expected.to_vec(), seen_until: Some(wall(110)), upto: 4 }
    );
    log.on_recorded(3, None);
    assert_eq!(log.pending().outages, expected[3..]);
    log.on_recorded(4, Some(wall(110)));
    assert!(!log.has_pending());
}

/// Proves OUT-1.
#[test]
fn a_start_continues_the_open_outage_or_begins_one_at_the_last_proof() {
    let cases = [
        (history(Some(outage(5, None, Stopped)), Some(4)), outage(5, Some(50), Stopped)),
        (history(Some(outage(5, None, Hold)), Some(4)), outage(5, Some(50), Hold)),
        (history(Some(outage(5, Some(9), LinkDown)), Some(20)), outage(20, Some(50), Start)),
        (history(Some(outage(5, Some(9), LinkDown)), None), outage(9, Some(50), Start)),
        (history(None, Some(20)), outage(20, Some(50), Start)),
    ];
    for (history, expected) in cases {
        let mut log = OutageLog::default();
        log.start_from(history, wall(40));
        log.link_up(time_point(50));
        let open = LinkOutage { ended_at: None, ..expected };
        assert_eq!(log.pending().outages, [open, expected], "{history:?}");
    }
}

/// Proves OUT-3.
#[test]
fn a_refused_filter_is_an_outage() {
    let mut log = OutageLog::default();
    log.start_from(history(None, Some(1)), wall(1));
    log.link_up(time_point(2));
    log.set_refused(true, time_point(2));
    log.set_refused(true, time_point(3));
    log.proven(Mono(90 * SECOND), time_point(90));
    log.set_refused(false, time_point(100));
    log.set_refused(false, time_point(101));
    let expected = [outage(2, None, FilterRefused), outage(2, Some(100), FilterRefused)];
    assert_eq!((&log.pending().outages[2..], log.pending().seen_until), (&expected[..], Some(wall(100))));
    // The link goes while a filter is refused, and comes back without a refusal.
    log.set_refused(true, time_point(110));
    log.link_down(time_point(120), Mono(119 * SECOND), LinkDown);
    log.link_up(time_point(130));
    assert_eq!(log.pending().outages[5], outage(110, Some(130), FilterRefused));
}

#[test]
fn a_new_site_has_no_outage_before_its_first_link() {
    for early in [true, false] {
        let mut log = OutageLog::default();
        if early {
            log.link_up(time_point(2));
        }
        log.start_from(OutageHistory::default(), wall(3));
        if !early {
            log.link_up(time_point(4));
        }
        assert_eq!(log.pending().outages, []);
        assert!(log.pending().seen_until.is_some());
    }
}

/// Proves OUT-1.
#[test]
fn outages_without_a_proof_between_them_have_distinct_beginnings() {
    let mut log = OutageLog::default();
    log.start_from(history(None, Some(9)), wall(9));
    log.link_up(time_point(9));
    log.link_down(time_point(30), Mono(0), LinkDown);
    log.link_up(time_point(31));
    let began: Vec<_> = log.pending().outages.iter().map(|outage| outage.began_at).collect();
    let later = Timestamp::from_micros(wall(9).as_micros() + 1);
    assert_eq!(began, [wall(9), wall(9), later, later]);
}

/// Proves OUT-2.
#[test]
fn outages_before_the_history_is_known_are_recorded_then() {
    let mut log = OutageLog::default();
    log.link_up(time_point(50));
    log.link_down(time_point(60), Mono(60 * SECOND), Hold);
    assert!(!log.has_pending() && log.pending() == OutagesToRecord::default());
    log.start_from(history(Some(outage(5, None, Stopped)), None), wall(70));
    let expected = [outage(5, Some(50), Stopped), outage(60, None, Hold)];
    assert_eq!(log.pending().outages, expected);
    log.link_up(time_point(80));
    assert_eq!(log.pending().outages[2], outage(60, Some(80), Hold));
}

#[test]
fn the_proof_of_the_link_is_recorded_at_its_pace_and_never_in_an_outage() {
    let mut log = OutageLog::default();
    log.start_from(OutageHistory::default(), wall(1));
    assert!(!log.wants_proof(Mono(1_000 * SECOND)), "in an outage");
    log.link_up(time_point(2));
    log.on_recorded(0, Some(wall(2)));
    log.proven(Mono(31 * SECOND), time_point(31));
    assert!(!log.wants_proof(Mono(31 * SECOND)) && !log.has_pending());
    assert!(log.wants_proof(Mono(32 * SECOND)));
    log.proven(Mono(40 * SECOND), time_point(45));
    assert_eq!(log.pending(), OutagesToRecord { outages: vec![], seen_until: Some(wall(40)), upto: 0 });
    // A newer proof is not lost when an older one is recorded.
    log.proven(Mono(75 * SECOND), time_point(75));
    log.on_recorded(0, Some(wall(40)));
    assert_eq!(log.pending().seen_until, Some(wall(75)));
}

/// Proves OUT-1.
#[test]
fn a_clock_that_was_set_back_makes_no_outage_that_ends_before_it_began() {
    let mut log = OutageLog::default();
    log.start_from(history(None, Some(500)), wall(40));
    log.link_up(time_point(41));
    assert_eq!(log.pending().outages[1], outage(40, Some(41), Start));
    log.link_down(TimePoint { mono: Mono(60 * SECOND), wall: wall(60) }, Mono(60 * SECOND), LinkDown);
    log.link_up(TimePoint { mono: Mono(70 * SECOND), wall: wall(3) });
    assert_eq!(log.pending().outages[3], outage(60, Some(60), LinkDown));
}

/// Proves OUT-1.
#[test]
fn beyond_the_limit_the_oldest_outages_are_merged() {
    let mut log = OutageLog::default();
    log.start_from(history(None, Some(0)), wall(0));
    for turn in 0..OUTAGES_MAX as u64 {
        log.link_up(time_point(10 * turn + 1));
        log.link_down(time_point(10 * turn + 5), Mono(u64::MAX), LinkDown);
    }
    assert_eq!((log.pending.len(), log.pending[0].began_at), (OUTAGES_MAX, wall(0)));
    let ends = |began_at| log.pending.iter().any(|each| each.began_at == began_at && each.ended_at.is_some());
    let open: Vec<_> =
        log.pending.iter().map(|each| each.began_at).filter(|began_at| !ends(*began_at)).collect();
    assert_eq!(open, [wall(10 * (OUTAGES_MAX as u64 - 1) + 5)], "only the present one");
    let longest =
        log.pending.iter().filter(|each| each.began_at == wall(0)).filter_map(|each| each.ended_at).max();
    assert!(longest > Some(wall(10_000)), "{longest:?}");
}
