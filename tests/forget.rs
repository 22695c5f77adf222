//! `andon machines forget` and `DELETE /api/v1/machines/<id>`.

use std::io::Write;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::liveness::retained;
use crate::machines::{events, speak, wait_for_events};
use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;

const FIRST: [&str; 1] = ["online - first_seen"];
const TWICE: [&str; 2] = ["online - first_seen", "online - first_seen"];

fn status_topic(machine: &str) -> String {
    format!("andon/test/machine/{machine}/status")
}

fn forget(site: &Site, machines: &[&str]) -> Output {
    site.command(&[&["machines", "forget"][..], machines].concat()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn rows(url: &str, machine: &str) -> i64 {
    let sql = format!("SELECT count(*) AS value FROM machine WHERE machine_id = '{machine}'");
    Database::open(url).unwrap().number(&sql)
}

fn requests(url: &str) -> i64 {
    Database::open(url).unwrap().number("SELECT count(*) AS value FROM machine_forget")
}

/// Proves LIV-6.
fn a_forgotten_machine_is_gone_everywhere_and_comes_back_when_it_sends(site: &Site, url: &str, port: u16) {
    let mut andon = site.run();
    andon.wait_until_seeing();
    let client = Client::new(&andon.wait_for_http());
    let mut single = Single::connect(port);
    ["press-1", "press-2"].iter().for_each(|machine| speak(&mut single, machine));
    ["press-1", "press-2"].iter().for_each(|machine| wait_for_events(url, machine, &FIRST));
    wait_until("the status", || retained(port, &status_topic("press-1")).contains("online"));
    let mut stream = client.stream("/api/v1/stream");
    assert!(stream.any(|line| line.contains("press-1")));

    let done = forget(site, &["press-1", "typo"]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout), "forgotten: press-1\nthe running service has dropped them\n");
    assert!(text(&done.stderr).contains("there is no machine \"typo\""), "{}", text(&done.stderr));
    assert_eq!((rows(url, "press-1"), rows(url, "press-2")), (0, 1));
    assert!(stream.any(|line| line == "event: forgotten"), "the board drops it");
    assert_eq!(client.get("/api/v1/machines/press-1").status, 404);
    wait_until("the status to be cleared", || retained(port, &status_topic("press-1")).is_empty());
    wait_until("the request to be done", || requests(url) == 0);
    assert!(retained(port, &status_topic("press-2")).contains("online"), "the others stay");
    assert_eq!(events(url, "press-1"), FIRST, "its events stay");

    speak(&mut single, "press-1");
    wait_for_events(url, "press-1", &TWICE);
    wait_until("its status again", || retained(port, &status_topic("press-1")).contains("first_seen"));
    assert_eq!(rows(url, "press-1"), 1);
    assert!(andon.stop().success());
}

#[test]
fn a_machine_is_forgotten_while_the_service_runs_on_sqlite() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    a_forgotten_machine_is_gone_everywhere_and_comes_back_when_it_sends(
        &site,
        &site.sqlite_url(),
        broker.port(),
    );
}

#[test]
fn a_machine_is_forgotten_while_the_service_runs_on_postgres() {
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    a_forgotten_machine_is_gone_everywhere_and_comes_back_when_it_sends(&site, &url, broker.port());
}

/// Proves LIV-6.
#[test]
fn a_machine_forgotten_while_andon_is_down_is_cleared_at_the_next_start() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_seeing();
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_for_events(&url, "press-1", &FIRST);
    wait_until("the status", || retained(broker.port(), &status_topic("press-1")).contains("online"));
    andon.kill();

    let done = forget(&site, &["press-1"]);
    let said = text(&done.stdout);
    assert!(
        done.status.success() && said.contains("clears their statuses at the broker when it starts"),
        "{said}"
    );
    assert_eq!(rows(&url, "press-1"), 0);
    assert!(!retained(broker.port(), &status_topic("press-1")).is_empty(), "nobody has cleared it yet");
    let andon = site.run();
    wait_until("the status to be cleared", || retained(broker.port(), &status_topic("press-1")).is_empty());
    wait_until("the request to be done", || requests(&url) == 0);
    assert_eq!(events(&url, "press-1"), FIRST, "no event");
    assert!(andon.stop().success());
}

/// Proves LIV-6.
#[test]
fn a_machine_forgotten_while_the_broker_is_away_is_cleared_when_it_is_back_also_over_a_kill() {
    let mut broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_seeing();
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_for_events(&url, "press-1", &FIRST);
    wait_until("the status", || retained(broker.port(), &status_topic("press-1")).contains("online"));
    broker.stop();
    andon.wait_for_log("the link to the broker is down");
    assert!(forget(&site, &["press-1"]).status.success());
    assert_eq!((rows(&url, "press-1"), requests(&url)), (0, 1), "the broker still has its status");
    andon.kill();
    broker.restart();
    let andon = site.run();
    wait_until("the request to be done", || requests(&url) == 0);
    assert!(retained(broker.port(), &status_topic("press-1")).is_empty());
    assert!(andon.stop().success());
}

#[test]
fn an_expected_machine_cannot_be_forgotten() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).configure("[liveness.machines.press-1]\nexpected = true\n");
    let mut andon = site.run();
    andon.wait_until_seeing();
    let refused = forget(&site, &["press-1"]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("take it out of liveness.machines"), "{said}");
    let client = Client::new(&andon.wait_for_http());
    let refused = client.request("DELETE", "/api/v1/machines/press-1", "");
    assert!(refused.status == 409 && refused.body.contains("liveness.machines"), "{}", refused.body);
    assert!(andon.stop().success());
}

#[test]
fn the_api_forgets_a_machine_for_this_computer_or_the_token_and_for_no_foreign_page() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_seeing();
    let client = Client::new(&andon.wait_for_http());
    speak(&mut Single::connect(broker.port()), "press 1");
    wait_for_events(&url, "press 1", &FIRST);
    let path = "/api/v1/machines/press%201";
    for (stranger, expected) in [
        (client.with("Origin: http://evil.example"), 403),
        (client.with("Sec-Fetch-Site: cross-site"), 403),
        (client.with("Host: evil.example"), 421),
    ] {
        assert_eq!(stranger.request("DELETE", path, "").status, expected);
    }
    andon.wait_for_log(r#"action: "http DELETE", target: /api/v1/machines/press%201, outcome: refused"#);
    assert_eq!(rows(&url, "press 1"), 1);
    assert_eq!(client.request("DELETE", "/api/v1/machines/typo", "").status, 404);
    let done = client.request("DELETE", path, "");
    assert_eq!((done.status, done.body.as_str()), (204, ""));
    assert_eq!((rows(&url, "press 1"), client.get(path).status), (0, 404));
    assert!(andon.log().contains(r#"action: "machines forget""#), "{}", andon.log());
    assert!(andon.stop().success());

    let open = Site::new(broker.port()).set("http.anonymous=true");
    let mut andon = open.run();
    let client = Client::new(&andon.wait_for_http());
    assert_eq!(client.request("DELETE", "/api/v1/machines/x", "").status, 403);
    assert!(andon.stop().success());
    let guarded = Site::new(broker.port()).set("http.token=a-token-of-hall-3");
    let mut andon = guarded.run();
    andon.wait_until_seeing();
    let client = Client::new(&andon.wait_for_http());
    assert_eq!(client.request("DELETE", "/api/v1/machines/x", "").status, 401);
    let friend = client.with("Authorization: Bearer a-token-of-hall-3");
    // http.token lets its holder see, not change.
    assert_eq!(friend.request("DELETE", "/api/v1/machines/x", "").status, 403);
    assert!(andon.stop().success());
    let file = guarded.path().join("operator");
    std::fs::write(&file, "a-token-for-operators\n").unwrap();
    let operated = guarded.configure(&format!(
        "[[http.tokens]]\nname = \"operator\"\nrole = \"operate\"\ntoken_file = {file:?}"
    ));
    let mut andon = operated.run();
    andon.wait_until_seeing();
    let operator = Client::new(&andon.wait_for_http()).with("Authorization: Bearer a-token-for-operators");
    assert_eq!(operator.request("DELETE", "/api/v1/machines/x", "").status, 404);
    assert!(andon.stop().success());
}

/// How often a thread of that name went to sleep.
fn sleeps_of(pid: u32, thread: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().map(|task| task.path());
    let read = |path: &Path, name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
    let named = tasks.filter(|task| read(task, "comm").trim() == thread);
    let sleeps = named.filter_map(|task| {
        let status = read(&task, "status");
        status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
    });
    sleeps.sum()
}

#[test]
fn who_hangs_up_before_the_answer_leaves_a_trace_of_what_was_forgotten() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_seeing();
    let client = Client::new(&andon.wait_for_http());
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_for_events(&url, "press-1", &FIRST);

    let mut lock = Database::open(&url).unwrap();
    lock.execute("BEGIN IMMEDIATE");
    let before = sleeps_of(andon.pid(), "forget");
    let mut connection = client.open();
    let request = format!("DELETE /api/v1/machines/press-1 HTTP/1.1\r\nHost: {}\r\n\r\n", client.address());
    connection.write_all(request.as_bytes()).unwrap();
    wait_until("it to wait for the lock", || sleeps_of(andon.pid(), "forget") > before + 2);
    // Closes with a reset.
    rustix::net::sockopt::set_socket_linger(&connection, Some(Duration::ZERO)).unwrap();
    drop(connection);
    lock.execute("COMMIT");

    wait_until("the machine to be gone", || rows(&url, "press-1") == 0);
    let recorded = "SELECT count(*) AS value FROM audit_event WHERE action = 'machines forget' \
        AND target = 'press-1' AND outcome = 'done'";
    wait_until("the row", || Database::open(&url).unwrap().number(recorded) == 1);
    assert!(andon.log().contains(r#"action: "machines forget", target: press-1"#), "{}", andon.log());
    assert!(andon.stop().success());
}
