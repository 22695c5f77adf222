//! The board `/`: a frame that its scripts fill. It contains no state, so it loads whatever else has failed (BRD-3).

use maud::{Markup, html};

use super::layout::{
    Installation, connection_banner, masthead, page, state_placeholder, theme_switch, trouble_banner,
};

/// The counts, which are also filters: the value and its label.
const FILTERS: [(&str, &str); 6] = [
    ("", "All"),
    ("offline", "Offline"),
    ("never_seen", "Never seen"),
    ("unknown", "Unknown"),
    ("online", "Online"),
    ("flapping", "Flapping"),
];

/// The parts of Andon's health, and their labels.
const PARTS: [(&str, &str); 4] =
    [("broker", "Broker"), ("database", "Database"), ("journal", "Journal"), ("actors", "Parts")];

/// Renders the page.
pub fn overview(installation: Installation<'_>, topics: &[String]) -> Markup {
    let body = html! {
        a.skip href="#machines" { "Skip to the machines" }
        (header(installation))
        (connection_banner())
        (trouble_banner())
        noscript { p.alarm { "The board needs JavaScript. The state of the machines is also at /api/v1/machines." } }
        div.floor {
            main id="machines" tabindex="-1" {
                h1.only-spoken { "Machines of " (installation.site) }
                (tools())
                ul.tiles id="tiles" data-size="full" {}
                p.more id="more" hidden {}
                p.more id="none" hidden { "No machine matches. Escape in the search field clears it." }
                (empty(topics))
            }
            aside.changes aria-labelledby="changes-title" {
                h2 id="changes-title" { "Newest changes" }
                p.small.nothing id="no-changes" {}
                ol id="changes" {}
            }
        }
        div.only-spoken id="spoken" aria-live="polite" {}
        (templates())
    };
    page(installation, "Board", Some("board.js"), &body)
}

fn header(installation: Installation<'_>) -> Markup {
    html! {
        header.head {
            (masthead(installation))
            p.verdict id="verdict" data-state="unknown" {
                span.mark aria-hidden="true" {}
                span.word { "Connecting…" }
            }
            section.health id="health" aria-label="Andon's own state" {
                @for (part, word) in PARTS {
                    dl data-part=(part) data-state="unknown" {
                        span.mark aria-hidden="true" {}
                        dt { (word) }
                        dd { "not known" }
                    }
                }
            }
            p.clock id="clock" aria-hidden="true" {}
            (theme_switch())
        }
    }
}

fn tools() -> Markup {
    html! {
        search.tools {
            fieldset.counts id="counts" {
                legend.only-spoken { "Show only" }
                @for (filter, word) in FILTERS {
                    button type="button" data-filter=(filter) data-state=(filter) aria-pressed="false" {
                        @if !filter.is_empty() && filter != "flapping" { span.mark aria-hidden="true" {} }
                        span { (word) }
                        b { "0" }
                    }
                }
            }
            div.right {
                span.shown id="shown" role="status" {}
                label {
                    "Curve "
                    select id="measurement" {
                        option value="temperature" { "Temperature" }
                        option value="humidity" { "Humidity" }
                        option value="vibration" { "Vibration" }
                    }
                }
                input id="search" type="search" placeholder="Find a machine  ( / )" aria-label="Find a machine"
                    autocomplete="off" spellcheck="false" maxlength="100";
            }
        }
    }
}

fn empty(topics: &[String]) -> Markup {
    html! {
        section.empty id="empty" hidden {
            h2 { "No machine yet" }
            p { "A machine appears here with its first message. If you expect machines, check:" }
            ol {
                li { "Is the broker connected? See the line above." }
                li {
                    "Do the machines publish to a topic that Andon subscribes to? It subscribes to "
                    @for (index, topic) in topics.iter().enumerate() {
                        @if index > 0 { ", " }
                        code { bdi { (topic) } }
                    }
                    "."
                }
                li {
                    "May Andon read that topic? Mosquitto grants a subscription that its access list forbids, and then "
                    "delivers nothing."
                }
                li { "Does Andon reject the messages? " code { "andon rejected list" } " lists them with the reason." }
                li {
                    "Send a test message: " code {
                        "mosquitto_pub -h " i { "broker" } " -t '" (example_topic(topics)) "' -m '{\"temperature\": 21.5}'"
                    }
                }
            }
        }
    }
}

/// Returns a topic that Andon subscribes to, for a machine named `test-1`.
fn example_topic(topics: &[String]) -> String {
    let filter = topics.first().map_or("factory/machine/+/telemetry", String::as_str);
    filter.replace('+', "test-1").replace('#', "test-1/telemetry")
}

/// Renders the templates that the scripts copy.
fn templates() -> Markup {
    html! {
        template id="tile" {
            li {
                a.tile data-state="unknown" {
                    div.top { (state_placeholder()) }
                    bdi.only-spoken {}
                }
            }
        }
        template id="tile-inside" {
            div.top {
                span.flapping hidden { "Flapping" }
                span.since {}
            }
            bdi.name dir="auto" aria-hidden="true" {}
            div.body {
                div.values {}
                div.note {}
                div.extras {}
                svg viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true" { path d="" {} }
            }
        }
        template id="change" {
            li {
                div.line { (state_placeholder()) a dir="auto" {} }
                div.small { span.reason {} time {} }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_called_board_until_a_script_knows_more() {
        let installation = Installation { site: "hall-3", time_zone: "UTC" };
        let page = overview(installation, &[]).into_string();
        assert!(page.contains("<title>Board · Andon hall-3</title>"), "{page}");
    }

    #[test]
    fn the_example_topic_matches_the_subscription() {
        let example = |filter: &str| example_topic(&[filter.to_owned()]);
        assert_eq!(example("plant/+/t"), "plant/test-1/t");
        assert_eq!(example("plant/#"), "plant/test-1/telemetry");
        assert_eq!(example_topic(&[]), "factory/machine/test-1/telemetry");
    }
}
