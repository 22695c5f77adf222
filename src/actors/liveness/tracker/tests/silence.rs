//! When a machine falls silent (TRK-1 to TRK-3).

use super::*;

/// Proves TRK-1.
#[test]
fn first_message_silence_and_return_are_one_event_each() {
    let mut bench = Bench::with_link();
    let first = bench.message("m1", 2 * SECOND).expect("first seen");
    assert_eq!(brief(&first), event("m1", Online, None, FirstSeen, 2 * SECOND, Some(2 * SECOND)));
    assert_eq!(first.seq, Seq(101));
    assert_eq!(bench.message("m1", 3 * SECOND), None);
    assert_eq!(bench.message("m2", 4 * SECOND).map(|t| t.reason), Some(FirstSeen));

    let silent = bench.advance(18 * SECOND);
    assert_eq!(briefs(&silent), [event("m1", Offline, Some(Online), Silence, 18 * SECOND, Some(3 * SECOND))]);
    assert_eq!(silent[0].seq, Seq(103), "a deadline carries the newest observed record");
    assert_eq!(bench.advance(18 * SECOND), []);

    let back = bench.message("m1", 18 * SECOND + 7).expect("back");
    assert_eq!(
        brief(&back),
        event("m1", Online, Some(Offline), Message, 18 * SECOND + 7, Some(18 * SECOND + 7))
    );
}

/// Proves TRK-2.
#[test]
fn no_machine_is_silent_before_it_is_proven() {
    let mut bench = Bench::with_link();
    bench.message("m1", 2 * SECOND + 1);
    assert_eq!(bench.advance(17 * SECOND), []);
    assert_eq!(bench.shown("m1"), DisplayStatus::Online);
    let silent = bench.advance(17 * SECOND + 1);
    assert_eq!(
        briefs(&silent),
        [event("m1", Offline, Some(Online), Silence, 17 * SECOND + 1, Some(2 * SECOND + 1))]
    );
}

/// Proves TRK-2.
#[test]
fn a_deadline_at_the_instant_the_link_goes_down_is_void() {
    let mut bench = Bench::with_link();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(time_point(17 * SECOND));
    assert_eq!(bench.advance(60 * SECOND), []);
}

/// Proves TRK-2.
#[test]
fn a_deadline_before_the_link_goes_down_needs_a_proof_from_before_that() {
    let mut bench = Bench::with_link();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(time_point(17 * SECOND + 1));
    assert_eq!(bench.advance(17 * SECOND - 1), []);
    let silent = bench.advance(17 * SECOND);
    assert_eq!(briefs(&silent), [event("m1", Offline, Some(Online), Silence, 17 * SECOND, Some(2 * SECOND))]);
    assert_eq!(bench.shown("m1"), DisplayStatus::Unknown, "the link is down");
}

/// Proves TRK-2.
#[test]
fn the_first_of_two_reports_of_a_lost_link_counts() {
    let mut bench = Bench::with_link();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(time_point(16 * SECOND));
    bench.tracker.link_down(time_point(40 * SECOND));
    assert_eq!(bench.advance(30 * SECOND), []);
}

/// Proves TRK-2.
#[test]
fn a_tracker_that_never_had_a_link_concludes_nothing() {
    let mut bench = Bench::new(expecting(&["e1"]), vec![known("m1", Online, 0, SECOND)]);
    assert_eq!(bench.advance(3600 * SECOND), []);
    assert_eq!(bench.tracker.next_deadline(), None);
}

/// Proves TRK-3.
#[test]
fn after_a_reconnect_every_machine_gets_offline_after_to_send() {
    let mut bench = Bench::with_link();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(time_point(10 * SECOND));
    bench.tracker.link_up(time_point(12 * SECOND), Mono(12 * SECOND));
    assert_eq!(bench.advance(27 * SECOND - 1), []);
    let silent = bench.advance(27 * SECOND);
    assert_eq!(briefs(&silent), [event("m1", Offline, Some(Online), Silence, 27 * SECOND, Some(2 * SECOND))]);
}

/// Proves TRK-3.
#[test]
fn link_up_twice_means_that_there_was_a_break() {
    let mut bench = Bench::with_link();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_up(time_point(12 * SECOND), Mono(12 * SECOND));
    assert_eq!(bench.advance(27 * SECOND - 1), []);
    assert_eq!(bench.advance(27 * SECOND).len(), 1);
}

/// Proves TRK-3.
#[test]
fn after_a_message_over_the_new_link_the_wait_starts_at_it() {
    let mut bench = Bench::with_link();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(time_point(10 * SECOND));
    bench.tracker.link_up(time_point(12 * SECOND), Mono(12 * SECOND));
    bench.message("m1", 13 * SECOND);
    let silent = bench.advance(60 * SECOND);
    assert_eq!(
        briefs(&silent),
        [event("m1", Offline, Some(Online), Silence, 28 * SECOND, Some(13 * SECOND))]
    );
}

/// Proves TRK-3.
#[test]
fn the_report_of_the_link_may_come_after_the_first_message_over_it() {
    let mut bench = Bench::new(options(), vec![known("m1", Online, 0, 0), known("m2", Online, 0, 0)]);
    bench.message("m1", 12 * SECOND);
    assert_eq!(bench.shown("m1"), DisplayStatus::Unknown);
    bench.tracker.link_up(time_point(10 * SECOND), Mono(10 * SECOND));
    assert_eq!(bench.shown("m1"), DisplayStatus::Online);
    assert_eq!(bench.tracker.counts(), StatusCounts { online: 1, unknown: 1, ..StatusCounts::default() });
    let silent = bench.advance(60 * SECOND);
    let expected = [
        event("m2", Offline, Some(Online), Silence, 25 * SECOND, Some(0)),
        event("m1", Offline, Some(Online), Silence, 27 * SECOND, Some(12 * SECOND)),
    ];
    assert_eq!(briefs(&silent), expected);
}

/// Proves TRK-3, TRK-4.
#[test]
fn a_message_from_before_a_break_observed_after_it_is_no_start_of_the_wait() {
    let mut bench = Bench::with_link();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(time_point(10 * SECOND));
    bench.tracker.link_up(time_point(12 * SECOND), Mono(12 * SECOND));
    bench.message("m1", 9 * SECOND);
    assert_eq!(bench.shown("m1"), DisplayStatus::Unknown);
    let silent = bench.advance(60 * SECOND);
    assert_eq!(briefs(&silent), [event("m1", Offline, Some(Online), Silence, 27 * SECOND, Some(9 * SECOND))]);
}

/// Proves TRK-3.
#[test]
fn deadlines_come_out_in_order_whatever_the_offline_after() {
    let rule = |seconds| MachineRule { offline_after: Some(Duration::from_secs(seconds)), expected: false };
    let machines = HashMap::from([(id("fast"), rule(1)), (id("slow"), rule(86_400)), (id("odd"), rule(100))]);
    let mut bench = Bench::new(TrackerOptions { machines, ..options() }, vec![]);
    bench.tracker.link_up(time_point(0), Mono(0));
    for name in ["slow", "odd", "plain", "fast"] {
        bench.message(name, SECOND);
    }
    assert_eq!(bench.tracker.next_deadline(), Some(Mono(2 * SECOND)));
    let view = bench.tracker.status_of("slow").expect("tracked");
    assert_eq!(view.offline_after, Duration::from_secs(86_400));
    let silent = bench.advance(90_000 * SECOND);
    let order: Vec<(String, i64)> =
        silent.iter().map(brief).map(|(name, _, _, _, at, _)| (name, at / 1_000_000)).collect();
    let expected = [("fast", 2), ("plain", 16), ("odd", 101), ("slow", 86_401)];
    assert_eq!(order, expected.map(|(name, at)| (name.to_owned(), at)));
}

/// Proves TRK-3.
#[test]
fn wall_clock_jumps_make_no_event() {
    let mut bench = Bench::with_link();
    let forward = wall(3600 * SECOND);
    let sighting = bench.sighting("m1", forward, SightingKind::Message);
    bench.tracker.observe(&sighting, Some(Mono(2 * SECOND)));
    assert_eq!(bench.advance(17 * SECOND - 1), []);
    let silent = bench.advance(17 * SECOND);
    assert_eq!(
        briefs(&silent),
        [event("m1", Offline, Some(Online), Silence, 3615 * SECOND, Some(3600 * SECOND))]
    );
}

/// Proves TRK-3.
#[test]
fn twenty_thousand_machines_fall_silent_in_one_step_each_at_its_deadline() {
    let mut bench = Bench::with_link();
    bench.tracker.machines_max = 20_000;
    for n in 0..20_000_u64 {
        // Not in the order of their deadlines.
        bench.message(&format!("m{n}"), 2 * SECOND + (n * 7919) % 20_000);
    }
    assert_eq!(bench.advance(17 * SECOND - 1), []);
    let silent = bench.advance(18 * SECOND);
    let instants: Vec<i64> = silent.iter().map(|transition| brief(transition).4).collect();
    assert_eq!(instants, (17_000_000..17_020_000).collect::<Vec<i64>>());
    assert_eq!(bench.tracker.counts(), StatusCounts { offline: 20_000, ..StatusCounts::default() });
}

#[test]
fn next_deadline_is_exact_although_entries_are_early() {
    let mut bench = Bench::with_link();
    for at in 2..200 {
        bench.message("m1", at * SECOND);
        bench.message("m2", at * SECOND + 5);
    }
    assert_eq!(bench.tracker.next_deadline(), Some(Mono(214 * SECOND)));
    bench.message("m1", 300 * SECOND);
    assert_eq!(bench.tracker.next_deadline(), Some(Mono(214 * SECOND + 5)));
    bench.last_will("m2", 300 * SECOND);
    assert_eq!(bench.tracker.next_deadline(), Some(Mono(315 * SECOND)));
    bench.last_will("m1", 300 * SECOND);
    assert_eq!(bench.tracker.next_deadline(), None);
}

#[test]
fn deadlines_survive_a_lost_link_longer_than_the_wheel() {
    let mut bench = Bench::with_link();
    for n in 0..100 {
        bench.message(&format!("m{n}"), 2 * SECOND + n);
    }
    bench.tracker.link_down(time_point(3 * SECOND));
    bench.tracker.link_up(time_point(1_000_000 * SECOND), Mono(1_000_000 * SECOND));
    assert_eq!(bench.advance(1_000_000 * SECOND), []);
    bench.message("m7", 1_000_001 * SECOND);
    assert_eq!(bench.advance(1_000_015 * SECOND).len(), 99);
    assert_eq!(bench.advance(1_000_016 * SECOND).len(), 1);
}
