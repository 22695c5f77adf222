//! Reads the journal: for the batch, for liveness, or for both.

use actix::prelude::*;
use slog::warn;

use super::{LIVENESS_ANSWER_MAX, Parser, Step};
use crate::actors::liveness::messages::{Observe, Observed, Sighting};
use crate::clock::wall_now;
use crate::journal::JournalError;

/// Records in one read; bounds how long a handler runs.
const READ_RECORDS_MAX: usize = 1024;
/// Bytes in one read; also bounds its rows, because an element of an array takes at least two bytes.
const READ_BYTES_MAX: usize = 256 * 1024;

impl Parser {
    /// Reads for liveness alone. `Ok(true)` if something was read.
    pub(super) fn look_out(&mut self, context: &mut Context<Self>) -> Result<bool, JournalError> {
        let mut sightings = Vec::new();
        let (options, outcomes) = (&self.options, &mut self.outcomes);
        let reader = match self.lookout_reader.take().filter(|reader| reader.position() == self.lookout) {
            Some(reader) => self.lookout_reader.insert(reader),
            None => self.lookout_reader.insert(self.journal.reader(self.lookout)),
        };
        let read = reader.read(READ_RECORDS_MAX, READ_BYTES_MAX, &mut |record| {
            options.interpreter.interpret(&record, outcomes, &mut sightings);
        })?;
        self.lookout = reader.position();
        if read.records == 0 && read.gap.is_none() {
            return Ok(false);
        }
        self.observe(sightings, context);
        Ok(true)
    }

    /// Reads for the batch, and for liveness what it has not seen yet. `Ok(true)` if something was read.
    pub(super) fn build(&mut self, context: &mut Context<Self>) -> Result<bool, JournalError> {
        let seen_upto = self.lookout;
        let room = READ_RECORDS_MAX.min(self.building.rows_free());
        let mut sightings = Vec::new();
        let (options, outcomes, building) = (&self.options, &mut self.outcomes, &mut self.building);
        let (logger, foreign_status_logged) = (&self.logger, &mut self.foreign_status_logged);
        let read = self.storage.read(room, READ_BYTES_MAX, &mut |record| {
            if !*foreign_status_logged
                && let Some(topic) = options.interpreter.foreign_status_topic(&record)
            {
                *foreign_status_logged = true;
                warn!(logger, "another Andon publishes machine statuses on topics that this one subscribes to, and they are \
                    stored as readings: give all sites of this broker the same liveness.publish_prefix, or narrow mqtt.subscriptions";
                    "topic" => topic);
            }
            let is_control = options.interpreter.interpret(&record, outcomes, &mut sightings);
            building.add(&record, is_control, outcomes);
        })?;
        if self.outcomes.capacity() > READ_RECORDS_MAX {
            self.outcomes = Vec::new();
        }
        if let Some(gap) = read.gap {
            warn!(self.logger, "records are missing from the journal and go into the database as a gap";
                "from" => gap.from.0, "to" => gap.to.0, "reason" => gap.reason.as_str());
            self.building.name_gap(&gap, wall_now());
        }
        if read.records == 0 && read.gap.is_none() {
            return Ok(false);
        }
        self.options.progress.parsed();
        sightings.retain(|sighting| sighting.seq > seen_upto);
        self.lookout = seen_upto.max(self.storage.position());
        self.observe(sightings, context);
        Ok(true)
    }

    /// Passes a newer proof of the link on to liveness once it has seen every record before the proof.
    pub(super) fn pass_on_proof(&mut self, context: &mut Context<Self>) {
        if self.proof.is_none() {
            self.proof = self.health.lock().proof().filter(|proof| proof.at > self.proof_passed_on);
        }
        if self.proof.is_some_and(|proof| proof.upto <= self.lookout) {
            self.observe(Vec::new(), context);
        }
    }

    pub(super) fn observe(&mut self, sightings: Vec<Sighting>, context: &mut Context<Self>) {
        let upto = self.lookout;
        if self.proof.is_none() {
            self.proof = self.health.lock().proof().filter(|proof| proof.at > self.proof_passed_on);
        }
        let proven_until = match self.proof {
            Some(proof) if proof.upto <= upto => {
                self.proof = None;
                self.proof_passed_on = proof.at;
                Some(proof.at)
            }
            _ => None,
        };
        self.step = Step::WithLiveness;
        let wire = self.wires.observe.clone();
        let call =
            async move { wire.call(Observe { sightings, upto, proven_until }, LIVENESS_ANSWER_MAX).await };
        context.spawn(call.into_actor(self).map(|answer, parser, context| {
            parser.step = Step::Idle;
            match answer {
                Ok(Observed::Seen { transitions_pending }) => {
                    parser.transitions_pending |= transitions_pending > 0;
                    parser.pump(context);
                }
                Ok(Observed::NotRecovered) => parser.liveness_lost(context),
                Err(error) => parser.liveness_away(error, context),
            }
        }));
    }
}
