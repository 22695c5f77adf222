//! Renders the history of a machine: charts, statistics, changes.

use std::time::Duration;

use chrono_tz::Tz;
use maud::{Markup, PreEscaped, html};

use super::blind_spans;
use super::numbers::{date_and_time, number, reason_in_words};
use super::query::{MachineHistory, Series};
use super::span::Lookback;
use super::view::Content;
use crate::domain::LinkOutage;
use crate::http::board::charts::{Chart, Point, Shape, merge_into_buckets};
use crate::store::Aggregate;

/// Most changes listed. The timeline shows all that were read.
const EVENTS_LISTED: usize = 50;

/// Renders everything below the current state.
pub fn history(history: &MachineHistory, content: &Content<'_>) -> Markup {
    let zone = content.request.zone;
    html! {
        @if history.series.iter().all(|series| series.points.is_empty()) {
            p.empty { "No measurement in the last " (content.request.lookback.in_words()) "." }
        }
        @for series in history.series.iter().filter(|series| !series.points.is_empty()) {
            (chart(history, series, content))
        }
        @if !history.series.is_empty() { (legend(history, zone)) (statistics(history)) }
        (events(history, zone))
        @if !content.outages.is_empty() { (unseen(content.outages, zone)) }
    }
}

fn chart(history: &MachineHistory, series: &Series, content: &Content<'_>) -> Markup {
    let request = content.request;
    let chart = Chart {
        from: history.from,
        to: history.to,
        bucket: Duration::from_secs(request.lookback.bucket_seconds().into()),
        points: &series.points,
        spans: &history.timeline,
        zone: &request.zone,
    };
    let whole = merge_into_buckets(&series.points, Duration::from_secs(u64::MAX / 2_000_000));
    let measurement = &series.measurement;
    html! {
        figure.chart.(measurement.class()) {
            figcaption {
                h2 { bdi { (measurement.name()) } @if !measurement.unit().is_empty() { " " span.unit { (measurement.unit()) } } }
                @if let Some(all) = whole.first() {
                    p { "min " b { (number(all.min)) } "  mean " b { (number(all.mean)) } "  max " b { (number(all.max)) } }
                }
            }
            @for (shape, class) in [(Shape::WIDE, "wide"), (Shape::NARROW, "narrow")] {
                div.(class) role="img" aria-label={ "Chart of " (measurement.name()) " over " (request.lookback.in_words()) "; the table below has the same numbers" } {
                    @match chart.svg(shape) {
                        // Contains only numbers and times (CHT-2).
                        Ok(svg) => (PreEscaped(svg)),
                        Err(error) => p { (error) },
                    }
                }
            }
            (table(&series.points, measurement.name(), request.lookback, request.zone))
        }
    }
}

/// Renders the chart's numbers as a table, for people who cannot see the chart.
fn table(points: &[Point], name: &str, lookback: Lookback, zone: Tz) -> Markup {
    let rows = merge_into_buckets(points, Duration::from_secs(lookback.row_seconds().into()));
    html! {
        details {
            summary { "As a table" }
            div.scroll tabindex="0" role="region" aria-label={ "Values of " (name) } {
                table {
                    thead { tr { th scope="col" { "From" } th scope="col" { "Min" } th scope="col" { "Mean" } th scope="col" { "Max" } th scope="col" { "Values" } } }
                    tbody {
                        @for row in rows.iter().rev() {
                            tr {
                                th scope="row" { (date_and_time(row.at, zone)) }
                                td { (number(row.min)) } td { (number(row.mean)) } td { (number(row.max)) } td { (row.count) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Renders the legend of the charts and the timeline.
fn legend(history: &MachineHistory, zone: Tz) -> Markup {
    html! {
        @if let Some(at) = history.changes_from {
            p.legend.cut {
                "The bar shows the newest " (history.events.len()) " changes. It is empty before " time datetime=(at) { (date_and_time(at, zone)) }
                ", because older changes are not loaded."
            }
        }
        p.legend {
            "Line: mean. Area: from min to max. Bar below: "
            span.low { "online" } ", " span.half { "unknown" } " (hatched: Andon could not see the machine), " span.high { "offline" } "."
        }
    }
}

fn statistics(history: &MachineHistory) -> Markup {
    html! {
        section.figures aria-labelledby="figures-title" {
            h2 id="figures-title" { "Min, mean, max" }
            div.scroll tabindex="0" role="region" aria-labelledby="figures-title" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Measurement" }
                            @for window in &history.windows { th scope="col" { (window.name) } }
                        }
                    }
                    tbody {
                        @for series in &history.series {
                            tr {
                                th scope="row" { bdi { (series.measurement.name()) } " " span.unit { (series.measurement.unit()) } }
                                @for window in &series.statistics { td { (cell(window.as_ref())) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn cell(statistics: Option<&Aggregate>) -> Markup {
    html! {
        @match statistics {
            Some(all) => { (number(all.min)) " · " b { (number(all.mean)) } " · " (number(all.max)) },
            None => span.nothing { "no data" },
        }
    }
}

fn events(history: &MachineHistory, zone: Tz) -> Markup {
    html! {
        section.events aria-labelledby="events-title" {
            h2 id="events-title" { "Changes" }
            @if history.events.is_empty() {
                p.nothing { "None in this period." }
            } @else {
                ol {
                    @for event in history.events.iter().take(EVENTS_LISTED) {
                        li data-state=(event.status) {
                            span.state { span.mark aria-hidden="true" {} span.word { (if event.status == "online" { "Online" } else { "Offline" }) } }
                            time datetime=(event.key.at) { (date_and_time(event.key.at, zone)) }
                            span.reason { (reason_in_words(&event.reason)) }
                        }
                    }
                }
                @if history.events.len() > EVENTS_LISTED {
                    p.nothing {
                        "and " (history.events.len() - EVENTS_LISTED) " older ones"
                        @if history.changes_from.is_some() { ", and more that are not loaded" }
                    }
                }
            }
        }
    }
}

/// Renders the hatched periods of the timeline in words.
fn unseen(outages: &[LinkOutage], zone: Tz) -> Markup {
    html! {
        section.events.unseen aria-labelledby="unseen-title" {
            h2 id="unseen-title" { "When Andon could not see the machine" }
            p.nothing { "Andon does not know what the machine did then, and does not count it as offline." }
            ol {
                @for outage in outages.iter().rev().take(EVENTS_LISTED) {
                    li data-state="unknown" {
                        span.state { span.mark aria-hidden="true" {} span.word { "Unknown" } }
                        span {
                            time datetime=(outage.began_at) { (date_and_time(outage.began_at, zone)) }
                            " to "
                            @match outage.ended_at {
                                Some(at) => time datetime=(at) { (date_and_time(at, zone)) },
                                None => "now",
                            }
                        }
                        span.reason { (blind_spans::reason_in_words(outage.reason)) }
                    }
                }
            }
            @if outages.len() > EVENTS_LISTED { p.nothing { "and " (outages.len() - EVENTS_LISTED) " older ones" } }
        }
    }
}
