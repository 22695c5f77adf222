//! The rules, one claim a test.

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::domain::DisplayStatus;
use crate::domain::MachineStatus::{self, Offline, Online};
use crate::domain::TransitionReason::{self, FirstSeen, LastWill, Message, NeverSeen, Silence};

const SECOND: u64 = 1_000_000;
/// The wall clock's lead over the monotonic one until a test turns it.
const EPOCH: i64 = 1_800_000_000_000_000;

fn id(name: &str) -> MachineId {
    MachineId::parse(name).expect("a valid id")
}

fn wall(micros: u64) -> Timestamp {
    Timestamp::from_micros(EPOCH + i64::try_from(micros).expect("a small number"))
}

fn moment(micros: u64) -> TimePoint {
    TimePoint { mono: Mono(micros), wall: wall(micros) }
}

fn options() -> TrackerOptions {
    let flapping = FlappingRule { changes: 6, window: Duration::from_secs(600) };
    TrackerOptions {
        offline_after: Duration::from_secs(15),
        machines: HashMap::new(),
        machines_max: 1000,
        flapping,
    }
}

fn expecting(names: &[&str]) -> TrackerOptions {
    let rule = MachineRule { offline_after: None, expected: true };
    TrackerOptions { machines: names.iter().map(|name| (id(name), rule)).collect(), ..options() }
}

fn known(name: &str, status: MachineStatus, since: u64, last_seen: u64) -> KnownMachine {
    KnownMachine {
        machine_id: id(name),
        status,
        status_since: wall(since),
        reason: None,
        first_seen_at: Some(wall(0)),
        last_seen_at: Some(wall(last_seen)),
    }
}

/// A tracker with the records it has seen: each sighting gets the next seq.
struct Bench {
    tracker: Tracker,
    seq: u64,
    /// The filters that match the topics of the next sightings.
    through: FilterSet,
}

impl Bench {
    fn new(options: TrackerOptions, known: Vec<KnownMachine>) -> Self {
        Self { tracker: Tracker::new(options, known, Seq(100)), seq: 100, through: FilterSet::EMPTY }
    }

    /// One with an open sight since 1 s.
    fn seeing() -> Self {
        let mut bench = Self::new(options(), vec![]);
        bench.tracker.link_up(moment(SECOND), Mono(SECOND));
        bench
    }

    fn sighting(&mut self, name: &str, at: Timestamp, kind: SightingKind) -> Sighting {
        self.seq += 1;
        Sighting {
            machine_id: id(name),
            received_at: at,
            seq: Seq(self.seq),
            element: 0,
            kind,
            filters: self.through,
        }
    }

    fn message(&mut self, name: &str, at: u64) -> Option<Transition> {
        let sighting = self.sighting(name, wall(at), SightingKind::Message);
        self.tracker.observe(&sighting, Some(Mono(at)))
    }

    fn last_will(&mut self, name: &str, at: u64) -> Option<Transition> {
        let sighting = self.sighting(name, wall(at), SightingKind::LastWill);
        self.tracker.observe(&sighting, Some(Mono(at)))
    }

    fn replayed(&mut self, name: &str, at: u64, kind: SightingKind) -> Option<Transition> {
        let sighting = self.sighting(name, wall(at), kind);
        self.tracker.observe(&sighting, None)
    }

    fn advance(&mut self, proven_until: u64) -> Vec<Transition> {
        let mut out = Vec::new();
        self.tracker.advance(Mono(proven_until), &mut out);
        out
    }

    fn shown(&self, name: &str) -> DisplayStatus {
        self.tracker.status_of(name).expect("a tracked machine").status
    }
}

/// (machine, status, previous, reason, occurred_at, last_seen_at), the times in µs of the tests' clock.
type Brief = (String, MachineStatus, Option<MachineStatus>, TransitionReason, i64, Option<i64>);

fn brief(transition: &Transition) -> Brief {
    let micros = |at: Timestamp| at.as_micros() - EPOCH;
    (
        transition.machine_id.to_string(),
        transition.status,
        transition.previous_status,
        transition.reason,
        micros(transition.occurred_at),
        transition.last_seen_at.map(micros),
    )
}

fn briefs(transitions: &[Transition]) -> Vec<Brief> {
    transitions.iter().map(brief).collect()
}

fn event(
    name: &str,
    status: MachineStatus,
    previous: Option<MachineStatus>,
    reason: TransitionReason,
    occurred_at: u64,
    last_seen: Option<u64>,
) -> Brief {
    let micros = |at: u64| i64::try_from(at).expect("a small number");
    (name.to_owned(), status, previous, reason, micros(occurred_at), last_seen.map(micros))
}

#[test]
fn t1_first_message_silence_and_return_are_one_event_each() {
    let mut bench = Bench::seeing();
    let first = bench.message("m1", 2 * SECOND).expect("first seen");
    assert_eq!(brief(&first), event("m1", Online, None, FirstSeen, 2 * SECOND, Some(2 * SECOND)));
    assert_eq!(first.seq, Seq(101));
    assert_eq!(bench.message("m1", 3 * SECOND), None);
    assert_eq!(bench.message("m2", 4 * SECOND).map(|t| t.reason), Some(FirstSeen));

    let silent = bench.advance(18 * SECOND);
    assert_eq!(briefs(&silent), [event("m1", Offline, Some(Online), Silence, 18 * SECOND, Some(3 * SECOND))]);
    assert_eq!(silent[0].seq, Seq(103), "a deadline carries the newest record looked at");
    assert_eq!(bench.advance(18 * SECOND), []);

    let back = bench.message("m1", 18 * SECOND + 7).expect("back");
    assert_eq!(
        brief(&back),
        event("m1", Online, Some(Offline), Message, 18 * SECOND + 7, Some(18 * SECOND + 7))
    );
}

#[test]
fn t2_nothing_is_silent_before_it_is_proven() {
    let mut bench = Bench::seeing();
    bench.message("m1", 2 * SECOND + 1);
    assert_eq!(bench.advance(17 * SECOND), []);
    assert_eq!(bench.shown("m1"), DisplayStatus::Online);
    let silent = bench.advance(17 * SECOND + 1);
    assert_eq!(
        briefs(&silent),
        [event("m1", Offline, Some(Online), Silence, 17 * SECOND + 1, Some(2 * SECOND + 1))]
    );
}

#[test]
fn t2_a_deadline_at_the_moment_the_link_goes_down_is_void() {
    let mut bench = Bench::seeing();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(moment(17 * SECOND));
    assert_eq!(bench.advance(60 * SECOND), []);
}

#[test]
fn t2_a_deadline_before_the_link_goes_down_needs_a_proof_from_before_it() {
    let mut bench = Bench::seeing();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(moment(17 * SECOND + 1));
    assert_eq!(bench.advance(17 * SECOND - 1), []);
    let silent = bench.advance(17 * SECOND);
    assert_eq!(briefs(&silent), [event("m1", Offline, Some(Online), Silence, 17 * SECOND, Some(2 * SECOND))]);
    assert_eq!(bench.shown("m1"), DisplayStatus::Unknown, "the board is blind all the same");
}

#[test]
fn t2_the_first_of_two_reports_of_a_lost_link_counts() {
    let mut bench = Bench::seeing();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(moment(16 * SECOND));
    bench.tracker.link_down(moment(40 * SECOND));
    assert_eq!(bench.advance(30 * SECOND), []);
}

#[test]
fn t2_a_tracker_that_never_had_sight_concludes_nothing() {
    let mut bench = Bench::new(expecting(&["e1"]), vec![known("m1", Online, 0, SECOND)]);
    assert_eq!(bench.advance(3600 * SECOND), []);
    assert_eq!(bench.tracker.next_deadline(), None);
}

#[test]
fn t3_after_a_flap_everybody_gets_offline_after_to_speak() {
    let mut bench = Bench::seeing();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(moment(10 * SECOND));
    bench.tracker.link_up(moment(12 * SECOND), Mono(12 * SECOND));
    assert_eq!(bench.advance(27 * SECOND - 1), []);
    let silent = bench.advance(27 * SECOND);
    assert_eq!(briefs(&silent), [event("m1", Offline, Some(Online), Silence, 27 * SECOND, Some(2 * SECOND))]);
}

#[test]
fn t3_link_up_twice_means_that_there_was_a_break() {
    let mut bench = Bench::seeing();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_up(moment(12 * SECOND), Mono(12 * SECOND));
    assert_eq!(bench.advance(27 * SECOND - 1), []);
    assert_eq!(bench.advance(27 * SECOND).len(), 1);
}

#[test]
fn t3_a_message_after_the_flap_counts_from_itself() {
    let mut bench = Bench::seeing();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(moment(10 * SECOND));
    bench.tracker.link_up(moment(12 * SECOND), Mono(12 * SECOND));
    bench.message("m1", 13 * SECOND);
    let silent = bench.advance(60 * SECOND);
    assert_eq!(
        briefs(&silent),
        [event("m1", Offline, Some(Online), Silence, 28 * SECOND, Some(13 * SECOND))]
    );
}

#[test]
fn t3_news_of_the_link_may_come_after_the_first_message_through_it() {
    let mut bench = Bench::new(options(), vec![known("m1", Online, 0, 0), known("m2", Online, 0, 0)]);
    bench.message("m1", 12 * SECOND);
    assert_eq!(bench.shown("m1"), DisplayStatus::Unknown);
    bench.tracker.link_up(moment(10 * SECOND), Mono(10 * SECOND));
    assert_eq!(bench.shown("m1"), DisplayStatus::Online);
    assert_eq!(bench.tracker.counts(), StatusCounts { online: 1, unknown: 1, ..StatusCounts::default() });
    let silent = bench.advance(60 * SECOND);
    let expected = [
        event("m2", Offline, Some(Online), Silence, 25 * SECOND, Some(0)),
        event("m1", Offline, Some(Online), Silence, 27 * SECOND, Some(12 * SECOND)),
    ];
    assert_eq!(briefs(&silent), expected);
}

#[test]
fn t4_a_message_that_came_over_the_link_before_it_was_called_up_is_shown_and_everybody_gets_offline_after() {
    let mut bench = Bench::seeing();
    bench.message("m1", 2 * SECOND);
    bench.message("m2", 2 * SECOND);
    bench.tracker.link_down(moment(3 * SECOND));
    bench.message("m1", 9 * SECOND);
    bench.tracker.link_up(moment(10 * SECOND), Mono(8 * SECOND));
    assert_eq!((bench.shown("m1"), bench.shown("m2")), (DisplayStatus::Online, DisplayStatus::Unknown));
    assert_eq!(bench.tracker.counts(), StatusCounts { online: 1, unknown: 1, ..StatusCounts::default() });
    let silent = bench.advance(60 * SECOND);
    assert!(silent.iter().all(|each| each.occurred_at == wall(25 * SECOND)), "{silent:?}");
    assert_eq!(silent.len(), 2);
}

#[test]
fn t4_what_came_over_the_link_before_is_not_shown_however_early_the_next_was_heard() {
    let mut bench = Bench::seeing();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(moment(3 * SECOND));
    bench.tracker.link_up(moment(10 * SECOND), Mono(SECOND));
    assert_eq!(bench.shown("m1"), DisplayStatus::Unknown);
}

#[test]
fn t3_a_message_from_before_the_break_that_is_looked_at_after_it_waits_for_sight() {
    let mut bench = Bench::seeing();
    bench.message("m1", 2 * SECOND);
    bench.tracker.link_down(moment(10 * SECOND));
    bench.tracker.link_up(moment(12 * SECOND), Mono(12 * SECOND));
    bench.message("m1", 9 * SECOND);
    assert_eq!(bench.shown("m1"), DisplayStatus::Unknown);
    let silent = bench.advance(60 * SECOND);
    assert_eq!(briefs(&silent), [event("m1", Offline, Some(Online), Silence, 27 * SECOND, Some(9 * SECOND))]);
}

#[test]
fn t3_deadlines_come_out_in_their_order_whatever_the_offline_after() {
    let rule = |seconds| MachineRule { offline_after: Some(Duration::from_secs(seconds)), expected: false };
    let machines = HashMap::from([(id("fast"), rule(1)), (id("slow"), rule(86_400)), (id("odd"), rule(100))]);
    let mut bench = Bench::new(TrackerOptions { machines, ..options() }, vec![]);
    bench.tracker.link_up(moment(0), Mono(0));
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

#[test]
fn t3_wall_clock_jumps_make_no_event() {
    let mut bench = Bench::seeing();
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

#[test]
fn t4_while_blind_every_machine_is_unknown_and_confirmed_one_by_one_afterwards() {
    let never = KnownMachine { first_seen_at: None, last_seen_at: None, ..known("never", Offline, 0, 0) };
    let rows = vec![known("on", Online, 0, 5), known("off", Offline, 3, 2), never];
    let mut bench = Bench::new(expecting(&["never", "new"]), rows);
    let all_unknown = StatusCounts { unknown: 4, ..StatusCounts::default() };
    assert_eq!(bench.tracker.counts(), all_unknown);

    bench.tracker.link_up(moment(10 * SECOND), Mono(10 * SECOND));
    assert_eq!(bench.tracker.counts(), all_unknown, "sight is back, nobody has spoken");
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

    bench.tracker.link_down(moment(25 * SECOND + 1));
    assert_eq!(bench.tracker.counts(), all_unknown);
    assert_eq!(bench.tracker.next_deadline(), None);
    let view = bench.tracker.status_of("off").expect("tracked");
    assert_eq!(view.recorded, Some(Offline), "what is recorded does not change by blindness");
    assert_eq!(view.status_since, Some(wall(3)));
}

#[test]
fn t4_confirming_an_offline_machine_asks_for_a_proof() {
    let mut bench = Bench::new(options(), vec![known("off", Offline, 3, 2)]);
    bench.tracker.link_up(moment(10 * SECOND), Mono(10 * SECOND));
    assert_eq!(bench.tracker.next_deadline(), Some(Mono(25 * SECOND)));
    assert_eq!(bench.advance(25 * SECOND - 1), []);
    assert_eq!(bench.shown("off"), DisplayStatus::Unknown);
    assert_eq!(bench.advance(25 * SECOND), []);
    assert_eq!(bench.shown("off"), DisplayStatus::Offline);
    assert_eq!(bench.tracker.next_deadline(), None);
}

#[test]
fn t5_occurred_at_goes_back_with_the_wall_clock_and_two_changes_of_one_instant_are_told_apart() {
    let mut bench = Bench::seeing();
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

#[test]
fn t6_a_last_will_makes_an_online_machine_offline_at_once_and_only_that() {
    let mut bench = Bench::new(options(), vec![known("off", Offline, 3, 2)]);
    bench.tracker.link_up(moment(SECOND), Mono(SECOND));
    assert_eq!(bench.last_will("stranger", 2 * SECOND), None);
    assert!(bench.tracker.status_of("stranger").is_none());
    assert_eq!(bench.last_will("off", 2 * SECOND), None);
    assert_eq!(bench.shown("off"), DisplayStatus::Unknown, "a will of an offline machine proves nothing new");

    bench.message("m1", 3 * SECOND);
    let gone = bench.last_will("m1", 4 * SECOND).expect("gone");
    assert_eq!(brief(&gone), event("m1", Offline, Some(Online), LastWill, 4 * SECOND, Some(3 * SECOND)));
    assert_eq!(bench.shown("m1"), DisplayStatus::Offline);
    assert_eq!(bench.last_will("m1", 5 * SECOND), None);
    assert_eq!(bench.advance(19 * SECOND), [], "it is offline already");
    assert_eq!(bench.message("m1", 20 * SECOND).map(|t| t.reason), Some(Message));
    assert_eq!(briefs(&bench.advance(60 * SECOND)).len(), 1);
}

#[test]
fn t6_a_machine_back_after_its_will_keeps_one_deadline() {
    let mut bench = Bench::seeing();
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

#[test]
fn t7_an_expected_machine_is_reported_once_and_not_again_after_a_restart() {
    let mut bench = Bench::new(expecting(&["e1"]), vec![]);
    bench.tracker.link_up(moment(SECOND), Mono(SECOND));
    let never = bench.advance(16 * SECOND);
    assert_eq!(briefs(&never), [event("e1", Offline, None, NeverSeen, 16 * SECOND, None)]);
    assert_eq!(bench.advance(600 * SECOND), []);

    let row =
        KnownMachine { first_seen_at: None, last_seen_at: None, ..known("e1", Offline, 16 * SECOND, 0) };
    let mut restarted = Bench::new(expecting(&["e1"]), vec![row]);
    restarted.tracker.link_up(moment(700 * SECOND), Mono(700 * SECOND));
    assert_eq!(restarted.advance(900 * SECOND), []);
    let first = restarted.message("e1", 901 * SECOND).expect("it speaks at last");
    assert_eq!(
        brief(&first),
        event("e1", Online, Some(Offline), FirstSeen, 901 * SECOND, Some(901 * SECOND))
    );
}

#[test]
fn t7_an_expected_machine_that_speaks_in_time_is_simply_first_seen() {
    let mut bench = Bench::new(expecting(&["e1"]), vec![]);
    bench.tracker.link_up(moment(SECOND), Mono(SECOND));
    let first = bench.message("e1", 15 * SECOND).expect("it speaks");
    assert_eq!(brief(&first), event("e1", Online, None, FirstSeen, 15 * SECOND, Some(15 * SECOND)));
    assert_eq!(bench.advance(16 * SECOND), []);
}

#[test]
fn t8_records_count_once_and_in_order() {
    let mut bench = Bench::seeing();
    let message = bench.sighting("m1", wall(2 * SECOND), SightingKind::Message);
    let will = bench.sighting("m1", wall(3 * SECOND), SightingKind::LastWill);
    let again = bench.sighting("m1", wall(4 * SECOND), SightingKind::Message);
    let mut observe = |sighting: &Sighting| bench.tracker.observe(sighting, Some(Mono(5 * SECOND))).is_some();
    assert!(observe(&message) && observe(&will) && observe(&again));
    assert!(!observe(&message) && !observe(&will) && !observe(&again), "a replay adds nothing");
    let of_the_past = Sighting { seq: Seq(100), ..message };
    assert!(!observe(&of_the_past), "what the database knows is not looked at again");
}

#[test]
fn t8_sightings_taken_together_act_one_after_the_other() {
    let mut bench = Bench::seeing();
    let kinds =
        [SightingKind::LastWill, SightingKind::Message, SightingKind::LastWill, SightingKind::Message];
    let sightings = kinds.map(|kind| bench.sighting("m1", wall(2 * SECOND), kind));
    let mut out = Vec::new();
    bench.tracker.observe_all(&sightings, Some(Mono(2 * SECOND)), &mut out);
    bench.tracker.observe_all(&sightings, Some(Mono(2 * SECOND)), &mut out);
    let events: Vec<(TransitionReason, Seq)> = out.iter().map(|event| (event.reason, event.seq)).collect();
    assert_eq!(events, [(FirstSeen, Seq(102)), (LastWill, Seq(103)), (Message, Seq(104))]);
}

#[test]
fn t8_the_elements_of_one_record_all_count() {
    let mut bench = Bench::seeing();
    let first = bench.sighting("m1", wall(2 * SECOND), SightingKind::Message);
    let second = Sighting { machine_id: id("m2"), element: 1, ..first.clone() };
    let mut out = Vec::new();
    bench.tracker.observe_all(&[first.clone(), second.clone()], Some(Mono(2 * SECOND)), &mut out);
    assert_eq!(out.len(), 2);
    bench.tracker.looked_at(first.seq);
    let third = Sighting { machine_id: id("m3"), element: 2, ..first };
    assert_eq!(bench.tracker.observe(&third, Some(Mono(2 * SECOND))), None);
    assert_eq!(bench.tracker.observed_upto(), third.seq);
}

#[test]
fn t8_a_replayed_record_newer_than_what_is_known_is_a_sighting_as_any() {
    let mut bench = Bench::new(options(), vec![known("m1", Offline, 10, 5)]);
    let back =
        bench.replayed("m1", 10 * SECOND, SightingKind::Message).expect("it was back before the crash");
    assert_eq!(brief(&back), event("m1", Online, Some(Offline), Message, 10 * SECOND, Some(10 * SECOND)));
    let gone = bench.replayed("m1", 11 * SECOND, SightingKind::LastWill).expect("and gone again");
    assert_eq!(brief(&gone), event("m1", Offline, Some(Online), LastWill, 11 * SECOND, Some(10 * SECOND)));
    let first = bench.replayed("m2", 12 * SECOND, SightingKind::Message).expect("a new machine");
    assert_eq!(first.reason, FirstSeen);
    assert_eq!(bench.shown("m2"), DisplayStatus::Unknown);
    bench.tracker.link_up(moment(3600 * SECOND), Mono(3600 * SECOND));
    let silent = bench.advance(3615 * SECOND);
    assert_eq!(
        briefs(&silent),
        [event("m2", Offline, Some(Online), Silence, 3615 * SECOND, Some(12 * SECOND))]
    );
}

#[test]
fn t8_a_replayed_record_older_than_what_is_known_proves_nothing() {
    let rows = vec![known("off", Offline, 20 * SECOND, 5 * SECOND), known("on", Online, SECOND, 20 * SECOND)];
    let mut bench = Bench::new(options(), rows);
    assert_eq!(bench.replayed("off", 19 * SECOND, SightingKind::Message), None);
    assert_eq!(bench.replayed("on", 19 * SECOND, SightingKind::LastWill), None);
    assert_eq!(bench.replayed("on", 19 * SECOND, SightingKind::Message), None);
    assert_eq!(bench.tracker.status_of("on").and_then(|view| view.last_seen), Some(wall(20 * SECOND)));
    assert!(bench.replayed("on", 20 * SECOND, SightingKind::LastWill).is_some(), "as new as what is known");
}

#[test]
fn t8_a_live_message_counts_although_the_wall_clock_says_it_is_old() {
    let mut bench = Bench::new(options(), vec![known("off", Offline, 3600 * SECOND, 5 * SECOND)]);
    let back = bench.message("off", 10 * SECOND).expect("it speaks now");
    assert_eq!(brief(&back).4, 10_000_000);
}

#[test]
fn t9_above_machines_max_the_new_are_not_tracked_and_the_others_go_on() {
    let limited = TrackerOptions { machines_max: 2, ..expecting(&["e1"]) };
    let mut bench = Bench::new(limited, vec![known("m1", Online, 0, 0)]);
    bench.tracker.link_up(moment(SECOND), Mono(SECOND));
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
fn ids_of_any_length_and_script_are_told_apart() {
    let mut bench = Bench::seeing();
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

#[test]
fn twenty_thousand_machines_fall_silent_in_one_step_each_at_its_instant() {
    let mut bench = Bench::seeing();
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
fn next_deadline_is_exact_although_entries_are_lazy() {
    let mut bench = Bench::seeing();
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
fn deadlines_survive_a_blindness_longer_than_the_wheel() {
    let mut bench = Bench::seeing();
    for n in 0..100 {
        bench.message(&format!("m{n}"), 2 * SECOND + n);
    }
    bench.tracker.link_down(moment(3 * SECOND));
    bench.tracker.link_up(moment(1_000_000 * SECOND), Mono(1_000_000 * SECOND));
    assert_eq!(bench.advance(1_000_000 * SECOND), []);
    bench.message("m7", 1_000_001 * SECOND);
    assert_eq!(bench.advance(1_000_015 * SECOND).len(), 99);
    assert_eq!(bench.advance(1_000_016 * SECOND).len(), 1);
}

/// Filters by their places.
fn places(places: &[usize]) -> FilterSet {
    let filters = ["a", "b", "c"].map(|text| crate::domain::TopicFilter::parse(text).expect("valid"));
    FilterSet::of(&filters, |filter| places.iter().any(|place| filters[*place] == *filter))
}

/// "first" spoke through filter 0, "second" through filter 1, "both" through either; "known" only the database knows.
fn through_two_filters() -> Bench {
    let mut bench = Bench::new(options(), vec![known("known", Online, 0, 0)]);
    bench.tracker.link_up(moment(SECOND), Mono(SECOND));
    for (name, filters) in [("first", &[0][..]), ("second", &[1]), ("both", &[0, 1])] {
        bench.through = places(filters);
        bench.message(name, 2 * SECOND);
    }
    bench
}

impl Bench {
    fn refuse(&mut self, refused: FilterSet, at: u64) {
        self.tracker.refuse(refused, moment(at), Mono(at));
    }
}

fn shown(bench: &Bench, name: &str) -> DisplayStatus {
    bench.tracker.status_of(name).expect("it is tracked").status
}

fn silent(bench: &mut Bench, until: u64) -> Vec<(String, Timestamp)> {
    let mut out = Vec::new();
    bench.tracker.advance(Mono(until), &mut out);
    out.into_iter().map(|each| (each.machine_id.as_str().to_owned(), each.occurred_at)).collect()
}

#[test]
fn t11_a_refused_filter_blinds_those_who_come_through_it_and_nobody_else() {
    let mut bench = through_two_filters();
    bench.refuse(places(&[1]), 3 * SECOND);
    let all = ["first", "second", "both", "known"].map(|name| shown(&bench, name));
    let [first, second, both, known] = all;
    assert_eq!((first, second, both), (DisplayStatus::Online, DisplayStatus::Unknown, DisplayStatus::Online));
    assert_eq!(known, DisplayStatus::Unknown, "its filter is not known");
    assert_eq!(bench.tracker.counts(), StatusCounts { online: 2, unknown: 2, ..StatusCounts::default() });
    let gone = silent(&mut bench, 100 * SECOND);
    assert_eq!(
        gone,
        [("first", wall(17 * SECOND)), ("both", wall(17 * SECOND))].map(|(n, at)| (n.to_owned(), at))
    );
    assert_eq!(bench.tracker.next_deadline(), None, "there is nothing that a proof could change");
    // Its own message through a refused filter makes it no less blind; one through another filter does.
    bench.through = places(&[1]);
    bench.message("second", 101 * SECOND);
    assert_eq!(shown(&bench, "second"), DisplayStatus::Unknown);
    bench.through = places(&[0]);
    bench.message("second", 102 * SECOND);
    assert_eq!(shown(&bench, "second"), DisplayStatus::Online);
    assert_eq!(silent(&mut bench, 200 * SECOND), [("second".to_owned(), wall(117 * SECOND))]);
}

#[test]
fn t11_when_a_filter_is_granted_its_machines_get_their_time_and_nothing_changes_for_the_others() {
    let mut bench = through_two_filters();
    bench.refuse(places(&[1]), 3 * SECOND);
    bench.through = places(&[0]);
    bench.message("first", 50 * SECOND);
    bench.refuse(FilterSet::EMPTY, 60 * SECOND);
    assert_eq!(shown(&bench, "first"), DisplayStatus::Online);
    assert_eq!(shown(&bench, "second"), DisplayStatus::Unknown, "it has not spoken since");
    assert_eq!(silent(&mut bench, 66 * SECOND).len(), 2, "first and both, at their own time");
    let gone = silent(&mut bench, 200 * SECOND);
    let names: Vec<&str> = gone.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"second") && names.contains(&"known") && names.len() == 2, "{names:?}");
    assert!(gone.iter().all(|(_, at)| *at == wall(75 * SECOND)), "{gone:?}");
    assert_eq!(bench.tracker.counts(), StatusCounts { offline: 4, ..StatusCounts::default() });
}

#[test]
fn t11_a_new_link_begins_with_every_filter() {
    let mut bench = through_two_filters();
    bench.refuse(places(&[0, 1]), 3 * SECOND);
    assert_eq!(bench.tracker.counts(), StatusCounts { unknown: 4, ..StatusCounts::default() });
    bench.tracker.link_down(moment(4 * SECOND));
    bench.tracker.link_up(moment(10 * SECOND), Mono(10 * SECOND));
    bench.message("second", 11 * SECOND);
    assert_eq!(shown(&bench, "second"), DisplayStatus::Online);
    let gone = silent(&mut bench, 100 * SECOND);
    assert_eq!(gone.len(), 4);
    assert!(
        gone.iter().all(|(name, at)| *at == wall(if name == "second" { 26 } else { 25 } * SECOND)),
        "{gone:?}"
    );
}
