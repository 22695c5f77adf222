//! Finding the place to go on from: the position in the database, and where liveness stands.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{debug, error, info, warn};

use super::batch::BatchBuilder;
use super::{BATCH_BYTES_MAX, LIVENESS_ANSWER_MAX, Parser, RECOVERY_PATIENCE, Step, Store};
use crate::actors::liveness::{Recover, Recovered};
use crate::actors::writer::{Attach, Attached};
use crate::domain::Seq;
use crate::logging::causes;
use crate::store::LivenessPast;

impl Parser {
    /// The position has to be learned again.
    pub(super) fn detach(&mut self, context: &mut Context<Self>) {
        self.options.progress.given_back();
        self.store = Store::Unknown;
        self.detached_since = Instant::now();
        self.pause(context);
    }

    /// Asks the writer for the position in the database; it answers when the database does.
    pub(super) fn attach(&mut self, context: &mut Context<Self>) {
        if self.in_flight.is_some() {
            return; // Its answer comes first; it may move the position.
        }
        self.store = Store::Attaching;
        self.attach_number += 1;
        let number = self.attach_number;
        let wire = self.wires.attach.clone();
        let journal_id = self.journal.id();
        let call = async move { wire.call(Attach { journal_id }, Duration::MAX).await };
        context.spawn(call.into_actor(self).map(move |answer, parser, context| {
            if parser.attach_number != number || !matches!(parser.store, Store::Attaching) {
                return;
            }
            match answer {
                Ok(Ok(attached)) => parser.on_attached(attached, context),
                // The writer is restarting, and this parser after it.
                Ok(Err(_)) | Err(_) => {
                    parser.store = Store::Unknown;
                    parser.pause(context);
                }
            }
        }));
    }

    /// The database is away: liveness begins without its past, so that no sighting waits for it.
    pub(super) fn begin_without_database(&mut self, context: &mut Context<Self>) {
        if self.liveness_ready || self.detached_since.elapsed() < RECOVERY_PATIENCE {
            return;
        }
        info!(
            self.logger,
            "the database is away: watching the machines without their recorded past until it is back"
        );
        let positions = self.journal.positions();
        // What was received before this process started, or was seen by a liveness before this one, is of the past, too: retold
        // without it, it would be news that never was.
        let after = positions.committed.max(self.options.appended_at_open).max(self.lookout);
        let received_before = self.health.lock().ended_upto();
        let (machines, past) = (Vec::new(), LivenessPast::default());
        self.recover(Recover { machines, past, after, received_before, provisional: true }, context);
    }

    fn on_attached(&mut self, attached: Attached, context: &mut Context<Self>) {
        if self.step == Step::WithLiveness {
            // One question at a time; the answer of liveness comes soon.
            context.run_later(Duration::from_millis(10), |parser, context| {
                if matches!(parser.store, Store::Attaching) {
                    parser.on_attached(attached, context);
                }
            });
            return;
        }
        let committed = attached.committed_seq;
        let positions = self.journal.positions();
        let unchecked = !self.options.position_checked.load(Ordering::Relaxed);
        if committed > positions.appended || (unchecked && committed > self.options.appended_at_open) {
            return self.journal_is_behind(committed, context);
        }
        self.options.position_checked.store(true, Ordering::Relaxed);
        debug!(self.logger, "attached to the database"; "committed" => committed.0, "appended" => positions.appended.0);
        if let Err(error) = self.journal.commit(committed) {
            warn!(self.logger, "the journal could not be trimmed"; "error" => causes(&error));
        }
        self.storage = self.journal.reader(committed);
        self.building = BatchBuilder::new(committed, self.options.batch_rows_max, BATCH_BYTES_MAX);
        self.store = Store::Ready;
        let received_before = self.health.lock().ended_upto();
        let Attached { machines, past, .. } = attached;
        let recover = Recover { machines, past, after: committed, received_before, provisional: false };
        self.recover(recover, context);
    }

    /// The database knows more of this journal than the journal itself: it was restored from a copy. Its
    /// seqs must not be used twice, so it goes on under a new name.
    fn journal_is_behind(&mut self, committed: Seq, context: &mut Context<Self>) {
        let appended = self.journal.positions().appended;
        match self.journal.new_identity() {
            Ok(journal_id) => {
                warn!(self.logger, "the journal is older than the database's position in it (restored from a copy?): \
                going on under a new journal id"; "committed" => committed.0, "appended" => appended.0,
                "journal_id" => %journal_id)
            }
            Err(error) => {
                error!(self.logger, "the journal cannot take a new id"; "error" => causes(&error));
                self.lifeline.fail(causes(&error));
                return context.stop();
            }
        }
        self.options.position_checked.store(true, Ordering::Relaxed);
        self.detach(context);
    }

    fn recover(&mut self, recover: Recover, context: &mut Context<Self>) {
        self.step = Step::WithLiveness;
        let provisional = recover.provisional;
        let wire = self.wires.recover.clone();
        let call = async move { wire.call(recover, LIVENESS_ANSWER_MAX).await };
        context.spawn(call.into_actor(self).map(move |answer, parser, context| {
            parser.step = Step::Idle;
            match answer {
                Ok(Recovered { observed_upto, transitions_pending }) => {
                    parser.lookout = observed_upto;
                    parser.liveness_ready = true;
                    parser.liveness_provisional = provisional;
                    parser.transitions_pending |= transitions_pending > 0;
                    parser.pump(context);
                }
                Err(error) => parser.liveness_away(error, context),
            }
        }));
    }
}
