//! Looks at the way to a broker on our own, step by step. The actor and `andon config check --connect` share these checks.

pub mod certificates;
pub mod echo_probe;
pub mod probe;
pub mod tls_diagnosis;
