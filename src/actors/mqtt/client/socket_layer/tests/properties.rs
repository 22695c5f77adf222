//! Whatever happens in whatever order: the peer sees what was written, in order, and no answer before its
//! record is durable (which the memory kernel looks at for every byte).

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::connection::Bounds;
use super::super::kernel::Fd;
use super::library::{World, answers_in};
use super::memory::Wire;

const FDS: [Fd; 2] = [20, 21];

#[derive(Debug, Clone)]
enum Op {
    Arrive {
        fd: usize,
        messages: u16,
        answered: bool,
    },
    Step,
    WriteFromElsewhere {
        fd: usize,
        len: u8,
    },
    /// The kernel takes so many more bytes.
    Room {
        fd: usize,
        bytes: u16,
    },
    Break {
        fd: usize,
    },
    Reconnect {
        fd: usize,
    },
    Leave {
        fd: usize,
    },
    Interrupt,
    PassTime {
        millis: u16,
    },
    /// While the next sync of that journal is under way.
    DuringSync {
        journal: usize,
        op: Box<Op>,
    },
}

fn simple() -> impl Strategy<Value = Op> {
    let fd = 0..FDS.len();
    prop_oneof![
        5 => (fd.clone(), 1..40u16, prop::bool::weighted(0.8))
            .prop_map(|(fd, messages, answered)| Op::Arrive { fd, messages, answered }),
        3 => (fd.clone(), any::<u8>()).prop_map(|(fd, len)| Op::WriteFromElsewhere { fd, len }),
        2 => (fd.clone(), 0..60u16).prop_map(|(fd, bytes)| Op::Room { fd, bytes }),
        1 => fd.clone().prop_map(|fd| Op::Break { fd }),
        1 => fd.clone().prop_map(|fd| Op::Reconnect { fd }),
        1 => fd.prop_map(|fd| Op::Leave { fd }),
        1 => Just(Op::Interrupt),
        1 => (1..30u16).prop_map(|millis| Op::PassTime { millis }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Step),
        5 => simple(),
        2 => (0..2usize, simple()).prop_map(|(journal, op)| Op::DuringSync { journal, op: Box::new(op) }),
    ]
}

fn perform(world: &Arc<World>, op: &Op, next: &std::sync::atomic::AtomicU32) {
    match op {
        Op::Step => drop(world.step()),
        Op::Arrive { fd, messages, answered } => {
            let from = next.fetch_add(u32::from(*messages), std::sync::atomic::Ordering::Relaxed);
            world.arrive(FDS[*fd], (from..from + u32::from(*messages)).map(|number| (number, *answered)));
        }
        Op::WriteFromElsewhere { fd, len } => world.write_from_elsewhere(FDS[*fd], *len),
        Op::Room { fd, bytes } => world.kernel().wire(FDS[*fd], |wire| wire.room = usize::from(*bytes)),
        Op::Break { fd } => world.kernel().wire(FDS[*fd], |wire| wire.broken = Some(libc::EPIPE)),
        Op::Reconnect { fd } => {
            if let Some(wire) = world.close(FDS[*fd]) {
                judge(&wire);
                world.connect(FDS[*fd], *fd);
            }
        }
        Op::Leave { fd } => world.leave(FDS[*fd]),
        Op::Interrupt => world.kernel().interrupt(),
        Op::PassTime { millis } => world.kernel().pass_time(Duration::from_millis((*millis).into())),
        Op::DuringSync { journal, op } => {
            let (other, op) = (Arc::downgrade(world), op.clone());
            let numbers = 1_000_000 + next.fetch_add(1000, std::sync::atomic::Ordering::Relaxed);
            world.journals[*journal].during_next_sync(Box::new(move || {
                let next = std::sync::atomic::AtomicU32::new(numbers);
                perform(&other.upgrade().unwrap(), &op, &next);
            }));
        }
    }
}

/// What left is what was written, as far as it left.
fn judge(wire: &Wire) {
    assert!(wire.written.starts_with(&wire.sent), "not what was written, or not in order");
    answers_in(&wire.sent);
}

fn run(ops: &[Op], bounds: Bounds) {
    let world = World::new(bounds);
    for (journal, fd) in FDS.into_iter().enumerate() {
        world.connect(fd, journal);
    }
    let next = std::sync::atomic::AtomicU32::new(0);
    for op in ops {
        perform(&world, op, &next);
    }
    // The peers read again: everything that can still be handled and sent is.
    for _ in 0..4 {
        for fd in FDS {
            // Each time anew: an operation that waited for a sync may have taken it away.
            world.kernel().wire(fd, |wire| wire.room = usize::MAX);
        }
        world.run();
    }
    for (fd, journal) in FDS.into_iter().zip(&world.journals) {
        assert_eq!(journal.synced(), journal.appended().len() as u64, "not durable, and the thread waits");
        world.kernel().wire(fd, |wire| {
            judge(wire);
            if wire.broken.is_none() {
                assert!(wire.arriving.is_empty(), "{} bytes are not read", wire.arriving.len());
                assert_eq!(wire.sent.len(), wire.written.len(), "gathered bytes were left behind");
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Proves SOCK-1, SOCK-2.
    #[test]
    fn nothing_leaves_out_of_order_or_before_it_is_durable(
        ops in prop::collection::vec(op(), 1..80),
        messages_max in 1..300u32,
        bytes_max in 1..2000usize,
    ) {
        run(&ops, Bounds { messages_max, bytes_max, age_max: Duration::from_millis(20) });
    }
}
