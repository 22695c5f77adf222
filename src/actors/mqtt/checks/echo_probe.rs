//! Sends one echo (LINK-1) and waits for the broker to return it, for `config check --connect`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::client::error::LinkError;
use super::super::client::link::{Link, Published};
use crate::domain::{Qos, TopicFilter};

/// Waits for its own echo, with a random payload. A service that runs with the same topic ignores it.
pub struct EchoProbe {
    topic: TopicFilter,
    payload: String,
    arrived: Arc<Notify>,
}

impl EchoProbe {
    /// Listens on a link that is not connected yet.
    pub fn listen(link: &Link, topic: TopicFilter) -> Self {
        let (payload, arrived) = (format!("check-{:016x}", rand::random::<u64>()), Arc::new(Notify::new()));
        let (wanted, found) = (payload.clone(), Arc::clone(&arrived));
        let topic_wanted = topic.clone();
        // The guard does not matter here: without it an invalid topic ends this command, and loses nothing.
        let _guarded = link.on_message(move |message| {
            if message.topic == topic_wanted.as_str().as_bytes() && message.payload == wanted.as_bytes() {
                found.notify_one();
            }
        });
        Self { topic, payload, arrived }
    }

    /// Subscribes with `qos`, that of the telemetry, and sends the echo. Returns how long it took to come
    /// back.
    ///
    /// # Errors
    /// Why it did not come back, in words, with what to allow.
    pub async fn run(self, link: &Link, qos: Qos, within: Duration) -> Result<Duration, String> {
        let allow = format!("allow the user to publish and to subscribe to {}", self.topic);
        let granted = link.subscribe(&self.topic, qos).await.map_err(|error| match error {
            LinkError::Subscribe { reason, .. } => format!("not subscribed: {reason}; {allow}"),
            other => other.to_string(),
        })?;
        if granted < link.granted_at_most(qos) {
            let (granted, qos) = (granted.as_u8(), qos.as_u8());
            return Err(format!("the broker grants QoS {granted} for it and {qos} for telemetry"));
        }
        let sent = Instant::now();
        match link.publish(self.topic.as_str(), self.payload.into_bytes(), false).await {
            Ok(Published::Accepted) => {}
            Ok(Published::Refused { reason, .. }) => return Err(format!("not published: {reason}; {allow}")),
            Err(error) => return Err(error.to_string()),
        }
        match actix_rt::time::timeout(within, self.arrived.notified()).await {
            Ok(()) => Ok(sent.elapsed()),
            Err(_) => Err(format!(
                "the broker accepted it and did not return it within {} s; {allow}",
                within.as_secs()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::super::tests::link_to;
    use super::super::super::tests::scripted_broker::{
        Answer, Packet, ScriptedBroker, connack_5, puback, publish, suback_5,
    };
    use super::*;

    const TOPIC: &str = "andon/test/echo";

    /// The payload of a PUBLISH to [`TOPIC`] without properties.
    fn payload(packet: &Packet) -> String {
        String::from_utf8(packet.body[2 + TOPIC.len() + 3..].to_vec()).unwrap()
    }

    /// Runs the probe against a broker that grants `granted` and answers an echo with `hand_back`.
    fn probe(
        granted: u8,
        hand_back: impl Fn(&Packet) -> Vec<u8> + Send + 'static,
    ) -> Result<Duration, String> {
        let broker = ScriptedBroker::start(move |packet| {
            Answer::Send(match packet {
                _ if packet.is_connect() => connack_5(0, ""),
                _ if packet.is_subscribe() => suback_5(packet, granted, ""),
                _ if packet.is_publish() => [hand_back(packet), puback(packet)].concat(),
                _ => Vec::new(),
            })
        });
        actix::System::new().block_on(async {
            let link = Rc::new(link_to(broker.port()));
            let probe = EchoProbe::listen(&link, TopicFilter::parse(TOPIC).unwrap());
            link.connect().await.unwrap();
            probe.run(&link, Qos::AtLeastOnce, Duration::from_millis(300)).await
        })
    }

    #[test]
    fn the_echo_has_to_come_back_as_telemetry_does() {
        let back = |packet: &Packet| publish(true, TOPIC, &payload(packet), 1);
        assert!(probe(1, back).is_ok());
        let refused = probe(0, back).unwrap_err();
        assert!(refused.contains("grants QoS 0 for it and 1 for telemetry"), "{refused}");
    }

    #[test]
    fn another_message_is_no_echo_of_ours() {
        let of_another = |_: &Packet| publish(true, TOPIC, "check-0000000000000000", 1);
        let elsewhere = |packet: &Packet| publish(true, "andon/test/else", &payload(packet), 1);
        for refused in [probe(1, of_another), probe(1, elsewhere)] {
            let refused = refused.unwrap_err();
            assert!(refused.contains("did not return it") && refused.contains(TOPIC), "{refused}");
        }
    }
}
