//! The page of a machine: charts, figures, changes.

use chrono::{TimeDelta, Utc};

use super::Hall;
use crate::support::http::Client;
use crate::support::poll::wait_until;

/// One reading every five minutes of the last 24 hours, but none between ten and six hours ago.
fn a_day_with_a_gap() -> String {
    let now = Utc::now();
    // The last hour's begin 55 minutes ago: none leaves it while the test looks.
    let minutes = (0..24 * 12).rev().map(|step| step * 5).filter(|ago| !(6 * 60..10 * 60).contains(ago));
    let readings = minutes.map(|ago| {
        let at = (now - TimeDelta::minutes(ago)).format("%Y-%m-%dT%H:%M:%SZ");
        let temperature = 20.0 + (ago % 60) as f64 / 10.0;
        format!("{{\"machine_id\":\"press-1\",\"temperature\":{temperature},\"pressure_bar\":{},\"timestamp\":\"{at}\"}}", 3 + ago % 2)
    });
    format!("[{}]", readings.collect::<Vec<_>>().join(","))
}

#[test]
fn charts_show_every_measurement_with_its_gaps_and_states_in_each_range() {
    let mut hall = Hall::open(&[]);
    hall.publisher.publish("factory/machine/any/telemetry", a_day_with_a_gap().as_bytes(), 1);
    hall.open_board("");
    hall.wait_for_tile("press-1", "online");
    hall.browser.run("document.querySelector('#tiles .tile').click()");
    hall.browser.wait_for(
        "location.pathname === '/machines/press-1' && document.documentElement.dataset.link === 'live'",
    );
    hall.browser.run(
        "[...document.querySelectorAll('.ranges a')].find((link) => link.textContent === '24 hours').click()",
    );
    hall.browser
        .wait_for("location.search === '?range=24h' && document.documentElement.dataset.link === 'live'");

    let names = hall
        .browser
        .run("return [...document.querySelectorAll('.chart h2')].map((title) => title.textContent)");
    assert_eq!(names, serde_json::json!(["Temperature °C", "pressure_bar"]));
    let lines = hall.browser.run(
        "return document.querySelectorAll('.chart.temperature .wide polyline[stroke=\"#030303\"]').length",
    );
    assert_eq!(lines, 2, "one line before the gap and one after");
    // Texts are texts, in the colours of the page.
    let labels = hall.browser.text("return [...document.querySelectorAll('.chart .wide text')].map((label) => label.textContent.trim()).join(' ')");
    assert!(labels.contains(":00"), "{labels}");
    let colour = "getComputedStyle(document.querySelector('.chart text')).fill";
    let light = hall.browser.text(&format!("return {colour}"));
    hall.browser.prefer("dark");
    hall.browser.wait_for(&format!("{colour} !== '{light}'"));
    // The band: online since its first message, which came just now.
    hall.browser.wait_for("document.querySelectorAll('.chart .wide rect[fill=\"#050505\"]').length >= 1");
    // The same in numbers.
    hall.browser.wait_for("document.querySelectorAll('.chart.temperature tbody tr').length > 15");
    let figures = hall.browser.text("return document.querySelector('.figures').innerText");
    assert!(
        figures.contains("Last hour") && figures.contains("20.0 · 22.") && figures.contains(" · 25.5"),
        "{figures}"
    );
    hall.browser.wait_for(
        "document.querySelector('#events-title').parentElement.textContent.includes('first message ever')",
    );

    for range in ["1 hour", "7 days", "30 days"] {
        hall.browser.run(&format!("[...document.querySelectorAll('.ranges a')].find((link) => link.textContent === '{range}').click()"));
        hall.browser
            .wait_for(&format!("document.querySelector('.ranges [aria-current]').textContent === '{range}'"));
        hall.browser.wait_for("document.documentElement.dataset.link === 'live' && document.querySelectorAll('.chart').length === 2");
    }
    let csv =
        hall.browser.text("return await (await fetch(document.querySelector('.download').href)).text()");
    assert!(csv.starts_with("recorded_at"), "{csv}");
    assert!(csv.lines().count() > 200, "{csv}");
    hall.assert_quiet();
}

#[test]
fn the_page_of_a_machine_is_live() {
    // A last will takes it offline, not the time that a page takes.
    let gone = "liveness.last_will=[{filter=\"factory/machine/+/lwt\",payload=\"gone\"}]";
    let mut hall = Hall::open(&[gone]);
    hall.publish("press-1", "\"temperature\":20.5");
    hall.open_board("");
    hall.wait_for_tile("press-1", "online");
    hall.browser.open(&format!("{}/machines/press-1", hall.address));
    hall.browser.wait_for("document.documentElement.dataset.link === 'live'");
    hall.browser.run("window.notReloaded = true");
    hall.publisher.publish("factory/machine/press-1/lwt", b"gone", 1);
    hall.browser.wait_for("document.getElementById('now').dataset.state === 'offline'");
    hall.browser.wait_for("document.querySelector('.events li')?.dataset.state === 'offline'");
    hall.publish("press-1", "\"temperature\":33.5");
    hall.browser.wait_for("document.getElementById('now').dataset.state === 'online'");
    hall.browser.wait_for("document.getElementById('latest').textContent.includes('33.5')");
    hall.browser.wait_for("window.notReloaded === true");
    hall.browser.open(&format!("{}/machines/nobody", hall.address));
    assert_eq!(hall.browser.text("return document.querySelector('h1').textContent"), "No such machine");
    // The browser says on the console that this page's status is 404.
    let console = hall.browser.console();
    assert!(console.iter().all(|line| line.contains("404")), "{console:#?}");
    hall.assert_own_requests();
}

/// What the band of the first chart shows, from left to right: the state, and the first and last pixel of each piece.
const BAND: &str = "const states = { '#050505': 'online', '#060606': 'offline', '#070707': 'unknown' }; \
    const pieces = [...document.querySelectorAll('.chart .wide')][0].querySelectorAll('rect'); \
    return [...pieces].map((rect) => { \
      const colour = rect.getAttribute('fill') === 'none' ? rect.getAttribute('stroke') : rect.getAttribute('fill'); \
      const left = Number(rect.getAttribute('x')); \
      return [states[colour.toLowerCase()], left, left + Number(rect.getAttribute('width'))]; \
    }).filter(([state]) => state)";

#[test]
fn the_band_shows_when_andon_could_not_see_and_says_so_in_words() {
    let mut hall = Hall::open(&[]);
    hall.publish("press-1", "\"temperature\":20");
    hall.open_board("");
    hall.wait_for_tile("press-1", "online");
    hall.broker.stop();
    hall.wait_for_tile("press-1", "unknown");

    // While it lasts: what was known before, and then unknown up to now.
    let page = format!("{}/machines/press-1", hall.address);
    let unseen = "document.querySelector('.unseen')?.innerText ?? ''";
    // It is recorded a moment after it is shown.
    wait_until("the outage to be recorded", || {
        Client::new(&hall.address).get("/machines/press-1").body.contains("could not see</h2>")
    });
    hall.browser.open(&page);
    hall.browser.wait_for(&format!(
        "({unseen}).includes('to now') && ({unseen}).includes('no connection to the broker')"
    ));
    let band = hall.browser.run(BAND);
    assert_eq!((band[0][0].as_str(), band[1][0].as_str()), (Some("online"), Some("unknown")), "{band}");
    // Seconds of an hour are a pixel at most; the exact ends are in the words.
    assert!(band[0][1].as_f64() <= band[1][1].as_f64() && band[2].is_null(), "{band}");

    // Afterwards: the piece stays as long as it was.
    hall.broker.restart();
    hall.publish("press-1", "\"temperature\":21");
    hall.browser.wait_for("document.getElementById('now').dataset.state === 'online'");
    wait_until("its end to be recorded", || {
        !Client::new(&hall.address).get("/machines/press-1").body.contains(" to now")
    });
    hall.browser.open(&page);
    hall.browser.wait_for(&format!(
        "!({unseen}).includes('to now') && ({unseen}).includes('no connection to the broker')"
    ));
    let band = hall.browser.run(BAND);
    let states: Vec<_> = band.as_array().unwrap().iter().map(|piece| piece[0].as_str().unwrap()).collect();
    assert_eq!(states, ["online", "unknown", "online"], "{band}");
    assert_eq!(
        hall.browser
            .run("return document.querySelectorAll('.events:not(.unseen) li[data-state=offline]').length"),
        0
    );
    hall.assert_quiet();
}
