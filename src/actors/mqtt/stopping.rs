//! Leaving the broker in order: because the journal is full (MQTT-4), or because Andon stops.

use std::time::Duration;

use actix::prelude::*;

use super::actor::Mqtt;
use crate::actors::liveness::messages::{LinkChanged, TimePoint};
use crate::clock::{mono_now, wall_now};
use crate::domain::{FilterSet, OutageReason};
use crate::status::BrokerState;

/// Bound on leaving; the library itself takes a little less.
const LEAVE_MAX: Duration = Duration::from_millis(1_500);
/// How long liveness may take to receive the last report.
const LAST_REPORT_MAX: Duration = Duration::from_millis(500);

impl Mqtt {
    /// Leaves the broker until there is room in the journal again.
    pub(super) fn say_goodbye(&mut self, context: &mut Context<Self>) {
        if let Some(link) = self.link.clone() {
            context.wait(async move { link.say_goodbye().await }.into_actor(self));
        }
    }

    /// Publishes `offline`, leaves the broker, reports that to liveness, and ends the actor.
    pub(super) fn stop(&mut self, was_up: bool, context: &mut Context<Self>) {
        let (link, topic) = (self.link.clone(), self.options.link.availability_topic.clone());
        let (liveness, journal) = (self.wires.liveness.clone(), self.callback.journal.clone());
        let (generation, link_number) = (self.exit_guard.generation(), self.session.attempt());
        let disconnect = async move {
            let Some(link) = link else { return };
            if let (true, Some(topic)) = (was_up, topic) {
                let offline = link.publish(&topic, b"offline".to_vec(), true);
                // A broker that does not answer publishes our last will instead.
                let _published_or_not = actix_rt::time::timeout(Duration::from_secs(1), offline).await;
            }
            // While a message waits for the disk this cannot succeed.
            let _left_or_not = actix_rt::time::timeout(LEAVE_MAX, link.say_goodbye()).await;
            let at = TimePoint { mono: mono_now(), wall: wall_now() };
            let (reason, appended) = (OutageReason::Stopped, journal.positions().appended);
            let last_report = LinkChanged {
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
                link: link_number,
            };
            if was_up {
                // Wait, so that the outage is on its way to the database before the parser stops. Without
                // this report the next start works it out, a little less exactly.
                let _received_or_not = liveness.call(last_report, LAST_REPORT_MAX).await;
            }
        };
        context.wait(disconnect.into_actor(self).map(|(), actor, context| {
            actor.metrics.broker_connected.set(false);
            let uri = actor.uri(actor.session.endpoint());
            actor.options.status.enter(BrokerState::Away, Some("Andon is stopping"), uri);
            actor.exit_guard.finish();
            context.stop();
        }));
    }
}
