//! The power is cut at every point between an append, its sync and the answer: what the peer has as
//! answered is durable, and what it delivers again is bounded.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::super::connection::Bounds;
use super::super::kernel::Fd;
use super::library::{World, answers_in};

const FD: Fd = 30;
const BOUNDS: Bounds = Bounds { messages_max: 8, bytes_max: 4096, age_max: Duration::from_millis(20) };

/// Some messages of both kinds, in portions, with a slow peer and another thread that writes in between.
fn traffic(world: &Arc<World>) {
    world.connect(FD, 0);
    for portion in 0..5u32 {
        world.kernel().wire(FD, |wire| wire.room = 40);
        world.arrive(FD, (portion * 7..(portion + 1) * 7).map(|number| (number, number % 3 != 0)));
        let other = Arc::downgrade(world);
        world.journals[0].during_next_sync(Box::new(move || {
            other.upgrade().unwrap().write_from_elsewhere(FD, 5);
        }));
        world.run();
    }
    world.kernel().wire(FD, |wire| wire.room = usize::MAX);
    world.run();
}

/// Proves SOCK-2.
#[test]
fn whatever_the_peer_has_as_answered_survives_a_power_cut_at_any_point() {
    let whole = World::new(BOUNDS);
    traffic(&whole);
    let steps = whole.kernel().steps();
    assert!(steps > 100, "{steps}");
    assert_eq!(whole.handled(FD).len(), 35);
    let mut cut_at = BTreeSet::new();
    for step in 0..steps {
        let world = World::new(BOUNDS);
        world.kernel().cut_power_after(step);
        let cut = catch_unwind(AssertUnwindSafe(|| traffic(&world)));
        assert!(cut.is_err(), "step {step} of {steps} is reached");
        let (appended, durable) = (world.journals[0].appended(), world.journals[0].durable());
        let answered = world.kernel().wire(FD, |wire| answers_in(&wire.sent));
        let lost: Vec<&u32> = answered.iter().filter(|number| !durable.contains(number)).collect();
        assert!(lost.is_empty(), "answered and lost at step {step}: {lost:?}");
        let again = appended.iter().filter(|number| *number % 3 != 0 && !answered.contains(number)).count();
        // A group, and what the slow peer had not taken of the one before.
        assert!(again <= 2 * BOUNDS.messages_max as usize, "{again} are delivered again at step {step}");
        cut_at.insert((appended.len(), durable.len(), answered.len()));
    }
    assert!(cut_at.iter().any(|(appended, durable, _)| durable < appended), "between append and sync");
    assert!(
        cut_at.iter().any(|(_, durable, answered)| durable - durable / 3 > answered + 1),
        "between sync and answer"
    );
}
