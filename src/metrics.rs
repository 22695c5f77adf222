//! Counters and gauges of the whole pipeline: plain atomics, written by the actors, read by anybody.

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

    /// The present value.
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

    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Yes or no.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Replaces the value.
    pub fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted. Counters start at 0 with the process and survive restarts of actors.
#[derive(Debug, Default)]
pub struct Metrics {
    /// What is measured of each batch.
    pub batches: BatchFigures,
    /// Elements rejected, in the order of [`RejectReason::ALL`].
    rejected_by_reason: [Counter; RejectReason::ALL.len()],
    /// Rows beside the readings that the database refused, in the order of [`RefusedKind::ALL`].
    refused_by_kind: [Counter; RefusedKind::ALL.len()],
    /// Jobs that wait for the database.
    pub writer_queue: Gauge,
    /// Messages handed over by the client library and journaled.
    pub messages_received: Counter,
    /// Payload bytes of these.
    pub bytes_received: Counter,
    /// Rows stored.
    pub readings_stored: Counter,
    /// Elements that were stored before.
    pub readings_duplicate: Counter,
    /// Elements that are in `rejected_message`.
    pub elements_rejected: Counter,
    /// Transactions committed.
    pub batches_committed: Counter,
    /// Rows of the database that cannot be read and were passed over; each counts once.
    pub rows_unreadable: Counter,
    /// Failed attempts to store a batch (each is tried again).
    pub store_failures: Counter,
    /// Connections to the broker lost or refused.
    pub broker_failures: Counter,
    /// The broker link is up and every subscription granted.
    pub broker_connected: Flag,
    /// When the first certificate of the broker link expires (ours, an authority's, the broker's), in Unix seconds; 0: none.
    pub certificate_expires_at: Gauge,
    /// The newest attempt to use the database succeeded.
    pub store_available: Flag,
    /// Another service of the site worked on the same database within the last hour.
    pub site_shared: Flag,
    /// Andon has left the broker because the journal is full.
    pub holding: Flag,
    /// Machines by status.
    pub machines_online: Gauge,
    /// Machines known to be offline, except those never seen.
    pub machines_offline: Gauge,
    /// Machines whose status cannot be known at present.
    pub machines_unknown: Gauge,
    /// Expected machines that never spoke.
    pub machines_never_seen: Gauge,
    /// Machines that change their status too often.
    pub machines_flapping: Gauge,
    /// Sightings of machines beyond `liveness.machines_max`, which are not watched.
    pub sightings_untracked: Gauge,
    /// Status changes recorded in the database.
    pub transitions_recorded: Counter,
    /// Status changes given up unrecorded, because too many waited for the database.
    pub transitions_unrecorded: Counter,
    /// Status changes given up unpublished, because too many waited for the broker.
    pub transitions_unpublished: Counter,
}

/// Upper bounds of durations, in seconds: from a commit on a fast disk to a database that was away for hours.
const SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3_600.0,
    14_400.0,
];
/// Upper bounds of a batch's rows; the largest is the largest `store.batch_max`.
const ROWS: [f64; 10] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 8_192.0, 16_384.0, 65_536.0];

/// Many measurements: how many were at most each of some bounds. Observed once a batch, not once a message.
#[derive(Debug)]
pub struct Distribution {
    name: &'static str,
    help: &'static str,
    bounds: &'static [f64],
    /// How many fell between two bounds; the last ones are above all of them.
    between: Box<[Counter]>,
    /// The bits of a double.
    sum: AtomicU64,
}

/// What a [`Distribution`] has observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Each bound, infinity being the last one, and how many measurements were at most that.
    pub at_most: Vec<(f64, u64)>,
    /// How many there were.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl Distribution {
    /// Nothing is observed yet; `bounds` ascend.
    #[must_use]
    pub fn new(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        let between = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Self { name, help, bounds, between, sum: AtomicU64::new(0) }
    }

    /// Its name in `/metrics`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What it is of.
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

    /// What was observed so far.
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

/// What is measured of each batch.
#[derive(Debug)]
pub struct BatchFigures {
    /// How long commits take.
    pub commit_seconds: Distribution,
    /// Rows of a batch.
    pub rows: Distribution,
    /// From receipt to commit, of each row.
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
    /// Counts elements rejected, each by its reason.
    pub fn count_rejections(&self, reasons: impl Iterator<Item = RejectReason>) {
        for reason in reasons {
            self.rejected_by_reason[reason as usize].add(1);
        }
    }

    /// Elements rejected for that reason.
    #[must_use]
    pub fn rejected(&self, reason: RejectReason) -> u64 {
        self.rejected_by_reason[reason as usize].get()
    }

    /// Counts a row beside the readings that the database refused.
    pub fn count_refusal(&self, kind: RefusedKind) {
        self.refused_by_kind[kind as usize].add(1);
    }

    /// Rows of that kind that the database refused.
    #[must_use]
    pub fn refused(&self, kind: RefusedKind) -> u64 {
        self.refused_by_kind[kind as usize].get()
    }
}
