//! Translates the settings into the options of each part.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slog::Logger;

use super::live::LiveSettings;
use crate::actors::liveness::{FlappingRule, LivenessOptions, TRANSITIONS_MAX, TrackerOptions};
use crate::actors::mqtt::MqttOptions;
use crate::actors::mqtt::client::options::{LinkOptions, ProxyOptions, Session, TlsOptions};
use crate::actors::mqtt::client::socket_layer;
use crate::actors::mqtt::session::failover::Hosts;
use crate::actors::mqtt::session_filters::FilterFile;
use crate::actors::parser::Interpreter;
use crate::actors::supervisor::SupervisorOptions;
use crate::actors::writer::{WriterOptions, WriterSettings};
use crate::audit::AuditTrail;
use crate::clock::ClockKeeper;
use crate::config::{self, Settings};
use crate::domain::{Endpoint, ListenAddress, MachineId, ProtocolChoice, Qos, Role, TopicFilter};
use crate::http::{
    Access, Budget, ConnectionLimits, Connections, DataPlace, ForgetDesk, HistoryPool, HttpOptions,
    HttpSettings, HttpState, IN_FLIGHT_BYTES_MAX, LatestCache, Proxies, Requests, Sessions, SiteKey, Stall,
    StatusCells, StoredMachines, Streams, Tls, TlsFiles, Token, TokenGuard,
};
use crate::journal::{Journal, JournalOptions};
use crate::metrics::Metrics;
use crate::payload::{PayloadOptions, PayloadRules};
use crate::status::StatusCell;
use crate::store::{Progress, Retention, StoreOptions, UnreadableRows};

/// Makes the state that HTTP requests share.
pub(super) fn http_state(
    settings: &Settings,
    cells: &StatusCells,
    metrics: &Arc<Metrics>,
    journal: &Journal,
    clock: &Arc<ClockKeeper>,
    store: &StoreOptions,
    logger: &Logger,
) -> Result<HttpState, Box<dyn std::error::Error>> {
    let (site, http) = (&settings.site, &settings.http);
    let sessions = Sessions::open(&settings.journal.dir, &site.id, logger)?;
    let audit = AuditTrail::start(store, logger)?;
    Ok(HttpState {
        site: site.id.clone(),
        topics: settings.mqtt.subscriptions.iter().map(|each| each.filter.to_string()).collect(),
        settings: StatusCell::new(http_settings(settings, sessions.key())?),
        history: HistoryPool::start(store, &logger.new(slog::o!("component" => "http")))?,
        latest: LatestCache::default(),
        stored_machines: StoredMachines::default(),
        budget: Budget::new(IN_FLIGHT_BYTES_MAX),
        cells: cells.clone(),
        metrics: Arc::clone(metrics),
        journal: journal.clone(),
        clock: Arc::clone(clock),
        stall: Stall::default(),
        forget: ForgetDesk::start(store, &audit)?,
        guard: TokenGuard::new(metrics, logger),
        sessions,
        requests: Requests::default(),
        audit,
        tls: tls_files(&http.tls).map(|files| Tls::open(files, logger)).transpose()?,
        connections: Arc::new(Connections::new(ConnectionLimits {
            all: http.connections_max,
            each_address: http.connections_per_address,
        })),
        streams: Streams::new(http.streams_max, http.streams_per_address),
        socket_calls: || socket_layer::calls().by_name(),
        data_places: data_places(settings),
        started: Instant::now(),
    })
}

/// Returns the settings of HTTP that a reload replaces.
pub(super) fn http_settings(
    settings: &Settings,
    key: &SiteKey,
) -> Result<HttpSettings, Box<dyn std::error::Error>> {
    let (site, http) = (&settings.site, &settings.http);
    let mut tokens: Vec<Token<'_>> = http
        .tokens
        .iter()
        .map(|each| Token {
            name: &each.name,
            roles: std::slice::from_ref(&each.role),
            secret: each.token.expose(),
        })
        .collect();
    let roles = &[Role::View, Role::Metrics];
    tokens.extend(http.token.as_ref().map(|token| Token {
        name: "http.token",
        roles,
        secret: token.expose(),
    }));
    Ok(HttpSettings {
        time_zone: site.time_zone,
        offline_after: settings.liveness.offline_after,
        metrics_per_machine: settings.metrics.per_machine,
        expected: expected(settings),
        access: Access::new(&site.id, key, &tokens, http.anonymous, http.proxy_user_header.is_some())?,
        proxies: proxies(http)?,
        session_max: http.session_max,
    })
}

fn proxies(http: &config::Http) -> Result<Proxies, Box<dyn std::error::Error>> {
    let user_header = http.proxy_user_header.as_ref().map(|name| name.parse()).transpose()?;
    Ok(Proxies {
        trusted: http.trusted_proxies.clone(),
        user_header,
        user_role: http.proxy_user_role,
        operators: http.proxy_operators.clone(),
    })
}

fn tls_files(tls: &config::HttpTls) -> Option<TlsFiles> {
    Some(TlsFiles {
        cert_file: tls.cert_file.clone()?,
        key_file: tls.key_file.clone()?,
        client_ca_file: tls.client_ca_file.clone(),
    })
}

fn expected(settings: &Settings) -> HashSet<MachineId> {
    let expected = settings.liveness.machines.iter().filter(|(_, rule)| rule.expected);
    expected.map(|(machine_id, _)| machine_id.clone()).collect()
}

/// Returns the directories whose disks the metrics watch.
fn data_places(settings: &Settings) -> Vec<DataPlace> {
    let file = settings.store.url.sqlite_path();
    let directory = file.and_then(|file| file.parent()).map(|directory| match directory.as_os_str() {
        empty if empty.is_empty() => PathBuf::from("."),
        _ => directory.to_owned(),
    });
    let journal = DataPlace { holds: "journal", directory: settings.journal.dir.clone() };
    let store = directory.map(|directory| DataPlace { holds: "store", directory });
    std::iter::once(journal).chain(store).collect()
}

pub(super) fn journal_options(settings: &Settings) -> JournalOptions {
    let journal = &settings.journal;
    JournalOptions {
        dir: journal.dir.clone(),
        site: settings.site.id.clone(),
        max_bytes: journal.max_bytes,
        segment_bytes: journal.segment_bytes,
        sync: journal.sync,
        when_full: journal.when_full,
    }
}

/// Returns the shortest retention, if one is set.
#[must_use]
pub fn shortest_retention(settings: &Settings) -> Option<Duration> {
    retention(settings).shortest()
}

/// Returns what is kept for how long; also for commands that run without the service.
#[must_use]
pub fn retention(settings: &Settings) -> Retention {
    let store = &settings.store;
    Retention {
        readings: store.retention,
        events: store.retention_events,
        rejected: store.retention_rejected,
        rejected_bytes_max: store.rejected_max_bytes,
        audit: store.retention_audit,
    }
}

/// Returns the options of the database; also for commands that run without the service.
#[must_use]
pub fn store_options(settings: &Settings) -> StoreOptions {
    let store = &settings.store;
    StoreOptions {
        url: store.url.clone(),
        schema: store.schema.clone(),
        site: settings.site.id.clone(),
        connect_timeout: store.connect_timeout,
        statement_timeout: store.statement_timeout,
        lock_timeout: store.lock_timeout,
        timescale: store.timescale,
        unreadable: UnreadableRows::default(),
        progress: Progress::default(),
    }
}

/// Returns the rules for payloads; also for commands that run without the service.
#[must_use]
pub fn payload_options(settings: &Settings) -> PayloadOptions {
    let subscriptions = settings.mqtt.subscriptions.iter();
    PayloadOptions {
        max_ahead: settings.payload.max_ahead,
        machine_id_from: settings.payload.machine_id_from,
        max_payload: settings.mqtt.max_payload,
        segments: subscriptions.map(|each| (each.filter.clone(), each.machine_segment)).collect(),
        fields: settings.payload.fields.clone(),
    }
}

/// Returns the filters to subscribe to; also for `config check --connect`.
#[must_use]
pub fn subscriptions(settings: &Settings) -> Vec<(TopicFilter, Qos)> {
    let telemetry = settings.mqtt.subscriptions.iter().map(|each| (each.filter.clone(), each.qos));
    let last_wills = settings.liveness.last_will.iter().map(|rule| (rule.filter.clone(), Qos::AtLeastOnce));
    let mut wanted: Vec<(TopicFilter, Qos)> = Vec::new();
    for (filter, qos) in telemetry.chain(last_wills) {
        if !wanted.iter().any(|(known, _)| *known == filter) {
            wanted.push((filter, qos));
        }
    }
    wanted
}

/// Returns `<publish_prefix>/<site>`, the prefix of all topics that Andon publishes; `None`: it publishes
/// nothing.
#[must_use]
pub fn topic_prefix(settings: &Settings) -> Option<String> {
    let prefix = settings.liveness.publish_prefix.as_ref()?;
    Some(format!("{prefix}/{}", settings.site.id))
}

/// Returns the topic of our echo. There is none without a prefix, and none if all telemetry comes through
/// shared subscriptions, which have their own queues.
#[must_use]
pub fn echo_topic(settings: &Settings) -> Option<TopicFilter> {
    if settings.mqtt.subscriptions.iter().all(|each| each.filter.is_shared()) {
        return None;
    }
    TopicFilter::parse(&format!("{}/echo", topic_prefix(settings)?)).ok()
}

pub(super) fn tracker_options(settings: &Settings) -> TrackerOptions {
    TrackerOptions {
        offline_after: settings.liveness.offline_after,
        machines: settings.liveness.machines.clone().into_iter().collect(),
        machines_max: settings.liveness.machines_max,
        flapping: FlappingRule {
            changes: settings.liveness.flapping_changes as usize,
            window: settings.liveness.flapping_window,
        },
    }
}

/// Returns the rules by which one message becomes readings, sightings and control.
pub(super) fn interpreter(settings: &Settings) -> Result<Interpreter, Box<dyn std::error::Error>> {
    Ok(Interpreter {
        rules: PayloadRules::new(payload_options(settings))?,
        telemetry: telemetry(settings),
        last_wills: settings.liveness.last_will.clone(),
        control_prefix: settings.liveness.publish_prefix.as_ref().map(|prefix| format!("{prefix}/")),
    })
}

/// Returns the filters through which machines speak.
fn telemetry(settings: &Settings) -> Vec<TopicFilter> {
    settings.mqtt.subscriptions.iter().map(|each| each.filter.clone()).collect()
}

pub(super) fn writer_options(
    settings: &Settings,
    cells: &StatusCells,
    clock: &Arc<ClockKeeper>,
    store: &StoreOptions,
    live: &LiveSettings,
) -> WriterOptions {
    WriterOptions {
        store: store.clone(),
        database: settings.store.url.to_string(),
        job_max: settings.store.connect_timeout + settings.store.statement_timeout * 2,
        backoff_min: settings.store.backoff_min,
        backoff_max: settings.store.backoff_max,
        clock: Arc::clone(clock),
        ledger: Arc::clone(&cells.ledger),
        settings: Arc::clone(&live.writer),
        past_rows_max: TRANSITIONS_MAX,
        status: Arc::clone(&cells.store),
        forget: Arc::clone(&cells.forget),
    }
}

/// Returns the writer's settings that a reload replaces.
pub(super) fn writer_settings(settings: &Settings) -> WriterSettings {
    WriterSettings { retention: retention(settings), past_window: settings.liveness.flapping_window }
}

pub(super) fn liveness_options(settings: &Settings, live: &LiveSettings) -> LivenessOptions {
    LivenessOptions { rules: Arc::clone(&live.rules), topic_prefix: topic_prefix(settings) }
}

/// Returns the options of the service's own link.
pub(super) fn own_link_options(settings: &Settings) -> LinkOptions {
    link_options(settings, topic_prefix(settings).map(|prefix| format!("{prefix}/status")))
}

pub(super) fn mqtt_options(settings: &Settings, cells: &StatusCells, live: &LiveSettings) -> MqttOptions {
    MqttOptions {
        link: own_link_options(settings),
        newest_link: Arc::clone(&live.link),
        hosts: Arc::new(Hosts::new(endpoints(settings), protocol(settings))),
        certificates: Arc::default(),
        status: Arc::clone(&cells.broker),
        filter_file: FilterFile::in_directory(&settings.journal.dir),
        telemetry: telemetry(settings),
        subscriptions: subscriptions(settings),
        echo_topic: echo_topic(settings),
        backoff_min: settings.mqtt.backoff_min,
        backoff_max: settings.mqtt.backoff_max,
    }
}

pub(super) fn http_options(settings: &Settings) -> HttpOptions {
    HttpOptions {
        bind: ListenAddress::Tcp(settings.http.bind),
        health_bind: settings.http.health_bind.clone(),
        connections_max: settings.http.connections_max,
        backoff_min: settings.supervisor.backoff_min,
        backoff_max: settings.supervisor.backoff_max,
    }
}

pub(super) fn supervisor_options(settings: &Settings) -> SupervisorOptions {
    SupervisorOptions {
        restarts_max: settings.supervisor.restarts_max,
        period: settings.supervisor.period,
        backoff_min: settings.supervisor.backoff_min,
        backoff_max: settings.supervisor.backoff_max,
        hang_after: settings.supervisor.hang_after,
    }
}

/// Returns the brokers in the order of attempts.
#[must_use]
pub fn endpoints(settings: &Settings) -> Vec<Endpoint> {
    settings.mqtt.hosts.clone()
}

fn protocol(settings: &Settings) -> ProtocolChoice {
    settings.mqtt.protocol
}

/// Returns the options of the broker link; also for `config check --connect`.
#[must_use]
pub fn link_options(settings: &Settings, availability_topic: Option<String>) -> LinkOptions {
    let mqtt = &settings.mqtt;
    LinkOptions {
        transport: mqtt.transport,
        client_id: mqtt.client_id.clone(),
        session: Session::Persistent,
        username: mqtt.username.clone(),
        password: mqtt.password.as_ref().map(exposed),
        keep_alive: mqtt.keep_alive,
        session_expiry: mqtt.session_expiry,
        receive_maximum: mqtt.receive_maximum,
        max_packet: mqtt.max_packet,
        connect_timeout: mqtt.connect_timeout,
        protocol: protocol(settings),
        tls: mqtt.transport.is_encrypted().then(|| tls_options(&mqtt.tls)),
        proxy: mqtt.proxy.clone().map(|at| proxy_options(mqtt, at)),
        availability_topic,
    }
}

fn exposed(secret: &config::Secret) -> String {
    secret.expose().to_owned()
}

fn proxy_options(mqtt: &config::Mqtt, at: Endpoint) -> ProxyOptions {
    ProxyOptions {
        at,
        username: mqtt.proxy_username.clone(),
        password: mqtt.proxy_password.as_ref().map(exposed),
    }
}

fn tls_options(tls: &config::Tls) -> TlsOptions {
    TlsOptions {
        ca_file: tls.ca_file.clone(),
        cert_file: tls.cert_file.clone(),
        key_file: tls.key_file.clone(),
        key_password: tls.key_password.as_ref().map(exposed),
        alpn: tls.alpn.clone(),
        verify: tls.verify,
    }
}
