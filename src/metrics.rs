//! Counters and gauges of the whole pipeline: plain atomics, written by the actors, read by anybody.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
