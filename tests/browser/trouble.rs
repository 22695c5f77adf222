//! The pages while Andon cannot see the machines, cannot store their readings, or is away itself: one banner over the full
//! width says what, since when, and what to do, and nothing else on the page contradicts it.
//!
//! With `ANDON_TEST_PICTURES=<directory>` the tests also save a picture of each state.

use serde_json::json;

use super::{Plant, tile};
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::publish_numbered;

/// Sizes of a wall screen, an office screen and a phone.
const SCREENS: [(u32, u32); 3] = [(1920, 1080), (1280, 800), (390, 844)];
/// `press-9` goes offline soon, the others do not.
const MACHINES: &str = "liveness.machines={press-9={offline_after=\"3s\"}}";

/// Returns what is wrong with the page's banner and layout.
const ONE_BANNER: &str = include_str!("one_banner.js");

impl Plant {
    /// Starts a plant with machines that are online and one that has gone offline.
    fn with_one_offline(settings: &[&str]) -> Self {
        let mut plant = Self::open(&[settings, &[MACHINES]].concat());
        for number in (1..=7).chain([9]) {
            plant.publish(
                &format!("press-{number}"),
                "\"temperature\":20.5,\"humidity\":40,\"vibration\":0.02",
            );
        }
        plant.open_board("");
        plant.wait_for_tile("press-1", "online");
        plant.wait_for_tile("press-9", "offline");
        plant
    }

    fn banner(&self) -> String {
        self.browser.text(
            "return [...document.querySelectorAll('.alarm[id]')].filter((one) => !one.hidden).map((one) => one.innerText).join()",
        )
    }

    /// Checks that the banner contains all of `words` and the page none of `lies`, on every screen, light and dark.
    fn assert_banner(&self, name: &str, words: &[&str], lies: &[&str]) {
        let text = "document.body.innerText.replaceAll('\\u00a0', ' ')";
        for word in words {
            let word = serde_json::to_string(word).unwrap();
            self.browser.wait_for(&format!(
                "[...document.querySelectorAll('.alarm[id]')].some((one) => !one.hidden && one.innerText.includes({word}))"
            ));
        }
        let since = "/ since \\d\\d:\\d\\d:\\d\\d/.test(document.querySelector('.alarm[id]:not([hidden])').innerText)";
        self.browser.wait_for(since);
        for (width, height) in SCREENS {
            self.browser.resize(width, height);
            for scheme in ["light", "dark"] {
                self.browser.prefer(scheme);
                let what = format!("{name}, {width} wide, {scheme}");
                // The page needs a moment to update its layout.
                let mut wrong = json!(null);
                wait_until(&what, || {
                    wrong = self.browser.run(ONE_BANNER);
                    if wrong != json!([]) {
                        eprintln!("{what}: {wrong}");
                    }
                    wrong == json!([])
                });
                let page = self.browser.text(&format!("return {text}")).to_lowercase();
                for lie in lies {
                    assert!(!page.contains(&lie.to_lowercase()), "{what} says {lie:?}: {page}");
                }
                self.keep_picture(&format!("{name}-{width}-{scheme}"));
            }
        }
    }

    /// Checks the same on the kiosk, the board and a machine's page.
    fn assert_banner_everywhere(&self, name: &str, words: &[&str], lies: &[&str]) {
        for (query, page) in [("?kiosk", "wall"), ("", "board"), ("machines/press-1", "machine")] {
            self.open_board(query);
            self.assert_banner(&format!("{name}-{page}"), words, lies);
        }
        self.open_board("");
    }

    fn keep_picture(&self, name: &str) {
        let Some(directory) = std::env::var_os("ANDON_TEST_PICTURES") else { return };
        // A page rearranges its tiles shortly after a resize.
        self.browser.run("await new Promise((done) => setTimeout(done, 300))");
        std::fs::write(std::path::Path::new(&directory).join(format!("{name}.png")), self.browser.picture())
            .unwrap();
    }

    /// Waits until the machine's tile shows its last known state.
    fn wait_for_was(&self, machine: &str, words: &str) {
        self.browser.wait_for(&format!("{}.innerText.toLowerCase().includes('{words}')", tile(machine)));
    }

    fn wait_until_well(&self) {
        self.browser
            .wait_for("[...document.querySelectorAll('.alarm[id]')].every((banner) => banner.hidden)");
    }
}

#[test]
fn without_the_broker_one_banner_says_so_and_tiles_show_the_last_known_state() {
    let mut plant = Plant::with_one_offline(&[]);
    plant.broker.stop();
    plant.wait_for_tile("press-1", "unknown");
    let words = [
        "No connection to the broker since",
        "the machines cannot be seen",
        "Check that the broker is running",
    ];
    plant.assert_banner_everywhere("broker-away", &words, &["None yet", "full in"]);
    plant.wait_for_was("press-9", "was offline");
    plant.wait_for_was("press-1", "was online");
    for (machine, words) in [("press-1", "Was online since"), ("press-9", "Was offline since")] {
        let is_said = format!("document.getElementById('now').innerText.includes('{words}')");
        plant.browser.open(&format!("{}/machines/{machine}", plant.address));
        assert_eq!(plant.browser.run(&format!("return {is_said}")), true, "{machine} as served");
        plant.browser.wait_for("document.documentElement.dataset.link === 'live'");
        plant.browser.wait_for(&is_said);
    }
    plant.broker.restart();
    plant.wait_until_well();
    plant.assert_own_requests();
}

#[test]
fn without_the_database_one_banner_says_that_the_journal_keeps_everything() {
    let mut server = Postgres::start();
    let url = server.create_database("board_away");
    let mut plant = Plant::with_one_offline(&[&format!("store.url={url}")]);
    server.stop();
    plant.publish("press-1", "\"temperature\":21");
    let words = [
        "The database is away since",
        "the machines are live",
        "the journal keeps everything",
        "Check that it is running",
    ];
    plant.assert_banner_everywhere(
        "database-away",
        &words,
        &["None yet", "No data", "None in this period", "full in"],
    );
    plant.browser.wait_for("document.getElementById('no-changes').innerText.includes('cannot be read')");
    plant.wait_for_tile("press-1", "online");
    plant.wait_for_tile("press-9", "offline");
    server.restart();
    plant.wait_until_well();
    plant.browser.wait_for(
        "document.getElementById('no-changes').hidden && document.querySelectorAll('#changes li').length > 0",
    );
}

#[test]
fn with_a_full_journal_nothing_claims_that_it_keeps_everything() {
    let mut server = Postgres::start();
    let url = server.create_database("board_full");
    let settings = [
        &format!("store.url={url}"),
        "journal.max_bytes=512KiB",
        "journal.segment_bytes=64KiB",
        "store.batch_max=100",
    ];
    let mut plant = Plant::with_one_offline(&settings);
    server.stop();
    publish_numbered(plant.broker.port(), "factory/machine/{machine}/telemetry", 3, 0..6_000, 1);
    plant.andon.wait_for_log("the journal is full");
    plant.wait_for_tile("press-1", "unknown");
    plant.wait_for_was("press-9", "was offline");
    let words = [
        "The journal is full since",
        "cannot be seen",
        "gets room when the database is back",
        "The database is away since",
    ];
    let lies = [
        "journal keeps all",
        "journal keeps everything",
        "None yet",
        "full in",
        "with room for",
        "kept on disk",
        "the machines are live",
        "the state above is live",
    ];
    plant.assert_banner_everywhere("journal-full", &words, &lies);
    server.restart();
    plant.wait_until_well();
    // Unknown until it sends, or is silent for too long after the link is back.
    plant.publish("press-1", "\"temperature\":21");
    plant.wait_for_tile("press-1", "online");
}

#[test]
fn when_andon_itself_is_unreachable_the_banner_says_so_and_nothing_looks_certain() {
    let mut plant = Plant::with_one_offline(&[]);
    // An older trouble banner is as outdated as the rest of the page.
    plant.broker.stop();
    for query in ["?kiosk", ""] {
        plant.open_board(query);
        plant.browser.wait_for("!document.getElementById('trouble').hidden");
        plant.andon.signal("STOP");
        plant.browser.wait_for("document.documentElement.dataset.link === 'lost'");
        let words =
            ["No connection to Andon since", "What you see below is old", "Check that Andon is running"];
        plant.assert_banner(
            &format!("andon-lost{}", query.replace('?', "-")),
            &words,
            &["None yet", "machines are live"],
        );
        plant.wait_for_was("press-9", "offline");
        plant.andon.signal("CONT");
        plant.browser.wait_for("document.documentElement.dataset.link === 'live'");
    }
    assert!(plant.banner().contains("No connection to the broker"), "{}", plant.banner());
}
