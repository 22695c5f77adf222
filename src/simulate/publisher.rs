//! Publishes the fleet's messages over one MQTT 5 connection.
//!
//! Messages unacknowledged on a lost connection are published again on the next one: at least once, as devices do. Andon
//! recognises the duplicates by their content.
//!
//! A paho client is never dropped. A pending connect holds a reference to it inside the library. If that is the last one,
//! its end destroys the client on the library's own thread, under the library's global lock, and then waits for that lock
//! for ever, and with it every client of the process (paho-mqtt 0.14.0, seen with a broker that accepts the connection and
//! never answers). A client that has lost its connection is not used again either: the library would send and free an
//! interrupted message once more (paho C 1.3.16, its issues 1621 and 1622).

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use paho_mqtt as paho;
use rand::RngExt;
use thiserror::Error;

use crate::domain::{Qos, Timestamp};

use super::faults::FaultCounts;
use super::fleet::{Fleet, MACHINE_PLACEHOLDER, Outgoing};

/// Most messages published and not yet acknowledged.
pub const IN_FLIGHT_MAX: usize = 1000;

/// Time between two reports, and the longest sleep before `stop` is checked.
const REPORT_EVERY: Duration = Duration::from_secs(5);
const SLEEP_MAX: Duration = Duration::from_millis(100);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest session.
const SESSION_SECONDS: u32 = 1;
/// How long to wait for the last acknowledgements.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What to simulate, and where.
#[derive(Debug, Clone)]
pub struct SimulateOptions {
    /// The broker's name or address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// User name, if the broker requires one.
    pub username: Option<String>,
    /// Password; never printed.
    pub password: Option<String>,
    /// Topic of each machine, with `{machine}` in place of its id.
    pub topic_template: String,
    /// Number of machines, at least 1.
    pub machines: u32,
    /// Time between two messages of a machine.
    pub interval: Duration,
    /// End after this time.
    pub duration: Option<Duration>,
    /// End after this many messages of the fleet.
    pub count: Option<u64>,
    /// Seed of the fleet: the same seed produces the same machines.
    pub seed: u64,
    /// Whether the last machines of the fleet have faults.
    pub faults: bool,
    /// Quality of service to publish with.
    pub qos: Qos,
    /// Client id at the broker.
    pub client_id: String,
}

/// Progress of the simulation; the totals only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SimulateReport {
    /// Messages of the fleet handed to the client, each counted once.
    pub published: u64,
    /// Of those, acknowledged by the broker (QoS 0: written to the connection).
    pub acknowledged: u64,
    /// Messages published again because the connection was lost before the acknowledgement.
    pub published_again: u64,
    /// Connections made.
    pub connections: u64,
    /// True while there is a connection.
    pub connected: bool,
    /// Why the last attempt to connect, or the last connection, failed; `None` once there is a connection.
    pub problem: Option<String>,
    /// How often each fault occurred.
    pub faults: FaultCounts,
}

/// Why a simulation could not run. A broker that is away or refuses is not an error: it is retried and reported.
#[derive(Debug, Error)]
pub enum SimulateError {
    /// An option is out of its range.
    #[error("{0}")]
    Option(&'static str),
    /// The client library refuses the host, port or client id.
    #[error("create the MQTT client")]
    CreateClient(#[source] paho::Error),
}

/// Publishes until `stop` is set, or the duration or count is reached; returns the final report. Calls `report` every five
/// seconds and after each attempt to connect.
///
/// # Errors
/// [`SimulateError`] if it cannot even begin.
pub fn run(
    options: SimulateOptions,
    stop: Arc<AtomicBool>,
    report: &mut dyn FnMut(SimulateReport),
) -> Result<SimulateReport, SimulateError> {
    check(&options)?;
    let fleet = Fleet::new(
        options.machines,
        options.interval,
        &options.topic_template,
        options.seed,
        options.faults,
        device_now(),
    );
    let publisher = Publisher {
        fleet,
        stop,
        started: Instant::now(),
        queue: VecDeque::new(),
        in_flight: VecDeque::new(),
        left: options.count.unwrap_or(u64::MAX),
        state: SimulateReport::default(),
        reported: Instant::now(),
        options,
    };
    publisher.run(report)
}

/// Returns what the devices' clock says.
#[expect(clippy::disallowed_methods, reason = "simulated devices have a clock of their own, not Andon's")]
fn device_now() -> Timestamp {
    Timestamp::from(Utc::now())
}

fn check(options: &SimulateOptions) -> Result<(), SimulateError> {
    let checks = [
        (options.machines == 0, "at least one machine is needed"),
        (options.interval.is_zero(), "the interval must be longer than 0"),
        (
            !options.topic_template.contains(MACHINE_PLACEHOLDER),
            "the topic must contain {machine}, which stands for the machine's id",
        ),
        (options.topic_template.contains(['+', '#', '\0']), "a topic to publish to cannot contain + or #"),
    ];
    match checks.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, message)) => Err(SimulateError::Option(message)),
        None => Ok(()),
    }
}

struct Publisher {
    options: SimulateOptions,
    fleet: Fleet,
    stop: Arc<AtomicBool>,
    started: Instant,
    /// Taken from the fleet, not yet passed to the client; the flag: it was passed to an earlier client.
    queue: VecDeque<(Outgoing, bool)>,
    /// Passed to the client, oldest first.
    in_flight: VecDeque<(Outgoing, paho::Token)>,
    /// Messages that may still be taken from the fleet.
    left: u64,
    state: SimulateReport,
    reported: Instant,
}

impl Publisher {
    fn run(mut self, report: &mut dyn FnMut(SimulateReport)) -> Result<SimulateReport, SimulateError> {
        let mut client = ManuallyDrop::new(self.create_client()?);
        let mut backoff = BACKOFF_MIN;
        while !self.is_over() {
            let attempted = Instant::now();
            let problem = match self.connect(&client) {
                Ok(()) => {
                    self.state.connections += 1;
                    self.set_connected(None, report);
                    let problem = self.publish_while_connected(&client, report);
                    self.keep_unacknowledged();
                    disconnect(&client);
                    client = ManuallyDrop::new(self.create_client()?);
                    problem
                }
                Err(problem) => Some(problem),
            };
            let Some(problem) = problem.filter(|_| !self.is_over()) else { break };
            self.set_connected(Some(problem), report);
            if attempted.elapsed() > BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            self.sleep(backoff.mul_f64(rand::rng().random_range(0.5..=1.0)));
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        self.state.connected = false;
        Ok(self.report_now())
    }

    /// Returns whether the simulation is stopped, out of time, or has published every message.
    fn is_over(&self) -> bool {
        let out_of_time = self.options.duration.is_some_and(|duration| self.started.elapsed() >= duration);
        let all_published = self.left == 0 && self.queue.is_empty() && self.in_flight.is_empty();
        out_of_time || all_published || self.stop.load(Ordering::Relaxed)
    }

    fn create_client(&self) -> Result<paho::AsyncClient, SimulateError> {
        let host = &self.options.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let options = paho::CreateOptionsBuilder::new()
            .server_uri(format!("tcp://{host}:{}", self.options.port))
            .client_id(self.options.client_id.as_str())
            .persistence(paho::PersistenceType::None)
            .mqtt_version(paho::MqttVersion::V5)
            // The library's default is 100, and publishing fails beyond it. Our own bound is lower than this one.
            .max_buffered_messages(i32::try_from(2 * IN_FLIGHT_MAX).unwrap_or(i32::MAX))
            .finalize();
        paho::AsyncClient::new(options).map_err(SimulateError::CreateClient)
    }

    /// Tries to connect once, until the simulation is over. The library gives up after [`CONNECT_TIMEOUT`] for each address
    /// of the host.
    fn connect(&self, client: &paho::AsyncClient) -> Result<(), String> {
        let mut options = paho::ConnectOptionsBuilder::new_v5();
        // Without a session the library frees an interrupted message twice when the connection is lost.
        let mut properties = paho::Properties::new();
        properties
            .push_u32(paho::PropertyCode::SessionExpiryInterval, SESSION_SECONDS)
            .map_err(|error| error.to_string())?;
        options
            .properties(properties)
            .clean_start(true)
            .keep_alive_interval(Duration::from_secs(10))
            .connect_timeout(CONNECT_TIMEOUT)
            .max_inflight(i32::try_from(IN_FLIGHT_MAX).unwrap_or(i32::MAX));
        if let Some(username) = &self.options.username {
            options.user_name(username.as_str());
        }
        if let Some(password) = &self.options.password {
            options.password(password.as_str());
        }
        let mut token = client.connect(options.finalize());
        while !self.is_over() {
            match token.try_wait() {
                Some(answer) => return answer.map(|_response| ()).map_err(|error| error.to_string()),
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
        Err("no answer".to_owned())
    }

    /// Publishes due messages until the simulation is over (`None`) or the connection is lost (the reason).
    fn publish_while_connected(
        &mut self,
        client: &paho::AsyncClient,
        report: &mut dyn FnMut(SimulateReport),
    ) -> Option<String> {
        loop {
            self.take_acknowledgements();
            if self.reported.elapsed() >= REPORT_EVERY {
                self.reported = Instant::now();
                report(self.report_now());
            }
            if !client.is_connected() {
                return Some("the connection was lost".to_owned());
            }
            if self.is_over() {
                self.drain(client);
                return None;
            }
            if self.queue.is_empty() {
                self.take_from_fleet();
            }
            if self.in_flight.len() >= IN_FLIGHT_MAX {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let Some(next) = self.queue.pop_front() else {
                self.sleep_until_due();
                continue;
            };
            if let Err(problem) = self.publish(client, next) {
                return Some(problem);
            }
        }
    }

    fn take_from_fleet(&mut self) {
        if self.left == 0 {
            return;
        }
        let mut messages = self.fleet.next(device_now());
        messages.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= u64::try_from(messages.len()).unwrap_or(u64::MAX).min(self.left);
        self.queue.extend(messages.into_iter().map(|message| (message, false)));
    }

    fn publish(&mut self, client: &paho::AsyncClient, next: (Outgoing, bool)) -> Result<(), String> {
        let (outgoing, again) = next;
        let qos = i32::from(self.options.qos.as_u8());
        let message = paho::Message::new(outgoing.topic.as_str(), outgoing.payload.as_slice(), qos);
        match client.try_publish(message) {
            Ok(token) => {
                self.state.published += u64::from(!again);
                self.state.published_again += u64::from(again);
                self.in_flight.push_back((outgoing, token.into()));
                Ok(())
            }
            Err(error) => {
                self.queue.push_front((outgoing, again));
                Err(error.to_string())
            }
        }
    }

    /// Counts acknowledged messages, oldest first; queues failed ones again.
    fn take_acknowledgements(&mut self) {
        while let Some((_, token)) = self.in_flight.front_mut() {
            let Some(result) = token.try_wait() else {
                return;
            };
            let Some((outgoing, _)) = self.in_flight.pop_front() else {
                return;
            };
            match result {
                Ok(_) => self.state.acknowledged += 1,
                Err(_) => self.queue.push_back((outgoing, true)),
            }
        }
    }

    /// Queues unacknowledged messages before everything else, after a lost connection.
    fn keep_unacknowledged(&mut self) {
        self.take_acknowledgements();
        for (outgoing, _) in self.in_flight.drain(..).rev() {
            self.queue.push_front((outgoing, true));
        }
    }

    /// Waits for the last acknowledgements, for at most [`DRAIN_MAX`].
    fn drain(&mut self, client: &paho::AsyncClient) {
        let until = Instant::now() + DRAIN_MAX;
        while !self.in_flight.is_empty() && client.is_connected() && Instant::now() < until {
            self.take_acknowledgements();
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn set_connected(&mut self, problem: Option<String>, report: &mut dyn FnMut(SimulateReport)) {
        self.state.connected = problem.is_none();
        self.state.problem = problem;
        self.reported = Instant::now();
        report(self.report_now());
    }

    fn report_now(&self) -> SimulateReport {
        SimulateReport { faults: self.fleet.fault_counts(), ..self.state.clone() }
    }

    /// Sleeps until the next machine is due or acknowledgements may have arrived.
    fn sleep_until_due(&self) {
        let now = device_now();
        let until_due = match self.fleet.next_due() {
            Some(due) if self.left > 0 => due.since(now),
            _ => Duration::from_millis(5),
        };
        thread::sleep(until_due.clamp(Duration::from_micros(200), SLEEP_MAX));
    }

    /// Sleeps, but not past the end of the simulation.
    fn sleep(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while Instant::now() < until && !self.is_over() {
            thread::sleep(SLEEP_MAX.min(until.saturating_duration_since(Instant::now())));
        }
    }
}

/// Disconnects, also from a lost connection; a failure makes no difference then.
fn disconnect(client: &paho::AsyncClient) {
    drop(client.disconnect(None).wait_for(Duration::from_secs(2)));
}
