//! Compares settings with each other: contradictions are mistakes, doubtful combinations are warnings.

mod listeners;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;

use config::{Value, ValueKind};

use super::keys::{AROUND_PAYLOAD_BYTES, FIELDS, HTTP_TOKENS, KEYS, Kind};
use super::layers::DEFAULT_ORIGIN;
use super::problem::Problems;
use super::sections::{Http, Settings};
use super::settings::Values;
use super::units::show_size;
use super::values::text;
use crate::domain::{ProtocolChoice, TopicFilter};

const NOT_FOR_A_HEADER: &str =
    "is not valid in an HTTP header; expected ASCII letters, digits and punctuation, no spaces";
/// Shortest named token on an address that other computers can reach.
const TOKEN_BYTES_MIN: usize = 16;

/// Reports every contradiction, except those with a value that was already found wrong: the value in its place is not
/// the user's.
pub(super) fn contradictions(settings: &Settings, values: &Values, problems: &mut Problems) {
    let mut check = Check { values, problems };
    check.backoffs(settings);
    check.hosts(settings);
    check.packet(settings);
    check.proxy(settings);
    check.tls(settings);
    check.files();
    check.login(settings);
    check.subscriptions(settings);
    check.control(settings);
    check.journal(settings);
    check.fields(&settings.payload.fields);
    check.http(settings);
    check.machines(settings);
}

/// Adds a line for each setting that is allowed but probably not meant. libpq reads some of its own from the environment.
pub(super) fn warnings(
    settings: &Settings,
    environment: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) {
    let mqtt = &settings.mqtt;
    if mqtt.transport.is_encrypted() && !mqtt.tls.verify {
        warnings.push(
            "mqtt.tls.verify = false: anyone on the network can pose as the broker; set mqtt.tls.ca_file instead"
                .to_owned(),
        );
    }
    if mqtt.password.is_some()
        && !mqtt.transport.is_encrypted()
        && !mqtt.hosts.iter().all(|broker| is_this_machine(&broker.host))
    {
        warnings.push(format!(
            "mqtt.password is sent unencrypted (mqtt.transport = {:?}): anyone on the network can read it; use \"tls\"",
            mqtt.transport.as_str()
        ));
    }
    for subscription in mqtt.subscriptions.iter().filter(|each| each.filter.is_shared()) {
        warnings.push(format!(
            "mqtt.subscriptions: {:?} is shared: messages that the broker sends to other members of the group do not arrive \
             here, and their machines count as silent",
            subscription.filter.as_str()
        ));
    }
    if settings.store.schema.is_some() && settings.store.url.sqlite_path().is_some() {
        warnings.push("store.schema has no effect with SQLite, only with a postgres:// address".to_owned());
    }
    if settings.http.anonymous && !settings.http.bind.ip().is_loopback() {
        warnings.push(format!(
            "http.anonymous = true: anyone who can reach {} sees all data",
            settings.http.bind
        ));
    }
    let ssl_mode = environment.get("PGSSLMODE").map(String::as_str).filter(|mode| !mode.is_empty());
    if let Some(host) = settings.store.url.unencrypted_host(ssl_mode) {
        warnings.push(format!(
            "store.url: the connection to {host} may not be encrypted: anyone on the network can read the data, and pose as \
             the database; add sslmode=verify-full, or at least sslmode=require"
        ));
    }
    warnings.extend(token_in_clear_text(&settings.http));
    if !settings.http.proxy_operators.is_empty() && settings.http.proxy_user_header.is_none() {
        warnings.push("http.proxy_operators has no effect without http.proxy_user_header".to_owned());
    }
}

/// Says that a token can be read on its way.
fn token_in_clear_text(http: &Http) -> Option<String> {
    let has_token = http.token.is_some() || !http.tokens.is_empty();
    let is_open = !http.is_local() && http.tls.cert_file.is_none() && http.trusted_proxies.is_empty();
    (has_token && is_open).then(|| {
        format!(
            "http.bind = {}: tokens and data are sent unencrypted: anyone on the network can read them, and use the token; \
             set http.tls.cert_file, or bind to 127.0.0.1, behind a proxy with TLS",
            http.bind
        )
    })
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_empty_list(value: &Value) -> bool {
    matches!(&value.kind, ValueKind::Array(items) if items.is_empty())
}

struct Check<'a> {
    values: &'a Values,
    problems: &'a mut Problems,
}

impl Check<'_> {
    /// Reports a contradiction at the first of `keys`, unless one of them is wrong already.
    fn report(&mut self, keys: &[&str], message: impl Into<String>) {
        if keys.iter().any(|key| self.problems.concern(key)) {
            return;
        }
        if let Some(key) = keys.first() {
            self.problems.add_contradiction(self.values.origin(key), *key, message);
        }
    }

    /// True if a layer above the defaults sets the key.
    fn is_set(&self, key: &str) -> bool {
        self.values.get(key).is_some() && self.values.origin(key) != DEFAULT_ORIGIN
    }

    fn backoffs(&mut self, settings: &Settings) {
        let sections = [
            ("mqtt", settings.mqtt.backoff_min, settings.mqtt.backoff_max),
            ("store", settings.store.backoff_min, settings.store.backoff_max),
            ("supervisor", settings.supervisor.backoff_min, settings.supervisor.backoff_max),
        ];
        for (section, min, max) in sections {
            let (min_key, max_key) = (format!("{section}.backoff_min"), format!("{section}.backoff_max"));
            if min > max {
                // Blames the one that was set, or the lower bound if both were.
                let mut keys = [min_key.as_str(), max_key.as_str()];
                if !self.is_set(keys[0]) {
                    keys.reverse();
                }
                let shown = |key: &str| self.values.get(key).map(ToString::to_string).unwrap_or_default();
                let (min, max) = (shown(&min_key), shown(&max_key));
                self.report(&keys, format!("{min_key} ({min}) must not be larger than {max_key} ({max})"));
            }
        }
    }

    fn hosts(&mut self, settings: &Settings) {
        const HOSTS: &str = "mqtt.hosts";
        let mqtt = &settings.mqtt;
        let several = self.values.get(HOSTS).is_some_and(|value| !is_empty_list(value));
        if several && self.is_set("mqtt.host") {
            self.report(&[HOSTS, "mqtt.host"], "contradicts mqtt.host; keep one of them");
        }
        for (index, broker) in mqtt.hosts.iter().enumerate() {
            if mqtt.hosts[..index].contains(broker) {
                let message = format!("{:?} with port {} is listed twice", broker.host, broker.port);
                self.report(&[HOSTS, "mqtt.port"], message);
            }
        }
    }

    fn packet(&mut self, settings: &Settings) {
        let (payload, packet) = (settings.mqtt.max_payload as u64, u64::from(settings.mqtt.max_packet));
        let needed = payload + AROUND_PAYLOAD_BYTES;
        if packet < needed {
            let (payload, around) = (show_size(payload), show_size(AROUND_PAYLOAD_BYTES));
            let message = format!(
                "is too small for the payloads that mqtt.max_payload ({payload}) allows: topic and header need another {around}; \
                 expected at least {}",
                show_size(needed)
            );
            self.report(&["mqtt.max_packet", "mqtt.max_payload"], message);
        }
    }

    fn proxy(&mut self, settings: &Settings) {
        const PROXY: &str = "mqtt.proxy";
        let transport = settings.mqtt.transport;
        if !transport.is_websocket() && self.is_set(PROXY) {
            let message = format!(
                "has no effect with mqtt.transport = {:?}; allowed with \"ws\" and \"wss\"",
                transport.as_str()
            );
            self.report(&[PROXY, "mqtt.transport"], message);
        }
        for key in ["mqtt.proxy_username", "mqtt.proxy_password"] {
            if self.is_set(key) && !self.is_set(PROXY) {
                self.report(&[key, PROXY], format!("has no effect without a proxy; set {PROXY}"));
            }
        }
        if self.is_set("mqtt.proxy_password") && !self.is_set("mqtt.proxy_username") {
            self.report(&["mqtt.proxy_password", "mqtt.proxy_username", PROXY], "needs mqtt.proxy_username");
        }
        if settings.mqtt.proxy_username.as_ref().is_some_and(|name| name.contains(':')) {
            self.report(
                &["mqtt.proxy_username"],
                "contains a \":\", which HTTP does not allow in a user name",
            );
        }
    }

    fn tls(&mut self, settings: &Settings) {
        const CERT: &str = "mqtt.tls.cert_file";
        const KEY: &str = "mqtt.tls.key_file";
        const KEY_PASSWORD: &str = "mqtt.tls.key_password";
        let tls = &settings.mqtt.tls;
        if tls.cert_file.is_some() && tls.key_file.is_none() {
            self.report(&[CERT, KEY], format!("a certificate needs its private key; set {KEY}"));
        }
        if tls.key_file.is_some() && tls.cert_file.is_none() {
            self.report(&[KEY, CERT], format!("a private key needs its certificate; set {CERT}"));
        }
        if tls.key_password.is_some() && tls.key_file.is_none() {
            self.report(&[KEY_PASSWORD, KEY], format!("has no effect without a private key; set {KEY}"));
        }
        if settings.mqtt.transport.is_encrypted() {
            return;
        }
        let asks_for_tls = |key: &&str| match *key {
            "mqtt.tls.alpn" => !tls.alpn.is_empty(),
            "mqtt.tls.verify" => !tls.verify,
            _ => self.is_set(key),
        };
        let keys = KEYS.iter().map(|key| key.path).filter(|path| path.starts_with("mqtt.tls."));
        for key in keys.filter(asks_for_tls).collect::<Vec<_>>() {
            let transport = settings.mqtt.transport.as_str();
            let message = format!(
                "has no effect with mqtt.transport = {transport:?}; allowed with \"tls\" and \"wss\""
            );
            self.report(&[key, "mqtt.transport"], message);
        }
    }

    fn files(&mut self) {
        for key in KEYS.iter().filter(|key| key.kind == Kind::ReadableFile) {
            let Some(path) = self.values.get(key.path).and_then(text) else {
                continue;
            };
            let opened = File::open(path).and_then(|file| file.metadata());
            match opened {
                Ok(metadata) if metadata.is_dir() => {
                    self.report(
                        &[key.path],
                        format!("{path:?} is a directory; expected {}", key.kind.allowed()),
                    );
                }
                Ok(_) => {}
                Err(error) => {
                    let expected = key.kind.allowed();
                    self.report(&[key.path], format!("cannot read {path:?}: {error}; expected {expected}"));
                }
            }
        }
    }

    fn login(&mut self, settings: &Settings) {
        let mqtt = &settings.mqtt;
        if mqtt.password.is_some() && mqtt.username.is_none() && mqtt.protocol != ProtocolChoice::V5 {
            let message = "needs mqtt.username; alone it is allowed only with mqtt.protocol = \"5\"";
            self.report(&["mqtt.password", "mqtt.username", "mqtt.protocol"], message);
        }
        let token = settings.http.token.as_ref().map(super::Secret::expose);
        if token.is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            self.report(&["http.token"], NOT_FOR_A_HEADER);
        }
        if !settings.http.is_local() && token.is_some_and(|token| token.len() < TOKEN_BYTES_MIN) {
            let message =
                format!("has fewer than {TOKEN_BYTES_MIN} characters, and other computers can try it");
            self.report(&["http.token", "http.bind"], message);
        }
    }

    fn subscriptions(&mut self, settings: &Settings) {
        const KEY: &str = "mqtt.subscriptions";
        let filters: Vec<&TopicFilter> =
            settings.mqtt.subscriptions.iter().map(|entry| &entry.filter).collect();
        for (index, filter) in filters.iter().enumerate() {
            if filters[..index].contains(filter) {
                self.report(
                    &[KEY],
                    format!("{:?} is listed twice; each filter is allowed once", filter.as_str()),
                );
            }
        }
    }

    /// Topics below the prefix are Andon's, of any site: Andon reads no telemetry there.
    fn control(&mut self, settings: &Settings) {
        const PREFIX: &str = "liveness.publish_prefix";
        let Some(prefix) = &settings.liveness.publish_prefix else { return };
        let is_below = |filter: &TopicFilter| filter.unshared().starts_with(&format!("{prefix}/"));
        let telemetry = settings.mqtt.subscriptions.iter().map(|each| ("mqtt.subscriptions", &each.filter));
        let wills = settings.liveness.last_will.iter().map(|each| ("liveness.last_will", &each.filter));
        for (key, filter) in telemetry.chain(wills).filter(|(_, filter)| is_below(filter)) {
            let message = format!(
                "{:?} is below {PREFIX} ({prefix:?}), where Andon publishes and ignores devices; choose another topic or \
                 another prefix",
                filter.as_str()
            );
            self.report(&[key, PREFIX], message);
        }
    }

    fn journal(&mut self, settings: &Settings) {
        const SEGMENT: &str = "journal.segment_bytes";
        let too_large = settings.journal.segment_bytes > settings.journal.max_bytes;
        // A default above a small bound is no contradiction: the journal uses at most a quarter of the bound.
        if too_large && self.is_set(SEGMENT) {
            self.report(&[SEGMENT, "journal.max_bytes"], "must not be larger than journal.max_bytes");
        }
    }

    fn fields(&mut self, pointers: &BTreeMap<String, String>) {
        let place = |field: &str| pointers.get(field).cloned().unwrap_or_else(|| format!("/{field}"));
        let tokens = |pointer: &str| pointer.split('/').map(str::to_owned).collect::<Vec<_>>();
        for (index, field) in FIELDS.iter().enumerate() {
            for other in &FIELDS[index + 1..] {
                let (a, b) = (tokens(&place(field)), tokens(&place(other)));
                if a.starts_with(&b) || b.starts_with(&a) {
                    let mapped = if pointers.contains_key(*field) { field } else { other };
                    let key = format!("payload.fields.{mapped}");
                    self.report(
                        &[&key],
                        format!("{field} and {other} would come from the same place; map one elsewhere"),
                    );
                }
            }
        }
    }

    /// Names are unique, and a token that other computers can try cannot be guessed.
    fn tokens(&mut self, http: &Http) {
        for (index, token) in http.tokens.iter().enumerate() {
            let key = format!("{HTTP_TOKENS}[{index}]");
            if http.tokens[..index].iter().any(|other| other.name == token.name) {
                self.report(&[HTTP_TOKENS], format!("{key}: another token is named {:?}, too", token.name));
            }
            if http.tokens[..index].iter().any(|other| other.token == token.token)
                || http.token.as_ref() == Some(&token.token)
            {
                self.report(
                    &[HTTP_TOKENS],
                    format!("{key}: another token is the same text; make one for each"),
                );
            }
            let secret = token.token.expose();
            if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                self.report(&[HTTP_TOKENS], format!("{key}: its token {NOT_FOR_A_HEADER}"));
            }
            if !http.is_local() && secret.len() < TOKEN_BYTES_MIN {
                let message = format!(
                    "{key}: its token has fewer than {TOKEN_BYTES_MIN} characters, and other computers can try it"
                );
                self.report(&[HTTP_TOKENS], message);
            }
        }
    }

    fn http(&mut self, settings: &Settings) {
        let http = &settings.http;
        // A token file that cannot be read counts, too: it shows that a token is wanted.
        let named = (!http.tokens.is_empty()).then_some(HTTP_TOKENS);
        let tokens =
            ["http.token", "http.token_file"].into_iter().filter(|key| self.is_set(key)).chain(named);
        let tokens = tokens.collect::<Vec<_>>().join(" and ");
        if http.anonymous && !tokens.is_empty() {
            self.report(&["http.anonymous"], format!("contradicts {tokens}; keep one of them"));
        }
        self.tokens(http);
        self.proxy_users(http);
        self.listeners(http);
        if http.streams_max >= http.connections_max {
            self.report(
                &["http.streams_max", "http.connections_max"],
                "leaves no connection for other requests; it must be below http.connections_max",
            );
        }
    }

    fn machines(&mut self, settings: &Settings) {
        const KEY: &str = "liveness.machines_max";
        let named = settings.liveness.machines.len();
        if named > settings.liveness.machines_max {
            self.report(
                &[KEY, "liveness.machines"],
                format!("is below the number of machines in [liveness.machines], {named}"),
            );
        }
    }
}
