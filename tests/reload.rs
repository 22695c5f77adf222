//! SIGHUP: the running service reads its configuration again.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::machines::{events, speak, wait_for_events};
use crate::support::andon::{Andon, Site};
use crate::support::database::{Database, rows_stored};
use crate::support::http::Client;
use crate::support::mosquitto::{FreePort, Mosquitto};
use crate::support::notify_socket::NotifySocket;
use crate::support::poll::{wait_for, wait_until};
use crate::support::publisher::{Single, publish_numbered};

const TOPIC: &str = "factory/machine/{machine}/telemetry";
const RELOADED: &str = "reloaded the configuration";
const REFUSED: &str = "the new configuration has mistakes: keeping what is in effect";

/// A site whose changeable settings are in a file, not on the command line.
fn site(port: u16, local: &str) -> Site {
    let site = Site::new(port).without("log.level").without("log.status_interval");
    write(&site, local);
    site
}

fn write(site: &Site, local: &str) {
    std::fs::write(site.path().join("config/local.toml"), local).unwrap();
}

/// Reloads with these settings, and returns the line that says what came of it.
fn reload(site: &Site, andon: &mut Andon, local: &str) -> String {
    let before = andon.log().matches(RELOADED).count();
    write(site, local);
    andon.signal("HUP");
    wait_until("the reload", || andon.log().matches(RELOADED).count() > before);
    let log = andon.log();
    log.lines().rfind(|line| line.contains(RELOADED)).unwrap().to_owned()
}

/// Waits for link and database at any log level.
fn wait_until_seeing(andon: &mut Andon) {
    andon.wait_until_connected();
    andon.wait_for_log("database open");
}

/// Proves REL-3.
#[test]
fn a_reload_applies_what_it_can_and_names_what_needs_a_restart() {
    let broker = Mosquitto::start("");
    let site = site(broker.port(), "");
    let mut andon = site.run();
    andon.wait_until_connected();
    let client = Client::new(&andon.wait_for_http());
    assert!(!andon.log().contains(" DEBG ") && !andon.log().contains("DEBUG"), "{}", andon.log());

    let newer = "[log]\nlevel = \"info,liveness=debug\"\n[liveness]\noffline_after = \"37s\"\n[site]\ntime_zone = \
                 \"Europe/Berlin\"\n";
    let line = reload(&site, &mut andon, newer);
    assert!(line.contains("INFO"), "{line}");
    assert!(line.contains("applied: \"site.time_zone, liveness.offline_after, log.level\""), "{line}");
    assert_eq!(client.json("/api/v1/status")["time_zone"], "Europe/Berlin");
    andon.wait_for_log("taking over new rules");

    let waits = format!("{newer}[mqtt]\nkeep_alive = \"20s\"\n[supervisor]\nhang_after = \"9s\"\n");
    for _ in 0..2 {
        let line = reload(&site, &mut andon, &waits);
        assert!(line.contains("needs_restart: \"mqtt.keep_alive, supervisor.hang_after\""), "{line}");
        assert!(line.contains("WARN") && line.contains("applied: nothing"), "{line}");
    }
    let line = reload(&site, &mut andon, newer);
    assert!(!line.contains("needs_restart") && line.contains("applied: nothing"), "{line}");
    let metrics = client.get("/metrics").body;
    for wanted in [
        "andon_reloads_total{outcome=\"applied\"} 2",
        "andon_reloads_total{outcome=\"needs_restart\"} 2",
        "andon_reloads_total{outcome=\"refused\"} 0",
        "andon_last_reload_timestamp_seconds ",
    ] {
        assert!(metrics.contains(wanted), "{wanted}: {metrics}");
    }
    assert!(andon.stop().success());
}

/// Proves REL-2.
#[test]
fn a_reload_with_mistakes_names_them_all_and_keeps_what_is_in_effect() {
    let broker = Mosquitto::start("");
    let site = site(broker.port(), "[liveness]\noffline_after = \"1s\"\n");
    let mut andon = site.run();
    wait_until_seeing(&mut andon);
    write(&site, "[liveness]\noffline_after = \"soon\"\n[log]\nlevle = \"debug\"\n");
    andon.signal("HUP");
    andon.wait_for_log(REFUSED);
    let log = andon.log();
    let mistakes: Vec<&str> =
        log.lines().filter(|line| line.contains("mistake in the configuration")).collect();
    assert_eq!(mistakes.len(), 2, "{log}");
    let checked = site.command(&["config", "check"]).output().unwrap();
    for complaint in String::from_utf8(checked.stderr).unwrap().lines() {
        let plain = |text: &str| text.replace(['"', '\\'], "");
        let reason = plain(complaint.strip_prefix("andon: ").unwrap());
        assert!(mistakes.iter().any(|line| plain(line).contains(&reason)), "{reason}\n{mistakes:#?}");
    }
    // The old rule still holds.
    speak(&mut Single::connect(broker.port()), "press-1");
    let silent = ["online - first_seen", "offline online silence"];
    wait_for_events(&site.sqlite_url(), "press-1", &silent);

    write(&site, "this is not TOML");
    andon.signal("HUP");
    wait_until("the second refusal", || andon.log().matches(REFUSED).count() == 2);
    std::fs::remove_file(site.path().join("config/sites/test.toml")).unwrap();
    andon.signal("HUP");
    andon.wait_for_log("has no file");
    assert!(andon.stop().success());
}

/// Proves REL-1.
#[test]
fn reloads_do_not_overlap_and_none_is_lost() {
    let site = site(FreePort::find().number(), "");
    let mut andon = site.run_with("reload::reading=sleep(1000)");
    andon.wait_for_http();
    andon.signal("HUP");
    // The first one is reading; whatever follows while it does needs one more reload, and only one.
    std::thread::sleep(Duration::from_millis(200));
    write(&site, "[liveness]\noffline_after = \"33s\"\n");
    andon.signal("HUP");
    andon.wait_for_log("a reload is under way: another one follows");
    andon.signal("HUP");
    andon.wait_for_log("a reload is requested already: it covers this request, too");
    wait_until("both reloads", || andon.log().matches(RELOADED).count() == 2);
    assert_eq!(andon.log().matches("config, applied: liveness.offline_after").count(), 1, "{}", andon.log());
    assert!(andon.stop().success());
}

#[test]
fn a_hangup_during_start_or_stop_ends_nothing() {
    let site = site(FreePort::find().number(), "");
    let mut andon = site.run_with("app::opening=sleep(1500);mqtt::stop=sleep(1500)");
    // Before that it is not Andon's code that runs.
    wait_until("the mask", || holds_hangup(andon.pid()));
    andon.signal("HUP");
    andon.wait_for_log(RELOADED);
    andon.wait_for_log("no connection to the broker");
    andon.signal("TERM");
    andon.wait_for_log("a second signal ends the process at once");
    andon.signal("HUP");
    andon.wait_for_log("stopping: the reload is left out");
    assert_eq!(andon.wait().code(), Some(0), "{}", andon.log());
}

/// The configuration of the start is a pipe without a writer: so the signal comes before the first line of the log.
#[test]
fn a_hangup_while_the_first_configuration_is_read_is_not_lost() {
    let site = site(FreePort::find().number(), "");
    let local = site.path().join("config/local.toml");
    std::fs::remove_file(&local).unwrap();
    assert!(Command::new("mkfifo").arg(&local).status().unwrap().success());
    let mut andon = site.run();
    wait_until("the mask", || holds_hangup(andon.pid()));
    andon.signal("HUP");
    let pipe = site.path().join("config/first.toml");
    std::fs::rename(&local, &pipe).unwrap();
    write(&site, "[liveness]\noffline_after = \"33s\"\n");
    std::fs::write(&pipe, "").unwrap();
    andon.wait_for_log("applied: liveness.offline_after");
    assert!(andon.stop().success());
}

/// A terminal that is closed sends SIGHUP, too. The shell that made the terminal is killed here.
#[test]
fn a_terminal_that_is_closed_stops_the_service() {
    let site = site(FreePort::find().number(), "");
    let command = site.command(&["run"]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut terminal = Command::new("script")
        .args(["-qec", &line.join(" "), "/dev/null"])
        .current_dir(site.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lock = site.journal_dir().join("journal.lock");
    let pid: u32 = wait_for("the service", || {
        let pid = std::fs::read_to_string(&lock).ok()?.trim().parse().ok()?;
        holds_hangup(pid).then_some(pid)
    });
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    wait_until("its end", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
}

/// The broker takes the new password from its restart on, Andon from its next connection on.
#[test]
fn a_new_password_is_used_from_the_next_connection_on() {
    let directory = tempfile::tempdir().unwrap();
    let passwords = directory.path().join("passwords");
    let set = |password: &str| {
        let made = Command::new("mosquitto_passwd")
            .args(["-c", "-b"])
            .arg(&passwords)
            .args(["andon", password])
            .status();
        assert!(made.unwrap().success());
    };
    set("the-first-password");
    let mut broker = Mosquitto::start(&format!("password_file {}\n", passwords.display()));
    let login = |password: &str| format!("[mqtt]\nusername = \"andon\"\npassword = \"{password}\"\n");
    let site = site(broker.port(), &login("the-first-password"));
    let mut andon = site.run();
    andon.wait_until_connected();
    let line = reload(&site, &mut andon, &login("the-second-password"));
    assert!(line.ends_with("applied: mqtt.password"), "{line}");
    assert!(!andon.log().contains("the link to the broker is down"), "the connection stays");
    broker.stop();
    set("the-second-password");
    broker.restart();
    wait_until("the new password", || andon.connections() == 2);
    assert!(!andon.log().contains("-password\"") && andon.stop().success());
}

/// True once the process blocks or catches SIGHUP, which is signal 1.
fn holds_hangup(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = |name: &str| {
        let hex = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0").trim();
        u64::from_str_radix(hex, 16).unwrap_or(0)
    };
    (mask("SigBlk:") | mask("SigCgt:")) & 1 == 1
}

#[test]
fn a_revoked_token_ends_its_sessions_and_streams_and_the_new_one_is_accepted() {
    let broker = Mosquitto::start("");
    let site = site(broker.port(), "");
    let token_file = site.path().join("token");
    std::fs::write(&token_file, "the-first-token").unwrap();
    let local = format!("[http]\ntoken_file = {token_file:?}\n");
    write(&site, &local);
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    let bearer = |token: &str| client.with(&format!("Authorization: Bearer {token}"));
    let login = client.request("POST", "/login", "token=the-first-token&next=%2F");
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let browser = client.with(&format!("Cookie: {cookie}"));
    assert_eq!((browser.get("/").status, bearer("the-first-token").get("/livez").status), (200, 200));
    let mut stream = browser.stream("/api/v1/stream");
    assert!(stream.any(|line| line == "event: status"));

    std::fs::write(&token_file, "the-second-token").unwrap();
    let line = reload(&site, &mut andon, &local);
    assert!(line.ends_with("applied: http.token"), "{line}");
    assert_eq!((browser.get("/").status, bearer("the-first-token").get("/livez").status), (401, 401));
    assert_eq!(bearer("the-second-token").get("/livez").status, 200);
    // The chunk of length 0 ends it; a stream that goes on has a line every two seconds.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let mut rest = stream.take_while(|_| std::time::Instant::now() < deadline);
    assert!(rest.any(|line| line == "0"), "the stream goes on");
    assert!(!andon.log().contains("-first-token") && !andon.log().contains("the-second"), "{}", andon.log());
    assert!(andon.stop().success());
}

#[test]
fn a_reload_that_would_open_the_board_needs_a_restart() {
    let site =
        site(FreePort::find().number(), "[http]\nbind = \"0.0.0.0:0\"\ntoken = \"a-token-of-hall-3\"\n")
            .without("http.bind");
    let mut andon = site.run();
    let port = andon.wait_for_http().rsplit(':').next().unwrap().to_owned();
    let client = Client::new(&format!("http://127.0.0.1:{port}"));
    write(&site, "");
    andon.signal("HUP");
    andon.wait_for_log("the new configuration needs a restart, and cannot be applied in part");
    assert!(andon.log().contains("http.bind"), "{}", andon.log());
    assert_eq!(client.get("/livez").status, 401);
    assert!(andon.stop().success());
}

#[test]
fn a_shorter_offline_after_counts_at_once_also_for_an_actor_that_restarts() {
    let broker = Mosquitto::start("");
    let site = site(broker.port(), "[liveness]\noffline_after = \"1h\"\n");
    let mut andon = site.run_with("liveness::tick=25*off->1*return(injected)->off");
    wait_until_seeing(&mut andon);
    let mut single = Single::connect(broker.port());
    speak(&mut single, "press-1");
    wait_for_events(&site.sqlite_url(), "press-1", &["online - first_seen"]);
    let begun = chrono::Utc::now();
    reload(&site, &mut andon, "[liveness]\noffline_after = \"1s\"\n");
    let silent = ["online - first_seen", "offline online silence"];
    wait_for_events(&site.sqlite_url(), "press-1", &silent);
    let offline = Database::open(&site.sqlite_url())
        .unwrap()
        .words("SELECT occurred_at AS value FROM machine_event WHERE status = 'offline'");
    let offline = crate::support::database::instant(offline[0].as_deref().unwrap());
    assert!(offline >= begun, "{offline} is before the rule: {begun}");

    andon.wait_for_log("child restarted, component: supervisor, child: liveness");
    speak(&mut single, "press-2");
    wait_for_events(&site.sqlite_url(), "press-2", &silent);
    assert!(andon.stop().success());
}

/// Proves REL-1, REL-3.
#[test]
fn a_reload_a_second_loses_and_doubles_nothing_and_makes_no_false_event() {
    const MESSAGES: u64 = 30_000;
    let broker = Mosquitto::start("");
    let site = site(broker.port(), "");
    let mut andon = site.run();
    wait_until_seeing(&mut andon);
    let port = broker.port();
    let publishing = std::thread::spawn(move || publish_numbered(port, TOPIC, 7, 0..MESSAGES, 1));
    let mut rounds = 0;
    while !publishing.is_finished() || rounds < 6 {
        // Ten times as often as a second, and each one changes something.
        let (offline_after, level) = (20 + rounds % 3, ["info", "debug", "info,mqtt=debug"][rounds % 3]);
        let local = format!(
            "[liveness]\noffline_after = \"{offline_after}s\"\nflapping_changes = {}\n[log]\nlevel = \"{level}\"\n[store]\n\
             retention = \"{}d\"\n[liveness.machines.press-00{}]\nexpected = true\noffline_after = \"{}s\"\n",
            3 + rounds % 5,
            3000 + rounds,
            rounds % 7,
            21 + rounds,
        );
        let line = reload(&site, &mut andon, &local);
        assert!(!line.contains("needs_restart"), "{line}");
        rounds += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    publishing.join().unwrap();
    let url = site.sqlite_url();
    wait_until("all rows", || rows_stored(&url) == i64::try_from(MESSAGES).unwrap());
    assert!(andon.stop().success());
    let mut database = Database::open(&url).unwrap();
    let ledger = "SELECT messages - stored + duplicate + rejected + control AS value FROM ingest_checkpoint";
    assert_eq!(database.number(ledger), 0);
    for machine in 0..7 {
        assert_eq!(events(&url, &format!("press-00{machine}")), ["online - first_seen"]);
    }
    assert!(rounds >= 6, "{rounds}");
}

/// Proves NTF-4.
#[test]
fn systemd_hears_of_a_reload_and_that_it_has_ended() {
    let mut socket = NotifySocket::bind();
    let site =
        site(FreePort::find().number(), "").environment("NOTIFY_SOCKET", socket.path().to_str().unwrap());
    let mut andon = site.run();
    socket.wait_for("READY=1");
    let began = monotonic_micros();
    andon.signal("HUP");
    socket.wait_for("RELOADING=1");
    let at = socket.wait_for("MONOTONIC_USEC=");
    let at: i128 = at.trim_start_matches("MONOTONIC_USEC=").parse().unwrap();
    assert!((began..=monotonic_micros()).contains(&at), "{at}");
    socket.wait_for("READY=1");
    write(&site, "nonsense");
    andon.signal("HUP");
    socket.wait_for("RELOADING=1");
    socket.wait_for("READY=1");
    andon.wait_for_log(REFUSED);
    assert!(andon.stop().success());
}

fn monotonic_micros() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000
}
