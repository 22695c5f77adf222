//! CONNECT. Resolves the name first, and finds the reason of a failure afterwards.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use paho_mqtt as paho;

use super::super::checks::probe::{reach, resolve};
use super::super::checks::tls_diagnosis::connection_failure;
use super::error::{LinkError, explain, refuses_v5};
use super::link::Link;

impl Link {
    /// Connects; `Ok(true)` if the broker still had our session.
    ///
    /// # Errors
    /// [`LinkError`], in words for the operator.
    pub async fn connect(self: &Rc<Self>) -> Result<bool, LinkError> {
        // The library applies its own timeout to each address of the host; this is the outer bound.
        self.connect_within(self.options.connect_timeout * 3).await
    }

    async fn connect_within(self: &Rc<Self>, within: Duration) -> Result<bool, LinkError> {
        self.resolve_first().await?;
        let options = self.options.connect_options(self.v5)?;
        self.answered.set(false);
        let mut token = self.call(move |client| client.connect(options)).await?;
        let Ok(answer) = actix_rt::time::timeout(within, &mut token).await else {
            // The library is still trying. The next client does not need its answer.
            actix_rt::spawn(Rc::clone(self).end_late_connect(token));
            return Err(self.silence_or(LinkError::NoAnswer { what: "connect", within }).await);
        };
        self.note_answer(answer.is_ok()).await;
        match answer {
            Err(error) if self.v5 && refuses_v5(&error) => Err(LinkError::ProtocolRefused),
            Err(error) => Err(self.reason_of(&error).await),
            Ok(response) => Ok(response.connect_response().is_some_and(|connect| connect.session_present)),
        }
    }

    /// Waits for the answer to an abandoned connect, and closes a connection that results from it.
    async fn end_late_connect(self: Rc<Self>, token: paho::ConnectToken) {
        let answer = token.await;
        self.note_answer(answer.is_ok()).await;
        self.disconnect().await;
    }

    /// Makes it safe to destroy the client. The library answers under its lock, and drops its own handle of
    /// the client before it releases the lock. So a later call that had the lock proves that the handle is
    /// gone. After a success the connected callback proves it, too; by then the first message may hold the
    /// lock.
    async fn note_answer(&self, is_connected: bool) {
        if is_connected {
            while !self.connection.has_been_up() {
                actix_rt::time::sleep(Duration::from_millis(1)).await;
            }
        } else {
            let _has_had_the_lock = self.call(paho::AsyncClient::is_connected).await;
        }
        self.answered.set(true);
    }

    /// Resolves the name of the broker, on a thread that may block. The library resolves it under its lock,
    /// and every other call would wait for a DNS server that does not answer, perhaps a minute. After this it
    /// finds the name quickly.
    async fn resolve_first(&self) -> Result<(), LinkError> {
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

    /// Finds the reason of a failed connect. The library names none for a TLS handshake or a proxy, so Andon
    /// tries those itself.
    async fn reason_of(&self, error: &paho::Error) -> LinkError {
        let plain = match error {
            paho::Error::ConnectReturn(_) | paho::Error::ReasonCode(..) => {
                return LinkError::Refused(explain(error));
            }
            // The library's error when the connection ended after CONNECT (paho C 1.3.16, `MQTTAsync_cycle`).
            paho::Error::TcpConnectCompletionFailure | paho::Error::Failure => LinkError::HungUp,
            other => LinkError::Connect(explain(other)),
        };
        if self.options.tls.is_some() || self.options.proxy.is_some() {
            let (endpoint, options) = (self.endpoint.clone(), self.options.clone());
            let within = self.options.connect_timeout * 3;
            let found = on_a_thread(within, move || connection_failure(&endpoint, &options)).await;
            if let Some(reason) = found.flatten() {
                return LinkError::Connect(reason);
            }
        }
        // The library's error for every attempt that takes too long, however far it came
        // (`MQTTAsync_checkTimeouts`).
        if matches!(error, paho::Error::TcpConnectTimeout) { self.silence_or(plain).await } else { plain }
    }

    /// Classifies an attempt without an answer: [`LinkError::Silent`] if the broker accepts connections,
    /// otherwise `unreachable`.
    async fn silence_or(&self, unreachable: LinkError) -> LinkError {
        let (endpoint, proxy) = (self.endpoint.clone(), self.options.proxy.clone());
        let within = self.options.connect_timeout;
        let reached = on_a_thread(within, move || reach(&endpoint, proxy.as_ref(), within).is_ok()).await;
        if reached == Some(true) { LinkError::Silent } else { unreachable }
    }
}

/// Runs `blocking` on a thread of its own. Returns its result if that comes in time.
async fn on_a_thread<T: Send + 'static>(
    within: Duration,
    blocking: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _receiver_may_be_gone = reply.send(blocking());
    });
    actix_rt::time::timeout(within, answer).await.ok().and_then(Result::ok)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::super::super::tests::scripted_broker::{Answer, ScriptedBroker, connack_5};
    use super::super::super::tests::{link_to, wait_until};
    use super::*;

    /// Proves PAHO-2.
    #[test]
    fn a_connect_that_succeeds_after_it_was_given_up_is_disconnected() {
        let (answer_now, may_answer) = channel::<()>();
        let broker = ScriptedBroker::start(move |packet| {
            if packet.is_connect() {
                // Ends with the test, too.
                let _given_up = may_answer.recv();
            }
            Answer::Send(if packet.is_connect() { connack_5(0, "") } else { Vec::new() })
        });
        actix::System::new().block_on(async {
            let link = Rc::new(link_to(broker.port()));
            let within = Duration::from_millis(50);
            let outcome = link.connect_within(within).await;
            assert_eq!(outcome, Err(LinkError::Silent), "the broker accepted the connection");
            wait_until("the CONNECT", || broker.connects().len() == 1).await;
            answer_now.send(()).unwrap();
            let left = || broker.packets().iter().any(|packet| packet.is_disconnect());
            wait_until("the DISCONNECT", left).await;
        });
    }
}
