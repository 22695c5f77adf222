//! A board of many machines.

use super::Hall;

#[test]
fn a_thousand_machines_are_shown_filtered_and_found() {
    let mut hall = Hall::open(&[]);
    let readings: Vec<_> = (0..1_000)
        .map(|number| {
            format!("{{\"machine_id\":\"line-{}/robot-{}\",\"temperature\":20}}", number / 50, number % 50)
        })
        .collect();
    for part in readings.chunks(100) {
        let payload = format!("[{}]", part.join(","));
        hall.publisher.publish("factory/machine/any/telemetry", payload.as_bytes(), 1);
    }
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
    let bottom = hall
        .browser
        .number("return document.getElementById('more').getBoundingClientRect().bottom - innerHeight");
    assert!(bottom <= 0.0, "{bottom} pixels below the screen");
    hall.assert_quiet();
}
