//! Commits batches through the writer (invariants PAR-1 to PAR-3 of [`super`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::warn;

use super::batch::BatchBuilder;
use super::{BATCH_BYTES_MAX, BATCH_TRANSITIONS_MAX, InFlight, LIVENESS_ANSWER_MAX, Parser, Step, Store};
use crate::actors::liveness::messages::{Receipt, TakeTransitions, TakenTransitions, TransitionsRecorded};
use crate::actors::stable_addr::StableAddrError;
use crate::actors::writer::messages::{CommitBatch, Committed, NotCommitted};
use crate::domain::Transition;
use crate::logging::causes;
use crate::store::LivenessRows;

/// The rows that liveness adds to a batch.
#[derive(Default)]
struct FromLiveness {
    transitions: Vec<Transition>,
    rows: LivenessRows,
    receipt: Receipt,
}

impl Parser {
    /// True if the writer is free and there is something to commit: what came while the last commit ran.
    pub(super) fn can_commit(&self) -> bool {
        let is_ready = self.is_attached() && !self.liveness_provisional && self.in_flight.is_none();
        let has_content = !self.building.is_empty() || self.transitions_pending;
        // PAR-2: liveness may have begun again behind the batch.
        let is_seen = self.lookout >= self.building.upto();
        is_ready && has_content && is_seen
    }

    /// Sends the batch to the writer. `true` if liveness has to answer first.
    pub(super) fn commit_next(&mut self, context: &mut Context<Self>) -> bool {
        if !std::mem::take(&mut self.transitions_pending) {
            self.commit_built(FromLiveness::default(), context);
            return false;
        }
        self.step = Step::WithLiveness;
        let wire = self.wires.take_transitions.clone();
        let take = TakeTransitions { upto: self.building.upto(), count_max: BATCH_TRANSITIONS_MAX };
        let call = async move { wire.call(take, LIVENESS_ANSWER_MAX).await };
        context.spawn(call.into_actor(self).map(|answer, parser, context| {
            parser.step = Step::Idle;
            match answer {
                Ok(taken) => {
                    parser.on_taken(taken, context);
                    parser.pump(context);
                }
                Err(error) => parser.liveness_away(error, context),
            }
        }));
        true
    }

    fn on_taken(&mut self, taken: TakenTransitions, context: &mut Context<Self>) {
        let nothing = taken.transitions.is_empty() && taken.rows.is_empty();
        let TakenTransitions { transitions, rows, receipt, more } = taken;
        let from_liveness = FromLiveness { transitions, rows, receipt };
        if more {
            // PAR-2: the position does not move before every transition up to it is recorded.
            let only_transitions =
                BatchBuilder::new(self.building.after(), self.options.batch_rows_max, BATCH_BYTES_MAX);
            self.transitions_pending = true;
            self.commit(only_transitions, from_liveness, context);
        } else if !nothing || !self.building.is_empty() {
            self.commit_built(from_liveness, context);
        }
    }

    fn commit_built(&mut self, from_liveness: FromLiveness, context: &mut Context<Self>) {
        let next = BatchBuilder::new(self.building.upto(), self.options.batch_rows_max, BATCH_BYTES_MAX);
        let built = std::mem::replace(&mut self.building, next);
        self.commit(built, from_liveness, context);
    }

    fn commit(&mut self, built: BatchBuilder, from_liveness: FromLiveness, context: &mut Context<Self>) {
        let Store::Ready(open_id) = self.store else { return };
        let FromLiveness { transitions, rows, receipt } = from_liveness;
        self.options.progress.handed_over();
        self.in_flight = Some(InFlight { since: Instant::now(), upto: built.upto(), receipt });
        let batch = built.finish(self.journal.id(), open_id, transitions, rows);
        let wire = self.wires.commit.clone();
        let call = async move { wire.call(CommitBatch(Arc::new(batch)), Duration::MAX).await };
        context.spawn(call.into_actor(self).map(|answer, parser, context| {
            parser.on_answer(answer, context);
        }));
    }

    fn on_answer(
        &mut self,
        answer: Result<Result<Committed, NotCommitted>, StableAddrError>,
        context: &mut Context<Self>,
    ) {
        let Some(in_flight) = self.in_flight.take() else { return };
        match answer {
            Ok(Ok(Committed)) => {
                self.options.progress.committed();
                if let Err(error) = self.journal.commit(in_flight.upto) {
                    warn!(self.logger, "the journal could not delete committed segments"; "error" => causes(&error));
                }
                self.on_transitions_recorded(in_flight.receipt);
            }
            Ok(Err(NotCommitted::Stale)) => return self.position_moved(context),
            // The writer has ended, and this parser will restart after it.
            Ok(Err(NotCommitted::Stopped)) | Err(_) => return self.detach(context),
        }
        self.pump(context);
        self.finish_if_drained(context);
    }

    fn on_transitions_recorded(&mut self, receipt: Receipt) {
        if receipt != Receipt::default() {
            // If liveness is away the rows stay pending there and are recorded again, which is idempotent.
            let _idempotent = self.wires.transitions_recorded.try_send(TransitionsRecorded(receipt));
        }
    }
}
