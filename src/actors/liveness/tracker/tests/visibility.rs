//! What is shown while the link is down and after it came back (TRK-4).

use super::*;

/// Proves TRK-3, TRK-4.
#[test]
fn a_message_delivered_before_link_up_is_shown_and_every_machine_gets_offline_after() {
    let mut bench = Bench::with_link();
    bench.message("m1", 2 * SECOND);
    bench.message("m2", 2 * SECOND);
    bench.tracker.link_down(time_point(3 * SECOND));
    bench.message("m1", 9 * SECOND);
    bench.tracker.link_up(time_point(10 * SECOND), Mono(8 * SECOND));
    assert_eq!((bench.shown("m1"), bench.shown("m2")), (DisplayStatus::Online, DisplayStatus::Unknown));
    assert_eq!(bench.tracker.counts(), StatusCounts { online: 1, unknown: 1, ..StatusCounts::default() });
    let silent = bench.advance(60 * SECOND);
    assert!(silent.iter().all(|each| each.occurred_at == wall(25 * SECOND)), "{silent:?}");
    assert_eq!(silent.len(), 2);
}

/// Proves TRK-4.
#[test]
fn a_message_of_the_previous_link_is_not_shown_however_early_the_next_link_delivered() {
    let mut bench = Bench::with_link();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(time_point(3 * SECOND));
    bench.tracker.link_up(time_point(10 * SECOND), Mono(SECOND));
    assert_eq!(bench.shown("m1"), DisplayStatus::Unknown);
}

/// Proves TRK-4, TRK-7.
#[test]
fn without_a_link_every_machine_is_unknown_and_is_confirmed_one_by_one_afterwards() {
    let never = KnownMachine { first_seen_at: None, last_seen_at: None, ..known("never", Offline, 0, 0) };
    let rows = vec![known("on", Online, 0, 5), known("off", Offline, 3, 2), never];
    let mut bench = Bench::new(expecting(&["never", "new"]), rows);
    let all_unknown = StatusCounts { unknown: 4, ..StatusCounts::default() };
    assert_eq!(bench.tracker.counts(), all_unknown);

    bench.tracker.link_up(time_point(10 * SECOND), Mono(10 * SECOND));
    assert_eq!(bench.tracker.counts(), all_unknown, "the link is up, no machine has sent");
    bench.message("on", 11 * SECOND);
    assert_eq!(bench.shown("on"), DisplayStatus::Online);
    assert_eq!(bench.shown("off"), DisplayStatus::Unknown);
    assert_eq!(bench.tracker.next_deadline(), Some(Mono(25 * SECOND)));

    let silent = bench.advance(25 * SECOND);
    assert_eq!(briefs(&silent), [event("new", Offline, None, NeverSeen, 25 * SECOND, None)]);
    let shown = ["on", "off", "never", "new"].map(|name| bench.shown(name));
    let expected =
        [DisplayStatus::Online, DisplayStatus::Offline, DisplayStatus::NeverSeen, DisplayStatus::NeverSeen];
    assert_eq!(shown, expected);
    assert_eq!(bench.tracker.counts(), StatusCounts { online: 1, offline: 1, never_seen: 2, unknown: 0 });

    bench.tracker.link_down(time_point(25 * SECOND + 1));
    assert_eq!(bench.tracker.counts(), all_unknown);
    assert_eq!(bench.tracker.next_deadline(), None);
    let view = bench.tracker.status_of("off").expect("tracked");
    assert_eq!(view.recorded, Some(Offline), "a lost link changes no recorded status");
    assert_eq!(view.status_since, Some(wall(3)));
}

/// Proves TRK-4.
#[test]
fn confirming_an_offline_machine_wants_a_proof() {
    let mut bench = Bench::new(options(), vec![known("off", Offline, 3, 2)]);
    bench.tracker.link_up(time_point(10 * SECOND), Mono(10 * SECOND));
    assert_eq!(bench.tracker.next_deadline(), Some(Mono(25 * SECOND)));
    assert_eq!(bench.advance(25 * SECOND - 1), []);
    assert_eq!(bench.shown("off"), DisplayStatus::Unknown);
    assert_eq!(bench.advance(25 * SECOND), []);
    assert_eq!(bench.shown("off"), DisplayStatus::Offline);
    assert_eq!(bench.tracker.next_deadline(), None);
}
