//! Who is on the floor, under everything that may happen to us, the broker and the database.

mod backlog;
mod blindness;
mod command;
mod database_away;
mod echo;
mod flapping;
mod publishing;
mod reconnect;
mod refused;
mod refused_filters;
mod scale;
mod two_sites;

use std::process::Command;

/// The retained message on a topic; empty if there is none.
pub fn retained(port: u16, topic: &str) -> String {
    let output = Command::new("mosquitto_sub")
        .args(["-p", &port.to_string(), "-t", topic, "-C", "1", "-W", "1", "--retained-only"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
