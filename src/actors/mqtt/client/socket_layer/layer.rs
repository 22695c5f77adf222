//! What each call of the library does: which connections there are, who reads and writes them, and when a
//! group leaves.
//!
//! One lock guards the connections. It is held for calls that return at once, never while a barrier is
//! passed or a poll waits.

use std::cell::Cell;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libc::{POLLIN, POLLOUT, pollfd};

use super::Barrier;
use super::connection::{Bounds, Connection, Id};
use super::kernel::{Errno, Fd, Kernel, Kind};

/// Descriptors from here on pass through.
const FDS: usize = 65_536;
/// How soon a connection that takes no bytes is tried again.
const STUCK_RETRY: Duration = Duration::from_millis(10);
/// Barriers that are passed faster than this are not worth waiting for more messages.
const FAST_BARRIER: Duration = Duration::from_millis(2);
/// Of the time that barriers take, this part is spent on waiting for more messages of the same group.
const LINGER_PART: u32 = 8;
/// But no longer.
const LINGER_MAX: Duration = Duration::from_millis(5);

/// What the layer knows of a calling thread.
pub(super) struct Thread {
    /// Not known before it polls for the first time.
    receives: Cell<Option<bool>>,
    /// The connection that the message in hand came in on.
    source: Cell<Option<Id>>,
    /// The newest poll found the interrupt socket readable, or there was none.
    interrupted: Cell<bool>,
    /// How long barriers took the last time.
    barriers_took: Cell<Duration>,
}

impl Thread {
    pub(super) const fn new() -> Self {
        Self {
            receives: Cell::new(None),
            source: Cell::new(None),
            interrupted: Cell::new(true),
            barriers_took: Cell::new(Duration::ZERO),
        }
    }

    /// Whether it is the one that receives, which is found out once.
    pub(super) fn is_receiver(&self, find_out: impl FnOnce() -> bool) -> bool {
        self.receives.get().unwrap_or_else(|| {
            let receives = find_out();
            self.receives.set(Some(receives));
            receives
        })
    }

    pub(super) fn receives(&self) -> bool {
        self.receives.get() == Some(true)
    }

    /// It reads from something that the layer does not see.
    pub(super) fn reads_elsewhere(&self) {
        self.source.set(None);
    }
}

#[derive(Default)]
struct Connections {
    all: Vec<Connection>,
    made: u64,
}

impl Connections {
    fn of(&mut self, fd: Fd) -> Option<&mut Connection> {
        self.all.iter_mut().find(|connection| connection.fd == fd)
    }

    fn get(&mut self, id: Id) -> Option<&mut Connection> {
        self.all.iter_mut().find(|connection| connection.id == id)
    }

    /// Says of each whether it can be read from its buffer, and returns how many can.
    fn serve(&self, polled: &mut [pollfd]) -> usize {
        if !self.all.iter().any(Connection::serves) {
            return 0;
        }
        let mut ready = 0;
        for one in polled {
            let serves = self.all.iter().any(|connection| connection.fd == one.fd && connection.serves());
            one.revents = if serves { one.events & POLLIN } else { 0 };
            ready += usize::from(one.revents != 0);
        }
        ready
    }
}

/// The layer, over a kernel.
pub(super) struct Layer<K> {
    kernel: K,
    bounds: Bounds,
    /// By descriptor: 0 for one that nobody has polled yet, or 1 + a [`Kind`].
    kinds: [AtomicU8; FDS],
    connections: Mutex<Connections>,
}

impl<K> Layer<K> {
    pub(super) const fn new(kernel: K, bounds: Bounds) -> Self {
        let connections = Connections { all: Vec::new(), made: 0 };
        Self {
            kernel,
            bounds,
            kinds: [const { AtomicU8::new(0) }; FDS],
            connections: Mutex::new(connections),
        }
    }

    pub(super) fn kernel(&self) -> &K {
        &self.kernel
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kind(&self, fd: Fd) -> Option<Kind> {
        const KINDS: [Kind; 3] = [Kind::Connection, Kind::Interrupt, Kind::Foreign];
        let known = self.kinds.get(usize::try_from(fd).ok()?)?.load(Ordering::Acquire);
        KINDS.get(usize::from(known).checked_sub(1)?).copied()
    }

    fn set_kind(&self, fd: Fd, kind: Option<Kind>) {
        let known = usize::try_from(fd).ok().and_then(|fd| self.kinds.get(fd));
        if let Some(known) = known {
            known.store(kind.map_or(0, |kind| kind as u8 + 1), Ordering::Release);
        }
    }
}

impl<K: Kernel> Layer<K> {
    /// As `poll`. The receiving thread comes here to see where it can write, then to wait for something
    /// to read.
    pub(super) fn poll(
        &self,
        thread: &Thread,
        polled: &mut [pollfd],
        wait: Option<Duration>,
    ) -> Result<usize, Errno> {
        if polled.iter().any(|one| one.events & POLLIN != 0) {
            self.poll_readable(thread, polled, wait)
        } else if self.all_take_more(polled) {
            for one in polled.iter_mut() {
                one.revents = one.events & POLLOUT;
            }
            Ok(polled.len())
        } else {
            self.kernel.poll(polled, wait)
        }
    }

    fn all_take_more(&self, polled: &[pollfd]) -> bool {
        let mut connections = self.lock();
        !polled.is_empty()
            && polled.iter().all(|one| match self.kind(one.fd) {
                Some(Kind::Interrupt) => true,
                Some(Kind::Connection) => {
                    connections.of(one.fd).is_some_and(|connection| connection.takes_more())
                }
                _ => false,
            })
    }

    fn poll_readable(
        &self,
        thread: &Thread,
        polled: &mut [pollfd],
        wait: Option<Duration>,
    ) -> Result<usize, Errno> {
        self.adopt(polled);
        let (due, waits) = {
            let mut connections = self.lock();
            thread.source.set(self.only_source(&mut connections, polled));
            let due = connections.all.iter().any(|one| one.is_due(&self.bounds, || self.kernel.now()));
            let served = if due { 0 } else { connections.serve(polled) };
            if served > 0 {
                return Ok(served);
            }
            (due, connections.all.iter().any(Connection::waits))
        };
        if !due
            && waits
            && let Some(more) = self.look_for_more(thread, polled)
        {
            return Ok(more);
        }
        self.flush_all(thread);
        let served = self.lock().serve(polled);
        if served > 0 {
            return Ok(served);
        }
        let wait = if self.any_stuck() {
            wait.map_or(STUCK_RETRY, |wait| wait.min(STUCK_RETRY)).into()
        } else {
            wait
        };
        self.wait(thread, polled, wait)
    }

    /// Before barriers are passed, which costs: what else belongs to the group? Where they take long, a
    /// little time is granted.
    fn look_for_more(&self, thread: &Thread, polled: &mut [pollfd]) -> Option<usize> {
        let took = thread.barriers_took.get();
        let linger = if took < FAST_BARRIER { Duration::ZERO } else { (took / LINGER_PART).min(LINGER_MAX) };
        let ready = self.wait(thread, polled, Some(linger)).ok()?;
        let readable =
            |one: &pollfd| one.revents & POLLIN != 0 && self.kind(one.fd) == Some(Kind::Connection);
        polled.iter().any(readable).then_some(ready)
    }

    fn wait(&self, thread: &Thread, polled: &mut [pollfd], wait: Option<Duration>) -> Result<usize, Errno> {
        if wait != Some(Duration::ZERO) {
            self.acknowledge_all();
        }
        let ready = self.kernel.poll(polled, wait)?;
        let interrupted = |one: &pollfd| one.revents != 0 && self.kind(one.fd) == Some(Kind::Interrupt);
        thread.interrupted.set(polled.iter().any(interrupted));
        Ok(ready)
    }

    /// A peer that holds small packets back until it hears from us (Nagle) would wait for the kernel's
    /// delayed acknowledgement, 40 ms. The option does not last, so it is set again before each wait that
    /// follows something received and not answered.
    fn acknowledge_all(&self) {
        for connection in &mut self.lock().all {
            if std::mem::take(&mut connection.unacknowledged) {
                self.kernel.acknowledge(connection.fd);
            }
        }
    }

    /// Takes in what is polled for the first time (SOCK-4).
    fn adopt(&self, polled: &[pollfd]) {
        for fd in polled.iter().map(|one| one.fd).filter(|fd| self.kind(*fd).is_none()) {
            let mut connections = self.lock();
            let kind = if usize::try_from(fd).is_ok_and(|fd| fd < FDS) { self.kernel.kind(fd) } else { None };
            if kind == Some(Kind::Connection) {
                connections.made += 1;
                let id = Id(NonZeroU64::new(connections.made).expect("counts from 1"));
                connections.all.push(Connection::new(id, fd));
            }
            self.set_kind(fd, kind);
        }
    }

    /// If whatever is handled next can only be of one connection: that one. A library that keeps several
    /// messages of one read needs no further read for the next.
    fn only_source(&self, connections: &mut Connections, polled: &[pollfd]) -> Option<Id> {
        let mut others = polled.iter().filter(|one| self.kind(one.fd) != Some(Kind::Interrupt));
        let (Some(one), None) = (others.next(), others.next()) else { return None };
        connections.of(one.fd).filter(|connection| connection.was_read).map(|connection| connection.id)
    }

    fn any_stuck(&self) -> bool {
        self.lock().all.iter().any(|connection| connection.output.is_stuck())
    }

    fn flush_all(&self, thread: &Thread) {
        let (pending, waits) = {
            let connections = self.lock();
            let pending = connections.all.iter().filter(|connection| connection.is_pending());
            let pending: Vec<Id> = pending.map(|connection| connection.id).collect();
            (pending, connections.all.iter().any(Connection::waits))
        };
        let began = waits.then(|| self.kernel.now());
        if waits {
            // So that what the peer holds back comes while the barriers are passed.
            self.acknowledge_all();
        }
        for id in pending {
            self.flush(id);
        }
        if let Some(began) = began {
            thread.barriers_took.set(self.kernel.now().duration_since(began));
        }
    }

    /// Passes what the gathered bytes of a connection wait for, and sends them (SOCK-2). What is gathered
    /// meanwhile stays.
    fn flush(&self, id: Id) {
        let Some(claim) = self.lock().get(id).map(|connection| connection.claim()) else { return };
        claim.pass();
        if let Some(connection) = self.lock().get(id) {
            connection.clear(&claim);
            self.send(connection);
        }
    }

    fn send(&self, connection: &mut Connection) {
        let fd = connection.fd;
        connection.unacknowledged &= connection.output.is_empty();
        connection.output.send(|bytes| self.kernel.send(fd, bytes));
    }

    /// As `recv`; `None` if the caller has to read for itself.
    pub(super) fn recv(
        &self,
        thread: &Thread,
        fd: Fd,
        into: &mut [MaybeUninit<u8>],
    ) -> Option<Result<usize, Errno>> {
        if self.kind(fd) == Some(Kind::Interrupt) {
            // The library looks twice between two polls: it is asked of the kernel once, if the poll has
            // found something.
            return if thread.interrupted.replace(false) { None } else { Some(Err(Errno(libc::EAGAIN))) };
        }
        let mut connections = self.lock();
        let mut connection = connections.of(fd)?;
        let mut given = connection.input.take(into);
        if thread.receives() {
            if given < into.len() {
                let mut read = connection.input.refill(|buffer| self.kernel.recv(fd, buffer));
                if given == 0 && read == Err(Errno(libc::EAGAIN)) && connection.is_pending() {
                    // The library waits for an answer without a poll, as it does while a proxy connects it: what
                    // it wrote must leave first.
                    let id = connection.id;
                    drop(connections);
                    self.flush(id);
                    connections = self.lock();
                    connection = connections.get(id)?;
                    read = connection.input.refill(|buffer| self.kernel.recv(fd, buffer));
                }
                match read {
                    Ok(0) | Err(_) if given == 0 => return Some(read),
                    // The next read returns it.
                    Ok(0) | Err(_) => {}
                    Ok(_) => {
                        (connection.was_read, connection.unacknowledged) = (true, true);
                        given += connection.input.take(&mut into[given..]);
                    }
                }
            }
            thread.source.set(Some(connection.id));
        }
        (given > 0).then_some(Ok(given))
    }

    /// As `writev`; `None` if the caller has to write for itself.
    pub(super) fn writev(
        &self,
        thread: &Thread,
        fd: Fd,
        parts: &[IoSlice<'_>],
    ) -> Option<Result<usize, Errno>> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let receives = thread.receives();
        let mut connections = self.lock();
        let connection = connections.of(fd)?;
        let id = connection.id;
        let gathers = receives && connection.begin_write();
        if !connection.output.is_empty() && connection.output.len() + len > self.bounds.bytes_max {
            drop(connections);
            self.flush(id);
            connections = self.lock();
        }
        let connection = connections.get(id)?;
        if let Some(error) = connection.output.failed() {
            return Some(Err(error));
        }
        if connection.output.is_empty() && !receives {
            return Some(self.write_through(connection, parts, len));
        }
        if !connection.output.is_empty() && connection.output.len() + len > self.bounds.bytes_max {
            connection.write_incomplete = true;
            return Some(Err(Errno(libc::EAGAIN)));
        }
        for part in parts {
            connection.output.append(part);
        }
        connection.write_incomplete = false;
        drop(connections);
        if receives && !gathers {
            self.flush(id);
        }
        Some(Ok(len))
    }

    /// Nothing is gathered: the caller's bytes are next.
    fn write_through(
        &self,
        connection: &mut Connection,
        parts: &[IoSlice<'_>],
        len: usize,
    ) -> Result<usize, Errno> {
        let written = self.kernel.writev(connection.fd, parts);
        connection.write_incomplete = written != Ok(len);
        connection.unacknowledged &= written.is_err();
        written
    }

    /// Before `shutdown`: what was gathered leaves.
    pub(super) fn shutdown(&self, fd: Fd) {
        let id = self.lock().of(fd).map(|connection| connection.id);
        if let Some(id) = id {
            self.flush(id);
        }
    }

    /// Closes a descriptor that the layer knows (SOCK-5).
    pub(super) fn close<R>(&self, fd: Fd, close: impl FnOnce() -> R) -> R {
        self.shutdown(fd);
        let (gone, closed) = {
            let mut connections = self.lock();
            let at = connections.all.iter().position(|connection| connection.fd == fd);
            let gone = at.map(|at| connections.all.swap_remove(at));
            self.set_kind(fd, None);
            // Under the lock: nobody takes in a new descriptor of this number before the old one is
            // forgotten.
            (gone, close())
        };
        // Messages handled meanwhile must still become safe.
        if let Some(gone) = gone {
            gone.claim().pass();
        }
        closed
    }

    /// See [`super::begin_message`].
    pub(super) fn begin_message(&self, thread: &Thread, answered: bool, at_once: bool) -> bool {
        let Some(id) = thread.source.get() else { return false };
        let mut connections = self.lock();
        let Some(connection) = connections.get(id) else { return false };
        connection.begin_message(answered, at_once, || self.kernel.now());
        true
    }

    /// See [`super::defer`].
    pub(super) fn defer(&self, thread: &Thread, barrier: &Arc<dyn Barrier>, upto: u64) -> bool {
        let Some(id) = thread.source.get() else { return false };
        self.lock().get(id).is_some_and(|connection| connection.defer(barrier, upto))
    }
}

#[cfg(test)]
impl Thread {
    pub(super) fn receiver() -> Self {
        let thread = Self::new();
        assert!(thread.is_receiver(|| true));
        thread
    }
}

#[cfg(test)]
impl<K: Kernel> Layer<K> {
    /// How many connections it knows.
    pub(super) fn connections(&self) -> usize {
        self.lock().all.len()
    }
}
