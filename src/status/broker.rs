//! The connection to the broker as the mqtt actor sees it.

use crate::clock::wall_now;
use crate::domain::{Timestamp, word_enum};

use super::cell::StatusCell;

word_enum! {
    /// State of the connection. The word is the API's.
    #[derive(Default)]
    pub enum BrokerState {
        /// The first attempt is running.
        #[default]
        Connecting = "connecting",
        /// Connected, and every subscription granted.
        Connected = "connected",
        /// Connected, but the broker refused a subscription; Andon requests it again.
        Restricted = "restricted",
        /// Not connected; Andon keeps trying.
        Away = "away",
        /// Disconnected on purpose: the journal is full, and the broker keeps the messages.
        Holding = "holding",
    }
}

/// The connection at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerStatus {
    /// Its state.
    pub state: BrokerState,
    /// Start of the state; `None` before the first one is reported.
    pub since: Option<Timestamp>,
    /// Why it is not connected, for people.
    pub reason: Option<String>,
    /// The broker's address. Contains no secret.
    pub uri: String,
    /// Client id of our session.
    pub client_id: String,
    /// `5` or `3.1.1`, of the newest connection.
    pub protocol: Option<&'static str>,
    /// True if the broker had kept our session at the newest connection.
    pub session_present: Option<bool>,
    /// Connections since the process started.
    pub connects: u64,
}

/// Written by the mqtt actor, read by any thread.
pub type BrokerCell = StatusCell<BrokerStatus>;

impl BrokerCell {
    /// Enters `state` because of `reason`. Keeps the start while the state stays the same.
    pub fn enter(&self, state: BrokerState, reason: Option<&str>, uri: String) {
        let known = self.snapshot();
        let since = if known.state == state { known.since } else { None };
        self.write(BrokerStatus {
            state,
            since: Some(since.unwrap_or_else(wall_now)),
            reason: reason.map(str::to_owned),
            uri,
            ..(*known).clone()
        });
    }

    /// Records a new connection.
    pub fn connected(&self, uri: String, client_id: &str, protocol: &'static str, session_present: bool) {
        let known = self.snapshot();
        self.write(BrokerStatus {
            state: BrokerState::Connected,
            since: Some(wall_now()),
            reason: None,
            uri,
            client_id: client_id.to_owned(),
            protocol: Some(protocol),
            session_present: Some(session_present),
            connects: known.connects + 1,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_kept_while_the_state_stays_and_connections_are_counted() {
        let cell = BrokerCell::default();
        let uri = || "tcp://broker:1883".to_owned();
        cell.enter(BrokerState::Away, Some("refused"), uri());
        let away = cell.snapshot();
        while wall_now() == away.since.unwrap() {}
        cell.enter(BrokerState::Away, Some("no answer"), uri());
        let still_away = cell.snapshot();
        assert_eq!((still_away.since, still_away.reason.as_deref()), (away.since, Some("no answer")));
        for connects in 1..=2 {
            cell.connected(uri(), "andon-test", "5", true);
            let up = cell.snapshot();
            assert_eq!(
                (up.state, up.connects, up.reason.as_deref()),
                (BrokerState::Connected, connects, None)
            );
            assert!(up.since > away.since);
        }
        cell.enter(BrokerState::Away, Some("refused"), uri());
        let again = cell.snapshot();
        assert!(again.since > away.since, "another outage");
        assert_eq!((again.connects, again.session_present), (2, Some(true)), "of the newest connection");
    }
}
