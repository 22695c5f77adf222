//! What the layer needs of the kernel: the calls themselves, and a stand-in for tests.

use std::io::IoSlice;
use std::os::raw::{c_int, c_long, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libc::pollfd;

use super::Calls;

pub(super) type Fd = c_int;

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Errno(pub c_int);

impl Errno {
    /// Of this thread's newest failed call.
    pub(super) fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }
}

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A TCP connection.
    Connection,
    /// One end of an unnamed pair: the library wakes its own poll with it.
    Interrupt,
    /// Anything else.
    Foreign,
}

/// All of it returns at once, but [`Kernel::poll`].
pub(super) trait Kernel {
    fn recv(&self, fd: Fd, into: &mut [u8]) -> Result<usize, Errno>;
    fn send(&self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno>;
    fn writev(&self, fd: Fd, parts: &[IoSlice<'_>]) -> Result<usize, Errno>;
    /// `None` waits without end.
    fn poll(&self, polled: &mut [pollfd], wait: Option<Duration>) -> Result<usize, Errno>;
    /// `None` while it cannot be told (it is connecting).
    fn kind(&self, fd: Fd) -> Option<Kind>;
    /// Has what was received acknowledged at once.
    fn acknowledge(&self, fd: Fd);
    fn now(&self) -> Instant;
}

/// The real one. It counts.
#[derive(Default)]
pub(super) struct Linux {
    recv: AtomicU64,
    poll: AtomicU64,
    send: AtomicU64,
    acknowledge: AtomicU64,
}

impl Linux {
    pub(super) const fn new() -> Self {
        Self {
            recv: AtomicU64::new(0),
            poll: AtomicU64::new(0),
            send: AtomicU64::new(0),
            acknowledge: AtomicU64::new(0),
        }
    }

    pub(super) fn calls(&self) -> Calls {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Calls {
            recv: of(&self.recv),
            poll: of(&self.poll),
            send: of(&self.send),
            quickack: of(&self.acknowledge),
        }
    }

    pub(super) fn count_recv(&self) {
        self.recv.fetch_add(1, Ordering::Relaxed);
    }
}

impl Kernel for Linux {
    fn recv(&self, fd: Fd, into: &mut [u8]) -> Result<usize, Errno> {
        self.count_recv();
        // SAFETY: the slice is ours for the call.
        result(unsafe { recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) })
    }

    fn send(&self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        self.send.fetch_add(1, Ordering::Relaxed);
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        let nowhere = ptr::null::<c_void>();
        // SAFETY: the slice lives as long as the call; a connected socket wants no address.
        result(unsafe {
            libc::syscall(libc::SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, nowhere, 0usize)
        })
    }

    fn writev(&self, fd: Fd, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.send.fetch_add(1, Ordering::Relaxed);
        let count = c_int::try_from(parts.len()).unwrap_or(c_int::MAX);
        // SAFETY: `IoSlice` is an `iovec`, and the slices live as long as the call.
        result(unsafe { writev(fd, parts.as_ptr().cast(), count) })
    }

    fn poll(&self, polled: &mut [pollfd], wait: Option<Duration>) -> Result<usize, Errno> {
        self.poll.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the slice is ours for the call.
        result(unsafe { poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, wait) })
    }

    fn kind(&self, fd: Fd) -> Option<Kind> {
        // SAFETY: all zeros is an address.
        let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes of it.
        let named = unsafe { libc::getpeername(fd, (&raw mut address).cast(), &raw mut len) } == 0;
        if !named {
            // Not connected yet, or closed meanwhile: the number may still become a connection.
            return (Errno::last() == Errno(libc::ENOTSOCK)).then_some(Kind::Foreign);
        }
        // Only the family of an address without a name.
        let unnamed = len as usize <= size_of::<libc::sa_family_t>();
        match c_int::from(address.ss_family) {
            libc::AF_INET | libc::AF_INET6 => Some(Kind::Connection),
            libc::AF_UNIX if unnamed => Some(Kind::Interrupt),
            _ => Some(Kind::Foreign),
        }
    }

    fn acknowledge(&self, fd: Fd) {
        self.acknowledge.fetch_add(1, Ordering::Relaxed);
        let on: c_int = 1;
        let len = size_of_val(&on) as libc::socklen_t;
        // SAFETY: the option is an int. If it cannot be set, acknowledgements are late, as without it.
        unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_QUICKACK, (&raw const on).cast(), len) };
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

fn result(returned: c_long) -> Result<usize, Errno> {
    usize::try_from(returned).map_err(|_| Errno::last())
}

/// # Safety
/// As `recv`.
pub(super) unsafe fn recv(fd: Fd, into: *mut c_void, len: usize, flags: c_int) -> c_long {
    let nowhere = ptr::null::<c_void>();
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_recvfrom, fd, into, len, flags, nowhere, nowhere) }
}

/// # Safety
/// As `writev`.
pub(super) unsafe fn writev(fd: Fd, parts: *const libc::iovec, count: c_int) -> c_long {
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_writev, fd, parts, count) }
}

/// # Safety
/// As `poll`; `None` waits without end.
pub(super) unsafe fn poll(polled: *mut pollfd, count: libc::nfds_t, wait: Option<Duration>) -> c_long {
    let wait = wait.map(|wait| libc::timespec {
        tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    });
    let wait = wait.as_ref().map_or(ptr::null(), ptr::from_ref);
    let no_mask = ptr::null::<c_void>();
    // SAFETY: the caller's; `ppoll` without a signal mask is `poll`, and exists on every architecture.
    unsafe { libc::syscall(libc::SYS_ppoll, polled, count, wait, no_mask, 0usize) }
}
