//! Login and logout as a person does them, over plain HTTP from another computer.

use super::Plant;
use crate::support::webdriver::PLANT_HOST;

const TOKEN: &str = "a-token-of-the-test";

/// `Origin` alone tells our own form from a foreign one here, and what browsers write into it depends on our
/// `Referrer-Policy`: with `no-referrer` nobody could log in.
#[test]
fn a_person_on_another_computer_logs_in_and_out_without_tls() {
    let mut plant = Plant::open(&[&format!("http.token={TOKEN}")]);
    let port = plant.address.rsplit(':').next().unwrap();
    let address = format!("http://{PLANT_HOST}:{port}");
    let browser = &plant.browser;
    browser.open(&format!("{address}/?kiosk"));
    assert_eq!(browser.text("return String(isSecureContext)"), "false");
    browser.run(&format!(
        "document.getElementById('token').value = '{TOKEN}'; document.querySelector('.login button').click()"
    ));
    browser.wait_for("location.pathname + location.search === '/?kiosk' && document.documentElement.dataset.link === 'live'");

    browser.open(&format!("{address}/login"));
    assert!(browser.text("return document.body.innerText").contains("http.token"));
    browser.run("document.getElementById('log-out').click()");
    browser.wait_for("location.pathname === '/login' && document.getElementById('log-out') === null");
    browser.open(&format!("{address}/"));
    browser.wait_for("document.getElementById('token') !== null");
    plant.andon.wait_for_log("action: logout");
}
