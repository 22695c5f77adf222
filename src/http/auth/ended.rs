//! The sessions that were logged out, until nobody needs to know any more. Pure.
//!
//! At most [`ENDED_MAX`] are remembered one by one. Beyond that the oldest one of the token with most of them gives way, and
//! every session of that token that was issued before it had ended counts as ended, too: whoever fills the list ends
//! sessions of its own token, and revives none.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::session::Session;
use crate::domain::Timestamp;

/// Most sessions that are remembered one by one.
pub const ENDED_MAX: usize = 1_024;
/// Most tokens of which older sessions have ended; beyond that it holds for those of all tokens.
pub const TOKENS_MAX: usize = 64;

/// A session that was logged out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedSession {
    /// Which token it was opened with.
    pub token: String,
    /// When it was logged out.
    pub at: Timestamp,
}

/// The sessions that were logged out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndedSessions {
    pub(super) each: HashMap<Uuid, EndedSession>,
    /// Sessions of these tokens that were issued up to then have ended.
    pub(super) up_to: BTreeMap<String, Timestamp>,
    /// Sessions of any token that were issued up to then have ended.
    pub(super) all_up_to: Option<Timestamp>,
}

impl EndedSessions {
    /// True if the session was logged out. A bound that lies in the future was set by a wrong clock, and must not lock
    /// everybody out.
    pub fn contains(&self, session: &Session, now: Timestamp) -> bool {
        let is_before = |bound: &Timestamp| session.issued <= *bound && *bound <= now;
        self.each.contains_key(&session.id)
            || self.up_to.get(&session.token).is_some_and(is_before)
            || self.all_up_to.as_ref().is_some_and(is_before)
    }

    /// Adds a session.
    pub fn add(&mut self, session: &Session, now: Timestamp) {
        self.each.insert(session.id, EndedSession { token: session.token.clone(), at: now });
        while self.each.len() > ENDED_MAX {
            self.give_way();
        }
    }

    fn give_way(&mut self) {
        let mut count: HashMap<&str, usize> = HashMap::new();
        self.each.values().for_each(|ended| *count.entry(&ended.token).or_default() += 1);
        let most = count.into_iter().max_by_key(|(token, count)| (*count, *token)).map(|(token, _)| token);
        let oldest = self.each.iter().filter(|(_, ended)| Some(ended.token.as_str()) == most);
        let Some((id, _)) = oldest.min_by_key(|(id, ended)| (ended.at, **id)) else { return };
        let id = *id;
        let Some(ended) = self.each.remove(&id) else { return };
        let up_to = self.up_to.entry(ended.token).or_insert(ended.at);
        *up_to = (*up_to).max(ended.at);
        if self.up_to.len() > TOKENS_MAX
            && let Some(token) = self.up_to.iter().min_by_key(|(_, at)| **at).map(|(token, _)| token.clone())
        {
            self.all_up_to = self.all_up_to.max(self.up_to.remove(&token));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros((1_790_000_000 + second) * 1_000_000)
    }

    fn session(token: &str, issued: i64) -> Session {
        Session { token: token.to_owned(), id: Uuid::new_v4(), issued: at(issued) }
    }

    #[test]
    fn a_session_that_was_logged_out_has_ended_and_no_other() {
        let mut ended = EndedSessions::default();
        let (mine, other) = (session("a", 0), session("a", 0));
        ended.add(&mine, at(10));
        assert!(ended.contains(&mine, at(20)) && !ended.contains(&other, at(20)));
        let renewed = Session { issued: at(9), ..mine };
        assert!(ended.contains(&renewed, at(20)), "whichever of its cookies comes");
    }

    /// Proves HTTP-2.
    #[test]
    fn whoever_fills_the_list_ends_older_sessions_of_its_own_token_and_revives_none() {
        let mut ended = EndedSessions::default();
        let quiet = session("quiet", 0);
        ended.add(&quiet, at(1));
        let bystander = session("quiet", 0);
        let (mut all, older) = (Vec::new(), session("loud", 5));
        for number in 0..5_000 {
            let loud = session("loud", 10 + number);
            ended.add(&loud, at(10 + number));
            all.push(loud);
        }
        let now = at(6_000);
        assert_eq!(ended.each.len(), ENDED_MAX);
        assert!(all.iter().all(|session| ended.contains(session, now)), "none lives again");
        assert!(ended.contains(&quiet, now) && !ended.contains(&bystander, now));
        assert!(ended.contains(&older, now), "the price, for its own token");
        assert!(!ended.contains(&session("loud", 5_500), now), "who logs in again is in");
    }

    /// Proves HTTP-2.
    #[test]
    fn very_many_tokens_end_older_sessions_of_all() {
        let mut ended = EndedSessions::default();
        let mut all = Vec::new();
        for number in 0..4_000 {
            let one = session(&format!("token-{}", number % 500), number);
            ended.add(&one, at(number));
            all.push(one);
        }
        assert!(ended.each.len() <= ENDED_MAX && ended.up_to.len() <= TOKENS_MAX);
        assert!(all.iter().all(|session| ended.contains(session, at(5_000))), "none lives again");
        assert!(!ended.contains(&session("another", 4_500), at(5_000)));
    }

    #[test]
    fn a_bound_set_by_a_clock_of_the_future_locks_nobody_out() {
        let mut ended = EndedSessions::default();
        (0..2_000).for_each(|number| ended.add(&session("a", 900_000), at(900_000 + number)));
        assert!(!ended.contains(&session("a", 100), at(200)));
    }
}
