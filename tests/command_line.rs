//! The commands, their exit codes, and their errors.

use std::process::{Command, Stdio};

use crate::support::andon::Site;
use crate::support::database::rows_stored;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher;

fn run(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    let output = site.command(arguments).output().unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    text.push_str(&String::from_utf8(output.stderr).unwrap());
    (output.status.code(), text)
}

/// Proves CFG-3.
#[test]
fn every_mistake_in_the_configuration_is_reported_at_once() {
    let site =
        Site::new(1883).configure("[mqtt]\nkeepalive = \"30s\"\nqos = 7\n[journal]\nsync = \"sometimes\"");
    for command in [&["config", "check"][..], &["run"][..]] {
        let (code, text) = run(&site, command);
        assert_eq!(code, Some(2), "{text}");
        for hint in ["mqtt.keepalive", "keep_alive", "mqtt.qos", "journal.sync", "before_ack", "test.toml"] {
            assert!(text.contains(hint), "no {hint:?} in:\n{text}");
        }
    }
}

/// Proves CFG-4.
#[test]
fn mistakes_in_a_postgres_url_are_reported_without_its_password() {
    let url = "postgres://andon:hush-hush@db:54x2/plant?sslmode=full&conect_timeout=5";
    let site = Site::new(1883)
        .without("store.url")
        .configure(&format!("[store]\nurl = {url:?}\n[journal]\nsync = \"sometimes\""));
    for command in [&["config", "check"][..], &["run"][..]] {
        let (code, text) = run(&site, command);
        assert_eq!(code, Some(2), "{text}");
        for hint in
            ["test.toml: store.url", "port", "sslmode", "verify-full", "connect_timeout", "journal.sync"]
        {
            assert!(text.contains(hint), "no {hint:?} in:\n{text}");
        }
        assert!(!text.contains("hush"), "{text}");
    }
}

/// Proves CFG-4.
#[test]
fn secrets_are_never_shown() {
    let site = Site::new(1883)
        .set("mqtt.username=u")
        .set("mqtt.password=hush-hush-1")
        .set("store.url=postgres://user:hush-hush-2@127.0.0.1/db");
    for command in [&["config", "show", "--origin"][..], &["config", "check"][..], &["db", "status"][..]] {
        let (_, text) = run(&site, command);
        assert!(!text.contains("hush-hush"), "a secret in {command:?}:\n{text}");
    }
}

#[test]
fn run_mqtt_worker_false_is_logged_and_exits_clean() {
    let site = Site::new(1883);
    let output = site.command(&["run"]).env("RUN_MQTT_WORKER", "false").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("RUN_MQTT_WORKER"), "{text}");
}

#[test]
fn a_run_without_configuration_logs_where_it_looked_and_still_runs() {
    let broker = Mosquitto::start("");
    let home = tempfile::tempdir().unwrap();
    let start = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_andon"));
        command.args(["--set", &format!("mqtt.port={}", broker.port()), "--set", "http.bind=127.0.0.1:0"]);
        command.args(arguments).env_clear().current_dir(home.path()).stdin(Stdio::null());
        command
    };
    let log = home.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let mut child = start(&["run"]).stderr(file).stdout(Stdio::null()).spawn().unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    wait_until("the link", || said().contains("connected to the broker"));
    let looked_in = format!("looked_in: \"{}, /etc/andon\"", home.path().join("config").display());
    assert!(said().contains(" WARN ") && said().contains(&looked_in), "{}", said());
    // SIGTERM.
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success(), "{}", said());
    assert!(
        home.path().join("data/default/journal").is_dir()
            && home.path().join("data/default/andon.db").is_file()
    );
    let check = start(&["config", "check"]).output().unwrap();
    let text = String::from_utf8(check.stdout).unwrap();
    assert!(
        check.status.success() && text.contains(&format!("none in {}", home.path().join("config").display())),
        "{text}"
    );
}

/// Proves CFG-4.
#[test]
fn a_secret_in_a_malformed_value_is_not_printed() {
    let site =
        Site::new(1883).set("mqtt.host=mqtt://u:hush-hush@b").environment("MQTT_USE_TLS", "u:hush-hush@b");
    for command in [&["config", "check"][..], &["run"][..], &["config", "show"][..], &["machines"][..]] {
        let (code, text) = run(&site, command);
        assert_eq!(code, Some(2), "{text}");
        assert!(
            text.contains("mqtt.host") && text.contains("mqtt://***@b") && !text.contains("hush"),
            "{text}"
        );
    }
}

#[test]
fn a_signal_while_the_journal_is_being_opened_stops_the_service_cleanly() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    // Recovery of a long backlog takes a while.
    let mut andon = site.run_with("app::opening=sleep(1000)");
    andon.wait_for_log("opening the journal");
    andon.signal("TERM");
    assert_eq!(andon.wait().code(), Some(0), "{}", andon.log());
    assert!(andon.log().contains("Andon has stopped"), "{}", andon.log());
}

#[test]
fn database_and_journal_can_be_inspected_while_the_service_runs() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let (code, text) = run(&site, &["db", "status"]);
    assert!(matches!(code, Some(0 | 1)), "{text}");
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), "factory/machine/{machine}/telemetry", 3, 0..100, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 100);
    for command in [&["db", "status"][..], &["journal", "inspect"][..], &["journal", "verify"][..]] {
        let (code, text) = run(&site, command);
        assert_eq!(code, Some(0), "{command:?}: {text}");
    }
    let (code, text) = run(&site, &["run"]);
    assert_eq!(code, Some(1), "two services on one journal: {text}");
    assert!(text.contains("journal"), "{text}");
    assert!(andon.stop().success());
    let (code, text) = run(&site, &["db", "migrate"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_damaged_journal_is_refused_with_exit_code_3_and_the_command_that_repairs() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), "factory/machine/{machine}/telemetry", 3, 0..100, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 100);
    andon.kill();
    let segment = std::fs::read_dir(site.journal_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .min()
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[300] ^= 0x10;
    std::fs::write(&segment, bytes).unwrap();
    for command in [&["run"][..], &["journal", "verify"][..]] {
        let (code, text) = run(&site, command);
        assert_eq!(code, Some(3), "{command:?}: {text}");
        assert!(text.contains("andon journal repair"), "{text}");
    }
}

#[test]
fn the_simulator_feeds_the_service() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    let port = broker.port().to_string();
    let (code, text) = run(
        &site,
        &["simulate", "--host", "127.0.0.1", "--port", &port, "--machines", "6", "--count", "120"],
    );
    assert_eq!(code, Some(0), "{text}");
    let last = text.lines().next_back().unwrap();
    assert!(last.contains("andon machines forget press-01 ") && last.contains("press-06"), "{last}");
    let (code, text) = run(&site, &["simulate", "--host", "192.0.2.1", "--count", "1"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("not on this computer") && text.contains("--yes"), "{text}");
    wait_until("simulated rows", || rows_stored(&site.sqlite_url()) > 60);
    assert!(andon.stop().success());
}

#[test]
fn a_copy_says_which_databases_it_can_copy_and_a_backup_what_it_needs() {
    let site = Site::new(1883);
    let sqlite = site.sqlite_url();
    let postgres = "postgres://andon:hush-hush@127.0.0.1:1/plant";
    for (arguments, code, hint) in [
        (&["db", "copy", "--to", postgres][..], 1, "there is no database"),
        (&["db", "copy", "--from", postgres, "--to", postgres][..], 2, "pg_dump and pg_restore"),
        (&["db", "copy", "--to", &sqlite][..], 2, "copies an SQLite file into PostgreSQL"),
        (&["db", "copy", "--to", "mysql://db/x"][..], 2, "not supported"),
        (&["db", "backup", "backup.db"][..], 1, "there is no database"),
        (&["export", "--from", "yesterday"][..], 2, "2026-11-22T10:00:00Z"),
        (&["export", "--format", "xml"][..], 2, "parquet"),
    ] {
        let (found, text) = run(&site, arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(hint) && !text.contains("hush"), "{arguments:?}: {text}");
    }
    let away = Site::new(1883).without("store.url").set(&format!("store.url={postgres}"));
    let (code, text) = run(&away, &["db", "backup", "it's here"]);
    assert_eq!(code, Some(1));
    let line = r"pg_dump --format=custom --file='it'\''s here' 'postgres://andon@127.0.0.1:1/plant'";
    assert!(text.starts_with(&format!("{line}\n")) && text.contains("no backup was made"), "{text}");
    let (code, text) = run(&away, &["db", "copy", "--from", &sqlite, "--to", postgres]);
    assert_eq!(code, Some(1));
    assert!(text.contains("there is no database"), "{text}");
}
