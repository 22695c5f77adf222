//! A fleet of realistic machines that publishes to a broker, for demonstrations and tests.
//!
//! [`Fleet`] is pure: given a seed and the instants it is asked at, it always says the same. [`run`] publishes what
//! the fleet says, in real time, keeps at most [`IN_FLIGHT_MAX`] messages unacknowledged, and after a lost connection
//! sends again what was not acknowledged. While the broker is away the machines go on and hold their messages, as
//! devices with a memory do; when it is back they are published, with the timestamps they were measured at.
//!
//! With faults, the last machines of the fleet have one each ([`Fault`]), as far as there are machines; the first
//! machine is always healthy.

mod faults;
mod fleet;
mod machine;
mod publisher;

pub use faults::{Fault, FaultCounts};
pub use fleet::{Fleet, MACHINE_PLACEHOLDER, Outgoing};
pub use publisher::{IN_FLIGHT_MAX, SimulateError, SimulateOptions, SimulateReport, run};
