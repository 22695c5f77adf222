//! The writer's settings that a reload replaces.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Writer;
use crate::store::Retention;

/// Settings that a reload replaces; the writer looks once a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterSettings {
    /// What is kept for how long.
    pub retention: Retention,
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
            self.maintenance.deletion.begin_anew(Instant::now());
        }
        self.settings = newest;
    }
}
