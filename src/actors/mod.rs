//! The actors, in the order the data flows: [`mqtt`] → journal → [`parser`] → [`writer`], with [`liveness`]
//! beside them and the [`supervisor`] above them. Each runs on its own thread.
//!
//! What an actor receives stands in its `messages.rs`; another actor imports nothing else of it.

pub mod backoff;
pub(crate) mod failpoint;
pub mod liveness;
pub mod mqtt;
pub mod parser;
pub mod stable_addr;
pub mod supervisor;
pub mod writer;
