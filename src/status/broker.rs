//! The link to the broker as the mqtt actor sees it.

use crate::clock::wall_now;
use crate::domain::Timestamp;

use super::cell::StatusCell;

/// How the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BrokerState {
    /// The first attempt is under way.
    #[default]
    Connecting,
    /// Connected, and every subscription granted.
    Connected,
    /// Connected, but a subscription was refused; it is asked for again.
    Restricted,
    /// Not connected; attempts go on.
    Away,
    /// Not connected on purpose: the journal is full, and the broker keeps the messages.
    Holding,
}

impl BrokerState {
    /// Every state, for metrics.
    pub const ALL: [Self; 5] =
        [Self::Connecting, Self::Connected, Self::Restricted, Self::Away, Self::Holding];

    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Restricted => "restricted",
            Self::Away => "away",
            Self::Holding => "holding",
        }
    }
}

/// The link at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerStatus {
    /// How it is.
    pub state: BrokerState,
    /// Since when; `None` before the first news.
    pub since: Option<Timestamp>,
    /// Why it is not connected, in words for a person.
    pub reason: Option<String>,
    /// Where the broker is; holds no secret.
    pub uri: String,
    /// Names our session there.
    pub client_id: String,
    /// `5` or `3.1.1`, of the newest connection.
    pub protocol: Option<&'static str>,
    /// The broker knew our session at the newest connection.
    pub session_present: Option<bool>,
    /// Connections since the process started.
    pub connects: u64,
}

/// Written by the mqtt actor, read by anybody.
pub type BrokerCell = StatusCell<BrokerStatus>;

impl BrokerCell {
    /// The link to `uri` is in `state` because of `reason`. Since when is kept while the state does not change.
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

    /// The link is up.
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
    fn since_when_is_kept_while_the_state_stays_and_connections_are_counted() {
        let board = BrokerCell::default();
        let uri = || "tcp://broker:1883".to_owned();
        board.enter(BrokerState::Away, Some("refused"), uri());
        let away = board.snapshot();
        while wall_now() == away.since.unwrap() {}
        board.enter(BrokerState::Away, Some("no answer"), uri());
        let still_away = board.snapshot();
        assert_eq!((still_away.since, still_away.reason.as_deref()), (away.since, Some("no answer")));
        for connects in 1..=2 {
            board.connected(uri(), "andon-test", "5", true);
            let up = board.snapshot();
            assert_eq!(
                (up.state, up.connects, up.reason.as_deref()),
                (BrokerState::Connected, connects, None)
            );
            assert!(up.since > away.since);
        }
        board.enter(BrokerState::Away, Some("refused"), uri());
        let again = board.snapshot();
        assert!(again.since > away.since, "another outage");
        assert_eq!((again.connects, again.session_present), (2, Some(true)), "of the newest connection");
    }
}
