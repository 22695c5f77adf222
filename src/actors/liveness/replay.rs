//! The watch: the tracker, and what it has to be told of the link and of the past. Pure: it reads no clock and sends nothing.
//!
//! Invariants
//! - LIV-1 It knows nothing before [`Replay::recover`]: a restarted incarnation says so, and begins again from the database's
//!   state and the records after it.
//! - LIV-5 A watch that had to begin without the database keeps a [`ReplayLog`]. When the past is known it begins again from it and
//!   goes through the same records and the same diary: its transitions are those of a watch that had known the past from
//!   the start. Until it is through, it shows nothing.

use std::collections::VecDeque;

use super::replay_log::{Event, PROOF_APART, ReplayLog};
use super::tracker::{KnownMachine, Sighting, TimePoint, Tracker, TrackerOptions};
use crate::clock::Mono;
use crate::domain::{FilterSet, MachineId, Seq, Timestamp, Transition, TransitionReason};

/// What a watch begins from.
#[derive(Debug)]
pub struct Beginning {
    /// The machines as the database knows them, after all records up to `after`.
    pub machines: Vec<KnownMachine>,
    /// Their newest changes.
    pub recent_changes: Vec<(MachineId, Timestamp)>,
    /// The committed position.
    pub after: Seq,
    /// Records up to here were received over links that are over, or before this process began.
    pub received_before: Seq,
}

/// What it knows of the past.
#[derive(Debug)]
enum Past {
    Unknown,
    /// The database is away. If there were records before, whoever speaks now may have been seen before.
    Missing {
        replay_log: ReplayLog,
        may_be_known: bool,
    },
    /// It is back; this is gone through once more.
    Repeated(ReplayLog),
    Known,
}

/// The watch.
#[derive(Debug)]
pub struct Replay {
    options: TrackerOptions,
    tracker: Option<Tracker>,
    past: Past,
    /// See [`Beginning`].
    received_before: Seq,
    /// The link is up: what was received from here on came over it.
    heard_from: Option<Mono>,
    /// Filters that the broker of that link refuses.
    refused: FilterSet,
    /// Links that ended, with the newest record of each, as long as records of before may still come.
    links_ended: VecDeque<(Seq, Mono)>,
    newest_received: Option<Mono>,
    proven_until: Mono,
}

impl Replay {
    /// One that knows nothing (LIV-1).
    pub fn new(options: TrackerOptions) -> Self {
        Self {
            options,
            tracker: None,
            past: Past::Unknown,
            received_before: Seq::ZERO,
            heard_from: None,
            refused: FilterSet::EMPTY,
            links_ended: VecDeque::new(),
            newest_received: None,
            proven_until: Mono::default(),
        }
    }

    /// The tracker; `None` before the first [`Self::recover`] or [`Self::begin_without_past`].
    pub fn tracker(&self) -> Option<&Tracker> {
        self.tracker.as_ref()
    }

    /// The same, to ask what changes nothing but its memory.
    pub fn tracker_mut(&mut self) -> Option<&mut Tracker> {
        self.tracker.as_mut()
    }

    /// It shows what is so: the past is known and gone through.
    pub fn knows_the_past(&self) -> bool {
        matches!(self.past, Past::Known)
    }

    /// It began without the database, which is still away.
    pub fn is_provisional(&self) -> bool {
        matches!(self.past, Past::Missing { .. })
    }

    /// The broker link is up.
    pub fn link_is_up(&self) -> bool {
        self.heard_from.is_some()
    }

    /// The newest proof of the link.
    pub fn proven_until(&self) -> Mono {
        self.proven_until
    }

    /// The newest record looked at.
    pub fn observed_upto(&self) -> Seq {
        self.tracker.as_ref().map_or(Seq::ZERO, Tracker::observed_upto)
    }

    /// Something would change if the link were proven then or later.
    pub fn proof_wanted_at(&mut self) -> Option<Mono> {
        if !self.knows_the_past() && self.link_is_up() {
            // Of machines that only the database knows there are deadlines, too: the diary needs a proof now and then.
            return Some(Mono(self.proven_until.0.saturating_add(PROOF_APART)));
        }
        let deadline = self.tracker.as_mut().and_then(Tracker::next_deadline);
        deadline.filter(|deadline| *deadline > self.proven_until)
    }

    /// Begins without the database, after the records of an earlier process (up to `after`): what they made of the machines is
    /// published and, as a rule, recorded already.
    pub fn begin_without_past(&mut self, after: Seq, received_before: Seq, now: TimePoint) {
        let mut options = self.options.clone();
        // Whether a machine was ever seen, only the database knows.
        options.machines.values_mut().for_each(|rule| rule.expected = false);
        let mut tracker = Tracker::new(options, Vec::new(), after);
        let mut replay_log = ReplayLog::new(after, now);
        self.received_before = received_before;
        if let Some(heard_from) = self.heard_from {
            // Sight begins now, not when the link came up: until now nobody looked.
            for event in [Event::LinkUp(now, heard_from), Event::Refused(now, self.refused, now.mono)] {
                apply(&mut tracker, event, &mut Vec::new());
                replay_log.link_changed(event);
            }
        }
        self.tracker = Some(tracker);
        self.past = Past::Missing { replay_log, may_be_known: after > Seq::ZERO };
    }

    /// Begins from the past, or begins again from it after it was missing (LIV-5). Returns the transitions that follow.
    pub fn recover(&mut self, beginning: Beginning, now: TimePoint) -> Vec<Transition> {
        let mut tracker = Tracker::new(self.options.clone(), beginning.machines, beginning.after);
        let began = match &self.past {
            Past::Missing { replay_log, .. } => replay_log.began(),
            _ => now,
        };
        tracker.remember_changes(&beginning.recent_changes, began);
        self.newest_received = None;
        let mut transitions = Vec::new();
        match std::mem::replace(&mut self.past, Past::Known) {
            Past::Missing { replay_log, .. } => {
                self.tracker = Some(tracker);
                self.past = Past::Repeated(replay_log);
                self.go_through(&[], beginning.after, &mut transitions);
            }
            _ => {
                self.received_before = beginning.received_before;
                if let Some(heard_from) = self.heard_from {
                    tracker.link_up(now, heard_from);
                    tracker.refuse(self.refused, now, now.mono);
                }
                self.tracker = Some(tracker);
            }
        }
        transitions
    }

    /// Takes the sightings of all records up to `upto`, in order, and a proof of the link. `None`: it knows nothing (LIV-1).
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
        if let Past::Repeated(replay_log) = &self.past {
            let old = rest.partition_point(|sighting| sighting.seq <= replay_log.ends_at());
            self.go_through(&rest[..old], upto, &mut transitions);
            rest = &rest[old..];
        }
        while let Some(first) = rest.first() {
            let received = self.received_at(first.seq, now.mono);
            let same = rest.partition_point(|sighting| self.received_at(sighting.seq, now.mono) == received);
            self.observe_same(&rest[..same], received, &mut transitions);
            rest = &rest[same..];
        }
        self.looked_at(upto, now);
        if let Some(proven_until) = proven_until {
            self.prove(proven_until, &mut transitions);
        }
        while self.links_ended.front().is_some_and(|(newest, _)| *newest <= upto) {
            self.links_ended.pop_front();
        }
        if let Past::Missing { may_be_known: true, .. } = self.past {
            let first = |each: &&mut Transition| each.reason == TransitionReason::FirstSeen;
            transitions.iter_mut().filter(first).for_each(|each| each.reason = TransitionReason::Message);
        }
        Some(transitions)
    }

    /// The link came up at `at`; what was received from `heard_from` on came over it.
    pub fn link_up(&mut self, at: TimePoint, heard_from: Mono) {
        self.heard_from = Some(heard_from);
        self.refused = FilterSet::EMPTY;
        self.link_changed(Event::LinkUp(at, heard_from));
    }

    /// The broker of the link refuses these filters, from `at` on; through those that it refuses no longer was heard from `heard_from`
    /// on. After [`Self::link_up`] none is refused.
    pub fn refuse(&mut self, refused: FilterSet, at: TimePoint, heard_from: Mono) {
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
        match &mut self.past {
            // It happened after everything in the diary.
            Past::Repeated(replay_log) => return replay_log.link_changed(event),
            Past::Missing { replay_log, .. } => replay_log.link_changed(event),
            Past::Unknown | Past::Known => {}
        }
        if let Some(tracker) = &mut self.tracker {
            apply(tracker, event, &mut Vec::new());
        }
    }

    /// LIV-5: the records of the diary, and what happened between them.
    fn go_through(&mut self, sightings: &[Sighting], upto: Seq, transitions: &mut Vec<Transition>) {
        let Past::Repeated(mut replay_log) = std::mem::replace(&mut self.past, Past::Known) else { return };
        for sighting in sightings {
            while let (Some(event), Some(tracker)) = (replay_log.next_before(sighting.seq), &mut self.tracker)
            {
                apply(tracker, event, transitions);
            }
            let is_old = sighting.seq <= self.received_before;
            let received = (!is_old).then(|| replay_log.received_at(sighting.seq, sighting.received_at));
            self.observe_same(std::slice::from_ref(sighting), received, transitions);
        }
        if let Some(tracker) = &mut self.tracker {
            tracker.looked_at(upto.min(replay_log.ends_at()));
            while let Some(event) = replay_log.next_before(upto.next()) {
                apply(tracker, event, transitions);
            }
        }
        if upto < replay_log.ends_at() {
            self.past = Past::Repeated(replay_log);
        }
    }

    /// Sightings received at one instant, as far as we know.
    fn observe_same(&mut self, sightings: &[Sighting], received: Option<Mono>, out: &mut Vec<Transition>) {
        // News of a link's end may come after records were taken for later than it; evidence never goes back.
        self.newest_received = self.newest_received.max(received);
        let received = received.and(self.newest_received);
        if let Some(tracker) = &mut self.tracker {
            tracker.observe_all(sightings, received, out);
        }
    }

    fn looked_at(&mut self, upto: Seq, now: TimePoint) {
        if let Some(tracker) = &mut self.tracker {
            tracker.looked_at(upto);
        }
        if let Past::Missing { replay_log, .. } = &mut self.past {
            replay_log.looked_at(upto, now);
        }
    }

    fn prove(&mut self, until: Mono, transitions: &mut Vec<Transition>) {
        self.proven_until = self.proven_until.max(until);
        if matches!(self.past, Past::Repeated(_)) {
            // The tracker is not there yet; the next proof is near.
            return;
        }
        let before = transitions.len();
        if let Some(tracker) = &mut self.tracker {
            tracker.advance(until, transitions);
        }
        if let Past::Missing { replay_log, .. } = &mut self.past {
            replay_log.proven(until, transitions.len() > before);
        }
    }

    /// An instant at which, or after which, a record was received, but not after its link ended.
    fn received_at(&self, seq: Seq, now: Mono) -> Option<Mono> {
        if seq <= self.received_before {
            return None;
        }
        let link_of_it = self.links_ended.iter().find(|(newest, _)| seq <= *newest);
        Some(link_of_it.map_or(now, |(_, ended_at)| *ended_at))
    }
}

fn apply(tracker: &mut Tracker, event: Event, out: &mut Vec<Transition>) {
    match event {
        Event::LinkUp(at, heard_from) => tracker.link_up(at, heard_from),
        Event::Refused(at, refused, heard_from) => tracker.refuse(refused, at, heard_from),
        Event::LinkDown(at, _) => tracker.link_down(at),
        Event::Proven(until) => tracker.advance(until, out),
    }
}
