//! A checklist like Lighthouse's for every page, computed in the page itself.

use serde_json::json;

use super::Plant;
use crate::support::webdriver::Browser;

/// Returns everything that is wrong with the page.
const CHECKLIST: &str = include_str!("checklist.js");

fn assert_in_order(browser: &Browser, what: &str) {
    let wrong = browser.run(CHECKLIST);
    assert_eq!(wrong, json!([]), "{what}");
}

#[test]
fn every_page_passes_the_checklist_on_wall_and_phone_in_the_light_and_in_the_dark() {
    let mut plant = Plant::open(&[
        "liveness.offline_after=4s",
        "liveness.machines={press-2={offline_after=\"10m\"},press-9={expected=true}}",
    ]);
    for number in 1..=5 {
        plant.publish(
            &format!("press-{number}"),
            "\"temperature\":20,\"humidity\":40,\"vibration\":0.1,\"cycles\":3",
        );
    }
    plant.open_board("");
    // Machines in three states: offline, never seen, and online with a new message.
    plant.wait_for_tile("press-1", "offline");
    plant.wait_for_tile("press-9", "never_seen");
    let machine = format!("{}/machines/press-1?range=24h", plant.address);
    let nobody = format!("{}/machines/nobody", plant.address);
    for (width, height) in [(1920, 1080), (390, 844)] {
        plant.browser.resize(width, height);
        for scheme in ["light", "dark"] {
            plant.browser.prefer(scheme);
            plant.publish("press-2", "\"temperature\":20");
            plant.open_board("");
            plant.wait_for_tile("press-2", "online");
            plant.wait_for_tile("press-1", "offline");
            assert_in_order(&plant.browser, &format!("board, {width} wide, {scheme}"));
            plant.browser.open(&machine);
            plant.browser.wait_for("document.documentElement.dataset.link === 'live'");
            assert_in_order(&plant.browser, &format!("machine, {width} wide, {scheme}"));
            plant.browser.open(&nobody);
            assert_in_order(&plant.browser, &format!("nobody, {width} wide, {scheme}"));
        }
    }
    let console = plant.browser.console();
    assert!(
        console.iter().all(|line| line.contains("/machines/nobody") && line.contains("404")),
        "{console:#?}"
    );
    plant.assert_own_requests();
}

/// Proves BRD-1.
#[test]
fn pages_instruct_the_browser_to_refuse_everything_foreign_and_it_does() {
    let plant = Plant::open(&[]);
    plant.open_board("");
    let policy = plant.browser.text("return (await fetch('/')).headers.get('content-security-policy')");
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
    for (name, value) in [("x-content-type-options", "nosniff"), ("referrer-policy", "same-origin")] {
        assert_eq!(plant.browser.text(&format!("return (await fetch('/')).headers.get('{name}')")), value);
    }
    // Browsers may cache files forever, because the address changes with the content.
    let kept = plant.browser.text(
        "return (await fetch(document.querySelector('link[rel=stylesheet]').href)).headers.get('cache-control')",
    );
    assert!(kept.contains("immutable"), "{kept}");
    assert_eq!(plant.browser.run("return (await fetch('/assets/0123456789abcdef/board.js')).status"), 404);
    plant.assert_own_requests();
    let console = plant.browser.console();
    assert!(console.iter().all(|line| line.contains("/assets/0123456789abcdef/")), "{console:#?}");

    // The browser obeys: an injected script does not run, and an injected image does not load.
    plant.browser.run(
        "window.owned = false; const script = document.createElement('script'); script.textContent = 'window.owned = true'; \
         document.body.append(script); const image = new Image(); image.src = 'http://127.0.0.1:1/x.png'; document.body.append(image)",
    );
    assert_eq!(plant.browser.run("return window.owned"), false);
    let console = plant.browser.console();
    assert!(console.iter().any(|line| line.contains("Content Security Policy")), "{console:#?}");
}

#[test]
fn everything_can_be_reached_by_keyboard_and_the_choice_of_theme_is_kept() {
    let mut plant = Plant::open(&[]);
    plant.publish("press-1", "\"temperature\":20");
    plant.browser.prefer("light");
    plant.open_board("");
    plant.wait_for_tile("press-1", "online");
    let mut reached = Vec::new();
    for _ in 0..12 {
        plant.browser.type_keys("\u{e004}");
        let focused = "const one = document.activeElement; const style = getComputedStyle(one); \
             return [one.id || one.className || one.dataset.filter || one.tagName, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2]";
        let focused = plant.browser.run(focused);
        assert_eq!(focused[1], true, "the focus on {} is visible", focused[0]);
        reached.push(focused[0].as_str().unwrap().to_owned());
        if focused[0] == "tile" {
            break;
        }
    }
    for wanted in ["skip", "theme", "measurement", "search", "tile"] {
        assert!(reached.iter().any(|name| name == wanted), "{wanted} in {reached:?}");
    }
    plant.browser.type_keys("\u{e007}");
    plant.browser.wait_for("location.pathname === '/machines/press-1'");

    plant.browser.run("document.getElementById('theme').click()");
    plant.browser.wait_for("document.documentElement.dataset.theme === 'dark'");
    plant.open_board("");
    plant.browser.wait_for("document.documentElement.dataset.theme === 'dark'");
    plant.assert_quiet();
}
