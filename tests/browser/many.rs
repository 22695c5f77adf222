//! A board of many machines.

use super::Hall;

/// Machines of a very large plant.
const VERY_MANY: usize = 5_000;

/// One reading of each of the machines, a hundred in a message.
fn publish_round(hall: &mut Hall, machines: usize, temperature: u32) {
    let readings: Vec<_> = (0..machines)
        .map(|number| {
            let (line, robot) = (number / 50, number % 50);
            format!("{{\"machine_id\":\"line-{line}/robot-{robot}\",\"temperature\":{temperature}}}")
        })
        .collect();
    for part in readings.chunks(100) {
        let payload = format!("[{}]", part.join(","));
        hall.publisher.publish("factory/machine/any/telemetry", payload.as_bytes(), 1);
    }
}

/// Counts what the page does from its first moment on: changes of the list of tiles, long tasks, and when all tiles were there.
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
fn of_five_thousand_machines_only_those_in_sight_are_drawn() {
    let mut hall = Hall::open(&["liveness.machines={\"line-99/robot-49\"={offline_after=\"8s\"}}"]);
    publish_round(&mut hall, VERY_MANY, 20);
    hall.browser.resize(1920, 1080);
    hall.browser.before_each_page(COUNTERS);
    hall.open_board("");
    hall.browser.wait_for("window.seen.full !== null");
    hall.browser.wait_for("document.querySelectorAll('#tiles > li').length === 5000");
    // The last of them falls silent, and moves to the front; nobody else does.
    hall.wait_for_tile("line-99/robot-49", "offline");
    hall.browser.wait_for("document.querySelector('#tiles > li').dataset.machine === 'line-99/robot-49'");
    hall.browser.wait_for("document.querySelectorAll('#tiles > li').length === 5000");
    let filled = hall.browser.number("return document.querySelectorAll('#tiles .values').length");
    let elements = hall.browser.number("return document.querySelectorAll('#tiles *').length");
    let full = hall.browser.run("return [seen.full, seen.long]");
    eprintln!("all tiles after {} ms; long tasks until then {} ms", full[0], full[1]);
    eprintln!("{elements} elements, {filled} tiles drawn");
    assert!((20.0..1_000.0).contains(&filled), "{filled} tiles are drawn");
    assert!(elements < 12.0 * VERY_MANY as f64, "{elements} elements");

    // Every machine speaks, and the board hears of it; only what is in sight changes.
    hall.browser.run("seen.moved = seen.changed = 0; seen.long = []; window.begun = performance.now()");
    publish_round(&mut hall, VERY_MANY - 1, 21);
    hall.browser.run("document.getElementById('search').focus()");
    hall.browser.run("scrollTo(0, 0)");
    hall.browser.wait_for("[...document.querySelectorAll('#tiles .values')].slice(1, 40).every((values) => values.textContent.includes('21'))");
    let counted = hall
        .browser
        .run("return [seen.moved, seen.changed, seen.long, Math.round(performance.now() - begun)]");
    eprintln!(
        "5000 readings in {} ms: {} moves, {} changes, long tasks {} ms",
        counted[3], counted[0], counted[1], counted[2]
    );
    assert_eq!(counted[0], 0, "nothing changed its place");
    // Of each tile in sight its value, and its age as it grows each second; of 5,000 others nothing.
    let ages = filled * counted[3].as_f64().unwrap() / 1_000.0;
    assert!(counted[1].as_f64().unwrap() < 3.0 * filled + ages + 2_000.0, "{counted}");

    // One comes back: one move among thousands.
    hall.browser.run("seen.moved = 0");
    hall.publish("line-99/robot-49", "\"temperature\":22");
    hall.browser.wait_for("document.querySelector('#tiles > li').dataset.machine === 'line-0/robot-0'");
    hall.browser
        .wait_for("document.querySelector('#tiles > li:last-child').dataset.machine === 'line-99/robot-49'");
    assert_eq!(hall.browser.number("return seen.moved"), 1.0);

    // Wherever one scrolls to, there are values; where one has been, nothing old stays.
    hall.browser.run("scrollTo(0, document.body.scrollHeight)");
    hall.browser
        .wait_for("document.querySelector('#tiles > li:last-child .values')?.textContent.includes('22')");
    hall.browser.wait_for("document.querySelector('#tiles > li .values') !== null && !document.querySelector('#tiles > li:first-child .values')");
    let spoken = hall.browser.text("return document.querySelector('#tiles > li').textContent");
    assert_eq!(spoken, "Onlineline-0/robot-0", "state and name are always there");
    hall.assert_quiet();
}

#[test]
fn a_thousand_machines_are_shown_filtered_and_found() {
    let mut hall = Hall::open(&[]);
    publish_round(&mut hall, 1_000, 20);
    hall.browser.resize(1920, 1080);
    hall.open_board("");
    hall.browser.wait_for("document.querySelectorAll('#tiles > li').length === 1000");
    hall.browser
        .wait_for("document.getElementById('verdict').textContent.includes('All 1000 machines online')");
    // In the order in which people count.
    let first = hall.browser.run("return [...document.querySelectorAll('#tiles > li')].slice(0, 12).map((item) => item.dataset.machine)");
    let expected: Vec<_> = (0..12).map(|robot| format!("line-0/robot-{robot}")).collect();
    assert_eq!(first, serde_json::json!(expected));

    // The same elements are used again, whatever is asked for in between.
    hall.browser.run("window.kept = document.querySelector('#tiles > li')");
    hall.browser.type_keys("/");
    hall.browser.wait_for("document.activeElement.id === 'search'");
    hall.browser.type_keys("Line-7/");
    hall.browser.wait_for("document.querySelectorAll('#tiles > li').length === 50");
    hall.browser.wait_for("document.getElementById('shown').textContent === '50 of 1000 shown'");
    hall.browser.wait_for("location.search === '?q=line-7%2F'");
    hall.browser.type_keys("\u{e00c}");
    hall.browser.wait_for("document.querySelectorAll('#tiles > li').length === 1000");
    hall.browser.wait_for("document.querySelector('#tiles > li') === window.kept");

    hall.browser.run("document.querySelector('#counts [data-filter=offline]').click()");
    hall.browser.wait_for(
        "document.querySelectorAll('#tiles > li').length === 0 && !document.getElementById('none').hidden",
    );
    hall.browser.wait_for(
        "document.querySelector('#counts [data-filter=offline]').getAttribute('aria-pressed') === 'true'",
    );

    // A screen on the wall shows what fits and says how many more there are; nothing is cut off.
    hall.open_board("?kiosk");
    hall.browser.wait_for("!document.getElementById('more').hidden");
    hall.browser.wait_for(
        "document.querySelectorAll('#tiles > li').length > 100 && \
         /^and \\d+ more, all online$/.test(document.getElementById('more').textContent)",
    );
    for (width, height) in [(1920, 1080), (3840, 2160)] {
        hall.browser.resize(width, height);
        // It fits itself to the screen a moment after that has changed, also where letters and gaps are larger.
        hall.browser.wait_for(
            "Math.max(...[document.getElementById('more'), document.querySelector('#tiles > li:last-child')] \
             .map((part) => part.getBoundingClientRect().bottom)) <= innerHeight \
             && document.querySelector('#tiles > li:last-child').getBoundingClientRect().bottom > 0.8 * innerHeight",
        );
    }
    hall.assert_quiet();
}
