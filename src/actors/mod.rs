//! The actors, in the order the data flows: [`mqtt`] → journal → [`parser`] → [`writer`], with [`liveness`] beside
//! them and the [`supervisor`] over them. Each runs on a thread of its own.

pub mod backoff;
pub(crate) mod failpoint;
pub mod liveness;
pub mod mqtt;
pub mod parser;
pub mod stable_addr;
pub mod supervisor;
pub mod writer;
