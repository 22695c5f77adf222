//! The pages in a real browser, against the real program and a real broker.
//!
//! What holds of every page is checked in every test: nothing on the console, and no request to anybody else.

mod charts;
mod checklist;
mod hostile;
mod live;
mod many;
mod trouble;

use crate::support::andon::{Andon, Site};
use crate::support::mosquitto::Mosquitto;
use crate::support::publisher::Single;
use crate::support::webdriver::Browser;

/// Broker, Andon and browser, and the address of the board.
struct Hall {
    browser: Browser,
    address: String,
    publisher: Single,
    andon: Andon,
    site: Site,
    broker: Mosquitto,
}

impl Hall {
    /// A hall whose machines may be silent for as long as a test takes, unless `settings` say otherwise.
    fn open(settings: &[&str]) -> Self {
        let browser = Browser::start();
        let broker = Mosquitto::start("");
        let mut site =
            Site::new(broker.port()).set("liveness.offline_after=10m").set("site.time_zone=Europe/Berlin");
        for setting in settings {
            site = site.set(setting);
        }
        let mut andon = site.run();
        andon.wait_until_connected();
        // Of a machine that speaks before liveness knows the past, the state is unknown until it speaks again.
        andon.wait_for_log("recovering the machines' states");
        let address = andon.wait_for_http();
        let publisher = Single::connect(broker.port());
        Self { browser, address, publisher, andon, site, broker }
    }

    /// One message of a machine; its id may be anything.
    fn publish(&mut self, machine_id: &str, fields: &str) {
        let id = serde_json::to_string(machine_id).unwrap();
        let comma = if fields.is_empty() { "" } else { "," };
        self.publisher.publish(
            "factory/machine/any/telemetry",
            format!("{{\"machine_id\":{id}{comma}{fields}}}").as_bytes(),
            1,
        );
    }

    fn open_board(&self, query: &str) {
        self.browser.open(&format!("{}/{query}", self.address));
        self.browser.wait_for("document.documentElement.dataset.link === 'live'");
    }

    /// Waits until the tile of a machine shows a state.
    fn wait_for_tile(&self, machine_id: &str, state: &str) {
        self.browser.wait_for(&format!("{}?.dataset.state === '{state}'", tile(machine_id)));
    }

    /// Nothing was written to the console, and nobody else was asked for anything.
    fn assert_quiet(&self) {
        let console = self.browser.console();
        assert!(console.is_empty(), "{console:#?}");
        self.assert_own_requests();
    }

    fn assert_own_requests(&self) {
        let requested = self.browser.requested();
        assert!(!requested.is_empty(), "the log of requests works");
        let own = |url: &String| url.starts_with(&format!("{}/", self.address)) || url.starts_with("data:");
        let foreign: Vec<_> = requested.iter().filter(|url| !own(url)).collect();
        assert!(foreign.is_empty(), "{foreign:#?}");
    }
}

/// An expression for the tile of a machine, whatever its id holds.
fn tile(machine_id: &str) -> String {
    let id = serde_json::to_string(machine_id).unwrap();
    format!(
        "[...document.querySelectorAll('#tiles > li')].find((item) => item.dataset.machine === {id})?.querySelector('.tile')"
    )
}
