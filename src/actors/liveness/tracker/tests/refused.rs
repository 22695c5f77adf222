//! Refused filters (TRK-11).

use super::*;

/// Returns the filters with these indexes.
fn filters(indexes: &[usize]) -> FilterSet {
    let all = ["a", "b", "c"].map(|text| crate::domain::TopicFilter::parse(text).expect("valid"));
    FilterSet::of(&all, |filter| indexes.iter().any(|index| all[*index] == *filter))
}

/// Returns a bench on which "first" sent through filter 0, "second" through filter 1 and "both" through
/// either; only the database knows "known".
fn through_two_filters() -> Bench {
    let mut bench = Bench::new(options(), vec![known("known", Online, 0, 0)]);
    bench.tracker.link_up(time_point(SECOND), Mono(SECOND));
    for (name, through) in [("first", &[0][..]), ("second", &[1]), ("both", &[0, 1])] {
        bench.through = filters(through);
        bench.message(name, 2 * SECOND);
    }
    bench
}

impl Bench {
    fn set_refused(&mut self, refused: FilterSet, at: u64) {
        self.tracker.set_refused(refused, time_point(at), Mono(at));
    }
}

fn silent(bench: &mut Bench, until: u64) -> Vec<(String, Timestamp)> {
    let mut out = Vec::new();
    bench.tracker.advance(Mono(until), &mut out);
    out.into_iter().map(|each| (each.machine_id.as_str().to_owned(), each.occurred_at)).collect()
}

/// Proves TRK-11.
#[test]
fn a_refused_filter_hides_only_the_machines_that_come_through_it() {
    let mut bench = through_two_filters();
    bench.set_refused(filters(&[1]), 3 * SECOND);
    let all = ["first", "second", "both", "known"].map(|name| bench.shown(name));
    let [first, second, both, known] = all;
    assert_eq!((first, second, both), (DisplayStatus::Online, DisplayStatus::Unknown, DisplayStatus::Online));
    assert_eq!(known, DisplayStatus::Unknown, "its filter is unknown");
    assert_eq!(bench.tracker.counts(), StatusCounts { online: 2, unknown: 2, ..StatusCounts::default() });
    let gone = silent(&mut bench, 100 * SECOND);
    assert_eq!(
        gone,
        [("first", wall(17 * SECOND)), ("both", wall(17 * SECOND))].map(|(n, at)| (n.to_owned(), at))
    );
    assert_eq!(bench.tracker.next_deadline(), None, "a proof would change nothing");
    // A message through a refused filter does not make it visible; one through another filter does.
    bench.through = filters(&[1]);
    bench.message("second", 101 * SECOND);
    assert_eq!(bench.shown("second"), DisplayStatus::Unknown);
    bench.through = filters(&[0]);
    bench.message("second", 102 * SECOND);
    assert_eq!(bench.shown("second"), DisplayStatus::Online);
    assert_eq!(silent(&mut bench, 200 * SECOND), [("second".to_owned(), wall(117 * SECOND))]);
}

/// Proves TRK-11.
#[test]
fn a_granted_filter_gives_its_machines_time_and_changes_nothing_for_the_others() {
    let mut bench = through_two_filters();
    bench.set_refused(filters(&[1]), 3 * SECOND);
    bench.through = filters(&[0]);
    bench.message("first", 50 * SECOND);
    bench.set_refused(FilterSet::EMPTY, 60 * SECOND);
    assert_eq!(bench.shown("first"), DisplayStatus::Online);
    assert_eq!(bench.shown("second"), DisplayStatus::Unknown, "it has sent nothing since");
    assert_eq!(silent(&mut bench, 66 * SECOND).len(), 2, "first and both, at their own deadlines");
    let gone = silent(&mut bench, 200 * SECOND);
    let names: Vec<&str> = gone.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"second") && names.contains(&"known") && names.len() == 2, "{names:?}");
    assert!(gone.iter().all(|(_, at)| *at == wall(75 * SECOND)), "{gone:?}");
    assert_eq!(bench.tracker.counts(), StatusCounts { offline: 4, ..StatusCounts::default() });
}

/// Proves TRK-11.
#[test]
fn a_new_link_begins_with_every_filter() {
    let mut bench = through_two_filters();
    bench.set_refused(filters(&[0, 1]), 3 * SECOND);
    assert_eq!(bench.tracker.counts(), StatusCounts { unknown: 4, ..StatusCounts::default() });
    bench.tracker.link_down(time_point(4 * SECOND));
    bench.tracker.link_up(time_point(10 * SECOND), Mono(10 * SECOND));
    bench.message("second", 11 * SECOND);
    assert_eq!(bench.shown("second"), DisplayStatus::Online);
    let gone = silent(&mut bench, 100 * SECOND);
    assert_eq!(gone.len(), 4);
    assert!(
        gone.iter().all(|(name, at)| *at == wall(if name == "second" { 26 } else { 25 } * SECOND)),
        "{gone:?}"
    );
}
