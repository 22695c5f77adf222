//! The rules of the trusted time, case by case, and properties that hold whatever the clocks do.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::Mono;
use super::trusted::{BELIEVED_AFTER, FOLLOWED_MAX, News, Reading, Reason, TrustedClock, cutoff, start_max};
use crate::domain::{ClockRecord, Timestamp};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;
/// 2026-11-29T00:00:00Z
const T0: i64 = 1_795_910_400 * SECOND;
/// A tenth of 730 days.
const START_MAX: Duration = Duration::from_secs(73 * 86_400);

/// A machine with its clocks, and the service on it.
#[derive(Clone)]
struct Machine {
    /// Since the machine was made.
    true_time: i64,
    boot: u64,
    wall_error: i64,
    synchronised: bool,
    clock: TrustedClock,
    news: Vec<News>,
}

impl Machine {
    /// Runs well since T0.
    fn new() -> Self {
        let reading = Reading { wall: at(0), boot: Mono(7 * 1_000_000), synchronised: false };
        let (clock, news) = TrustedClock::start(None, reading, START_MAX);
        assert_eq!(news, None);
        Self {
            true_time: 0,
            boot: reading.boot.0,
            wall_error: 0,
            synchronised: false,
            clock,
            news: Vec::new(),
        }
    }

    fn reading(&self) -> Reading {
        let wall = Timestamp::from_micros(T0 + self.true_time + self.wall_error);
        Reading { wall, boot: Mono(self.boot), synchronised: self.synchronised }
    }

    fn run(&mut self, micros: i64) {
        self.true_time += micros;
        self.boot += micros.unsigned_abs();
        self.look();
    }

    /// In steps of an hour.
    fn run_long(&mut self, micros: i64) {
        (0..micros / HOUR).for_each(|_| self.run(HOUR));
    }

    fn look(&mut self) {
        let news = self.clock.tick(self.reading());
        self.news.extend(news);
    }

    /// Off for that long; the monotonic clock begins anew.
    fn restart(&mut self, off: i64) {
        let record = self.clock.next_record();
        self.true_time += off;
        self.boot = 1_000;
        let (clock, news) = TrustedClock::start(record, self.reading(), START_MAX);
        self.clock = clock;
        self.news.extend(news);
    }

    /// Trusted time minus the true one.
    fn error(&self) -> i64 {
        self.clock.now(Mono(self.boot)).as_micros() - T0 - self.true_time
    }

    fn told(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(T0 + micros)
}

/// Proves CLK-1.
#[test]
fn small_steps_are_followed_and_not_reported() {
    let mut machine = Machine::new();
    for step in [HOUR, -HOUR, 59 * SECOND, -2 * SECOND] {
        machine.wall_error += step;
        machine.run(SECOND);
        assert_eq!(machine.error(), machine.wall_error);
    }
    assert_eq!((machine.told(), machine.clock.step()), (vec![], None));
}

/// Proves CLK-2.
#[test]
fn a_step_of_years_waits_and_each_change_is_reported_once() {
    for step in [3 * YEAR, -YEAR, HOUR + SECOND + 1] {
        let mut machine = Machine::new();
        machine.wall_error = step;
        machine.run(SECOND);
        machine.run_long(6 * DAY);
        assert_eq!(machine.told(), [News::StepWaits(step)]);
        assert_eq!((machine.error(), machine.clock.step()), (0, Some(step)));
        // Another step, then the right time.
        machine.wall_error = step + 2 * HOUR;
        machine.run(SECOND);
        assert_eq!(machine.told(), [News::StepWaits(step + 2 * HOUR)]);
        machine.wall_error = 0;
        machine.run(SECOND);
        assert_eq!(machine.told(), [News::Followed(0, Reason::Agrees)]);
        assert_eq!((machine.error(), machine.clock.step()), (0, None));
    }
}

/// Proves CLK-2.
#[test]
fn a_synchronised_clock_is_followed_ahead_and_back() {
    for step in [3 * YEAR, -YEAR] {
        let mut machine = Machine::new();
        machine.wall_error = step;
        machine.run(SECOND);
        machine.synchronised = true;
        machine.run(SECOND);
        let expected = [News::StepWaits(step), News::Followed(step, Reason::Synchronised)];
        assert_eq!((machine.told(), machine.error()), (expected.to_vec(), step));
    }
}

/// Proves CLK-2, CLK-3.
#[test]
fn a_step_that_held_for_seven_days_of_running_is_believed_and_time_switched_off_does_not_count() {
    let mut machine = Machine::new();
    machine.wall_error = 3 * YEAR;
    machine.run(SECOND);
    for day in 0..12 {
        machine.run_long(13 * HOUR);
        assert_eq!(machine.clock.step(), Some(3 * YEAR), "day {day}");
        machine.restart(11 * HOUR);
        assert_eq!((machine.clock.step(), machine.error()), (Some(3 * YEAR), 0), "day {day}");
    }
    // 156 of 168 hours.
    machine.run_long(11 * HOUR);
    assert!(machine.told().iter().all(|news| *news == News::StepWaits(3 * YEAR)));
    machine.run(HOUR);
    assert_eq!((machine.told(), machine.error()), (vec![News::Followed(3 * YEAR, Reason::Held)], 3 * YEAR));
}

/// Proves CLK-3.
#[test]
fn a_start_believes_a_tenth_of_the_shortest_retention_and_at_least_an_hour() {
    let day = Duration::from_secs(86_400);
    assert_eq!(start_max(Some(day * 730)), START_MAX);
    assert_eq!(start_max(Some(Duration::from_secs(60))), FOLLOWED_MAX);
    assert_eq!(start_max(None), day * 9);
    for (off, believed) in [(14 * HOUR, true), (73 * DAY, true), (73 * DAY + SECOND, false)] {
        let mut machine = Machine::new();
        machine.restart(off);
        assert_eq!(machine.clock.step(), (!believed).then_some(off), "{off}");
        assert_eq!(machine.error(), if believed { 0 } else { -off });
    }
    let mut machine = Machine::new();
    machine.wall_error = -70 * DAY;
    machine.restart(HOUR);
    assert_eq!(machine.error(), -70 * DAY, "back, too");
}

/// Proves CLK-4.
#[test]
fn a_clock_that_was_never_set_is_never_followed_even_if_synchronised() {
    for synchronised in [false, true] {
        let mut machine = Machine::new();
        machine.restart(HOUR);
        machine.wall_error = -T0 - machine.true_time;
        machine.synchronised = synchronised;
        machine.restart(10 * HOUR);
        machine.run_long(9 * DAY);
        assert_eq!(machine.told(), [News::Unset]);
        assert_eq!(machine.error(), -10 * HOUR, "it goes on from the record");
        assert!(machine.clock.is_unset() && machine.clock.step().is_none());
        // The time server is there again.
        (machine.wall_error, machine.synchronised) = (0, true);
        machine.run(SECOND);
        assert_eq!(machine.told(), [News::Followed(10 * HOUR, Reason::Synchronised)]);
        assert_eq!((machine.error(), machine.clock.is_unset()), (0, false));
    }
}

/// Proves CLK-4, CLK-5, CLK-6.
#[test]
fn without_a_record_the_first_clock_that_is_set_is_believed() {
    let unset = Reading { wall: Timestamp::from_micros(5), boot: Mono(0), synchronised: false };
    let (mut clock, news) = TrustedClock::start(None, unset, START_MAX);
    assert_eq!((news, clock.record()), (Some(News::Unset), None), "nothing worth keeping");
    assert_eq!(clock.now(Mono(3)), Timestamp::CLOCK_SET_SINCE.plus(Duration::from_micros(3)));
    let set = Reading { wall: at(0), boot: Mono(1_000), ..unset };
    assert_eq!(clock.tick(set).map(|news| matches!(news, News::Followed(_, Reason::Agrees))), Some(true));
    assert_eq!(clock.next_record().unwrap().trusted_at, at(0));
    // The trace of an older version bounds it from below only.
    let trace =
        |micros| Some(ClockRecord { seq: 0, trusted_at: at(micros), wall_at: at(micros), step_held: None });
    let start = |trace, wall| {
        let reading = Reading { wall, boot: Mono(0), synchronised: false };
        TrustedClock::start(trace, reading, START_MAX).0
    };
    assert_eq!(start(trace(-DAY), at(3 * YEAR)).step(), Some(3 * YEAR + DAY));
    assert_eq!(start(trace(3 * YEAR), at(0)).now(Mono(0)), at(0));
    assert_eq!(start(trace(-DAY), Timestamp::from_micros(5)).now(Mono(0)), at(-DAY));
}

#[test]
fn the_cutoff_is_one_retention_before_the_trusted_time() {
    assert_eq!(cutoff(at(DAY), Duration::from_secs(86_400)), at(0));
    assert_eq!(cutoff(at(0), Duration::MAX).as_micros(), T0 - i64::MAX);
}

#[derive(Debug, Clone)]
enum Event {
    Run(i64),
    Step(i64),
    Synchronised(bool),
    Restart(i64),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1..30 * HOUR).prop_map(Event::Run),
        2 => prop_oneof![-HOUR..HOUR, -4 * YEAR..4 * YEAR, Just(3 * YEAR), Just(-60 * YEAR)].prop_map(Event::Step),
        1 => any::<bool>().prop_map(Event::Synchronised),
        1 => prop_oneof![0..HOUR, 0..200 * DAY].prop_map(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 512, failure_persistence: None, ..Config::default() })]

    /// Whatever the clocks do, the trusted time deviates by more than an hour from the monotonic clock only for a reason of
    /// CLK-2 or CLK-3, and a correct wall clock is always trusted.
    ///
    /// Proves CLK-1, CLK-2, CLK-3.
    #[test]
    fn the_trusted_time_leaves_the_monotonic_one_only_for_its_reasons(events in prop::collection::vec(any_event(), 1..60)) {
        let mut machine = Machine::new();
        // Running since the present step began.
        let mut held = Duration::ZERO;
        let mut has_erred = false;
        for event in events {
            let before = machine.clone();
            let mut allowed = FOLLOWED_MAX.as_micros() as i64;
            match event {
                Event::Run(micros) => {
                    machine.run(micros);
                    held += Duration::from_micros(micros.unsigned_abs());
                }
                Event::Step(by) => {
                    machine.wall_error += by;
                    has_erred |= machine.wall_error != 0;
                    machine.look();
                }
                Event::Synchronised(is) => {
                    machine.synchronised = is;
                    machine.look();
                }
                Event::Restart(off) => {
                    machine.restart(off);
                    // The monotonic clock does not know how long it was off.
                    allowed = START_MAX.as_micros() as i64 + off;
                }
            }
            let moved = machine.error() - before.error();
            let is_set = machine.reading().wall >= Timestamp::CLOCK_SET_SINCE;
            let vouched = is_set && (machine.synchronised || held >= BELIEVED_AFTER);
            prop_assert!(moved.abs() <= allowed || vouched, "moved by {} s", moved / SECOND);
            let is_same_step = match (before.clock.step(), machine.clock.step()) {
                (Some(before), Some(after)) => (after - before).abs() <= FOLLOWED_MAX.as_micros() as i64,
                (before, after) => before.is_none() && after.is_none(),
            };
            if moved.abs() > allowed || !is_same_step {
                held = Duration::ZERO;
            }
            if !has_erred && machine.clock.step().is_none() {
                prop_assert_eq!(machine.error(), 0);
            }
            if let Some(step) = machine.clock.step() {
                prop_assert!(step.abs() > FOLLOWED_MAX.as_micros() as i64 && !machine.synchronised);
            } else if is_set {
                prop_assert_eq!(machine.error(), machine.wall_error, "believed");
            }
        }
    }

    /// Nothing is deleted early while the wall clock is ahead and unconfirmed, however often the service restarts within a
    /// week.
    ///
    /// Proves CLK-2, CLK-3.
    #[test]
    fn an_unconfirmed_clock_ahead_moves_no_cutoff(
        step in START_MAX.as_micros() as i64 + HOUR..4 * YEAR,
        runs in prop::collection::vec((1..8 * HOUR, any::<bool>()), 1..20),
    ) {
        let mut machine = Machine::new();
        machine.wall_error = step;
        for (micros, restarts) in runs {
            if restarts {
                machine.restart(0);
            }
            machine.run(micros);
            prop_assert_eq!(machine.error(), 0);
        }
    }
}
