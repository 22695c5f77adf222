//! What is made once and outlives the incarnations of the actors, and the system that runs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use actix::prelude::*;
use slog::{Logger, o};

use super::live::{LiveSettings, link_timing};
use super::options::{
    echo_topic, http_options, http_state, interpreter, liveness_options, mqtt_options, store_options,
    supervisor_options, writer_options,
};
use super::signals::{StopSignals, stop_on_signal};
use super::status_line::StatusLine;
use super::wires::Wires;
use crate::actors::liveness::LivenessOptions;
use crate::actors::mqtt::MqttOptions;
use crate::actors::mqtt::callback::MessageCallback;
use crate::actors::mqtt::link_health::{LinkHealth, SharedLinkHealth};
use crate::actors::parser::ParserOptions;
use crate::actors::supervisor::{Environment, Supervisor, SupervisorOptions};
use crate::actors::writer::WriterOptions;
use crate::clock::ClockKeeper;
use crate::config::Settings;
use crate::domain::journaled_payload_bytes_max;
use crate::http::{HttpOptions, HttpState, StatusCells};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::shutdown::StopDeadline;

/// Everything that is made once and outlives the incarnations of the actors.
pub(super) struct Plan {
    pub(super) wires: Wires,
    pub(super) journal: Journal,
    pub(super) deadline: StopDeadline,
    pub(super) logger: Logger,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<SharedLinkHealth>,
    pub(super) cells: StatusCells,
    pub(super) callback: Arc<MessageCallback>,
    pub(super) writer: WriterOptions,
    pub(super) liveness: LivenessOptions,
    pub(super) parser: ParserOptions,
    pub(super) mqtt: MqttOptions,
    pub(super) http: HttpOptions,
    pub(super) http_state: Arc<HttpState>,
    pub(super) supervisor: SupervisorOptions,
    /// What a reload replaces.
    pub(super) live: LiveSettings,
}

impl Plan {
    /// Makes everything from the settings.
    ///
    /// # Errors
    /// Rules for payloads that contradict each other, or a system that refuses a thread or random numbers.
    pub(super) fn new(
        settings: &Settings,
        journal: Journal,
        clock: Arc<ClockKeeper>,
        wires: Wires,
        deadline: StopDeadline,
        logger: &Logger,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let of_journal = journal.clone();
        deadline.ask_at_the_end(move || of_journal.is_at_rest());
        let metrics = Arc::new(Metrics::default());
        let cells = StatusCells::default();
        let health = LinkHealth::new(link_timing(settings), journal.positions().appended);
        let health = Arc::new(SharedLinkHealth::new(health));
        let live = LiveSettings::of(settings);
        let callback = message_callback(settings, &journal, &health, &wires, &metrics, logger);
        let store = store_options(settings);
        let interpreter = Arc::new(interpreter(settings)?);
        Ok(Self {
            writer: writer_options(settings, &cells, &clock, &store, &live),
            liveness: liveness_options(settings, &live),
            parser: ParserOptions {
                batch_rows_max: settings.store.batch_max,
                interpreter,
                progress: Arc::clone(&cells.progress),
            },
            mqtt: mqtt_options(settings, &cells, &live),
            http: http_options(settings),
            http_state: Arc::new(http_state(settings, &cells, &metrics, &journal, &clock, &store, logger)?),
            supervisor: supervisor_options(settings),
            live,
            cells,
            logger: logger.clone(),
            callback,
            health,
            metrics,
            journal,
            deadline,
            wires,
        })
    }

    /// Runs the actors until the supervisor stops the system; returns the exit code.
    pub(super) fn run(self, system: SystemRunner, signals: std::io::Result<StopSignals>) -> i32 {
        system.block_on(async {
            // HTTP starts first and stops last: it reports the state of the others.
            let specs = vec![
                self.http_spec(),
                self.writer_spec(),
                self.liveness_spec(),
                self.parser_spec(),
                self.mqtt_spec(),
            ];
            let actors = Arc::clone(&self.cells.actors);
            let (journal, deadline) = (self.journal.clone(), self.deadline.clone());
            let outside = Environment {
                disk_busy_for: Box::new(move || journal.disk_busy_for()),
                on_stop: Box::new(move |exit_code| deadline.arm(exit_code)),
            };
            let supervisor =
                Supervisor::new(specs, self.supervisor.clone(), outside, actors, &self.logger).start();
            let line = StatusLine::new(
                self.journal.clone(),
                Arc::clone(&self.metrics),
                Arc::clone(&self.cells.ledger),
                Arc::clone(&self.cells.backlog),
                &self.logger,
            );
            actix_rt::spawn(line.repeat(self.live.status_interval));
            actix_rt::spawn(stop_on_signal(signals, supervisor, self.logger.clone()));
        });
        system.run_with_code().unwrap_or(1)
    }
}

fn message_callback(
    settings: &Settings,
    journal: &Journal,
    health: &Arc<SharedLinkHealth>,
    wires: &Wires,
    metrics: &Arc<Metrics>,
    logger: &Logger,
) -> Arc<MessageCallback> {
    Arc::new(MessageCallback {
        journal: journal.clone(),
        health: Arc::clone(health),
        echo_topic: echo_topic(settings),
        parser: wires.journal_grew.clone(),
        metrics: Arc::clone(metrics),
        payload_bytes_max: journaled_payload_bytes_max(settings.mqtt.max_payload),
        logger: logger.new(o!("component" => "mqtt")),
        receiving: AtomicBool::new(false),
        unbuffered_logged: AtomicBool::new(false),
        skipped_turn: AtomicU64::new(0),
    })
}
