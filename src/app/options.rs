//! Translates the settings into the options of each part.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::actors::liveness::{FlappingRule, TrackerOptions};
use crate::actors::mqtt::client::options::{LinkOptions, ProxyOptions, Session, TlsOptions};
use crate::actors::parser::LastWillRule;
use crate::clock::ClockKeeper;
use crate::config::{self, Settings};
use crate::domain::{Endpoint, ProtocolChoice, Qos, TopicFilter};
use crate::http::{
    Access, Budget, HistoryPool, HttpState, IN_FLIGHT_BYTES_MAX, LatestCache, Stall, StatusCells,
    StoredMachines, Streams,
};
use crate::journal::{Journal, JournalOptions};
use crate::metrics::Metrics;
use crate::payload::PayloadOptions;
use crate::store::{Progress, StoreOptions, UnreadableRows};

/// Makes the state that HTTP requests share.
pub(super) fn http_state(
    settings: &Settings,
    cells: &StatusCells,
    metrics: &Arc<Metrics>,
    journal: &Journal,
    clock: &Arc<ClockKeeper>,
    store: &StoreOptions,
) -> Result<HttpState, Box<dyn std::error::Error>> {
    let (site, http) = (&settings.site, &settings.http);
    let token = http.token.as_ref().map(|token| token.expose());
    Ok(HttpState {
        site: site.id.clone(),
        time_zone: site.time_zone,
        topics: settings.mqtt.subscriptions.iter().map(|each| each.filter.to_string()).collect(),
        offline_after: settings.liveness.offline_after,
        metrics_per_machine: settings.metrics.per_machine,
        access: Access::new(&site.id, token, http.anonymous)?,
        history: HistoryPool::start(store)?,
        latest: LatestCache::default(),
        stored_machines: StoredMachines::default(),
        budget: Budget::new(IN_FLIGHT_BYTES_MAX),
        cells: cells.clone(),
        metrics: Arc::clone(metrics),
        journal: journal.clone(),
        clock: Arc::clone(clock),
        stall: Stall::default(),
        streams: Streams::new(http.streams_max),
        started: Instant::now(),
    })
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
    settings.store.retention
}

/// Returns the options of the database; also for commands that run without the service.
#[must_use]
pub fn store_options(settings: &Settings) -> StoreOptions {
    let store = &settings.store;
    StoreOptions {
        url: store.url.clone(),
        site: settings.site.id.clone(),
        connect_timeout: store.connect_timeout,
        statement_timeout: store.statement_timeout,
        lock_timeout: store.lock_timeout,
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
        max_payload: settings.mqtt.max_payload,
        segments: subscriptions.map(|each| (each.filter.clone(), each.machine_segment)).collect(),
        fields: settings.payload.fields.clone(),
    }
}

pub(super) fn last_will_rules(settings: &Settings) -> Vec<LastWillRule> {
    let rules = settings.liveness.last_will.iter();
    rules
        .map(|rule| LastWillRule {
            filter: rule.filter.clone(),
            payload: rule.payload.clone().into_bytes(),
            machine_segment: rule.machine_segment,
        })
        .collect()
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

/// Returns the brokers in the order of attempts.
#[must_use]
pub fn endpoints(settings: &Settings) -> Vec<Endpoint> {
    settings.mqtt.hosts.clone()
}

pub(super) fn protocol(settings: &Settings) -> ProtocolChoice {
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
