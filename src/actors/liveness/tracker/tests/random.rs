//! The tracker against the [`model`] under random operations: messages, last wills, a link that comes and
//! goes, time that passes, a wall clock that jumps, a parser that lags, a database that lags, crashes and
//! replays.

use proptest::prelude::*;

use super::super::*;
use super::model::{MACHINES, SECOND};
use super::world::{Operation, World};

fn operation() -> impl Strategy<Value = Operation> {
    let pass = prop::sample::select(vec![
        0,
        1,
        SECOND,
        3 * SECOND,
        5 * SECOND,
        15 * SECOND - 1,
        15 * SECOND,
        99 * SECOND,
    ]);
    let machine = 0..MACHINES.len();
    prop_oneof![
        8 => machine.clone().prop_map(|machine| Operation::Receive { machine, kind: SightingKind::Message }),
        2 => machine.prop_map(|machine| Operation::Receive { machine, kind: SightingKind::LastWill }),
        2 => (0..4_usize).prop_map(Operation::Observe),
        8 => pass.prop_map(Operation::Pass),
        1 => prop::sample::select(vec![-3600, -10, 10, 3600]).prop_map(|seconds| Operation::Jump(seconds * 1_000_000)),
        3 => (prop::sample::select(vec![0, SECOND, 20 * SECOND]), prop::sample::select(vec![0, 1, SECOND]))
            .prop_map(|(ago, heard)| Operation::LinkUp { ago, heard }),
        2 => Just(Operation::LinkDown),
        2 => (0..4_u8, prop::sample::select(vec![0, 1, SECOND]))
            .prop_map(|(filters, heard)| Operation::Refuse { filters, heard }),
        6 => prop::sample::select(vec![0, 0, 1, SECOND]).prop_map(|ago| Operation::Prove { ago }),
        3 => (0..6_usize, 0..3_usize).prop_map(|(records, deadlines)| Operation::Commit { records, deadlines }),
        1 => Just(Operation::Crash),
        1 => (0..20_usize).prop_map(Operation::Replay),
    ]
}

fn run(operations: &[Operation]) -> World {
    let mut world = World::new();
    for operation in operations {
        world.run(operation);
    }
    world.run(&Operation::Prove { ago: 0 });
    world.commit(usize::MAX / 2, usize::MAX);
    world.check_history();
    world
}

/// Proves TRK-3.
#[test]
fn counter_example_the_link_comes_up_before_a_deadline_that_has_passed() {
    run(&[
        Operation::LinkUp { ago: 0, heard: 0 },
        Operation::Pass(15 * SECOND),
        Operation::Prove { ago: 0 },
        Operation::LinkUp { ago: 20 * SECOND, heard: 0 },
        Operation::LinkUp { ago: SECOND, heard: 0 },
    ]);
}

/// Machine "b" was invisible until filter 0 was granted; then a record from before showed that it comes
/// through the other.
///
/// Proves TRK-11.
#[test]
fn counter_example_the_deadline_of_a_machine_with_an_unknown_filter_moved_to_an_earlier_instant() {
    let (b, e) = (1, 4);
    run(&[
        Operation::Receive { machine: b, kind: SightingKind::Message },
        Operation::Observe(1),
        Operation::Commit { records: 1, deadlines: 0 },
        Operation::Crash,
        Operation::LinkUp { ago: 0, heard: 0 },
        Operation::Receive { machine: e, kind: SightingKind::Message },
        Operation::Observe(1),
        Operation::Receive { machine: b, kind: SightingKind::Message },
        Operation::Pass(3 * SECOND),
        Operation::Refuse { filters: 1, heard: 0 },
        Operation::Refuse { filters: 0, heard: 0 },
        Operation::Observe(1),
        Operation::Pass(3 * SECOND),
        Operation::Prove { ago: 0 },
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Proves TRK-1, TRK-2, TRK-3, TRK-4, TRK-5, TRK-10, TRK-11.
    #[test]
    fn the_tracker_does_what_the_obvious_model_does(operations in prop::collection::vec(operation(), 1..120)) {
        run(&operations);
    }

    /// Holds if the wall clock is never set back and no two records of a machine come within one microsecond.
    ///
    /// Proves TRK-8.
    #[test]
    fn events_of_records_are_the_same_after_a_crash(operations in prop::collection::vec(operation(), 1..80)) {
        let only_records: Vec<Operation> = operations
            .into_iter()
            .filter(|operation| !matches!(operation, Operation::Jump(..0) | Operation::Prove { .. }))
            .flat_map(|operation| [operation, Operation::Pass(1)])
            .collect();
        let without_crashes: Vec<Operation> =
            only_records.iter().filter(|operation| !matches!(operation, Operation::Crash)).cloned().collect();
        let events = |operations: &[Operation]| {
            let mut world = World::new();
            for operation in operations {
                world.run(operation);
            }
            world.observe(usize::MAX);
            world.commit(usize::MAX / 2, usize::MAX);
            world.events
        };
        prop_assert_eq!(events(&only_records), events(&without_crashes));
    }
}
