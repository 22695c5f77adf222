//! The session with the broker: connecting, subscribing and losing the link (invariants MQTT-2 to MQTT-5 of [`super`]).

pub mod failover;
pub(super) mod takeover;

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{error, info, warn};

use self::failover::{Failure, Next};
use self::takeover::Loss;
use super::actor::{Mqtt, State};
use super::client::LinkEnd;
use super::client::error::LinkError;
use super::client::link::Link;
use super::client::raw_callback::set_message_callback;
use super::messages::{CallbackPanicked, LinkEnded};
use super::subscribing::{Subscribed, Subscribing};
use crate::actors::failpoint::sabotaged;
use crate::actors::liveness::messages::{LinkChanged, TimePoint};
use crate::clock::{mono_now, wall_now};
use crate::domain::OutageReason;
use crate::status::BrokerState;

/// A link that has been up for this long, and for the longest backoff, is not contested.
const PEACE_MIN: Duration = Duration::from_secs(10);

impl Mqtt {
    pub(super) fn connect(&mut self, context: &mut Context<Self>) {
        self.retry = None;
        if !matches!(self.state, State::Down) || !self.room || self.attempt_pending {
            return;
        }
        if self.callback.is_receiving() {
            // A message of the connection before waits for the disk, and holds the library's lock: no client can be made.
            return self.retry_later(context);
        }
        let link = match self.link(context) {
            Ok(link) => link,
            Err(error) => {
                error!(self.logger, "giving up this incarnation"; "error" => %error);
                self.exit_guard.fail(error);
                return context.stop();
            }
        };
        self.state = State::Connecting;
        *self.disconnect.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.attempt += 1;
        self.attempt_began = mono_now();
        self.attempt_pending = true;
        let attempt = self.attempt;
        let mut subscribing = self.subscribing();
        if attempt > 1 && sabotaged("mutants::no_resubscribe") {
            subscribing.wanted.clear();
        }
        let connecting = async move {
            let session_present = link.connect().await?;
            Ok((session_present, subscribing.run(&link, session_present).await))
        };
        context.spawn(connecting.into_actor(self).map(move |outcome, actor, context| {
            actor.attempt_pending = false;
            match outcome {
                _ if actor.attempt != attempt => actor.discard(context),
                Ok((session_present, subscribed)) => actor.on_connected(session_present, subscribed, context),
                Err(error) => actor.on_refused(error, context),
            }
        }));
    }

    pub(super) fn subscribing(&self) -> Subscribing {
        Subscribing {
            wanted: self.options.subscriptions.clone(),
            client_id: self.options.link.client_id.clone(),
            endpoint: self.failover.endpoint().clone(),
            others: self.failover.others(),
            echo: self.options.echo_topic.clone(),
            filter_file: self.options.filter_file.clone(),
        }
    }

    /// An attempt was answered after it was given up (the journal filled meanwhile, say): not connected is what is wanted.
    pub(super) fn discard(&mut self, context: &mut Context<Self>) {
        let link = self.link.clone();
        let leaving = async move {
            if let Some(link) = link {
                link.disconnect().await;
            }
        };
        context.wait(leaving.into_actor(self).map(|(), actor, context| actor.connect(context)));
    }

    /// A client for the next connection, as what the one before has not sent must not come after what is published meanwhile.
    /// That one goes only when this one is there: with its last client the library ends its threads, and we would wait for them.
    fn link(&mut self, context: &mut Context<Self>) -> Result<Rc<Link>, LinkError> {
        let (endpoint, v5) = (self.failover.endpoint().clone(), self.failover.ask(mono_now()));
        let (actor, disconnect) = (context.address(), Arc::clone(&self.disconnect));
        let on_end = move |end| {
            let (reason, taken_over) = match end {
                LinkEnd::Lost => ("connection lost".to_owned(), false),
                LinkEnd::ByBroker { reason, taken_over } => {
                    *disconnect.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.clone());
                    (reason, taken_over)
                }
            };
            #[expect(
                clippy::disallowed_methods,
                reason = "one message per link, from a thread of the library that must not wait"
            )]
            actor.do_send(LinkEnded { reason, taken_over });
        };
        let link = Link::create(self.options.link.clone(), endpoint, v5, on_end)?;
        let (callback, leaving, actor) = (Arc::clone(&self.callback), link.leaving(), context.address());
        let guarded = set_message_callback(link.client(), move |message| {
            if let Err(message) = callback.receive(message, leaving.load(Ordering::Relaxed)) {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "one message per panic, from a thread of the library that must not wait"
                )]
                actor.do_send(CallbackPanicked { message });
            }
        });
        if !guarded && self.attempt == 0 {
            warn!(
                self.logger,
                "this program is linked without the guard against invalid topics: a topic that is not UTF-8 ends it"
            );
        }
        let link = Rc::new(link);
        self.link = Some(Rc::clone(&link));
        Ok(link)
    }

    fn on_connected(&mut self, session_present: bool, subscribed: Subscribed, context: &mut Context<Self>) {
        let unanswered =
            |error: &LinkError| matches!(error, LinkError::NoAnswer { .. } | LinkError::Lost { .. });
        let answers = !subscribed.refused.iter().any(unanswered);
        let connected = self.link.as_ref().is_some_and(|link| link.is_connected());
        if !answers || !connected {
            if !connected && session_present {
                // Whoever takes the session over may be as quick as that.
                let taken_over = std::mem::take(&mut self.taken_over);
                self.judge_loss(Loss { lasted: Duration::ZERO, taken_over });
            }
            self.give_up_link("connection lost while subscribing", context);
            return self.turn_to_the_next(Failure::Other, context);
        }
        self.tell_of_ended(&subscribed);
        self.note_refusals(&subscribed);
        if let Some(learnt) = self.failover.accepted(self.refused.is_empty(), mono_now()) {
            info!(self.logger, "going on with MQTT 3.1.1"; "uri" => self.uri(), "reason" => learnt.reason());
        }
        if !session_present {
            self.takeover.is_another_trouble();
        }
        if !self.takeover.is_on() && self.refused.is_empty() {
            self.say_connected(session_present);
        }
        self.tell_of_lowered(&subscribed);
        if self.had_session && !session_present {
            warn!(
                self.logger,
                "the broker has forgotten our session: messages it kept for us are lost; look at its persistence \
                and session expiry"
            );
        }
        self.had_session = true;
        let endpoint = self.failover.endpoint().clone();
        let is_another = self.published_to.as_ref().is_some_and(|known| *known != endpoint);
        self.broker_forgot = !session_present || is_another;
        self.published_to = Some(endpoint);
        if !self.takeover.is_on() && self.refused.is_empty() {
            self.last_reason = None;
        }
        self.state = State::Up { since: Instant::now() };
        self.begin_to_prove(subscribed.echo);
        self.metrics.broker_connected.set(true);
        let protocol = if self.failover.speaks_v5() { "5" } else { "3.1.1" };
        self.options.board.connected(self.uri(), &self.options.link.client_id, protocol, session_present);
        self.show_refusals(&subscribed.refused, context);
        self.tell_liveness(true, context);
        self.announce(context);
        self.look_at_certificates(context);
    }

    pub(super) fn tell_of_lowered(&self, subscribed: &Subscribed) {
        for (filter, asked, granted) in &subscribed.lowered {
            // With 3.1.1 the client library would lose a QoS 2 message if the process were killed between PUBREC and
            // PUBREL, so we ask for 1 ourselves; see `Link::granted_at_most`.
            warn!(self.logger, "a subscription has a lower QoS than configured; with 0 messages are lost while Andon is away";
                "filter" => filter.as_str(), "asked" => asked.as_u8(), "granted" => granted.as_u8());
        }
    }

    fn tell_of_ended(&mut self, subscribed: &Subscribed) {
        for filter in &subscribed.ended {
            info!(self.logger, "unsubscribed from a filter that is not configured any more"; "filter" => filter.as_str());
        }
        for error in &subscribed.not_ended {
            warn!(self.logger, "the session keeps a filter that is not configured any more: its messages still come; trying \
                again at the next connect"; "reason" => %error);
        }
        let failure = subscribed.memory_failures.first();
        if let Some(failure) = failure.filter(|failure| self.last_memory_failure.as_ref() != Some(failure)) {
            warn!(self.logger, "what the broker's session holds cannot be noted: filters that are removed from the \
                configuration will not be unsubscribed from";
                "path" => %self.options.filter_file.path().display(), "reason" => failure);
        }
        self.last_memory_failure = failure.cloned();
    }

    /// Tells the board.
    pub(super) fn show(&self, state: BrokerState, reason: Option<&str>) {
        self.options.board.enter(state, reason, self.uri());
    }

    /// The current broker, for the operator.
    pub(super) fn uri(&self) -> String {
        format!("{}://{}", self.options.link.transport.as_str(), self.failover.endpoint().address())
    }

    fn say_connected(&self, session_present: bool) {
        info!(self.logger, "connected to the broker"; "uri" => self.uri(),
            "protocol" => if self.failover.speaks_v5() { "5" } else { "3.1.1" },
            "client_id" => &self.options.link.client_id, "session_present" => session_present,
            "subscriptions" => self.options.subscriptions.len());
    }

    /// The broker has thought better of what it refused.
    pub(super) fn on_all_granted(&mut self) {
        self.failover.accepted(true, mono_now());
        self.show(BrokerState::Connected, None);
        self.say_connected(true);
    }

    pub(super) fn on_refused(&mut self, error: LinkError, context: &mut Context<Self>) {
        self.metrics.broker_failures.add(1);
        self.takeover.is_another_trouble();
        self.state = State::Down;
        if error == LinkError::ProtocolRefused && self.failover.refused_v5().is_some() {
            info!(self.logger, "the broker refuses MQTT 5, going on with 3.1.1"; "uri" => self.uri());
            return self.connect(context);
        }
        self.complain(&error.to_string(), "no connection to the broker");
        self.turn_to_the_next(error.of_connecting(), context);
    }

    fn turn_to_the_next(&mut self, how: Failure, context: &mut Context<Self>) {
        match self.failover.failed(how) {
            Next::AskNow => {
                if let Some(retry) = self.retry.take() {
                    context.cancel_future(retry);
                }
                self.connect(context);
            }
            Next::Wait => self.retry_later(context),
        }
    }

    /// Not connected, and one line for a reason that is new.
    fn complain(&mut self, reason: &str, what: &'static str) {
        self.show(BrokerState::Away, Some(reason));
        self.tell_new(reason, what);
    }

    /// One line for a reason that is new, none for its repetition.
    pub(super) fn tell_new(&mut self, reason: &str, what: &'static str) {
        if self.last_reason.as_deref() != Some(reason) {
            warn!(self.logger, "{}, trying again until it works", what; "uri" => self.uri(),
                "client_id" => &self.options.link.client_id, "reason" => reason,
                "backoff_max_s" => self.options.backoff_max.as_secs());
            self.last_reason = Some(reason.to_owned());
        }
    }

    pub(super) fn on_link_ended(&mut self, reason: &str, context: &mut Context<Self>) {
        if let State::Up { since, .. } = self.state
            && since.elapsed() > self.options.backoff_max
        {
            self.backoff.reset();
        }
        let was_up = matches!(self.state, State::Up { .. });
        self.note_loss();
        self.state = State::Down;
        self.end_link(was_up, context);
        self.metrics.broker_failures.add(1);
        let disconnect = self.disconnect.lock().unwrap_or_else(PoisonError::into_inner).take();
        let reason = disconnect.as_deref().unwrap_or(reason);
        // A contest silences the log, round by round, and never the state.
        if self.takeover.is_on() {
            self.show(BrokerState::Away, Some(reason));
        } else {
            self.complain(reason, "the link to the broker is down");
        }
        self.retry_later(context);
    }

    /// Nothing is waited for any more, neither a retry nor the answer to a question; liveness hears of it if the link was up.
    pub(super) fn end_link(&mut self, was_up: bool, context: &mut Context<Self>) {
        self.forget_link();
        if let Some(retry) = self.retry.take() {
            context.cancel_future(retry);
        }
        if was_up {
            self.metrics.broker_connected.set(false);
            self.tell_liveness(false, context);
        }
    }

    /// Recognises that somebody else uses our client id.
    fn note_loss(&mut self) {
        let taken_over = std::mem::take(&mut self.taken_over);
        if let State::Up { since, .. } = self.state {
            self.judge_loss(Loss { lasted: since.elapsed(), taken_over });
        }
    }

    fn judge_loss(&mut self, loss: Loss) {
        if self.takeover.lost(loss) {
            warn!(self.logger, "another client takes our session over, again and again: is mqtt.client_id used twice? Messages \
                go to whoever is connected; trying again ever more seldom, and saying so when it is over";
                "client_id" => &self.options.link.client_id, "broker_says_so" => loss.taken_over,
                "backoff_max_s" => self.options.backoff_max.as_secs());
        }
    }

    /// After a while in peace a contest is over.
    pub(super) fn look_for_peace(&mut self) {
        if let State::Up { since, .. } = self.state
            && since.elapsed() > self.options.backoff_max.max(PEACE_MIN)
            && self.takeover.won()
        {
            self.last_reason = None;
            info!(self.logger, "nobody takes the session over any more");
        }
    }

    fn retry_later(&mut self, context: &mut Context<Self>) {
        if self.room && self.retry.is_none() {
            let delay = self.backoff.next_unhurried_delay();
            self.retry = Some(context.run_later(delay, Self::connect));
        }
    }

    /// A change of the link must reach liveness, or it would judge on a false belief: tried until it is taken.
    pub(super) fn tell_liveness(&mut self, up: bool, context: &mut Context<Self>) {
        let at = TimePoint { mono: mono_now(), wall: wall_now() };
        let appended = self.callback.journal.positions().appended;
        let generation = self.exit_guard.generation();
        let reason = if self.room { OutageReason::LinkDown } else { OutageReason::Hold };
        let heard_from = self.attempt_began;
        let alive_until = self.health().heard_at();
        let link = self.attempt;
        let refused = self.refused.among(&self.options.telemetry);
        let forgotten = self.broker_forgot;
        let news = LinkChanged {
            up,
            at,
            heard_from,
            forgotten,
            alive_until,
            refused,
            asked_at: self.refused.asked_at(),
            reason,
            appended,
            generation,
            link,
        };
        if self.wires.liveness.try_send(news).is_err() {
            context.run_later(Duration::from_millis(50), move |actor, context| {
                if matches!(actor.state, State::Up { .. }) == up {
                    actor.tell_liveness(up, context);
                }
            });
        }
    }

    fn announce(&mut self, context: &mut Context<Self>) {
        if let (Some(link), Some(topic)) = (self.link.clone(), self.options.link.availability_topic.clone()) {
            let attempt = self.attempt;
            let announcing = async move { link.publish(&topic, b"online".to_vec(), true).await };
            context.spawn(announcing.into_actor(self).map(move |outcome, actor, _| {
                // Of a connection that is gone that was said.
                let is_up = actor.attempt == attempt && matches!(actor.state, State::Up { .. });
                if let (true, Err(error)) = (is_up, outcome) {
                    warn!(actor.logger, "own availability not published"; "reason" => %error);
                }
            }));
        }
    }
}
