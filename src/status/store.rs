//! The database as the writer sees it.

use crate::clock::wall_now;
use crate::domain::{Timestamp, word_enum};

use super::cell::StatusCell;

word_enum! {
    /// State of the database. The word is the API's.
    #[derive(Default)]
    pub enum StoreState {
        /// The first attempt is running.
        #[default]
        Opening = "opening",
        /// The newest attempt to use it succeeded.
        Works = "works",
        /// The newest attempt failed; the writer keeps trying, and the journal keeps everything.
        Away = "away",
    }
}

/// The database at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreStatus {
    /// Its state.
    pub state: StoreState,
    /// Start of the state; `None` before the first one is reported.
    pub since: Option<Timestamp>,
    /// Why it does not work, for people.
    pub reason: Option<String>,
    /// `sqlite` or `postgresql`; `None` until it was opened once.
    pub backend: Option<&'static str>,
    /// Its version; `None` until it was opened once.
    pub version: Option<String>,
    /// Its address, without credentials.
    pub target: String,
}

/// Written by the writer, read by any thread.
pub type StoreCell = StatusCell<StoreStatus>;

impl StoreCell {
    /// Records backend, version and address when the database is opened.
    pub fn opened(&self, backend: &'static str, version: &str, target: &str) {
        let known = self.snapshot();
        self.write(StoreStatus {
            backend: Some(backend),
            version: Some(version.to_owned()),
            target: target.to_owned(),
            ..(*known).clone()
        });
    }

    /// Enters `state` because of `reason`. Keeps the start while the state stays the same.
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
    fn the_start_is_kept_while_the_state_stays() {
        let cell = StoreCell::default();
        cell.opened("sqlite", "3.50", "andon.db");
        cell.enter(StoreState::Away, Some("locked"));
        let away = cell.snapshot();
        while wall_now() == away.since.unwrap() {}
        cell.enter(StoreState::Away, Some("full"));
        let still_away = cell.snapshot();
        assert_eq!((still_away.since, still_away.reason.as_deref()), (away.since, Some("full")));
        cell.enter(StoreState::Works, None);
        let works = cell.snapshot();
        assert!(works.since > away.since);
        assert_eq!(
            (works.reason.as_deref(), works.backend, works.target.as_str()),
            (None, Some("sqlite"), "andon.db")
        );
    }
}
