//! Strikes the data directory: copied to a second line, restored from a backup, and opened by another site.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::oracle::{self, Verdict};
use super::plant::Plant;
use super::{FaultRun, Report, faults};
use crate::support::andon::{Andon, Site};
use crate::support::database::Database;
use crate::support::poll::wait_until;
use crate::support::publisher;

faults![
    a_directory_copied_to_a_second_line_loses_nothing_in_sqlite,
    a_directory_copied_to_a_second_line_loses_nothing_in_postgres,
    a_directory_of_version_1_copied_to_a_second_line_loses_nothing,
    a_directory_copied_within_a_site_loses_nothing_in_sqlite,
    a_directory_copied_within_a_site_loses_nothing_in_postgres,
    a_journal_restored_while_the_database_is_away_loses_nothing_in_sqlite,
    a_journal_restored_while_the_database_is_away_loses_nothing_in_postgres,
];

const MESSAGES: u64 = 400;
const FIRST: &str = "factory/machine/{machine}/telemetry";
const SECOND: &str = "second/machine/{machine}/telemetry";

pub fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn replace_directory(from: &Path, to: &Path) {
    std::fs::remove_dir_all(to).unwrap();
    copy_directory(from, to);
}

/// A second Andon on the plant's broker and database, with topics of its own.
struct Line {
    site: Site,
    andon: Option<Andon>,
}

impl Line {
    fn new(plant: &Plant) -> Self {
        let site = Site::new(plant.broker.port())
            .set(&format!("store.url={}", plant.url))
            .set("mqtt.client_id=andon-second-line")
            .set("mqtt.subscriptions=second/machine/+/telemetry")
            .set("liveness.offline_after=1h");
        Self { site, andon: None }
    }

    fn open(&mut self) {
        let mut andon = self.site.run();
        andon.wait_for_log("attached to the database");
        andon.wait_until_connected();
        self.andon = Some(andon);
    }

    fn stop(&mut self) {
        if let Some(andon) = self.andon.take() {
            assert!(andon.stop().success());
        }
    }
}

/// Publishes further messages to the first line, the second, or both by turns.
fn publish(plant: &mut Plant, lines: &[bool]) {
    for to_second in lines {
        let topic = if *to_second { SECOND } else { FIRST };
        let numbers = plant.reserve(MESSAGES / lines.len() as u64);
        publisher::publish_numbered(plant.broker.port(), topic, 20, numbers, 1);
    }
}

/// Returns the numbers of all rows, repeated ones included.
fn numbers(url: &str) -> Vec<u64> {
    let number = oracle::number_column(url);
    let sql =
        format!("SELECT CAST({number} AS text) AS value FROM machine_telemetry WHERE {number} IS NOT NULL");
    let rows = Database::open(url).and_then(|mut database| database.try_words(&sql)).unwrap_or_default();
    rows.into_iter().flatten().map(|number| number.parse().unwrap()).collect()
}

/// Starts both lines in every order, alone and together, and publishes to them.
fn copied(mut plant: Plant, run: &mut FaultRun, mut second: Line, age: impl Fn(&Plant)) -> Report {
    plant.open();
    publish(&mut plant, &[false]);
    wait_until("the first rows", || numbers(&plant.url).len() as u64 == MESSAGES);
    plant.stop();
    age(&plant);
    copy_directory(&plant.journal_dir, &second.site.journal_dir());
    let mut orders: Vec<&[bool]> = Vec::new();
    for _ in 0..4 * run.scale {
        if orders.is_empty() {
            orders = vec![&[false], &[true], &[false, true], &[true, false]];
        }
        let drawn = usize::try_from(run.rng.below(orders.len() as u64)).unwrap();
        let lines = orders.remove(drawn);
        for is_second in lines {
            if *is_second { second.open() } else { plant.open() }
        }
        publish(&mut plant, &lines.repeat(2));
        second.stop();
        if plant.andon.is_some() {
            plant.stop();
        }
    }
    plant.open();
    second.open();
    let deadline = Instant::now() + run.no_progress_max;
    while (numbers(&plant.url).len() as u64) < plant.sent.numbered && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    plant.stop();
    second.stop();
    let verdict = judge(&plant, &second);
    plant.report(verdict)
}

/// Checks that every number has one row, and that the ledgers of both journals balance.
fn judge(plant: &Plant, second: &Line) -> Verdict {
    let mut verdict = Verdict::default();
    let mut times: BTreeMap<u64, u32> = (0..plant.sent.numbered).map(|number| (number, 0)).collect();
    for number in numbers(&plant.url) {
        *times.entry(number).or_default() += 1;
    }
    verdict.lost = times.iter().filter(|(_, times)| **times == 0).map(|(number, _)| *number).collect();
    verdict.doubled = times.iter().filter(|(_, times)| **times > 1).map(|(number, _)| *number).collect();
    let mut database = Database::open(&plant.url).unwrap();
    for journal in [&plant.journal_dir, &second.site.journal_dir()] {
        oracle::judge_journal(&mut database, journal, &mut verdict);
    }
    let unbalanced = database.words(
        "SELECT journal_id AS value FROM ingest_checkpoint c WHERE committed_seq <> messages + \
             (SELECT coalesce(sum(to_seq - from_seq + 1), 0) FROM journal_gap g WHERE g.journal_id = c.journal_id) \
         OR messages <> stored + duplicate + rejected + control",
    );
    verdict.balance("journals whose ledger does not balance = none", unbalanced.len() as i64, 0);
    let lost =
        database.number("SELECT count(*) AS value FROM journal_gap WHERE reason <> 'earlier_identity'");
    verdict.balance("gaps = none", lost, 0);
    verdict
}

fn copied_to_another_site(plant: Plant, run: &mut FaultRun, age: impl Fn(&Plant)) -> Report {
    let mut second = Line::new(&plant);
    second.site = second.site.set("site.id=second");
    copied(plant, run, second, age)
}

fn unchanged(_: &Plant) {}

fn a_directory_copied_to_a_second_line_loses_nothing_in_sqlite(run: &mut FaultRun) -> Report {
    copied_to_another_site(Plant::sqlite(run), run, unchanged)
}

fn a_directory_copied_to_a_second_line_loses_nothing_in_postgres(run: &mut FaultRun) -> Report {
    copied_to_another_site(Plant::postgres(run), run, unchanged)
}

/// `journal.meta` as Andon 0.1.0 wrote it, without what later versions added.
pub fn make_version_1(journal: &Path) {
    let path = journal.join("journal.meta");
    let text = std::fs::read_to_string(&path).unwrap();
    let of_version_1 =
        ["journal_id", "boot_id", "first_kept", "synced", "committed", "identity_base", "earlier", "hole"];
    let lines = text.lines().filter(|line| of_version_1.contains(&line.split(' ').next().unwrap()));
    let body: String =
        std::iter::once("andon journal 1").chain(lines).map(|line| format!("{line}\n")).collect();
    let crc = crc32c::crc32c(body.as_bytes());
    std::fs::write(path, format!("{body}crc {crc:08x}\n")).unwrap();
}

fn a_directory_of_version_1_copied_to_a_second_line_loses_nothing(run: &mut FaultRun) -> Report {
    copied_to_another_site(Plant::sqlite(run), run, |plant| {
        make_version_1(&plant.journal_dir);
        let mut database = Database::open(&plant.url).unwrap();
        database.execute("UPDATE ingest_checkpoint SET open_id = NULL");
    })
}

/// Two lines with one site id are not supported, but lose nothing.
fn copied_within_a_site(plant: Plant, run: &mut FaultRun) -> Report {
    let second = Line::new(&plant);
    copied(plant, run, second, unchanged)
}

fn a_directory_copied_within_a_site_loses_nothing_in_sqlite(run: &mut FaultRun) -> Report {
    copied_within_a_site(Plant::sqlite(run), run)
}

fn a_directory_copied_within_a_site_loses_nothing_in_postgres(run: &mut FaultRun) -> Report {
    copied_within_a_site(Plant::postgres(run), run)
}

/// The journal goes back in time, the database does not. The database is away while Andon starts several times.
fn restored(
    mut plant: Plant,
    run: &mut FaultRun,
    goes: impl Fn(&mut Plant),
    comes: impl Fn(&mut Plant),
) -> Report {
    let backup: PathBuf = plant.site.path().join("backup");
    plant.open();
    plant.publish(100);
    plant.wait_until_stored(100);
    plant.stop();
    copy_directory(&plant.journal_dir, &backup);
    plant.open();
    plant.publish(2 * MESSAGES);
    plant.wait_until_stored(100 + 2 * MESSAGES);
    plant.stop();
    replace_directory(&backup, &plant.journal_dir);
    goes(&mut plant);
    for _ in 0..1 + run.scale + run.rng.below(2) {
        plant.start();
        plant.andon().wait_until_connected();
        plant.publish(MESSAGES);
        plant.stop();
    }
    comes(&mut plant);
    plant.fault_is_over();
    plant.sent.is_replayed = true;
    plant.open();
    run.rng.pause(Duration::from_millis(100));
    plant.publish(50);
    plant.finish()
}

fn a_journal_restored_while_the_database_is_away_loses_nothing_in_sqlite(run: &mut FaultRun) -> Report {
    let path = |plant: &Plant| PathBuf::from(plant.url.strip_prefix("sqlite://").unwrap());
    // A directory in its place can neither be opened nor replaced by a new file.
    let goes = |plant: &mut Plant| {
        let file = path(plant);
        std::fs::rename(&file, file.with_extension("aside")).unwrap();
        std::fs::create_dir(&file).unwrap();
    };
    let comes = |plant: &mut Plant| {
        let file = path(plant);
        std::fs::remove_dir(&file).unwrap();
        std::fs::rename(file.with_extension("aside"), &file).unwrap();
    };
    restored(Plant::sqlite(run), run, goes, comes)
}

fn a_journal_restored_while_the_database_is_away_loses_nothing_in_postgres(run: &mut FaultRun) -> Report {
    restored(Plant::postgres(run), run, |plant| plant.server().stop(), |plant| plant.server().restart())
}
