//! A board with many machines.

use super::Plant;

/// The machines of a very large plant.
const VERY_MANY: usize = 5_000;

/// Publishes one reading of each machine, a hundred per message.
fn publish_round(plant: &mut Plant, machines: usize, temperature: u32) {
    let readings: Vec<_> = (0..machines)
        .map(|number| {
            let (line, robot) = (number / 50, number % 50);
            format!("{{\"machine_id\":\"line-{line}/robot-{robot}\",\"temperature\":{temperature}}}")
        })
        .collect();
    for part in readings.chunks(100) {
        let payload = format!("[{}]", part.join(","));
        plant.publisher.publish("factory/machine/any/telemetry", payload.as_bytes(), 1);
    }
}

/// Counts from the start of the page: changes of the tiles, long tasks, and the time until all tiles exist.
const COUNTERS: &str = "window.seen = { moved: 0, changed: 0, long: [], full: null }; \
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => seen.long.push(Math.round(entry.duration)))) \
      .observe({ type: 'longtask', buffered: true }); \
    document.addEventListener('DOMContentLoaded', () => { \
      const tiles = document.getElementById('tiles'); \
      new MutationObserver((records) => { \
        for (const record of records) { \
          if (record.target === tiles) seen.moved += record.addedNodes.length; else seen.changed += 1; \
        } \
        if (tiles.children.length >= 5000) seen.full ??= Math.round(performance.now()); \
      }).observe(tiles, { subtree: true, childList: true, characterData: true, attributes: true }); \
    });";

#[test]
fn of_five_thousand_machines_only_the_visible_ones_are_drawn() {
    let mut plant = Plant::open(&["liveness.machines={\"line-99/robot-49\"={offline_after=\"8s\"}}"]);
    publish_round(&mut plant, VERY_MANY, 20);
    plant.browser.resize(1920, 1080);
    plant.browser.before_each_page(COUNTERS);
    plant.open_board("");
    plant.browser.wait_for("window.seen.full !== null");
    plant.browser.wait_for("document.querySelectorAll('#tiles > li').length === 5000");
    // The last machine falls silent and moves to the front. No other moves.
    plant.wait_for_tile("line-99/robot-49", "offline");
    plant.browser.wait_for("document.querySelector('#tiles > li').dataset.machine === 'line-99/robot-49'");
    plant.browser.wait_for("document.querySelectorAll('#tiles > li').length === 5000");
    let filled = plant.browser.number("return document.querySelectorAll('#tiles .values').length");
    let elements = plant.browser.number("return document.querySelectorAll('#tiles *').length");
    let full = plant.browser.run("return [seen.full, seen.long]");
    eprintln!("all tiles after {} ms; long tasks until then {} ms", full[0], full[1]);
    eprintln!("{elements} elements, {filled} tiles drawn");
    assert!((20.0..1_000.0).contains(&filled), "{filled} tiles are drawn");
    assert!(elements < 12.0 * VERY_MANY as f64, "{elements} elements");

    // Every machine sends, and the board receives it. Only visible tiles change.
    plant.browser.run("seen.moved = seen.changed = 0; seen.long = []; window.begun = performance.now()");
    publish_round(&mut plant, VERY_MANY - 1, 21);
    plant.browser.run("document.getElementById('search').focus()");
    plant.browser.run("scrollTo(0, 0)");
    plant.browser.wait_for("[...document.querySelectorAll('#tiles .values')].slice(1, 40).every((values) => values.textContent.includes('21'))");
    let counted = plant
        .browser
        .run("return [seen.moved, seen.changed, seen.long, Math.round(performance.now() - begun)]");
    eprintln!(
        "5000 readings in {} ms: {} moves, {} changes, long tasks {} ms",
        counted[3], counted[0], counted[1], counted[2]
    );
    assert_eq!(counted[0], 0, "no tile moved");
    // The value of each visible tile, and its age every second; nothing of the 5,000 others.
    let ages = filled * counted[3].as_f64().unwrap() / 1_000.0;
    assert!(counted[1].as_f64().unwrap() < 3.0 * filled + ages + 2_000.0, "{counted}");

    // One machine comes back: one move among thousands.
    plant.browser.run("seen.moved = 0");
    plant.publish("line-99/robot-49", "\"temperature\":22");
    plant.browser.wait_for("document.querySelector('#tiles > li').dataset.machine === 'line-0/robot-0'");
    plant
        .browser
        .wait_for("document.querySelector('#tiles > li:last-child').dataset.machine === 'line-99/robot-49'");
    assert_eq!(plant.browser.number("return seen.moved"), 1.0);

    // Wherever one scrolls to, there are values; where one has been, nothing old stays.
    plant.browser.run("scrollTo(0, document.body.scrollHeight)");
    plant
        .browser
        .wait_for("document.querySelector('#tiles > li:last-child .values')?.textContent.includes('22')");
    plant.browser.wait_for("document.querySelector('#tiles > li .values') !== null && !document.querySelector('#tiles > li:first-child .values')");
    let spoken = plant.browser.text("return document.querySelector('#tiles > li').textContent");
    assert_eq!(spoken, "Onlineline-0/robot-0", "state and name are always there");
    plant.assert_quiet();
}

#[test]
fn a_thousand_machines_are_shown_filtered_and_found() {
    let mut plant = Plant::open(&[]);
    publish_round(&mut plant, 1_000, 20);
    plant.browser.resize(1920, 1080);
    plant.open_board("");
    plant.browser.wait_for("document.querySelectorAll('#tiles > li').length === 1000");
    plant
        .browser
        .wait_for("document.getElementById('verdict').textContent.includes('All 1000 machines online')");
    // In the order in which people count.
    let first = plant.browser.run("return [...document.querySelectorAll('#tiles > li')].slice(0, 12).map((item) => item.dataset.machine)");
    let expected: Vec<_> = (0..12).map(|robot| format!("line-0/robot-{robot}")).collect();
    assert_eq!(first, serde_json::json!(expected));

    // The elements are reused across filters.
    plant.browser.run("window.kept = document.querySelector('#tiles > li')");
    plant.browser.type_keys("/");
    plant.browser.wait_for("document.activeElement.id === 'search'");
    plant.browser.type_keys("Line-7/");
    plant.browser.wait_for("document.querySelectorAll('#tiles > li').length === 50");
    plant.browser.wait_for("document.getElementById('shown').textContent === '50 of 1000 shown'");
    plant.browser.wait_for("location.search === '?q=line-7%2F'");
    plant.browser.type_keys("\u{e00c}");
    plant.browser.wait_for("document.querySelectorAll('#tiles > li').length === 1000");
    plant.browser.wait_for("document.querySelector('#tiles > li') === window.kept");

    plant.browser.run("document.querySelector('#counts [data-filter=offline]').click()");
    plant.browser.wait_for(
        "document.querySelectorAll('#tiles > li').length === 0 && !document.getElementById('none').hidden",
    );
    plant.browser.wait_for(
        "document.querySelector('#counts [data-filter=offline]').getAttribute('aria-pressed') === 'true'",
    );

    // A wall screen shows what fits and counts the others. Nothing is cut off.
    plant.open_board("?kiosk");
    plant.browser.wait_for("!document.getElementById('more').hidden");
    plant.browser.wait_for(
        "document.querySelectorAll('#tiles > li').length > 100 && \
         /^and \\d+ more, all online$/.test(document.getElementById('more').textContent)",
    );
    for (width, height) in [(1920, 1080), (3840, 2160)] {
        plant.browser.resize(width, height);
        // It adapts shortly after the screen changes, with larger letters and gaps, too.
        plant.browser.wait_for(
            "Math.max(...[document.getElementById('more'), document.querySelector('#tiles > li:last-child')] \
             .map((part) => part.getBoundingClientRect().bottom)) <= innerHeight \
             && document.querySelector('#tiles > li:last-child').getBoundingClientRect().bottom > 0.8 * innerHeight",
        );
    }
    plant.assert_quiet();
}
