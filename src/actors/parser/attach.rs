//! Claims the position in the database, and has liveness start from it.

use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{debug, error, info, warn};

use super::batch::BatchBuilder;
use super::{BATCH_BYTES_MAX, DATABASE_WAIT_MAX, LIVENESS_ANSWER_MAX, Parser, Step, Store};
use crate::actors::liveness::messages::{Recover, Recovered};
use crate::actors::writer::messages::{Attach, Attached, Known};
use crate::domain::{OpenId, Seq};
use crate::journal::JournalError;
use crate::logging::causes;
use crate::store::LivenessPast;

impl Parser {
    /// Forgets the position; it is claimed again after a pause.
    pub(super) fn detach(&mut self, context: &mut Context<Self>) {
        self.options.progress.given_back();
        self.store = Store::Unknown;
        self.detached_since = Instant::now();
        self.pause(context);
    }

    /// Handles a position that is not where we left it, or no longer ours.
    pub(super) fn position_moved(&mut self, context: &mut Context<Self>) {
        warn!(
            self.logger,
            "the position in the database is not where this service left it: reading it again"
        );
        self.detach(context);
    }

    /// Has the writer claim the position. It answers once the database has.
    pub(super) fn attach(&mut self, context: &mut Context<Self>) {
        if self.in_flight.is_some() {
            return; // Its answer may still move the position.
        }
        let history = match self.journal.history() {
            Ok(history) => history,
            Err(error) => return self.give_up("note the open id", &error, context),
        };
        self.store = Store::Attaching;
        self.attach_number += 1;
        let (number, own) = (self.attach_number, history.own);
        let wire = self.wires.attach.clone();
        let lost = context.address().recipient().downgrade();
        let call = async move { wire.call(Attach { history, lost }, Duration::MAX).await };
        context.spawn(call.into_actor(self).map(move |answer, parser, context| {
            if parser.attach_number != number || !matches!(parser.store, Store::Attaching) {
                return;
            }
            match answer {
                Ok(Ok(Attached::Granted(known))) => parser.on_attached(own, known, context),
                Ok(Ok(Attached::Foreign { committed_seq, site })) => {
                    parser.on_foreign(committed_seq, &site, context);
                }
                // The writer is restarting, and this parser will restart after it.
                Ok(Err(_)) | Err(_) => {
                    parser.store = Store::Unknown;
                    parser.pause(context);
                }
            }
        }));
    }

    /// Has liveness start without the recorded past if the database stays away, so that no sighting waits for
    /// it.
    pub(super) fn begin_without_database(&mut self, context: &mut Context<Self>) {
        if self.liveness_ready || self.detached_since.elapsed() < DATABASE_WAIT_MAX {
            return;
        }
        info!(
            self.logger,
            "the database is away: watching the machines without their recorded past until it returns"
        );
        let positions = self.journal.positions();
        // Records from before this process, or seen by an earlier liveness, belong to the past: observed
        // without it, they would cause events that never happened.
        let after = positions.committed.max(self.journal.newest_at_open()).max(self.lookout);
        let received_before = self.health.lock().ended_upto();
        let (machines, past) = (Vec::new(), LivenessPast::default());
        self.recover(Recover { machines, past, after, received_before, without_history: true }, context);
    }

    fn on_attached(&mut self, own: OpenId, known: Known, context: &mut Context<Self>) {
        if self.step == Step::WithLiveness {
            // One request to liveness at a time; its answer comes soon.
            context.run_later(Duration::from_millis(10), move |parser, context| {
                if matches!(parser.store, Store::Attaching) {
                    parser.on_attached(own, known, context);
                }
            });
            return;
        }
        let Known { committed_seq: committed, machines, past } = known;
        let appended = self.journal.positions().appended;
        match self.journal.resume(committed) {
            Ok(None) => {}
            Ok(Some(confirmed)) => {
                warn!(self.logger, "the database is older than its last commit (restored from a backup, or another database?): storing \
                    again what the journal still holds; the rest becomes a gap";
                    "committed" => committed.0, "confirmed" => confirmed.0);
            }
            Err(error) => return self.give_up("continue after the committed seq", &error, context),
        }
        debug!(self.logger, "attached to the database"; "committed" => committed.0, "appended" => appended.0);
        self.storage = self.journal.reader(committed);
        self.building = BatchBuilder::new(committed, self.options.batch_rows_max, BATCH_BYTES_MAX);
        self.store = Store::Ready(own);
        let received_before = self.health.lock().ended_upto();
        let recover = Recover { machines, past, after: committed, received_before, without_history: false };
        self.recover(recover, context);
    }

    /// Leaves the position to the other history of this journal that wrote it, and takes a new journal id.
    fn on_foreign(&mut self, committed: Seq, site: &str, context: &mut Context<Self>) {
        let appended = self.journal.positions().appended;
        match self.journal.new_identity(site) {
            Ok(journal_id) => {
                warn!(self.logger, "the position in the database is not this journal's: the journal directory \
                    was copied or restored from a backup. Continuing under a new journal id, and storing \
                    again what the journal holds";
                "committed" => committed.0, "appended" => appended.0, "of_site" => site, "journal_id" => %journal_id)
            }
            Err(error) => return self.give_up("take a new journal id", &error, context),
        }
        self.detach(context);
    }

    fn give_up(&mut self, failed_to: &'static str, error: &JournalError, context: &mut Context<Self>) {
        error!(self.logger, "the journal cannot follow the database's position: restarting the parser"; "failed_to" => failed_to,
            "error" => causes(error));
        self.exit_guard.fail(causes(error));
        context.stop();
    }

    fn recover(&mut self, recover: Recover, context: &mut Context<Self>) {
        self.step = Step::WithLiveness;
        let provisional = recover.without_history;
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
