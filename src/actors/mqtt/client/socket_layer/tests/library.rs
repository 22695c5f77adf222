//! The client library as the layer meets it: one thread that polls, reads messages piece by piece, has
//! them handled and answers each; another that writes now and then.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libc::{POLLIN, POLLNVAL, POLLOUT, pollfd};

use super::super::Barrier;
use super::super::connection::Bounds;
use super::super::kernel::{Errno, Fd, Kernel};
use super::super::layer::{Layer, Thread};
use super::memory::{INTERRUPT, Journal, Memory, Wire};

/// Length byte, QoS, number.
pub const MESSAGE_BYTES: usize = 6;

/// A message as the peer sends it.
pub fn message(number: u32, answered: bool) -> [u8; MESSAGE_BYTES] {
    let [a, b, c, d] = number.to_be_bytes();
    [5, u8::from(answered), a, b, c, d]
}

fn answer(number: u32) -> [u8; 5] {
    let [a, b, c, d] = number.to_be_bytes();
    [0xAA, a, b, c, d]
}

/// The numbers answered in a stream that has other packets, too (0xBB, length, that many bytes).
pub fn answers_in(stream: &[u8]) -> Vec<u32> {
    let (mut numbers, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        match stream[at] {
            0xAA => {
                let Some(number) = stream.get(at + 1..at + 5) else { break };
                numbers.push(u32::from_be_bytes(number.try_into().unwrap()));
                at += 5;
            }
            0xBB => at += 2 + usize::from(*stream.get(at + 1).unwrap_or(&0)),
            other => panic!("a packet begins with {other:x}"),
        }
    }
    numbers
}

/// One connection in the library's eyes.
struct Client {
    fd: Fd,
    journal: Arc<Journal>,
    /// Of a message that has not come whole yet.
    partial: Vec<u8>,
    /// What could not be written yet: packet by packet.
    unwritten: VecDeque<(Vec<u8>, Option<u64>)>,
    at_once: bool,
    handled: Vec<u32>,
}

pub struct World {
    pub layer: Box<Layer<Memory>>,
    pub journals: [Arc<Journal>; 2],
    receiver: Mutex<Thread>,
    sender: Mutex<Thread>,
    clients: Mutex<Vec<Client>>,
    /// Deferred, of those handled.
    pub deferred: Mutex<Vec<bool>>,
    _power: Arc<dyn Fn() + Send + Sync>,
}

impl World {
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new_cyclic(|world: &std::sync::Weak<Self>| {
            let of_kernel = world.clone();
            let power: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
                if let Some(world) = of_kernel.upgrade() {
                    world.kernel().step();
                }
            });
            let receiver = Thread::receiver();
            Self {
                layer: Box::new(Layer::new(Memory::new(), bounds)),
                journals: [Journal::new(Arc::downgrade(&power)), Journal::new(Arc::downgrade(&power))],
                receiver: Mutex::new(receiver),
                sender: Mutex::new(Thread::new()),
                clients: Mutex::default(),
                deferred: Mutex::default(),
                _power: power,
            }
        })
    }

    pub fn kernel(&self) -> &Memory {
        self.layer.kernel()
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A connection whose messages go to that journal.
    pub fn connect(&self, fd: Fd, journal: usize) {
        self.kernel().open(fd);
        let journal = Arc::clone(&self.journals[journal]);
        let (partial, unwritten) = (Vec::new(), VecDeque::new());
        self.clients().push(Client { fd, journal, partial, unwritten, at_once: false, handled: Vec::new() });
    }

    pub fn arrive(&self, fd: Fd, messages: impl IntoIterator<Item = (u32, bool)>) {
        for (number, answered) in messages {
            self.kernel().wire(fd, |wire| wire.arriving.extend_from_slice(&message(number, answered)));
        }
    }

    pub fn leave(&self, fd: Fd) {
        if let Ok(mut clients) = self.clients.try_lock() {
            clients.iter_mut().filter(|client| client.fd == fd).for_each(|client| client.at_once = true);
        }
    }

    pub fn handled(&self, fd: Fd) -> Vec<u32> {
        self.clients().iter().find(|client| client.fd == fd).expect("connected").handled.clone()
    }

    /// The other thread writes a packet.
    pub fn write_from_elsewhere(&self, fd: Fd, len: u8) {
        let mut packet = vec![0xBB, len];
        packet.resize(2 + usize::from(len), 0xCC);
        // While one thread is in the library, others wait: here they come another time.
        let Ok(mut clients) = self.clients.try_lock() else { return };
        let sender = self.sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(client) = clients.iter_mut().find(|client| client.fd == fd) else { return };
        // As the library does: nothing is written past what is still to be written.
        client.unwritten.push_back((packet, None));
        if client.unwritten.len() == 1 {
            self.write_on(&sender, client);
        }
    }

    /// Ends a connection from the other thread, and returns what the peer has seen.
    pub fn close(&self, fd: Fd) -> Option<Wire> {
        let mut clients = self.clients.try_lock().ok()?;
        let at = clients.iter().position(|client| client.fd == fd)?;
        clients.swap_remove(at);
        drop(clients);
        self.layer.shutdown(fd);
        Some(self.layer.close(fd, || self.kernel().close(fd)))
    }

    fn writev(&self, thread: &Thread, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        let parts = [IoSlice::new(&bytes[..1]), IoSlice::new(&bytes[1..])];
        let before = self.kernel().wire(fd, |wire| wire.written.len());
        // Noted first, as they may leave within the call.
        self.kernel().note_written(fd, bytes);
        let written = self.layer.writev(thread, fd, &parts).unwrap_or_else(|| {
            self.kernel().wire(fd, |wire| wire.sent.extend_from_slice(bytes));
            Ok(bytes.len())
        });
        let accepted = *written.as_ref().unwrap_or(&0);
        self.kernel().wire(fd, |wire| wire.written.truncate(before + accepted));
        written
    }

    /// Writes packet by packet, as far as that goes.
    fn write_on(&self, thread: &Thread, client: &mut Client) {
        while let Some((packet, seq)) = client.unwritten.front_mut() {
            if let Some(seq) = seq.take() {
                self.kernel().promise(client.fd, &client.journal, seq);
            }
            match self.writev(thread, client.fd, packet) {
                Ok(written) if written == packet.len() => drop(client.unwritten.pop_front()),
                Ok(written) => {
                    packet.drain(..written);
                    return;
                }
                Err(Errno(libc::EAGAIN)) => return,
                // The library closes a connection that breaks, sooner or later.
                Err(_) => return client.unwritten.clear(),
            }
        }
    }

    /// One round of the receiving thread; returns whether anything was read.
    pub fn step(&self) -> bool {
        let thread = self.receiver.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fds: Vec<Fd> = self.clients().iter().map(|client| client.fd).collect();
        let polled = |events| {
            fds.iter().chain([&INTERRUPT]).map(|fd| pollfd { fd: *fd, events, revents: 0 }).collect()
        };
        let mut write: Vec<pollfd> = polled(POLLOUT);
        self.layer.poll(&thread, &mut write, Some(Duration::ZERO)).unwrap();
        for one in write.iter().filter(|one| one.revents & POLLOUT != 0) {
            let mut clients = self.clients();
            if let Some(client) = clients.iter_mut().find(|client| client.fd == one.fd) {
                self.write_on(&thread, client);
            }
        }
        self.look_at_interrupt(&thread);
        let mut read: Vec<pollfd> = polled(POLLIN | POLLNVAL);
        self.layer.poll(&thread, &mut read, Some(Duration::from_millis(1))).unwrap();
        self.look_at_interrupt(&thread);
        let mut any = false;
        for (read, write) in read.iter().zip(&write) {
            if read.revents & POLLIN != 0 && write.revents & POLLOUT != 0 {
                any |= self.receive(&thread, read.fd);
            }
        }
        any
    }

    fn look_at_interrupt(&self, thread: &Thread) {
        if self.layer.recv(thread, INTERRUPT, &mut [MaybeUninit::uninit()]).is_none() {
            self.kernel().take_interrupt();
        }
    }

    fn recv(&self, thread: &Thread, fd: Fd, wanted: usize) -> Result<Vec<u8>, Errno> {
        let mut into = vec![MaybeUninit::uninit(); wanted];
        let Some(read) = self.layer.recv(thread, fd, &mut into) else {
            // A new connection, under the number of one that was closed while the poll was under way.
            let mut into = vec![0; wanted];
            let read = self.kernel().recv(fd, &mut into)?;
            into.truncate(read);
            return Ok(into);
        };
        // SAFETY: that many were written.
        Ok(into[..read?].iter().map(|byte| unsafe { byte.assume_init() }).collect())
    }

    /// One message, if it is whole: a byte for its length, then the rest.
    fn receive(&self, thread: &Thread, fd: Fd) -> bool {
        let mut clients = self.clients();
        let Some(client) = clients.iter_mut().find(|client| client.fd == fd) else { return false };
        if !client.unwritten.is_empty() {
            return false;
        }
        while client.partial.len() < MESSAGE_BYTES {
            let wanted = if client.partial.is_empty() { 1 } else { MESSAGE_BYTES - client.partial.len() };
            match self.recv(thread, fd, wanted) {
                Ok(bytes) if !bytes.is_empty() => client.partial.extend_from_slice(&bytes),
                _ => return false,
            }
        }
        let number = u32::from_be_bytes(client.partial[2..6].try_into().unwrap());
        let answered = client.partial[1] == 1;
        client.partial.clear();
        let _seen = self.layer.begin_message(thread, answered, client.at_once);
        let seq = client.journal.append(number);
        let barrier: Arc<dyn Barrier> = Arc::<Journal>::clone(&client.journal);
        let deferred = self.layer.defer(thread, &barrier, seq);
        if !deferred {
            client.journal.pass(seq);
        }
        self.deferred.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(deferred);
        client.handled.push(number);
        if answered {
            client.unwritten.push_back((answer(number).to_vec(), Some(seq)));
            self.write_on(thread, client);
        }
        true
    }

    /// Until there is nothing more to do.
    pub fn run(&self) {
        while self.step() {}
        // What the last round gathered leaves.
        self.step();
    }
}
