//! The page of a machine: charts, statistics, changes.

use chrono::{TimeDelta, Utc};

use super::Plant;
use crate::support::http::Client;
use crate::support::poll::wait_until;

/// Returns one reading for every five minutes of the last 24 hours, with a gap between ten and six hours ago.
fn a_day_with_a_gap() -> String {
    let now = Utc::now();
    // The readings of the last hour begin 55 minutes ago, so none leaves that hour during the test.
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
    let mut plant = Plant::open(&[]);
    plant.publisher.publish("factory/machine/any/telemetry", a_day_with_a_gap().as_bytes(), 1);
    plant.open_board("");
    plant.wait_for_tile("press-1", "online");
    plant.browser.run("document.querySelector('#tiles .tile').click()");
    plant.browser.wait_for(
        "location.pathname === '/machines/press-1' && document.documentElement.dataset.link === 'live'",
    );
    plant.browser.run(
        "[...document.querySelectorAll('.ranges a')].find((link) => link.textContent === '24 hours').click()",
    );
    plant
        .browser
        .wait_for("location.search === '?range=24h' && document.documentElement.dataset.link === 'live'");

    let names = plant
        .browser
        .run("return [...document.querySelectorAll('.chart h2')].map((title) => title.textContent)");
    assert_eq!(names, serde_json::json!(["Temperature °C", "pressure_bar"]));
    let lines = plant.browser.run(
        "return document.querySelectorAll('.chart.temperature .wide polyline[stroke=\"#030303\"]').length",
    );
    assert_eq!(lines, 2, "one line before the gap and one after");
    // Labels are text in the colours of the page.
    let labels = plant.browser.text("return [...document.querySelectorAll('.chart .wide text')].map((label) => label.textContent.trim()).join(' ')");
    assert!(labels.contains(":00"), "{labels}");
    let colour = "getComputedStyle(document.querySelector('.chart text')).fill";
    let light = plant.browser.text(&format!("return {colour}"));
    plant.browser.prefer("dark");
    plant.browser.wait_for(&format!("{colour} !== '{light}'"));
    // The timeline: online since the first message, just now.
    plant.browser.wait_for("document.querySelectorAll('.chart .wide rect[fill=\"#050505\"]').length >= 1");
    // The table has the same numbers.
    plant.browser.wait_for("document.querySelectorAll('.chart.temperature tbody tr').length > 15");
    let figures = plant.browser.text("return document.querySelector('.figures').innerText");
    assert!(
        figures.contains("Last hour") && figures.contains("20.0 · 22.") && figures.contains(" · 25.5"),
        "{figures}"
    );
    plant.browser.wait_for(
        "document.querySelector('#events-title').parentElement.textContent.includes('first message ever')",
    );

    for range in ["1 hour", "7 days", "30 days"] {
        plant.browser.run(&format!("[...document.querySelectorAll('.ranges a')].find((link) => link.textContent === '{range}').click()"));
        plant
            .browser
            .wait_for(&format!("document.querySelector('.ranges [aria-current]').textContent === '{range}'"));
        plant.browser.wait_for("document.documentElement.dataset.link === 'live' && document.querySelectorAll('.chart').length === 2");
    }
    let csv =
        plant.browser.text("return await (await fetch(document.querySelector('.download').href)).text()");
    assert!(csv.starts_with("recorded_at"), "{csv}");
    assert!(csv.lines().count() > 200, "{csv}");
    plant.assert_quiet();
}

#[test]
fn the_page_of_a_machine_is_live() {
    // A last will takes the machine offline, independent of how long the pages take.
    let gone = "liveness.last_will=[{filter=\"factory/machine/+/lwt\",payload=\"gone\"}]";
    let mut plant = Plant::open(&[gone]);
    plant.publish("press-1", "\"temperature\":20.5");
    plant.open_board("");
    plant.wait_for_tile("press-1", "online");
    plant.browser.open(&format!("{}/machines/press-1", plant.address));
    plant.browser.wait_for("document.documentElement.dataset.link === 'live'");
    plant.browser.run("window.notReloaded = true");
    plant.publisher.publish("factory/machine/press-1/lwt", b"gone", 1);
    plant.browser.wait_for("document.getElementById('now').dataset.state === 'offline'");
    plant.browser.wait_for("document.querySelector('.events li')?.dataset.state === 'offline'");
    plant.publish("press-1", "\"temperature\":33.5");
    plant.browser.wait_for("document.getElementById('now').dataset.state === 'online'");
    plant.browser.wait_for("document.getElementById('latest').textContent.includes('33.5')");
    plant.browser.wait_for("window.notReloaded === true");
    plant.browser.open(&format!("{}/machines/nobody", plant.address));
    assert_eq!(plant.browser.text("return document.querySelector('h1').textContent"), "No such machine");
    // The console reports this page's status 404.
    let console = plant.browser.console();
    assert!(console.iter().all(|line| line.contains("404")), "{console:#?}");
    plant.assert_own_requests();
}

/// Returns the spans of the first chart's timeline, from left to right: the state, and the first and last pixel.
const TIMELINE: &str = "const states = { '#050505': 'online', '#060606': 'offline', '#070707': 'unknown' }; \
    const pieces = [...document.querySelectorAll('.chart .wide')][0].querySelectorAll('rect'); \
    return [...pieces].map((rect) => { \
      const colour = rect.getAttribute('fill') === 'none' ? rect.getAttribute('stroke') : rect.getAttribute('fill'); \
      const left = Number(rect.getAttribute('x')); \
      return [states[colour.toLowerCase()], left, left + Number(rect.getAttribute('width'))]; \
    }).filter(([state]) => state)";

#[test]
fn the_timeline_shows_when_andon_could_not_see_and_the_list_says_so() {
    let mut plant = Plant::open(&[]);
    plant.publish("press-1", "\"temperature\":20");
    plant.open_board("");
    plant.wait_for_tile("press-1", "online");
    plant.broker.stop();
    plant.wait_for_tile("press-1", "unknown");

    // During the outage: the known status, then unknown up to now.
    let page = format!("{}/machines/press-1", plant.address);
    let unseen = "document.querySelector('.unseen')?.innerText ?? ''";
    // The outage is recorded shortly after it is shown.
    wait_until("the outage to be recorded", || {
        Client::new(&plant.address).get("/machines/press-1").body.contains("could not see the machine</h2>")
    });
    plant.browser.open(&page);
    plant.browser.wait_for(&format!(
        "({unseen}).includes('to now') && ({unseen}).includes('no connection to the broker')"
    ));
    let timeline = plant.browser.run(TIMELINE);
    assert_eq!(
        (timeline[0][0].as_str(), timeline[1][0].as_str()),
        (Some("online"), Some("unknown")),
        "{timeline}"
    );
    // A few seconds of an hour are at most a pixel. The list has the exact times.
    assert!(timeline[0][1].as_f64() <= timeline[1][1].as_f64() && timeline[2].is_null(), "{timeline}");

    // After the outage the span keeps its length.
    plant.broker.restart();
    plant.publish("press-1", "\"temperature\":21");
    plant.browser.wait_for("document.getElementById('now').dataset.state === 'online'");
    wait_until("its end to be recorded", || {
        !Client::new(&plant.address).get("/machines/press-1").body.contains(" to now")
    });
    plant.browser.open(&page);
    plant.browser.wait_for(&format!(
        "!({unseen}).includes('to now') && ({unseen}).includes('no connection to the broker')"
    ));
    let timeline = plant.browser.run(TIMELINE);
    let states: Vec<_> =
        timeline.as_array().unwrap().iter().map(|piece| piece[0].as_str().unwrap()).collect();
    assert_eq!(states, ["online", "unknown", "online"], "{timeline}");
    assert_eq!(
        plant
            .browser
            .run("return document.querySelectorAll('.events:not(.unseen) li[data-state=offline]').length"),
        0
    );
    plant.assert_quiet();
}
