//! The batch being built.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::{JournalId, MachineId, Seq, Timestamp, Transition};
use crate::journal::{Gap, Record};
use crate::payload::Outcome;
use crate::store::{Batch, GapRow, ReadingRow, RejectionRow};

/// Collects the rows of a contiguous range of records (invariant P1 of [`super`]).
#[derive(Debug)]
pub struct BatchBuilder {
    after: Seq,
    upto: Seq,
    rows_max: usize,
    bytes_max: usize,
    bytes: usize,
    messages: u64,
    control: u64,
    readings: Vec<ReadingRow>,
    rejections: Vec<RejectionRow>,
    gaps: Vec<GapRow>,
    last_seen: HashMap<MachineId, Timestamp>,
    /// Most messages come from few topics, one after the other.
    topic: Option<Arc<str>>,
}

impl BatchBuilder {
    /// An empty batch that begins right after `after`.
    pub fn new(after: Seq, rows_max: usize, bytes_max: usize) -> Self {
        Self {
            after,
            upto: after,
            rows_max,
            bytes_max,
            bytes: 0,
            messages: 0,
            control: 0,
            readings: Vec::new(),
            rejections: Vec::new(),
            gaps: Vec::new(),
            last_seen: HashMap::new(),
            topic: None,
        }
    }

    /// The last seq it covers.
    pub fn upto(&self) -> Seq {
        self.upto
    }

    /// Whether it covers nothing.
    pub fn is_empty(&self) -> bool {
        self.upto == self.after
    }

    /// Whether it has reached a bound. One message may carry it past: an array is not cut.
    pub fn is_full(&self) -> bool {
        self.rows_free() == 0 || self.bytes >= self.bytes_max
    }

    /// Rows until the bound.
    pub fn rows_free(&self) -> usize {
        // Control messages make no rows, but a batch of nothing else must end, too.
        let rows = self.readings.len() + self.rejections.len();
        self.rows_max.saturating_sub(rows.max(usize::try_from(self.messages).unwrap_or(usize::MAX)))
    }

    /// Adds one record with what it means; drains `outcomes`.
    pub fn add(&mut self, record: &Record<'_>, is_control: bool, outcomes: &mut Vec<Outcome>) {
        debug_assert_eq!(record.seq, self.upto.next(), "P1: a batch is contiguous");
        let message = &record.message;
        self.upto = record.seq;
        self.messages += 1;
        self.bytes += message.payload.len() + message.topic.len();
        if is_control {
            self.control += 1;
            return;
        }
        let topic = self.topic(message.topic);
        for outcome in outcomes.drain(..) {
            match outcome.result {
                Ok(reading) => {
                    if !message.retained {
                        self.sighted(&reading.machine_id, message.received_at);
                    }
                    self.readings.push(ReadingRow {
                        seq: record.seq,
                        element: outcome.element,
                        received_at: message.received_at,
                        topic: Arc::clone(&topic),
                        qos: message.qos,
                        retained: message.retained,
                        reading,
                        payload: message.payload[outcome.raw].to_vec(),
                    });
                }
                Err(rejection) => self.rejections.push(RejectionRow {
                    seq: record.seq,
                    element: outcome.element,
                    received_at: message.received_at,
                    topic: Arc::clone(&topic),
                    qos: message.qos,
                    retained: message.retained,
                    rejection,
                }),
            }
        }
    }

    /// Adds a range that is missing from the journal.
    pub fn add_gap(&mut self, gap: Gap, noticed_at: Timestamp) {
        self.upto = self.upto.max(gap.to);
        let reason = gap.reason.as_str().to_owned();
        self.gaps.push(GapRow { from: gap.from, to: gap.to, reason, at: noticed_at });
    }

    fn sighted(&mut self, machine_id: &MachineId, received_at: Timestamp) {
        match self.last_seen.get_mut(machine_id) {
            Some(last_seen) => *last_seen = received_at.max(*last_seen),
            None => {
                self.last_seen.insert(machine_id.clone(), received_at);
            }
        }
    }

    fn topic(&mut self, topic: &str) -> Arc<str> {
        match &self.topic {
            Some(known) if &**known == topic => Arc::clone(known),
            _ => {
                let shared: Arc<str> = Arc::from(topic);
                self.topic = Some(Arc::clone(&shared));
                shared
            }
        }
    }

    /// The batch, with the transitions that are recorded in the same transaction.
    pub fn finish(self, journal_id: JournalId, transitions: Vec<Transition>) -> Batch {
        // Sorted, so that concurrent writers lock the machines' rows in one order.
        let mut sightings: Vec<_> = self.last_seen.into_iter().collect();
        sightings.sort();
        Batch {
            journal_id,
            after: self.after,
            upto: self.upto,
            messages: self.messages,
            control: self.control,
            readings: self.readings,
            rejections: self.rejections,
            gaps: self.gaps,
            transitions,
            sightings,
        }
    }
}
