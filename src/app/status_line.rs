//! The status line: logs at intervals what arrived, what is stored, what waits, and how many machines are
//! online.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slog::{Logger, info, o};

use crate::clock::{mono_now, wall_now};
use crate::domain::{DisplayStatus, Ledger};
use crate::journal::{Journal, Space};
use crate::logging::keys;
use crate::metrics::Metrics;
use crate::status::{BacklogWindow, LedgerCell, Room, StatusCell, TimeToFull};

/// Interval between two samples of the backlog.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// Logs counters and positions.
pub(super) struct StatusLine {
    journal: Journal,
    metrics: Arc<Metrics>,
    ledger: Arc<LedgerCell>,
    backlog: Arc<BacklogWindow>,
    logger: Logger,
    last: Instant,
    last_received: u64,
}

impl StatusLine {
    /// Starts counting now.
    pub(super) fn new(
        journal: Journal,
        metrics: Arc<Metrics>,
        ledger: Arc<LedgerCell>,
        backlog: Arc<BacklogWindow>,
        logger: &Logger,
    ) -> Self {
        let logger = logger.new(o!(keys::COMPONENT => "ledger"));
        Self { journal, metrics, ledger, backlog, logger, last: Instant::now(), last_received: 0 }
    }

    /// Samples the backlog for ever, and logs at each interval, if there is one. A reload may change it.
    pub(super) async fn repeat(mut self, interval_now: Arc<StatusCell<Option<Duration>>>) {
        let mut interval = *interval_now.snapshot();
        let mut log_at = interval.map(|interval| Instant::now() + interval);
        loop {
            self.sample();
            let newest = *interval_now.snapshot();
            if newest != interval {
                (interval, log_at) = (newest, newest.map(|interval| Instant::now() + interval));
            }
            let until_log = log_at.map(|at| at.saturating_duration_since(Instant::now()));
            actix_rt::time::sleep(until_log.map_or(SAMPLE_INTERVAL, |wait| wait.min(SAMPLE_INTERVAL))).await;
            if let (Some(at), Some(interval)) = (log_at, interval)
                && Instant::now() >= at
            {
                self.sample();
                self.log();
                log_at = Some(Instant::now() + interval);
            }
        }
    }

    fn sample(&self) {
        let positions = self.journal.positions();
        self.backlog.note(mono_now(), positions.appended, positions.committed);
    }

    fn log(&mut self) {
        let metrics = &self.metrics;
        let received = metrics.messages_received.get();
        let seconds = self.last.elapsed().as_secs_f64().max(0.001);
        let rate = (received - self.last_received) as f64 / seconds;
        (self.last, self.last_received) = (Instant::now(), received);
        let broker = match (metrics.broker_connected.get(), metrics.holding.get()) {
            (true, _) => "connected",
            (false, true) => "on hold, the journal is full",
            (false, false) => "away",
        };
        let machines = |status| metrics.machines.of(status).get();
        let ledger = self.ledger.snapshot();
        // Before the first answer of the database a count is unknown, not 0.
        let shown = |pick: fn(Ledger) -> u64| {
            ledger.map_or_else(|| "unknown".to_owned(), |ledger| pick(ledger).to_string())
        };
        let stats = self.journal.stats();
        let positions = stats.positions;
        let records = positions.appended.next().since(positions.first);
        let is_full = stats.space != Space::Free;
        let room = Room::new(is_full, stats.bytes, stats.bytes_max, records);
        let oldest = stats.oldest_pending.map_or(Duration::ZERO, |oldest| wall_now().since(oldest));
        info!(self.logger, "status";
            "received" => received, "per_second" => format!("{rate:.1}"),
            keys::STORED => shown(|ledger| ledger.stored), keys::DUPLICATE => shown(|ledger| ledger.duplicate),
            keys::REJECTED => shown(|ledger| ledger.rejected), keys::CONTROL => shown(|ledger| ledger.control),
            keys::JOURNALED => positions.appended.0, keys::COMMITTED => positions.committed.0,
            keys::PENDING => positions.appended.since(positions.committed),
            keys::OLDEST_PENDING_S => format!("{:.1}", oldest.as_secs_f64()),
            "journal_bytes" => stats.bytes,
            keys::JOURNAL_FULL_IN => TimeToFull::forecast(room, self.backlog.pace()).to_string(),
            keys::UNSYNCED_MS => u64::try_from(stats.unsynced_age.as_millis()).unwrap_or(u64::MAX),
            "online" => machines(DisplayStatus::Online), "offline" => machines(DisplayStatus::Offline),
            "unknown" => machines(DisplayStatus::Unknown), "never_seen" => machines(DisplayStatus::NeverSeen),
            "broker" => broker, "database" => if metrics.store_available.get() { "works" } else { "away" });
    }
}
