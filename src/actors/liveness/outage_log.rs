//! The log of our own blindness: each stretch in which no machine's silence could be judged, for the database.
//!
//! An outage begins at the last moment at which the link was proven to be up, not when its end was noticed. The moment is
//! written down every [`MARK_EVERY`] while sight lasts, so that a process that is killed loses no more than that: the
//! outage then begins so much too early, never too late.
//!
//! Invariants
//! - OUT-1 Outages of a site do not overlap, and are told in order: begun, then ended.
//! - OUT-2 Nothing is told before the past is known; what happened before is told then.
//! - OUT-3 While the broker refuses a filter sight is not full, and the time counts as an outage for the whole site: the database does
//!   not know which machines come through which filter.

use std::collections::VecDeque;
use std::time::Duration;

use super::tracker::TimePoint;
use crate::clock::Mono;
use crate::domain::{LinkOutage, OutageReason, Timestamp};

/// How often the proof of sight is written down.
pub const MARK_EVERY: Duration = Duration::from_secs(30);
/// Outages kept while the database is away; beyond it the two oldest become one.
const OUTAGES_MAX: usize = 10_000;
/// Outages of one batch.
const BATCH_OUTAGES_MAX: usize = 1_000;

/// What the database knows of the time before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PastOutages {
    /// The newest outage.
    pub newest_outage: Option<LinkOutage>,
    /// The newest moment at which the link is known to have been up.
    pub seen_until: Option<Timestamp>,
}

/// What to write; see [`OutageLog::on_recorded`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutageNews {
    /// In order; of one outage its beginning, or its beginning and end.
    pub outages: Vec<LinkOutage>,
    /// See [`PastOutages`].
    pub seen_until: Option<Timestamp>,
    /// Counts the outages ever told, up to the last of these.
    pub upto: u64,
}

/// The outage we are in.
#[derive(Debug, Clone, Copy)]
struct Blind {
    /// `None`: only the database knows.
    began_at: Option<Timestamp>,
    reason: OutageReason,
}

/// The log of one incarnation. It begins blind.
#[derive(Debug)]
pub struct OutageLog {
    blind: Option<Blind>,
    /// When sight first opened, if that was before the past was known.
    first_sight: Option<Timestamp>,
    past_is_known: bool,
    news: VecDeque<LinkOutage>,
    told: u64,
    /// The newest outage told.
    newest: Option<LinkOutage>,
    seen_until: Option<Timestamp>,
    marked: Mono,
}

impl Default for OutageLog {
    fn default() -> Self {
        Self {
            blind: Some(Blind { began_at: None, reason: OutageReason::Start }),
            first_sight: None,
            past_is_known: false,
            news: VecDeque::new(),
            told: 0,
            newest: None,
            seen_until: None,
            marked: Mono::default(),
        }
    }
}

impl OutageLog {
    /// The past is known from now on. `now` is the present wall clock.
    pub fn learn(&mut self, past: PastOutages, now: Timestamp) {
        if self.past_is_known {
            return;
        }
        self.past_is_known = true;
        let first_sight = self.first_sight.take();
        let ended_at = first_sight.unwrap_or(now);
        let (began_at, reason) = match past.newest_outage {
            Some(LinkOutage { began_at, ended_at: None, reason }) => (Some(began_at), reason),
            newest => {
                let ended_at = newest.and_then(|outage| outage.ended_at);
                (past.seen_until.max(ended_at), OutageReason::Start)
            }
        };
        // A site that is new has no time before; its history begins with the first sight.
        let Some(began_at) = began_at else { return };
        // The clock may have been set back meanwhile.
        let began_at = self.unlike_the_newest(began_at.min(ended_at), past.newest_outage);
        let outage = LinkOutage { began_at, ended_at: first_sight, reason };
        self.newest = self.newest.or(Some(outage));
        self.news.push_front(outage);
        if let Some(blind) = self.blind.as_mut().filter(|blind| blind.began_at.is_none()) {
            *blind = Blind { began_at: Some(began_at), reason };
        }
    }

    /// Sight is back.
    pub fn link_up(&mut self, at: TimePoint) {
        match self.blind.take() {
            Some(Blind { began_at: Some(began_at), reason }) => {
                self.tell(LinkOutage { began_at, ended_at: Some(at.wall.max(began_at)), reason });
            }
            Some(Blind { began_at: None, .. }) => {
                self.first_sight = Some(at.wall).filter(|_| !self.past_is_known);
            }
            None => return,
        }
        self.seen_until = Some(at.wall);
        self.marked = at.mono;
    }

    /// Sight is lost: noticed at `at`; the broker gave its last sign of life at `alive_until`.
    pub fn link_down(&mut self, at: TimePoint, alive_until: Mono, reason: OutageReason) {
        if self.blind.is_some() {
            return;
        }
        // The two clocks are not read at one instant: it could begin a little before the one before it ended (OUT-1).
        let newest_ended = self.newest.and_then(|outage| outage.ended_at);
        let began_at = Some(wall_at(alive_until.max(self.marked), at)).max(newest_ended).unwrap_or(at.wall);
        let began_at = self.unlike_the_newest(began_at, self.newest);
        self.blind = Some(Blind { began_at: Some(began_at), reason });
        self.tell(LinkOutage { began_at, ended_at: None, reason });
    }

    /// Over the link that is up the broker refuses a filter, or none any more, from `at` on (OUT-3).
    pub fn refuse(&mut self, refuses: bool, at: TimePoint) {
        match self.blind.map(|blind| blind.reason) {
            None if refuses => self.link_down(at, at.mono, OutageReason::FilterRefused),
            Some(OutageReason::FilterRefused) if !refuses => self.link_up(at),
            _ => {}
        }
    }

    /// The link was proven to be up at `proven`; it is `now`.
    pub fn proven(&mut self, proven: Mono, now: TimePoint) {
        if self.blind.is_none() && proven.0.saturating_sub(self.marked.0) >= Mono::from(MARK_EVERY).0 {
            self.marked = proven;
            self.seen_until = Some(wall_at(proven, now));
        }
    }

    /// A proof is due.
    pub fn wants_proof(&self, now: Mono) -> bool {
        self.blind.is_none() && now.0.saturating_sub(self.marked.0) >= Mono::from(MARK_EVERY).0
    }

    /// Whether there is something to write.
    pub fn has_news(&self) -> bool {
        self.past_is_known && (!self.news.is_empty() || self.seen_until.is_some())
    }

    /// The oldest news; they stay until they are recorded.
    pub fn news(&self) -> OutageNews {
        if !self.past_is_known {
            return OutageNews::default();
        }
        let outages: Vec<_> = self.news.iter().take(BATCH_OUTAGES_MAX).copied().collect();
        let upto = self.told + outages.len() as u64;
        // Sight is not proven past an outage that is not told yet.
        let all = outages.len() == self.news.len();
        OutageNews { outages, seen_until: self.seen_until.filter(|_| all), upto }
    }

    /// These are in the database.
    pub fn on_recorded(&mut self, upto: u64, seen_until: Option<Timestamp>) {
        if !self.past_is_known {
            return; // What the incarnation before had handed out: our own numbers begin anew.
        }
        while self.told < upto && self.news.pop_front().is_some() {
            self.told += 1;
        }
        if seen_until == self.seen_until {
            self.seen_until = None;
        }
    }

    /// An outage is named by its beginning. If sight was lost again before anything proved it, two would be named alike.
    fn unlike_the_newest(&self, began_at: Timestamp, newest: Option<LinkOutage>) -> Timestamp {
        match newest {
            Some(LinkOutage { began_at: known, ended_at: Some(_), .. }) if known == began_at => {
                Timestamp::from_micros(began_at.as_micros().saturating_add(1))
            }
            _ => began_at,
        }
    }

    fn tell(&mut self, outage: LinkOutage) {
        self.newest = Some(outage);
        self.news.push_back(outage);
        if self.news.len() <= OUTAGES_MAX {
            return;
        }
        // Rather blind for too long than seeing where we were blind: the next one goes under the oldest one's name.
        let (Some(oldest), Some(next)) = (self.news.pop_front(), self.news.front().copied()) else { return };
        self.told += 1;
        for outage in self.news.iter_mut().filter(|outage| outage.began_at == next.began_at) {
            outage.began_at = oldest.began_at;
        }
        if let Some(blind) = self.blind.as_mut().filter(|blind| blind.began_at == Some(next.began_at)) {
            blind.began_at = Some(oldest.began_at);
        }
    }
}

/// The wall clock's instant of `mono`, as the clock stands at `now`; not after it.
fn wall_at(mono: Mono, now: TimePoint) -> Timestamp {
    let ago = i64::try_from(now.mono.0.saturating_sub(mono.0)).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.wall.as_micros().saturating_sub(ago))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const EPOCH: i64 = 1_000_000_000_000;

    fn wall(seconds: u64) -> Timestamp {
        Timestamp::from_micros(EPOCH + i64::try_from(seconds * SECOND).expect("small"))
    }

    fn moment(seconds: u64) -> TimePoint {
        TimePoint { mono: Mono(seconds * SECOND), wall: wall(seconds) }
    }

    fn outage(began: u64, ended: Option<u64>, reason: OutageReason) -> LinkOutage {
        LinkOutage { began_at: wall(began), ended_at: ended.map(wall), reason }
    }

    fn past(newest_outage: Option<LinkOutage>, seen_until: Option<u64>) -> PastOutages {
        PastOutages { newest_outage, seen_until: seen_until.map(wall) }
    }

    use OutageReason::{FilterRefused, Hold, LinkDown, Start, Stopped};

    #[test]
    fn g1_an_outage_begins_at_the_last_proof_and_ends_when_sight_is_back() {
        let mut log = OutageLog::default();
        log.learn(past(None, Some(1)), wall(1));
        log.link_up(moment(2));
        log.link_down(moment(100), Mono(70 * SECOND), LinkDown);
        log.link_down(moment(101), Mono(70 * SECOND), Stopped);
        log.link_up(moment(110));
        let told = [
            outage(1, None, Start),
            outage(1, Some(2), Start),
            outage(70, None, LinkDown),
            outage(70, Some(110), LinkDown),
        ];
        assert_eq!(log.news(), OutageNews { outages: told.to_vec(), seen_until: Some(wall(110)), upto: 4 });
        log.on_recorded(3, None);
        assert_eq!(log.news().outages, told[3..]);
        log.on_recorded(4, Some(wall(110)));
        assert!(!log.has_news());
    }

    #[test]
    fn g1_a_start_goes_on_with_the_outage_that_is_open_or_from_the_last_sight() {
        let cases = [
            (past(Some(outage(5, None, Stopped)), Some(4)), outage(5, Some(50), Stopped)),
            (past(Some(outage(5, None, Hold)), Some(4)), outage(5, Some(50), Hold)),
            (past(Some(outage(5, Some(9), LinkDown)), Some(20)), outage(20, Some(50), Start)),
            (past(Some(outage(5, Some(9), LinkDown)), None), outage(9, Some(50), Start)),
            (past(None, Some(20)), outage(20, Some(50), Start)),
        ];
        for (past, expected) in cases {
            let mut log = OutageLog::default();
            log.learn(past, wall(40));
            log.link_up(moment(50));
            let open = LinkOutage { ended_at: None, ..expected };
            assert_eq!(log.news().outages, [open, expected], "{past:?}");
        }
    }

    #[test]
    fn g3_while_a_filter_is_refused_sight_is_not_full() {
        let mut log = OutageLog::default();
        log.learn(past(None, Some(1)), wall(1));
        log.link_up(moment(2));
        log.refuse(true, moment(2));
        log.refuse(true, moment(3));
        log.proven(Mono(90 * SECOND), moment(90));
        log.refuse(false, moment(100));
        log.refuse(false, moment(101));
        let told = [outage(2, None, FilterRefused), outage(2, Some(100), FilterRefused)];
        assert_eq!((&log.news().outages[2..], log.news().seen_until), (&told[..], Some(wall(100))));
        // The link goes while a filter is refused, and comes back without a refusal.
        log.refuse(true, moment(110));
        log.link_down(moment(120), Mono(119 * SECOND), LinkDown);
        log.link_up(moment(130));
        assert_eq!(log.news().outages[5], outage(110, Some(130), FilterRefused));
    }

    #[test]
    fn a_new_site_has_no_time_before_its_first_sight() {
        for early in [true, false] {
            let mut log = OutageLog::default();
            if early {
                log.link_up(moment(2));
            }
            log.learn(PastOutages::default(), wall(3));
            if !early {
                log.link_up(moment(4));
            }
            assert_eq!(log.news().outages, []);
            assert!(log.news().seen_until.is_some());
        }
    }

    #[test]
    fn outages_without_a_proof_between_them_have_names_of_their_own() {
        let mut log = OutageLog::default();
        log.learn(past(None, Some(9)), wall(9));
        log.link_up(moment(9));
        log.link_down(moment(30), Mono(0), LinkDown);
        log.link_up(moment(31));
        let began: Vec<_> = log.news().outages.iter().map(|outage| outage.began_at).collect();
        let later = Timestamp::from_micros(wall(9).as_micros() + 1);
        assert_eq!(began, [wall(9), wall(9), later, later]);
    }

    #[test]
    fn g2_what_happened_before_the_past_was_known_is_told_then() {
        let mut log = OutageLog::default();
        log.link_up(moment(50));
        log.link_down(moment(60), Mono(60 * SECOND), Hold);
        assert!(!log.has_news() && log.news() == OutageNews::default());
        log.learn(past(Some(outage(5, None, Stopped)), None), wall(70));
        let told = [outage(5, Some(50), Stopped), outage(60, None, Hold)];
        assert_eq!(log.news().outages, told);
        log.link_up(moment(80));
        assert_eq!(log.news().outages[2], outage(60, Some(80), Hold));
    }

    #[test]
    fn the_proof_of_sight_is_marked_at_its_pace_and_never_while_blind() {
        let mut log = OutageLog::default();
        log.learn(PastOutages::default(), wall(1));
        assert!(!log.wants_proof(Mono(1_000 * SECOND)), "blind");
        log.link_up(moment(2));
        log.on_recorded(0, Some(wall(2)));
        log.proven(Mono(31 * SECOND), moment(31));
        assert!(!log.wants_proof(Mono(31 * SECOND)) && !log.has_news());
        assert!(log.wants_proof(Mono(32 * SECOND)));
        log.proven(Mono(40 * SECOND), moment(45));
        assert_eq!(log.news(), OutageNews { outages: vec![], seen_until: Some(wall(40)), upto: 0 });
        // A newer mark is not lost when an older one is recorded.
        log.proven(Mono(75 * SECOND), moment(75));
        log.on_recorded(0, Some(wall(40)));
        assert_eq!(log.news().seen_until, Some(wall(75)));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_outage_that_ends_before_it_began() {
        let mut log = OutageLog::default();
        log.learn(past(None, Some(500)), wall(40));
        log.link_up(moment(41));
        assert_eq!(log.news().outages[1], outage(40, Some(41), Start));
        log.link_down(TimePoint { mono: Mono(60 * SECOND), wall: wall(60) }, Mono(60 * SECOND), LinkDown);
        log.link_up(TimePoint { mono: Mono(70 * SECOND), wall: wall(3) });
        assert_eq!(log.news().outages[3], outage(60, Some(60), LinkDown));
    }

    #[test]
    fn while_the_database_is_away_for_long_the_oldest_outages_become_one() {
        let mut log = OutageLog::default();
        log.learn(past(None, Some(0)), wall(0));
        for turn in 0..OUTAGES_MAX as u64 {
            log.link_up(moment(10 * turn + 1));
            log.link_down(moment(10 * turn + 5), Mono(u64::MAX), LinkDown);
        }
        assert_eq!((log.news.len(), log.news[0].began_at), (OUTAGES_MAX, wall(0)));
        let ends =
            |began_at| log.news.iter().any(|each| each.began_at == began_at && each.ended_at.is_some());
        let open: Vec<_> =
            log.news.iter().map(|each| each.began_at).filter(|began_at| !ends(*began_at)).collect();
        assert_eq!(open, [wall(10 * (OUTAGES_MAX as u64 - 1) + 5)], "only the present one");
        let longest =
            log.news.iter().filter(|each| each.began_at == wall(0)).filter_map(|each| each.ended_at).max();
        assert!(longest > Some(wall(10_000)), "{longest:?}");
    }
}
