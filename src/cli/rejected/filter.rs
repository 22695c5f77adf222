//! Which rejected messages to take: options that `list` and `retry` share.

use crate::cli::arguments::{duration, instant};
use crate::clock::wall_now;
use crate::domain::{RejectReason, Timestamp, TopicFilter};
use crate::store::RejectedFilter;

#[derive(Debug, Clone, Default, clap::Args)]
pub(in crate::cli) struct Filter {
    /// Only those with this reason, such as invalid_json
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Option<String>,
    /// Only those whose topic this MQTT topic filter matches
    #[arg(long, value_name = "FILTER", value_parser = topic_filter)]
    topic: Option<TopicFilter>,
    /// Only those received within this time, such as 24h
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["from", "to"])]
    since: Option<std::time::Duration>,
    /// Only those received at this UTC instant or later, such as 2026-11-22 or 2026-11-22T10:00:00Z
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    from: Option<Timestamp>,
    /// Only those received before this instant
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    to: Option<Timestamp>,
}

impl Filter {
    /// True if nothing is filtered out.
    pub fn is_empty(&self) -> bool {
        self.topic.is_none() && self.store_filter() == RejectedFilter::default()
    }

    /// Says for the audit log which messages are meant; `None`: all.
    pub fn words(&self) -> Option<String> {
        let RejectedFilter { reason, from, to } = self.store_filter();
        let parts = [
            reason.map(|reason| format!("reason {reason}")),
            self.topic.as_ref().map(|topic| format!("topic {:?}", topic.as_str())),
            from.map(|from| format!("from {from}")),
            to.map(|to| format!("to {to}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Returns the part that the database evaluates.
    pub fn store_filter(&self) -> RejectedFilter {
        let since = self.since.map(|time| wall_now().minus(time));
        RejectedFilter { reason: self.reason.clone(), from: since.or(self.from), to: self.to }
    }

    /// Evaluates the remaining part.
    pub fn matches_topic(&self, topic: &str) -> bool {
        self.topic.as_ref().is_none_or(|filter| filter.matches(topic))
    }
}

fn reason(text: &str) -> Result<String, String> {
    let known = RejectReason::ALL.map(RejectReason::as_str);
    if known.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected one of {}", known.join(", ")))
    }
}

fn topic_filter(text: &str) -> Result<TopicFilter, String> {
    TopicFilter::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_reason_is_refused_with_the_known_ones() {
        assert_eq!(reason("too_large").as_deref(), Ok("too_large"));
        assert!(reason("huge").unwrap_err().contains("invalid_json"));
    }
}
