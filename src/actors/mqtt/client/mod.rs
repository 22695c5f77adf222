//! Everything that knows the client library (paho): one connection to one broker.
//!
//! The rest of Andon sees [`link::Link`], its [`options`], its [`error`]s, and messages as
//! [`raw_callback::Incoming`]. What the library does wrong is explained, and worked around, only here:
//!
//! - it takes one lock for everything, and its receive thread holds that lock while a message is in our
//!   callback: `client_thread`;
//! - a thread of its own must not drop the last handle of a client (PAHO-2), and a client that was connecting
//!   or holds a freed message must not be destroyed (PAHO-1, PAHO-3): [`link`] and `inflight`;
//! - it makes nine system calls per message, and acknowledges each message alone: [`socket_layer`];
//! - its Rust wrapper aborts on a topic that is not UTF-8: [`raw_callback`];
//! - it names no reason for a failed TLS handshake or proxy: `connecting`.

mod client_thread;
mod connected_flag;
mod connecting;
pub mod error;
mod inflight;
pub mod link;
pub mod options;
pub mod raw_callback;
pub mod socket_layer;

pub(super) use self::connected_flag::LinkEnd;
pub(super) use self::inflight::Delivery;
