//! The writer's settings that a reload replaces.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Writer;

/// Settings that a reload replaces; the writer looks once a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterSettings {
    /// Readings and rollups older than this are deleted.
    pub retention: Option<Duration>,
    /// How far back liveness needs the changes of status.
    pub past_window: Duration,
}

impl Writer {
    /// Takes over the settings of a reload. A new retention has its first run now.
    pub(super) fn take_new_settings(&mut self) {
        let newest = self.options.settings.snapshot();
        if Arc::ptr_eq(&self.settings, &newest) {
            return;
        }
        if newest.retention != self.settings.retention {
            self.maintenance.retention_changed(newest.retention.is_some(), Instant::now());
        }
        self.settings = newest;
    }
}
