//! A fleet of realistic machines that publishes to a broker, for demonstrations and tests.
//!
//! [`Fleet`] is pure: the same seed and the same instants always produce the same messages. [`run`] publishes them in real
//! time, keeps at most [`IN_FLIGHT_MAX`] messages unacknowledged, and publishes unacknowledged ones again after a lost
//! connection. While the broker is away the machines go on measuring and keep their messages, as devices with memory do;
//! later they publish them with the original timestamps.
//!
//! With faults, each of the last machines of the fleet has one ([`Fault`]); the first machine is always healthy.

mod faults;
mod fleet;
mod machine;
mod publisher;

pub use faults::{Fault, FaultCounts};
pub use fleet::{Fleet, MACHINE_PLACEHOLDER, Outgoing};
pub use machine::machine_name;
pub use publisher::{IN_FLIGHT_MAX, SimulateError, SimulateOptions, SimulateReport, run};
