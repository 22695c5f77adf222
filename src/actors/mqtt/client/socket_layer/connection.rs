//! One connection: what was read ahead, what was gathered, and what that waits for. Pure: no system call,
//! no clock.

use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Barrier;
use super::barrier::Barriers;
use super::kernel::{Errno, Fd};

/// Bytes read ahead at most.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// When a group has to leave although there is more to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Messages handled: so many are delivered again at most if the process is killed.
    pub messages_max: u32,
    /// Bytes gathered.
    pub bytes_max: usize,
    /// Since the first of its messages.
    pub age_max: Duration,
}

impl Bounds {
    /// A broker that waits for answers within a window sends far less than this; a backlog at full speed
    /// is in groups of this size, which makes a sync of 20 ms cost 20 µs a message.
    pub(super) const DEFAULT: Self =
        Self { messages_max: 1024, bytes_max: 64 * 1024, age_max: Duration::from_millis(20) };
}

/// Which connection, for as long as the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(pub NonZeroU64);

/// Bytes read ahead.
pub(super) struct Input {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Hands out what there is, up to the length of `into`.
    pub(super) fn take(&mut self, into: &mut [MaybeUninit<u8>]) -> usize {
        let given = into.len().min(self.end - self.start);
        for (to, from) in into.iter_mut().zip(&self.buffer[self.start..self.start + given]) {
            to.write(*from);
        }
        self.start += given;
        given
    }

    /// Once it is empty: reads on with `read`.
    pub(super) fn refill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        debug_assert!(self.is_empty());
        (self.start, self.end) = (0, 0);
        self.end = read(&mut self.buffer)?;
        Ok(self.end)
    }
}

/// Bytes gathered. Offsets count from the first byte of the connection that was ever gathered.
#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// Offset of the first byte that has not been sent.
    sent: u64,
    /// Up to here bytes may leave: what they waited for is true.
    cleared: u64,
    /// The kernel took no more.
    stuck: bool,
    /// The kernel refuses for good.
    failed: Option<Errno>,
}

impl Output {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    pub(super) fn failed(&self) -> Option<Errno> {
        self.failed
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn end(&self) -> u64 {
        self.sent + self.bytes.len() as u64
    }

    /// Sends what may leave, as far as the kernel takes it.
    pub(super) fn send(&mut self, mut send: impl FnMut(&[u8]) -> Result<usize, Errno>) {
        self.stuck = false;
        let mut done = 0;
        let may_leave = usize::try_from(self.cleared - self.sent).expect("no more than was gathered");
        while done < may_leave {
            match send(&self.bytes[done..may_leave]) {
                Ok(0) | Err(Errno(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)) => {
                    self.stuck = true;
                    break;
                }
                Ok(sent) => done += sent,
                Err(Errno(libc::EINTR)) => {}
                Err(error) => {
                    self.failed = Some(error);
                    done = self.bytes.len();
                    break;
                }
            }
        }
        self.bytes.drain(..done);
        self.sent += done as u64;
        self.cleared = self.cleared.max(self.sent);
    }
}

/// What was there to wait for when a flush began.
pub(super) struct Claim {
    barriers: Barriers,
    end: u64,
}

impl Claim {
    /// Waits.
    pub(super) fn pass(&self) {
        self.barriers.pass();
    }
}

/// A connection of the library.
pub(super) struct Connection {
    pub(super) id: Id,
    pub(super) fd: Fd,
    pub(super) input: Input,
    pub(super) output: Output,
    barriers: Barriers,
    messages: u32,
    group_began: Option<Instant>,
    /// Nothing is gathered any more.
    at_once: bool,
    /// The present message's answer, or an earlier one's, has not been written yet.
    answer_awaited: bool,
    /// The newest answer was written through this layer.
    answers_seen: bool,
    /// [`Connection::defer`] may be granted to the present message.
    may_defer: bool,
    /// Bytes have been read from it here.
    pub(super) was_read: bool,
    /// The library was told that a write was incomplete: it waits for the kernel to take more.
    pub(super) write_incomplete: bool,
    /// Something was received, and nothing has been sent since that would have carried the TCP
    /// acknowledgement.
    pub(super) unacknowledged: bool,
}

impl Connection {
    pub(super) fn new(id: Id, fd: Fd) -> Self {
        Self {
            id,
            fd,
            input: Input { buffer: vec![0; READ_BYTES].into(), start: 0, end: 0 },
            output: Output::default(),
            barriers: Barriers::default(),
            messages: 0,
            group_began: None,
            at_once: false,
            answer_awaited: false,
            answers_seen: false,
            may_defer: false,
            was_read: false,
            write_incomplete: false,
            unacknowledged: false,
        }
    }

    /// A message of this connection is about to be handled.
    pub(super) fn begin_message(&mut self, answered: bool, at_once: bool, now: impl FnOnce() -> Instant) {
        self.at_once |= at_once;
        self.messages += 1;
        self.group_began.get_or_insert_with(now);
        if answered {
            // The answer to the one before went another way, or is late.
            self.answers_seen &= !self.answer_awaited;
            self.answer_awaited = true;
        }
        self.may_defer = !self.at_once && (self.answers_seen || !answered);
    }

    /// Whether what is written from now on waits for `barrier`.
    pub(super) fn defer(&mut self, barrier: &Arc<dyn Barrier>, upto: u64) -> bool {
        if self.may_defer {
            self.barriers.add(barrier, upto);
        }
        self.may_defer
    }

    /// The receiving thread writes to this connection; returns whether that is gathered.
    pub(super) fn begin_write(&mut self) -> bool {
        if self.answer_awaited {
            (self.answer_awaited, self.answers_seen) = (false, true);
        }
        !self.at_once
    }

    /// Whether the group may not grow.
    pub(super) fn is_due(&self, bounds: &Bounds, now: impl FnOnce() -> Instant) -> bool {
        self.messages >= bounds.messages_max
            || self.output.len() >= bounds.bytes_max
            || self.group_began.is_some_and(|began| now().duration_since(began) >= bounds.age_max)
    }

    pub(super) fn waits(&self) -> bool {
        !self.barriers.is_empty()
    }

    /// Whether there is anything to flush.
    pub(super) fn is_pending(&self) -> bool {
        self.waits() || !self.output.is_empty() || self.messages > 0
    }

    /// Everything gathered so far, and everything that it waits for.
    pub(super) fn claim(&self) -> Claim {
        Claim { barriers: self.barriers.clone(), end: self.output.end() }
    }

    /// The barriers of the claim have been passed.
    pub(super) fn clear(&mut self, claim: &Claim) {
        self.barriers.remove(&claim.barriers);
        self.output.cleared = self.output.cleared.max(claim.end);
        (self.messages, self.group_began) = (0, None);
    }

    /// Whether the kernel would take a write: nothing here or in the library waits for that.
    pub(super) fn takes_more(&self) -> bool {
        !self.write_incomplete && !self.output.is_stuck() && self.output.failed().is_none()
    }

    /// Whether the library may be told that there is something to read.
    pub(super) fn serves(&self) -> bool {
        !self.input.is_empty() && !self.output.is_stuck()
    }
}
