//! Reading on in the journal: for the batch, for liveness, or for both at once.

use actix::prelude::*;
use slog::warn;

use super::{LIVENESS_ANSWER_MAX, Parser, Step};
use crate::actors::liveness::messages::{Observe, Observed, Sighting};
use crate::clock::wall_now;
use crate::journal::JournalError;

/// Records read at once; bounds how long a handler runs.
const READ_RECORDS_MAX: usize = 1024;
/// Bytes read at once; as an array makes an element of two bytes, this bounds the rows of one read.
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
            options.sight.interpret(&record, outcomes, &mut sightings);
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
        let (logger, another_told) = (&self.logger, &mut self.another_told);
        let read = self.storage.read(room, READ_BYTES_MAX, &mut |record| {
            if !*another_told
                && let Some(topic) = options.sight.status_of_another(&record)
            {
                *another_told = true;
                warn!(logger, "another Andon publishes the statuses of its machines where this one listens, and they are taken \
                    for readings; give all sites of this broker the same liveness.publish_prefix, or narrow mqtt.subscriptions";
                    "topic" => topic);
            }
            let is_control = options.sight.interpret(&record, outcomes, &mut sightings);
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

    /// Tells liveness of a newer proof of the link once every record before it has been looked at.
    pub(super) fn tell_proof(&mut self, context: &mut Context<Self>) {
        if self.proof.is_none() {
            self.proof = self.health.lock().proof().filter(|proof| proof.at > self.proof_told);
        }
        if self.proof.is_some_and(|proof| proof.upto <= self.lookout) {
            self.observe(Vec::new(), context);
        }
    }

    pub(super) fn observe(&mut self, sightings: Vec<Sighting>, context: &mut Context<Self>) {
        let upto = self.lookout;
        if self.proof.is_none() {
            self.proof = self.health.lock().proof().filter(|proof| proof.at > self.proof_told);
        }
        let proven_until = match self.proof {
            Some(proof) if proof.upto <= upto => {
                self.proof = None;
                self.proof_told = proof.at;
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
