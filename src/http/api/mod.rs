//! `/api/v1/…`: the API for programs.

mod csv;
pub mod events;
pub mod forget;
pub mod machines;
pub mod model;
pub mod openapi;
pub mod readings;
pub mod status;
pub mod summary;
mod texts;
mod words;

use crate::domain::MachineId;

use super::problem::Problem;

/// Returns the 404 for an unknown machine.
fn problem_of_machine(machine_id: &MachineId) -> Problem {
    Problem::not_found(format!("there is no machine {:?}", machine_id.as_str()))
}
