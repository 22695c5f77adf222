//! Real sockets, and real threads.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use libc::{POLLIN, pollfd};

use super::super::Barrier;
use super::super::connection::{Bounds, READ_BYTES};
use super::super::kernel::{Errno, Fd, Kernel, Kind, Linux};
use super::super::layer::{Layer, Thread};

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, listener.accept().unwrap().0)
}

fn polled(fd: Fd, events: i16) -> [pollfd; 1] {
    [pollfd { fd, events, revents: 0 }]
}

fn bytes_in_kernel(fd: Fd) -> i32 {
    let mut bytes = 0;
    // SAFETY: the question wants an int.
    assert_eq!(unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut bytes) }, 0);
    bytes
}

#[test]
fn descriptors_are_told_apart() {
    let (tcp, _peer) = pair();
    let (one, _other) = UnixStream::pair().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let named = UnixStream::connect(&path).unwrap();
    let file = std::fs::File::open(directory.path()).unwrap();
    let kernel = Linux::new();
    assert_eq!(kernel.kind(tcp.as_raw_fd()), Some(Kind::Connection));
    assert_eq!(kernel.kind(one.as_raw_fd()), Some(Kind::Interrupt));
    assert_eq!(kernel.kind(named.as_raw_fd()), Some(Kind::Foreign));
    assert_eq!(kernel.kind(file.as_raw_fd()), Some(Kind::Foreign));
    assert_eq!(kernel.kind(listener.as_raw_fd()), None, "it may still become a connection");
    assert_eq!(kernel.kind(-1), None);
}

/// This test binary is linked with the flags of `build.rs`: libc's functions are ours.
#[test]
fn the_linker_leads_calls_here() {
    let (ours, mut peer) = pair();
    let fd = ours.as_raw_fd();
    peer.write_all(&[7; 1000]).unwrap();
    let library = thread::Builder::new().name("MQTTAsync_rcv".to_owned());
    let library = library.spawn(move || {
        let before = super::super::calls();
        let mut ready = polled(fd, POLLIN);
        // SAFETY: one of them.
        assert_eq!(unsafe { libc::poll(ready.as_mut_ptr(), 1, 5000) }, 1);
        let mut byte = 0u8;
        // SAFETY: one byte.
        assert_eq!(unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, 0) }, 1);
        assert_eq!((byte, bytes_in_kernel(fd)), (7, 0), "read ahead");
        let calls = super::super::calls();
        assert!(calls.poll > before.poll && calls.recv > before.recv);
        assert!(super::super::begin_message(true, false));
        // The standard library's calls come here as well, and are answered from the same buffer.
        let mut rest = vec![0; 2000];
        assert_eq!((&ours).read(&mut rest).unwrap(), 999);
        let answer = [IoSlice::new(b"ab"), IoSlice::new(b"c")];
        assert_eq!((&ours).write_vectored(&answer).unwrap(), 3);
        // The library's DISCONNECT has a second part that is null.
        let null = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; 2];
        // SAFETY: two of them, both empty.
        assert_eq!(unsafe { libc::writev(fd, null.as_ptr(), 2) }, 0);
        peer.set_nonblocking(true).unwrap();
        assert_eq!(peer.read(&mut rest).unwrap_err().kind(), ErrorKind::WouldBlock, "gathered");
        drop(ours);
        peer.set_nonblocking(false).unwrap();
        assert_eq!(peer.read(&mut rest).unwrap(), 3, "leaves before the end");
        // Under the same number, most likely, and in any case nothing of the old one.
        let (again, mut peer) = pair();
        peer.write_all(b"new").unwrap();
        again.set_nonblocking(false).unwrap();
        assert_eq!((&again).read(&mut rest).unwrap(), 3);
        assert_eq!(&rest[..3], b"new");
    });
    library.unwrap().join().unwrap();
}

#[test]
fn a_read_that_wants_more_than_was_read_ahead_gets_what_the_kernel_has_too() {
    let (ours, mut peer) = pair();
    let fd = ours.as_raw_fd();
    let layer = Box::new(Layer::new(Linux::new(), Bounds::DEFAULT));
    let thread = Thread::receiver();
    let sent: Vec<u8> = (0..READ_BYTES + 1000).map(|at| (at % 251) as u8).collect();
    peer.write_all(&sent).unwrap();
    while usize::try_from(bytes_in_kernel(fd)).unwrap() < sent.len() {
        thread::yield_now();
    }
    layer.poll(&thread, &mut polled(fd, POLLIN), None).unwrap();
    let mut got = vec![MaybeUninit::uninit(); sent.len()];
    assert_eq!(layer.recv(&thread, fd, &mut got[..1]), Some(Ok(1)));
    assert_eq!(layer.recv(&thread, fd, &mut got[1..]), Some(Ok(sent.len() - 1)));
    // SAFETY: all of it was read.
    assert!(got.iter().zip(&sent).all(|(got, sent)| unsafe { got.assume_init() } == *sent));
    assert_eq!(layer.recv(&thread, fd, &mut got[..1]), Some(Err(Errno(libc::EAGAIN))));
    assert_eq!(layer.kernel().calls().recv, 3);
}

/// Passes one after the other, each a little late.
#[derive(Default)]
struct Slow {
    passed: AtomicU64,
    passes: AtomicU64,
}

impl Barrier for Slow {
    fn pass(&self, upto: u64) {
        if self.passed.load(Ordering::Acquire) < upto {
            thread::sleep(Duration::from_micros(200));
            self.passes.fetch_add(1, Ordering::Relaxed);
            self.passed.fetch_max(upto, Ordering::AcqRel);
        }
    }
}

fn small_buffers(stream: &TcpStream) {
    let bytes: i32 = 16 * 1024;
    for option in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
        // SAFETY: the option is an int.
        let set = unsafe {
            libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const bytes).cast(), 4)
        };
        assert_eq!(set, 0);
    }
}

const MESSAGES: u32 = 20_000;

/// One connection that two threads use, as the library has them: one at a time, but not while they poll.
struct Shared {
    layer: Layer<Linux>,
    fd: Fd,
    library: Mutex<()>,
    slow: Arc<Slow>,
    done: AtomicBool,
}

/// Lets the others end, whatever happens to the one who holds it.
struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Release);
    }
}

impl Shared {
    fn write(&self, thread: &Thread, packet: &[u8]) {
        let mut written = 0;
        while written < packet.len() && !self.done.load(Ordering::Acquire) {
            match self.layer.writev(thread, self.fd, &[IoSlice::new(&packet[written..])]) {
                Some(Ok(taken)) => written += taken,
                Some(Err(Errno(libc::EAGAIN))) => thread::yield_now(),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads numbers, four bytes each, and answers each.
    fn receive(&self) {
        let _ends = Ends(self);
        let thread = Thread::receiver();
        let barrier: Arc<dyn Barrier> = Arc::<Slow>::clone(&self.slow);
        let mut partial = Vec::new();
        let mut expected = 1;
        while !self.done.load(Ordering::Acquire) {
            let mut ready = polled(self.fd, POLLIN);
            self.layer.poll(&thread, &mut ready, Some(Duration::from_millis(20))).unwrap();
            if ready[0].revents == 0 {
                continue;
            }
            let _library = self.library.lock().unwrap();
            let mut into = [MaybeUninit::uninit(); 4];
            let Some(Ok(read)) = self.layer.recv(&thread, self.fd, &mut into[partial.len()..]) else {
                continue;
            };
            // SAFETY: that many were written.
            partial.extend(into[partial.len()..][..read].iter().map(|byte| unsafe { byte.assume_init() }));
            let Ok(number) = <[u8; 4]>::try_from(&partial[..]) else { continue };
            assert_eq!(u32::from_be_bytes(number), expected);
            partial.clear();
            assert!(self.layer.begin_message(&thread, true, false));
            if !self.layer.defer(&thread, &barrier, expected.into()) {
                barrier.pass(expected.into());
            }
            self.write(&thread, &[&[0xAA], &number[..]].concat());
            expected += 1;
        }
    }

    /// Writes packets of its own now and then.
    fn write_now_and_then(&self) {
        let thread = Thread::new();
        let packet = [&[0xBB, 200][..], &[0xCC; 200]].concat();
        while !self.done.load(Ordering::Acquire) {
            if self.layer.kind(self.fd).is_some() {
                let _library = self.library.lock().unwrap();
                self.write(&thread, &packet);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Takes whole packets off the front; every answer is the next one, and its barrier has been passed.
fn judge(pending: &mut Vec<u8>, expected: &mut u32, others: &mut u32, slow: &Slow) {
    let mut at = 0;
    loop {
        match pending.get(at..) {
            Some([0xAA, number @ ..]) if number.len() >= 4 => {
                assert_eq!(number[..4], expected.to_be_bytes());
                assert!(slow.passed.load(Ordering::Acquire) >= (*expected).into(), "{expected} is not safe");
                *expected += 1;
                at += 5;
            }
            Some([0xBB, 200, rest @ ..]) if rest.len() >= 200 => {
                assert!(rest[..200].iter().all(|byte| *byte == 0xCC), "something is within a packet");
                *others += 1;
                at += 202;
            }
            Some([0xAA | 0xBB, ..] | []) => break,
            other => panic!("a packet begins with {:?}", other.and_then(<[u8]>::first)),
        }
    }
    pending.drain(..at);
}

/// A receiving thread that answers messages, another that writes packets of its own, and a peer that
/// reads through small buffers.
/// Proves SOCK-1.
#[test]
fn two_threads_share_a_connection_through_partial_sends() {
    let (ours, mut peer) = pair();
    small_buffers(&ours);
    small_buffers(&peer);
    let shared = Shared {
        layer: Layer::new(Linux::new(), Bounds::DEFAULT),
        fd: ours.as_raw_fd(),
        library: Mutex::new(()),
        slow: Arc::default(),
        done: AtomicBool::new(false),
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut publisher = peer.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let all: Vec<u8> = (1..=MESSAGES).flat_map(u32::to_be_bytes).collect();
            publisher.write_all(&all).unwrap();
        });
        scope.spawn(|| shared.receive());
        scope.spawn(|| shared.write_now_and_then());
        let _ends = Ends(&shared);
        let (mut expected, mut others, mut pending, mut chunk) = (1, 0, Vec::new(), [0; 3000]);
        while expected <= MESSAGES {
            assert!(Instant::now() < deadline, "{expected} of {MESSAGES}");
            let got = peer.read(&mut chunk).unwrap();
            pending.extend_from_slice(&chunk[..got]);
            judge(&mut pending, &mut expected, &mut others, &shared.slow);
        }
        assert!(others > 0);
    });
    let passes = shared.slow.passes.load(Ordering::Relaxed);
    assert!(passes < u64::from(MESSAGES) / 4, "{passes} barriers for {MESSAGES} messages");
}

/// The peer of a half-open connection is gone: the write fails, and the library learns of it.
#[test]
fn a_reset_connection_fails_the_next_write() {
    let (ours, mut peer) = pair();
    let fd = ours.as_raw_fd();
    let layer = Box::new(Layer::new(Linux::new(), Bounds::DEFAULT));
    let thread = Thread::receiver();
    layer.poll(&thread, &mut polled(fd, POLLIN), Some(Duration::ZERO)).unwrap();
    peer.write_all(b"x").unwrap();
    assert_eq!(layer.writev(&thread, fd, &[IoSlice::new(b"first")]), Some(Ok(5)));
    // Closed with bytes unread: the kernel resets the connection.
    layer.poll(&thread, &mut polled(fd, POLLIN), Some(Duration::ZERO)).unwrap();
    drop(peer);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let written = layer.writev(&thread, fd, &[IoSlice::new(b"more")]);
        if let Some(Err(error)) = written {
            assert!(matches!(error, Errno(libc::EPIPE | libc::ECONNRESET)), "{error:?}");
            break;
        }
        assert!(Instant::now() < deadline);
        layer.poll(&thread, &mut polled(fd, POLLIN), Some(Duration::from_millis(10))).unwrap();
    }
}
