//! Renders the page of a machine.

use maud::{Markup, html};

use super::numbers::{date_and_time, number as in_digits, word};
use super::query::{MachineHistory, PageRequest, members, number};
use super::span::Lookback;
use super::{address, encoded, history_view};
use crate::domain::{DisplayStatus, LinkOutage, MachineId, Timestamp, TransitionReason, duration_text};
use crate::http::HistoryError;
use crate::http::board::layout::{
    Installation, connection_banner, masthead, page, theme_switch, trouble_banner,
};
use crate::status::MachineView;
use crate::store::StoredReading;

/// Most `extra` fields that are shown.
const OTHERS_MAX: usize = 12;
/// Most characters of each.
const OTHER_CHARS_MAX: usize = 80;

/// The only field of an `extra` that was replaced by its size.
const SIZE_FIELD: &str = "_bytes";

/// Everything that the page shows.
pub struct Content<'a> {
    /// The machine.
    pub machine_id: &'a MachineId,
    /// Its status; `None` if it is not watched, or not known yet.
    pub machine: Option<&'a MachineView>,
    /// Its history, or why it cannot be read.
    pub history: Result<&'a MachineHistory, &'a HistoryError>,
    /// Our own outages, oldest first.
    pub outages: &'a [LinkOutage],
    /// What was requested.
    pub request: &'a PageRequest,
}

/// Renders the page.
pub fn machine(installation: Installation<'_>, content: &Content<'_>) -> Markup {
    let status = content.machine.map_or(DisplayStatus::Unknown, |machine| machine.status);
    let body = html! {
        a.skip href="#history" { "Skip to the charts" }
        header.head {
            (masthead(installation))
            nav aria-label="Pages" { a href="/" { "← All machines" } }
            (theme_switch())
        }
        (connection_banner())
        (trouble_banner())
        main.machine id="machine" data-machine=(content.machine_id) {
            (now(content, status))
            (ranges(content))
            section id="history" aria-label="History" tabindex="-1" {
                @match content.history {
                    Ok(loaded) => (history_view::history(loaded, content)),
                    Err(error) => (unreadable(error)),
                }
            }
        }
        div.only-spoken id="spoken" aria-live="polite" {}
    };
    page(installation, content.machine_id.as_str(), Some("machine.js"), &body)
}

/// Renders the page for an unknown machine.
pub fn not_found(installation: Installation<'_>, id: &str) -> Markup {
    let body = html! {
        header.head { (masthead(installation)) (theme_switch()) }
        main.machine {
            section.empty {
                h1 { "No such machine" }
                p { "No machine named " bdi { (id) } " has ever sent a message, and the configuration does not expect one." }
                p { a href="/" { "All machines" } }
            }
        }
    };
    page(installation, "No such machine", None, &body)
}

fn now(content: &Content<'_>, status: DisplayStatus) -> Markup {
    let time = |at: Timestamp| {
        html! { time datetime=(at) { (date_and_time(at, content.request.zone)) } }
    };
    let seen = content.machine;
    let latest = content.history.ok().and_then(|history| history.latest.as_ref());
    html! {
        section.now id="now" data-state=(status.as_str()) aria-label="Now" {
            h1 { bdi dir="auto" { (content.machine_id) } }
            p.state id="state" { span.mark aria-hidden="true" {} span.word { (word(status)) } }
            p.flapping id="flapping" hidden[!seen.is_some_and(|machine| machine.flapping)] { "Flapping" }
            p.note id="refused" hidden[!seen.is_some_and(|machine| machine.refused)] {
                "Andon cannot see this machine: the broker refuses the subscription that covers it, or may cover it."
            }
            dl.facts {
                div { dt id="since-what" { (since_what(seen)) } dd id="since" {
                    @match seen.and_then(|machine| machine.status_since) { Some(at) => (time(at)), None => "–" }
                } }
                div { dt { "Last heard" } dd id="heard" {
                    @match seen.and_then(|machine| machine.last_seen_at) { Some(at) => (time(at)), None => "–" }
                } }
                @if let Some(machine) = seen {
                    div { dt { "Offline after" } dd { (duration_text::exact(machine.offline_after)) " of silence" } }
                    @if let Some(at) = machine.first_seen_at { div { dt { "First heard" } dd { (time(at)) } } }
                }
            }
            dl.latest id="latest" { @if let Some(reading) = latest { (values(reading)) } }
        }
    }
}

/// Returns the label of the time shown below it: the start of the status, or, for an unknown machine, of its last known
/// one.
fn since_what(machine: Option<&MachineView>) -> &'static str {
    use TransitionReason::{FirstSeen, LastWill, Message, NeverSeen, Silence};
    let unknown = machine.filter(|machine| machine.status == DisplayStatus::Unknown);
    match unknown.and_then(|machine| machine.reason) {
        None => "Since",
        Some(FirstSeen | Message) => "Was online since",
        Some(Silence | LastWill | NeverSeen) => "Was offline since",
    }
}

/// Renders the newest reading: the usual measurements, then the other fields.
fn values(stored: &StoredReading) -> Markup {
    let reading = &stored.reading;
    let usual = [
        ("temperature", "Temperature", reading.temperature, "°C"),
        ("humidity", "Humidity", reading.humidity, "%"),
        ("vibration", "Vibration", reading.vibration, "mm/s"),
    ];
    let mut others = members(reading.extra.as_deref().unwrap_or("{}"));
    let too_large = if others.len() == 1 { others.remove(SIZE_FIELD) } else { None };
    html! {
        @for (name, label, value, unit) in usual {
            @if let Some(value) = value {
                div data-value=(name) { dt { (label) } dd { b { (in_digits(value)) } " " (unit) } }
            }
        }
        @if let Some(bytes) = too_large {
            div { dt { "Further fields" } dd { (bytes.get()) " bytes; read them with the API" } }
        }
        @for (name, value) in others.iter().take(OTHERS_MAX) {
            div {
                dt { bdi { (name) } }
                dd {
                    @match number(value) {
                        Some(value) => b { (in_digits(value)) },
                        None => bdi { (shortened(value.get())) },
                    }
                }
            }
        }
    }
}

fn shortened(text: &str) -> String {
    let text = text.trim_matches('"');
    let mut short: String = text.chars().take(OTHER_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn ranges(content: &Content<'_>) -> Markup {
    let here = content.request;
    let csv = format!(
        "/api/v1/machines/{}/readings?format=csv&from={}&to={}",
        encoded(content.machine_id),
        here.now.minus(here.lookback.length()),
        here.now
    );
    html! {
        nav.ranges aria-label="Time shown" {
            @for lookback in Lookback::ALL {
                a href={ (address(content.machine_id)) "?range=" (lookback.as_str()) }
                    aria-current=[(lookback == here.lookback).then_some("page")] { (lookback.in_words()) }
            }
            a.download href=(csv) download { "Download as CSV" }
        }
    }
}

/// Renders the notice that history cannot be read. The banner says whether data is lost: it knows journal and broker.
fn unreadable(error: &HistoryError) -> Markup {
    let why = match error {
        HistoryError::Away => "The database is away.".to_owned(),
        other => sentence(&other.to_string()),
    };
    html! {
        div.empty role="status" {
            h2 { "History cannot be read at present" }
            p { (why) " This page tries again every 30 seconds." }
        }
    }
}

/// Returns the text with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str().trim_end_matches('.'))
}
