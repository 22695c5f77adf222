//! What all pages share: head, masthead, banners.
//!
//! Maud escapes everything that comes from outside. No page contains inline scripts or styles.

use maud::{DOCTYPE, Markup, html};

use super::assets;

/// What a page shows of the installation.
#[derive(Debug, Clone, Copy)]
pub struct Installation<'a> {
    /// `site.id`.
    pub site: &'a str,
    /// IANA name of the site's time zone, such as `Europe/Berlin`.
    pub time_zone: &'a str,
}

/// Renders a whole page. `module` is its script.
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

/// Renders the name, which links to the board.
pub fn masthead(installation: Installation<'_>) -> Markup {
    html! {
        p.brand {
            a href="/" { "Andon" }
            " "
            bdi.site { (installation.site) }
        }
    }
}

/// Renders the switch between dark and light.
pub fn theme_switch() -> Markup {
    html! {
        button id="theme" type="button" aria-label="Switch between dark and light" { "Dark" }
    }
}

/// Renders the page for an unknown address.
pub fn not_found(installation: Installation<'_>, path: &str) -> Markup {
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

/// Renders the page for a spent budget.
pub fn busy(installation: Installation<'_>) -> Markup {
    let body = html! {
        header.head { (masthead(installation)) (theme_switch()) }
        main.machine {
            section.empty {
                h1 { "Too many requests at once" }
                p { "Andon is sending as much to other screens as its memory allows. Reload this page in a moment." }
                p { a href="/" { "All machines" } }
            }
        }
    };
    page(installation, "Busy", None, &body)
}

/// Renders the banner for a lost connection to Andon itself. A script adds the time and shows it.
pub fn connection_banner() -> Markup {
    html! {
        div.alarm id="alarm" role="alert" hidden {
            p id="alarm-text" {}
            p {
                "What you see below is old. Check that Andon is running and that this screen can reach it. This message then disappears by itself."
            }
        }
    }
}

/// Renders the banner for what keeps Andon from seeing machines or storing data. A script fills and shows it.
pub fn trouble_banner() -> Markup {
    html! {
        div.alarm.trouble id="trouble" role="alert" hidden {}
    }
}

/// Renders an empty mark and word for a state. A script fills them.
pub fn state_placeholder() -> Markup {
    html! {
        span.state { span.mark aria-hidden="true" {} span.word {} }
    }
}
