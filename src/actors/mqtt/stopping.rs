//! Leaving the broker in order: because the journal is full (invariant MQTT-4 of [`super`]), or because Andon stops.

use std::time::Duration;

use actix::prelude::*;

use super::actor::Mqtt;
use super::session::Event;
use crate::actors::failpoint::failpoint;
use crate::actors::liveness::messages::{LinkChanged, TimePoint};
use crate::actors::supervisor::StopChild;
use crate::clock::{mono_now, wall_now};
use crate::domain::{FilterSet, OutageReason};
use crate::status::BrokerState;

/// How long the goodbye may take: little longer than the library does.
const GOODBYE_MAX: Duration = Duration::from_millis(1_500);
/// How long liveness may take to hear that we leave.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

impl Handler<StopChild> for Mqtt {
    type Result = ();

    fn handle(&mut self, _: StopChild, context: &mut Context<Self>) {
        if let Err(error) = failpoint("mqtt::stop") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        self.step(Event::StopRequested, context);
    }
}

impl Mqtt {
    /// Leaves the broker until there is room in the journal again.
    pub(super) fn say_goodbye(&mut self, context: &mut Context<Self>) {
        if let Some(link) = self.link.clone() {
            context.wait(async move { link.say_goodbye().await }.into_actor(self));
        }
    }

    /// Leaves the broker, then ends.
    pub(super) fn stop(&mut self, was_up: bool, context: &mut Context<Self>) {
        let (link, topic) = (self.link.clone(), self.options.link.availability_topic.clone());
        let (liveness, journal) = (self.wires.liveness.clone(), self.callback.journal.clone());
        let (generation, link_no) = (self.exit_guard.generation(), self.session.attempt());
        let disconnect = async move {
            let Some(link) = link else { return };
            if let (true, Some(topic)) = (was_up, topic) {
                let said = link.publish(&topic, b"offline".to_vec(), true);
                // A broker that does not answer sends our last will instead.
                let _said_or_not = actix_rt::time::timeout(Duration::from_secs(1), said).await;
            }
            // With a message that waits for the disk there is no goodbye.
            let _said_or_not = actix_rt::time::timeout(GOODBYE_MAX, link.say_goodbye()).await;
            let at = TimePoint { mono: mono_now(), wall: wall_now() };
            let (reason, appended) = (OutageReason::Stopped, journal.positions().appended);
            let news = LinkChanged {
                up: false,
                at,
                heard_from: at.mono,
                forgotten: false,
                alive_until: at.mono,
                refused: FilterSet::EMPTY,
                asked_at: at.mono,
                reason,
                appended,
                generation,
                link: link_no,
            };
            if was_up {
                // Waited for, so that it is on its way to the database before the parser is stopped. Without it the next start
                // finds out by itself, a little less exactly.
                let _told_or_not = liveness.call(news, FAREWELL_MAX).await;
            }
        };
        context.wait(disconnect.into_actor(self).map(|(), actor, context| {
            actor.metrics.broker_connected.set(false);
            let uri = actor.uri(actor.session.endpoint());
            actor.options.board.enter(BrokerState::Away, Some("Andon is stopping"), uri);
            actor.exit_guard.finish();
            context.stop();
        }));
    }
}
