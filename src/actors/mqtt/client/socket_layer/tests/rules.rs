//! The layer's rules, one by one.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use libc::{POLLIN, POLLOUT, pollfd};

use super::super::barrier::Barriers;
use super::super::connection::Bounds;
use super::super::kernel::{Errno, Fd, Kernel, Kind};
use super::super::layer::{Layer, Thread};
use super::super::{Barrier, Calls};
use super::library::{World, answers_in};
use super::memory::{INTERRUPT, Memory};

const ONE: Fd = 10;
const OTHER: Fd = 11;

fn connected() -> Arc<World> {
    let world = World::new(Bounds::DEFAULT);
    world.connect(ONE, 0);
    // Adopts it.
    world.step();
    world
}

/// The first message has proven the way.
fn proven() -> Arc<World> {
    let world = connected();
    world.arrive(ONE, [(0, true)]);
    world.run();
    assert_eq!(answers(&world, ONE), [0]);
    world
}

fn answers(world: &World, fd: Fd) -> Vec<u32> {
    answers_in(&world.kernel().wire(fd, |wire| wire.sent.clone()))
}

fn answered(numbers: std::ops::Range<u32>) -> impl Iterator<Item = (u32, bool)> {
    numbers.map(|number| (number, true))
}

fn total(calls: Calls) -> u64 {
    calls.by_name().iter().map(|(_, count)| count).sum()
}

#[test]
fn a_group_is_read_at_once_synced_once_and_answered_at_once() {
    let world = proven();
    let (before, syncs) = (world.kernel().calls(), world.journals[0].syncs());
    world.arrive(ONE, answered(1..500));
    world.run();
    let after = world.kernel().calls();
    assert_eq!(answers(&world, ONE), (0..500).collect::<Vec<_>>());
    assert_eq!(world.journals[0].syncs() - syncs, 1);
    assert_eq!(after.send - before.send, 1);
    assert!(after.recv - before.recv <= 2, "{after:?}");
    assert!(total(after) - total(before) <= 12, "{before:?} {after:?}");
}

/// Proves SOCK-3.
#[test]
fn the_first_answer_of_a_connection_proves_the_way_and_waits_by_itself() {
    let world = connected();
    world.arrive(ONE, answered(0..3));
    world.run();
    assert_eq!(*world.deferred.lock().unwrap(), [false, true, true]);
}

/// Proves SOCK-3.
#[test]
fn an_answer_that_goes_another_way_ends_deferring_until_one_is_seen_again() {
    let world = proven();
    let (thread, barrier): (_, Arc<dyn Barrier>) = (Thread::receiver(), world.journals[0].clone());
    let layer = &world.layer;
    let mut byte = [MaybeUninit::uninit()];
    let mut defers = || {
        world.arrive(ONE, answered(9..10));
        assert_eq!(layer.recv(&thread, ONE, &mut byte).unwrap(), Ok(1));
        assert!(layer.begin_message(&thread, true, false));
        layer.defer(&thread, &barrier, 1)
    };
    assert!(defers(), "the one before was answered here");
    assert!(!defers() && !defers(), "the one before was not");
    world.kernel().note_written(ONE, &[0xBB, 0]);
    assert_eq!(layer.writev(&thread, ONE, &[IoSlice::new(&[0xBB, 0])]), Some(Ok(2)));
    assert!(defers());
    // Without an answer there is nothing to go another way.
    assert_eq!(layer.recv(&thread, ONE, &mut byte).unwrap(), Ok(1));
    assert!(layer.begin_message(&thread, false, false) && layer.defer(&thread, &barrier, 1));
}

/// As the library does while a proxy connects it to the broker.
#[test]
fn what_was_written_leaves_when_the_thread_reads_again_without_a_poll() {
    let (world, thread) = (connected(), Thread::receiver());
    let question = [IoSlice::new(b"CONNECT")];
    world.kernel().note_written(ONE, b"CONNECT");
    assert_eq!(world.layer.writev(&thread, ONE, &question), Some(Ok(7)));
    assert!(world.kernel().wire(ONE, |wire| wire.sent.is_empty()), "it is gathered");
    let mut byte = [MaybeUninit::uninit()];
    assert_eq!(world.layer.recv(&thread, ONE, &mut byte), Some(Err(Errno(libc::EAGAIN))));
    assert_eq!(world.kernel().wire(ONE, |wire| wire.sent.clone()), b"CONNECT");
}

#[test]
fn messages_without_an_answer_are_durable_when_the_thread_waits_again() {
    let world = connected();
    world.arrive(ONE, (0..300).map(|number| (number, false)));
    world.run();
    assert_eq!(world.journals[0].synced(), 300);
    assert_eq!(world.journals[0].syncs(), 1);
}

/// Proves SOCK-3.
#[test]
fn nothing_is_deferred_on_what_the_layer_has_not_read() {
    let layer = Layer::new(Memory::new(), Bounds::DEFAULT);
    let world = connected();
    let barrier: Arc<dyn Barrier> = world.journals[0].clone();
    let thread = Thread::receiver();
    layer.kernel().open(ONE);
    assert_eq!(layer.kind(ONE), None);
    assert!(layer.recv(&thread, ONE, &mut [MaybeUninit::uninit()]).is_none(), "not polled yet");
    assert!(!layer.begin_message(&thread, true, false) && !layer.defer(&thread, &barrier, 1));
    let mut polled = [pollfd { fd: ONE, events: POLLIN, revents: 0 }];
    layer.poll(&thread, &mut polled, Some(Duration::ZERO)).unwrap();
    assert_eq!(layer.kind(ONE), Some(Kind::Connection));
    assert!(!layer.begin_message(&thread, true, false), "polled, but not read");
    // A socket of another family, read by the same thread in between.
    layer.kernel().wire(ONE, |wire| wire.arriving.push(1));
    layer.recv(&thread, ONE, &mut [MaybeUninit::uninit()]).unwrap().unwrap();
    thread.reads_elsewhere();
    assert!(!layer.begin_message(&thread, true, false) && !layer.defer(&thread, &barrier, 1));
}

/// Proves SOCK-4.
#[test]
fn a_thread_that_does_not_receive_is_not_read_ahead_for() {
    let world = connected();
    let thread = Thread::new();
    world.arrive(ONE, answered(0..2));
    assert!(world.layer.recv(&thread, ONE, &mut [MaybeUninit::uninit()]).is_none());
    world.step();
    // But gets what was read ahead for another.
    let mut rest = [MaybeUninit::uninit(); 100];
    assert_eq!(world.layer.recv(&thread, ONE, &mut rest), Some(Ok(6)));
    assert!(!world.layer.begin_message(&thread, true, false));
}

/// Proves ACK-1.
#[test]
fn two_journals_are_each_synced_for_their_own_answers() {
    let world = proven();
    world.connect(OTHER, 1);
    world.arrive(OTHER, answered(1000..1001));
    world.run();
    let syncs = [world.journals[0].syncs(), world.journals[1].syncs()];
    world.arrive(ONE, answered(1..100));
    world.arrive(OTHER, answered(1001..1100));
    // The memory kernel compares each answer with its own journal.
    world.run();
    assert_eq!(answers(&world, ONE).len(), 100);
    assert_eq!(answers(&world, OTHER).len(), 100);
    assert_eq!([world.journals[0].syncs() - syncs[0], world.journals[1].syncs() - syncs[1]], [1, 1]);
}

/// Proves SOCK-6.
#[test]
fn a_group_is_bounded_in_messages_bytes_and_time() {
    let bounds = Bounds { messages_max: 100, bytes_max: 1 << 20, age_max: Duration::from_secs(1) };
    for (bounds, groups) in [
        (bounds, 10),
        (Bounds { messages_max: 10_000, bytes_max: 5 * 200, ..bounds }, 5),
        (Bounds { messages_max: 10_000, ..bounds }, 1),
    ] {
        let world = World::new(bounds);
        world.connect(ONE, 0);
        world.arrive(ONE, answered(0..1000));
        world.run();
        assert_eq!(answers(&world, ONE).len(), 1000);
        let syncs = world.journals[0].syncs();
        assert!((groups..=groups + 1).contains(&syncs), "{syncs} syncs with {bounds:?}");
    }
    let world = World::new(Bounds { messages_max: 10_000, ..bounds });
    world.connect(ONE, 0);
    world.arrive(ONE, answered(0..10));
    let mut steps = 0;
    while world.step() {
        steps += 1;
        world.kernel().pass_time(Duration::from_millis(400));
    }
    assert_eq!(steps, 10);
    // The first is synced by itself; then every third finds a group that is more than a second old.
    assert!((4..=5).contains(&world.journals[0].syncs()), "{}", world.journals[0].syncs());
}

/// Proves SOCK-6.
#[test]
fn a_connection_that_takes_no_bytes_is_not_served_until_it_does() {
    let world = proven();
    world.kernel().wire(ONE, |wire| wire.room = 7);
    world.arrive(ONE, answered(1..11));
    world.run();
    assert_eq!(answers(&world, ONE), [0, 1], "one whole answer of five bytes, and two bytes of the next");
    world.arrive(ONE, answered(11..2000));
    world.run();
    let handled = world.handled(ONE).len();
    assert!(handled < 1500, "{handled} were handled although no answer can leave");
    world.kernel().wire(ONE, |wire| wire.room = usize::MAX);
    world.run();
    assert_eq!(answers(&world, ONE), (0..2000).collect::<Vec<_>>());
}

#[test]
fn a_full_kernel_is_told_to_the_library_and_tried_again() {
    let world = proven();
    let thread = Thread::new();
    world.kernel().wire(ONE, |wire| wire.room = 3);
    // Nothing is gathered: this one meets the kernel itself.
    world.write_from_elsewhere(ONE, 8);
    assert_eq!(world.kernel().wire(ONE, |wire| wire.sent.len()), 5 + 3);
    let mut polled = [pollfd { fd: ONE, events: POLLOUT, revents: 0 }];
    world.layer.poll(&thread, &mut polled, Some(Duration::ZERO)).unwrap();
    assert_eq!(polled[0].revents, 0, "the kernel is asked");
    world.kernel().wire(ONE, |wire| wire.room = usize::MAX);
    world.run();
    world.kernel().wire(ONE, |wire| assert_eq!((&wire.written, wire.written.len()), (&wire.sent, 15)));
}

#[test]
fn a_broken_connection_takes_its_answers_with_it_and_says_so() {
    let world = proven();
    world.kernel().wire(ONE, |wire| wire.broken = Some(libc::EPIPE));
    world.arrive(ONE, answered(1..5));
    world.run();
    assert_eq!(answers(&world, ONE), [0]);
    let thread = Thread::new();
    assert_eq!(world.layer.writev(&thread, ONE, &[IoSlice::new(b"x")]), Some(Err(Errno(libc::EPIPE))));
    assert_eq!(world.journals[0].synced(), 5, "what is in the journal is still durable");
    let wire = world.close(ONE).unwrap();
    assert_eq!(answers_in(&wire.sent), [0]);
}

/// Proves SOCK-5.
#[test]
fn a_descriptor_that_is_used_again_is_another_connection() {
    let world = proven();
    world.arrive(ONE, answered(1..50));
    // Read ahead, and one of them handled.
    world.step();
    let wire = world.close(ONE).unwrap();
    assert_eq!(answers_in(&wire.sent), [0, 1], "what was gathered leaves before the end");
    assert_eq!((world.layer.connections(), world.layer.kind(ONE)), (0, None));
    world.connect(ONE, 0);
    world.arrive(ONE, answered(100..101));
    world.run();
    assert_eq!(world.handled(ONE), [100]);
    assert_eq!(answers(&world, ONE), [100]);
    assert_eq!(world.deferred.lock().unwrap().last(), Some(&false), "it proves itself anew");
}

/// Proves SOCK-1.
#[test]
fn a_packet_of_another_thread_comes_behind_what_is_gathered_and_waits_for_nobody_else() {
    let world = proven();
    world.write_from_elsewhere(ONE, 1);
    assert_eq!(world.kernel().wire(ONE, |wire| wire.sent.len()), 5 + 3, "nothing gathered: at once");
    world.arrive(ONE, answered(1..3));
    world.step();
    world.write_from_elsewhere(ONE, 1);
    assert_eq!(world.kernel().wire(ONE, |wire| wire.sent.len()), 8, "behind the answer that waits");
    world.run();
    world.kernel().wire(ONE, |wire| {
        assert_eq!(wire.sent, wire.written);
        assert_eq!(&wire.sent[8..13], [0xAA, 0, 0, 0, 1]);
        assert_eq!(wire.sent[13], 0xBB);
    });
}

#[test]
fn what_comes_while_a_sync_is_under_way_waits_for_the_next() {
    let world = proven();
    let other = Arc::downgrade(&world);
    world.journals[0].during_next_sync(Box::new(move || {
        let world = other.upgrade().unwrap();
        world.write_from_elsewhere(ONE, 3);
        world.arrive(ONE, answered(5..6));
    }));
    world.arrive(ONE, answered(1..5));
    world.run();
    assert_eq!(answers(&world, ONE), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_connection_that_is_left_answers_each_message_alone() {
    let world = proven();
    world.arrive(ONE, answered(1..3));
    world.step();
    assert_eq!(answers(&world, ONE), [0]);
    world.leave(ONE);
    world.step();
    assert_eq!(answers(&world, ONE), [0, 1, 2], "the one that was gathered before, too");
}

#[test]
fn bytes_that_were_read_ahead_come_before_the_end_of_the_stream() {
    let world = proven();
    world.arrive(ONE, answered(1..10));
    world.step();
    world.kernel().wire(ONE, |wire| wire.hung_up = true);
    world.run();
    assert_eq!(world.handled(ONE), (0..10).collect::<Vec<_>>());
    let thread = Thread::receiver();
    assert_eq!(world.layer.recv(&thread, ONE, &mut [MaybeUninit::uninit()]), Some(Ok(0)));
    // Then the library closes it.
    let wire = world.close(ONE).unwrap();
    assert_eq!(answers_in(&wire.sent), (0..10).collect::<Vec<_>>());
}

#[test]
fn the_interrupt_socket_is_read_once_for_each_poll_that_found_something() {
    let world = connected();
    world.run();
    let thread = Thread::receiver();
    let asked = || world.layer.recv(&thread, INTERRUPT, &mut [MaybeUninit::uninit()]).is_none();
    assert!(asked() && !asked(), "at first nobody knows");
    let mut polled = [pollfd { fd: INTERRUPT, events: POLLIN, revents: 0 }];
    world.layer.poll(&thread, &mut polled, Some(Duration::ZERO)).unwrap();
    assert!(!asked());
    world.kernel().interrupt();
    world.layer.poll(&thread, &mut polled, Some(Duration::ZERO)).unwrap();
    assert!(asked() && !asked());
}

#[test]
fn a_slow_disk_is_given_a_little_more_to_sync() {
    let world = proven();
    let slow = |world: &Arc<World>| {
        let other = Arc::downgrade(world);
        world.journals[0].during_next_sync(Box::new(move || {
            other.upgrade().unwrap().kernel().pass_time(Duration::from_millis(40));
        }));
    };
    slow(&world);
    world.arrive(ONE, answered(1..2));
    world.run();
    let before = world.kernel().now();
    world.arrive(ONE, answered(2..3));
    world.run();
    let waited = world.kernel().now() - before;
    // 5 ms before the sync; the two waits for more messages afterwards are a millisecond each.
    assert!((5..=8).contains(&waited.as_millis()), "{waited:?}");
}

#[test]
fn a_barrier_that_moved_on_stays() {
    let world = connected();
    let [one, two] = world.journals.clone().map(|journal| journal as Arc<dyn Barrier>);
    let mut barriers = Barriers::default();
    barriers.add(&one, 5);
    barriers.add(&two, 1);
    barriers.add(&one, 3);
    let claimed = barriers.clone();
    barriers.add(&one, 6);
    barriers.remove(&claimed);
    assert!(!barriers.is_empty(), "6 has not been passed");
    let rest = barriers.clone();
    barriers.remove(&rest);
    assert!(barriers.is_empty());
}
