//! Between the client library and the sockets of its connections: buffers what the library reads, and holds
//! back its acknowledgements until what they promise is true.
//!
//! The library makes about nine system calls per message: it polls twice, reads a message in three or four
//! pieces, and writes each acknowledgement alone. `build.rs` has the linker (`--wrap`) redirect the calls of
//! `recv`, `poll`, `writev`, `shutdown`, `close` and `SSL_set_fd` to [`interpose`]. On the library's one
//! receive thread, a connection is read 64 KiB at a time, and what the thread writes is gathered. The
//! gathered bytes leave in one piece, when the thread has nothing more to read or the group is at its bound.
//! Before they leave, this layer waits once for everything that the group depends on ([`Barrier`]). So one
//! fdatasync serves all messages that arrived together: the message handler calls [`defer`] instead of
//! waiting.
//!
//! This module knows sockets, not MQTT. Calls of any other thread, and on any other descriptor, pass through;
//! the standard library and everything else that is linked statically comes here, too.
//!
//! Invariants
//! - **SOCK-1** The bytes of a connection leave once, in the order in which the library wrote them, whichever
//!   thread wrote them.
//! - **SOCK-2** A gathered byte leaves only after every barrier that its connection depended on when the byte
//!   was written.
//! - **SOCK-3** [`defer`] is refused unless the way out has proven itself: the message came in through this
//!   layer, on this thread and connection, and the acknowledgement before it was gathered here. After a
//!   refusal the caller waits for its barrier itself.
//! - **SOCK-4** A connection is read ahead only if the thread that reads it also polls it here. Otherwise
//!   that thread would wait for bytes that are already in the buffer.
//! - **SOCK-5** A connection is forgotten in the same step in which its descriptor is closed: the next
//!   descriptor of that number is another connection.
//! - **SOCK-6** A group is bounded in messages, bytes and time ([`connection::Bounds`]). While the kernel
//!   takes no more bytes of a connection, nothing more is served from its buffer.
//!
//! On failure: a version of the library that makes other calls bypasses this layer. Nothing is buffered then,
//! each [`defer`] is refused, and [`begin_message`] returns `false`. The same holds for a program that is
//! linked without the flags (fuzz targets, other crates) and for systems other than 64-bit Linux with glibc.
//! A connection that breaks takes its gathered bytes with it; the broker delivers those messages again.
//!
//! Where a call passes through, the system call is made here, without `__real_…`, so that a program without
//! the flags still links.

#[cfg(socket_layer)]
mod barrier;
#[cfg(socket_layer)]
mod connection;
#[cfg(socket_layer)]
mod interpose;
#[cfg(socket_layer)]
mod kernel;
#[cfg(socket_layer)]
mod layer;
#[cfg(all(test, socket_layer))]
mod tests;
#[cfg(socket_layer)]
mod tls;

#[cfg(not(socket_layer))]
#[path = "absent.rs"]
mod interpose;

use std::sync::Arc;

/// A condition that must hold before an acknowledgement leaves, such as "every record up to here is durable".
pub trait Barrier: Send + Sync {
    /// Returns once everything up to `upto` is safe, and never otherwise: what depends on it is sent
    /// next. Any thread may call it, also for what is safe already.
    fn pass(&self, upto: u64);
}

/// System calls that this layer has made on the library's connections since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Reads.
    pub recv: u64,
    /// Waits, and checks whether there is something to read.
    pub poll: u64,
    /// Writes.
    pub send: u64,
    /// Requests for an immediate TCP acknowledgement.
    pub quickack: u64,
}

impl Calls {
    /// Returns each count with the name of the call.
    #[must_use]
    pub fn by_name(self) -> [(&'static str, u64); 4] {
        [("recv", self.recv), ("poll", self.poll), ("send", self.send), ("quickack", self.quickack)]
    }
}

/// Notes that this thread is about to handle a message. The library will acknowledge it if it is
/// `acknowledged`. `at_once` ends gathering on the message's connection for good: from then on, what is
/// written leaves in the same call.
///
/// Returns whether this layer sees the message's connection.
#[must_use]
pub fn begin_message(acknowledged: bool, at_once: bool) -> bool {
    interpose::begin_message(acknowledged, at_once)
}

/// Makes everything that this thread writes to the current message's connection from now on wait until
/// `barrier` is passed up to `upto`. Returns `false` if that cannot be promised (SOCK-3): the caller must
/// pass the barrier itself, now.
#[must_use]
pub fn defer(barrier: &Arc<dyn Barrier>, upto: u64) -> bool {
    interpose::defer(barrier, upto)
}

/// Returns the number of system calls made so far.
#[must_use]
pub fn calls() -> Calls {
    interpose::calls()
}
