//! The line that says, every now and then, what arrived, what is stored and who is online.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slog::{Logger, info, o};

use crate::domain::Ledger;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::status::LedgerBoard;

/// Reads counters and positions, and logs them.
pub struct LedgerLine {
    journal: Journal,
    metrics: Arc<Metrics>,
    ledger: Arc<LedgerBoard>,
    logger: Logger,
    last: Instant,
    last_received: u64,
}

impl LedgerLine {
    /// A line that begins counting now.
    #[must_use]
    pub fn new(journal: Journal, metrics: Arc<Metrics>, ledger: Arc<LedgerBoard>, logger: &Logger) -> Self {
        let logger = logger.new(o!("component" => "ledger"));
        Self { journal, metrics, ledger, logger, last: Instant::now(), last_received: 0 }
    }

    /// Logs for ever, each `interval`; never if there is none.
    pub async fn repeat(mut self, interval: Option<Duration>) {
        let Some(interval) = interval else { return };
        loop {
            actix_rt::time::sleep(interval).await;
            self.log();
        }
    }

    fn log(&mut self) {
        let metrics = &self.metrics;
        let positions = self.journal.positions();
        let stats = self.journal.stats();
        let received = metrics.messages_received.get();
        let seconds = self.last.elapsed().as_secs_f64().max(0.001);
        let rate = (received - self.last_received) as f64 / seconds;
        (self.last, self.last_received) = (Instant::now(), received);
        let ledger = self.ledger.snapshot();
        // What the database was never asked for is not 0.
        let shown = |pick: fn(Ledger) -> u64| {
            ledger.map_or_else(|| "unknown".to_owned(), |ledger| pick(ledger).to_string())
        };
        let broker = match (metrics.broker_connected.get(), metrics.holding.get()) {
            (true, _) => "connected",
            (false, true) => "on hold, the journal is full",
            (false, false) => "away",
        };
        info!(self.logger, "status";
            "received" => received, "per_second" => format!("{rate:.1}"),
            "stored" => shown(|ledger| ledger.stored), "duplicate" => shown(|ledger| ledger.duplicate),
            "rejected" => shown(|ledger| ledger.rejected), "control" => shown(|ledger| ledger.control),
            "journaled" => positions.appended.0, "committed" => positions.committed.0,
            "pending" => positions.appended.since(positions.committed), "journal_bytes" => stats.bytes,
            "online" => metrics.machines_online.get(), "offline" => metrics.machines_offline.get(),
            "unknown" => metrics.machines_unknown.get(), "never_seen" => metrics.machines_never_seen.get(),
            "broker" => broker, "database" => if metrics.store_available.get() { "works" } else { "away" });
    }
}
