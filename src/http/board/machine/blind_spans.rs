//! When Andon could see: what the database knows of our own outages, for the band and in words.

use super::query::{Past, Question};
use super::status_timeline::{Change, band, overlaid, recorded, unseen};
use crate::domain::{DisplayStatus, LinkOutage, OutageReason, Timestamp};
use crate::http::board::charts::Span;
use crate::http::{HistoryError, HistoryPool};
use crate::status::MachineView;
use crate::store::{Events, EventsQuery};

/// Puts the times in which Andon could not see into the band of `past`. Returns these outages, oldest first.
///
/// # Errors
/// [`HistoryError`], as of every question.
pub async fn look(
    history: &HistoryPool,
    question: &Question,
    machine: Option<&MachineView>,
    past: &mut Past,
) -> Result<Vec<LinkOutage>, HistoryError> {
    let (from, to) = (past.from, past.to);
    let outages = history.ask(move |history| history.outages(from, to)).await?;
    let unknown = machine.filter(|machine| machine.status == DisplayStatus::Unknown);
    let mut spans = std::mem::take(&mut past.band);
    if unknown.is_some() && past.events.is_empty() {
        spans = before(history, question, from, to).await?;
    }
    let newest_change = past.events.first().map(|event| event.key.at);
    let known_until = unknown
        .map(|machine| machine.last_seen_at.max(newest_change).map_or(from, |at| at.max(from).min(to)));
    if let (true, Some(from)) = (spans.is_empty(), known_until) {
        spans.push(Span { from, to, status: DisplayStatus::Unknown });
    }
    past.band = overlaid(spans, &unseen(&outages, to, known_until));
    Ok(outages)
}

/// What was recorded last before `from` holds on, if nothing has changed since.
async fn before(
    history: &HistoryPool,
    question: &Question,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Span>, HistoryError> {
    let query = EventsQuery { machine_id: Some(question.machine_id.clone()), which: Events::ALL, limit: 1 };
    let events = history.ask(move |history| history.events(&query)).await?;
    let last = events.first().map(|event| (recorded(event.status == "online"), event.key.at));
    const NO_CHANGES: &[Change] = &[];
    Ok(band(NO_CHANGES, from, to, last))
}

/// Why Andon could not see, in words.
pub const fn reason_in_words(reason: OutageReason) -> &'static str {
    match reason {
        OutageReason::LinkDown => "no connection to the broker",
        OutageReason::FilterRefused => "the broker refused a subscription",
        OutageReason::Hold => "the journal was full",
        OutageReason::Stopped => "Andon was stopped",
        OutageReason::Start => "Andon had ended unexpectedly",
    }
}
