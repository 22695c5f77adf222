//! Publishes, and returns only once the broker has acknowledged.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use paho_mqtt as mqtt;

/// Messages in flight at once.
const IN_FLIGHT_MAX: usize = 200;
/// Limit for a broker that is away.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Limit for an acknowledgement; after it the publisher connects again.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// 2026-01-01T00:00:00Z in microseconds.
const EPOCH_MICROS: u64 = 1_767_225_600_000_000;

/// Returns topic and payload of message `number`: about 120 bytes, with times one millisecond apart.
pub fn numbered(topic_template: &str, machines: u32, number: u64) -> (String, String) {
    let machine = format!("press-{:03}", number % u64::from(machines));
    let topic = topic_template.replace("{machine}", &machine);
    let micros = EPOCH_MICROS + number * 1000;
    let timestamp = chrono::DateTime::from_timestamp_micros(i64::try_from(micros).unwrap()).unwrap();
    let timestamp = timestamp.format("%Y-%m-%dT%H:%M:%S%.6fZ");
    let temperature = 20.0 + (number % 100) as f64 / 10.0;
    let payload = format!(
        r#"{{"machine_id":"{machine}","n":{number},"temperature":{temperature:.1},"humidity":41.5,"vibration":0.42,"timestamp":"{timestamp}"}}"#
    );
    (topic, payload)
}

/// Publishes the messages of `range`, and returns once the broker has acknowledged all.
pub fn publish_numbered(port: u16, topic_template: &str, machines: u32, range: Range<u64>, qos: i32) {
    publish_each(port, range, qos, |number| numbered(topic_template, machines, number));
}

/// Publishes what `message` returns for each number, and returns once the broker has acknowledged all. Publishes a message again if its
/// acknowledgement was lost with the connection.
pub fn publish_each<P: Into<Vec<u8>>>(
    port: u16,
    numbers: impl IntoIterator<Item = u64>,
    qos: i32,
    message: impl Fn(u64) -> (String, P),
) {
    publish_windows(port, numbers, qos, IN_FLIGHT_MAX, message, |_| {});
}

/// The same, `window_max` messages at a time; calls `after_each` when a window is acknowledged, with its last number.
pub fn publish_windows<P: Into<Vec<u8>>>(
    port: u16,
    numbers: impl IntoIterator<Item = u64>,
    qos: i32,
    window_max: usize,
    message: impl Fn(u64) -> (String, P),
    after_each: impl FnMut(u64),
) {
    publish_windows_with(&mut Single::connect(port), numbers, qos, window_max, message, after_each);
}

/// As [`publish_numbered`], with a given client.
pub fn publish_numbered_with(
    single: &mut Single,
    topic_template: &str,
    machines: u32,
    range: Range<u64>,
    qos: i32,
) {
    let message = |number| numbered(topic_template, machines, number);
    publish_windows_with(single, range, qos, IN_FLIGHT_MAX, message, |_| {});
}

fn publish_windows_with<P: Into<Vec<u8>>>(
    single: &mut Single,
    numbers: impl IntoIterator<Item = u64>,
    qos: i32,
    window_max: usize,
    message: impl Fn(u64) -> (String, P),
    mut after_each: impl FnMut(u64),
) {
    let numbers: Vec<u64> = numbers.into_iter().collect();
    for window in numbers.chunks(window_max) {
        let mut open: Vec<u64> = window.to_vec();
        let deadline = Instant::now() + WAIT_MAX;
        while !open.is_empty() {
            assert!(Instant::now() < deadline, "the broker does not acknowledge");
            let tokens: Vec<_> = open
                .iter()
                .map(|number| {
                    let (topic, payload) = message(*number);
                    (*number, single.client.try_publish(mqtt::Message::new(topic, payload, qos)))
                })
                .collect();
            open.clear();
            for (number, token) in tokens {
                // Messages of a broken connection never complete: wait for one of them only.
                let acknowledged = open.is_empty() && token.is_ok_and(|token| single.is_acknowledged(token));
                if !acknowledged {
                    open.push(number);
                }
            }
            if !open.is_empty() {
                single.connect_again();
            }
        }
        after_each(window[window.len() - 1]);
    }
}

/// Publishes a message that the broker keeps for new subscribers, and waits for the acknowledgement.
pub fn retain(port: u16, topic: &str, payload: &str) {
    let published = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-r", "-q", "1", "-t", topic, "-m", payload])
        .status();
    assert!(published.unwrap().success());
}

/// A client that publishes one message at a time.
pub struct Single {
    /// Never destroyed: the library would then free a message of a broken connection twice (`src/actors/mqtt/client/inflight.rs`) and
    /// end the process of all tests.
    client: ManuallyDrop<mqtt::AsyncClient>,
    port: u16,
    v5: bool,
}

fn new_client(port: u16, v5: bool) -> ManuallyDrop<mqtt::AsyncClient> {
    let options = mqtt::CreateOptionsBuilder::new()
        .mqtt_version(if v5 { mqtt::MQTT_VERSION_5 } else { mqtt::MQTT_VERSION_3_1_1 })
        .server_uri(format!("tcp://127.0.0.1:{port}"))
        .persistence(mqtt::PersistenceType::None)
        .max_buffered_messages(10_000)
        .finalize();
    ManuallyDrop::new(mqtt::AsyncClient::new(options).unwrap())
}

impl Single {
    pub fn connect(port: u16) -> Self {
        Self::connect_as(port, true)
    }

    /// Connects with MQTT 5 or 3.1.1.
    pub fn connect_as(port: u16, v5: bool) -> Self {
        let mut single = Self { client: new_client(port, v5), port, v5 };
        single.connect_again();
        single
    }

    fn connect_again(&mut self) {
        let deadline = Instant::now() + WAIT_MAX;
        if !self.client.is_connected() {
            // A client that a lost connection left with messages does not survive a second connect either.
            self.client = new_client(self.port, self.v5);
        }
        while !self.client.is_connected() {
            let mut options = if self.v5 {
                mqtt::ConnectOptionsBuilder::new_v5()
            } else {
                mqtt::ConnectOptionsBuilder::new_v3()
            };
            if self.v5 {
                // Without a session the library frees such a message twice as soon as the connection is lost.
                let mut properties = mqtt::Properties::new();
                properties.push_u32(mqtt::PropertyCode::SessionExpiryInterval, 1).unwrap();
                options.properties(properties);
            }
            let options = options.connect_timeout(Duration::from_secs(5)).max_inflight(1000).finalize();
            if let Err(error) = self.client.connect(options).wait() {
                assert!(Instant::now() < deadline, "no connection to the test's broker: {error}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Waits for the acknowledgement while the connection lasts; false if it does not come.
    fn is_acknowledged(&self, mut token: mqtt::DeliveryToken) -> bool {
        let deadline = Instant::now() + ACKNOWLEDGED_WITHIN;
        loop {
            match pin!(&mut token).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => return outcome.is_ok(),
                Poll::Pending if !self.client.is_connected() || Instant::now() > deadline => return false,
                Poll::Pending => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }

    /// Publishes and waits for the acknowledgement.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: i32) {
        self.publish_message(&mqtt::Message::new(topic, payload, qos));
    }

    /// The same for a message that the broker keeps for later subscribers.
    pub fn publish_retained(&mut self, topic: &str, payload: &[u8], qos: i32) {
        self.publish_message(&mqtt::Message::new_retained(topic, payload, qos));
    }

    fn publish_message(&mut self, message: &mqtt::Message) {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let sent = self.client.try_publish(message.clone());
            if sent.is_ok_and(|token| self.is_acknowledged(token)) {
                return;
            }
            assert!(Instant::now() < deadline, "the broker does not acknowledge");
            self.connect_again();
        }
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        if self.client.is_connected() {
            let _ended = self.client.disconnect(None).wait_for(Duration::from_secs(2));
        }
    }
}
