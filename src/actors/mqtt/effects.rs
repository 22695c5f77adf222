//! Carries out the session's effects, in their order.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use slog::{error, warn};

use super::actor::Mqtt;
use super::client::LinkEnd;
use super::client::error::LinkError;
use super::client::link::Link;
use super::messages::{CallbackPanicked, LinkEnded};
use super::session::{Connected, Effect, Event, Facts, LinkReport};
use super::subscribing::Subscribing;
use crate::actors::failpoint::is_mutant;
use crate::actors::liveness::messages::{LinkChanged, TimePoint};
use crate::clock::{mono_now, wall_now};
use crate::domain::{Endpoint, Qos, TopicFilter};

/// How soon a report that liveness did not take is sent again.
const TELL_AGAIN_AFTER: Duration = Duration::from_millis(50);

impl Mqtt {
    /// Passes an event to the session and carries out its effects.
    pub(super) fn step(&mut self, event: Event, context: &mut Context<Self>) {
        let facts = Facts {
            now: mono_now(),
            connected: self.link.as_ref().is_some_and(|link| link.is_connected()),
            receiving: self.callback.is_receiving(),
            brokers_reason: self.brokers_reason.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        for effect in self.session.on(event, &facts) {
            self.carry_out(effect, context);
        }
    }

    fn carry_out(&mut self, effect: Effect, context: &mut Context<Self>) {
        match effect {
            Effect::Connect { attempt, endpoint, v5 } => self.connect(attempt, endpoint, v5, context),
            Effect::AskAgain { attempt, filters, granted_max } => {
                self.ask_again(attempt, filters, granted_max, context);
            }
            Effect::SetTimer(delay) => {
                let fire = |actor: &mut Self, context: &mut Context<Self>| {
                    actor.timer = None;
                    actor.step(Event::TimerFired, context);
                };
                self.timer = Some(context.run_later(delay, fire));
            }
            Effect::CancelTimer => {
                if let Some(timer) = self.timer.take() {
                    context.cancel_future(timer);
                }
            }
            Effect::CloseLink => self.close_link(context),
            Effect::CloseStaleLink => self.close_stale_link(context),
            Effect::SayGoodbye => self.say_goodbye(context),
            Effect::Stop { was_up } => self.stop(was_up, context),
            Effect::ProveLink(echo) => self.prove_link(echo),
            Effect::ForgetLink => self.forget_link(),
            Effect::TellLiveness(report) => self.tell_liveness(report, context),
            Effect::Announce => self.announce(context),
            Effect::CheckCertificates => self.check_certificates(context),
            Effect::CountFailure => self.metrics.broker_failures.add(1),
            Effect::SetHolding(holds) => self.metrics.holding.set(holds),
            Effect::ShowConnected { endpoint, v5, session_present } => {
                self.metrics.broker_connected.set(true);
                let (uri, protocol) = (self.uri(&endpoint), protocol_name(v5));
                self.options.status.connected(uri, &self.options.link.client_id, protocol, session_present);
            }
            Effect::Show { state, reason, endpoint } => {
                self.options.status.enter(state, reason.as_deref(), self.uri(&endpoint));
            }
            Effect::Log { line, endpoint } => self.log(line, &endpoint),
        }
    }

    fn connect(&mut self, attempt: u64, endpoint: Endpoint, v5: bool, context: &mut Context<Self>) {
        let link = match self.new_link(attempt, endpoint, v5, context) {
            Ok(link) => link,
            Err(error) => {
                error!(self.logger, "cannot create an MQTT client: restarting the actor"; "error" => %error);
                self.exit_guard.fail(error);
                return context.stop();
            }
        };
        let mut subscribing = self.subscribing();
        if attempt > 1 && is_mutant("mutants::no_resubscribe") {
            subscribing.wanted.clear();
        }
        let connecting = async move {
            let session_present = link.connect().await?;
            Ok(Connected { session_present, subscribed: subscribing.run(&link, session_present).await })
        };
        context.spawn(connecting.into_actor(self).map(move |outcome, actor, context| {
            actor.step(Event::ConnectAnswered { attempt, outcome }, context);
        }));
    }

    /// Makes a new client for each connection: statuses that an older client has not sent must not follow
    /// newer ones. The older client is dropped only now, when the new one exists: with its last client the
    /// library ends its threads, and the actor would wait for them.
    fn new_link(
        &mut self,
        attempt: u64,
        endpoint: Endpoint,
        v5: bool,
        context: &mut Context<Self>,
    ) -> Result<Rc<Link>, LinkError> {
        *self.brokers_reason.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.options.link = (*self.options.newest_link.snapshot()).clone();
        let (actor, brokers_reason) = (context.address(), Arc::clone(&self.brokers_reason));
        let on_end = move |end| {
            let (reason, taken_over) = match end {
                LinkEnd::Lost => ("connection lost".to_owned(), false),
                LinkEnd::ByBroker { reason, taken_over } => {
                    *brokers_reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.clone());
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
        let guarded = link.on_message(move |message| {
            if let Err(message) = callback.receive(message, leaving.load(Ordering::Relaxed)) {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "one message per panic, from a thread of the library that must not wait"
                )]
                actor.do_send(CallbackPanicked { message });
            }
        });
        if !guarded && attempt == 1 {
            warn!(
                self.logger,
                "this build lacks the guard against invalid topics: a topic that is not UTF-8 ends the process"
            );
        }
        let link = Rc::new(link);
        self.link = Some(Rc::clone(&link));
        Ok(link)
    }

    fn subscribing(&self) -> Subscribing {
        Subscribing {
            wanted: self.options.subscriptions.clone(),
            client_id: self.options.link.client_id.clone(),
            endpoint: self.session.endpoint().clone(),
            others: self.session.other_endpoints(),
            echo: self.options.echo_topic.clone(),
            filter_file: self.options.filter_file.clone(),
        }
    }

    fn ask_again(
        &mut self,
        attempt: u64,
        filters: Vec<(TopicFilter, Qos)>,
        granted_max: Qos,
        context: &mut Context<Self>,
    ) {
        let Some(link) = self.link.clone() else { return };
        let (asked_at, subscribing) = (mono_now(), self.subscribing());
        let asking = async move { subscribing.ask_again(&link, &filters, granted_max).await };
        context.spawn(asking.into_actor(self).map(move |subscribed, actor, context| {
            actor.step(Event::AskedAgain { attempt, asked_at, subscribed }, context);
        }));
    }

    fn close_link(&mut self, context: &mut Context<Self>) {
        if let Some(link) = self.link.clone() {
            context.wait(async move { link.disconnect().await }.into_actor(self));
        }
    }

    fn close_stale_link(&mut self, context: &mut Context<Self>) {
        let link = self.link.clone();
        let closing = async move {
            if let Some(link) = link {
                link.disconnect().await;
            }
        };
        let closed = |(), actor: &mut Self, context: &mut Context<Self>| {
            actor.step(Event::StaleLinkClosed, context);
        };
        context.wait(closing.into_actor(self).map(closed));
    }

    /// Reports the link to liveness, until it takes the report: without it liveness would judge by an old
    /// state.
    pub(super) fn tell_liveness(&mut self, report: LinkReport, context: &mut Context<Self>) {
        let LinkReport { up, link, heard_from, forgotten, refused, asked_at, reason } = report;
        let changed = LinkChanged {
            up,
            at: TimePoint { mono: mono_now(), wall: wall_now() },
            heard_from,
            forgotten,
            alive_until: self.health().heard_at(),
            refused,
            asked_at,
            reason,
            appended: self.callback.journal.positions().appended,
            generation: self.exit_guard.generation(),
            link,
        };
        if self.wires.liveness.try_send(changed).is_err() {
            context.run_later(TELL_AGAIN_AFTER, move |actor, context| {
                if actor.session.is_up() == up {
                    actor.tell_liveness(actor.session.report(up), context);
                }
            });
        }
    }

    fn announce(&mut self, context: &mut Context<Self>) {
        if let (Some(link), Some(topic)) = (self.link.clone(), self.options.link.availability_topic.clone()) {
            let attempt = self.session.attempt();
            let announcing = async move { link.publish(&topic, b"online".to_vec(), true).await };
            context.spawn(announcing.into_actor(self).map(move |outcome, actor, _| {
                // The loss of a link has its own line.
                let is_up = actor.session.attempt() == attempt && actor.session.is_up();
                if let (true, Err(error)) = (is_up, outcome) {
                    warn!(actor.logger, "Andon's own status could not be published"; "reason" => %error);
                }
            }));
        }
    }

    /// Returns the address of a broker, for the operator.
    pub(super) fn uri(&self, endpoint: &Endpoint) -> String {
        format!("{}://{}", self.options.link.transport.as_str(), endpoint.address())
    }
}

pub(super) fn protocol_name(v5: bool) -> &'static str {
    if v5 { "5" } else { "3.1.1" }
}
