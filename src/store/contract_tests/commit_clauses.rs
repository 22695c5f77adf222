//! Commits: readings, rejections, gaps, the position and the ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::fixture::{
    Fixture, SITE, assert_stale, assert_transient, at, batch, batch_of, machine, nothing, prune_all, reading,
    rejection, transition,
};
use crate::domain::{JournalHistory, JournalId, OpenId, Seq, TimeSource, Timestamp, TransitionReason};
use crate::store::{self, Batch, CommitOutcome, GapRow, StoreError};

pub fn a_new_journal_begins_at_zero_and_keeps_its_position(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let checkpoint = store.checkpoint(journal).unwrap().unwrap();
    assert_eq!((checkpoint.ledger.committed_seq, checkpoint.ledger.messages), (Seq::ZERO, 0));
    assert_eq!((checkpoint.journal_id, checkpoint.site), (journal.to_string(), SITE.to_owned()));

    store.commit(&batch_of(journal, 0, 3)).unwrap();
    drop(store);
    let mut reopened = fixture.migrated();
    let checkpoint = reopened.checkpoint(journal).unwrap().unwrap();
    assert_eq!(
        (checkpoint.ledger.committed_seq, checkpoint.ledger.messages, checkpoint.ledger.stored),
        (Seq(3), 3, 3)
    );
    let age = crate::clock::wall_now().since(checkpoint.updated_at);
    assert!(age < Duration::from_secs(60), "{age:?}");
    assert_eq!(reopened.checkpoint(JournalId(Uuid::new_v4())).unwrap(), None);
}

pub fn readings_are_stored_to_the_last_bit_and_microsecond(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut full = reading(1);
    full.topic = Arc::from("werk/ä/maschine");
    full.received_at = Timestamp::from_micros(1_767_595_200_999_999);
    full.reading.machine_id = machine("presse ß 1");
    full.reading.temperature = Some(-0.1 + 0.7);
    full.reading.humidity = Some(f64::MAX);
    full.reading.vibration = Some(5e-324);
    full.reading.extra = Some(r#"{"fw": "1.2"}"#.to_owned());
    full.reading.recorded_at = Timestamp::from_micros(1_735_689_600_000_001);
    full.reading.digest = u64::MAX - 1;
    let mut bare = reading(2);
    bare.reading.temperature = None;
    bare.reading.vibration = None;
    bare.reading.time_source = TimeSource::Server;
    assert_eq!(store.commit(&batch(journal, 0, vec![full, bare])).unwrap().stored, 2);

    let mut raw = fixture.raw();
    let columns = [
        "site",
        "machine_id",
        "extra",
        "source_topic",
        "recorded_at",
        "time_source",
        "received_at",
        "digest",
    ];
    assert_eq!(
        raw.rows(&columns, "machine_telemetry ORDER BY id"),
        [
            "halle-7|presse ß 1|{\"fw\": \"1.2\"}|werk/ä/maschine|2025-01-01 00:00:00.000001+00:00|device|\
             2026-01-05 06:40:00.999999+00:00|-2",
            "halle-7|press-1|-|factory/machine/press-1/telemetry|2026-01-05 06:39:59.002001+00:00|server|\
             2026-01-05 06:39:59.002001+00:00|2",
        ]
    );
    let exact = "temperature = 0.6 AND humidity = 1.7976931348623157e308 AND vibration = 5e-324";
    assert_eq!(raw.count(&format!("machine_telemetry WHERE {exact}")), 1);
    assert_eq!(
        raw.count("machine_telemetry WHERE temperature IS NULL AND humidity IS NULL AND vibration IS NULL"),
        1
    );
    let created = &raw.rows(&["created_at"], "machine_telemetry")[0];
    assert_eq!((created.len(), &created[26..]), (32, "+00:00"), "{created}");
}

/// Proves STO-3.
pub fn duplicates_in_one_batch_and_across_batches_are_counted_and_not_stored(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let again = |seq: u64, of: u64| {
        let mut row = reading(of);
        row.seq = Seq(seq);
        row
    };
    let first = store.commit(&batch(journal, 0, vec![reading(1), again(2, 1), reading(3)])).unwrap();
    assert_eq!((first.stored, first.duplicate, first.rejected), (2, 1, 0));
    let second = store.commit(&batch(journal, 3, vec![again(4, 3), reading(5), again(6, 1)])).unwrap();
    assert_eq!((second.stored, second.duplicate, second.rejected), (1, 2, 0));
    assert_eq!(fixture.raw().count("machine_telemetry"), 3);
    let checkpoint = store.checkpoint(journal).unwrap().unwrap();
    assert_eq!(
        (checkpoint.ledger.stored, checkpoint.ledger.duplicate, checkpoint.ledger.rejected),
        (3, 3, 0)
    );

    // Each part of the identity counts.
    let mut other_machine = again(7, 1);
    other_machine.reading.machine_id = machine("press-2");
    let mut other_time = again(8, 1);
    other_time.reading.recorded_at = other_time.reading.recorded_at.plus(Duration::from_micros(1));
    let mut other_digest = again(9, 1);
    other_digest.reading.digest = 77;
    assert_eq!(
        store.commit(&batch(journal, 6, vec![other_machine, other_time, other_digest])).unwrap().stored,
        3
    );
}

/// Proves STO-1, STO-2.
pub fn a_batch_on_another_position_is_refused_as_a_whole(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    store.commit(&batch_of(journal, 0, 5)).unwrap();
    for after in [0, 4, 6] {
        let mut stale = batch_of(journal, after, 2);
        stale.rejections.push(rejection(after + 2));
        stale.transitions.push(transition("press-1", TransitionReason::FirstSeen, 1, None));
        assert_stale(store.commit(&stale), after, Some(5));
    }
    let unknown = JournalId(Uuid::new_v4());
    assert_stale(store.commit(&batch_of(unknown, 0, 1)), 0, None);
    let not_claimed = Batch { open_id: OpenId(Uuid::new_v4()), ..batch_of(journal, 5, 1) };
    assert_stale(store.commit(&not_claimed), 5, Some(5));

    let mut raw = fixture.raw();
    let counts =
        ["machine_telemetry", "rejected_message", "machine_event", "machine"].map(|table| raw.count(table));
    assert_eq!(counts, [5, 0, 0, 0]);
    assert_eq!(store.checkpoint(journal).unwrap().unwrap().ledger.messages, 5);
    assert_eq!(
        store.commit(&batch_of(journal, 5, 1)).unwrap().stored,
        1,
        "the store works after a stale batch"
    );
}

/// Proves STO-2.
pub fn a_batch_sent_again_after_an_unknown_outcome_is_refused(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let sent = batch_of(journal, 0, 4);
    store.commit(&sent).unwrap();
    // The writer did not receive the answer, and reopens.
    let mut reopened = fixture.open();
    assert_stale(reopened.commit(&sent), 0, Some(4));
    // The abandoned connection sends it, too.
    assert_stale(store.commit(&sent), 0, Some(4));
    let checkpoint = reopened.checkpoint(journal).unwrap().unwrap();
    assert_eq!(
        (checkpoint.ledger.messages, checkpoint.ledger.stored, checkpoint.ledger.duplicate),
        (4, 4, 0)
    );
}

fn refused_among(fixture: &Fixture, count: u64, is_refused: impl Fn(u64) -> bool) -> CommitOutcome {
    let (mut store, journal) = fixture.with_journal();
    fixture.refuse_666();
    let mut sent = batch_of(journal, 0, count);
    sent.readings[0].payload = vec![b'p'; 70_000];
    for row in sent.readings.iter_mut().filter(|row| is_refused(row.seq.0)) {
        row.reading.temperature = Some(666.0);
    }
    let began = Instant::now();
    let outcome = store.commit(&sent).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());

    let refused: Vec<u64> = (1..=count).filter(|&seq| is_refused(seq)).collect();
    let poisoned: Vec<u64> = outcome.poisoned.iter().map(|row| row.seq.0).collect();
    assert_eq!(poisoned, refused);
    assert!(
        outcome.poisoned.iter().all(|row| row.detail.contains("der Teufel misst nicht")),
        "{:?}",
        outcome.poisoned
    );
    assert_eq!((outcome.stored, outcome.rejected), (count - refused.len() as u64, refused.len() as u64));
    let checkpoint = store.checkpoint(journal).unwrap().unwrap();
    assert_eq!(checkpoint.ledger.committed_seq, Seq(count));
    assert_eq!(
        (checkpoint.ledger.stored, checkpoint.ledger.duplicate, checkpoint.ledger.rejected),
        (outcome.stored, 0, outcome.rejected)
    );
    assert_eq!(fixture.raw().count("machine_telemetry"), outcome.stored);

    assert_eq!(store.commit(&batch_of(journal, count, 1)).unwrap().stored, 1, "the store goes on");
    outcome
}

/// Proves STO-3, STO-4.
pub fn one_refused_row_is_set_aside_and_the_rest_is_stored(fixture: &Fixture) {
    refused_among(fixture, 4_096, |seq| seq == 1);
    let mut raw = fixture.raw();
    let columns = ["seq", "element", "topic", "qos", "reason", "length(payload)", "received_at"];
    assert_eq!(
        raw.rows(&columns, "rejected_message"),
        ["1|0|factory/machine/press-1/telemetry|1|store_rejected|65536|2026-01-05 06:39:59.001001+00:00"]
    );
    assert_eq!(raw.count("rejected_message WHERE detail LIKE '%der Teufel misst nicht%'"), 1);
}

/// Proves STO-4.
pub fn fifty_refused_rows_of_thousands_are_set_aside(fixture: &Fixture) {
    refused_among(fixture, 4_096, |seq| seq % 81 == 5 && seq < 4_055);
    assert_eq!(fixture.raw().count("rejected_message"), 50);
}

/// Proves STO-4.
pub fn a_batch_of_refused_rows_only_still_moves_the_position(fixture: &Fixture) {
    refused_among(fixture, 3, |_| true);
    assert_eq!(fixture.raw().count("rejected_message"), 3);
}

pub fn rejections_and_gaps_are_recorded_with_their_details(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut sent = Batch { upto: Seq(20), messages: 9, ..nothing(journal, Seq::ZERO) };
    sent.rejections = vec![rejection(1), rejection(2), rejection(2)];
    sent.gaps = vec![GapRow { from: Seq(3), to: Seq(13), reason: "drop_oldest".to_owned(), at: at(0) }];
    let outcome = store.commit(&sent).unwrap();
    assert_eq!((outcome.stored, outcome.rejected), (0, 3));

    let mut raw = fixture.raw();
    let columns =
        ["site", "seq", "element", "received_at", "topic", "qos", "reason", "detail", "length(payload)"];
    assert_eq!(
        raw.rows(&columns, "rejected_message ORDER BY seq"),
        [1, 2].map(|seq| format!(
            "halle-7|{seq}|3|2026-01-05 06:39:59.000006+00:00|factory/machine/press-1/telemetry|2|invalid_json|\
             expected value at line 1|3"
        ))
    );
    let bytes = fixture.either("payload = x'009fff' AND retained = 1", "payload = '\\x009fff' AND retained");
    assert_eq!(raw.count(&format!("rejected_message WHERE journal_id = '{journal}' AND {bytes}")), 2);
    assert_eq!(
        raw.rows(&["journal_id", "from_seq", "to_seq", "reason", "at"], "journal_gap"),
        [format!("{journal}|3|13|drop_oldest|2026-01-05 06:39:59.000001+00:00")]
    );
    assert_eq!(store.checkpoint(journal).unwrap().unwrap().ledger.committed_seq, Seq(20));
}

pub fn nul_characters_never_reach_the_database_nor_fail_a_batch(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut sent = batch_of(journal, 0, 2);
    sent.readings[0].topic = Arc::from("a/b\0/c");
    let mut rejected = rejection(3);
    rejected.topic = Arc::from("\0");
    rejected.rejection.detail = "found \0 here".to_owned();
    sent.rejections.push(rejected);
    let outcome = store.commit(&sent).unwrap();
    assert_eq!((outcome.stored, outcome.rejected), (2, 1));
    let mut raw = fixture.raw();
    assert_eq!(raw.count("machine_telemetry WHERE source_topic = 'a/b\u{FFFD}/c'"), 1);
    assert_eq!(raw.rows(&["topic", "detail"], "rejected_message"), ["\u{FFFD}|found \u{FFFD} here"]);
}

/// Proves STO-3.
pub fn the_ledger_holds_over_batches_of_every_kind(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    fixture.refuse_666();
    let (mut at_seq, mut elements, mut control) = (0, 0, 0);
    for round in 0..12u64 {
        let mut sent = batch_of(journal, at_seq, round);
        if round % 3 == 0 {
            sent.readings.extend((0..round).map(|_| reading(at_seq + 1)));
        }
        if round % 4 == 3 {
            sent.readings[0].reading.temperature = Some(666.0);
        }
        sent.rejections = (0..round % 2).map(|n| rejection(at_seq + n)).collect();
        sent.control = round % 5;
        elements += (sent.readings.len() + sent.rejections.len()) as u64;
        control += sent.control;
        at_seq += round;
        let outcome = store.commit(&sent).unwrap();
        let settled = outcome.stored + outcome.duplicate + outcome.rejected;
        assert_eq!(settled, (sent.readings.len() + sent.rejections.len()) as u64, "{outcome:?}");
        assert_eq!(
            outcome.ledger,
            store.checkpoint(journal).unwrap().unwrap().ledger,
            "the commit returns the ledger of the database"
        );
        assert_eq!(outcome.ledger.elements(), elements + control);
    }
    let ledger = store.checkpoint(journal).unwrap().unwrap().ledger;
    assert_eq!((ledger.committed_seq, ledger.messages, ledger.control), (Seq(at_seq), at_seq, control));
    assert_eq!(ledger.stored + ledger.duplicate + ledger.rejected, elements);
    assert_eq!(ledger.stored, fixture.raw().count("machine_telemetry"));
    assert_eq!(ledger.rejected, fixture.raw().count("rejected_message"), "also beside duplicates");
    assert!(ledger.duplicate > 0 && ledger.rejected > 6, "{ledger:?}");
}

/// Proves STO-1, STO-4.
pub fn an_error_that_no_row_caused_fails_the_batch(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut sent = batch_of(journal, 0, 10);
    sent.rejections.push(rejection(1));
    for table in ["machine_telemetry", "rejected_message", "ingest_checkpoint"] {
        fixture.raw().execute(&format!("ALTER TABLE {table} RENAME TO away"));
        let error = assert_transient(store.commit(&sent));
        assert!(matches!(error, StoreError::Commit { .. }), "{error:?}");
        fixture.raw().execute(&format!("ALTER TABLE away RENAME TO {table}"));
        store = fixture.open();
    }
    assert_eq!(fixture.raw().count("machine_telemetry"), 0);
    assert_eq!(store.checkpoint(journal).unwrap().unwrap().ledger.committed_seq, Seq::ZERO);
    assert_eq!(store.commit(&sent).unwrap().stored, 10);
}

pub fn machines_and_readings_of_another_site_are_left_alone(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut other =
        store::open(&store::StoreOptions { site: "halle-8".to_owned(), ..fixture.options() }).unwrap();
    let elsewhere = JournalId(Uuid::new_v4());
    other.claim(&JournalHistory::of_new_journal(elsewhere)).unwrap();
    for (store, journal) in [(&mut store, journal), (&mut other, elsewhere)] {
        let mut sent = batch_of(journal, 0, 3);
        sent.transitions.push(transition("press-1", TransitionReason::FirstSeen, 0, None));
        assert_eq!(store.commit(&sent).unwrap().stored, 3);
    }
    let mut seen = nothing(journal, Seq(3));
    seen.sightings.push((machine("press-1"), at(77)));
    store.commit(&seen).unwrap();
    assert_eq!(store.machines().unwrap()[0].last_seen_at, Some(at(77)));
    assert_eq!(other.machines().unwrap()[0].last_seen_at, Some(at(0)));

    assert_eq!(prune_all(&mut *store, at(1_000_000_000), 100), [3]);
    assert_eq!(fixture.raw().rows(&["site"], "machine_telemetry"), ["halle-8"; 3]);
    let status = store.status().unwrap();
    assert_eq!(status.checkpoints.len(), 2);
    let rows: Vec<_> = status.tables.iter().map(|count| (count.table, count.rows, count.exact)).collect();
    assert_eq!(rows[..3], [("machine_telemetry", 3, true), ("machine", 2, true), ("machine_event", 2, true)]);
}
