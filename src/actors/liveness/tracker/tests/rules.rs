//! Rules that change while machines are watched (TRK-12), and machines that are forgotten.

use super::*;

fn after(seconds: u64) -> TrackerOptions {
    TrackerOptions { offline_after: Duration::from_secs(seconds), ..options() }
}

impl Bench {
    fn set_rules(&mut self, options: &TrackerOptions, at: u64) {
        self.tracker.set_rules(options, time_point(at));
    }
}

/// Proves TRK-12.
#[test]
fn a_machine_that_is_silent_by_a_shorter_rule_goes_offline_when_the_rule_begins_and_not_before() {
    let mut bench = Bench::with_link();
    bench.message("a", 10 * SECOND);
    assert_eq!(bench.advance(20 * SECOND), []);
    bench.set_rules(&after(2), 22 * SECOND);
    assert_eq!(bench.shown("a"), DisplayStatus::Online);
    assert_eq!(bench.advance(22 * SECOND - 1), [], "the link was not proven at the change yet");
    let silent = event("a", Offline, Some(Online), Silence, 22 * SECOND, Some(10 * SECOND));
    assert_eq!(briefs(&bench.advance(22 * SECOND)), [silent]);
}

/// Proves TRK-12.
#[test]
fn a_machine_that_sends_after_the_change_is_judged_by_its_message_alone() {
    let mut bench = Bench::with_link();
    bench.message("a", 10 * SECOND);
    bench.message("b", 10 * SECOND);
    bench.set_rules(&after(4), 11 * SECOND);
    bench.message("a", 12 * SECOND);
    // A later change of another machine's rule moves nobody's deadline.
    let rule = MachineRule { offline_after: Some(Duration::from_secs(99)), expected: false };
    bench.set_rules(&TrackerOptions { machines: [(id("z"), rule)].into(), ..after(4) }, 13 * SECOND);
    let b = event("b", Offline, Some(Online), Silence, 14 * SECOND, Some(10 * SECOND));
    let a = event("a", Offline, Some(Online), Silence, 16 * SECOND, Some(12 * SECOND));
    assert_eq!(briefs(&bench.advance(60 * SECOND)), [b, a]);
}

/// Proves TRK-12.
#[test]
fn a_longer_rule_counts_from_the_newest_message() {
    let mut bench = Bench::with_link();
    bench.message("a", 10 * SECOND);
    bench.set_rules(&after(60), 20 * SECOND);
    assert_eq!(bench.advance(70 * SECOND - 1), []);
    let silent = event("a", Offline, Some(Online), Silence, 70 * SECOND, Some(10 * SECOND));
    assert_eq!(briefs(&bench.advance(70 * SECOND)), [silent]);
}

/// Proves TRK-12.
#[test]
fn a_machine_whose_rule_stays_keeps_its_deadline_and_its_status() {
    let own = MachineRule { offline_after: Some(Duration::from_secs(15)), expected: false };
    let with_own = |seconds| TrackerOptions { machines: [(id("own"), own)].into(), ..after(seconds) };
    let mut bench = Bench::new(with_own(30), vec![known("gone", Offline, 0, 0)]);
    bench.tracker.link_up(time_point(SECOND), Mono(SECOND));
    bench.message("own", 10 * SECOND);
    bench.message("other", 10 * SECOND);
    let before = bench.tracker.counts();
    bench.set_rules(&with_own(5), 26 * SECOND);
    assert_eq!(bench.tracker.counts(), before, "no status changes by itself");
    // The deadline of 25 s had passed before the change, and was not proven yet.
    let own = event("own", Offline, Some(Online), Silence, 25 * SECOND, Some(10 * SECOND));
    let other = event("other", Offline, Some(Online), Silence, 26 * SECOND, Some(10 * SECOND));
    assert_eq!(briefs(&bench.advance(30 * SECOND)), [own, other]);
}

/// Proves TRK-12.
#[test]
fn a_machine_that_becomes_expected_gets_its_whole_time_and_one_that_no_longer_is_none() {
    let mut bench = Bench::with_link();
    bench.advance(40 * SECOND);
    bench.set_rules(&expecting(&["a", "b"]), 50 * SECOND);
    assert_eq!(bench.advance(65 * SECOND - 1), []);
    bench.set_rules(&expecting(&["a"]), 65 * SECOND - 1);
    assert!(bench.tracker.status_of("b").is_none());
    let never = event("a", Offline, None, NeverSeen, 65 * SECOND, None);
    assert_eq!(briefs(&bench.advance(200 * SECOND)), [never]);
    bench.set_rules(&options(), 210 * SECOND);
    assert_eq!(
        bench.shown("a"),
        DisplayStatus::NeverSeen,
        "its event is recorded: it stays until it is forgotten"
    );
}

/// Proves TRK-10.
#[test]
fn a_new_rule_of_flapping_counts_at_once() {
    let mut bench = Bench::with_link();
    for second in 2..6 {
        bench.message("a", second * SECOND);
        bench.last_will("a", second * SECOND + 1);
    }
    assert_eq!(bench.tracker.take_flapping_changes(Mono(7 * SECOND)), [(id("a"), true)]);
    let rule = |changes| {
        let flapping = FlappingRule { changes, window: Duration::from_secs(600) };
        TrackerOptions { flapping, ..options() }
    };
    bench.set_rules(&rule(9), 8 * SECOND);
    assert_eq!(bench.tracker.take_flapping_changes(Mono(8 * SECOND)), [(id("a"), false)]);
    bench.set_rules(&rule(2), 9 * SECOND);
    assert_eq!(bench.tracker.take_flapping_changes(Mono(9 * SECOND)), [(id("a"), true)]);
    let over = bench.tracker.take_flapping_changes(Mono(606 * SECOND));
    assert_eq!((over, bench.tracker.flapping_count()), (vec![(id("a"), false)], 0));
}

#[test]
fn a_forgotten_machine_is_gone_and_new_when_it_sends_again() {
    let mut bench = Bench::with_link();
    bench.message("a", 2 * SECOND);
    bench.message("b", 2 * SECOND);
    assert!(bench.tracker.forget(&id("a")) && !bench.tracker.forget(&id("a")));
    assert!(bench.tracker.status_of("a").is_none());
    assert_eq!((bench.tracker.counts().online, bench.tracker.views().count()), (1, 1));
    let silent = event("b", Offline, Some(Online), Silence, 17 * SECOND, Some(2 * SECOND));
    assert_eq!(briefs(&bench.advance(20 * SECOND)), [silent], "a forgotten one does not fall silent");
    let back = bench.message("a", 21 * SECOND).map(|transition| brief(&transition));
    assert_eq!(back, Some(event("a", Online, None, FirstSeen, 21 * SECOND, Some(21 * SECOND))));
    let ids: Vec<String> = bench.tracker.views_in_order().map(|view| view.machine_id.to_string()).collect();
    assert_eq!(ids, ["a", "b"]);
}

#[test]
fn a_forgotten_machine_makes_room_for_another() {
    let limit = TrackerOptions { machines_max: 2, ..options() };
    let mut bench = Bench::new(limit, vec![]);
    bench.tracker.link_up(time_point(SECOND), Mono(SECOND));
    for name in ["b", "c", "d"] {
        bench.message(name, 2 * SECOND);
    }
    assert!(bench.tracker.status_of("d").is_none());
    bench.tracker.forget(&id("c"));
    bench.message("a", 3 * SECOND);
    let ids: Vec<String> = bench.tracker.views_in_order().map(|view| view.machine_id.to_string()).collect();
    assert_eq!(ids, ["a", "b"]);
}

/// Whatever happens, the counts are those of the views, and each machine falls silent once.
#[test]
fn counts_and_deadlines_stay_right_while_rules_change_and_machines_are_forgotten() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut bench = Bench::with_link();
    let mut online = std::collections::BTreeSet::new();
    let mut now = 2 * SECOND;
    for _ in 0..20_000 {
        now += next(SECOND);
        let name = format!("m{}", next(20));
        match next(8) {
            0 => {
                bench.tracker.forget(&id(&name));
                online.remove(&name);
            }
            1 => {
                let rule =
                    MachineRule { offline_after: Some(Duration::from_secs(1 + next(9))), expected: false };
                let machines = [(id(&name), rule)].into();
                bench.set_rules(&TrackerOptions { machines, ..after(1 + next(5)) }, now);
            }
            2 | 3 => {
                for transition in bench.advance(now) {
                    assert_eq!(transition.status, Offline);
                    assert!(online.remove(transition.machine_id.as_str()), "{transition:?}");
                }
            }
            _ => {
                if let Some(transition) = bench.message(&name, now) {
                    assert_eq!(transition.status, Online);
                }
                online.insert(name);
            }
        }
        let mut counted = StatusCounts::default();
        for view in bench.tracker.views() {
            match view.status {
                DisplayStatus::Online => counted.online += 1,
                DisplayStatus::Offline => counted.offline += 1,
                DisplayStatus::Unknown => counted.unknown += 1,
                DisplayStatus::NeverSeen => counted.never_seen += 1,
            }
        }
        assert_eq!((bench.tracker.counts(), counted.online), (counted, online.len() as u64));
    }
    assert!(bench.advance(now + 100 * SECOND).len() == online.len());
}
