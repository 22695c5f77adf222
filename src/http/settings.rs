//! The settings of HTTP that a reload replaces while it serves.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;

use super::{Access, HttpState, Proxies};
use crate::domain::MachineId;

/// The settings that a reload replaces. A request uses one snapshot of them.
#[derive(Clone)]
pub struct HttpSettings {
    /// `site.time_zone`.
    pub time_zone: Tz,
    /// `liveness.offline_after`, for machines that only the database remembers.
    pub offline_after: Duration,
    /// `metrics.per_machine`.
    pub metrics_per_machine: bool,
    /// Machines that the configuration expects: they cannot be forgotten.
    pub expected: HashSet<MachineId>,
    /// Which requests are answered.
    pub access: Access,
    /// Whom to believe about the client, and about the user.
    pub proxies: Proxies,
    /// How long a session of a browser lasts.
    pub session_max: Duration,
}

impl HttpState {
    /// Returns the settings in effect.
    #[must_use]
    pub fn settings(&self) -> Arc<HttpSettings> {
        self.settings.snapshot()
    }

    /// Returns `site.time_zone`.
    #[must_use]
    pub fn time_zone(&self) -> Tz {
        self.settings().time_zone
    }

    /// Replaces the settings. If `access_changed`, ends the live streams: whoever may still read connects again.
    pub fn replace_settings(&self, settings: HttpSettings, access_changed: bool) {
        self.settings.write(settings);
        if access_changed {
            // After the new rule is in effect: a stream that joined by the old one is either here, or checks again.
            self.streams.close();
        }
    }
}
