//! Live updates, without touching the page.

use super::{Plant, tile};
use crate::support::http::Client;

#[test]
fn a_machine_appears_goes_offline_and_comes_back_without_a_reload() {
    let mut plant = Plant::open(&["liveness.offline_after=8s"]);
    plant.open_board("");
    plant.browser.wait_for("!document.getElementById('empty').hidden");
    plant.browser.run("window.notReloaded = true");

    plant.publish(
        "press-1",
        "\"temperature\":61.25,\"humidity\":40,\"vibration\":0.0512,\"cycles\":4711,\"timestamp\":4712",
    );
    plant.wait_for_tile("press-1", "online");
    assert_eq!(
        plant.browser.text(&format!("return {}.querySelector('.word').textContent", tile("press-1"))),
        "Online"
    );
    plant.browser.wait_for(&format!(
        "['61.3\\u00a0°C', '40.0\\u00a0%', '0.051\\u00a0mm/s'].every((text) => {}.querySelector('.values').textContent.includes(text))",
        tile("press-1")
    ));
    plant
        .browser
        .wait_for(&format!("{}.querySelector('.extras').textContent === 'cycles 4,711'", tile("press-1")));

    plant.wait_for_tile("press-1", "offline");
    plant.browser.wait_for("document.querySelector('#counts [data-filter=offline] b').textContent === '1'");
    plant.browser.wait_for("document.getElementById('verdict').textContent.includes('1 offline of 1')");
    plant.browser.wait_for("document.querySelector('#changes li')?.dataset.state === 'offline'");
    plant.browser.wait_for("document.getElementById('spoken').textContent.includes('press-1 is offline')");

    plant.publish("press-1", "\"temperature\":62");
    plant.wait_for_tile("press-1", "online");
    plant.browser.wait_for("document.querySelector('#changes li .reason').textContent === 'sends again'");
    plant.browser.wait_for("window.notReloaded === true");
    plant.assert_quiet();
}

#[test]
fn a_lost_stream_shows_at_once_without_green_and_recovers_by_itself() {
    let mut plant = Plant::open(&[]);
    plant.publish("press-1", "\"temperature\":20");
    plant.open_board("");
    plant.wait_for_tile("press-1", "online");
    let green = plant
        .browser
        .text(&format!("return getComputedStyle({}.querySelector('.state')).color", tile("press-1")));

    // Frozen: the connection stays open but silent.
    plant.andon.signal("STOP");
    plant.browser.wait_for("document.documentElement.dataset.link === 'lost'");
    let alarm = plant.browser.text("return document.getElementById('alarm').innerText");
    assert!(alarm.contains("No connection to Andon since"), "{alarm}");
    plant.browser.wait_for(&format!(
        "getComputedStyle({}.querySelector('.state')).color !== '{green}'",
        tile("press-1")
    ));
    plant.browser.wait_for("getComputedStyle(document.getElementById('tiles')).filter === 'grayscale(1)'");
    plant.browser.wait_for("document.getElementById('verdict').dataset.state === 'unknown'");
    plant
        .browser
        .wait_for("document.querySelector('#health [data-part=broker]').dataset.state === 'unknown'");
    plant.andon.signal("CONT");
    plant.browser.wait_for(
        "document.documentElement.dataset.link === 'live' && document.getElementById('alarm').hidden",
    );
    plant.wait_for_tile("press-1", "online");

    // Killed: the connection is closed.
    let port = plant.address.rsplit(':').next().unwrap().to_owned();
    let site = plant.site.set(&format!("http.bind=127.0.0.1:{port}"));
    plant.andon.kill();
    plant.browser.wait_for("document.documentElement.dataset.link === 'lost'");
    let mut again = site.run();
    again.wait_until_connected();
    plant.browser.wait_for("document.documentElement.dataset.link === 'live'");
    // The console holds only the browser's own connection errors.
    let console = plant.browser.console();
    assert!(console.iter().all(|line| line.contains("net::ERR_")), "{console:#?}");
}

/// Delays the list of machines until `release()`, and records the events of the stream.
const LATE_LIST: &str = "window.received = []; \
    const released = new Promise((release) => (window.release = release)); \
    const fetchNow = window.fetch; \
    window.fetch = async (url, options) => { \
      const answer = await fetchNow(url, options); \
      if (!String(url).includes('/board/machines?')) return answer; \
      const list = await answer.text(); \
      window.listed = list; \
      await released; \
      return new Response(list, { headers: { 'content-type': 'application/json' } }); \
    }; \
    window.EventSource = class extends EventSource { \
      constructor(url) { \
        super(url); \
        this.addEventListener('machine', (message) => window.received.push(message.data)); \
      } \
    };";

#[test]
fn changes_while_the_list_loads_are_not_lost() {
    let mut plant = Plant::open(&[]);
    plant.publish("press-1", "\"temperature\":20");
    plant.open_board("");
    plant.wait_for_tile("press-1", "online");

    plant.browser.before_each_page(LATE_LIST);
    plant.browser.open(&format!("{}/", plant.address));
    plant.browser.wait_for("window.listed?.includes('press-1')");
    // After the server made the list and before the page has it: a new machine, and a new value. Each is sent once.
    plant.publish("press-2", "\"temperature\":20");
    plant.publish("press-1", "\"temperature\":33");
    plant.browser.wait_for(
        "window.received.some((text) => text.includes('press-2') && text.includes('\"temperature\":20'))",
    );
    plant.browser.wait_for("window.received.some((text) => text.includes('press-1') && text.includes('33'))");
    assert_eq!(plant.browser.run("return window.listed.includes('press-2')"), false);
    assert_eq!(plant.browser.run("return document.querySelectorAll('#tiles > li').length"), 0);

    plant.browser.run("window.release()");
    plant.wait_for_tile("press-2", "online");
    plant
        .browser
        .wait_for(&format!("{}?.querySelector('.values')?.textContent.includes('33.0')", tile("press-1")));
    plant.assert_quiet();
}

#[test]
fn a_screen_beyond_the_limit_says_why_it_shows_nothing() {
    let plant = Plant::open(&["http.streams_max=1"]);
    let client = Client::new(&plant.address);
    let mut stream = client.stream("/api/v1/stream");
    assert!(stream.any(|line| line == "event: status"));
    plant.browser.open(&format!("{}/", plant.address));
    plant.browser.wait_for("document.documentElement.dataset.link === 'lost'");
    plant.browser.wait_for(
        "document.getElementById('alarm').innerText.includes('all 1 streams are in use (http.streams_max)')",
    );
    // It recovers by itself once a stream is free.
    drop(stream);
    plant.browser.wait_for(
        "document.documentElement.dataset.link === 'live' && document.getElementById('alarm').hidden",
    );
    plant.assert_own_requests();
}

/// Proves BRD-3.
#[test]
fn without_broker_and_database_the_board_loads_and_says_so() {
    let mut plant = Plant::open(&["store.url=postgres://nobody@127.0.0.1:1/none"]);
    plant.publish("press-1", "\"temperature\":20");
    plant.open_board("");
    plant.wait_for_tile("press-1", "online");
    plant
        .browser
        .wait_for("document.querySelector('#health [data-part=database]').dataset.state === 'offline'");
    plant
        .browser
        .wait_for("document.querySelector('#health [data-part=journal]').innerText.includes('pending')");

    plant.broker.stop();
    plant
        .browser
        .wait_for("document.querySelector('#health [data-part=broker]').dataset.state === 'offline'");
    plant.wait_for_tile("press-1", "unknown");

    plant.browser.open(&format!("{}/machines/press-1", plant.address));
    plant.browser.wait_for("document.querySelector('h1').textContent === 'press-1'");
    plant
        .browser
        .wait_for("document.getElementById('history').textContent.includes('History cannot be read')");
    plant.assert_own_requests();
}
