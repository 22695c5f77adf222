//! Machines that are to be forgotten (LIV-6).
//!
//! Requests come from the database: with the past at the start, then through the cell that the writer fills.

use std::collections::HashSet;
use std::sync::Arc;

use slog::info;

use super::Liveness;
use super::transition_outbox::Forget;
use crate::domain::{MachineId, Seq, Timestamp};
use crate::store::{ForgetRequest, MachineRow};

/// Which requests this incarnation has taken.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    taken: HashSet<(MachineId, Timestamp)>,
    /// The newest list that was looked at.
    seen: Option<Arc<Vec<ForgetRequest>>>,
}

impl Forgetting {
    /// Returns whether the request is new.
    fn take(&mut self, request: &ForgetRequest) -> bool {
        self.taken.insert((request.machine_id.clone(), request.requested_at))
    }
}

impl Liveness {
    /// Begins with the requests that were open when the database was read, and leaves out the machines whose rows are
    /// to go. Call it behind the recorded transitions, before any new one.
    pub(super) fn begin_forgetting(
        &mut self,
        requests: Vec<ForgetRequest>,
        machines: &mut Vec<MachineRow>,
        seq: Seq,
    ) {
        self.forgetting = Forgetting::default();
        requests.iter().for_each(|request| {
            self.forgetting.take(request);
        });
        let forget = |request: &ForgetRequest| Forget {
            machine_id: request.machine_id.clone(),
            requested_at: request.requested_at,
            seq,
        };
        // Without a broker nothing is left of a removed one but its mark, which the next batch takes away.
        let has_broker = self.options.topic_prefix.is_some();
        let (recorded, open): (Vec<_>, Vec<_>) =
            requests.iter().partition(|request| request.removed && has_broker);
        for request in recorded {
            self.transitions.push_recorded_forget(forget(request));
        }
        for request in open {
            if !request.removed {
                machines.retain(|machine| machine.machine_id != request.machine_id);
            }
            self.transitions.push_forget(forget(request));
        }
    }

    /// Takes the requests that are new, once the past is known.
    pub(super) fn take_forget_requests(&mut self) {
        let newest = self.wires.forget.snapshot();
        let is_new = self.forgetting.seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &newest));
        if !is_new || !self.replay.history_is_known() {
            return;
        }
        for request in newest.iter().filter(|request| !request.removed) {
            if self.forgetting.take(request) {
                let is_watched = self.replay.forget(&request.machine_id);
                info!(self.logger, "machine forgotten: it comes back when it sends again";
                    "machine_id" => request.machine_id.as_str(), "was_watched" => is_watched);
                self.transitions.push_forget(Forget {
                    machine_id: request.machine_id.clone(),
                    requested_at: request.requested_at,
                    seq: self.replay.observed_upto(),
                });
            }
        }
        self.forgetting.seen = Some(newest);
    }
}
