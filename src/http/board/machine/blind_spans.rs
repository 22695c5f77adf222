//! Periods in which Andon could not see the machines: our own outages, for the status timeline and in words.

use super::query::{MachineHistory, PageRequest};
use super::status_timeline::{Change, overlaid, recorded, timeline, unseen};
use crate::domain::{DisplayStatus, LinkOutage, OutageReason, Timestamp};
use crate::http::board::charts::Span;
use crate::http::{HistoryClient, HistoryError};
use crate::status::MachineView;
use crate::store::{Events, EventsQuery};

/// Adds the periods in which Andon could not see to the timeline of `history`. Returns the outages, oldest first.
///
/// # Errors
/// [`HistoryError`] if a query fails.
pub async fn add_outages(
    client: &HistoryClient,
    request: &PageRequest,
    machine: Option<&MachineView>,
    history: &mut MachineHistory,
) -> Result<Vec<LinkOutage>, HistoryError> {
    let (from, to) = (history.from, history.to);
    let outages = client.ask(move |history| history.outages(from, to)).await?;
    let unknown = machine.filter(|machine| machine.status == DisplayStatus::Unknown);
    let mut spans = std::mem::take(&mut history.timeline);
    if unknown.is_some() && history.events.is_empty() {
        spans = state_before(client, request, from, to).await?;
    }
    let newest_change = history.events.first().map(|event| event.key.at);
    let known_until = unknown
        .map(|machine| machine.last_seen_at.max(newest_change).map_or(from, |at| at.max(from).min(to)));
    if let (true, Some(from)) = (spans.is_empty(), known_until) {
        spans.push(Span { from, to, status: DisplayStatus::Unknown });
    }
    history.timeline = overlaid(spans, &unseen(&outages, to, known_until));
    Ok(outages)
}

/// Returns the state recorded last before `from`, which continues if nothing has changed since.
async fn state_before(
    client: &HistoryClient,
    request: &PageRequest,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Span>, HistoryError> {
    let query = EventsQuery { machine_id: Some(request.machine_id.clone()), which: Events::ALL, limit: 1 };
    let events = client.ask(move |history| history.events(&query)).await?;
    let last = events.first().map(|event| (recorded(event.status == "online"), event.key.at));
    const NO_CHANGES: &[Change] = &[];
    Ok(timeline(NO_CHANGES, from, to, last))
}

/// Describes why Andon could not see.
pub const fn reason_in_words(reason: OutageReason) -> &'static str {
    match reason {
        OutageReason::LinkDown => "no connection to the broker",
        OutageReason::FilterRefused => "the broker refused a subscription",
        OutageReason::Hold => "the journal was full",
        OutageReason::Stopped => "Andon was stopped",
        OutageReason::Start => "Andon had stopped unexpectedly",
    }
}
