//! Finds what has changed since the last check, and sends it to all live streams.
//!
//! Works only while a client is connected. Changes that do not fit into a chunk wait for the next check.

use std::collections::{HashMap, HashSet};

use actix_web::web::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::event;
use crate::clock::mono_now;
use crate::domain::{DisplayStatus, MachineId};
use crate::http::api::model::{Event, Machine};
use crate::http::api::status::Status;
use crate::http::machines::{self, Machines};
use crate::http::{HttpState, LatestReadings};
use crate::status::MachineView;

/// Approximate size of a chunk. Nothing is added to a chunk that has reached it.
pub const CHUNK_BYTES_MAX: usize = 512 * 1024;
/// Checks that skip an old snapshot after a time without clients, while liveness writes a new one.
const CHECKS_PATIENT: u64 = 3;
/// Checks between two `status` events. The server checks twice a second.
const CHECKS_PER_STATUS: u64 = 4;
/// Checks between two comments, which keep proxies from closing an idle connection.
const CHECKS_PER_COMMENT: u64 = 20;

/// Remembers what the clients know, and sends them what is new.
#[derive(Default)]
pub struct ChangeFeed {
    checks: u64,
    /// Checks since a client is connected again.
    checks_with_clients: u64,
    transitions_sent: u64,
    /// What was last sent of each machine: its status, and a digest of the whole event.
    sent: HashMap<MachineId, (DisplayStatus, u64)>,
    /// Where the next check begins, so that every machine gets its turn.
    next_index: usize,
}

/// A machine that is no longer watched.
#[derive(serde::Serialize)]
struct Forgotten<'a> {
    machine_id: &'a str,
}

impl ChangeFeed {
    /// Sends changes from now on.
    pub fn new(state: &HttpState) -> Self {
        let (_, newest) = state.cells.machines.transitions_after(u64::MAX);
        Self { transitions_sent: newest, ..Self::default() }
    }

    /// Checks once and sends what is new. Without clients it only moves on.
    pub async fn send(&mut self, state: &HttpState) {
        self.checks += 1;
        let (transitions, newest) = state.cells.machines.transitions_after(self.transitions_sent);
        if state.streams.open() == 0 {
            self.transitions_sent = newest;
            self.sent.clear();
            self.checks_with_clients = 0;
            return;
        }
        self.checks_with_clients += 1;
        let mut text = String::new();
        let mut unsent = transitions.len() as u64;
        for transition in &transitions {
            if text.len() >= CHUNK_BYTES_MAX / 2 {
                break;
            }
            text.push_str(&event("event", &Event::from(transition)));
            unsent -= 1;
        }
        self.transitions_sent = newest - unsent;
        let latest = state.latest.get(&state.own_client()).await;
        let machines = machines::last_known(state);
        // After a time without clients the snapshot is old, and liveness has just been asked for a new one.
        if self.checks_with_clients > CHECKS_PATIENT || machines.is_fresh() {
            self.append_machines(&machines, &latest, &mut text);
        }
        if self.checks.is_multiple_of(CHECKS_PER_STATUS) {
            text.push_str(&event("status", &Status::now(state)));
        }
        if self.checks.is_multiple_of(CHECKS_PER_COMMENT) {
            text.push_str(": keep-alive\n\n");
        }
        if !text.is_empty() {
            // Queues may hold the chunk for a while, so give back its spare capacity.
            state.streams.send(&Bytes::from(text.into_boxed_str().into_boxed_bytes()), mono_now());
        }
    }

    /// Appends the machines that have changed, until the chunk is full.
    fn append_machines(&mut self, machines: &Machines, latest: &LatestReadings, text: &mut String) {
        self.forget_others(machines, text);
        let views = machines.views();
        // Changes of status come first, then all others in turn.
        for view in views {
            let status = machines.status(view);
            if self.sent.get(&view.machine_id).is_some_and(|(sent, _)| *sent != status) {
                self.append(view, status, latest, text);
            }
            if text.len() >= CHUNK_BYTES_MAX {
                return;
            }
        }
        let begin = self.next_index.min(views.len());
        for index in (begin..views.len()).chain(0..begin) {
            if text.len() >= CHUNK_BYTES_MAX {
                self.next_index = index;
                return;
            }
            self.append(&views[index], machines.status(&views[index]), latest, text);
        }
    }

    /// Appends a machine, unless the clients already know exactly this.
    fn append(
        &mut self,
        view: &MachineView,
        status: DisplayStatus,
        latest: &LatestReadings,
        text: &mut String,
    ) {
        let data = event("machine", &Machine::new(view, status, latest.get(&view.machine_id)));
        let sent = (status, xxh3_64(data.as_bytes()));
        if self.sent.get(&view.machine_id) != Some(&sent) {
            self.sent.insert(view.machine_id.clone(), sent);
            text.push_str(&data);
        }
    }

    /// Appends the machines that were forgotten since.
    fn forget_others(&mut self, machines: &Machines, text: &mut String) {
        if self.sent.len() > machines.views().len() {
            let known: HashSet<_> = machines.views().iter().map(|view| &view.machine_id).collect();
            self.sent.retain(|machine_id, _| {
                let is_known = known.contains(machine_id);
                if !is_known {
                    let gone = Forgotten { machine_id: machine_id.as_str() };
                    text.push_str(&event("forgotten", &gone));
                }
                is_known
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::status::MachinesSnapshot;
    use crate::store::LatestReading;

    const MANY: usize = 5_000;

    fn fleet(status: impl Fn(usize) -> DisplayStatus) -> Machines {
        let view = |number: usize| MachineView {
            machine_id: MachineId::parse(&format!("robot-{number:05}")).unwrap(),
            status: status(number),
            status_since: None,
            reason: None,
            first_seen_at: None,
            last_seen_at: None,
            offline_after: std::time::Duration::from_secs(15),
            flapping: false,
            refused: false,
        };
        let machines = (0..MANY).map(view).collect();
        Machines::of(Arc::new(MachinesSnapshot { at: mono_now(), sighted: true, machines }))
    }

    /// Returns a newest reading with an `extra` of one kilobyte for each machine.
    fn readings(machines: &Machines) -> LatestReadings {
        let reading = LatestReading {
            recorded_at: crate::domain::Timestamp::from_micros(7),
            temperature: None,
            humidity: None,
            vibration: None,
            extra: Some(format!("{{\"x\":\"{}\"}}", "y".repeat(1_000))),
        };
        Arc::new(machines.views().iter().map(|view| (view.machine_id.clone(), reading.clone())).collect())
    }

    /// Returns the machines of one check, in order.
    fn sent(feed: &mut ChangeFeed, machines: &Machines, latest: &LatestReadings) -> Vec<(String, String)> {
        let mut text = String::new();
        feed.append_machines(machines, latest, &mut text);
        assert!(text.len() < CHUNK_BYTES_MAX + 2_000, "{} bytes", text.len());
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let machines = data.map(|data| serde_json::from_str::<serde_json::Value>(data).unwrap());
        let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        machines.map(|machine| (word(&machine["machine_id"]), word(&machine["status"]))).collect()
    }

    /// Proves HTTP-2.
    #[test]
    fn a_chunk_holds_the_machines_that_fit_and_the_next_chunks_hold_the_others() {
        let online = fleet(|_| DisplayStatus::Online);
        let latest = readings(&online);
        let mut feed = ChangeFeed::default();
        let mut all = Vec::new();
        for check in 0.. {
            let some = sent(&mut feed, &online, &latest);
            if some.is_empty() {
                break;
            }
            assert!(check < 20, "each machine is sent once");
            all.extend(some.into_iter().map(|(id, _)| id));
        }
        let ids: Vec<_> = online.views().iter().map(|view| view.machine_id.to_string()).collect();
        assert_eq!(all, ids);

        // The last machine is offline and all have a new reading: the change of status comes first.
        let changed =
            fleet(|number| if number == MANY - 1 { DisplayStatus::Offline } else { DisplayStatus::Online });
        let newer = latest
            .iter()
            .map(|(id, reading)| (id.clone(), LatestReading { temperature: Some(1.0), ..reading.clone() }));
        let newer = Arc::new(newer.collect());
        let some = sent(&mut feed, &changed, &newer);
        assert_eq!(some[0], (format!("robot-{:05}", MANY - 1), "offline".to_owned()));
        assert!((2..MANY).contains(&some.len()));

        // All change at once: every change arrives, a chunk at a time.
        let unknown = fleet(|_| DisplayStatus::Unknown);
        let mut known = HashSet::new();
        for _ in 0..20 {
            known.extend(sent(&mut feed, &unknown, &newer));
        }
        assert_eq!(known.len(), MANY);
        assert!(known.iter().all(|(_, status)| status == "unknown"));
    }
}
