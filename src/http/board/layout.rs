//! What all pages have in common: the head, the header, and the words and units of machines.
//!
//! Everything that comes from outside goes through maud's escaping; no page holds a script or a style of its own.

use maud::{DOCTYPE, Markup, html};

use super::assets;

/// What a page is told about the installation.
#[derive(Debug, Clone, Copy)]
pub struct Installation<'a> {
    /// `site.id`.
    pub site: &'a str,
    /// IANA name of the site's time zone, such as `Europe/Berlin`.
    pub time_zone: &'a str,
}

/// A whole page; `module` is its script.
pub fn page(installation: Installation<'_>, title: &str, module: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-link="connecting" data-site=(installation.site) data-time-zone=(installation.time_zone) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Andon " (installation.site) }
                link rel="icon" type="image/svg+xml" href=(assets::address("icon.svg"));
                link rel="stylesheet" href=(assets::address("andon.css"));
                script src=(assets::address("theme.js")) {}
                @if let Some(module) = module {
                    script type="module" src=(assets::address(module)) {}
                }
            }
            body { (body) }
        }
    }
}

/// The name of the page, with the way to the board.
pub fn masthead(installation: Installation<'_>) -> Markup {
    html! {
        p.brand {
            a href="/" { "Andon" }
            " "
            bdi.site { (installation.site) }
        }
    }
}

/// The switch between dark and light.
pub fn theme_switch() -> Markup {
    html! {
        button id="theme" type="button" aria-label="Switch between dark and light" { "Dark" }
    }
}

/// The page of an address at which there is nothing.
pub fn nothing_here(installation: Installation<'_>, path: &str) -> Markup {
    let body = html! {
        header.head { (masthead(installation)) (theme_switch()) }
        main.machine {
            section.empty {
                h1 { "There is no such page" }
                p { "There is nothing at " code { bdi { (path) } } "." }
                p { a href="/" { "All machines" } }
            }
        }
    };
    page(installation, "No such page", None, &body)
}

/// The page for when there is no room for another one.
pub fn busy(installation: Installation<'_>) -> Markup {
    let body = html! {
        header.head { (masthead(installation)) (theme_switch()) }
        main.machine {
            section.empty {
                h1 { "Too many pages at a time" }
                p { "Andon sends as much to other screens as it has memory for. Load this page again in a moment." }
                p { a href="/" { "All machines" } }
            }
        }
    };
    page(installation, "Busy", None, &body)
}

/// That the connection to Andon itself is lost; a script says since when, and shows it.
pub fn alarm() -> Markup {
    html! {
        div.alarm id="alarm" role="alert" hidden {
            p id="alarm-text" {}
            p {
                "What you see below is old. Check that Andon runs and that this screen reaches it; then this goes away by itself."
            }
        }
    }
}

/// What keeps Andon from seeing or storing, since when, and what to do; empty until a script fills it.
pub fn trouble() -> Markup {
    html! {
        div.alarm.trouble id="trouble" role="alert" hidden {}
    }
}

/// A mark and a word for a state, empty until a script fills them.
pub fn state_to_fill() -> Markup {
    html! {
        span.state { span.mark aria-hidden="true" {} span.word {} }
    }
}
