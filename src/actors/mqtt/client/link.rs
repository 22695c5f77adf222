//! One connection to one broker: the paho client, and what it is asked to do.

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

/// What the broker answered to a message of ours; either proves that it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It took it.
    Accepted,
    /// It refused it.
    Refused {
        /// In its words.
        reason: String,
        /// Its access rules forbid it.
        not_authorised: bool,
    },
}

/// A paho client for one connection.
///
/// - PAHO-2 One that is connecting is not destroyed, and a connect that nobody waits for any more is ended as soon as it is
///   answered. The library's own thread holds the client while it answers: were ours not the last handle, that thread would destroy
///   the client, and wait for itself, with every client of the process.
/// - PAHO-3 One that holds a message which it has freed is not destroyed (rule PAHO-1 of [`super::inflight`]).
pub struct Link {
    /// `None` only while it is dropped.
    client: Option<paho::AsyncClient>,
    pub(super) options: LinkOptions,
    pub(super) endpoint: Endpoint,
    pub(super) v5: bool,
    /// The newest attempt to connect has been answered, or there was none.
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
        // After everything that it was asked for: then this is the last handle, but for the library's own.
        client_thread::post(move || {
            if answered && inflight.are_sound(connection.is_up()) {
                drop(client);
            } else {
                // Left alone, it must at least not stay connected.
                let _as_soon_as_it_can = client.disconnect(None);
                std::mem::forget(client);
            }
        });
    }
}

impl Link {
    /// A client for one broker that is not connected yet. `v5` chooses the protocol. `on_end` hears of the end of its
    /// connection, on a thread of the library.
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
            // What must survive is in our journal; the library's own store would only slow it down.
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

    /// Has every message handed to `deliver`, on the library's receive thread, before it is acknowledged. To be set before
    /// [`Link::connect`]. Returns `false` if this program is linked without the guard against invalid topics.
    pub fn on_message(&self, deliver: impl Fn(&Incoming<'_>) + Send + Sync + 'static) -> bool {
        set_message_callback(self.client(), deliver)
    }

    /// Whether the library holds the link for up, as its callbacks said last.
    pub fn is_connected(&self) -> bool {
        self.connection.is_up()
    }

    /// Has the library called, without waiting for its lock on this thread.
    pub(super) fn call<T, C>(&self, call: C) -> impl Future<Output = Result<T, LinkError>> + use<T, C>
    where
        T: Send + 'static,
        C: FnOnce(&paho::AsyncClient) -> T + Send + 'static,
    {
        let client = self.client().clone();
        let answer = client_thread::call(move || call(&client));
        async { answer.await.ok_or(LinkError::Library) }
    }

    /// The QoS that is really asked for. With 3.1.1 the library hands a QoS 2 message over only at its PUBREL, after
    /// the broker has been told to forget the payload (paho C 1.3.16, `MQTTProtocol_handlePublishes`): a process
    /// killed between would lose it. QoS 1 and the digest are exactly-once without that gap. With 5 the library
    /// hands it over before the PUBREC.
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
            // Retained messages only for a subscription that is new, not again at each reconnect.
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

    /// Ends a subscription of the session; one that the broker does not know is ended too.
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

    /// How long an answer is waited for.
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

    /// Hands messages to the library, to be published with QoS 1, in order, after those that were handed over before: up to the
    /// first one that it does not take.
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

    /// The same with one message.
    ///
    /// # Errors
    /// [`LinkError::Publish`] if the library does not take it.
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

    /// The broker's answer to what was handed over.
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

    /// Asks the broker something that it has to answer, whatever its access rules: to end a subscription that we never had. A
    /// refusal is an answer, too.
    ///
    /// # Errors
    /// [`LinkError::NoAnswer`] after `within`, [`LinkError::Lost`] if the link ended, [`LinkError::Publish`] if the library does not
    /// send it.
    pub async fn are_you_there(&self, within: Duration) -> Result<(), LinkError> {
        let token = self.call(|client| client.unsubscribe(NEVER_SUBSCRIBED)).await?;
        match self.answer_within("unsubscribe", token, within).await? {
            Ok(_) | Err(paho::Error::ReasonCode(..)) => Ok(()),
            Err(error) => Err(LinkError::Publish(explain(&error))),
        }
    }

    /// Whether this connection is about to be left, for the message callback.
    pub(in super::super) fn leaving(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.leaving)
    }

    /// Leaves the broker in order. What it sends meanwhile is let in slowly ([`MessageCallback::receive`]), so that it has read our
    /// acknowledgements when the connection ends.
    ///
    /// [`MessageCallback::receive`]: super::super::callback::MessageCallback::receive
    pub(in super::super) async fn say_goodbye(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        actix_rt::time::sleep(GOODBYE).await;
        self.disconnect().await;
    }

    /// Leaves the broker at once: the session stays, the last will is not sent.
    pub async fn disconnect(&self) {
        // Nothing is asked while a connect is under way: the library may be busy (with looking the name up, say).
        if self.answered.get() && self.is_connected() {
            let leaving = self.call(|client| client.disconnect_after(Duration::from_millis(500)));
            let Ok(token) = leaving.await else { return };
            // Whether it was in order or not, the link is gone afterwards. The library tells its callbacks nothing of it.
            if let Ok(Ok(_)) = actix_rt::time::timeout(Duration::from_secs(2), token).await {
                self.connection.end();
            }
        }
    }

    /// The broker's answer. The library loses some when the link breaks while they come: then there is none to wait for.
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
            match actix_rt::time::timeout(LOOK_FOR_LOSS_EVERY, &mut token).await {
                Ok(answer) => return Ok(answer),
                Err(_) if Instant::now() >= deadline => return Err(LinkError::NoAnswer { what, within }),
                // The library never completes what went down with a connection.
                Err(_) if !self.is_connected() => return Err(LinkError::Lost { what }),
                Err(_) => {}
            }
        }
    }
}

/// A message of ours, with QoS 1.
pub(in super::super) fn own_message(topic: &str, payload: Vec<u8>, retained: bool) -> paho::Message {
    if retained {
        paho::Message::new_retained(topic, payload, paho::QoS::AtLeastOnce)
    } else {
        paho::Message::new(topic, payload, paho::QoS::AtLeastOnce)
    }
}

/// How soon an answer that can no longer come is given up.
const LOOK_FOR_LOSS_EVERY: Duration = Duration::from_millis(50);
/// How long messages are let in slowly before the connection is closed: a few of the pauses.
const GOODBYE: Duration = Duration::from_millis(50);
/// A topic filter that nobody subscribes to.
const NEVER_SUBSCRIBED: &str = "$andon/are-you-there";

/// Own messages the library keeps until they can be sent; its default of 100 is less than one hand-over of statuses.
const PUBLISH_BUFFERED_MAX: i32 = 10_000;
