//! Between the bundled client library and the sockets of its connections: reads are buffered, and answers are gathered until
//! what they promise is true.
//!
//! The library makes about nine system calls a message: it polls twice, reads a message in three or four pieces, and writes
//! its answer alone. `build.rs` has the linker lead its calls of `recv`, `poll`, `writev`, `shutdown`, `close` and
//! `SSL_set_fd` here (`--wrap`). On the library's one thread that receives a connection is then read ahead, 64 KiB at a
//! time, and what the thread writes is gathered. It leaves in one piece when the thread has nothing more to read, or when the
//! group is at its bound; before that, everything that the group depends on is waited for, once ([`Barrier`]). A message
//! handler that cannot wait cheaply for each message (one fdatasync each, say) leaves that to the group with [`defer`].
//!
//! This module knows sockets, not what is said over them. Every other thread and descriptor of the program passes through:
//! the standard library, and everything else that is linked statically, comes here too.
//!
//! # Invariants
//! - **S1** The bytes of a connection leave in the order in which the library wrote them, whichever thread did, and each once.
//! - **S2** A gathered byte leaves only after every barrier that its connection waited for when it was written.
//! - **S3** [`defer`] is refused unless the way out has proven itself: the message came in through this layer, on this thread
//!   and connection, and the answer to the one before it was gathered here. Then the caller waits for its barrier itself.
//! - **S4** A connection is read ahead only if the thread that reads it also polls it here: otherwise it would wait for bytes
//!   that are already in the buffer.
//! - **S5** A connection is forgotten when its descriptor is closed, in one step: a descriptor of the same number is another.
//! - **S6** A group is bounded in messages, bytes and time ([`connection::Bounds`]), and while a connection takes no more bytes,
//!   nothing more of it is served from its buffer.
//!
//! # What happens on failure
//! A library that uses other calls goes round this layer: nothing is buffered, every [`defer`] is refused, [`begin_message`]
//! returns `false`. The same in a program that is linked without the flags (fuzz targets, other crates) and on other systems
//! than 64-bit Linux with glibc. A connection that breaks takes its gathered bytes with it; those messages are delivered again.
//!
//! No `__real_…`: where a call passes through, the system call is made here, so that a program links without the flags.

#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod barrier;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod connection;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod interpose;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod kernel;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod layer;
#[cfg(all(test, target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod tests;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod tls;

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")))]
#[path = "absent.rs"]
mod interpose;

use std::sync::Arc;

/// Something that has to be true before an answer leaves, such as "everything up to here is on the disk".
pub trait Barrier: Send + Sync {
    /// Returns once everything up to `upto` is safe, and never otherwise: what waits for it is sent next. May be called again for what
    /// is safe already, and from several threads.
    fn pass(&self, upto: u64);
}

/// System calls that this layer has made on connections of the library since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Reads.
    pub recv: u64,
    /// Waits, and looks whether there is something to read.
    pub poll: u64,
    /// Writes.
    pub send: u64,
    /// TCP acknowledgements asked for.
    pub acknowledge: u64,
}

impl Calls {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.recv + self.poll + self.send + self.acknowledge
    }
}

/// A message is about to be handled on this thread; the library will write an answer to it if it is `answered`. `at_once`
/// ends gathering on its connection for good: what is written there leaves in the same call.
///
/// Returns whether this layer sees the message's connection.
#[must_use]
pub fn begin_message(answered: bool, at_once: bool) -> bool {
    interpose::begin_message(answered, at_once)
}

/// Has everything that this thread writes from now on to the present message's connection wait until `barrier` is passed up to
/// `upto`. Returns `false` if that cannot be promised (S3): then the caller has to pass the barrier itself, now.
#[must_use]
pub fn defer(barrier: &Arc<dyn Barrier>, upto: u64) -> bool {
    interpose::defer(barrier, upto)
}

/// How many system calls were made.
#[must_use]
pub fn calls() -> Calls {
    interpose::calls()
}
