//! `/api/v1/…`: what other programs read.

mod csv;
pub mod events;
pub mod machines;
pub mod model;
pub mod openapi;
pub mod readings;
pub mod status;
pub mod summary;
mod words;

use crate::domain::MachineId;

use super::problem::Problem;

/// Nobody has heard of that machine.
fn problem_of_machine(machine_id: &MachineId) -> Problem {
    Problem::not_found(format!("there is no machine {:?}", machine_id.as_str()))
}
