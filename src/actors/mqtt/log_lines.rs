//! Writes the session's lines to the log.

use slog::{info, kv, warn};

use super::actor::Mqtt;
use super::effects::protocol_name;
use super::session::{FilterLine, Line, Trouble};
use crate::domain::Endpoint;

impl Mqtt {
    /// Writes a line about the broker at `endpoint`.
    pub(super) fn log(&self, line: Line, endpoint: &Endpoint) {
        let (client_id, backoff_max_s) = (&self.options.link.client_id, self.options.backoff_max.as_secs());
        match line {
            Line::NotConnecting => {
                warn!(self.logger, "the journal is full: not connecting, the broker keeps the messages");
            }
            Line::LeavingForRoom(reason) => {
                warn!(self.logger, "the journal is full: leaving the broker, which keeps the messages until there is room";
                    "reason" => reason);
            }
            Line::RoomAgain => info!(self.logger, "the journal has room again, connecting"),
            Line::Trouble { trouble, reason } => self.log_trouble(trouble, &reason, endpoint),
            Line::V5Refused => {
                info!(self.logger, "the broker refuses MQTT 5: continuing with 3.1.1"; "uri" => self.uri(endpoint));
            }
            Line::V5Unanswered { reason } => {
                info!(self.logger, "continuing with MQTT 3.1.1"; "uri" => self.uri(endpoint), "reason" => reason);
            }
            Line::Connected { v5, session_present } => {
                info!(self.logger, "connected to the broker"; "uri" => self.uri(endpoint), "protocol" => protocol_name(v5),
                    "client_id" => client_id, "session_present" => session_present,
                    "subscriptions" => self.options.subscriptions.len());
            }
            Line::SessionForgotten => {
                warn!(
                    self.logger,
                    "the broker has forgotten Andon's session: the messages it kept for Andon are lost; check \
                     its persistence and session expiry"
                );
            }
            Line::TakenOver { broker_says_so } => {
                warn!(self.logger, "another client keeps taking over Andon's session: is mqtt.client_id used \
                    twice? Messages go to the client that is connected; trying again at longer intervals, and \
                    logging when it is over";
                    "client_id" => client_id, "broker_says_so" => broker_says_so, "backoff_max_s" => backoff_max_s);
            }
            Line::NotTakenOver => info!(self.logger, "no other client takes over the session any more"),
            Line::Filters(line) => self.log_filters(line, endpoint),
        }
    }

    fn log_trouble(&self, trouble: Trouble, reason: &str, endpoint: &Endpoint) {
        let (client_id, backoff_max_s) = (&self.options.link.client_id, self.options.backoff_max.as_secs());
        let details = kv!("uri" => self.uri(endpoint), "client_id" => client_id, "reason" => reason,
            "backoff_max_s" => backoff_max_s);
        match trouble {
            Trouble::NotConnected => {
                warn!(self.logger, "no connection to the broker, trying again until it works"; details);
            }
            Trouble::LinkDown => {
                warn!(self.logger, "the link to the broker is down, trying again until it works"; details);
            }
            Trouble::FilterRefused => {
                warn!(self.logger, "a subscription was refused: the machines that come through it cannot be seen, \
                    trying again until it works"; details);
            }
        }
    }

    fn log_filters(&self, line: FilterLine, endpoint: &Endpoint) {
        match line {
            FilterLine::Lowered { filter, asked, granted } => {
                // With 3.1.1 the client library would lose a QoS 2 message if the process were killed between
                // PUBREC and PUBREL, so we ask for 1 ourselves; see `Link::granted_at_most`.
                warn!(self.logger, "a subscription was granted a lower QoS than configured; with QoS 0, \
                    messages are lost while Andon is away";
                    "filter" => filter.as_str(), "asked" => asked.as_u8(), "granted" => granted.as_u8());
            }
            FilterLine::Unsubscribed(filter) => {
                info!(self.logger, "unsubscribed from a filter that is no longer configured"; "filter" => filter.as_str());
            }
            FilterLine::StillSubscribed(reason) => {
                warn!(self.logger, "the session keeps a filter that is no longer configured: its messages \
                    still arrive; trying again at the next connect"; "reason" => reason);
            }
            FilterLine::FileFailed(reason) => {
                warn!(self.logger, "the file of subscribed filters cannot be read or written: Andon will not \
                    unsubscribe from filters that are removed from the configuration";
                    "path" => %self.options.filter_file.path().display(), "reason" => reason);
            }
            FilterLine::AllGranted => {
                info!(self.logger, "every subscription is granted now"; "uri" => self.uri(endpoint));
            }
        }
    }
}
