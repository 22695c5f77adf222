//! The actor's part of [`link_health`](super::link_health): runs its checks, sends what it asks of the
//! broker, and logs.

use std::sync::MutexGuard;

use actix::prelude::*;
use slog::{info, warn};

use super::actor::Mqtt;
use super::client::error::LinkError;
use super::client::link::Published;
use super::link_health::{CHECK_EVERY, Effect, HealthLine, LinkHealth};
use super::messages::ProveLink;
use super::session::{EchoSubscription, Event};
use crate::actors::parser::messages::JournalGrew;
use crate::clock::mono_now;

impl Handler<ProveLink> for Mqtt {
    type Result = ();

    fn handle(&mut self, _: ProveLink, context: &mut Context<Self>) {
        self.health().request_proof();
        self.check_link(context);
    }
}

impl Mqtt {
    pub(super) fn health(&self) -> MutexGuard<'_, LinkHealth> {
        self.callback.health.lock()
    }

    /// Starts to prove a link that has come up.
    pub(super) fn prove_link(&mut self, echo: EchoSubscription) {
        let nonce = (echo == EchoSubscription::Granted).then(rand::random);
        self.health().link_up(mono_now(), nonce);
        if let EchoSubscription::Refused(reason) = echo
            && self.logged_echo_refusal.as_ref() != Some(&reason)
        {
            self.warn_of_unusable_echo(&reason);
            self.logged_echo_refusal = Some(reason);
        }
    }

    /// Forgets a link that has gone down.
    pub(super) fn forget_link(&self) {
        self.metrics.broker_connected.set(false);
        let appended = self.callback.journal.positions().appended;
        self.health().link_down(appended);
    }

    pub(super) fn start_link_checks(&mut self, context: &mut Context<Self>) {
        self.check_link(context);
        context.run_interval(CHECK_EVERY, Self::check_link);
    }

    fn check_link(&mut self, context: &mut Context<Self>) {
        let effects = self.health().check(mono_now(), self.callback.is_receiving());
        for effect in effects {
            match effect {
                Effect::SendEcho(number) => self.send_echo(number, context),
                Effect::SendUnsubscribe(number) => self.send_unsubscribe(number, context),
                Effect::GiveUp => self.step(Event::BrokerUnresponsive, context),
                Effect::Log(line) => self.log_health(line),
            }
        }
    }

    fn send_echo(&mut self, number: u64, context: &mut Context<Self>) {
        let payload = self.health().echo_payload(number);
        let within = self.health().answer_within();
        let (Some(link), Some(topic), Some(payload)) = (self.link.clone(), &self.options.echo_topic, payload)
        else {
            return self.health().not_asked(number);
        };
        let attempt = self.session.attempt();
        let handed_over = link.hand_over_one(topic.as_str(), payload.into_bytes(), false);
        let answered = async move { link.delivered(handed_over.await?, within).await };
        context.spawn(answered.into_actor(self).map(move |answer, actor, _| {
            if actor.session.attempt() != attempt {
                return; // It tells nothing about the newer link.
            }
            let now = mono_now();
            match answer {
                Ok(Published::Refused { reason, not_authorised: true }) => {
                    if actor.health().forbidden(number, now) {
                        actor.warn_of_unusable_echo(&format!(
                            "the broker does not allow publishing to it: {reason}"
                        ));
                    }
                }
                Ok(_) => actor.health().acknowledged(number, now),
                // `LinkHealth` keeps the time and decides what a missing answer means.
                Err(LinkError::NoAnswer { .. }) => {}
                Err(_) => actor.health().not_asked(number),
            }
        }));
    }

    fn send_unsubscribe(&mut self, number: u64, context: &mut Context<Self>) {
        let Some(link) = self.link.clone() else { return self.health().not_asked(number) };
        let (attempt, within) = (self.session.attempt(), self.health().answer_within());
        let question = async move { link.ask_for_sign_of_life(within).await };
        context.spawn(question.into_actor(self).map(move |answer, actor, _| {
            if actor.session.attempt() != attempt {
                return;
            }
            let upto = actor.callback.journal.positions().appended;
            match answer {
                Ok(()) => {
                    if actor.health().unsubscribed(number, mono_now(), upto) {
                        // A parser that is restarting reads the proof when it starts.
                        let _read_at_its_start = actor.wires.parser.try_send(JournalGrew);
                    }
                }
                Err(LinkError::NoAnswer { .. }) => {}
                Err(_) => actor.health().not_asked(number),
            }
        }));
    }

    fn log_health(&self, line: HealthLine) {
        match line {
            HealthLine::StoodStill(still) => {
                warn!(self.logger, "the process or the disk stalled: no machine goes offline until the broker \
                    has delivered what it kept meanwhile"; "stood_still_ms" => still.as_millis());
            }
            HealthLine::LateAgain(lateness) => {
                warn!(self.logger, "the broker keeps answering late: is it, the network or this computer \
                    overloaded? Andon notices silent machines late"; "took_ms" => lateness.as_millis());
            }
            HealthLine::PromptAgain => info!(self.logger, "the broker answers in time again"),
            HealthLine::EchoLost { quiet: true } => {
                self.warn_of_unusable_echo("the broker accepts it but does not return it");
            }
            HealthLine::EchoLost { quiet: false } => self.warn_of_unusable_echo(
                "the broker accepts it but does not return it, although other messages arrive; does an access \
                 list block it, or does the broker drop messages from a full queue?",
            ),
            HealthLine::EchoBack => info!(self.logger, "Andon's echo comes back again"),
        }
    }

    /// Warns, with the topic to allow.
    pub(super) fn warn_of_unusable_echo(&self, reason: &str) {
        let topic = self.options.echo_topic.as_ref().map_or("", |filter| filter.as_str());
        warn!(self.logger, "Andon's echo does not work on this broker: while a backlog drains, a machine that \
            is sending may be shown as offline; allow the user to publish and subscribe to this topic in the \
            broker's access control list"; "topic" => topic,
            "reason" => reason);
    }
}
