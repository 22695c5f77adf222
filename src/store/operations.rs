//! The operations of [`Store`] on each database.
//!
//! Only what both share: which module does the work, and which error names its failure.

use diesel::result::Error;

use super::audit::AuditEvent;
use super::both_databases::for_both_databases;
use super::migrate::{MigrateFailure, migration_status, run_pending};
use super::partitions::PartsTended;
use super::prune::{PruneBounds, PruneCursor, Pruned};
use super::rejected::{RejectedCount, RejectedFilter, RejectedPage, RejectedRow};
use super::reprocess::{Retry, RetryOutcome};
use super::retention::PruneLimits;
use super::space::SpaceReleased;
use super::table_counts::COUNTED_TABLES;
use super::{
    Batch, Checkpoint, Claim, CommitOutcome, ForgetRequest, LivenessPast, MachineRow, MigrationReport,
    MigrationStatus, PastWanted, SiteHistory, Store, StoreError, StoreFacts, StoreStatus,
};
use crate::domain::{ClockRecord, JournalHistory, JournalId, MachineId, Timestamp};

fn read_machines(source: Error) -> StoreError {
    StoreError::ReadMachines { source: source.into() }
}

fn failed_to_forget(source: Error) -> StoreError {
    StoreError::Forget { source: source.into() }
}

fn read_rejected(source: Error) -> StoreError {
    StoreError::ReadRejected { source: source.into() }
}

fn read_status(source: Error) -> StoreError {
    StoreError::ReadStatus { source: source.into() }
}

for_both_databases! {
    [audit, checkpoint, clock, forget, liveness_rows, machines, migrate, prune, rejected, reprocess]

    impl Store for database::Database {
        fn facts(&self) -> &StoreFacts {
            &self.facts
        }

        fn migrate(&mut self) -> Result<MigrationReport, StoreError> {
            let status = self.migration_status()?;
            let mut report = MigrationReport::default();
            if !status.pending.is_empty() || !status.unknown.is_empty() {
                report = database::write(&mut self.connection, |connection| {
                    database::begin_migrations(connection, self.facts.schema.as_ref())?;
                    run_pending(connection, &database::MIGRATIONS)
                })
                .map_err(|failure: MigrateFailure| StoreError::from(failure))?;
            }
            report.hypertable = self.lay_out().map_err(|source| StoreError::Migrate { source: source.into() })?;
            Ok(report)
        }

        fn migration_status(&mut self) -> Result<MigrationStatus, StoreError> {
            migration_status(&mut self.connection, &database::MIGRATIONS, migrate::applied)
        }

        fn claim(&mut self, history: &JournalHistory) -> Result<Claim, StoreError> {
            self.checked(|session| {
                checkpoint::claim(session.connection, session.site, history, session.unreadable)
            })
        }

        fn checkpoint(&mut self, journal_id: JournalId) -> Result<Option<Checkpoint>, StoreError> {
            self.checked(|session| {
                checkpoint::load(session.connection, &journal_id.to_string())
                    .map_err(|source| StoreError::ReadCheckpoint { journal_id, source: source.into() })
            })
        }

        fn checkpoints(&mut self) -> Result<Vec<Checkpoint>, StoreError> {
            checkpoint::load_all(&mut self.connection, &self.unreadable).map_err(read_status)
        }

        fn machines(&mut self) -> Result<Vec<MachineRow>, StoreError> {
            machines::load(&mut self.connection, &self.site, &self.unreadable).map_err(read_machines)
        }

        fn liveness_past(&mut self, wanted: PastWanted) -> Result<LivenessPast, StoreError> {
            liveness_rows::load_past(&mut self.connection, &self.site, wanted, &self.unreadable)
                .map_err(read_machines)
        }

        fn readings_between(
            &mut self,
            from: Timestamp,
            to: Timestamp,
        ) -> Result<Vec<(MachineId, u64)>, StoreError> {
            machines::count_readings(&mut self.connection, &self.site, from, to, &self.unreadable)
                .map_err(read_machines)
        }

        fn history(&mut self, from: Timestamp) -> Result<SiteHistory, StoreError> {
            machines::load_history(&mut self.connection, &self.site, from, &self.unreadable)
                .map_err(read_machines)
        }

        fn commit(&mut self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
            self.checked(|session| {
                database::commit(session, batch).map_err(|failure| failure.into_store_error(batch))
            })
        }

        fn rejected(
            &mut self,
            filter: &RejectedFilter,
            page: RejectedPage,
            rows_max: u32,
            payload_bytes: u32,
        ) -> Result<Vec<RejectedRow>, StoreError> {
            rejected::load(&mut self.connection, &self.site, filter, page, rows_max, payload_bytes)
                .map_err(read_rejected)
        }

        fn rejected_counts(&mut self, filter: &RejectedFilter) -> Result<Vec<RejectedCount>, StoreError> {
            rejected::count(&mut self.connection, &self.site, filter).map_err(read_rejected)
        }

        fn retry(&mut self, retry: &Retry) -> Result<RetryOutcome, StoreError> {
            self.checked(|session| {
                reprocess::retry(session.connection, session.site, retry)
                    .map_err(|source| StoreError::Retry { id: retry.id, source })
            })
        }

        fn prune(
            &mut self,
            limits: &PruneLimits,
            from: Option<&PruneCursor>,
            bounds: PruneBounds,
        ) -> Result<Pruned, StoreError> {
            let counted = &mut self.counted_bytes;
            prune::step(&mut self.connection, &self.site, limits, from, bounds, counted)
                .map_err(|source| StoreError::Prune { source: source.into() })
        }

        fn request_forget(
            &mut self,
            machines: &[MachineId],
            at: Timestamp,
        ) -> Result<Vec<MachineId>, StoreError> {
            let site = self.site.as_str();
            database::write(&mut self.connection, |connection| {
                forget::request(connection, site, machines, at)
            })
            .map_err(failed_to_forget)
        }

        fn forget_requests(&mut self) -> Result<Vec<ForgetRequest>, StoreError> {
            forget::load(&mut self.connection, &self.site, &self.unreadable).map_err(failed_to_forget)
        }

        fn tend_partitions(
            &mut self,
            limits: &PruneLimits,
            now: Timestamp,
        ) -> Result<PartsTended, StoreError> {
            let mut tended = database::tend_partitions(&mut self.connection, &self.site, limits, now)
                .map_err(|source| StoreError::Prune { source: source.into() })?;
            tended.troubles.extend(self.layout_trouble());
            Ok(tended)
        }

        fn release_space(&mut self, pages_max: u32) -> Result<SpaceReleased, StoreError> {
            database::space::release(&mut self.connection, pages_max)
                .map_err(|source| StoreError::Prune { source: source.into() })
        }

        fn record_audit(&mut self, event: &AuditEvent) -> Result<(), StoreError> {
            audit::record(&mut self.connection, &self.site, event)
                .map_err(|source| StoreError::RecordAudit { source: source.into() })
        }

        fn exchange_clock(&mut self, ours: Option<ClockRecord>) -> Result<Option<ClockRecord>, StoreError> {
            let (site, unreadable) = (self.site.as_str(), &self.unreadable);
            database::write(&mut self.connection, |connection| {
                clock::exchange(connection, site, ours, unreadable)
            })
            .map_err(|source: Error| StoreError::ExchangeClock { source: source.into() })
        }

        fn status(&mut self) -> Result<StoreStatus, StoreError> {
            let unreadable = &self.unreadable;
            let status = self.connection.transaction(|connection| {
                let tables = COUNTED_TABLES.iter().map(|table| database::count_rows(connection, *table));
                let tables = tables.collect::<Result<Vec<_>, Error>>()?;
                let checkpoints = checkpoint::load_all(connection, unreadable)?;
                Ok(StoreStatus { tables, checkpoints, file: database::space::file_space(connection)? })
            });
            status.map_err(read_status)
        }
    }
}
