//! The steps of each broker: resolve, connect, TLS, CONNECT, SUBSCRIBE, and an echo.

use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use super::Step;
use crate::actors::mqtt::checks::certificates::unix_seconds;
use crate::actors::mqtt::checks::echo_probe::EchoProbe;
use crate::actors::mqtt::checks::probe;
use crate::actors::mqtt::checks::tls_diagnosis::{Shown, handshake, one_line_name};
use crate::actors::mqtt::client::error::LinkError;
use crate::actors::mqtt::client::link::Link;
use crate::actors::mqtt::client::options::{LinkOptions, Session};
use crate::app;
use crate::clock::wall_now;
use crate::config::Settings;
use crate::domain::{Endpoint, ProtocolChoice, Qos, Timestamp, TopicFilter};

const MICROS: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;
/// How long to wait for the echo; a new session has no queue before it.
const ECHO_MAX: Duration = Duration::from_secs(3);

/// Returns a client id that no other client uses. Every broker must accept up to 23 letters and digits (MQTT 3.1.1,
/// 3.1.3.1).
pub(super) fn throw_away_client_id() -> String {
    format!("andoncheck{:08x}", rand::random::<u32>())
}

/// Takes all steps at all brokers. A failed step is the last one at its broker.
pub(super) fn check(settings: &Settings, client_id: &str) -> Vec<Step> {
    let options = LinkOptions {
        client_id: client_id.to_owned(),
        session: Session::ThrowAway,
        ..app::link_options(settings, None)
    };
    let wanted = Wanted { filters: app::subscriptions(settings), echo: app::echo_topic(settings) };
    let brokers = app::endpoints(settings);
    brokers.iter().flat_map(|endpoint| check_broker(endpoint, &options, &wanted)).collect()
}

/// What a broker has to grant.
struct Wanted {
    filters: Vec<(TopicFilter, Qos)>,
    /// `None`: the service sends no echo.
    echo: Option<TopicFilter>,
}

fn check_broker(endpoint: &Endpoint, options: &LinkOptions, wanted: &Wanted) -> Vec<Step> {
    let target = format!("broker {}://{}", options.transport.as_str(), endpoint.address());
    let mut steps = Vec::new();
    let Some(stream) = check_tcp(&target, endpoint, options, &mut steps) else { return steps };
    if let Some(tls) = &options.tls {
        let shown = handshake(endpoint, tls, stream, options.connect_timeout);
        let failed = shown.is_err();
        let verified = if tls.verify { "" } else { "; NOT VERIFIED, because mqtt.tls.verify = false" };
        steps.push(Step::new(&target, "TLS", shown.map(|shown| describe_tls(&shown) + verified)));
        if failed {
            return steps;
        }
    } else {
        // Closes it before the client library opens its own.
        drop(stream);
    }
    let runtime = actix_rt::System::new();
    runtime.block_on(check_mqtt(&target, endpoint, options, wanted, &mut steps));
    steps
}

/// Resolves the name, opens the TCP connection, and asks the proxy for a tunnel if there is one.
fn check_tcp(
    target: &str,
    endpoint: &Endpoint,
    options: &LinkOptions,
    steps: &mut Vec<Step>,
) -> Option<TcpStream> {
    let proxy = options.proxy.as_ref();
    let first = proxy.map_or(endpoint, |proxy| &proxy.at);
    let of_proxy = if proxy.is_some() { " the proxy" } else { "" };
    let addresses = probe::resolve(first);
    let shown = addresses.clone().map(|addresses| {
        addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ")
    });
    steps.push(Step::new(target, format!("resolve{of_proxy}"), shown));
    let stream = probe::connect(&addresses.ok()?, options.connect_timeout);
    let peer =
        |stream: &TcpStream| stream.peer_addr().map_or_else(|_| String::new(), |peer| peer.to_string());
    steps.push(Step::new(
        target,
        format!("connect{of_proxy}"),
        stream.as_ref().map(peer).map_err(Clone::clone),
    ));
    let mut stream = stream.ok()?;
    if let Some(proxy) = proxy {
        let led = probe::tunnel(&mut stream, endpoint, proxy);
        let failed = led.is_err();
        steps.push(Step::new(target, "through the proxy", led.map(|()| endpoint.address())));
        if failed {
            return None;
        }
    }
    Some(stream)
}

/// Describes a handshake: `TLSv1.3; 'broker' until 2027-01-31 (70 days), …`.
fn describe_tls(shown: &Shown) -> String {
    let now = wall_now().as_micros() / MICROS;
    let certificates: Vec<String> = shown
        .chain
        .iter()
        .filter_map(|certificate| {
            let end = unix_seconds(certificate.not_after())?;
            let date =
                Timestamp::from_micros(end.saturating_mul(MICROS)).to_chrono().format("%Y-%m-%d").to_string();
            let name = one_line_name(certificate.subject_name());
            Some(format!("'{name}' until {date} ({} days)", (end - now).div_euclid(DAY_SECONDS)))
        })
        .collect();
    let alpn = shown.alpn.as_ref().map(|name| format!(", ALPN {name:?}")).unwrap_or_default();
    format!("{}{alpn}; {}", shown.version, certificates.join(", "))
}

async fn check_mqtt(
    target: &str,
    endpoint: &Endpoint,
    options: &LinkOptions,
    wanted: &Wanted,
    steps: &mut Vec<Step>,
) {
    let connected = connect(endpoint, options, wanted.echo.as_ref()).await;
    let detail = connected.as_ref().map(|(_, _, version)| format!("MQTT {version}")).map_err(|error| {
        let client_id = &options.client_id;
        format!(
            "{error} (this was tried with the client id {client_id:?}; the broker may allow only that of the service)"
        )
    });
    steps.push(Step::new(target, "CONNECT", detail));
    let Ok((link, echo, _)) = connected else { return };
    let granted_max = check_subscriptions(target, &link, &wanted.filters, steps).await;
    steps.push(match echo {
        Some(echo) => {
            let detail = echo.run(&link, granted_max, ECHO_MAX).await;
            Step::new(target, "echo", detail.map(|took| format!("came back after {} ms", took.as_millis())))
        }
        None => Step::skipped(
            target,
            "echo",
            "there is no liveness.publish_prefix, or all subscriptions are shared",
        ),
    });
    link.disconnect().await;
}

/// Subscribes to each filter; returns the highest quality of service that the broker granted.
async fn check_subscriptions(
    target: &str,
    link: &Link,
    filters: &[(TopicFilter, Qos)],
    steps: &mut Vec<Step>,
) -> Qos {
    let mut granted_max = Qos::AtMostOnce;
    for (filter, qos) in filters {
        let step = format!("SUBSCRIBE {filter}");
        if filter.is_shared() {
            let why = "it would take messages from the other members of the group";
            steps.push(Step::skipped(target, step, why));
            continue;
        }
        let granted = link.subscribe(filter, *qos).await.map_err(|error| match error {
            LinkError::Subscribe { reason, .. } => reason,
            other => other.to_string(),
        });
        granted_max = granted_max.max(*granted.as_ref().unwrap_or(&granted_max));
        let detail = granted.map(|granted| match granted {
            granted if granted < *qos => {
                format!("with QoS {} instead of {}", granted.as_u8(), qos.as_u8())
            }
            granted => format!("with QoS {}", granted.as_u8()),
        });
        steps.push(Step::new(target, step, detail));
    }
    granted_max
}

type Connected = (Rc<Link>, Option<EchoProbe>, &'static str);

async fn connect(
    endpoint: &Endpoint,
    options: &LinkOptions,
    echo: Option<&TopicFilter>,
) -> Result<Connected, LinkError> {
    let create = |v5| -> Result<_, LinkError> {
        let link = Link::create(options.clone(), endpoint.clone(), v5, |_| {})?;
        let probe = echo.map(|topic| EchoProbe::listen(&link, topic.clone()));
        Ok((Rc::new(link), probe))
    };
    let v5 = options.protocol != ProtocolChoice::V311;
    let (link, probe) = create(v5)?;
    match link.connect().await {
        Ok(_) => Ok((link, probe, if v5 { "5" } else { "3.1.1" })),
        Err(LinkError::ProtocolRefused | LinkError::HungUp | LinkError::Silent)
            if options.protocol == ProtocolChoice::Auto =>
        {
            let (link, probe) = create(false)?;
            link.connect().await?;
            Ok((link, probe, "3.1.1, because the broker refuses 5"))
        }
        Err(error) => Err(error),
    }
}
