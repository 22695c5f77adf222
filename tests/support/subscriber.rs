//! A subscriber that records what it receives.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use paho_mqtt as mqtt;

/// One message, with its time of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub topic: String,
    pub payload: String,
    pub retained: bool,
    pub at: SystemTime,
}

/// A subscriber with QoS 1; disconnects when dropped.
pub struct Subscriber {
    client: mqtt::AsyncClient,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Subscriber {
    /// Connects and subscribes.
    pub fn start(port: u16, filter: &str) -> Self {
        let options = mqtt::CreateOptionsBuilder::new()
            .server_uri(format!("tcp://127.0.0.1:{port}"))
            .persistence(mqtt::PersistenceType::None)
            .finalize();
        let client = mqtt::AsyncClient::new(options).unwrap();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let into = Arc::clone(&received);
        client.set_message_callback(move |_, message| {
            if let Some(message) = message {
                into.lock().unwrap().push(Received {
                    topic: message.topic().to_owned(),
                    payload: String::from_utf8_lossy(message.payload()).into_owned(),
                    retained: message.retained(),
                    at: SystemTime::now(),
                });
            }
        });
        let options =
            mqtt::ConnectOptionsBuilder::new_v5().connect_timeout(Duration::from_secs(10)).finalize();
        client.connect(options).wait().unwrap();
        client.subscribe(filter, 1).wait().unwrap();
        Self { client, received }
    }

    /// Returns everything received so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub fn len(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    /// Returns, in order, one field of each live (not retained) JSON message on a topic that ends with `suffix`.
    pub fn live(&self, suffix: &str, field: &str) -> Vec<String> {
        let all = self.received();
        let on_topic = all.iter().filter(|message| !message.retained && message.topic.ends_with(suffix));
        on_topic.map(|message| field_of(&message.payload, field)).collect()
    }
}

/// Returns a field of a JSON object as text.
pub fn field_of(payload: &str, field: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(payload).unwrap();
    match &json[field] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.client.is_connected() {
            let _ended = self.client.disconnect(None).wait_for(Duration::from_secs(2));
        }
    }
}
