//! Everything that knows the client library (paho): one connection to one broker.
//!
//! The rest of Andon sees [`link::Link`], its [`options`], its [`error`]s, and messages as [`raw_callback::Incoming`].

mod client_thread;
mod connected_flag;
mod connecting;
pub mod error;
mod inflight;
pub mod link;
pub mod options;
pub mod raw_callback;

pub(super) use self::connected_flag::LinkEnd;
pub(super) use self::inflight::Delivery;
