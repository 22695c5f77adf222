//! One backlog of QoS 1 messages waits at a private broker for persistent sessions. Each drains its copy in turn.

use std::time::Instant;

use super::contenders::{NAMES, Target, start_plain, subscribe_plain};
use super::measure::{Cost, Table, of_child};
use super::support::mosquitto::Mosquitto;
use super::support::postgres::Postgres;
use super::support::publisher;

pub fn run(messages: u64, rounds: u64, postgres: &Postgres) {
    let mut table = Table::new("drain of a QoS 1 backlog", messages, NAMES);
    for round in 1..=rounds {
        table.round(round, &one_round(round, messages, postgres));
    }
    table.medians(&[("SQLite", 1.0, Some(1.4)), ("PostgreSQL", 0.6, Some(0.8))]);
}

fn one_round(round: u64, messages: u64, postgres: &Postgres) -> Vec<Cost> {
    let broker = Mosquitto::start("max_queued_messages 0\nmax_queued_bytes 0");
    let port = broker.port();
    let targets = Target::all(port, &format!("drain{round}"), 1, postgres);
    subscribe_plain(port);
    targets.iter().for_each(Target::subscribe);
    let topic = "factory/machine/{machine}/telemetry";
    publisher::publish_numbered(port, topic, super::MACHINES, 0..messages, 1);
    super::in_turn(round, NAMES.len(), |which| {
        let begun = Instant::now();
        let Some(target) = which.checked_sub(1).map(|index| &targets[index]) else {
            return of_child(start_plain(port, 1, messages), begun);
        };
        let database_before = target.database_cpu();
        target.stored(target.start(), messages, begun, database_before)
    })
}
