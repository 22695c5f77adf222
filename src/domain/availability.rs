//! Computes how long a machine was up within a window, as far as Andon could see it.
//!
//! Time in which Andon was blind counts neither as up nor as down. Time before the machine's first message does not count.

use std::time::Duration;

use super::{MachineStatus, Timestamp};

/// A span of time; `to` is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Start, inclusive.
    pub from: Timestamp,
    /// End, exclusive; not before `from`.
    pub to: Timestamp,
}

/// A change of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusChange {
    /// When it happened.
    pub at: Timestamp,
    /// The status from then on.
    pub status: MachineStatus,
    /// The status before; `None` if the machine was not known.
    pub previous_status: Option<MachineStatus>,
}

/// How available one machine was within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Availability {
    /// Time seen online.
    pub up: Duration,
    /// Time seen offline.
    pub down: Duration,
    /// Time in which the machine was known and Andon was blind.
    pub unknown: Duration,
    /// Number of outages seen.
    pub outages: usize,
    /// The longest outage, without the time in which Andon was blind.
    pub longest_outage: Duration,
    /// True if the machine is offline at the end of the window.
    pub in_outage: bool,
}

impl Availability {
    /// Returns the share of the seen time in which it was up, from 0 to 1; `None` if it was never seen.
    #[must_use]
    pub fn uptime(&self) -> Option<f64> {
        let seen = (self.up + self.down).as_secs_f64();
        (seen > 0.0).then(|| self.up.as_secs_f64() / seen)
    }
}

/// Computes the availability of one machine within `window`. `changes` are those in the window, in the order in which they
/// happened. `present` is the current status and since when. `blind` are the spans in which Andon was blind, in order and
/// not overlapping (see [`merged`]).
#[must_use]
pub fn availability(
    window: Span,
    changes: &[StatusChange],
    present: (MachineStatus, Timestamp),
    blind: &[Span],
) -> Availability {
    let mut result = Availability::default();
    let mut offline_for: Option<Duration> = None;
    for (status, span) in segments(window, changes, present) {
        let length = span.to.since(span.from);
        let unseen = blind_within(blind, span);
        let seen = length.saturating_sub(unseen);
        result.unknown += unseen;
        match status {
            MachineStatus::Online => {
                result.up += seen;
                result.end_outage(offline_for.take());
            }
            MachineStatus::Offline => {
                result.down += seen;
                offline_for = Some(offline_for.unwrap_or_default() + seen);
            }
        }
    }
    result.in_outage = offline_for.is_some();
    result.end_outage(offline_for);
    result
}

impl Availability {
    fn end_outage(&mut self, offline_for: Option<Duration>) {
        if let Some(length) = offline_for.filter(|length| !length.is_zero()) {
            self.outages += 1;
            self.longest_outage = self.longest_outage.max(length);
        }
    }
}

/// Returns the status of each part of the window, from when the machine was known.
fn segments(
    window: Span,
    changes: &[StatusChange],
    (present, since): (MachineStatus, Timestamp),
) -> Vec<(MachineStatus, Span)> {
    let mut inside: Vec<_> = no_later_than_the_next(changes, window.to)
        .filter(|change| change.at >= window.from && change.at < window.to)
        .collect();
    inside.reverse();
    let Some(first) = inside.first() else {
        // No event, or a lost one: the current status, for as long as it is known to hold.
        let from = window.from.max(since);
        return if from < window.to { vec![(present, Span { from, ..window })] } else { Vec::new() };
    };
    let mut segments = Vec::new();
    if let Some(status) = first.previous_status {
        segments.push((status, Span { from: window.from, to: first.at }));
    }
    let ends = inside[1..].iter().map(|change| change.at).chain([window.to]);
    segments
        .extend(inside.iter().zip(ends).map(|(change, to)| (change.status, Span { from: change.at, to })));
    segments
}

/// Returns the changes, newest first. Where the clock was set back, the later records win.
fn no_later_than_the_next(changes: &[StatusChange], to: Timestamp) -> impl Iterator<Item = StatusChange> {
    let mut next = to;
    changes.iter().rev().map(move |change| {
        next = next.min(change.at);
        StatusChange { at: next, ..*change }
    })
}

fn blind_within(blind: &[Span], span: Span) -> Duration {
    let first = blind.partition_point(|each| each.to <= span.from);
    let overlapping = blind[first..].iter().take_while(|each| each.from < span.to);
    overlapping.map(|each| each.to.min(span.to).since(each.from.max(span.from))).sum()
}

/// Merges overlapping and touching spans, drops empty ones, and returns them in order of time.
#[must_use]
pub fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|span| span.from < span.to);
    spans.sort_unstable_by_key(|span| (span.from, span.to));
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut().filter(|last| span.from <= last.to) {
            Some(last) => last.to = last.to.max(span.to),
            None => merged.push(span),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    use MachineStatus::{Offline, Online};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn span(from: i64, to: i64) -> Span {
        Span { from: at(from), to: at(to) }
    }

    fn change(second: i64, previous_status: Option<MachineStatus>, status: MachineStatus) -> StatusChange {
        StatusChange { at: at(second), status, previous_status }
    }

    struct Case {
        name: &'static str,
        changes: Vec<StatusChange>,
        present: (MachineStatus, Timestamp),
        blind: Vec<Span>,
        /// Seconds up, down, unknown; outages, seconds of the longest; offline at the end.
        expected: (u64, u64, u64, usize, u64, bool),
    }

    #[test]
    fn where_the_clock_was_set_back_what_was_recorded_after_that_counts() {
        let (down, up) =
            (|second| change(second, Some(Online), Offline), |second| change(second, Some(Offline), Online));
        // The clock is ahead from the second to the third change.
        let changes = [down(120), up(190), down(195), up(140)];
        let found = availability(span(100, 200), &changes, (Online, at(140)), &[]);
        let seconds = |duration: Duration| duration.as_secs();
        assert_eq!((seconds(found.up), seconds(found.down), found.outages), (80, 20, 1));
        let ahead = availability(span(100, 200), &[down(120), up(900)], (Online, at(900)), &[]);
        assert_eq!((seconds(ahead.up), seconds(ahead.down)), (20, 80));
    }

    fn cases() -> Vec<Case> {
        let (down, up) =
            (|second| change(second, Some(Online), Offline), |second| change(second, Some(Offline), Online));
        let case = |name, changes, present, blind, expected| Case { name, changes, present, blind, expected };
        let since = |second| at(second);
        vec![
            case(
                "no event in it, online before",
                vec![],
                (Online, since(50)),
                vec![],
                (100, 0, 0, 0, 0, false),
            ),
            case(
                "no event in it, offline before",
                vec![],
                (Offline, since(50)),
                vec![],
                (0, 100, 0, 1, 100, true),
            ),
            case(
                "one outage",
                vec![down(120), up(150)],
                (Online, since(150)),
                vec![],
                (70, 30, 0, 1, 30, false),
            ),
            case("it began before", vec![up(130)], (Online, since(130)), vec![], (70, 30, 0, 1, 30, false)),
            case(
                "it is still open",
                vec![down(190)],
                (Offline, since(190)),
                vec![],
                (90, 10, 0, 1, 10, true),
            ),
            case(
                "two outages",
                vec![down(110), up(120), down(150), up(190)],
                (Online, since(190)),
                vec![],
                (50, 50, 0, 2, 40, false),
            ),
            case(
                "first seen inside",
                vec![change(160, None, Online)],
                (Online, since(160)),
                vec![],
                (40, 0, 0, 0, 0, false),
            ),
            case(
                "expected, never seen",
                vec![change(160, None, Offline)],
                (Offline, since(160)),
                vec![],
                (0, 40, 0, 1, 40, true),
            ),
            case(
                "events outside count only by what they say",
                vec![down(50), up(60), down(170), up(250)],
                (Online, since(250)),
                vec![],
                (70, 30, 0, 1, 30, true),
            ),
            case(
                "blind in an outage: one outage, shorter",
                vec![down(120), up(160)],
                (Online, since(160)),
                vec![span(130, 140)],
                (60, 30, 10, 1, 30, false),
            ),
            case(
                "blind across its end",
                vec![down(120), up(160)],
                (Online, since(160)),
                vec![span(150, 180)],
                (40, 30, 30, 1, 30, false),
            ),
            case(
                "an outage we saw nothing of",
                vec![down(120), up(160)],
                (Online, since(160)),
                vec![span(110, 165)],
                (45, 0, 55, 0, 0, false),
            ),
            case(
                "blind at both ends",
                vec![],
                (Online, since(0)),
                vec![span(0, 110), span(190, 900)],
                (80, 0, 20, 0, 0, false),
            ),
            case(
                "blind all the time",
                vec![],
                (Offline, since(0)),
                vec![span(0, 900)],
                (0, 0, 100, 0, 0, true),
            ),
            case(
                "blind before it was first seen",
                vec![change(160, None, Online)],
                (Online, since(160)),
                vec![span(100, 150)],
                (40, 0, 0, 0, 0, false),
            ),
            case("its events are lost", vec![], (Online, since(180)), vec![], (20, 0, 0, 0, 0, false)),
            case("it came after the window", vec![], (Online, since(300)), vec![], (0, 0, 0, 0, 0, false)),
        ]
    }

    #[test]
    fn time_is_up_down_or_unknown_and_each_outage_counts_once() {
        for case in cases() {
            let found = availability(span(100, 200), &case.changes, case.present, &case.blind);
            let seconds = |duration: Duration| duration.as_secs();
            let brief = (
                seconds(found.up),
                seconds(found.down),
                seconds(found.unknown),
                found.outages,
                seconds(found.longest_outage),
                found.in_outage,
            );
            assert_eq!(brief, case.expected, "{}", case.name);
        }
    }

    #[test]
    fn the_share_is_of_the_time_that_was_seen() {
        let found = availability(span(100, 200), &[], (Online, at(0)), &[span(100, 150)]);
        assert_eq!(found.uptime(), Some(1.0));
        assert_eq!(Availability::default().uptime(), None);
        let half = Availability {
            up: Duration::from_secs(5),
            down: Duration::from_secs(15),
            ..Availability::default()
        };
        assert_eq!(half.uptime(), Some(0.25));
    }

    #[test]
    fn spans_that_touch_are_merged() {
        let spans = vec![span(50, 60), span(5, 5), span(1, 4), span(3, 10), span(10, 12), span(2, 3)];
        assert_eq!(merged(spans), [span(1, 12), span(50, 60)]);
    }
}
