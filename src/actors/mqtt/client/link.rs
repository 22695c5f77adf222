//! One connection to one broker: a paho client and its operations.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use paho_mqtt as paho;

use super::client_thread;
use super::connected_flag::{Connection, LinkEnd, follow};
use super::error::{LinkError, explain, subscribe_reason, with_brokers_words};
use super::inflight::{Delivery, InFlight};
use super::options::LinkOptions;
use super::raw_callback::{Incoming, set_message_callback};
use crate::domain::Endpoint;
use crate::domain::{Qos, TopicFilter};

/// The broker's answer to a message of ours. Either answer is a sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The broker accepted it.
    Accepted,
    /// The broker refused it.
    Refused {
        /// Why, in its words.
        reason: String,
        /// Its access rules forbid it.
        not_authorised: bool,
    },
}

/// A paho client for one connection.
///
/// - PAHO-2 A client that is connecting is not destroyed, and an abandoned connect ends as soon as it is
///   answered. The library's own thread holds a handle of the client while it answers. If that were the last
///   handle, the thread would destroy the client and wait for itself, and with it every client of the
///   process.
/// - PAHO-3 A client that holds a message which it has freed is not destroyed (PAHO-1).
pub struct Link {
    /// `None` only while it is dropped.
    client: Option<paho::AsyncClient>,
    pub(super) options: LinkOptions,
    pub(super) endpoint: Endpoint,
    pub(super) v5: bool,
    /// No attempt to connect is in flight.
    pub(super) answered: Cell<bool>,
    inflight: Arc<InFlight>,
    pub(super) connection: Arc<Connection>,
    /// Set by [`Link::say_goodbye`].
    leaving: Arc<AtomicBool>,
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let inflight = Arc::clone(&self.inflight);
        let (answered, connection) = (self.answered.get(), Arc::clone(&self.connection));
        // Runs after all earlier calls: by then this is the last handle, except for the library's own.
        client_thread::post(move || {
            if answered && inflight.are_sound(connection.is_up()) {
                drop(client);
            } else {
                // A leaked client must at least not stay connected.
                let _later_or_never = client.disconnect(None);
                std::mem::forget(client);
            }
        });
    }
}

impl Link {
    /// Creates a client that is not connected yet. `v5` chooses the protocol. The library calls `on_end` on a
    /// thread of its own when the connection ends.
    ///
    /// # Errors
    /// [`LinkError::Create`] for options the library cannot take (a NUL in the client id, say).
    pub fn create(
        options: LinkOptions,
        endpoint: Endpoint,
        v5: bool,
        on_end: impl Fn(LinkEnd) + Clone + Send + 'static,
    ) -> Result<Self, LinkError> {
        let version = if v5 { paho::MqttVersion::V5 } else { paho::MqttVersion::V3_1_1 };
        let create = paho::CreateOptionsBuilder::new()
            .server_uri(options.transport.library_uri(&endpoint))
            .client_id(&options.client_id)
            // Our journal keeps what must survive; the library's own store would only slow it down.
            .persistence(paho::PersistenceType::None)
            .mqtt_version(version)
            .max_buffered_messages(PUBLISH_BUFFERED_MAX)
            .finalize();
        let client = paho::AsyncClient::new(create).map_err(|error| LinkError::Create(explain(&error)))?;
        let connection = Arc::new(Connection::default());
        follow(&client, &connection, on_end);
        Ok(Self {
            client: Some(client),
            options,
            endpoint,
            v5,
            answered: Cell::new(true),
            inflight: Arc::default(),
            connection,
            leaving: Arc::default(),
        })
    }

    fn client(&self) -> &paho::AsyncClient {
        self.client.as_ref().expect("only the drop takes it")
    }

    /// Hands every message to `deliver`, on the library's receive thread, before it is acknowledged. Call it
    /// before
    /// [`Link::connect`]. Returns `false` if this program is linked without the guard against invalid topics.
    pub fn on_message(&self, deliver: impl Fn(&Incoming<'_>) + Send + Sync + 'static) -> bool {
        set_message_callback(self.client(), deliver)
    }

    /// Returns whether the link is up, as the library's callbacks last said.
    pub fn is_connected(&self) -> bool {
        self.connection.is_up()
    }

    /// Calls the library on its own thread, so that this one does not wait for its lock.
    pub(super) fn call<T, C>(&self, call: C) -> impl Future<Output = Result<T, LinkError>> + use<T, C>
    where
        T: Send + 'static,
        C: FnOnce(&paho::AsyncClient) -> T + Send + 'static,
    {
        let client = self.client().clone();
        let answer = client_thread::call(move || call(&client));
        async { answer.await.ok_or(LinkError::Library) }
    }

    /// Returns the QoS that Andon really asks for. With 3.1.1 the library delivers a QoS 2 message only at
    /// its PUBREL, after our PUBREC let the broker forget the payload (paho C 1.3.16,
    /// `MQTTProtocol_handlePublishes`): a kill in between would lose it. QoS 1 and the digest are
    /// exactly-once without that gap. With 5 the library delivers before the PUBREC.
    pub fn granted_at_most(&self, qos: Qos) -> Qos {
        if self.v5 { qos } else { qos.min(Qos::AtLeastOnce) }
    }

    /// Subscribes to one filter and returns the QoS the broker granted, which may be lower.
    ///
    /// # Errors
    /// [`LinkError::Subscribe`] with the broker's reason if it refused.
    pub async fn subscribe(&self, filter: &TopicFilter, qos: Qos) -> Result<Qos, LinkError> {
        let refused = |reason: String| LinkError::Subscribe { filter: filter.clone(), reason };
        let qos = i32::from(self.granted_at_most(qos).as_u8());
        let (topic, v5) = (filter.as_str().to_owned(), self.v5);
        let token = self.call(move |client| {
            if !v5 {
                return client.subscribe(topic, qos);
            }
            // Get retained messages for a new subscription only, not again at each reconnect.
            let options =
                paho::SubscribeOptions::with_retain_handling(paho::RetainHandling::SendRetainedOnNew);
            client.subscribe_with_options(topic, qos, options, None)
        });
        let token = token.await?;
        let response = match self.answer("subscribe", token).await? {
            Ok(response) => response,
            Err(paho::Error::ReasonCode(code, properties)) => {
                return Err(refused(with_brokers_words(subscribe_reason(code as i32), &properties)));
            }
            Err(error) => return Err(refused(explain(&error))),
        };
        let code = response.subscribe_response();
        match (code, code.and_then(|code| u8::try_from(code).ok()).and_then(Qos::from_u8)) {
            (_, Some(granted)) => Ok(granted),
            (Some(code), None) => {
                Err(refused(with_brokers_words(subscribe_reason(code), response.properties())))
            }
            (None, None) => Err(refused("the broker's answer cannot be read".to_owned())),
        }
    }

    /// Ends a subscription of the session. Succeeds if the broker does not know it.
    ///
    /// # Errors
    /// [`LinkError::Unsubscribe`] with the broker's reason if it refused.
    pub async fn unsubscribe(&self, filter: &TopicFilter) -> Result<(), LinkError> {
        let refused = |reason: String| LinkError::Unsubscribe { filter: filter.clone(), reason };
        let topic = filter.as_str().to_owned();
        let token = self.call(move |client| client.unsubscribe(topic)).await?;
        match self.answer("unsubscribe", token).await? {
            // The library calls every UNSUBACK a success (paho C 1.3.16, `MQTTAsync_receiveThread`).
            Ok(response) if response.reason_code().is_err() => {
                let reason = subscribe_reason(response.reason_code() as i32);
                Err(refused(with_brokers_words(reason, response.properties())))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(refused(explain(&error))),
        }
    }

    /// Returns how long to wait for an answer.
    pub(in super::super) fn answer_max(&self) -> Duration {
        self.options.connect_timeout
    }

    /// Publishes with QoS 1 and waits for the broker's answer.
    ///
    /// # Errors
    /// [`LinkError::Publish`], [`LinkError::Lost`] or [`LinkError::NoAnswer`] if there is none.
    pub async fn publish(
        &self,
        topic: &str,
        payload: Vec<u8>,
        retained: bool,
    ) -> Result<Published, LinkError> {
        let delivery = self.hand_over_one(topic, payload, retained).await?;
        self.delivered(delivery, self.answer_max()).await
    }

    /// Hands messages to the library, which publishes them with QoS 1, in order, after all earlier ones.
    /// Stops at the first one that it does not accept.
    pub(in super::super) fn hand_over(
        &self,
        messages: Vec<paho::Message>,
    ) -> impl Future<Output = Result<Vec<Delivery>, LinkError>> + use<> {
        let inflight = Arc::clone(&self.inflight);
        self.call(move |client| {
            let taken = messages.into_iter().map_while(|message| client.try_publish(message).ok());
            taken.map(|token| inflight.hand_over(token)).collect()
        })
    }

    /// Hands one message to the library.
    ///
    /// # Errors
    /// [`LinkError::Publish`] if the library does not accept it.
    pub(in super::super) fn hand_over_one(
        &self,
        topic: &str,
        payload: Vec<u8>,
        retained: bool,
    ) -> impl Future<Output = Result<Delivery, LinkError>> + use<> {
        let (message, inflight) = (own_message(topic, payload, retained), Arc::clone(&self.inflight));
        let taken =
            self.call(move |client| client.try_publish(message).map(|token| inflight.hand_over(token)));
        async { taken.await?.map_err(|error| LinkError::Publish(explain(&error))) }
    }

    /// Waits for the broker's answer to a message that was handed over.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub(in super::super) async fn delivered(
        &self,
        delivery: Delivery,
        within: Duration,
    ) -> Result<Published, LinkError> {
        match self.answer_within("publish", delivery, within).await? {
            Ok(()) => Ok(Published::Accepted),
            Err(paho::Error::ReasonCode(code, properties)) => Ok(Published::Refused {
                reason: with_brokers_words(code.to_string(), &properties),
                not_authorised: code == paho::ReasonCode::NotAuthorized,
            }),
            Err(error) => Err(LinkError::Publish(explain(&error))),
        }
    }

    /// Sends a request that every broker answers, whatever its access rules: an UNSUBSCRIBE of a filter that
    /// we never had. A refusal is an answer, too.
    ///
    /// # Errors
    /// [`LinkError::NoAnswer`] after `within`, [`LinkError::Lost`] if the link ended, [`LinkError::Publish`] if the library did not
    /// send it.
    pub async fn ask_for_sign_of_life(&self, within: Duration) -> Result<(), LinkError> {
        let token = self.call(|client| client.unsubscribe(NEVER_SUBSCRIBED)).await?;
        match self.answer_within("unsubscribe", token, within).await? {
            Ok(_) | Err(paho::Error::ReasonCode(..)) => Ok(()),
            Err(error) => Err(LinkError::Publish(explain(&error))),
        }
    }

    /// Returns the flag that tells the message callback that this connection is being left.
    pub(in super::super) fn leaving(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.leaving)
    }

    /// Leaves the broker in order. Meanwhile the callback accepts messages slowly
    /// ([`MessageCallback::receive`]), so that the broker has read our acknowledgements when the connection
    /// ends.
    ///
    /// [`MessageCallback::receive`]: super::super::callback::MessageCallback::receive
    pub(in super::super) async fn say_goodbye(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        actix_rt::time::sleep(SLOW_DOWN).await;
        self.disconnect().await;
    }

    /// Leaves the broker at once. The session stays, and the broker does not publish our last will.
    pub async fn disconnect(&self) {
        // Call nothing while a connect is in flight: the library may be busy, with resolving a name for
        // example.
        if self.answered.get() && self.is_connected() {
            let leaving = self.call(|client| client.disconnect_after(Duration::from_millis(500)));
            let Ok(token) = leaving.await else { return };
            // In order or not, the link is gone afterwards, and the library calls no callback for it.
            if let Ok(Ok(_)) = actix_rt::time::timeout(Duration::from_secs(2), token).await {
                self.connection.end();
            }
        }
    }

    /// Waits for the broker's answer. The library loses answers that arrive while the link breaks, so the end
    /// of the link ends the wait, too.
    async fn answer<A: Future + Unpin>(&self, what: &'static str, token: A) -> Result<A::Output, LinkError> {
        self.answer_within(what, token, self.options.connect_timeout).await
    }

    async fn answer_within<A: Future + Unpin>(
        &self,
        what: &'static str,
        mut token: A,
        within: Duration,
    ) -> Result<A::Output, LinkError> {
        let deadline = Instant::now() + within;
        loop {
            match actix_rt::time::timeout(CHECK_LINK_EVERY, &mut token).await {
                Ok(answer) => return Ok(answer),
                Err(_) if Instant::now() >= deadline => return Err(LinkError::NoAnswer { what, within }),
                // The library never completes a request whose connection is gone.
                Err(_) if !self.is_connected() => return Err(LinkError::Lost { what }),
                Err(_) => {}
            }
        }
    }
}

/// Builds a message of ours, with QoS 1.
pub(in super::super) fn own_message(topic: &str, payload: Vec<u8>, retained: bool) -> paho::Message {
    if retained {
        paho::Message::new_retained(topic, payload, paho::QoS::AtLeastOnce)
    } else {
        paho::Message::new(topic, payload, paho::QoS::AtLeastOnce)
    }
}

/// How often a wait for an answer checks that the link is still up.
const CHECK_LINK_EVERY: Duration = Duration::from_millis(50);
/// How long messages come in slowly before the connection closes: a few of the pauses.
const SLOW_DOWN: Duration = Duration::from_millis(50);
/// A topic filter that no client subscribes to.
const NEVER_SUBSCRIBED: &str = "$andon/are-you-there";

/// How many of our messages the library keeps until it can send them. Its default of 100 is less than one
/// part of statuses.
const PUBLISH_BUFFERED_MAX: i32 = 10_000;
