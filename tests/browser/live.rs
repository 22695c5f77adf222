//! What changes, without anybody touching the page.

use super::{Hall, tile};
use crate::support::http::Client;

#[test]
fn a_machine_appears_goes_offline_and_comes_back_without_a_reload() {
    let mut hall = Hall::open(&["liveness.offline_after=8s"]);
    hall.open_board("");
    hall.browser.wait_for("!document.getElementById('empty').hidden");
    hall.browser.run("window.notReloaded = true");

    hall.publish(
        "press-1",
        "\"temperature\":61.25,\"humidity\":40,\"vibration\":0.0512,\"cycles\":4711,\"timestamp\":4712",
    );
    hall.wait_for_tile("press-1", "online");
    assert_eq!(
        hall.browser.text(&format!("return {}.querySelector('.word').textContent", tile("press-1"))),
        "Online"
    );
    hall.browser.wait_for(&format!(
        "['61.3\\u00a0°C', '40.0\\u00a0%', '0.051\\u00a0mm/s'].every((text) => {}.querySelector('.values').textContent.includes(text))",
        tile("press-1")
    ));
    hall.browser
        .wait_for(&format!("{}.querySelector('.extras').textContent === 'cycles 4,711'", tile("press-1")));

    hall.wait_for_tile("press-1", "offline");
    hall.browser.wait_for("document.querySelector('#counts [data-filter=offline] b').textContent === '1'");
    hall.browser.wait_for("document.getElementById('verdict').textContent.includes('1 offline of 1')");
    hall.browser.wait_for("document.querySelector('#news li')?.dataset.state === 'offline'");
    hall.browser.wait_for("document.getElementById('spoken').textContent.includes('press-1 is offline')");

    hall.publish("press-1", "\"temperature\":62");
    hall.wait_for_tile("press-1", "online");
    hall.browser.wait_for("document.querySelector('#news li .reason').textContent === 'speaks again'");
    hall.browser.wait_for("window.notReloaded === true");
    hall.assert_quiet();
}

#[test]
fn a_lost_stream_is_said_at_once_shows_no_green_and_heals_by_itself() {
    let mut hall = Hall::open(&[]);
    hall.publish("press-1", "\"temperature\":20");
    hall.open_board("");
    hall.wait_for_tile("press-1", "online");
    let green = hall
        .browser
        .text(&format!("return getComputedStyle({}.querySelector('.state')).color", tile("press-1")));

    // Frozen: the connection stays open and nobody speaks.
    hall.andon.signal("STOP");
    hall.browser.wait_for("document.documentElement.dataset.link === 'lost'");
    let alarm = hall.browser.text("return document.getElementById('alarm').innerText");
    assert!(alarm.contains("No connection to Andon since"), "{alarm}");
    hall.browser.wait_for(&format!(
        "getComputedStyle({}.querySelector('.state')).color !== '{green}'",
        tile("press-1")
    ));
    hall.browser.wait_for("getComputedStyle(document.getElementById('tiles')).filter === 'grayscale(1)'");
    hall.browser.wait_for("document.getElementById('verdict').dataset.state === 'unknown'");
    hall.browser.wait_for("document.querySelector('#health [data-part=broker]').dataset.state === 'unknown'");
    hall.andon.signal("CONT");
    hall.browser.wait_for(
        "document.documentElement.dataset.link === 'live' && document.getElementById('alarm').hidden",
    );
    hall.wait_for_tile("press-1", "online");

    // Killed: the connection is closed.
    let port = hall.address.rsplit(':').next().unwrap().to_owned();
    let site = hall.site.set(&format!("http.bind=127.0.0.1:{port}"));
    hall.andon.kill();
    hall.browser.wait_for("document.documentElement.dataset.link === 'lost'");
    let mut again = site.run();
    again.wait_until_connected();
    hall.browser.wait_for("document.documentElement.dataset.link === 'live'");
    // The browser's own words about the connection are all that is on the console.
    let console = hall.browser.console();
    assert!(console.iter().all(|line| line.contains("net::ERR_")), "{console:#?}");
}

/// Keeps back the list of machines that the page asks for until `release()`, and notes what the stream has told.
const LATE_LIST: &str = "window.told = []; \
    const released = new Promise((release) => (window.release = release)); \
    const fetchNow = window.fetch; \
    window.fetch = async (url, options) => { \
      const answer = await fetchNow(url, options); \
      if (!String(url).includes('/api/v1/machines?')) return answer; \
      const list = await answer.text(); \
      window.listed = list; \
      await released; \
      return new Response(list, { headers: { 'content-type': 'application/json' } }); \
    }; \
    window.EventSource = class extends EventSource { \
      constructor(url) { \
        super(url); \
        this.addEventListener('machine', (message) => window.told.push(message.data)); \
      } \
    };";

#[test]
fn what_changes_while_the_list_is_on_its_way_is_not_lost() {
    let mut hall = Hall::open(&[]);
    hall.publish("press-1", "\"temperature\":20");
    hall.open_board("");
    hall.wait_for_tile("press-1", "online");

    hall.browser.before_each_page(LATE_LIST);
    hall.browser.open(&format!("{}/", hall.address));
    hall.browser.wait_for("window.listed?.includes('press-1')");
    // After the list was made and before the page has it: one machine more, and another value. Each is told once.
    hall.publish("press-2", "\"temperature\":20");
    hall.publish("press-1", "\"temperature\":33");
    hall.browser.wait_for(
        "window.told.some((text) => text.includes('press-2') && text.includes('\"temperature\":20'))",
    );
    hall.browser.wait_for("window.told.some((text) => text.includes('press-1') && text.includes('33'))");
    assert_eq!(hall.browser.run("return window.listed.includes('press-2')"), false);
    assert_eq!(hall.browser.run("return document.querySelectorAll('#tiles > li').length"), 0);

    hall.browser.run("window.release()");
    hall.wait_for_tile("press-2", "online");
    hall.browser
        .wait_for(&format!("{}?.querySelector('.values')?.textContent.includes('33.0')", tile("press-1")));
    hall.assert_quiet();
}

#[test]
fn a_screen_too_many_is_told_why_it_shows_nothing() {
    let hall = Hall::open(&["http.streams_max=1"]);
    let client = Client::new(&hall.address);
    let mut stream = client.stream("/api/v1/stream");
    assert!(stream.any(|line| line == "event: status"));
    hall.browser.open(&format!("{}/", hall.address));
    hall.browser.wait_for("document.documentElement.dataset.link === 'lost'");
    hall.browser.wait_for(
        "document.getElementById('alarm').innerText.includes('all 1 streams are in use (http.streams_max)')",
    );
    // As soon as there is room it goes on by itself.
    drop(stream);
    hall.browser.wait_for(
        "document.documentElement.dataset.link === 'live' && document.getElementById('alarm').hidden",
    );
    hall.assert_own_requests();
}

#[test]
fn without_broker_and_database_the_board_says_so_and_knows_what_it_can() {
    let mut hall = Hall::open(&["store.url=postgres://nobody@127.0.0.1:1/none"]);
    hall.publish("press-1", "\"temperature\":20");
    hall.open_board("");
    hall.wait_for_tile("press-1", "online");
    hall.browser
        .wait_for("document.querySelector('#health [data-part=database]').dataset.state === 'offline'");
    hall.browser
        .wait_for("document.querySelector('#health [data-part=journal]').innerText.includes('pending')");

    hall.broker.stop();
    hall.browser.wait_for("document.querySelector('#health [data-part=broker]').dataset.state === 'offline'");
    hall.wait_for_tile("press-1", "unknown");

    hall.browser.open(&format!("{}/machines/press-1", hall.address));
    hall.browser.wait_for("document.querySelector('h1').textContent === 'press-1'");
    hall.browser
        .wait_for("document.getElementById('history').textContent.includes('History cannot be read')");
    hall.assert_own_requests();
}
