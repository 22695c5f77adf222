//! What liveness tells people: the log, the metrics, the board.

use std::time::Duration;

use slog::{Logger, info, warn};

use super::line_budget::LineBudget;
use super::{FlappingRule, Liveness, TimePoint};
use crate::clock::{Mono, mono_now};
use crate::domain::{MachineId, MachineStatus, Transition, TransitionReason};

/// What the log says of changes: few are told singly, many as sums.
#[derive(Debug, Default)]
pub(super) struct ChangesReport {
    transition_lines: LineBudget,
    transitions: TransitionSum,
    flapping_lines: LineBudget,
    flapping: FlappingSum,
}

/// Transitions that have no line of their own.
#[derive(Debug, Default)]
struct TransitionSum {
    online: usize,
    offline: usize,
    /// The silence that was noticed last after its instant.
    late: Duration,
}

/// News of flapping that have no line of their own.
#[derive(Debug, Default)]
struct FlappingSum {
    began: usize,
    ended: usize,
}

impl TransitionSum {
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
    pub(super) fn tell_transitions(&mut self, transitions: &[Transition], now: TimePoint, logger: &Logger) {
        if self.transition_lines.admits(transitions.len(), now.mono) {
            for transition in transitions {
                info!(logger, "machine changed its status"; "machine_id" => transition.machine_id.as_str(),
                    "status" => transition.status.as_str(), "reason" => transition.reason.as_str(),
                    "since" => %transition.occurred_at);
            }
        } else {
            transitions.iter().for_each(|transition| self.transitions.add(transition, now));
            self.sum_up(now.mono, logger);
        }
    }

    /// `news` are machines, each with whether it flaps now.
    fn tell_flapping(&mut self, news: &[(MachineId, bool)], rule: FlappingRule, now: Mono, logger: &Logger) {
        if !self.flapping_lines.admits(news.len(), now) {
            let began = news.iter().filter(|(_, flaps)| *flaps).count();
            self.flapping.began += began;
            self.flapping.ended += news.len() - began;
            return;
        }
        for (machine_id, flaps) in news {
            if *flaps {
                warn!(logger, "machine flaps: it changes its status too often; look at its network, or give it a longer \
                    offline_after"; "machine_id" => machine_id.as_str(), "changes_over" => rule.changes,
                    "within_s" => rule.window.as_secs());
            } else {
                info!(logger, "machine flaps no more"; "machine_id" => machine_id.as_str());
            }
        }
    }

    /// Tells what was withheld, if it is time to.
    pub(super) fn sum_up(&mut self, now: Mono, logger: &Logger) {
        let machines = self.transitions.online + self.transitions.offline;
        if machines > 0 && self.transition_lines.sums_up(now) {
            let TransitionSum { online, offline, late } = std::mem::take(&mut self.transitions);
            info!(logger, "many machines changed their status"; "changes" => machines, "online" => online,
                "offline" => offline, "late_ms" => late.as_millis());
        }
        let machines = self.flapping.began + self.flapping.ended;
        if machines > 0 && self.flapping_lines.sums_up(now) {
            let FlappingSum { began, ended } = std::mem::take(&mut self.flapping);
            warn!(logger, "many machines began to flap, or flap no more"; "began" => began, "ended" => ended);
        }
    }
}

impl Liveness {
    /// Machines that began or ceased to flap are told, and their retained status says so.
    pub(super) fn tell_flapping(&mut self) {
        let Some(tracker) = self.watch.tracker_mut() else { return };
        let news = tracker.take_flapping_news(mono_now());
        self.changes_report.tell_flapping(&news, self.options.tracker.flapping, mono_now(), &self.logger);
        news.into_iter().for_each(|(machine_id, _)| self.publishing.push(machine_id));
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
