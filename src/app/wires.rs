//! The wires between the actors, and the bridge from the journal's events to them.

use std::sync::{Arc, Mutex, PoisonError};

use slog::{Logger, error, o, warn};

use crate::actors::liveness::messages::{
    LinkChanged, Observe, Recover, TakeTransitions, TransitionsRecorded,
};
use crate::actors::mqtt::messages::{ProveLink, PublishStatuses, SpaceChanged, TellLink};
use crate::actors::mqtt::publish_fence::PublishFence;
use crate::actors::parser::messages::{JournalGrew, TransitionsPending};
use crate::actors::stable_addr::StableAddr;
use crate::actors::writer::messages::{Attach, CommitBatch};
use crate::domain::Seq;
use crate::journal::{JournalError, JournalListener, Space};
use crate::logging::causes;

/// Every edge between two actors.
#[derive(Clone, Default)]
pub(super) struct Wires {
    pub(super) journal_grew: StableAddr<JournalGrew>,
    pub(super) space: StableAddr<SpaceChanged>,
    pub(super) mqtt: EdgesToMqtt,
    pub(super) liveness: EdgesToLiveness,
    pub(super) writer: EdgesToWriter,
    pub(super) transitions_pending: StableAddr<TransitionsPending>,
}

#[derive(Clone, Default)]
pub(super) struct EdgesToMqtt {
    pub(super) publish: StableAddr<PublishStatuses>,
    pub(super) prove: StableAddr<ProveLink>,
    pub(super) tell_link: StableAddr<TellLink>,
    pub(super) fence: Arc<PublishFence>,
}

#[derive(Clone, Default)]
pub(super) struct EdgesToLiveness {
    pub(super) link: StableAddr<LinkChanged>,
    pub(super) observe: StableAddr<Observe>,
    pub(super) recover: StableAddr<Recover>,
    pub(super) take: StableAddr<TakeTransitions>,
    pub(super) recorded: StableAddr<TransitionsRecorded>,
}

#[derive(Clone, Default)]
pub(super) struct EdgesToWriter {
    pub(super) attach: StableAddr<Attach>,
    pub(super) commit: StableAddr<CommitBatch>,
}

/// Passes the journal's events to the actors. Called from paho's thread and the journal's threads.
pub(super) struct JournalEvents {
    wires: Wires,
    logger: Logger,
    last_maintenance_failure: Mutex<String>,
}

impl JournalEvents {
    pub(super) fn new(wires: Wires, logger: &Logger) -> Self {
        Self {
            wires,
            logger: logger.new(o!("component" => "journal")),
            last_maintenance_failure: Mutex::default(),
        }
    }
}

impl JournalListener for JournalEvents {
    fn readable(&self, _upto: Seq) {
        // A full mailbox holds such a message already; a parser that restarts reads on by itself.
        let _woken_anyway = self.wires.journal_grew.try_send(JournalGrew);
    }

    fn space(&self, space: Space) {
        // If the mailbox is full or the actor restarts, it checks the journal's space every second by itself.
        let _looked_for = self.wires.space.try_send(SpaceChanged(space));
    }

    fn maintenance_failed(&self, error: &JournalError) {
        let text = causes(error);
        let mut last = self.last_maintenance_failure.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != text {
            warn!(self.logger, "the journal cannot maintain its files: retrying"; "error" => &text);
            *last = text;
        }
    }

    fn failed(&self, error: &JournalError) {
        error!(self.logger, "the journal failed: stopping; what is acknowledged is on the disk or will be delivered again";
            "error" => causes(error));
        crate::shutdown::halt(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix::prelude::*;

    use super::*;

    /// Notes each message.
    struct Listener(tokio::sync::mpsc::UnboundedSender<&'static str>);

    impl Actor for Listener {
        type Context = Context<Self>;
    }

    impl Handler<JournalGrew> for Listener {
        type Result = ();

        fn handle(&mut self, _: JournalGrew, _: &mut Context<Self>) {
            self.0.send("grew").unwrap();
        }
    }

    impl Handler<SpaceChanged> for Listener {
        type Result = ();

        fn handle(&mut self, SpaceChanged(space): SpaceChanged, _: &mut Context<Self>) {
            self.0.send(if matches!(space, Space::Free) { "free" } else { "full" }).unwrap();
        }
    }

    #[test]
    fn the_journals_events_reach_parser_and_mqtt_at_once() {
        System::new().block_on(async {
            let wires = Wires::default();
            let events = JournalEvents::new(wires.clone(), &Logger::root(slog::Discard, o!()));
            let (out, mut received) = tokio::sync::mpsc::unbounded_channel();
            let actor = Listener(out).start();
            wires.journal_grew.connect(actor.clone().recipient());
            wires.space.connect(actor.recipient());
            events.readable(Seq(1));
            events.space(Space::Free);
            for expected in ["grew", "free"] {
                let heard = actix_rt::time::timeout(Duration::from_secs(30), received.recv()).await;
                assert_eq!(heard, Ok(Some(expected)));
            }
        });
    }
}
