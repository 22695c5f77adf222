//! The pages in a real browser, with the real program and a real broker.
//!
//! Every test also checks that the console stays empty and that no page requests anything from another host.

mod charts;
mod checklist;
mod hostile;
mod live;
mod login;
mod many;
mod trouble;

use crate::support::andon::{Andon, Site};
use crate::support::mosquitto::Mosquitto;
use crate::support::publisher::Single;
use crate::support::webdriver::Browser;

/// A broker, an Andon and a browser.
struct Plant {
    browser: Browser,
    address: String,
    publisher: Single,
    andon: Andon,
    site: Site,
    broker: Mosquitto,
}

impl Plant {
    /// Starts a plant whose machines stay online for the whole test, unless `settings` say otherwise.
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
        // A machine that sends before liveness knows the past stays unknown until it sends again.
        andon.wait_for_log("recovering the machines' states");
        let address = andon.wait_for_http();
        let publisher = Single::connect(broker.port());
        Self { browser, address, publisher, andon, site, broker }
    }

    /// Publishes one message of a machine with any id.
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

    /// Waits until the machine's tile shows a state.
    fn wait_for_tile(&self, machine_id: &str, state: &str) {
        self.browser.wait_for(&format!("{}?.dataset.state === '{state}'", tile(machine_id)));
    }

    /// Checks that the console is empty and that no other host was requested.
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

/// Returns a JavaScript expression for a machine's tile.
fn tile(machine_id: &str) -> String {
    let id = serde_json::to_string(machine_id).unwrap();
    format!(
        "[...document.querySelectorAll('#tiles > li')].find((item) => item.dataset.machine === {id})?.querySelector('.tile')"
    )
}
