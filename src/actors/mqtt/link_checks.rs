//! The mqtt actor's part of [`link_health`](super::link_health): it lets it look around, asks the broker what it wants to know, and
//! tells the operator.

use std::sync::MutexGuard;

use actix::prelude::*;
use slog::{info, warn};

use super::actor::Mqtt;
use super::client::error::LinkError;
use super::client::link::Published;
use super::link_health::{Effect, LOOK_EVERY, LinkHealth, Saying};
use super::messages::ProveLink;
use super::session::{EchoSubscription, Event};
use crate::actors::parser::messages::JournalGrew;
use crate::clock::mono_now;

impl Handler<ProveLink> for Mqtt {
    type Result = ();

    fn handle(&mut self, _: ProveLink, context: &mut Context<Self>) {
        self.health().want();
        self.look_at_link(context);
    }
}

impl Mqtt {
    pub(super) fn health(&self) -> MutexGuard<'_, LinkHealth> {
        self.callback.health.lock()
    }

    /// The link is up.
    pub(super) fn begin_to_prove(&mut self, echo: EchoSubscription) {
        let nonce = (echo == EchoSubscription::Granted).then(rand::random);
        self.health().link_up(mono_now(), nonce);
        if let EchoSubscription::Refused(reason) = echo
            && self.logged_echo_refusal.as_ref() != Some(&reason)
        {
            self.say_echo_is_unusable(&reason);
            self.logged_echo_refusal = Some(reason);
        }
    }

    /// The connection is gone.
    pub(super) fn forget_link(&self) {
        self.metrics.broker_connected.set(false);
        let appended = self.callback.journal.positions().appended;
        self.health().link_down(appended);
    }

    pub(super) fn watch_link(&mut self, context: &mut Context<Self>) {
        self.look_at_link(context);
        context.run_interval(LOOK_EVERY, Self::look_at_link);
    }

    fn look_at_link(&mut self, context: &mut Context<Self>) {
        let effects = self.health().look(mono_now(), self.callback.is_receiving());
        for effect in effects {
            match effect {
                Effect::SendEcho(number) => self.send_echo(number, context),
                Effect::SendUnsubscribe(number) => self.send_unsubscribe(number, context),
                Effect::GiveUp => self.step(Event::BrokerUnresponsive, context),
                Effect::Say(saying) => self.say(saying),
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
                return; // It says nothing of the link that came after.
            }
            let now = mono_now();
            match answer {
                Ok(Published::Refused { reason, not_authorised: true }) => {
                    if actor.health().forbidden(number, now) {
                        actor.say_echo_is_unusable(&format!("the broker forbids to publish it: {reason}"));
                    }
                }
                Ok(_) => actor.health().acknowledged(number, now),
                // What that means is judged where the time is kept.
                Err(LinkError::NoAnswer { .. }) => {}
                Err(_) => actor.health().not_asked(number),
            }
        }));
    }

    fn send_unsubscribe(&mut self, number: u64, context: &mut Context<Self>) {
        let Some(link) = self.link.clone() else { return self.health().not_asked(number) };
        let (attempt, within) = (self.session.attempt(), self.health().answer_within());
        let question = async move { link.are_you_there(within).await };
        context.spawn(question.into_actor(self).map(move |answer, actor, _| {
            if actor.session.attempt() != attempt {
                return;
            }
            let upto = actor.callback.journal.positions().appended;
            match answer {
                Ok(()) => {
                    if actor.health().unsubscribed(number, mono_now(), upto) {
                        // If the parser is away it looks at the proof when it is back.
                        let _looks_itself = actor.wires.parser.try_send(JournalGrew);
                    }
                }
                Err(LinkError::NoAnswer { .. }) => {}
                Err(_) => actor.health().not_asked(number),
            }
        }));
    }

    fn say(&self, saying: Saying) {
        match saying {
            Saying::StoodStill(still) => {
                warn!(self.logger, "the process, or the disk, stood still: what the broker has kept meanwhile is waited for before \
                    any machine is called offline"; "stood_still_ms" => still.as_millis());
            }
            Saying::LateAgain(lateness) => {
                warn!(self.logger, "the broker answers late, again and again: is it, the network or this machine overloaded? \
                    Silence of a machine is noticed later than it could be"; "took_ms" => lateness.as_millis());
            }
            Saying::PromptAgain => info!(self.logger, "the broker answers in time again"),
            Saying::EchoLost { quiet: true } => {
                self.say_echo_is_unusable("the broker takes it and does not hand it back");
            }
            Saying::EchoLost { quiet: false } => self.say_echo_is_unusable(
                "the broker takes it and does not hand it back, while other messages come; does it forbid it, or drop messages \
                 from a full queue?",
            ),
            Saying::EchoBack => info!(self.logger, "our echo comes back again"),
        }
    }

    /// Says what to allow.
    pub(super) fn say_echo_is_unusable(&self, reason: &str) {
        let topic = self.options.echo_topic.as_ref().map_or("", |filter| filter.as_str());
        warn!(self.logger, "our echo on the broker is not usable: while a backlog drains, a machine that speaks may be called offline; \
            allow the user to publish and to subscribe to this topic in the broker's access control list"; "topic" => topic,
            "reason" => reason);
    }
}
