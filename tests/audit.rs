//! The audit log of commands and of the reload: one line and one row each, on both databases.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::mosquitto::{FreePort, Mosquitto};
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;

const SECRET: &str = "tellnobody-token-of-the-board";

/// Runs a command as an operator who came over SSH and became this user by sudo.
fn run(site: &Site, arguments: &[&str]) -> Output {
    let mut command = site.command(arguments);
    command.env("SUDO_USER", "anna").env("SSH_CONNECTION", "192.0.2.7 51234 192.0.2.1 22");
    command.output().unwrap()
}

/// Runs one that must leave a line on standard error.
fn leaves_a_line(site: &Site, code: i32, arguments: &[&str]) {
    let done = run(site, arguments);
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
    let line = said.lines().find(|line| line.contains("component: audit")).unwrap_or_default();
    for part in [&format!("action: {}", arguments[0])[..], "sudo by anna", "source: ssh 192.0.2.7"] {
        let plain = line.replace('"', "");
        assert!(plain.contains(part), "no {part:?} for {arguments:?} in {said}");
    }
    assert!(!said.contains("log alone"), "{arguments:?}: {said}");
}

/// Returns each row as `actor|source|action|target|outcome|detail`.
fn rows(url: &str) -> Vec<String> {
    let columns = ["actor", "source", "action", "coalesce(target, '')", "outcome", "coalesce(detail, '')"];
    let sql = format!(
        "SELECT {} AS value FROM audit_event WHERE site = 'test' ORDER BY id",
        columns.join(" || '|' || ")
    );
    let words = Database::open(url).and_then(|mut database| database.try_words(&sql));
    words.unwrap_or_default().into_iter().flatten().collect()
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs every command that changes something, and returns what the table says of them.
fn rows_of_commands(site: &Site, url: &str, broker: &Mosquitto) -> Vec<String> {
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut machine = Single::connect(broker.port());
    machine.publish("factory/machine/press-1/telemetry", br#"{"temperature":1}"#, 1);
    machine.publish("factory/machine/press-2/telemetry", b"no JSON", 1);
    let messages = "SELECT messages AS value FROM ingest_checkpoint";
    wait_until("both", || Database::open(url).and_then(|mut open| open.try_number(messages)) == Some(2));

    let backup = site.path().join("backup.db").display().to_string();
    leaves_a_line(site, 0, &["db", "migrate"]);
    leaves_a_line(site, 0, &["machines", "forget", "Press-1"]);
    leaves_a_line(site, 1, &["machines", "forget", "nobody"]);
    leaves_a_line(site, 0, &["rejected", "retry", "--reason", "invalid_json"]);
    leaves_a_line(site, 0, &["db", "prune"]);
    leaves_a_line(site, 0, &["db", "prune", "--confirm-clock"]);
    let is_sqlite = url.starts_with("sqlite");
    leaves_a_line(site, i32::from(!is_sqlite), &["db", "backup", &backup]);
    assert!(andon.stop().success());
    leaves_a_line(site, 0, &["journal", "repair"]);

    for nothing in [
        &["rejected", "retry", "--all", "--dry-run"][..],
        &["rejected", "retry"],
        &["db", "status"],
        &["journal", "verify"],
        &["machines"],
        &["export"],
    ] {
        let said = String::from_utf8(run(site, nothing).stderr).unwrap();
        assert!(!said.contains("component: audit"), "{nothing:?} changes nothing: {said}");
    }
    rows(url)
}

fn assert_rows(site: &Site, url: &str, found: &[String]) {
    let (journal, backup) = (site.journal_dir(), site.path().join("backup.db"));
    let place = if url.starts_with("sqlite") { "SQLite file " } else { "PostgreSQL at " };
    let backup_outcome = if url.starts_with("sqlite") { "done" } else { "failed" };
    let expected = [
        ("db migrate", place.to_owned(), "done", "is up to date"),
        ("machines forget", "press-1".to_owned(), "done", ""),
        ("machines forget", "nobody".to_owned(), "failed", "there is no such machine"),
        (
            "rejected retry",
            "reason invalid_json".to_owned(),
            "done",
            "1 rejected message tried: 0 readings stored",
        ),
        ("db prune", place.to_owned(), "done", "rejected_message: 0 rows"),
        ("db prune --confirm-clock", place.to_owned(), "done", "is confirmed"),
        ("db backup", backup.display().to_string(), backup_outcome, ""),
        ("journal repair", journal.display().to_string(), "done", "is not damaged; nothing was changed"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (row, (action, target, outcome, detail)) in found.iter().zip(expected) {
        let fields: Vec<&str> = row.split('|').collect();
        assert!(fields[0].starts_with(&user()) && fields[0].contains("sudo by anna"), "{row}");
        assert_eq!((fields[1], fields[2], fields[4]), ("ssh 192.0.2.7", action, outcome), "{row}");
        assert!(fields[3].starts_with(&target) && fields[5].contains(detail), "{row}: {target}, {detail}");
    }
}

#[test]
fn commands_that_change_something_leave_a_line_and_a_row_in_sqlite() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    let found = rows_of_commands(&site, &url, &broker);
    assert_rows(&site, &url, &found);

    let postgres = Postgres::start();
    leaves_a_line(&site, 0, &["db", "copy", "--to", &postgres.url()]);
    let newest = rows(&url).pop().unwrap();
    assert!(newest.contains("|db copy|PostgreSQL at ") && newest.contains("copied by this run"), "{newest}");
    assert_eq!(rows(&postgres.url()), found, "what was recorded before was copied, too");
}

#[test]
fn commands_that_change_something_leave_a_line_and_a_row_in_postgres() {
    let (broker, postgres) = (Mosquitto::start(""), Postgres::start());
    let url = postgres.url();
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    let found = rows_of_commands(&site, &url, &broker);
    assert_rows(&site, &url, &found);

    let site = site.set("store.schema=andon");
    leaves_a_line(&site, 0, &["db", "migrate"]);
    leaves_a_line(&site, 1, &["db", "import"]);
    let newest = rows(&format!("{url}&options=-csearch_path%3Dandon")).pop().unwrap();
    assert!(
        newest.contains("|db import|PostgreSQL at ") && newest.contains("|failed|there is no table"),
        "{newest}"
    );
}

#[test]
fn a_command_does_its_work_while_the_database_does_not_take_the_row() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_seeing();
    assert!(andon.stop().success());
    let port = FreePort::find();
    let absent = site.path().join("absent.db");
    for (away, why) in [
        (format!("postgres://andon:{SECRET}@127.0.0.1:{}/andon", port.number()), "Connection refused"),
        (format!("sqlite://{}", absent.display()), "its file is not there"),
    ] {
        let done =
            site.command(&["--set", &format!("store.url={away}"), "journal", "repair"]).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(0), "{said}");
        for part in ["action: journal repair", "it is in the log alone", why] {
            assert!(said.replace('"', "").contains(part), "no {part:?} in {said}");
        }
        assert!(!said.contains(SECRET), "{said}");
    }
    assert!(!absent.exists());
}

fn a_reload_is_recorded(site: Site, url: &str) {
    let file = site.path().join("token");
    std::fs::write(&file, SECRET).unwrap();
    let write = |text: &str| std::fs::write(site.path().join("config/local.toml"), text).unwrap();
    let site_rows =
        || -> Vec<String> { rows(url).into_iter().filter(|row| row.contains("|reload|")).collect() };
    let mut andon = site.run();
    andon.wait_until_seeing();
    let mut seen = 0;
    let mut reload = |text: &str| {
        write(text);
        andon.signal("HUP");
        seen += 1;
        wait_until("the row", || site_rows().len() == seen);
        let row = site_rows().pop().unwrap();
        let log = andon.log();
        let line = log.lines().rfind(|line| line.contains("component: audit")).unwrap_or_default();
        assert!(line.contains("action: reload"), "{log}");
        assert!(!row.contains("tellnobody") && !line.contains("tellnobody"), "{row}");
        row
    };
    let (actor, token) = (format!("{}|SIGHUP|reload|", user()), format!("[http]\ntoken_file = {file:?}\n"));
    let applied =
        reload(&format!("{token}[liveness]\noffline_after = \"37s\"\n[mqtt]\nkeep_alive = \"21s\"\n"));
    let detail =
        "applied: liveness.offline_after, http.token, http.token_file; need a restart: mqtt.keep_alive";
    assert_eq!(applied, format!("{actor}|done|{detail}"));
    assert_eq!(reload(&token), format!("{actor}|done|applied: liveness.offline_after"));
    let refused = reload(&format!("[http]\ntoken = \"{SECRET} \"\n[mqtt]\nqos = 7\n"));
    assert_eq!(refused, format!("{actor}|refused|mistakes in the configuration: 2"));
    assert!(andon.stop().success());
}

#[test]
fn a_reload_is_recorded_with_its_sender_and_the_names_of_the_keys_in_sqlite() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    a_reload_is_recorded(site, &url);
}

#[test]
fn a_reload_is_recorded_with_its_sender_and_the_names_of_the_keys_in_postgres() {
    let (broker, postgres) = (Mosquitto::start(""), Postgres::start());
    let url = postgres.url();
    a_reload_is_recorded(Site::new(broker.port()).set(&format!("store.url={url}")), &url);
}

/// Lets clients of PostgreSQL in, and never answers a statement.
fn server_that_never_answers() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut head = [0; 8];
                while client.read_exact(&mut head).is_ok() {
                    let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
                    if number(0) == 8 {
                        client.write_all(b"N").unwrap(); // Neither TLS nor GSSAPI.
                        continue;
                    }
                    let mut parameters = vec![0; number(0) as usize - 8];
                    client.read_exact(&mut parameters).unwrap();
                    client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").unwrap();
                    std::io::copy(&mut client, &mut std::io::sink()).unwrap();
                }
            });
        }
    });
    port
}

#[test]
fn a_command_ends_although_the_database_never_answers() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_seeing();
    assert!(andon.stop().success());
    let away = format!("store.url=postgres://andon@127.0.0.1:{}/andon", server_that_never_answers());
    let mut command = site.command(&["--set", &away, "journal", "repair"]);
    let mut running = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the command to end", || running.try_wait().unwrap().is_some());
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{said}");
    for part in ["action: journal repair", "it is in the log alone", "no answer within"] {
        assert!(said.replace('"', "").contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn a_stop_waits_a_moment_for_the_rows_and_says_which_events_have_none() {
    let (broker, postgres) = (Mosquitto::start(""), Postgres::start());
    let site = Site::new(broker.port()).set(&format!("store.url={}", postgres.url()));
    let reloads = || rows(&postgres.url()).iter().filter(|row| row.contains("|reload|")).count();
    let reload_and_stop = |freezes: bool| {
        let mut andon = site.run();
        andon.wait_until_seeing();
        if freezes {
            postgres.freeze();
        }
        andon.signal("HUP");
        andon.wait_for_log("action: reload");
        let log = andon.log_path().to_owned();
        andon.stop();
        std::fs::read_to_string(log).unwrap()
    };
    let log = reload_and_stop(false);
    assert_eq!(reloads(), 1, "{log}");
    let log = reload_and_stop(true);
    postgres.thaw();
    assert!(log.contains("the last audit events: they are in the log alone"), "{log}");
}
