//! The composition root: makes every part and connects them.
//!
//! Opens the journal, makes the wires, gives the supervisor the specs of its children (downstream first), and
//! runs the system until a signal or the supervisor ends it. No module but the commands imports it.

mod clock_watch;
mod options;
mod signals;
mod status_line;
mod wires;
#[cfg(test)]
mod wiring_tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use actix::prelude::*;
use slog::{Logger, debug, error, info, o, warn};

pub use self::options::{
    echo_topic, endpoints, link_options, payload_options, shortest_retention, store_options, subscriptions,
    topic_prefix,
};
use self::options::{http_state, journal_options, last_will_rules, protocol, tracker_options};
use self::signals::StopSignals;
use self::status_line::StatusLine;
use self::wires::{JournalEvents, Wires};
use crate::actors::liveness::{Liveness, LivenessOptions, LivenessWires, TRANSITIONS_MAX};
use crate::actors::mqtt::callback::MessageCallback;
use crate::actors::mqtt::link_health::{LinkHealth, SharedLinkHealth, Timing};
use crate::actors::mqtt::session::failover::Hosts;
use crate::actors::mqtt::session_filters::FilterFile;
use crate::actors::mqtt::{Mqtt, MqttOptions, MqttWires};
use crate::actors::parser::{Interpreter, Parser, ParserOptions, ParserWires};
use crate::actors::supervisor::{
    ChildContext, ChildSpec, Environment, RunningChild, Shutdown, Strategy, Supervisor, SupervisorOptions,
};
use crate::actors::writer::{Writer, WriterOptions};
use crate::clock::ClockKeeper;
use crate::config::Settings;
use crate::domain::journaled_payload_bytes_max;
use crate::http::{Http, HttpOptions, HttpState, StatusCells};
use crate::journal::{Journal, JournalError, RealFs, Recovery, Space};
use crate::logging::causes;
use crate::metrics::Metrics;
use crate::payload::PayloadRules;
use crate::shutdown::{Exit, StopDeadline};

/// Messages in an actor's mailbox. When it is full, a send on a data edge fails; no message is dropped.
const MAILBOX_CAPACITY: usize = 64;
/// The one child that ingestion does not need.
const HTTP: &str = "http";
/// Writer and parser restart together.
const STORAGE_GROUP: Strategy = Strategy::RestForOne { group: 1 };

/// Runs the service until a signal stops it or the supervisor gives up; returns the exit code.
#[must_use]
pub fn run(settings: &Settings, logger: &Logger) -> Exit {
    // Before the MQTT client library initialises OpenSSL, which would then be torn down at exit under threads
    // that use it.
    openssl_sys::init();
    let system = System::new();
    // From here on a signal stops the service in order, even while the journal is being opened.
    let deadline = StopDeadline::new(logger);
    let signals = StopSignals::watch(deadline.clone(), logger.clone());
    #[cfg(feature = "failpoints")]
    let _armed = fail::FailScenario::setup();
    let wires = Wires::default();
    let listener = Arc::new(JournalEvents::new(wires.clone(), logger));
    debug!(logger, "opening the journal"; "dir" => %settings.journal.dir.display());
    fail::fail_point!("app::opening");
    let (journal, recovery) = match Journal::open(journal_options(settings), Arc::new(RealFs), listener) {
        Ok(opened) => opened,
        Err(error) => {
            error!(logger, "the journal cannot be opened"; "dir" => %settings.journal.dir.display(),
                "error" => causes(&error));
            return exit_of(&error);
        }
    };
    report_torn_tail(&recovery, logger);
    if let Some(owner) = &recovery.taken_from {
        warn!(logger, "the journal belonged to another site, and all its messages are stored: taking it over \
            under a new journal id, from behind its newest record"; "owner" => owner, "site" => &settings.site.id,
            "behind" => recovery.last.0);
    }
    let clock = clock_watch::start(settings, logger);
    let plan = match Plan::new(settings, journal.clone(), Arc::clone(&clock), wires, deadline, logger) {
        Ok(plan) => plan,
        Err(error) => {
            error!(logger, "cannot start"; "error" => causes(&*error));
            return Exit::Usage;
        }
    };
    info!(logger, "Andon is starting"; "version" => env!("CARGO_PKG_VERSION"), "site" => &settings.site.id,
        "journal_id" => %journal.id(), "journal_dir" => %settings.journal.dir.display(),
        "pending" => journal.positions().appended.since(journal.positions().committed),
        "database" => %settings.store.url);
    let code = plan.run(system, signals);
    if let Err(error) = journal.close() {
        error!(logger, "the journal could not be closed"; "error" => causes(&error));
    }
    if let Err(error) = clock.close() {
        warn!(logger, "the trusted time could not be stored beside the journal"; "error" => causes(&error));
    }
    info!(logger, "Andon has stopped"; "exit_code" => code);
    match code {
        0 => Exit::Clean,
        4 => Exit::GaveUp,
        _ => Exit::Failure,
    }
}

/// Returns how the process ends if it cannot use its journal.
#[must_use]
pub fn exit_of(error: &JournalError) -> Exit {
    match error {
        error if error.is_damage() => Exit::JournalDamaged,
        error if error.is_misuse() => Exit::Usage,
        _ => Exit::Failure,
    }
}

fn report_torn_tail(recovery: &Recovery, logger: &Logger) {
    let torn = recovery.torn.as_ref();
    let kept = torn.map(|torn| torn.kept.iter().map(|path| path.display().to_string()).collect::<Vec<_>>());
    let (kept, bytes) = (kept.unwrap_or_default().join(", "), torn.map_or(0, |torn| torn.bytes));
    if let Some(lost) = recovery.lost {
        error!(logger, "the end of the journal is missing although it had reached the disk: cut at the last \
            whole record; what the database does not have becomes a gap. Check the disk, and whether anything \
            else writes to the journal's directory";
            "records" => %lost, "bytes_cut" => bytes, "kept_in" => kept);
    } else if let Some(torn) = torn {
        warn!(logger, "the journal ended in a torn record, as after a power cut: cut at the last whole record";
            "segment" => %torn.path.display(), "offset" => torn.offset, "what" => &torn.what,
            "bytes_cut" => bytes, "kept_in" => kept);
    }
}

/// Everything that is made once and outlives the incarnations of the actors.
struct Plan {
    wires: Wires,
    journal: Journal,
    deadline: StopDeadline,
    logger: Logger,
    metrics: Arc<Metrics>,
    health: Arc<SharedLinkHealth>,
    cells: StatusCells,
    callback: Arc<MessageCallback>,
    writer: WriterOptions,
    liveness: LivenessOptions,
    parser: ParserOptions,
    mqtt: MqttOptions,
    http: HttpOptions,
    http_state: Arc<HttpState>,
    supervisor: SupervisorOptions,
    status_interval: Option<Duration>,
}

impl Plan {
    fn new(
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
        let timing = Timing::of(settings.mqtt.keep_alive, settings.liveness.offline_after_min());
        let health = Arc::new(SharedLinkHealth::new(LinkHealth::new(timing, journal.positions().appended)));
        let echo_topic = echo_topic(settings);
        let callback = Arc::new(MessageCallback {
            journal: journal.clone(),
            health: Arc::clone(&health),
            echo_topic: echo_topic.clone(),
            parser: wires.journal_grew.clone(),
            metrics: Arc::clone(&metrics),
            payload_bytes_max: journaled_payload_bytes_max(settings.mqtt.max_payload),
            logger: logger.new(o!("component" => "mqtt")),
            receiving: AtomicBool::new(false),
            skipped_turn: AtomicU64::new(0),
        });
        let store = store_options(settings);
        let topic_prefix = topic_prefix(settings);
        let interpreter = Arc::new(Interpreter {
            rules: PayloadRules::new(payload_options(settings))?,
            telemetry: settings.mqtt.subscriptions.iter().map(|each| each.filter.clone()).collect(),
            last_wills: last_will_rules(settings),
            control_prefix: settings.liveness.publish_prefix.as_ref().map(|prefix| format!("{prefix}/")),
        });
        Ok(Self {
            writer: WriterOptions {
                store: store.clone(),
                database: settings.store.url.to_string(),
                job_max: settings.store.connect_timeout + settings.store.statement_timeout * 2,
                backoff_min: settings.store.backoff_min,
                backoff_max: settings.store.backoff_max,
                retention: settings.store.retention,
                clock: Arc::clone(&clock),
                ledger: Arc::clone(&cells.ledger),
                past_window: settings.liveness.flapping_window,
                past_rows_max: TRANSITIONS_MAX,
                status: Arc::clone(&cells.store),
            },
            liveness: LivenessOptions {
                tracker: tracker_options(settings),
                topic_prefix: topic_prefix.clone(),
            },
            parser: ParserOptions {
                batch_rows_max: settings.store.batch_max,
                interpreter,
                progress: Arc::clone(&cells.progress),
            },
            mqtt: MqttOptions {
                link: link_options(settings, topic_prefix.map(|prefix| format!("{prefix}/status"))),
                hosts: Arc::new(Hosts::new(endpoints(settings), protocol(settings))),
                certificates: Arc::default(),
                board: Arc::clone(&cells.broker),
                filter_file: FilterFile::in_directory(&settings.journal.dir),
                telemetry: settings.mqtt.subscriptions.iter().map(|each| each.filter.clone()).collect(),
                subscriptions: subscriptions(settings),
                echo_topic,
                backoff_min: settings.mqtt.backoff_min,
                backoff_max: settings.mqtt.backoff_max,
            },
            http: HttpOptions {
                bind: settings.http.bind,
                connections_max: settings.http.connections_max,
                backoff_min: settings.supervisor.backoff_min,
                backoff_max: settings.supervisor.backoff_max,
            },
            http_state: Arc::new(http_state(settings, &cells, &metrics, &journal, &clock, &store)?),
            supervisor: SupervisorOptions {
                restarts_max: settings.supervisor.restarts_max,
                period: settings.supervisor.period,
                backoff_min: settings.supervisor.backoff_min,
                backoff_max: settings.supervisor.backoff_max,
                hang_after: settings.supervisor.hang_after,
            },
            status_interval: settings.log.status_interval,
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

    fn run(self, system: SystemRunner, signals: std::io::Result<StopSignals>) -> i32 {
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
            actix_rt::spawn(line.repeat(self.status_interval));
            actix_rt::spawn(stop_on_signal(signals, supervisor, self.logger.clone()));
        });
        system.run_with_code().unwrap_or(1)
    }

    fn http_spec(&self) -> ChildSpec {
        let (options, state, logger) = (self.http.clone(), Arc::clone(&self.http_state), self.logger.clone());
        spec(HTTP, Strategy::OneForOne, 500, move |context| {
            let (options, state, logger) = (options.clone(), Arc::clone(&state), logger.clone());
            context
                .spawn(MAILBOX_CAPACITY, move |exit_guard| Http::new(options, state, exit_guard, &logger))
                .0
        })
    }

    fn writer_spec(&self) -> ChildSpec {
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

    fn liveness_spec(&self) -> ChildSpec {
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

    fn liveness_wires(&self) -> LivenessWires {
        LivenessWires {
            parser: self.wires.transitions_pending.clone(),
            publish: self.wires.mqtt.publish.clone(),
            prove: self.wires.mqtt.prove.clone(),
            link: self.wires.mqtt.tell_link.clone(),
            fence: Arc::clone(&self.wires.mqtt.fence),
            machines: Arc::clone(&self.cells.machines),
        }
    }

    fn parser_spec(&self) -> ChildSpec {
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

    fn parser_wires(&self) -> ParserWires {
        ParserWires {
            observe: self.wires.liveness.observe.clone(),
            recover: self.wires.liveness.recover.clone(),
            take_transitions: self.wires.liveness.take.clone(),
            transitions_recorded: self.wires.liveness.recorded.clone(),
            attach: self.wires.writer.attach.clone(),
            commit: self.wires.writer.commit.clone(),
        }
    }

    fn mqtt_wires(&self) -> MqttWires {
        MqttWires {
            liveness: self.wires.liveness.link.clone(),
            parser: self.wires.journal_grew.clone(),
            fence: Arc::clone(&self.wires.mqtt.fence),
        }
    }

    fn mqtt_spec(&self) -> ChildSpec {
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

/// Stops in order at the first SIGTERM or SIGINT.
async fn stop_on_signal(signals: std::io::Result<StopSignals>, supervisor: Addr<Supervisor>, logger: Logger) {
    match signals {
        Ok(signals) => {
            signals.first().await;
            #[expect(
                clippy::disallowed_methods,
                reason = "one message per process, which a full mailbox must not refuse"
            )]
            supervisor.do_send(Shutdown { exit_code: 0 });
        }
        Err(error) => {
            error!(logger, "cannot handle signals: only SIGKILL stops the service; nothing acknowledged is lost";
                "error" => %error);
        }
    }
}
