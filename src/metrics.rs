//! Counters and gauges of the whole pipeline: plain atomics that the actors write and every thread may read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::domain::{RefusedKind, RejectReason};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A yes or no.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Replaces the value.
    pub fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted. Counters start at 0 with the process and survive restarts of actors.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Measurements of each batch.
    pub batches: BatchFigures,
    /// Elements rejected, in the order of [`RejectReason::ALL`].
    rejected_by_reason: [Counter; RejectReason::ALL.len()],
    /// Rows beside the readings that the database refused, in the order of [`RefusedKind::ALL`].
    refused_by_kind: [Counter; RefusedKind::ALL.len()],
    /// Jobs that wait for the database.
    pub writer_queue: Gauge,
    /// Messages delivered by the client library and journaled.
    pub messages_received: Counter,
    /// Payload bytes of these.
    pub bytes_received: Counter,
    /// Rows stored.
    pub readings_stored: Counter,
    /// Elements that were already stored.
    pub readings_duplicate: Counter,
    /// Elements that are in `rejected_message`.
    pub elements_rejected: Counter,
    /// Transactions committed.
    pub batches_committed: Counter,
    /// Unreadable rows of the database that were skipped; each counts once.
    pub rows_unreadable: Counter,
    /// Failed attempts to store a batch (each is retried).
    pub store_failures: Counter,
    /// Connections to the broker lost or refused.
    pub broker_failures: Counter,
    /// True if the broker link is up and every subscription granted.
    pub broker_connected: Flag,
    /// True if the newest message came over a connection whose reads and acknowledgements are buffered.
    pub broker_buffered: Flag,
    /// When the first certificate of the broker link expires (ours, an authority's, the broker's), in Unix seconds; 0: none.
    pub certificate_expires_at: Gauge,
    /// True if the newest attempt to use the database succeeded.
    pub store_available: Flag,
    /// True if another service of the site used the same database within the last hour.
    pub site_shared: Flag,
    /// True if Andon has left the broker because the journal is full.
    pub holding: Flag,
    /// Machines known to be online.
    pub machines_online: Gauge,
    /// Machines known to be offline, except those never seen.
    pub machines_offline: Gauge,
    /// Machines whose status is unknown at present.
    pub machines_unknown: Gauge,
    /// Expected machines that have never sent a message.
    pub machines_never_seen: Gauge,
    /// Machines that change their status too often.
    pub machines_flapping: Gauge,
    /// Sightings of machines beyond `liveness.machines_max`, which are not watched.
    pub sightings_untracked: Gauge,
    /// Status changes recorded in the database.
    pub transitions_recorded: Counter,
    /// Status changes dropped without recording, because too many waited for the database.
    pub transitions_unrecorded: Counter,
    /// Status changes dropped without publishing, because too many waited for the broker.
    pub transitions_unpublished: Counter,
}

/// Upper bounds of durations, in seconds: from a commit on a fast disk to a database that was away for hours.
const SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3_600.0,
    14_400.0,
];
/// Upper bounds of a batch's rows; the largest is the largest `store.batch_max`.
const ROWS: [f64; 10] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 8_192.0, 16_384.0, 65_536.0];

/// A histogram of measurements. Observed once per batch, not once per message.
#[derive(Debug)]
pub struct Distribution {
    name: &'static str,
    help: &'static str,
    bounds: &'static [f64],
    /// Number of measurements in each bucket; the last bucket is above all bounds.
    between: Box<[Counter]>,
    /// The sum, as the bits of a double.
    sum: AtomicU64,
}

/// The measurements of a [`Distribution`].
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Each bound, infinity last, with the number of measurements up to it.
    pub at_most: Vec<(f64, u64)>,
    /// Number of measurements.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl Distribution {
    /// Creates an empty distribution; `bounds` must ascend.
    #[must_use]
    pub fn new(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        let between = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Self { name, help, bounds, between, sum: AtomicU64::new(0) }
    }

    /// Returns its name in `/metrics`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns its help text.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        self.help
    }

    /// Adds one measurement.
    pub fn observe(&self, value: f64) {
        self.between[self.bounds.partition_point(|bound| *bound < value)].add(1);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        let _always_added = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Returns the measurements so far.
    #[must_use]
    pub fn observed(&self) -> Observed {
        let mut count = 0;
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let at_most = bounds.zip(&self.between).map(|(bound, counter)| {
            count += counter.get();
            (bound, count)
        });
        let at_most = at_most.collect();
        Observed { at_most, count, sum: f64::from_bits(self.sum.load(Ordering::Relaxed)) }
    }
}

/// Measurements of each batch.
#[derive(Debug)]
pub struct BatchFigures {
    /// Duration of commits.
    pub commit_seconds: Distribution,
    /// Rows of a batch.
    pub rows: Distribution,
    /// Time from receipt to commit of each row.
    pub latency_seconds: Distribution,
}

impl Default for BatchFigures {
    fn default() -> Self {
        let seconds = |name, help| Distribution::new(name, help, &SECONDS);
        Self {
            commit_seconds: seconds(
                "andon_commit_duration_seconds",
                "How long a batch took to be committed.",
            ),
            rows: Distribution::new(
                "andon_commit_batch_rows",
                "Rows (readings and rejections) of a committed batch.",
                &ROWS,
            ),
            latency_seconds: seconds(
                "andon_end_to_end_latency_seconds",
                "From the receipt of a message to the commit of its row.",
            ),
        }
    }
}

impl Metrics {
    /// Counts rejected elements, each by its reason.
    pub fn count_rejections(&self, reasons: impl Iterator<Item = RejectReason>) {
        for reason in reasons {
            self.rejected_by_reason[reason as usize].add(1);
        }
    }

    /// Returns the number of elements rejected for this reason.
    #[must_use]
    pub fn rejected(&self, reason: RejectReason) -> u64 {
        self.rejected_by_reason[reason as usize].get()
    }

    /// Counts a row beside the readings that the database refused.
    pub fn count_refusal(&self, kind: RefusedKind) {
        self.refused_by_kind[kind as usize].add(1);
    }

    /// Returns the number of rows of this kind that the database refused.
    #[must_use]
    pub fn refused(&self, kind: RefusedKind) -> u64 {
        self.refused_by_kind[kind as usize].get()
    }
}
