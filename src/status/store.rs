//! The database as the writer sees it.

use crate::clock::wall_now;
use crate::domain::Timestamp;

use super::cell::StatusCell;

/// How the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreState {
    /// The first attempt is under way.
    #[default]
    Opening,
    /// The newest attempt to use it succeeded.
    Works,
    /// The newest attempt failed; attempts go on, and the journal keeps everything.
    Away,
}

impl StoreState {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Works => "works",
            Self::Away => "away",
        }
    }
}

/// The database at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreStatus {
    /// How it is.
    pub state: StoreState,
    /// Since when; `None` before the first news.
    pub since: Option<Timestamp>,
    /// Why it does not work, in words for a person.
    pub reason: Option<String>,
    /// `sqlite` or `postgresql`; `None` until it was open once.
    pub backend: Option<&'static str>,
    /// Its version; `None` until it was open once.
    pub version: Option<String>,
    /// Where it is, without credentials.
    pub target: String,
}

/// Written by the writer, read by anybody.
pub type StoreCell = StatusCell<StoreStatus>;

impl StoreCell {
    /// What the database is, learnt when it was opened.
    pub fn opened(&self, backend: &'static str, version: &str, target: &str) {
        let known = self.snapshot();
        self.write(StoreStatus {
            backend: Some(backend),
            version: Some(version.to_owned()),
            target: target.to_owned(),
            ..(*known).clone()
        });
    }

    /// The database is in `state` because of `reason`. Since when is kept while the state does not change.
    pub fn enter(&self, state: StoreState, reason: Option<&str>) {
        let known = self.snapshot();
        if known.state == state && known.reason.as_deref() == reason {
            return;
        }
        let since = if known.state == state { known.since } else { None };
        self.write(StoreStatus {
            state,
            since: Some(since.unwrap_or_else(wall_now)),
            reason: reason.map(str::to_owned),
            ..(*known).clone()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_is_kept_while_the_state_stays() {
        let board = StoreCell::default();
        board.opened("sqlite", "3.50", "andon.db");
        board.enter(StoreState::Away, Some("locked"));
        let away = board.snapshot();
        while wall_now() == away.since.unwrap() {}
        board.enter(StoreState::Away, Some("full"));
        let still_away = board.snapshot();
        assert_eq!((still_away.since, still_away.reason.as_deref()), (away.since, Some("full")));
        board.enter(StoreState::Works, None);
        let works = board.snapshot();
        assert!(works.since > away.since);
        assert_eq!(
            (works.reason.as_deref(), works.backend, works.target.as_str()),
            (None, Some("sqlite"), "andon.db")
        );
    }
}
