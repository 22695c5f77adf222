//! A damaged journal: Andon refuses it, repairs it, and continues, with every message accounted for.

use std::path::PathBuf;

use crate::support::andon::{Andon, Site};
use crate::support::database::{Database, rows_stored};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher;

const TOPIC: &str = "factory/machine/{machine}/telemetry";
const MESSAGES: u64 = 200;
/// How many of them are stored before the database is locked.
const STORED: u64 = 20;

fn run(site: &Site, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = site.command(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn newest_segment(site: &Site) -> PathBuf {
    let entries = std::fs::read_dir(site.journal_dir()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).max().unwrap()
}

/// Flips a byte in the middle of the written part.
fn damage(site: &Site) {
    let path = newest_segment(site);
    let mut bytes = std::fs::read(&path).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[written / 2] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Returns the number of records in the journal; 0 if it cannot be inspected.
fn records(site: &Site) -> u64 {
    let (_, text, _) = run(site, &["journal", "inspect", "--json"]);
    let inspection: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    inspection["records"].as_u64().unwrap_or(0)
}

/// Makes a site with [`MESSAGES`] in its journal, of which the database has the first few, and ends the service with `end`.
fn ended_with_a_full_journal(broker: &Mosquitto, end: fn(Andon)) -> Site {
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 3, 0..STORED, 1);
    wait_until("the first rows", || rows_stored(&site.sqlite_url()) == STORED as i64);
    let mut database = Database::open(&site.sqlite_url()).unwrap();
    database.execute("BEGIN EXCLUSIVE");
    publisher::publish_numbered(broker.port(), TOPIC, 3, STORED..MESSAGES, 1);
    wait_until("the messages", || records(&site) == MESSAGES);
    end(andon);
    site
}

/// Asserts that messages and gaps add up to the position, and that every element is accounted for.
fn assert_ledger_is_exact(database: &mut Database) {
    let unaccounted = "SELECT committed_seq - messages - (SELECT sum(to_seq - from_seq + 1) FROM journal_gap) \
                       AS value FROM ingest_checkpoint";
    assert_eq!(database.number(unaccounted), 0, "messages + gap = committed_seq");
    let elements =
        "SELECT messages - stored - duplicate - rejected - control AS value FROM ingest_checkpoint";
    assert_eq!(database.number(elements), 0);
}

#[test]
fn a_damaged_journal_is_repaired_and_the_lost_records_are_a_gap_in_the_database() {
    let broker = Mosquitto::start("");
    let site = ended_with_a_full_journal(&broker, Andon::kill);
    damage(&site);

    let (code, _, said) = run(&site, &["run"]);
    assert_eq!(code, Some(3), "{said}");
    for command in [&["journal", "verify"][..], &["journal", "inspect"], &["journal", "export"]] {
        let (code, _, said) = run(&site, command);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.lines().last().unwrap().contains("`andon journal repair`"), "{said}");
    }
    let (_, exported, _) = run(&site, &["journal", "export"]);
    let (_, said, _) = run(&site, &["journal", "verify"]);
    assert!(said.contains(&format!("{} records can be read", MESSAGES - 1)), "{said}");

    let (code, said, complaints) = run(&site, &["journal", "repair"]);
    assert_eq!(code, Some(0), "{said}{complaints}");
    for hint in ["missing seq", "at byte", "cut", "kept in", "1 record lost"] {
        assert!(said.contains(hint), "no {hint:?} in: {said}");
    }
    let (code, said, _) = run(&site, &["journal", "repair"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("nothing was changed"), "{said}");
    let (code, said, _) = run(&site, &["journal", "verify"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, exported_after, _) = run(&site, &["journal", "export"]);
    assert_eq!(code, Some(0));
    assert_eq!(exported_after, exported, "the readable records are the same");

    let mut andon = site.run();
    andon.wait_until_connected();
    wait_until("the rows", || rows_stored(&site.sqlite_url()) >= MESSAGES as i64 - 1);
    let mut database = Database::open(&site.sqlite_url()).unwrap();
    let lost = "SELECT count(*) AS value FROM journal_gap WHERE reason = 'damaged' AND from_seq = to_seq";
    assert_eq!(database.number(lost), 1);
    assert_eq!(database.number("SELECT count(*) AS value FROM journal_gap"), 1);
    publisher::publish_numbered(broker.port(), TOPIC, 3, MESSAGES..MESSAGES + 50, 1);
    wait_until("more rows", || rows_stored(&site.sqlite_url()) >= MESSAGES as i64 + 49);
    assert!(andon.stop().success());
    assert_ledger_is_exact(&mut database);
}

#[test]
fn a_tail_lost_after_a_clean_stop_becomes_a_gap_and_the_service_starts() {
    let broker = Mosquitto::start("");
    let site = ended_with_a_full_journal(&broker, |andon| assert!(andon.stop().success()));
    let path = newest_segment(&site);
    let written = std::fs::read(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(written - 20).unwrap();

    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 3, MESSAGES..MESSAGES + 50, 1);
    wait_until("all rows but one", || rows_stored(&site.sqlite_url()) == MESSAGES as i64 + 49);
    let log = andon.log();
    let cuts: Vec<_> = log.lines().filter(|line| line.contains("cut at the last whole record")).collect();
    assert_eq!(cuts.len(), 1, "{log}");
    assert!(cuts[0].contains(" ERROR ") && cuts[0].contains(&format!("records: {MESSAGES}")), "{}", cuts[0]);
    assert!(andon.stop().success());
    let mut database = Database::open(&site.sqlite_url()).unwrap();
    let gap = format!(
        "SELECT count(*) AS value FROM journal_gap WHERE from_seq = {MESSAGES} AND to_seq = {MESSAGES}"
    );
    assert_eq!(database.number(&gap), 1);
    assert_ledger_is_exact(&mut database);
}

#[test]
fn an_export_beside_the_service_is_one_json_object_a_line() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 3, 0..20, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 20);
    let (code, text, said) = run(&site, &["journal", "export", "--from", "5", "--to", "7"]);
    assert_eq!(code, Some(0), "{said}");
    let records: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<_> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [5, 6, 7]);
    let (topic, payload) = publisher::numbered(TOPIC, 3, 4);
    assert_eq!((&records[0]["topic"], &records[0]["payload"]), (&topic.into(), &payload.into()));
    assert_eq!((&records[0]["qos"], &records[0]["retained"]), (&1.into(), &false.into()));
    assert!(records[0]["received_at"].as_str().unwrap().contains(':'));
    let (code, _, said) = run(&site, &["journal", "repair"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has it open"), "{said}");
    assert!(andon.stop().success());
}
