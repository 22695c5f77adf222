//! A directory of the journal that belongs to another site, to a newer Andon, or to version 1.

use std::collections::BTreeMap;
use std::path::Path;

use crate::faults::directory::{copy_directory, make_version_1};
use crate::support::andon::{Andon, Site};
use crate::support::database::{Database, rows_stored};
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher;

const TOPIC: &str = "factory/machine/{machine}/telemetry";

/// Returns the name and the content of every file.
fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

fn number(url: &str, sql: &str) -> i64 {
    Database::open(url).unwrap().number(sql)
}

/// Starts a service that ends at once; returns its exit code and its log.
fn refused(site: &Site) -> (Option<i32>, String) {
    let mut andon = site.run();
    let status = andon.wait();
    (status.code(), andon.log())
}

fn as_site(site: &Site, id: &str) -> Site {
    let other = Site::new(0);
    copy_directory(&site.journal_dir(), &other.journal_dir());
    other.set(&format!("site.id={id}")).set("mqtt.client_id=andon-other")
}

/// 60 messages of one site are pending when another site opens the directory.
fn pending_messages_stay_with_their_site(broker: &Mosquitto, url: &str, set_away: &mut dyn FnMut(bool)) {
    let site = Site::new(broker.port())
        .set(&format!("store.url={url}"))
        .set("store.lock_timeout=100ms")
        .set("liveness.offline_after=1h");
    let mut andon = site.run();
    andon.wait_for_log("attached to the database");
    andon.wait_until_connected();
    set_away(true);
    publisher::publish_numbered(broker.port(), TOPIC, 3, 0..60, 1);
    andon.wait_for_log("the database does not accept the data");
    assert!(andon.stop().success());
    set_away(false);

    let settings = [format!("store.url={url}"), format!("mqtt.port={}", broker.port())];
    let other = settings.iter().fold(as_site(&site, "other"), |site, setting| site.set(setting));
    let (code, log) = refused(&other);
    assert_eq!(code, Some(2), "{log}");
    for hint in
        ["belongs to site test, not to other", "60 messages", "copy", "move it aside", "site.id = test"]
    {
        assert!(log.contains(hint), "no {hint:?} in {log}");
    }
    assert_eq!(rows_stored(url), 0);

    let mut andon = site.run();
    andon.wait_until_connected();
    wait_until("the rows", || rows_stored(url) == 60);
    assert!(andon.stop().success());
    assert_eq!(number(url, "SELECT count(*) AS value FROM machine_telemetry WHERE site = 'test'"), 60);
}

#[test]
fn pending_messages_are_never_stored_as_another_sites_in_sqlite() {
    let broker = Mosquitto::start("");
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/andon.db", directory.path().display());
    let mut held = None;
    pending_messages_stay_with_their_site(&broker, &url, &mut |away| {
        held = away.then(|| {
            let mut other = Database::open(&url).unwrap();
            other.execute("BEGIN EXCLUSIVE");
            other
        });
    });
}

#[test]
fn pending_messages_are_never_stored_as_another_sites_in_postgres() {
    let broker = Mosquitto::start("");
    let mut postgres = Postgres::start();
    let url = postgres.create_database("andon");
    pending_messages_stay_with_their_site(&broker, &url, &mut |away| {
        if away { postgres.stop() } else { postgres.restart() }
    });
}

#[test]
fn a_journal_with_nothing_pending_is_taken_over_under_a_new_id_and_logged() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    let run = |site: &Site, range: std::ops::Range<u64>| {
        let upto = i64::try_from(range.end).unwrap();
        let mut andon = site.run();
        andon.wait_until_connected();
        publisher::publish_numbered(broker.port(), TOPIC, 3, range, 1);
        wait_until("the rows", || rows_stored(&url) == upto);
        let log = andon.log();
        assert!(andon.stop().success());
        log
    };
    run(&site, 0..60);
    let site = site.set("site.id=other");
    let log = run(&site, 60..100);
    let said = log.lines().find(|line| line.contains("belonged to another site")).unwrap();
    assert!(said.contains("WARN") && said.contains("owner: test"), "{said}");
    let log = run(&site, 100..110);
    assert!(!log.contains("belonged to another site"), "once: {log}");

    let rows = |site: &str| {
        number(&url, &format!("SELECT count(*) AS value FROM machine_telemetry WHERE site = '{site}'"))
    };
    assert_eq!((rows("test"), rows("other")), (60, 50), "no row changed its site");
    let ledger = |site: &str, expression: &str| {
        number(&url, &format!("SELECT {expression} AS value FROM ingest_checkpoint WHERE site = '{site}'"))
    };
    assert_eq!((ledger("test", "committed_seq"), ledger("test", "messages")), (60, 60));
    assert_eq!((ledger("other", "committed_seq"), ledger("other", "messages")), (110, 50));
    let gaps =
        "SELECT sum(to_seq - from_seq + 1) AS value FROM journal_gap WHERE reason = 'earlier_identity'";
    assert_eq!(number(&url, gaps), 60, "committed = messages + gaps");
}

#[test]
fn a_journal_of_a_newer_version_is_left_untouched() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 3, 0..10, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 10);
    assert!(andon.stop().success());
    let meta = site.journal_dir().join("journal.meta");
    let text = std::fs::read_to_string(&meta).unwrap();
    let body = text.rsplit_once("crc ").unwrap().0.replace("andon journal 2", "andon journal 3");
    std::fs::write(&meta, format!("{body}crc {:08x}\n", crc32c::crc32c(body.as_bytes()))).unwrap();

    let before = content(&site.journal_dir());
    let (code, log) = refused(&site);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("version 3") && log.contains("newer Andon"), "{log}");
    for command in ["verify", "inspect", "repair", "export"] {
        let output = site.command(&["journal", command]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), said.contains("newer Andon")),
            (Some(2), true),
            "{command}: {said}"
        );
    }
    assert_eq!(content(&site.journal_dir()), before);
}

#[test]
fn a_journal_of_version_1_continues_and_belongs_to_the_first_site_that_opens_it() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("store.lock_timeout=100ms");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 3, 0..40, 1);
    wait_until("the rows", || rows_stored(&url) == 40);
    let mut database = Database::open(&url).unwrap();
    database.execute("BEGIN EXCLUSIVE");
    publisher::publish_numbered(broker.port(), TOPIC, 3, 40..60, 1);
    andon.wait_for_log("the database does not accept the data");
    assert!(andon.stop().success());
    database.execute("ROLLBACK");
    database.execute("UPDATE ingest_checkpoint SET open_id = NULL");
    make_version_1(&site.journal_dir());

    let mut andon = site.run();
    andon.wait_until_connected();
    wait_until("the rows", || rows_stored(&url) == 60);
    assert!(andon.stop().success());
    let ledger = "SELECT messages - duplicate AS value FROM ingest_checkpoint";
    assert_eq!(
        (number(&url, ledger), number(&url, "SELECT count(*) AS value FROM ingest_checkpoint")),
        (60, 1)
    );
    let meta = std::fs::read_to_string(site.journal_dir().join("journal.meta")).unwrap();
    assert!(meta.starts_with("andon journal 2\n") && meta.contains("\nsite test\n"), "{meta}");
}

/// Makes the service read the positions each second.
const OFTEN: &str = "site_watch::often=return";
const SHARED: &str = "another service with this site.id uses the same database";

/// Waits until the service has read the positions of the site's journals `count` times.
fn wait_for_looks(andon: &Andon, count: usize) {
    wait_until("reads of the positions", || {
        andon.log().matches("checked the positions of the site's journals").count() >= count
    });
}

/// Another directory of the same site, with another client id.
fn second_line(broker: &Mosquitto, url: &str, client_id: &str) -> Site {
    Site::new(broker.port())
        .set(&format!("store.url={url}"))
        .set(&format!("mqtt.client_id={client_id}"))
        .set("liveness.offline_after=1h")
}

fn two_services_of_a_site_at_once_are_distinguished_from_one_after_the_other(url: &str) {
    let broker = Mosquitto::start("");
    let (first, second) = (second_line(&broker, url, "andon-one"), second_line(&broker, url, "andon-two"));
    // One after the other is no fault: a restart, and a new directory beside a retired one.
    let mut sent = 0..20;
    for site in [&first, &first, &second] {
        let mut andon = site.run_with(OFTEN);
        andon.wait_until_connected();
        wait_for_looks(&andon, 1);
        publisher::publish_numbered(broker.port(), TOPIC, 2, sent.clone(), 1);
        let stored = i64::try_from(sent.end).unwrap();
        wait_until("the rows", || rows_stored(url) == stored);
        wait_for_looks(&andon, 3);
        assert!(!andon.log().contains(SHARED), "{}", andon.log());
        assert!(andon.stop().success());
        sent = sent.end..sent.end + 20;
    }

    let (mut one, mut two) = (first.run_with(OFTEN), second.run_with(OFTEN));
    for andon in [&mut one, &mut two] {
        andon.wait_until_connected();
        wait_for_looks(andon, 1);
    }
    for _ in 0..2 {
        publisher::publish_numbered(broker.port(), TOPIC, 2, sent.clone(), 1);
        for andon in [&mut one, &mut two] {
            andon.wait_for_log(SHARED);
        }
        sent = sent.end..sent.end + 20;
    }
    let stored = i64::try_from(sent.start).unwrap();
    wait_until("the rows", || rows_stored(url) == stored);
    for mut andon in [one, two] {
        let metrics = Client::new(&andon.wait_for_http()).get("/metrics").body;
        assert!(metrics.contains("andon_site_shared 1"), "{metrics}");
        let looks = andon.log().matches("checked the positions").count();
        wait_for_looks(&andon, looks + 2);
        assert_eq!(andon.log().matches(SHARED).count(), 1, "once:\n{}", andon.log());
        assert!(andon.stop().success());
    }
}

#[test]
fn two_services_of_a_site_at_once_are_warned_about_in_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/andon.db", directory.path().display());
    two_services_of_a_site_at_once_are_distinguished_from_one_after_the_other(&url);
}

#[test]
fn two_services_of_a_site_at_once_are_warned_about_in_postgres() {
    let server = Postgres::start();
    two_services_of_a_site_at_once_are_distinguished_from_one_after_the_other(
        &server.create_database("andon"),
    );
}
