//! What the pages say while Andon cannot see the machines, cannot store what they say, or is away itself: one banner over the whole
//! width that says what, since when and what to do, and nothing beside it that says otherwise.
//!
//! With `ANDON_TEST_PICTURES=<directory>` each state is also kept as a picture, for people.

use serde_json::json;

use super::{Hall, tile};
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::publish_numbered;

/// Widths of a screen on the wall, an office screen and a phone.
const SCREENS: [(u32, u32); 3] = [(1920, 1080), (1280, 800), (390, 844)];
/// `press-9` is silent soon, the others are not.
const MACHINES: &str = "liveness.machines={press-9={offline_after=\"3s\"}}";

/// What is wrong with how the page tells of trouble, in words.
const ONE_BANNER: &str = include_str!("one_banner.js");

impl Hall {
    /// A hall with a machine that is online and one that has gone offline.
    fn with_one_offline(settings: &[&str]) -> Self {
        let mut hall = Self::open(&[settings, &[MACHINES]].concat());
        for number in (1..=7).chain([9]) {
            hall.publish(
                &format!("press-{number}"),
                "\"temperature\":20.5,\"humidity\":40,\"vibration\":0.02",
            );
        }
        hall.open_board("");
        hall.wait_for_tile("press-1", "online");
        hall.wait_for_tile("press-9", "offline");
        hall
    }

    fn banner(&self) -> String {
        self.browser.text(
            "return [...document.querySelectorAll('.alarm[id]')].filter((one) => !one.hidden).map((one) => one.innerText).join()",
        )
    }

    /// The banner has all of `words` and the page none of `lies`, on every screen, in the light and in the dark.
    fn assert_told(&self, name: &str, words: &[&str], lies: &[&str]) {
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
                // The page takes a moment to arrange itself.
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

    /// The same of the board to work with, of the one on the wall, and of a machine's page.
    fn assert_told_everywhere(&self, name: &str, words: &[&str], lies: &[&str]) {
        for (query, page) in [("?kiosk", "wall"), ("", "board"), ("machines/press-1", "machine")] {
            self.open_board(query);
            self.assert_told(&format!("{name}-{page}"), words, lies);
        }
        self.open_board("");
    }

    fn keep_picture(&self, name: &str) {
        let Some(directory) = std::env::var_os("ANDON_TEST_PICTURES") else { return };
        // A page arranges its tiles anew a moment after it has another size.
        self.browser.run("await new Promise((done) => setTimeout(done, 300))");
        std::fs::write(std::path::Path::new(&directory).join(format!("{name}.png")), self.browser.picture())
            .unwrap();
    }

    /// What the tile of a machine says of the time before.
    fn wait_for_was(&self, machine: &str, words: &str) {
        self.browser.wait_for(&format!("{}.innerText.toLowerCase().includes('{words}')", tile(machine)));
    }

    fn wait_until_well(&self) {
        self.browser
            .wait_for("[...document.querySelectorAll('.alarm[id]')].every((banner) => banner.hidden)");
    }
}

#[test]
fn without_the_broker_one_banner_says_so_and_tiles_say_what_was() {
    let mut hall = Hall::with_one_offline(&[]);
    hall.broker.stop();
    hall.wait_for_tile("press-1", "unknown");
    let words =
        ["No connection to the broker since", "the machines cannot be seen", "Check that the broker runs"];
    hall.assert_told_everywhere("broker-away", &words, &["None yet", "full in"]);
    hall.wait_for_was("press-9", "was offline");
    hall.wait_for_was("press-1", "was online");
    for (machine, words) in [("press-1", "Was online since"), ("press-9", "Was offline since")] {
        let is_said = format!("document.getElementById('now').innerText.includes('{words}')");
        hall.browser.open(&format!("{}/machines/{machine}", hall.address));
        assert_eq!(hall.browser.run(&format!("return {is_said}")), true, "{machine} as it is served");
        hall.browser.wait_for("document.documentElement.dataset.link === 'live'");
        hall.browser.wait_for(&is_said);
    }
    hall.broker.restart();
    hall.wait_until_well();
    hall.assert_own_requests();
}

#[test]
fn without_the_database_one_banner_says_that_the_journal_keeps_everything() {
    let mut server = Postgres::start();
    let url = server.create_database("board_away");
    let mut hall = Hall::with_one_offline(&[&format!("store.url={url}")]);
    server.stop();
    hall.publish("press-1", "\"temperature\":21");
    let words = [
        "The database is away since",
        "the machines are live",
        "the journal keeps everything",
        "Check that it runs",
    ];
    hall.assert_told_everywhere(
        "database-away",
        &words,
        &["None yet", "No data", "None in this time", "full in"],
    );
    hall.browser.wait_for("document.getElementById('no-news').innerText.includes('cannot be read')");
    hall.wait_for_tile("press-1", "online");
    hall.wait_for_tile("press-9", "offline");
    server.restart();
    hall.wait_until_well();
    hall.browser.wait_for(
        "document.getElementById('no-news').hidden && document.querySelectorAll('#news li').length > 0",
    );
}

#[test]
fn with_a_full_journal_nothing_says_that_it_keeps_all_or_when_it_will_be_full() {
    let mut server = Postgres::start();
    let url = server.create_database("board_full");
    let settings = [
        &format!("store.url={url}"),
        "journal.max_bytes=512KiB",
        "journal.segment_bytes=64KiB",
        "store.batch_max=100",
    ];
    let mut hall = Hall::with_one_offline(&settings);
    server.stop();
    publish_numbered(hall.broker.port(), "factory/machine/{machine}/telemetry", 3, 0..6_000, 1);
    hall.andon.wait_for_log("the journal is full");
    hall.wait_for_tile("press-1", "unknown");
    hall.wait_for_was("press-9", "was offline");
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
    hall.assert_told_everywhere("journal-full", &words, &lies);
    server.restart();
    hall.wait_until_well();
    // Unknown until it speaks, or until it has been silent for too long since sight is back.
    hall.publish("press-1", "\"temperature\":21");
    hall.wait_for_tile("press-1", "online");
}

#[test]
fn when_andon_itself_is_lost_the_banner_says_so_and_nothing_looks_certain() {
    let mut hall = Hall::with_one_offline(&[]);
    // A trouble that was told before is as old as the rest.
    hall.broker.stop();
    for query in ["?kiosk", ""] {
        hall.open_board(query);
        hall.browser.wait_for("!document.getElementById('trouble').hidden");
        hall.andon.signal("STOP");
        hall.browser.wait_for("document.documentElement.dataset.link === 'lost'");
        let words = ["No connection to Andon since", "What you see below is old", "Check that Andon runs"];
        hall.assert_told(
            &format!("andon-lost{}", query.replace('?', "-")),
            &words,
            &["None yet", "machines are live"],
        );
        hall.wait_for_was("press-9", "offline");
        hall.andon.signal("CONT");
        hall.browser.wait_for("document.documentElement.dataset.link === 'live'");
    }
    assert!(hall.banner().contains("No connection to the broker"), "{}", hall.banner());
}
