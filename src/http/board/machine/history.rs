//! How the history of a machine looks: charts, figures, changes.

use std::time::Duration;

use chrono_tz::Tz;
use maud::{Markup, PreEscaped, html};

use super::blind_spans;
use super::numbers::{date_and_time, number, reason_in_words};
use super::query::{Past, Series};
use super::span::Lookback;
use super::view::Content;
use crate::domain::LinkOutage;
use crate::http::board::charts::{Chart, Point, Shape, coarser};
use crate::store::Aggregate;

/// Changes that are listed; the band shows all that were read.
const EVENTS_LISTED: usize = 50;

/// Everything below the present state.
pub fn past(past: &Past, content: &Content<'_>) -> Markup {
    let zone = content.question.zone;
    html! {
        @if past.series.iter().all(|series| series.points.is_empty()) {
            p.empty { "No measurement in the last " (content.question.lookback.in_words()) "." }
        }
        @for series in past.series.iter().filter(|series| !series.points.is_empty()) {
            (chart(past, series, content))
        }
        @if !past.series.is_empty() { (legend(past, zone)) (figures(past)) }
        (events(past, zone))
        @if !content.outages.is_empty() { (unseen(content.outages, zone)) }
    }
}

fn chart(past: &Past, series: &Series, content: &Content<'_>) -> Markup {
    let question = content.question;
    let chart = Chart {
        from: past.from,
        to: past.to,
        bucket: Duration::from_secs(question.lookback.bucket_seconds().into()),
        points: &series.points,
        spans: &past.band,
        zone: &question.zone,
    };
    let whole = coarser(&series.points, Duration::from_secs(u64::MAX / 2_000_000));
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
                div.(class) role="img" aria-label={ "Chart of " (measurement.name()) " over " (question.lookback.in_words()) "; the table below says the same in numbers" } {
                    @match chart.svg(shape) {
                        // Made by the chart library of numbers and times alone (invariant CHT-2).
                        Ok(svg) => (PreEscaped(svg)),
                        Err(error) => p { (error) },
                    }
                }
            }
            (table(&series.points, measurement.name(), question.lookback, question.zone))
        }
    }
}

/// The same in numbers, for those who cannot see the chart.
fn table(points: &[Point], name: &str, lookback: Lookback, zone: Tz) -> Markup {
    let rows = coarser(points, Duration::from_secs(lookback.row_seconds().into()));
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

/// What the band under each chart means.
fn legend(past: &Past, zone: Tz) -> Markup {
    html! {
        @if let Some(at) = past.changes_from {
            p.legend.cut {
                "The bar shows the newest " (past.events.len()) " changes. What was before " time datetime=(at) { (date_and_time(at, zone)) }
                " is not shown: it is empty there."
            }
        }
        p.legend {
            "Line: mean. Area: from min to max. Bar below: "
            span.low { "online" } ", " span.half { "unknown" } " (hatched: Andon could not see), " span.high { "offline" } "."
        }
    }
}

fn figures(past: &Past) -> Markup {
    html! {
        section.figures aria-labelledby="figures-title" {
            h2 id="figures-title" { "Min, mean, max" }
            div.scroll tabindex="0" role="region" aria-labelledby="figures-title" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Measurement" }
                            @for window in &past.windows { th scope="col" { (window.name) } }
                        }
                    }
                    tbody {
                        @for series in &past.series {
                            tr {
                                th scope="row" { bdi { (series.measurement.name()) } " " span.unit { (series.measurement.unit()) } }
                                @for figure in &series.figures { td { (figure_of(figure.as_ref())) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn figure_of(figure: Option<&Aggregate>) -> Markup {
    html! {
        @match figure {
            Some(all) => { (number(all.min)) " · " b { (number(all.mean)) } " · " (number(all.max)) },
            None => span.nothing { "no data" },
        }
    }
}

fn events(past: &Past, zone: Tz) -> Markup {
    html! {
        section.events aria-labelledby="events-title" {
            h2 id="events-title" { "Changes" }
            @if past.events.is_empty() {
                p.nothing { "None in this time." }
            } @else {
                ol {
                    @for event in past.events.iter().take(EVENTS_LISTED) {
                        li data-state=(event.status) {
                            span.state { span.mark aria-hidden="true" {} span.word { (if event.status == "online" { "Online" } else { "Offline" }) } }
                            time datetime=(event.key.at) { (date_and_time(event.key.at, zone)) }
                            span.reason { (reason_in_words(&event.reason)) }
                        }
                    }
                }
                @if past.events.len() > EVENTS_LISTED {
                    p.nothing {
                        "and " (past.events.len() - EVENTS_LISTED) " older ones"
                        @if past.changes_from.is_some() { ", and still older ones that were not counted" }
                    }
                }
            }
        }
    }
}

/// The hatched pieces of the band in words.
fn unseen(outages: &[LinkOutage], zone: Tz) -> Markup {
    html! {
        section.events.unseen aria-labelledby="unseen-title" {
            h2 id="unseen-title" { "When Andon could not see" }
            p.nothing { "Whatever the machine did then is unknown; nothing is held against it." }
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
