//! Liveness of machines against real brokers and databases, under faults of all three.

mod backlog;
mod database_away;
mod echo;
mod flapping;
mod interrupted_publish;
mod machines_command;
mod outages;
mod publishing;
mod refused_filters;
mod refused_rows;
mod scale;
mod signs_of_life;
mod stalls;
mod two_sites;

use std::process::Command;

/// Returns the retained message on a topic; empty if there is none.
pub fn retained(port: u16, topic: &str) -> String {
    let output = Command::new("mosquitto_sub")
        .args(["-p", &port.to_string(), "-t", topic, "-C", "1", "-W", "1", "--retained-only"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
