//! What every page has to have: a check list like Lighthouse's, computed in the page itself.

use serde_json::json;

use super::Hall;
use crate::support::webdriver::Browser;

/// Everything that is wrong with the page, in words.
const CHECKLIST: &str = include_str!("checklist.js");

fn assert_in_order(browser: &Browser, what: &str) {
    // Animations and late pieces must have settled; nothing here waits for a time.
    let wrong = browser.run(CHECKLIST);
    assert_eq!(wrong, json!([]), "{what}");
}

#[test]
fn every_page_passes_the_checklist_on_wall_and_phone_in_the_light_and_in_the_dark() {
    let mut hall = Hall::open(&[
        "liveness.offline_after=4s",
        "liveness.machines={press-2={offline_after=\"10m\"},press-9={expected=true}}",
    ]);
    for number in 1..=5 {
        hall.publish(
            &format!("press-{number}"),
            "\"temperature\":20,\"humidity\":40,\"vibration\":0.1,\"cycles\":3",
        );
    }
    hall.open_board("");
    // One of each state that a test can make by itself: offline and never seen; online by a fresh message.
    hall.wait_for_tile("press-1", "offline");
    hall.wait_for_tile("press-9", "never_seen");
    let machine = format!("{}/machines/press-1?range=24h", hall.address);
    let nobody = format!("{}/machines/nobody", hall.address);
    for (width, height) in [(1920, 1080), (390, 844)] {
        hall.browser.resize(width, height);
        for scheme in ["light", "dark"] {
            hall.browser.prefer(scheme);
            hall.publish("press-2", "\"temperature\":20");
            hall.open_board("");
            hall.wait_for_tile("press-2", "online");
            hall.wait_for_tile("press-1", "offline");
            assert_in_order(&hall.browser, &format!("board, {width} wide, {scheme}"));
            hall.browser.open(&machine);
            hall.browser.wait_for("document.documentElement.dataset.link === 'live'");
            assert_in_order(&hall.browser, &format!("machine, {width} wide, {scheme}"));
            hall.browser.open(&nobody);
            assert_in_order(&hall.browser, &format!("nobody, {width} wide, {scheme}"));
        }
    }
    let console = hall.browser.console();
    assert!(
        console.iter().all(|line| line.contains("/machines/nobody") && line.contains("404")),
        "{console:#?}"
    );
    hall.assert_own_requests();
}

#[test]
fn pages_tell_the_browser_to_refuse_everything_foreign_and_it_does() {
    let hall = Hall::open(&[]);
    hall.open_board("");
    let policy = hall.browser.text("return (await fetch('/')).headers.get('content-security-policy')");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")] {
        assert_eq!(hall.browser.text(&format!("return (await fetch('/')).headers.get('{name}')")), value);
    }
    // Files are kept for ever, under an address that changes with them.
    let kept = hall.browser.text(
        "return (await fetch(document.querySelector('link[rel=stylesheet]').href)).headers.get('cache-control')",
    );
    assert!(kept.contains("immutable"), "{kept}");
    assert_eq!(hall.browser.run("return (await fetch('/assets/0123456789abcdef/board.js')).status"), 404);
    hall.assert_own_requests();
    let console = hall.browser.console();
    assert!(console.iter().all(|line| line.contains("/assets/0123456789abcdef/")), "{console:#?}");

    // The browser obeys: a script that got into the page all the same would not run, nor load anything.
    hall.browser.run(
        "window.owned = false; const script = document.createElement('script'); script.textContent = 'window.owned = true'; \
         document.body.append(script); const image = new Image(); image.src = 'http://127.0.0.1:1/x.png'; document.body.append(image)",
    );
    assert_eq!(hall.browser.run("return window.owned"), false);
    let console = hall.browser.console();
    assert!(console.iter().any(|line| line.contains("Content Security Policy")), "{console:#?}");
}

#[test]
fn everything_can_be_reached_by_keyboard_and_the_choice_of_theme_is_kept() {
    let mut hall = Hall::open(&[]);
    hall.publish("press-1", "\"temperature\":20");
    hall.browser.prefer("light");
    hall.open_board("");
    hall.wait_for_tile("press-1", "online");
    let mut reached = Vec::new();
    for _ in 0..12 {
        hall.browser.type_keys("\u{e004}");
        let focused = "const one = document.activeElement; const style = getComputedStyle(one); \
             return [one.id || one.className || one.dataset.filter || one.tagName, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2]";
        let focused = hall.browser.run(focused);
        assert_eq!(focused[1], true, "the focus on {} is visible", focused[0]);
        reached.push(focused[0].as_str().unwrap().to_owned());
        if focused[0] == "tile" {
            break;
        }
    }
    for wanted in ["skip", "theme", "measurement", "search", "tile"] {
        assert!(reached.iter().any(|name| name == wanted), "{wanted} in {reached:?}");
    }
    hall.browser.type_keys("\u{e007}");
    hall.browser.wait_for("location.pathname === '/machines/press-1'");

    hall.browser.run("document.getElementById('theme').click()");
    hall.browser.wait_for("document.documentElement.dataset.theme === 'dark'");
    hall.open_board("");
    hall.browser.wait_for("document.documentElement.dataset.theme === 'dark'");
    hall.assert_quiet();
}
