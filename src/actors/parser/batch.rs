//! Builds batches: rows of a contiguous range of records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::{JournalId, MachineId, OpenId, Seq, Timestamp, Transition};
use crate::journal::{Gap, Record};
use crate::payload::Outcome;
use crate::store::{Batch, GapRow, LivenessRows, ReadingRow, RejectionRow};

/// Collects the rows of a contiguous range of records (invariant PAR-1 of [`super`]).
#[derive(Debug)]
pub struct BatchBuilder {
    after: Seq,
    upto: Seq,
    begun: Option<Instant>,
    rows_max: usize,
    bytes_max: usize,
    bytes: usize,
    messages: u64,
    control: u64,
    readings: Vec<ReadingRow>,
    rejections: Vec<RejectionRow>,
    gaps: Vec<GapRow>,
    last_seen: HashMap<MachineId, Timestamp>,
    /// The newest topic: successive messages often share it.
    topic: Option<Arc<str>>,
}

impl BatchBuilder {
    /// Makes an empty batch that begins right after `after`.
    pub fn new(after: Seq, rows_max: usize, bytes_max: usize) -> Self {
        Self {
            after,
            upto: after,
            begun: None,
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

    /// Returns the position before its first record.
    pub fn after(&self) -> Seq {
        self.after
    }

    /// Returns the last seq it covers.
    pub fn upto(&self) -> Seq {
        self.upto
    }

    /// Returns whether it covers nothing.
    pub fn is_empty(&self) -> bool {
        self.upto == self.after
    }

    /// Returns whether it has reached a bound. One message may exceed it: an array is not split.
    pub fn is_full(&self) -> bool {
        self.rows_free() == 0 || self.bytes >= self.bytes_max
    }

    /// Returns the time since its first record was added.
    pub fn age(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// Returns the rows that still fit.
    pub fn rows_free(&self) -> usize {
        // Control messages make no rows, but must fill a batch, too.
        let rows = self.readings.len() + self.rejections.len();
        self.rows_max.saturating_sub(rows.max(usize::try_from(self.messages).unwrap_or(usize::MAX)))
    }

    /// Adds a record with its outcomes, which it drains.
    pub fn add(&mut self, record: &Record<'_>, is_control: bool, outcomes: &mut Vec<Outcome>) {
        if record.seq > self.upto.next() {
            // The reason follows after the records; see `name_gap`.
            self.skip(self.upto.next(), Seq(record.seq.0 - 1));
        }
        debug_assert_eq!(record.seq, self.upto.next(), "PAR-1: a batch is contiguous");
        let message = &record.message;
        self.begun.get_or_insert_with(Instant::now);
        self.upto = record.seq;
        self.messages += 1;
        self.bytes += message.payload.len() + message.topic.as_bytes().len();
        if is_control {
            self.control += 1;
            return;
        }
        let topic = self.topic(&message.topic.to_text());
        for outcome in outcomes.drain(..) {
            match outcome.result {
                Ok(reading) => {
                    if !message.retained {
                        self.note_last_seen(&reading.machine_id, message.received_at);
                    }
                    self.readings.push(ReadingRow {
                        seq: record.seq,
                        element: outcome.element,
                        received_at: message.received_at,
                        topic: Arc::clone(&topic),
                        qos: message.qos,
                        retained: message.retained,
                        clock_unset: message.clock_unset,
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
                    clock_unset: message.clock_unset,
                    rejection,
                }),
            }
        }
    }

    /// Covers a range that is missing from the journal, with an unknown reason.
    fn skip(&mut self, from: Seq, to: Seq) {
        let unexplained = GapRow { from, to, reason: "missing".to_owned(), at: Timestamp::from_micros(0) };
        self.gaps.push(unexplained);
        self.upto = to;
    }

    /// Names the reason of a missing range, which may lie before or after the records that were read with it.
    pub fn name_gap(&mut self, gap: &Gap, noticed_at: Timestamp) {
        if gap.to > self.upto {
            self.skip(self.upto.next().max(gap.from), gap.to);
        }
        for row in self.gaps.iter_mut().filter(|row| row.from <= gap.to && row.to >= gap.from) {
            gap.reason.as_str().clone_into(&mut row.reason);
            row.at = noticed_at;
        }
    }

    fn note_last_seen(&mut self, machine_id: &MachineId, received_at: Timestamp) {
        match self.last_seen.get_mut(machine_id) {
            // The newest by seq: the clock may have been set back.
            Some(last_seen) => *last_seen = received_at,
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

    /// Finishes the batch, with the rows of liveness for the same transaction.
    pub fn finish(
        self,
        journal_id: JournalId,
        open_id: OpenId,
        transitions: Vec<Transition>,
        liveness: LivenessRows,
    ) -> Batch {
        // Sorted, so that concurrent writers lock the machines' rows in one order.
        let mut sightings: Vec<_> = self.last_seen.into_iter().collect();
        sightings.sort();
        Batch {
            journal_id,
            open_id,
            after: self.after,
            upto: self.upto,
            messages: self.messages,
            control: self.control,
            readings: self.readings,
            rejections: self.rejections,
            gaps: self.gaps,
            transitions,
            sightings,
            liveness,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Message, Qos, Reading, RejectReason, Rejection, TimeSource};
    use crate::journal::GapReason;

    fn record(seq: u64) -> Record<'static> {
        let received_at = Timestamp::from_micros(1);
        let message = Message {
            received_at,
            qos: Qos::AtLeastOnce,
            retained: false,
            clock_unset: false,
            topic: "a/b/c".into(),
            payload: b"x",
        };
        Record { seq: Seq(seq), message }
    }

    fn gap(from: u64, to: u64) -> Gap {
        Gap { from: Seq(from), to: Seq(to), reason: GapReason::Dropped }
    }

    /// Proves PAR-1.
    #[test]
    fn a_gap_before_records_is_covered_and_named() {
        let mut builder = BatchBuilder::new(Seq(10), 100, 1000);
        builder.add(&record(15), true, &mut Vec::new());
        builder.add(&record(16), true, &mut Vec::new());
        builder.name_gap(&gap(11, 14), Timestamp::from_micros(7));
        let nil = uuid::Uuid::nil();
        let batch = builder.finish(JournalId(nil), OpenId(nil), Vec::new(), LivenessRows::default());
        assert_eq!((batch.after, batch.upto, batch.messages, batch.control), (Seq(10), Seq(16), 2, 2));
        let named = GapRow {
            from: Seq(11),
            to: Seq(14),
            reason: GapReason::Dropped.as_str().to_owned(),
            at: Timestamp::from_micros(7),
        };
        assert_eq!(batch.gaps, [named]);
    }

    #[test]
    fn a_gap_with_nothing_after_it_moves_the_batch_on() {
        let mut builder = BatchBuilder::new(Seq(10), 100, 1000);
        builder.name_gap(&gap(5, 20), Timestamp::from_micros(7));
        assert_eq!(builder.upto(), Seq(20));
        let nil = uuid::Uuid::nil();
        let batch = builder.finish(JournalId(nil), OpenId(nil), Vec::new(), LivenessRows::default());
        assert_eq!((batch.gaps[0].from, batch.gaps[0].to), (Seq(11), Seq(20)), "a committed range is no gap");
        assert_eq!(batch.messages, 0);
    }

    fn outcome(machine: &str) -> Outcome {
        let reading = Reading {
            machine_id: MachineId::parse(machine).unwrap(),
            temperature: None,
            humidity: None,
            vibration: None,
            extra: None,
            recorded_at: Timestamp::from_micros(1),
            time_source: TimeSource::Device,
            digest: 0,
        };
        Outcome { element: 0, raw: 0..1, result: Ok(reading) }
    }

    /// Proves PAR-4.
    #[test]
    fn every_element_is_a_reading_or_a_rejection_and_every_record_moves_the_batch() {
        let mut builder = BatchBuilder::new(Seq(0), 100, 1000);
        builder.add(&record(1), true, &mut Vec::new());
        let refused =
            Rejection { reason: RejectReason::MissingMachineId, detail: String::new(), payload: Vec::new() };
        let mut outcomes = vec![outcome("press-1"), Outcome { result: Err(refused), ..outcome("press-1") }];
        builder.add(&record(2), false, &mut outcomes);
        builder.add(&record(3), false, &mut Vec::new());
        let nil = uuid::Uuid::nil();
        let batch = builder.finish(JournalId(nil), OpenId(nil), Vec::new(), LivenessRows::default());
        assert_eq!((batch.upto, batch.messages, batch.control), (Seq(3), 3, 1));
        assert_eq!((batch.readings.len(), batch.rejections.len()), (1, 1));
    }

    #[test]
    fn a_retained_message_is_stored_and_moves_no_last_seen() {
        let mut builder = BatchBuilder::new(Seq(0), 100, 1000);
        builder.add(&record(1), false, &mut vec![outcome("press-1")]);
        let mut late = record(2);
        (late.message.received_at, late.message.retained) = (Timestamp::from_micros(9), true);
        builder.add(&late, false, &mut vec![outcome("press-1"), outcome("press-2")]);
        let batch = builder.finish(
            JournalId(uuid::Uuid::nil()),
            OpenId(uuid::Uuid::nil()),
            Vec::new(),
            LivenessRows::default(),
        );
        assert_eq!(batch.readings.len(), 3);
        assert_eq!(batch.sightings, [(MachineId::parse("press-1").unwrap(), Timestamp::from_micros(1))]);
    }

    /// Proves PAR-3.
    #[test]
    fn a_batch_is_full_at_its_bytes_or_its_rows_or_its_messages_whichever_is_first() {
        let rows_until_full = |bytes_max, payload: &'static [u8], is_control: bool| {
            let mut builder = BatchBuilder::new(Seq(0), 20, bytes_max);
            (1..).find(|seq| {
                assert!(!builder.is_full());
                let mut record = record(*seq);
                record.message.payload = payload;
                builder.add(&record, is_control, &mut vec![outcome("press-1")]);
                builder.is_full()
            })
        };
        // Beside the payload its topic counts: five bytes.
        assert_eq!(rows_until_full(1_000, &[b'x'; 95], false), Some(10));
        assert_eq!(rows_until_full(1_001, &[b'x'; 95], false), Some(11), "the last message may exceed it");
        assert_eq!(rows_until_full(1_000, b"x", false), Some(20));
        assert_eq!(rows_until_full(1_000, b"x", true), Some(20), "control makes no rows");
        assert_eq!(rows_until_full(1_000, &[b'x'; 95], true), Some(10));
    }
}
