//! What records change (TRK-5 to TRK-9).

use super::*;

/// Proves TRK-5.
#[test]
fn occurred_at_follows_the_wall_clock_back_and_simultaneous_changes_stay_distinct() {
    let mut bench = Bench::with_link();
    bench.message("m1", 100 * SECOND);
    assert_eq!(bench.advance(115 * SECOND).len(), 1);
    let set_back = bench.sighting("m1", wall(50 * SECOND), SightingKind::Message);
    let back = bench.tracker.observe(&set_back, Some(Mono(120 * SECOND))).expect("it is back");
    assert_eq!(brief(&back), event("m1", Online, Some(Offline), Message, 50 * SECOND, Some(50 * SECOND)));
    let gone = bench.sighting("m1", wall(50 * SECOND), SightingKind::LastWill);
    let gone = bench.tracker.observe(&gone, Some(Mono(120 * SECOND))).expect("gone in the same microsecond");
    assert_eq!(brief(&gone).4, 50_000_001);
    let back = bench.sighting("m1", wall(50 * SECOND), SightingKind::Message);
    let back = bench.tracker.observe(&back, Some(Mono(120 * SECOND))).expect("back in the same microsecond");
    assert_eq!(brief(&back).4, 50_000_002);
    let silent = bench.advance(135 * SECOND);
    let expected = event("m1", Offline, Some(Online), Silence, 65 * SECOND, Some(50 * SECOND));
    assert_eq!(briefs(&silent), [expected]);
}

/// Proves TRK-6.
#[test]
fn a_last_will_makes_an_online_machine_offline_at_once_and_no_other() {
    let mut bench = Bench::new(options(), vec![known("off", Offline, 3, 2)]);
    bench.tracker.link_up(time_point(SECOND), Mono(SECOND));
    assert_eq!(bench.last_will("stranger", 2 * SECOND), None);
    assert!(bench.tracker.status_of("stranger").is_none());
    assert_eq!(bench.last_will("off", 2 * SECOND), None);
    assert_eq!(
        bench.shown("off"),
        DisplayStatus::Unknown,
        "a last will of an offline machine proves nothing"
    );

    bench.message("m1", 3 * SECOND);
    let gone = bench.last_will("m1", 4 * SECOND).expect("gone");
    assert_eq!(brief(&gone), event("m1", Offline, Some(Online), LastWill, 4 * SECOND, Some(3 * SECOND)));
    assert_eq!(bench.shown("m1"), DisplayStatus::Offline);
    assert_eq!(bench.last_will("m1", 5 * SECOND), None);
    assert_eq!(bench.advance(19 * SECOND), [], "it is offline already");
    assert_eq!(bench.message("m1", 20 * SECOND).map(|t| t.reason), Some(Message));
    assert_eq!(briefs(&bench.advance(60 * SECOND)).len(), 1);
}

/// Proves TRK-6.
#[test]
fn a_machine_back_after_its_last_will_keeps_one_deadline() {
    let mut bench = Bench::with_link();
    bench.message("m1", 3 * SECOND);
    for turn in 1..50 {
        bench.last_will("m1", 3 * SECOND + 2 * turn);
        bench.message("m1", 3 * SECOND + 2 * turn + 1);
    }
    assert_eq!(bench.tracker.deadlines.len(), 1);
    let silent = bench.advance(60 * SECOND);
    assert_eq!(silent.len(), 1);
    assert_eq!(brief(&silent[0]).4, 18_000_099);
    assert_eq!(bench.tracker.deadlines.len(), 0);
}

/// Proves TRK-7.
#[test]
fn an_expected_machine_is_reported_once_and_not_again_after_a_restart() {
    let mut bench = Bench::new(expecting(&["e1"]), vec![]);
    bench.tracker.link_up(time_point(SECOND), Mono(SECOND));
    let never = bench.advance(16 * SECOND);
    assert_eq!(briefs(&never), [event("e1", Offline, None, NeverSeen, 16 * SECOND, None)]);
    assert_eq!(bench.advance(600 * SECOND), []);

    let row =
        KnownMachine { first_seen_at: None, last_seen_at: None, ..known("e1", Offline, 16 * SECOND, 0) };
    let mut restarted = Bench::new(expecting(&["e1"]), vec![row]);
    restarted.tracker.link_up(time_point(700 * SECOND), Mono(700 * SECOND));
    assert_eq!(restarted.advance(900 * SECOND), []);
    let first = restarted.message("e1", 901 * SECOND).expect("it sends at last");
    assert_eq!(
        brief(&first),
        event("e1", Online, Some(Offline), FirstSeen, 901 * SECOND, Some(901 * SECOND))
    );
}

/// Proves TRK-7.
#[test]
fn an_expected_machine_that_sends_in_time_is_first_seen() {
    let mut bench = Bench::new(expecting(&["e1"]), vec![]);
    bench.tracker.link_up(time_point(SECOND), Mono(SECOND));
    let first = bench.message("e1", 15 * SECOND).expect("it sends");
    assert_eq!(brief(&first), event("e1", Online, None, FirstSeen, 15 * SECOND, Some(15 * SECOND)));
    assert_eq!(bench.advance(16 * SECOND), []);
}

/// Proves TRK-8.
#[test]
fn records_count_once_and_in_order() {
    let mut bench = Bench::with_link();
    let message = bench.sighting("m1", wall(2 * SECOND), SightingKind::Message);
    let will = bench.sighting("m1", wall(3 * SECOND), SightingKind::LastWill);
    let again = bench.sighting("m1", wall(4 * SECOND), SightingKind::Message);
    let mut observe = |sighting: &Sighting| bench.tracker.observe(sighting, Some(Mono(5 * SECOND))).is_some();
    assert!(observe(&message) && observe(&will) && observe(&again));
    assert!(!observe(&message) && !observe(&will) && !observe(&again), "a replay adds nothing");
    let of_the_past = Sighting { seq: Seq(100), ..message };
    assert!(!observe(&of_the_past), "the database includes it already");
}

/// Proves TRK-8.
#[test]
fn sightings_observed_together_act_one_after_the_other() {
    let mut bench = Bench::with_link();
    let kinds =
        [SightingKind::LastWill, SightingKind::Message, SightingKind::LastWill, SightingKind::Message];
    let sightings = kinds.map(|kind| bench.sighting("m1", wall(2 * SECOND), kind));
    let mut out = Vec::new();
    bench.tracker.observe_all(&sightings, Some(Mono(2 * SECOND)), &mut out);
    bench.tracker.observe_all(&sightings, Some(Mono(2 * SECOND)), &mut out);
    let events: Vec<(TransitionReason, Seq)> = out.iter().map(|event| (event.reason, event.seq)).collect();
    assert_eq!(events, [(FirstSeen, Seq(102)), (LastWill, Seq(103)), (Message, Seq(104))]);
}

/// Proves TRK-8.
#[test]
fn all_elements_of_one_record_count() {
    let mut bench = Bench::with_link();
    let first = bench.sighting("m1", wall(2 * SECOND), SightingKind::Message);
    let second = Sighting { machine_id: id("m2"), element: 1, ..first.clone() };
    let mut out = Vec::new();
    bench.tracker.observe_all(&[first.clone(), second.clone()], Some(Mono(2 * SECOND)), &mut out);
    assert_eq!(out.len(), 2);
    bench.tracker.set_observed(first.seq);
    let third = Sighting { machine_id: id("m3"), element: 2, ..first };
    assert_eq!(bench.tracker.observe(&third, Some(Mono(2 * SECOND))), None);
    assert_eq!(bench.tracker.observed_upto(), third.seq);
}

/// Proves TRK-8.
#[test]
fn a_replayed_record_newer_than_the_database_counts() {
    let mut bench = Bench::new(options(), vec![known("m1", Offline, 10, 5)]);
    let back =
        bench.replayed("m1", 10 * SECOND, SightingKind::Message).expect("it was back before the crash");
    assert_eq!(brief(&back), event("m1", Online, Some(Offline), Message, 10 * SECOND, Some(10 * SECOND)));
    let gone = bench.replayed("m1", 11 * SECOND, SightingKind::LastWill).expect("and gone again");
    assert_eq!(brief(&gone), event("m1", Offline, Some(Online), LastWill, 11 * SECOND, Some(10 * SECOND)));
    let first = bench.replayed("m2", 12 * SECOND, SightingKind::Message).expect("a new machine");
    assert_eq!(first.reason, FirstSeen);
    assert_eq!(bench.shown("m2"), DisplayStatus::Unknown);
    bench.tracker.link_up(time_point(3600 * SECOND), Mono(3600 * SECOND));
    let silent = bench.advance(3615 * SECOND);
    assert_eq!(
        briefs(&silent),
        [event("m2", Offline, Some(Online), Silence, 3615 * SECOND, Some(12 * SECOND))]
    );
}

/// Proves TRK-8.
#[test]
fn a_replayed_record_older_than_the_database_has_no_effect() {
    let rows = vec![known("off", Offline, 20 * SECOND, 5 * SECOND), known("on", Online, SECOND, 20 * SECOND)];
    let mut bench = Bench::new(options(), rows);
    assert_eq!(bench.replayed("off", 19 * SECOND, SightingKind::Message), None);
    assert_eq!(bench.replayed("on", 19 * SECOND, SightingKind::LastWill), None);
    assert_eq!(bench.replayed("on", 19 * SECOND, SightingKind::Message), None);
    assert_eq!(bench.tracker.status_of("on").and_then(|view| view.last_seen), Some(wall(20 * SECOND)));
    assert!(bench.replayed("on", 20 * SECOND, SightingKind::LastWill).is_some(), "as new as the database");
}

/// Proves TRK-8.
#[test]
fn a_live_message_counts_although_the_wall_clock_says_it_is_old() {
    let mut bench = Bench::new(options(), vec![known("off", Offline, 3600 * SECOND, 5 * SECOND)]);
    let back = bench.message("off", 10 * SECOND).expect("it sends now");
    assert_eq!(brief(&back).4, 10_000_000);
}

/// Proves TRK-9.
#[test]
fn above_machines_max_new_machines_are_not_tracked_and_the_others_go_on() {
    let limited = TrackerOptions { machines_max: 2, ..expecting(&["e1"]) };
    let mut bench = Bench::new(limited, vec![known("m1", Online, 0, 0)]);
    bench.tracker.link_up(time_point(SECOND), Mono(SECOND));
    assert!(!bench.tracker.overflowed());
    assert_eq!(bench.message("runaway", 2 * SECOND), None);
    assert_eq!(bench.message("runaway", 3 * SECOND), None);
    assert!(bench.tracker.overflowed());
    assert_eq!(bench.tracker.untracked_sightings(), 2);
    assert_eq!(bench.tracker.views().count(), 2);
    assert!(bench.message("e1", 4 * SECOND).is_some());
    assert_eq!(bench.advance(16 * SECOND).len(), 1, "m1 is silent");
}

#[test]
fn ids_of_any_length_and_script_stay_distinct() {
    let mut bench = Bench::with_link();
    let mut names: Vec<String> = (0..2000).map(|n| format!("press-{n}")).collect();
    let stem = "ü".repeat(40);
    names.extend((0..2000).map(|n| format!("{stem}{n}")));
    names.extend(["a/b+c#d%e".to_owned(), "x y".to_owned(), "プレス機".to_owned()]);
    names.extend((1..=100).map(|length| "z".repeat(length)));
    bench.tracker.machines_max = names.len();
    for name in &names {
        assert!(bench.message(name, 2 * SECOND).is_some(), "{name} is new");
    }
    for name in &names {
        assert!(bench.message(name, 3 * SECOND).is_none(), "{name} is known");
        assert_eq!(bench.tracker.status_of(name).expect("tracked").machine_id.as_str(), name);
    }
    let sightings: Vec<Sighting> =
        names.iter().map(|name| bench.sighting(name, wall(4 * SECOND), SightingKind::LastWill)).collect();
    let mut out = Vec::new();
    bench.tracker.observe_all(&sightings, Some(Mono(4 * SECOND)), &mut out);
    let gone: Vec<&str> = out.iter().map(|transition| transition.machine_id.as_str()).collect();
    assert_eq!(gone, names);
}
