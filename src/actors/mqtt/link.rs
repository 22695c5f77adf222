//! One connection to one broker: the paho client, and what it is asked to do.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use paho_mqtt as paho;

use super::deliveries::{Deliveries, Delivery};
use super::hosts::Endpoint;
use super::link_options::LinkOptions;
use super::probe::resolve;
use super::reasons::{LinkError, explain, refuses_v5, subscribe_reason, with_brokers_words};
use super::tls_diagnosis::connection_failure;
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
/// - C1 One that is connecting is not destroyed, and a connect that nobody waits for any more is ended as soon as it is
///   answered. The library's own thread holds the client while it answers: were ours not the last handle, that thread would destroy
///   the client, and wait for itself, with every client of the process.
/// - C2 One that holds a message which it has freed is not destroyed (rule D1 of [`super::deliveries`]).
pub struct Link {
    client: ManuallyDrop<paho::AsyncClient>,
    options: LinkOptions,
    endpoint: Endpoint,
    v5: bool,
    /// The newest attempt to connect has been answered, or there was none.
    answered: Cell<bool>,
    /// A connect that took longer than we wait.
    late: RefCell<Option<paho::ConnectToken>>,
    deliveries: Rc<Deliveries>,
    /// Set by [`Link::say_goodbye`].
    leaving: Arc<AtomicBool>,
}

impl Drop for Link {
    fn drop(&mut self) {
        // While a connect is under way the library may be busy: not asked then.
        if self.answered.get() && self.deliveries.are_sound(self.client.is_connected()) {
            // SAFETY: the field is not used again.
            unsafe { ManuallyDrop::drop(&mut self.client) }
        } else {
            // Left alone, it must at least not stay connected.
            let _as_soon_as_it_can = self.client.disconnect(None);
        }
    }
}

impl Link {
    /// A client for one broker that is not connected yet. `v5` chooses the protocol.
    ///
    /// # Errors
    /// [`LinkError::Create`] for options the library cannot take (a NUL in the client id, say).
    pub fn create(options: LinkOptions, endpoint: Endpoint, v5: bool) -> Result<Self, LinkError> {
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
        Ok(Self {
            client: ManuallyDrop::new(client),
            options,
            endpoint,
            v5,
            answered: Cell::new(true),
            late: RefCell::default(),
            deliveries: Rc::default(),
            leaving: Arc::default(),
        })
    }

    /// The client, to set callbacks on before [`Link::connect`].
    pub fn client(&self) -> &paho::AsyncClient {
        &self.client
    }

    /// Whether the library holds the link for up.
    pub fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// Connects; `Ok(true)` if the broker still had our session.
    ///
    /// # Errors
    /// [`LinkError`], in words for the operator.
    pub async fn connect(&self) -> Result<bool, LinkError> {
        self.look_up().await?;
        let options = self.options.connect_options(self.v5)?;
        // The library's own timeout comes first, once for each address of the host; ours is the outer bound.
        let within = self.options.connect_timeout * 3;
        self.answered.set(false);
        let mut token = self.client.connect(options);
        let Ok(answer) = actix_rt::time::timeout(within, &mut token).await else {
            self.late.replace(Some(token));
            return Err(LinkError::NoAnswer { what: "connect", within });
        };
        self.note_answer();
        match answer {
            Err(error) if self.v5 && refuses_v5(&error) => Err(LinkError::ProtocolRefused),
            Err(error) => Err(self.reason_of(&error).await),
            Ok(response) => Ok(response.connect_response().is_some_and(|connect| connect.session_present)),
        }
    }

    /// After [`LinkError::NoAnswer`] to a connect: waits for the library to be done with it.
    pub async fn end_late_connect(&self) {
        let Some(token) = self.late.take() else { return };
        // Whatever it is, it comes too late.
        let _answer = token.await;
        self.note_answer();
        self.disconnect().await;
    }

    /// The library answers under its lock, and lets go of its handle of the client before it gives the lock back: whoever has had it
    /// since then may destroy the client.
    fn note_answer(&self) {
        let _has_had_the_lock = self.client.is_connected();
        self.answered.set(true);
    }

    /// The library looks a name up while it holds its lock: whoever calls it meanwhile waits for as long as DNS takes not to answer,
    /// which may be a minute. So we look first, on a thread that may wait; what was found is found again soon.
    async fn look_up(&self) -> Result<(), LinkError> {
        let (at, key) = match &self.options.proxy {
            Some(proxy) => (proxy.at.clone(), "mqtt.proxy"),
            None => (self.endpoint.clone(), "mqtt.host"),
        };
        if at.host.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        let within = self.options.connect_timeout;
        let late = format!("{} cannot be resolved: no answer within {} s", at.host, within.as_secs());
        let found = on_a_thread(within, move || resolve(&at)).await;
        let reason = match found {
            Some(Ok(_)) => return Ok(()),
            Some(Err(reason)) => reason,
            None => late,
        };
        Err(LinkError::Connect(format!("{reason}; see {key}")))
    }

    /// The library knows no reason for a TLS handshake or a proxy that fails; we look ourselves.
    async fn reason_of(&self, error: &paho::Error) -> LinkError {
        let plain = match error {
            // So the library calls it when CONNECT was sent and the connection ended (paho C 1.3.16, `MQTTAsync_cycle`).
            paho::Error::TcpConnectCompletionFailure | paho::Error::Failure => LinkError::HungUp,
            other => LinkError::Connect(explain(other)),
        };
        let refused_by_mqtt = matches!(error, paho::Error::ConnectReturn(_) | paho::Error::ReasonCode(..));
        if refused_by_mqtt || (self.options.tls.is_none() && self.options.proxy.is_none()) {
            return plain;
        }
        let (endpoint, options) = (self.endpoint.clone(), self.options.clone());
        let within = self.options.connect_timeout * 3;
        let found = on_a_thread(within, move || connection_failure(&endpoint, &options)).await;
        found.flatten().map_or(plain, LinkError::Connect)
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
        let token = if self.v5 {
            // Retained messages only for a subscription that is new, not again at each reconnect.
            let options =
                paho::SubscribeOptions::with_retain_handling(paho::RetainHandling::SendRetainedOnNew);
            self.client.subscribe_with_options(filter.as_str(), qos, options, None)
        } else {
            self.client.subscribe(filter.as_str(), qos)
        };
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
        let token = self.client.unsubscribe(filter.as_str());
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
    pub(super) fn answer_max(&self) -> Duration {
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
        let delivery = self.hand_over(topic, payload, retained)?;
        self.delivered(delivery, self.answer_max()).await
    }

    /// Hands a message to the library, to be published with QoS 1 after those that were handed over before.
    ///
    /// # Errors
    /// [`LinkError::Publish`] if it does not take it.
    pub(super) fn hand_over(
        &self,
        topic: &str,
        payload: Vec<u8>,
        retained: bool,
    ) -> Result<Delivery, LinkError> {
        let message = if retained {
            paho::Message::new_retained(topic, payload, paho::QoS::AtLeastOnce)
        } else {
            paho::Message::new(topic, payload, paho::QoS::AtLeastOnce)
        };
        let token = self.client.try_publish(message).map_err(|error| LinkError::Publish(explain(&error)))?;
        Ok(self.deliveries.hand_over(token))
    }

    /// The broker's answer to what was handed over.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub(super) async fn delivered(
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
        let token = self.client.unsubscribe(NEVER_SUBSCRIBED);
        match self.answer_within("unsubscribe", token, within).await? {
            Ok(_) | Err(paho::Error::ReasonCode(..)) => Ok(()),
            Err(error) => Err(LinkError::Publish(explain(&error))),
        }
    }

    /// Whether this connection is about to be left, for the message callback.
    pub(super) fn leaving(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.leaving)
    }

    /// Leaves the broker in order. What it sends meanwhile is let in slowly ([`Inlet::receive`]), so that it has read our
    /// acknowledgements when the connection ends.
    ///
    /// [`Inlet::receive`]: super::inlet::Inlet::receive
    pub(super) async fn say_goodbye(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        actix_rt::time::sleep(GOODBYE).await;
        self.disconnect().await;
    }

    /// Leaves the broker at once: the session stays, the last will is not sent.
    pub async fn disconnect(&self) {
        // Nothing is asked while a connect is under way: the library may be busy (with looking the name up, say).
        if self.answered.get() && self.client.is_connected() {
            let token = self.client.disconnect_after(Duration::from_millis(500));
            // Whether it was in order or not, the link is gone afterwards.
            let _ended = actix_rt::time::timeout(Duration::from_secs(2), token).await;
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
                Err(_) if !self.client.is_connected() => return Err(LinkError::Lost { what }),
                Err(_) => {}
            }
        }
    }
}

/// What `blocking` finds, if it does so in time.
async fn on_a_thread<T: Send + 'static>(
    within: Duration,
    blocking: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _nobody_waits = reply.send(blocking());
    });
    actix_rt::time::timeout(within, answer).await.ok().and_then(Result::ok)
}

/// How soon an answer that can no longer come is given up.
const LOOK_FOR_LOSS_EVERY: Duration = Duration::from_millis(50);
/// How long messages are let in slowly before the connection is closed: a few of the pauses.
const GOODBYE: Duration = Duration::from_millis(50);
/// A topic filter that nobody subscribes to.
const NEVER_SUBSCRIBED: &str = "$andon/are-you-there";

/// Own messages the library keeps until they can be sent; its default of 100 is less than one hand-over of statuses.
const PUBLISH_BUFFERED_MAX: i32 = 10_000;
