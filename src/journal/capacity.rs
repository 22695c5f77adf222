//! How much the journal may hold: commit, trim, `max_bytes`, and the reports about space.

use std::sync::atomic::Ordering;

use super::shared::{Shared, lock};
use super::{FullReason, JournalError, Space, WhenFull};
use crate::domain::Seq;

/// The two independent reasons for being full.
#[derive(Debug, Default)]
pub(super) struct SpaceState {
    bound: bool,
    disk: bool,
}

impl SpaceState {
    pub(super) fn now(&self) -> Space {
        match self {
            Self { bound: true, .. } => Space::Full(FullReason::MaxBytes),
            Self { disk: true, .. } => Space::Full(FullReason::DiskFull),
            _ => Space::Free,
        }
    }
}

impl Shared {
    /// Notes that everything up to here is in the database. Fully committed segments leave the table at once and the
    /// disk soon.
    pub(super) fn commit(&self, upto: Seq) -> Result<(), JournalError> {
        let newest = self.synced();
        if upto > newest {
            return Err(JournalError::Ahead { position: upto, newest });
        }
        if self.committed.fetch_max(upto.0, Ordering::AcqRel) >= upto.0 {
            return Ok(());
        }
        lock(&self.receipt_times).forget(upto);
        self.trim();
        Ok(())
    }

    /// Continues from `position`, even if a database has been further; returns that newer seq.
    pub(super) fn resume(&self, position: Seq) -> Result<Option<Seq>, JournalError> {
        self.commit(position)?;
        let (known, base) = {
            let table = lock(&self.table);
            (self.committed().max(table.trimmed), table.identity_base)
        };
        let position = position.max(base);
        self.committed.store(position.0, Ordering::Release);
        Ok((known > position).then_some(known))
    }

    /// Removes fully committed segments from the table.
    pub(super) fn trim(&self) {
        let committed = self.committed();
        let mut table = lock(&self.table);
        let retired_before = table.retired.len();
        while let Some(last) = table.segments.front().and_then(|segment| segment.last())
            && last <= committed
        {
            self.retire_oldest(&mut table);
        }
        let trimmed = table.retired.len() > retired_before;
        drop(table);
        if trimmed {
            self.wake_maintenance();
        }
        self.note_bound();
        if self.is_full_and_drained() {
            self.wake_maintenance();
        }
    }

    /// Checks the bound after an append and applies `when_full`.
    pub(super) fn note_growth(&self) {
        if self.bytes() < self.options.max_bytes {
            return;
        }
        match self.options.when_full {
            WhenFull::Hold => self.note_bound(),
            WhenFull::DropOldest => self.drop_oldest(),
        }
    }

    /// Reports `Full` from the bound on and `Free` below 90 % of it.
    pub(super) fn note_bound(&self) {
        if self.options.when_full == WhenFull::DropOldest {
            return;
        }
        let max = self.options.max_bytes;
        // Read under the lock, so that the last report is true.
        self.update_space(|space, bytes| {
            if bytes >= max {
                space.bound = true;
            } else if bytes < max / 10 * 9 {
                space.bound = false;
            }
        });
    }

    pub(super) fn note_disk_full(&self, full: bool) {
        self.update_space(|space, _| space.disk = full);
    }

    pub(super) fn is_disk_full(&self) -> bool {
        lock(&self.space).disk
    }

    /// Returns whether the bound is reached though everything is committed: only the active segment keeps it full.
    pub(super) fn is_full_and_drained(&self) -> bool {
        self.committed() == self.appended() && lock(&self.space).bound
    }

    fn update_space(&self, update: impl FnOnce(&mut SpaceState, u64)) {
        let mut space = lock(&self.space);
        let before = space.now();
        update(&mut space, self.bytes());
        let now = space.now();
        if now != before {
            // Under the lock, so that changes are reported in order.
            self.listener.space(now);
        }
    }

    /// Drops the oldest segments until the journal is below its bound. Drops durable records only: after a power cut, a
    /// gap that a reader has seen must still cover the same seqs (JRN-2).
    fn drop_oldest(&self) {
        let (committed, synced) = (self.committed(), self.synced());
        let mut table = lock(&self.table);
        let retired_before = table.retired.len();
        while self.bytes() >= self.options.max_bytes
            && let Some(segment) = table.segments.front().cloned()
            && let Some(last) = segment.last()
            && last <= synced
        {
            let unread = last.since(committed).min(last.since(segment.first) + 1);
            self.dropped_records.fetch_add(unread, Ordering::Relaxed);
            self.retire_oldest(&mut table);
        }
        let dropped = table.retired.len() > retired_before;
        drop(table);
        if dropped {
            self.wake_maintenance();
        }
    }

    fn retire_oldest(&self, table: &mut super::shared::Table) {
        if let Some(segment) = table.segments.pop_front() {
            self.bytes.fetch_sub(segment.end(), Ordering::AcqRel);
            table.trimmed = table.trimmed.max(segment.last().unwrap_or(segment.first).min(self.committed()));
            table.retired.push(segment.first);
        }
    }
}
