//! How the page of a machine looks.

use maud::{Markup, html};

use super::numbers::{date_and_time, number as in_digits, word};
use super::query::{Past, Question, members, number};
use super::span::Lookback;
use super::{address, encoded, history};
use crate::domain::{DisplayStatus, LinkOutage, MachineId, Timestamp, TransitionReason, duration_text};
use crate::http::HistoryError;
use crate::http::board::layout::{Installation, alarm, masthead, page, theme_switch, trouble};
use crate::status::MachineView;
use crate::store::StoredReading;

/// Other fields of `extra` that are shown, and characters of each.
const OTHERS_MAX: usize = 12;
const OTHER_CHARS_MAX: usize = 80;

/// Stands alone in an `extra` that was too large.
const SIZE_FIELD: &str = "_bytes";

/// All that the page shows.
pub struct Content<'a> {
    /// Whose page.
    pub machine_id: &'a MachineId,
    /// As liveness sees it; `None` if it is not watched, or not known yet.
    pub machine: Option<&'a MachineView>,
    /// What the database says.
    pub past: Result<&'a Past, &'a HistoryError>,
    /// When Andon could not see, oldest first.
    pub outages: &'a [LinkOutage],
    /// What was asked.
    pub question: &'a Question,
}

/// The page.
pub fn machine(installation: Installation<'_>, content: &Content<'_>) -> Markup {
    let status = content.machine.map_or(DisplayStatus::Unknown, |machine| machine.status);
    let body = html! {
        a.skip href="#history" { "Skip to the charts" }
        header.head {
            (masthead(installation))
            nav aria-label="Pages" { a href="/" { "← All machines" } }
            (theme_switch())
        }
        (alarm())
        (trouble())
        main.machine id="machine" data-machine=(content.machine_id) {
            (now(content, status))
            (ranges(content))
            section id="history" aria-label="History" tabindex="-1" {
                @match content.past {
                    Ok(known) => (history::past(known, content)),
                    Err(error) => (unreadable(error)),
                }
            }
        }
        div.only-spoken id="spoken" aria-live="polite" {}
    };
    page(installation, content.machine_id.as_str(), Some("detail.js"), &body)
}

/// The page of a machine that nobody has heard of.
pub fn not_found(installation: Installation<'_>, id: &str) -> Markup {
    let body = html! {
        header.head { (masthead(installation)) (theme_switch()) }
        main.machine {
            section.empty {
                h1 { "No such machine" }
                p { "No machine named " bdi { (id) } " has ever spoken here, and the configuration expects none." }
                p { a href="/" { "All machines" } }
            }
        }
    };
    page(installation, "No such machine", None, &body)
}

fn now(content: &Content<'_>, status: DisplayStatus) -> Markup {
    let time = |at: Timestamp| {
        html! { time datetime=(at) { (date_and_time(at, content.question.zone)) } }
    };
    let seen = content.machine;
    let latest = content.past.ok().and_then(|past| past.latest.as_ref());
    html! {
        section.now id="now" data-state=(status.as_str()) aria-label="Now" {
            h1 { bdi dir="auto" { (content.machine_id) } }
            p.state id="state" { span.mark aria-hidden="true" {} span.word { (word(status)) } }
            p.flapping id="flapping" hidden[!seen.is_some_and(|machine| machine.flapping)] { "Flapping" }
            p.note id="refused" hidden[!seen.is_some_and(|machine| machine.refused)] {
                "Not seen: the broker refuses the subscription that this machine comes through, or may come through."
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

/// What began at the time that stands below: the state, or, of a machine that is unknown now, what was recorded last.
fn since_what(machine: Option<&MachineView>) -> &'static str {
    use TransitionReason::{FirstSeen, LastWill, Message, NeverSeen, Silence};
    let unknown = machine.filter(|machine| machine.status == DisplayStatus::Unknown);
    match unknown.and_then(|machine| machine.reason) {
        None => "Since",
        Some(FirstSeen | Message) => "Was online since",
        Some(Silence | LastWill | NeverSeen) => "Was offline since",
    }
}

/// The newest reading: the usual measurements, then whatever else the machine says.
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
            div { dt { "Further fields" } dd { (bytes.get()) " bytes; the API has them" } }
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
    let here = content.question;
    let csv = format!(
        "/api/v1/machines/{}/readings?format=csv&from={}&to={}",
        encoded(content.machine_id),
        Timestamp::from_micros(here.now.as_micros() - here.lookback.length().as_micros() as i64),
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

/// Whether anything is lost, and since when, is for the banner to say: it knows the journal and the broker.
fn unreadable(error: &HistoryError) -> Markup {
    let why = match error {
        HistoryError::Away(_) => "The database is away.".to_owned(),
        other => sentence(&other.to_string()),
    };
    html! {
        div.empty role="status" {
            h2 { "History cannot be read at present" }
            p { (why) " This page looks again every half a minute." }
        }
    }
}

/// The same with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str().trim_end_matches('.'))
}
