//! A kernel and a journal made of memory. The kernel looks at every byte that leaves: an answer may leave
//! only once its message is durable in its journal, and bytes only in the order in which they were
//! written.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use libc::{POLLHUP, POLLIN, POLLOUT, pollfd};

use super::super::kernel::{Errno, Fd, Kernel, Kind};
use super::super::{Barrier, Calls};

pub const INTERRUPT: Fd = 3;

/// What the library wrote for a message, and which record makes it true.
struct Promise {
    /// Offset of its first byte in the stream.
    from: usize,
    journal: Arc<Journal>,
    seq: u64,
}

/// One connection as the kernel and the peer see it.
#[derive(Default)]
pub struct Wire {
    pub arriving: Vec<u8>,
    pub hung_up: bool,
    /// Bytes that the kernel takes until somebody makes room.
    pub room: usize,
    /// Every write fails with this.
    pub broken: Option<i32>,
    /// What the library wrote, as it was accepted.
    pub written: Vec<u8>,
    /// What has left.
    pub sent: Vec<u8>,
    promises: Vec<Promise>,
}

impl Wire {
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        if let Some(errno) = self.broken {
            return Err(Errno(errno));
        }
        let taken = bytes.len().min(self.room);
        if taken == 0 {
            return Err(Errno(libc::EAGAIN));
        }
        self.room -= taken;
        self.sent.extend_from_slice(&bytes[..taken]);
        for promise in self.promises.iter().filter(|promise| promise.from < self.sent.len()) {
            let synced = promise.journal.synced();
            assert!(promise.seq <= synced, "record {} is answered, {synced} is durable", promise.seq);
        }
        Ok(taken)
    }
}

#[derive(Default)]
struct State {
    wires: BTreeMap<Fd, Wire>,
    elapsed: Duration,
    interrupts: usize,
    /// Steps until the power is cut.
    until_cut: Option<u64>,
    steps: u64,
    calls: Calls,
}

/// The kernel.
pub struct Memory {
    state: Mutex<State>,
    began: Instant,
}

impl Memory {
    pub fn new() -> Self {
        Self { state: Mutex::default(), began: Instant::now() }
    }

    fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub fn wire<R>(&self, fd: Fd, look: impl FnOnce(&mut Wire) -> R) -> R {
        self.with(|state| look(state.wires.get_mut(&fd).expect("it is open")))
    }

    pub fn open(&self, fd: Fd) {
        let wire = Wire { room: usize::MAX, ..Wire::default() };
        assert!(self.with(|state| state.wires.insert(fd, wire)).is_none(), "{fd} is open");
    }

    pub fn close(&self, fd: Fd) -> Wire {
        self.with(|state| state.wires.remove(&fd)).expect("it is open")
    }

    pub fn pass_time(&self, time: Duration) {
        self.with(|state| state.elapsed += time);
    }

    pub fn interrupt(&self) {
        self.with(|state| state.interrupts += 1);
    }

    pub fn take_interrupt(&self) -> bool {
        self.step();
        self.with(|state| {
            let was = state.interrupts > 0;
            state.interrupts = state.interrupts.saturating_sub(1);
            was
        })
    }

    /// From here on: the bytes that the library writes next are the answer to that record.
    pub fn promise(&self, fd: Fd, journal: &Arc<Journal>, seq: u64) {
        self.wire(fd, |wire| {
            wire.promises.push(Promise { from: wire.written.len(), journal: Arc::clone(journal), seq });
        });
    }

    /// The library wrote these bytes and they were accepted.
    pub fn note_written(&self, fd: Fd, bytes: &[u8]) {
        self.wire(fd, |wire| wire.written.extend_from_slice(bytes));
    }

    pub fn cut_power_after(&self, steps: u64) {
        self.with(|state| state.until_cut = Some(steps));
    }

    pub fn steps(&self) -> u64 {
        self.with(|state| state.steps)
    }

    pub fn calls(&self) -> Calls {
        self.with(|state| state.calls)
    }

    /// Something happens: perhaps the power is cut before it.
    pub fn step(&self) {
        let cut = self.with(|state| {
            state.steps += 1;
            match &mut state.until_cut {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            }
        });
        assert!(!cut, "power cut");
    }
}

impl Kernel for Memory {
    fn recv(&self, fd: Fd, into: &mut [u8]) -> Result<usize, Errno> {
        self.step();
        self.with(|state| state.calls.recv += 1);
        self.wire(fd, |wire| {
            let given = wire.arriving.len().min(into.len());
            if given == 0 {
                return if wire.hung_up { Ok(0) } else { Err(Errno(libc::EAGAIN)) };
            }
            into[..given].copy_from_slice(&wire.arriving[..given]);
            wire.arriving.drain(..given);
            Ok(given)
        })
    }

    fn send(&self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        self.step();
        self.with(|state| state.calls.send += 1);
        let sent = self.wire(fd, |wire| {
            let taken = wire.take(bytes);
            assert!(wire.written.starts_with(&wire.sent), "not what was written, or not in order");
            taken
        });
        self.step();
        sent
    }

    fn writev(&self, fd: Fd, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.step();
        self.with(|state| state.calls.send += 1);
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.wire(fd, |wire| {
            // The caller has noted these bytes already.
            assert_eq!(
                wire.written.len(),
                wire.sent.len() + bytes.len(),
                "overtakes what was written before"
            );
            wire.take(&bytes)
        })
    }

    fn poll(&self, polled: &mut [pollfd], wait: Option<Duration>) -> Result<usize, Errno> {
        self.step();
        self.with(|state| {
            state.calls.poll += 1;
            if let Some(wait) = wait {
                state.elapsed += wait;
            }
            let mut ready = 0;
            for one in polled {
                let wire = state.wires.get(&one.fd);
                let readable =
                    wire.map_or(state.interrupts > 0, |wire| !wire.arriving.is_empty() || wire.hung_up);
                let writable = wire.is_none_or(|wire| wire.room > 0 || wire.broken.is_some());
                one.revents = 0;
                one.revents |= if readable { one.events & POLLIN } else { 0 };
                one.revents |= if writable { one.events & POLLOUT } else { 0 };
                one.revents |= if wire.is_some_and(|wire| wire.hung_up) { POLLHUP } else { 0 };
                ready += usize::from(one.revents != 0);
            }
            Ok(ready)
        })
    }

    fn kind(&self, fd: Fd) -> Option<Kind> {
        if fd == INTERRUPT {
            return Some(Kind::Interrupt);
        }
        self.with(|state| state.wires.contains_key(&fd)).then_some(Kind::Connection)
    }

    fn acknowledge(&self, _fd: Fd) {
        self.step();
        self.with(|state| state.calls.quickack += 1);
    }

    fn now(&self) -> Instant {
        self.began + self.with(|state| state.elapsed)
    }
}

/// What happens while a sync is under way.
pub type Meanwhile = Box<dyn FnOnce() + Send>;

/// A journal: what was appended, and how far it is durable.
pub struct Journal {
    state: Mutex<JournalState>,
    power: Weak<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct JournalState {
    appended: Vec<u32>,
    synced: usize,
    syncs: u64,
    meanwhile: Option<Meanwhile>,
}

impl Journal {
    /// `power` is called at each step.
    pub fn new(power: Weak<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), power })
    }

    fn with<R>(&self, look: impl FnOnce(&mut JournalState) -> R) -> R {
        look(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn step(&self) {
        if let Some(power) = self.power.upgrade() {
            power();
        }
    }

    /// Appends message `number`; returns its seq, from 1.
    pub fn append(&self, number: u32) -> u64 {
        self.step();
        let seq = self.with(|state| {
            state.appended.push(number);
            state.appended.len() as u64
        });
        self.step();
        seq
    }

    pub fn appended(&self) -> Vec<u32> {
        self.with(|state| state.appended.clone())
    }

    pub fn synced(&self) -> u64 {
        self.with(|state| state.synced as u64)
    }

    /// What a power cut leaves.
    pub fn durable(&self) -> Vec<u32> {
        self.with(|state| state.appended[..state.synced].to_vec())
    }

    pub fn syncs(&self) -> u64 {
        self.with(|state| state.syncs)
    }

    pub fn during_next_sync(&self, meanwhile: Meanwhile) {
        self.with(|state| state.meanwhile = Some(meanwhile));
    }
}

impl Barrier for Journal {
    fn pass(&self, upto: u64) {
        let covered = self.with(|state| {
            if state.synced as u64 >= upto {
                None
            } else {
                Some((state.appended.len(), state.meanwhile.take()))
            }
        });
        let Some((covers, meanwhile)) = covered else { return };
        self.step();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        self.step();
        self.with(|state| {
            // Only what was appended when it began.
            state.synced = state.synced.max(covers);
            state.syncs += 1;
        });
        self.step();
        assert!(self.synced() >= upto);
    }
}
