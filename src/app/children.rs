//! The specs of the supervisor's children: how each actor starts, and which wires lead to it.

use std::sync::Arc;
use std::time::Duration;

use super::plan::Plan;
use crate::actors::liveness::{Liveness, LivenessWires};
use crate::actors::mqtt::{Mqtt, MqttWires};
use crate::actors::parser::{Parser, ParserWires};
use crate::actors::supervisor::{ChildContext, ChildSpec, RunningChild, Strategy};
use crate::actors::writer::Writer;
use crate::http::Http;
use crate::journal::Space;

/// Messages in an actor's mailbox. When it is full, a send on a data edge fails; no message is dropped.
const MAILBOX_CAPACITY: usize = 64;
/// The one child that ingestion does not need.
const HTTP: &str = "http";
/// Writer and parser restart together.
const STORAGE_GROUP: Strategy = Strategy::RestForOne { group: 1 };

impl Plan {
    pub(super) fn http_spec(&self) -> ChildSpec {
        let (options, state, logger) = (self.http.clone(), Arc::clone(&self.http_state), self.logger.clone());
        spec(HTTP, Strategy::OneForOne, 500, move |context| {
            let (options, state, logger) = (options.clone(), Arc::clone(&state), logger.clone());
            context
                .spawn(MAILBOX_CAPACITY, move |exit_guard| Http::new(options, state, exit_guard, &logger))
                .0
        })
    }

    pub(super) fn writer_spec(&self) -> ChildSpec {
        let (options, metrics, logger) =
            (self.writer.clone(), Arc::clone(&self.metrics), self.logger.clone());
        let wires = self.wires.writer.clone();
        spec("writer", STORAGE_GROUP, 1_000, move |context| {
            let (options, metrics, logger) = (options.clone(), Arc::clone(&metrics), logger.clone());
            let (child, address) = context.spawn(MAILBOX_CAPACITY, move |exit_guard| {
                Writer::new(options, metrics, exit_guard, &logger)
            });
            wires.attach.connect(address.clone().recipient());
            wires.commit.connect(address.recipient());
            child
        })
    }

    pub(super) fn liveness_spec(&self) -> ChildSpec {
        let (options, metrics, logger) =
            (self.liveness.clone(), Arc::clone(&self.metrics), self.logger.clone());
        let (edges, own) = (self.wires.liveness.clone(), self.liveness_wires());
        spec("liveness", Strategy::OneForOne, 500, move |context| {
            let (options, metrics) = (options.clone(), Arc::clone(&metrics));
            let (own, logger) = (own.clone(), logger.clone());
            let (child, address) = context.spawn(MAILBOX_CAPACITY, move |exit_guard| {
                Liveness::new(options, own, metrics, exit_guard, &logger)
            });
            edges.link.connect(address.clone().recipient());
            edges.observe.connect(address.clone().recipient());
            edges.recover.connect(address.clone().recipient());
            edges.take.connect(address.clone().recipient());
            edges.recorded.connect(address.recipient());
            child
        })
    }

    pub(super) fn liveness_wires(&self) -> LivenessWires {
        LivenessWires {
            parser: self.wires.transitions_pending.clone(),
            publish: self.wires.mqtt.publish.clone(),
            prove: self.wires.mqtt.prove.clone(),
            link: self.wires.mqtt.tell_link.clone(),
            fence: Arc::clone(&self.wires.mqtt.fence),
            machines: Arc::clone(&self.cells.machines),
            forget: Arc::clone(&self.cells.forget),
        }
    }

    pub(super) fn parser_spec(&self) -> ChildSpec {
        let (options, journal, health) =
            (self.parser.clone(), self.journal.clone(), Arc::clone(&self.health));
        let (metrics, logger) = (Arc::clone(&self.metrics), self.logger.clone());
        let (own, grew) = (self.parser_wires(), self.wires.journal_grew.clone());
        let pending = self.wires.transitions_pending.clone();
        spec("parser", STORAGE_GROUP, 3_500, move |context| {
            let (options, own, journal) = (options.clone(), own.clone(), journal.clone());
            let (health, metrics, logger) = (Arc::clone(&health), Arc::clone(&metrics), logger.clone());
            let (child, address) = context.spawn(MAILBOX_CAPACITY, move |exit_guard| {
                Parser::new(options, own, journal, health, metrics, exit_guard, &logger)
            });
            grew.connect(address.clone().recipient());
            pending.connect(address.recipient());
            child
        })
    }

    pub(super) fn parser_wires(&self) -> ParserWires {
        ParserWires {
            observe: self.wires.liveness.observe.clone(),
            recover: self.wires.liveness.recover.clone(),
            take_transitions: self.wires.liveness.take.clone(),
            transitions_recorded: self.wires.liveness.recorded.clone(),
            attach: self.wires.writer.attach.clone(),
            commit: self.wires.writer.commit.clone(),
        }
    }

    pub(super) fn mqtt_wires(&self) -> MqttWires {
        MqttWires {
            liveness: self.wires.liveness.link.clone(),
            parser: self.wires.journal_grew.clone(),
            fence: Arc::clone(&self.wires.mqtt.fence),
        }
    }

    pub(super) fn mqtt_spec(&self) -> ChildSpec {
        let (options, callback, logger) =
            (self.mqtt.clone(), Arc::clone(&self.callback), self.logger.clone());
        let own = self.mqtt_wires();
        let (edges, space) = (self.wires.mqtt.clone(), self.wires.space.clone());
        let journal = self.journal.clone();
        spec("mqtt", Strategy::OneForOne, 3_500, move |context| {
            let (options, own) = (options.clone(), own.clone());
            let (callback, logger) = (Arc::clone(&callback), logger.clone());
            let (child, address) = context.spawn(MAILBOX_CAPACITY, {
                let journal = journal.clone();
                move |exit_guard| {
                    let room = matches!(journal.stats().space, Space::Free);
                    Mqtt::new(options, own, callback, room, exit_guard, &logger)
                }
            });
            space.connect(address.clone().recipient());
            edges.publish.connect(address.clone().recipient());
            edges.prove.connect(address.clone().recipient());
            edges.tell_link.connect(address.recipient());
            child
        })
    }
}

/// Makes a spec. The stop times add up to less than the ten seconds that service managers usually grant.
fn spec(
    name: &'static str,
    strategy: Strategy,
    stop_within_ms: u64,
    start: impl FnMut(ChildContext) -> RunningChild + Send + 'static,
) -> ChildSpec {
    let stop_within = Duration::from_millis(stop_within_ms);
    // HTTP must not stop ingestion (SUP-6).
    let escalates = name != HTTP;
    ChildSpec { name, strategy, escalates, stop_within, start: Box::new(start) }
}
