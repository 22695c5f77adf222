//! Checks the way to a broker without the client library, step by step. Shared by the actor and `andon config
//! check --connect`.

pub mod certificates;
pub mod echo_probe;
pub mod probe;
pub mod tls_diagnosis;
