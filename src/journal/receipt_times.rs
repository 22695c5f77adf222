//! Samples of when records were received: enough to tell the age of the oldest pending record, in bounded memory.

use std::collections::VecDeque;

use crate::domain::{Seq, Timestamp};

const SAMPLES_MAX: usize = 2048;
const SPACING_MICROS_MIN: u64 = 1_000_000;

/// Samples of (seq, received_at), ascending in seq.
#[derive(Debug)]
pub(super) struct ReceiptTimes {
    samples: VecDeque<(Seq, Timestamp)>,
    spacing_micros: u64,
}

impl ReceiptTimes {
    pub(super) fn new() -> Self {
        Self { samples: VecDeque::new(), spacing_micros: SPACING_MICROS_MIN }
    }

    /// Adds a sample if it is far enough in time from the last one, in either direction: clocks jump.
    pub(super) fn note(&mut self, seq: Seq, received_at: Timestamp) {
        if let Some((_, last)) = self.samples.back()
            && last.as_micros().abs_diff(received_at.as_micros()) < self.spacing_micros
        {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.thin_out();
        }
        self.samples.push_back((seq, received_at));
    }

    /// Removes committed samples, except the newest one at or before the oldest pending record.
    pub(super) fn forget(&mut self, committed: Seq) {
        while self.samples.get(1).is_some_and(|(seq, _)| *seq <= committed.next()) {
            self.samples.pop_front();
        }
        if self.samples.len() < SAMPLES_MAX / 4 {
            self.spacing_micros = SPACING_MICROS_MIN;
        }
    }

    /// Returns `received_at` of the record, or of an earlier record close to it.
    pub(super) fn at_or_before(&self, seq: Seq) -> Option<Timestamp> {
        let after = self.samples.partition_point(|(sampled, _)| *sampled <= seq);
        self.samples.get(after.checked_sub(1)?).map(|(_, received_at)| *received_at)
    }

    fn thin_out(&mut self) {
        let mut keep = false;
        self.samples.retain(|_| {
            keep = !keep;
            keep
        });
        self.spacing_micros = self.spacing_micros.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_pending_record_is_dated_to_the_second() {
        let mut receipt_times = ReceiptTimes::new();
        for seq in 1..=100u64 {
            receipt_times.note(Seq(seq), Timestamp::from_micros(seq as i64 * 100_000));
        }
        assert_eq!(receipt_times.at_or_before(Seq(1)), Some(Timestamp::from_micros(100_000)));
        receipt_times.forget(Seq(54));
        assert_eq!(receipt_times.at_or_before(Seq(55)), Some(Timestamp::from_micros(5_100_000)));
        assert_eq!(ReceiptTimes::new().at_or_before(Seq(1)), None);
    }

    /// Proves JRN-7.
    #[test]
    fn memory_is_bounded_over_any_span() {
        let mut receipt_times = ReceiptTimes::new();
        for seq in 1..=100_000u64 {
            receipt_times.note(Seq(seq), Timestamp::from_micros(seq as i64 * 1_000_000));
        }
        assert!(receipt_times.samples.len() <= SAMPLES_MAX);
        let dated = receipt_times.at_or_before(Seq(50_000)).expect("dated").as_micros();
        assert!((49_800_000_000..=50_000_000_000).contains(&dated), "{dated}");
    }
}
