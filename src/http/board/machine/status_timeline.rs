//! The status of a machine over time, from its recorded changes and from our own outages.
//!
//! Two layers: a recorded status lasts until the next change; an outage overrides it, because nothing is known of the
//! time in which Andon could not see.

use crate::domain::{DisplayStatus, LinkOutage, Span as Period, Timestamp, merged};
use crate::http::board::charts::Span;

/// A recorded change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// True if to online, false if to offline.
    pub online: bool,
    /// The status before; `None` if the machine was not known.
    pub was_online: Option<bool>,
}

/// Returns the recorded status between `from` and `to`, without spans where nothing was recorded.
///
/// `changes` are those in the range, in the order in which they happened: after the clock was set back, the later change
/// wins. `now` is the current status and its start. It fills a range without changes, unless it is unknown.
pub fn timeline(
    changes: &[Change],
    from: Timestamp,
    to: Timestamp,
    now: Option<(DisplayStatus, Timestamp)>,
) -> Vec<Span> {
    let mut spans = Vec::with_capacity(changes.len() + 1);
    let mut known = match (changes.first(), now) {
        (Some(first), _) => first.was_online.map(|online| (from, recorded(online))),
        (None, Some((status, since))) if status != DisplayStatus::Unknown => Some((since.max(from), status)),
        (None, _) => None,
    };
    for (change, at) in changes.iter().zip(times(changes, to)) {
        close(&mut spans, known, at);
        known = Some((at, recorded(change.online)));
    }
    close(&mut spans, known, to);
    spans
}

/// Returns the time of each change, limited by the next change and `to`.
fn times(changes: &[Change], to: Timestamp) -> Vec<Timestamp> {
    let mut next = to;
    let mut times: Vec<_> = changes
        .iter()
        .rev()
        .map(|change| {
            next = next.min(change.at);
            next
        })
        .collect();
    times.reverse();
    times
}

/// Returns the status for a recorded `online`.
pub fn recorded(online: bool) -> DisplayStatus {
    if online { DisplayStatus::Online } else { DisplayStatus::Offline }
}

fn close(spans: &mut Vec<Span>, open: Option<(Timestamp, DisplayStatus)>, to: Timestamp) {
    if let Some((from, status)) = open
        && from < to
    {
        spans.push(Span { from, to, status });
    }
}

/// Returns the periods up to `to` of which nothing is known: our outages, and the current one of this machine if it has
/// sent nothing since the link came back. For a machine that is unknown now, `unknown_now` is when its status was last
/// certain: its newest message or change.
pub fn unseen(outages: &[LinkOutage], to: Timestamp, unknown_now: Option<Timestamp>) -> Vec<Period> {
    let mut periods: Vec<_> = outages
        .iter()
        .map(|outage| Period { from: outage.began_at, to: outage.ended_at.unwrap_or(to).min(to) })
        .collect();
    if let Some(known_until) = unknown_now {
        let link_back = outages.last().and_then(|outage| outage.ended_at);
        let from = link_back.map_or(known_until, |back| back.max(known_until));
        // An open outage already says exactly since when.
        if outages.last().is_none_or(|outage| outage.ended_at.is_some()) {
            periods.push(Period { from, to });
        }
    }
    merged(periods)
}

/// Overrides the recorded status with `unknown` in the periods of `unseen`, which are in order and do not overlap.
pub fn overlaid(spans: Vec<Span>, unseen: &[Period]) -> Vec<Span> {
    let mut result: Vec<Span> = Vec::with_capacity(spans.len() + 2 * unseen.len());
    for span in spans {
        let mut at = span.from;
        let first = unseen.partition_point(|each| each.to <= span.from);
        for blind in unseen[first..].iter().take_while(|blind| blind.from < span.to) {
            let (from, to) = (blind.from.max(span.from), blind.to.min(span.to));
            close(&mut result, Some((at, span.status)), from);
            // One outage is one span, whatever was recorded during it.
            match result.last_mut().filter(|last| last.status == DisplayStatus::Unknown && last.to == from) {
                Some(last) => last.to = to,
                None => result.push(Span { from, to, status: DisplayStatus::Unknown }),
            }
            at = to;
        }
        close(&mut result, Some((at, span.status)), span.to);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::OutageReason;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn words(spans: &[Span]) -> Vec<(i64, i64, &'static str)> {
        spans.iter().map(|span| (span.from.as_micros(), span.to.as_micros(), span.status.as_str())).collect()
    }

    fn outages(periods: &[(i64, Option<i64>)]) -> Vec<LinkOutage> {
        let outage = |&(began, ended): &(i64, Option<i64>)| LinkOutage {
            began_at: at(began),
            ended_at: ended.map(at),
            reason: OutageReason::LinkDown,
        };
        periods.iter().map(outage).collect()
    }

    fn periods(unseen: &[Period]) -> Vec<(i64, i64)> {
        unseen.iter().map(|each| (each.from.as_micros(), each.to.as_micros())).collect()
    }

    #[test]
    fn the_first_change_names_the_status_before_it() {
        let changes = [
            Change { at: at(20), online: false, was_online: Some(true) },
            Change { at: at(30), online: true, was_online: Some(false) },
        ];
        let spans = timeline(&changes, at(10), at(50), Some((DisplayStatus::Online, at(30))));
        assert_eq!(words(&spans), [(10, 20, "online"), (20, 30, "offline"), (30, 50, "online")]);
    }

    #[test]
    fn after_the_clock_was_set_back_the_later_change_wins() {
        let change = |when, online| Change { at: at(when), online, was_online: Some(!online) };
        // The clock was ahead between the real times 30 and 40.
        let changes =
            [change(20, false), change(130, true), change(135, false), change(40, true), change(45, false)];
        let spans = timeline(&changes, at(10), at(50), None);
        assert_eq!(
            words(&spans),
            [(10, 20, "online"), (20, 40, "offline"), (40, 45, "online"), (45, 50, "offline")]
        );
        let ahead = timeline(&changes[..2], at(10), at(50), Some((DisplayStatus::Online, at(130))));
        assert_eq!(words(&ahead), [(10, 20, "online"), (20, 50, "offline")]);
    }

    #[test]
    fn before_a_machine_was_known_there_is_nothing() {
        let changes = [Change { at: at(20), online: true, was_online: None }];
        let spans = timeline(&changes, at(10), at(50), None);
        assert_eq!(words(&spans), [(20, 50, "online")]);
        let unseen = unseen(&outages(&[(5, Some(15)), (18, Some(22))]), at(50), None);
        assert_eq!(words(&overlaid(spans, &unseen)), [(20, 22, "unknown"), (22, 50, "online")]);
    }

    #[test]
    fn without_changes_the_current_status_fills_the_range() {
        let now = |since| Some((DisplayStatus::Offline, at(since)));
        assert_eq!(words(&timeline(&[], at(10), at(50), now(5))), [(10, 50, "offline")]);
        assert_eq!(words(&timeline(&[], at(10), at(50), now(40))), [(40, 50, "offline")]);
        assert_eq!(words(&timeline(&[], at(10), at(50), None)), []);
        assert_eq!(words(&timeline(&[], at(10), at(50), Some((DisplayStatus::Unknown, at(5))))), []);
    }

    #[test]
    fn an_outage_is_unknown_for_exactly_its_length() {
        let span = |from, to, status| Span { from: at(from), to: at(to), status };
        let recorded = vec![span(10, 30, DisplayStatus::Online), span(30, 50, DisplayStatus::Offline)];
        for (outages_then, expected) in [
            (vec![], vec![(10, 30, "online"), (30, 50, "offline")]),
            (
                vec![(12, Some(14))],
                vec![(10, 12, "online"), (12, 14, "unknown"), (14, 30, "online"), (30, 50, "offline")],
            ),
            (vec![(28, Some(33))], vec![(10, 28, "online"), (28, 33, "unknown"), (33, 50, "offline")]),
            (vec![(1, Some(30))], vec![(10, 30, "unknown"), (30, 50, "offline")]),
            (vec![(45, None)], vec![(10, 30, "online"), (30, 45, "offline"), (45, 50, "unknown")]),
            (vec![(1, None)], vec![(10, 50, "unknown")]),
            (
                vec![(11, Some(12)), (12, Some(13)), (60, None)],
                vec![(10, 11, "online"), (11, 13, "unknown"), (13, 30, "online"), (30, 50, "offline")],
            ),
        ] {
            let unseen = unseen(&outages(&outages_then), at(50), None);
            assert_eq!(words(&overlaid(recorded.clone(), &unseen)), expected, "{outages_then:?}");
        }
    }

    #[test]
    fn a_machine_that_is_unknown_now_has_been_so_since_its_status_was_last_certain() {
        let cases = [
            // The outage continues.
            (vec![(20, None)], 5, vec![(20, 50)]),
            // It is over, and the machine has sent nothing since.
            (vec![(20, Some(30))], 5, vec![(20, 50)]),
            // The machine has sent since, and became unknown for another reason.
            (vec![(20, Some(30))], 40, vec![(20, 30), (40, 50)]),
            (vec![], 40, vec![(40, 50)]),
        ];
        for (outages_then, known_until, expected) in cases {
            let found = unseen(&outages(&outages_then), at(50), Some(at(known_until)));
            assert_eq!(periods(&found), expected, "{outages_then:?}, known until {known_until}");
        }
    }
}
