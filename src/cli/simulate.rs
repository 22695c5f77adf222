//! `andon simulate`: a fleet of machines that publishes to a broker, until it is done or interrupted.

use std::future::poll_fn;
use std::io::{self, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use super::arguments::{duration, whole_number};
use super::{Exit, complain};
use crate::config::{Secret, Settings};
use crate::domain::{Qos, Transport};
use crate::logging::causes;
use crate::simulate::{self, MACHINE_PLACEHOLDER, SimulateError, SimulateOptions, SimulateReport};

/// Most machines that the last line names.
const NAMED_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The broker's name or address [default: mqtt.host]
    #[arg(long)]
    host: Option<String>,
    /// The broker's port, without TLS [default: mqtt.port]
    #[arg(long)]
    port: Option<u16>,
    /// Where the machines publish; {machine} stands for the machine's id [default: that of the first subscription]
    #[arg(long)]
    topic: Option<String>,
    /// How many machines
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    machines: u32,
    /// Time between two messages of a machine, such as 250ms
    #[arg(long, default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Stop after this time, such as 30s
    #[arg(long, value_parser = interval)]
    duration: Option<Duration>,
    /// Stop after this many messages
    #[arg(long, value_parser = whole_number::<u64>)]
    count: Option<u64>,
    /// Seed of the random numbers: the same seed makes the same machines
    #[arg(long, default_value_t = 1, value_parser = whole_number::<u64>)]
    seed: u64,
    /// Healthy machines only: no silence, wrong clocks, NaN, malformed messages, duplicates, bursts
    #[arg(long)]
    no_faults: bool,
    /// Quality of service to publish with
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Client id at the broker [default: andon-simulate- and the process id]
    #[arg(long)]
    client_id: Option<String>,
    /// Publish to a broker that is not on this computer; a plant would see the machines as real ones
    #[arg(long)]
    yes: bool,
    /// Print only errors
    #[arg(long)]
    quiet: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("expected a duration longer than 0".to_owned()),
        interval => Ok(interval),
    }
}

pub(super) fn run(options: Options, settings: &Settings) -> Exit {
    let (quiet, yes) = (options.quiet, options.yes);
    let options = match simulate_options(options, settings) {
        Ok(options) => options,
        Err(complaint) => {
            complain(&complaint);
            return Exit::Usage;
        }
    };
    if !yes && let Err(complaint) = refuse_foreign(&options.host, options.port) {
        complain(&complaint);
        return Exit::Usage;
    }
    let machines = options.machines;
    let stop = Arc::new(AtomicBool::new(false));
    if let Err(error) = stop_on_signal(Arc::clone(&stop)) {
        complain(&format!("failed to listen for signals: {error}"));
        return Exit::Failure;
    }
    let mut printed = String::new();
    let mut report = |report: SimulateReport| {
        let line = line(&report);
        // A broker that stays away is reported once. A closed standard output is no reason to stop.
        if !quiet && line != printed {
            writeln!(io::stdout(), "{line}").ok();
        }
        printed = line;
    };
    match simulate::run(options, stop, &mut report) {
        Ok(last) => {
            let has_published = last.published > 0;
            report(last);
            if has_published && !quiet {
                writeln!(io::stdout(), "{}", how_to_forget(machines)).ok();
            }
            Exit::Clean
        }
        Err(error) => {
            complain(&format!("failed to simulate: {}", causes(&error)));
            if matches!(error, SimulateError::Option(_)) { Exit::Usage } else { Exit::Failure }
        }
    }
}

/// Refuses a broker that is not on this computer: its machines would stay on a plant's board for ever.
fn refuse_foreign(host: &str, port: u16) -> Result<(), String> {
    let addresses = (host, port).to_socket_addrs();
    let addresses: Vec<IpAddr> = addresses.map(|found| found.map(|at| at.ip()).collect()).unwrap_or_default();
    // A name that cannot be resolved is not known to be here.
    if !addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback) {
        return Ok(());
    }
    Err(format!(
        "the broker {host} is not on this computer: whoever listens there takes the simulated machines for real ones, and they \
         stay on the board until they are forgotten. If that is meant, give --yes"
    ))
}

/// Says how to get rid of the machines.
fn how_to_forget(machines: u32) -> String {
    let names: Vec<String> = (0..machines).take(NAMED_MAX).map(simulate::machine_name).collect();
    let rest = if machines as usize > NAMED_MAX { " …" } else { "" };
    format!(
        "these machines stay on the board; forget them with: andon machines forget {}{rest}",
        names.join(" ")
    )
}

fn simulate_options(options: Options, settings: &Settings) -> Result<SimulateOptions, String> {
    let mqtt = &settings.mqtt;
    if mqtt.transport != Transport::Tcp && (options.host.is_none() || options.port.is_none()) {
        let transport = mqtt.transport.as_str();
        return Err(format!(
            "simulate only speaks plain TCP, but mqtt.transport is {transport:?}; give --host and --port of a listener without TLS"
        ));
    }
    let first_filter = mqtt.subscriptions.first().map(|subscription| subscription.filter.as_str());
    let topic_template = match options.topic {
        Some(topic) => topic,
        None => topic_after(first_filter.unwrap_or_default()).ok_or_else(|| {
            format!("the subscription {first_filter:?} does not tell where machines publish; give --topic")
        })?,
    };
    Ok(SimulateOptions {
        host: options.host.unwrap_or_else(|| mqtt.host.clone()),
        port: options.port.unwrap_or(mqtt.port),
        username: mqtt.username.clone(),
        password: mqtt.password.as_ref().map(Secret::expose).map(str::to_owned),
        topic_template,
        machines: options.machines,
        interval: options.interval,
        duration: options.duration,
        count: options.count,
        seed: options.seed,
        faults: !options.no_faults,
        qos: Qos::from_u8(options.qos).unwrap_or(Qos::AtLeastOnce),
        client_id: options.client_id.unwrap_or_else(|| format!("andon-simulate-{}", std::process::id())),
    })
}

/// Replaces the one `+` of the filter by the machine; `None` if it has none, more than one, or a `#`.
fn topic_after(filter: &str) -> Option<String> {
    let filter = match filter.strip_prefix("$share/") {
        Some(shared) => shared.split_once('/')?.1,
        None => filter,
    };
    let is_plain = filter.matches('+').count() == 1 && !filter.contains('#');
    is_plain.then(|| filter.replace('+', MACHINE_PLACEHOLDER))
}

fn line(report: &SimulateReport) -> String {
    let faults: Vec<String> = report
        .faults
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(fault, count)| format!("{} {count}", fault.as_str()))
        .collect();
    let faults = if faults.is_empty() { String::new() } else { format!("; faults: {}", faults.join(", ")) };
    let link = match (&report.problem, report.connected) {
        (Some(problem), _) => format!("; no connection: {problem}"),
        (None, true) => String::new(),
        // At the end the connection is closed.
        (None, false) if report.acknowledged >= report.published => String::new(),
        (None, false) => "; not connected".to_owned(),
    };
    format!("simulated {} messages, {} acknowledged{link}{faults}", report.published, report.acknowledged)
}

/// Sets `stop` at the first SIGINT or SIGTERM.
fn stop_on_signal(stop: Arc<AtomicBool>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = move || {
        runtime.block_on(poll_fn(|context| {
            let interrupted = interrupt.poll_recv(context).is_ready();
            let terminated = terminate.poll_recv(context).is_ready();
            if interrupted || terminated { Poll::Ready(()) } else { Poll::Pending }
        }));
        stop.store(true, Ordering::Relaxed);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_publish_where_the_first_subscription_listens() {
        let table = [
            ("factory/machine/+/telemetry", Some("factory/machine/{machine}/telemetry")),
            ("$share/g/a/+/b", Some("a/{machine}/b")),
            ("a/+/+/b", None),
            ("a/+/#", None),
            ("a/b", None),
        ];
        for (filter, expected) in table {
            assert_eq!(topic_after(filter).as_deref(), expected, "{filter}");
        }
    }

    #[test]
    fn only_a_broker_on_this_computer_needs_no_confirmation() {
        for here in ["localhost", "127.0.0.1", "::1", "127.1.2.3"] {
            assert_eq!(refuse_foreign(here, 1883), Ok(()), "{here}");
        }
        for elsewhere in ["192.0.2.7", "0.0.0.0", "no-such-host.invalid"] {
            let complaint = refuse_foreign(elsewhere, 1883).unwrap_err();
            assert!(complaint.contains(elsewhere) && complaint.contains("--yes"), "{complaint}");
        }
    }

    #[test]
    fn the_last_line_names_the_machines_to_forget() {
        let line = how_to_forget(2);
        let names = [simulate::machine_name(0), simulate::machine_name(1)].join(" ");
        assert!(line.ends_with(&format!("andon machines forget {names}")), "{line}");
        assert!(how_to_forget(1_000_000).len() < 1_000);
    }

    #[test]
    fn an_interval_needs_a_unit_and_is_longer_than_zero() {
        assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
        assert!(interval("0s").is_err());
        assert!(interval("5").is_err());
    }
}
