//! What liveness reports to people: log lines, metrics and the snapshot of all machines.

use std::time::Duration;

use slog::{Logger, info, warn};

use super::line_budget::LineBudget;
use super::{FlappingRule, Liveness, TimePoint};
use crate::clock::{Mono, mono_now};
use crate::domain::{DisplayStatus, MachineId, MachineStatus, Transition, TransitionReason};

/// Log lines about changes: a line each for few, a summary for many.
#[derive(Debug, Default)]
pub(super) struct ChangesReport {
    transition_lines: LineBudget,
    transitions: TransitionSummary,
    flapping_lines: LineBudget,
    flapping: FlappingSummary,
}

/// Transitions without lines of their own.
#[derive(Debug, Default)]
struct TransitionSummary {
    online: usize,
    offline: usize,
    /// The longest time from a deadline until it was noticed.
    late: Duration,
}

/// Changes of flapping without lines of their own.
#[derive(Debug, Default)]
struct FlappingSummary {
    began: usize,
    ended: usize,
}

impl TransitionSummary {
    fn add(&mut self, transition: &Transition, now: TimePoint) {
        match transition.status {
            MachineStatus::Online => self.online += 1,
            MachineStatus::Offline => self.offline += 1,
        }
        if transition.reason == TransitionReason::Silence {
            self.late = self.late.max(now.wall.since(transition.occurred_at));
        }
    }
}

impl ChangesReport {
    pub(super) fn log_transitions(&mut self, transitions: &[Transition], now: TimePoint, logger: &Logger) {
        if self.transition_lines.admits(transitions.len(), now.mono) {
            for transition in transitions {
                info!(logger, "machine changed its status"; "machine_id" => transition.machine_id.as_str(),
                    "status" => transition.status.as_str(), "reason" => transition.reason.as_str(),
                    "since" => %transition.occurred_at);
            }
        } else {
            transitions.iter().for_each(|transition| self.transitions.add(transition, now));
            self.log_summaries(now.mono, logger);
        }
    }

    /// `changes` are machines, each with whether it flaps now.
    fn log_flapping(
        &mut self,
        changes: &[(MachineId, bool)],
        rule: FlappingRule,
        now: Mono,
        logger: &Logger,
    ) {
        if !self.flapping_lines.admits(changes.len(), now) {
            let began = changes.iter().filter(|(_, flaps)| *flaps).count();
            self.flapping.began += began;
            self.flapping.ended += changes.len() - began;
            return;
        }
        for (machine_id, flaps) in changes {
            if *flaps {
                warn!(logger, "machine flaps: it changes its status too often; check its network, or give it a \
                    longer offline_after"; "machine_id" => machine_id.as_str(), "changes_over" => rule.changes,
                    "within_s" => rule.window.as_secs());
            } else {
                info!(logger, "machine stopped flapping"; "machine_id" => machine_id.as_str());
            }
        }
    }

    /// Logs the summaries that are due.
    pub(super) fn log_summaries(&mut self, now: Mono, logger: &Logger) {
        let machines = self.transitions.online + self.transitions.offline;
        if machines > 0 && self.transition_lines.allows_summary(now) {
            let TransitionSummary { online, offline, late } = std::mem::take(&mut self.transitions);
            info!(logger, "many machines changed their status"; "changes" => machines, "online" => online,
                "offline" => offline, "late_ms" => late.as_millis());
        }
        let machines = self.flapping.began + self.flapping.ended;
        if machines > 0 && self.flapping_lines.allows_summary(now) {
            let FlappingSummary { began, ended } = std::mem::take(&mut self.flapping);
            warn!(logger, "many machines started or stopped flapping"; "began" => began, "ended" => ended);
        }
    }
}

impl Liveness {
    /// Logs the machines that started or stopped flapping, and publishes their status with the new flag.
    pub(super) fn report_flapping(&mut self) {
        let Some(tracker) = self.replay.tracker_mut() else { return };
        let changes = tracker.take_flapping_changes(mono_now());
        self.changes_report.log_flapping(&changes, self.rules.flapping, mono_now(), &self.logger);
        changes.into_iter().for_each(|(machine_id, _)| self.publishing.request_status(machine_id));
    }

    pub(super) fn update_metrics_and_snapshot(&mut self) {
        let history_is_known = self.replay.history_is_known();
        let Some(tracker) = self.replay.tracker_mut() else { return };
        let counts = tracker.counts();
        let metrics = &self.metrics;
        for (status, machines) in [
            (DisplayStatus::Online, counts.online),
            (DisplayStatus::Offline, counts.offline),
            (DisplayStatus::Unknown, counts.unknown),
            (DisplayStatus::NeverSeen, counts.never_seen),
        ] {
            metrics.machines.of(status).set(machines);
        }
        metrics.machines_flapping.set(tracker.flapping_count());
        metrics.sightings_untracked.set(tracker.untracked_sightings());
        self.snapshots.refresh(tracker, history_is_known);
        if tracker.overflowed() && !self.overflow_reported {
            self.overflow_reported = true;
            warn!(self.logger, "more machines than liveness.machines_max: readings of new machines are stored, their \
                status is not tracked; raise the limit, or find the publisher of so many ids";
                "machines_max" => self.rules.machines_max);
        }
    }

    pub(super) fn report_dropped(&mut self) {
        let (unrecorded, unpublished) =
            (self.transitions.dropped_unrecorded(), self.transitions.dropped_unpublished());
        if unrecorded > self.unrecorded_reported {
            self.metrics.transitions_unrecorded.add(unrecorded - self.unrecorded_reported);
            warn!(self.logger, "too many status changes wait for the database: the oldest were dropped and will \
                not be recorded";
                "given_up" => unrecorded);
        }
        if unpublished > self.unpublished_reported {
            self.metrics.transitions_unpublished.add(unpublished - self.unpublished_reported);
            warn!(self.logger, "too many status changes wait for the broker: the oldest were dropped; the current \
                status of each machine will still be published"; "given_up" => unpublished);
        }
        (self.unrecorded_reported, self.unpublished_reported) = (unrecorded, unpublished);
    }
}
