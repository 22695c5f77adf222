//! The functions that the linker puts in place of libc's and OpenSSL's, in the whole program (`--wrap`,
//! see `build.rs`).
//!
//! # Safety
//! - Each is called as the function it stands for, with the same arguments, and keeps to its contract:
//!   the same result, and `errno` if it failed. What does not concern the layer is the plain system call.
//! - Any thread may call them at any time, also while it ends: the thread's state has no destructor.
//! - A panic does not cross into C. It aborts the process at the edge of these functions: nothing that
//!   was gathered leaves.
//! - None allocates or locks for a descriptor that the layer does not know, so that a child between
//!   `fork` and `exec` can close files.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::raw::{c_int, c_void};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use libc::{iovec, nfds_t, pollfd};

use super::connection::Bounds;
use super::kernel::{self, Errno, Fd, Kind, Linux};
use super::layer::{Layer, Thread};
use super::{Barrier, Calls};

static LAYER: Layer<Linux> = Layer::new(Linux::new(), Bounds::DEFAULT);

thread_local! {
    static THREAD: Thread = const { Thread::new() };
}

/// The name of the library's receive thread (paho C 1.3.16, `MQTTAsync_receiveThread`). If a later version
/// names it differently, this layer sees no connection, and Andon logs a warning.
const RECEIVE_THREAD: &[u8; 14] = b"MQTTAsync_rcv\0";

/// Whether the calling thread is that one.
fn is_named_so() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: the kernel writes 16 bytes at most.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) == 0 && name.starts_with(RECEIVE_THREAD) }
}

pub(super) fn begin_message(answered: bool, at_once: bool) -> bool {
    THREAD.with(|thread| LAYER.begin_message(thread, answered, at_once))
}

pub(super) fn defer(barrier: &Arc<dyn Barrier>, upto: u64) -> bool {
    THREAD.with(|thread| LAYER.defer(thread, barrier, upto))
}

pub(super) fn calls() -> Calls {
    LAYER.kernel().calls()
}

/// As C returns it.
fn returned(result: Result<usize, Errno>) -> isize {
    match result {
        Ok(done) => isize::try_from(done).unwrap_or(isize::MAX),
        Err(Errno(errno)) => {
            // SAFETY: this thread's own.
            unsafe { *libc::__errno_location() = errno };
            -1
        }
    }
}

/// # Safety
/// As `recv`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __wrap_recv(fd: Fd, into: *mut c_void, len: usize, flags: c_int) -> isize {
    let kind = LAYER.kind(fd);
    THREAD.with(|thread| {
        let concerns = match kind {
            Some(Kind::Connection) => true,
            Some(Kind::Interrupt) => thread.receives(),
            _ => {
                thread.reads_elsewhere();
                false
            }
        };
        if concerns && flags == 0 && len > 0 {
            // SAFETY: the caller lends these bytes for writing.
            let into = unsafe { slice::from_raw_parts_mut(into.cast::<MaybeUninit<u8>>(), len) };
            if let Some(read) = LAYER.recv(thread, fd, into) {
                return returned(read);
            }
        }
        if thread.receives() {
            LAYER.kernel().count_recv();
        }
        // SAFETY: the caller's.
        unsafe { kernel::recv(fd, into, len, flags) as isize }
    })
}

/// # Safety
/// As `poll`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_poll(polled: *mut pollfd, count: nfds_t, wait: c_int) -> c_int {
    let wait = u64::try_from(wait).ok().map(Duration::from_millis);
    THREAD.with(|thread| {
        if !thread.is_receiver(is_named_so) || count == 0 {
            // SAFETY: the caller's.
            return unsafe { kernel::poll(polled, count, wait) as c_int };
        }
        // SAFETY: the caller lends `count` of them.
        let polled = unsafe { slice::from_raw_parts_mut(polled, count as usize) };
        returned(LAYER.poll(thread, polled, wait)) as c_int
    })
}

/// The library writes five parts at most; for more of them there is an allocation.
const FEW: usize = 8;

/// # Safety
/// As `writev`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __wrap_writev(fd: Fd, parts: *const iovec, count: c_int) -> isize {
    if LAYER.kind(fd) == Some(Kind::Connection)
        && let Ok(count @ 1..) = usize::try_from(count)
    {
        let (mut few, mut many) = ([IoSlice::new(&[]); FEW], Vec::new());
        let slices = if count <= FEW {
            &mut few[..count]
        } else {
            many.resize(count, IoSlice::new(&[]));
            &mut many[..]
        };
        // SAFETY: the caller lends `count` of them.
        let parts = unsafe { slice::from_raw_parts(parts, count) };
        // An empty one may be null, which no slice is.
        for (slice, part) in slices.iter_mut().zip(parts).filter(|(_, part)| part.iov_len > 0) {
            // SAFETY: the caller lends these bytes.
            *slice = IoSlice::new(unsafe { slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len) });
        }
        if let Some(written) = THREAD.with(|thread| LAYER.writev(thread, fd, slices)) {
            return returned(written);
        }
    }
    // SAFETY: the caller's.
    unsafe { kernel::writev(fd, parts, count) as isize }
}

/// # Safety
/// As `shutdown`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_shutdown(fd: Fd, how: c_int) -> c_int {
    if LAYER.kind(fd) == Some(Kind::Connection) {
        LAYER.shutdown(fd);
    }
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_shutdown, fd, how) as c_int }
}

/// # Safety
/// As `close`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_close(fd: Fd) -> c_int {
    // SAFETY: the caller's.
    let close = || unsafe { libc::syscall(libc::SYS_close, fd) as c_int };
    if LAYER.kind(fd).is_some() { LAYER.close(fd, close) } else { close() }
}
