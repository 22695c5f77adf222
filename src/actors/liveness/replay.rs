//! Gives the tracker the records and the state of the link in the right order, also after a start without the
//! database. Pure: it reads no clock and sends nothing.
//!
//! A tracker needs the machines' recorded states to begin with. If the database is away at the start,
//! liveness begins without them, so that machines that send or fall silent are published in time, and it
//! keeps a [`ReplayLog`] of what happened to the link. When the database is back, it starts a second tracker
//! from the recorded states and replays the same records and the same log into it.
//!
//! Invariants
//! - **LIV-1** An incarnation knows nothing before [`Replay::recover`] or [`Replay::start_without_history`],
//!   and reports that.
//! - **LIV-5** After a start without the database, [`Replay::recover`] yields the transitions that a start
//!   with the database would have made; until the replay is complete, no status is shown.

use std::collections::VecDeque;

use super::replay_log::{Event, PROOF_SPACING, ReplayLog};
use super::tracker::{KnownMachine, Sighting, TimePoint, Tracker, TrackerOptions};
use crate::clock::Mono;
use crate::domain::{FilterSet, MachineId, Seq, Timestamp, Transition, TransitionReason};

/// The recorded state from which [`Replay::recover`] starts.
#[derive(Debug)]
pub struct StartState {
    /// The machines as recorded in the database, after all records up to `after`.
    pub machines: Vec<KnownMachine>,
    /// Their newest changes.
    pub recent_changes: Vec<(MachineId, Timestamp)>,
    /// The committed position.
    pub after: Seq,
    /// Records up to here were received over earlier links, or before this process began.
    pub received_before: Seq,
}

/// How much of the recorded history the tracker includes.
#[derive(Debug)]
enum History {
    /// Nothing yet (LIV-1).
    Unknown,
    /// The database is away; the tracker began without the recorded states.
    Pending {
        replay_log: ReplayLog,
        /// There were records before this process, so a machine that seems new may be recorded.
        machines_may_be_known: bool,
    },
    /// The database is back; the records since the start are being replayed.
    Replaying(ReplayLog),
    /// All of it.
    Known,
}

/// The tracker, and how it gets the recorded history.
#[derive(Debug)]
pub struct Replay {
    options: TrackerOptions,
    /// Newer rules, which count once the history is complete.
    next_rules: Option<TrackerOptions>,
    tracker: Option<Tracker>,
    history: History,
    /// See [`StartState`].
    received_before: Seq,
    /// `Some` while the link is up: what was received from here on came over it.
    heard_from: Option<Mono>,
    /// Filters that the broker of that link refuses.
    refused: FilterSet,
    /// Links that ended, each with its newest record, until all records of that link are observed.
    links_ended: VecDeque<(Seq, Mono)>,
    newest_received: Option<Mono>,
    proven_until: Mono,
}

impl Replay {
    /// Returns one that knows nothing (LIV-1).
    pub fn new(options: TrackerOptions) -> Self {
        Self {
            options,
            next_rules: None,
            tracker: None,
            history: History::Unknown,
            received_before: Seq::ZERO,
            heard_from: None,
            refused: FilterSet::EMPTY,
            links_ended: VecDeque::new(),
            newest_received: None,
            proven_until: Mono::default(),
        }
    }

    /// Returns the tracker; `None` before the first [`Self::recover`] or [`Self::start_without_history`].
    pub fn tracker(&self) -> Option<&Tracker> {
        self.tracker.as_ref()
    }

    /// The same as [`Self::tracker`], for queries that fill its caches. Change no status through it.
    pub fn tracker_mut(&mut self) -> Option<&mut Tracker> {
        self.tracker.as_mut()
    }

    /// Returns whether the tracker includes the whole recorded history, so that its statuses can be shown.
    pub fn history_is_known(&self) -> bool {
        matches!(self.history, History::Known)
    }

    /// Returns whether it began without the database, which is still away.
    pub fn waits_for_history(&self) -> bool {
        matches!(self.history, History::Pending { .. })
    }

    /// Returns whether the broker link is up.
    pub fn link_is_up(&self) -> bool {
        self.heard_from.is_some()
    }

    /// Returns the newest proof of the link.
    pub fn proven_until(&self) -> Mono {
        self.proven_until
    }

    /// Returns the newest observed record.
    pub fn observed_upto(&self) -> Seq {
        self.tracker.as_ref().map_or(Seq::ZERO, Tracker::observed_upto)
    }

    /// Returns the instant from which on a proof of the link would change something.
    pub fn proof_wanted_at(&mut self) -> Option<Mono> {
        if !self.history_is_known() && self.link_is_up() {
            // Machines that only the database knows have deadlines, too: the replay log needs regular proofs.
            return Some(Mono(self.proven_until.0.saturating_add(PROOF_SPACING)));
        }
        let deadline = self.tracker.as_mut().and_then(Tracker::next_deadline);
        deadline.filter(|deadline| *deadline > self.proven_until)
    }

    /// Replaces the rules (TRK-12). What is still to be replayed happened under the old ones.
    pub fn set_rules(&mut self, rules: TrackerOptions, now: TimePoint) {
        match (&self.history, &mut self.tracker) {
            (History::Unknown, _) => self.options = rules,
            (History::Pending { .. }, Some(tracker)) => {
                tracker.set_rules(&without_expected(&rules), now);
                self.next_rules = Some(rules);
            }
            _ => {
                self.next_rules = Some(rules);
                self.apply_next_rules(now);
            }
        }
    }

    fn apply_next_rules(&mut self, now: TimePoint) {
        if self.history_is_known()
            && let (Some(tracker), Some(rules)) = (&mut self.tracker, self.next_rules.take())
        {
            tracker.set_rules(&rules, now);
            self.options = rules;
        }
    }

    /// Stops watching a machine until it sends again; returns false if it is not watched.
    pub fn forget(&mut self, machine_id: &MachineId) -> bool {
        self.tracker.as_mut().is_some_and(|tracker| tracker.forget(machine_id))
    }

    /// Begins without the database, after the records of an earlier process (up to `after`). Their
    /// transitions were published and, as a rule, recorded by that process.
    pub fn start_without_history(&mut self, after: Seq, received_before: Seq, now: TimePoint) {
        let mut tracker = Tracker::new(without_expected(&self.options), Vec::new(), after);
        let mut replay_log = ReplayLog::new(after, now);
        self.received_before = received_before;
        if let Some(heard_from) = self.heard_from {
            // Visibility begins now, not when the link came up: nothing was observed before.
            for event in [Event::LinkUp(now, heard_from), Event::Refused(now, self.refused, now.mono)] {
                apply(&mut tracker, event, &mut Vec::new());
                replay_log.link_changed(event);
            }
        }
        self.tracker = Some(tracker);
        self.history = History::Pending { replay_log, machines_may_be_known: after > Seq::ZERO };
    }

    /// Begins from the recorded state, or begins again from it after a start without (LIV-5). Returns the
    /// transitions that follow at once.
    pub fn recover(&mut self, start: StartState, now: TimePoint) -> Vec<Transition> {
        let mut tracker = Tracker::new(self.options.clone(), start.machines, start.after);
        let began = match &self.history {
            History::Pending { replay_log, .. } => replay_log.began(),
            _ => now,
        };
        tracker.remember_changes(&start.recent_changes, began);
        self.newest_received = None;
        let mut transitions = Vec::new();
        match std::mem::replace(&mut self.history, History::Known) {
            History::Pending { replay_log, .. } => {
                self.tracker = Some(tracker);
                self.history = History::Replaying(replay_log);
                self.replay_records(&[], start.after, &mut transitions);
            }
            _ => {
                self.received_before = start.received_before;
                if let Some(heard_from) = self.heard_from {
                    tracker.link_up(now, heard_from);
                    tracker.set_refused(self.refused, now, now.mono);
                }
                self.tracker = Some(tracker);
            }
        }
        self.apply_next_rules(now);
        transitions
    }

    /// Takes the sightings of all records up to `upto`, in order, and a proof of the link. Returns the
    /// transitions, or `None` if it knows nothing (LIV-1).
    pub fn observe(
        &mut self,
        sightings: &[Sighting],
        upto: Seq,
        proven_until: Option<Mono>,
        now: TimePoint,
    ) -> Option<Vec<Transition>> {
        self.tracker.as_ref()?;
        let mut transitions = Vec::new();
        let mut rest = sightings;
        if let History::Replaying(replay_log) = &self.history {
            let old = rest.partition_point(|sighting| sighting.seq <= replay_log.ends_at());
            self.replay_records(&rest[..old], upto, &mut transitions);
            rest = &rest[old..];
        }
        while let Some(first) = rest.first() {
            let received = self.received_at(first.seq, now.mono);
            let same = rest.partition_point(|sighting| self.received_at(sighting.seq, now.mono) == received);
            self.observe_together(&rest[..same], received, &mut transitions);
            rest = &rest[same..];
        }
        self.set_observed(upto, now);
        if let Some(proven_until) = proven_until {
            self.prove(proven_until, &mut transitions);
        }
        while self.links_ended.front().is_some_and(|(newest, _)| *newest <= upto) {
            self.links_ended.pop_front();
        }
        self.apply_next_rules(now);
        if let History::Pending { machines_may_be_known: true, .. } = self.history {
            let first = |each: &&mut Transition| each.reason == TransitionReason::FirstSeen;
            transitions.iter_mut().filter(first).for_each(|each| each.reason = TransitionReason::Message);
        }
        Some(transitions)
    }

    /// The link came up at `at`, with no filter refused; what was received from `heard_from` on came over it.
    pub fn link_up(&mut self, at: TimePoint, heard_from: Mono) {
        self.heard_from = Some(heard_from);
        self.refused = FilterSet::EMPTY;
        self.link_changed(Event::LinkUp(at, heard_from));
    }

    /// The broker refuses exactly these filters from `at` on; those granted since may have delivered from
    /// `heard_from` on.
    pub fn set_refused(&mut self, refused: FilterSet, at: TimePoint, heard_from: Mono) {
        if std::mem::replace(&mut self.refused, refused) != refused {
            self.link_changed(Event::Refused(at, refused, heard_from));
        }
    }

    /// The link went down at `at`; `appended` was the newest record then.
    pub fn link_down(&mut self, at: TimePoint, appended: Seq) {
        if self.heard_from.take().is_some() {
            self.links_ended.push_back((appended, at.mono));
        }
        self.link_changed(Event::LinkDown(at, appended));
    }

    fn link_changed(&mut self, event: Event) {
        match &mut self.history {
            // It happened after everything in the replay log, so it is replayed last.
            History::Replaying(replay_log) => return replay_log.link_changed(event),
            History::Pending { replay_log, .. } => replay_log.link_changed(event),
            History::Unknown | History::Known => {}
        }
        if let Some(tracker) = &mut self.tracker {
            apply(tracker, event, &mut Vec::new());
        }
    }

    /// Replays records up to `upto`, and the logged events between them (LIV-5).
    fn replay_records(&mut self, sightings: &[Sighting], upto: Seq, transitions: &mut Vec<Transition>) {
        let History::Replaying(mut replay_log) = std::mem::replace(&mut self.history, History::Known) else {
            return;
        };
        for sighting in sightings {
            while let (Some(event), Some(tracker)) = (replay_log.next_before(sighting.seq), &mut self.tracker)
            {
                apply(tracker, event, transitions);
            }
            let is_old = sighting.seq <= self.received_before;
            let received = (!is_old).then(|| replay_log.received_at(sighting.seq, sighting.received_at));
            self.observe_together(std::slice::from_ref(sighting), received, transitions);
        }
        if let Some(tracker) = &mut self.tracker {
            tracker.set_observed(upto.min(replay_log.ends_at()));
            while let Some(event) = replay_log.next_before(upto.next()) {
                apply(tracker, event, transitions);
            }
        }
        if upto < replay_log.ends_at() {
            self.history = History::Replaying(replay_log);
        }
    }

    /// Observes sightings that were received at one instant, as far as is known.
    fn observe_together(
        &mut self,
        sightings: &[Sighting],
        received: Option<Mono>,
        out: &mut Vec<Transition>,
    ) {
        // The end of a link may be reported after records were taken for newer than it. Evidence never goes
        // back.
        self.newest_received = self.newest_received.max(received);
        let received = received.and(self.newest_received);
        if let Some(tracker) = &mut self.tracker {
            tracker.observe_all(sightings, received, out);
        }
    }

    fn set_observed(&mut self, upto: Seq, now: TimePoint) {
        if let Some(tracker) = &mut self.tracker {
            tracker.set_observed(upto);
        }
        if let History::Pending { replay_log, .. } = &mut self.history {
            replay_log.set_observed(upto, now);
        }
    }

    fn prove(&mut self, until: Mono, transitions: &mut Vec<Transition>) {
        self.proven_until = self.proven_until.max(until);
        if matches!(self.history, History::Replaying(_)) {
            // The tracker is still behind the proof; the next proof comes soon.
            return;
        }
        let before = transitions.len();
        if let Some(tracker) = &mut self.tracker {
            tracker.advance(until, transitions);
        }
        if let History::Pending { replay_log, .. } = &mut self.history {
            replay_log.proven(until, transitions.len() > before);
        }
    }

    /// Returns an instant at or after a record's receipt, but not after its link ended. `None`: before this
    /// process.
    fn received_at(&self, seq: Seq, now: Mono) -> Option<Mono> {
        if seq <= self.received_before {
            return None;
        }
        let its_link = self.links_ended.iter().find(|(newest, _)| seq <= *newest);
        Some(its_link.map_or(now, |(_, ended_at)| *ended_at))
    }
}

/// Only the database knows whether an expected machine was ever seen.
fn without_expected(options: &TrackerOptions) -> TrackerOptions {
    let mut options = options.clone();
    options.machines.values_mut().for_each(|rule| rule.expected = false);
    options
}

fn apply(tracker: &mut Tracker, event: Event, out: &mut Vec<Transition>) {
    match event {
        Event::LinkUp(at, heard_from) => tracker.link_up(at, heard_from),
        Event::Refused(at, refused, heard_from) => tracker.set_refused(refused, at, heard_from),
        Event::LinkDown(at, _) => tracker.link_down(at),
        Event::Proven(until) => tracker.advance(until, out),
    }
}
