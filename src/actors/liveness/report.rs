//! What liveness tells people: the log, the metrics, the board.

use slog::{info, warn};

use super::{LOGGED_SINGLY_MAX, Liveness};
use crate::clock::wall_now;

impl Liveness {
    /// Machines that began or ceased to flap: a line each, and their retained status says so.
    pub(super) fn tell_flapping(&mut self) {
        let Some(tracker) = self.watch.tracker_mut() else { return };
        let news = tracker.take_flapping_news(wall_now());
        let rule = self.options.tracker.flapping;
        if news.len() > LOGGED_SINGLY_MAX {
            warn!(self.logger, "many machines began or ceased to flap"; "machines" => news.len());
        }
        let singly = news.len() <= LOGGED_SINGLY_MAX;
        for (machine_id, flaps) in news {
            if singly && flaps {
                warn!(self.logger, "machine flaps: it changes its status too often; look at its network, or give it a longer \
                    offline_after"; "machine_id" => machine_id.as_str(), "changes_over" => rule.changes,
                    "within_s" => rule.window.as_secs());
            } else if singly {
                info!(self.logger, "machine flaps no more"; "machine_id" => machine_id.as_str());
            }
            self.publishing.push(machine_id);
        }
    }

    pub(super) fn show(&mut self) {
        let past_is_known = self.watch.knows_the_past();
        let Some(tracker) = self.watch.tracker_mut() else { return };
        let counts = tracker.counts();
        let metrics = &self.metrics;
        metrics.machines_online.set(counts.online);
        metrics.machines_offline.set(counts.offline);
        metrics.machines_unknown.set(counts.unknown);
        metrics.machines_never_seen.set(counts.never_seen);
        metrics.machines_flapping.set(tracker.flapping_count());
        metrics.sightings_untracked.set(tracker.untracked_sightings());
        self.display.refresh(tracker, past_is_known);
        if tracker.overflowed() && !self.overflow_told {
            self.overflow_told = true;
            warn!(self.logger, "more machines than liveness.machines_max: the readings of the others are stored, their status is \
                not watched"; "machines_max" => self.options.tracker.machines_max);
        }
    }

    pub(super) fn tell_what_was_given_up(&mut self) {
        let (unrecorded, unpublished) =
            (self.transitions.given_up_unrecorded(), self.transitions.given_up_unpublished());
        if unrecorded > self.unrecorded_told {
            self.metrics.transitions_unrecorded.add(unrecorded - self.unrecorded_told);
            warn!(self.logger, "too many status changes wait for the database: the oldest are not recorded";
                "given_up" => unrecorded);
        }
        if unpublished > self.unpublished_told {
            self.metrics.transitions_unpublished.add(unpublished - self.unpublished_told);
            warn!(self.logger, "too many status changes wait for the broker: the oldest are not published, the present status \
                of each machine is"; "given_up" => unpublished);
        }
        (self.unrecorded_told, self.unpublished_told) = (unrecorded, unpublished);
    }
}
