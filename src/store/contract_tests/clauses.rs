//! What both databases have to do, each clause on an empty database.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use uuid::Uuid;

pub use super::bucket_pages::pages_of_buckets_join_and_are_of_few_readings;
pub use super::claim_clauses::{
    a_claim_fences_whoever_had_the_position_before, a_position_of_another_history_is_not_claimed,
    a_position_of_version_1_is_claimed_by_who_held_all_of_it, of_claims_at_once_one_is_granted,
};
pub use super::clock_clauses::{
    an_unreadable_record_of_the_trusted_time_is_named_and_stops_nothing,
    the_newer_record_of_the_trusted_time_stays, without_a_record_the_newest_position_stands_for_it,
};
pub use super::event_clauses::{
    events_are_read_by_index_only,
    events_come_in_the_order_in_which_they_happened_and_those_of_a_time_by_their_times,
    pages_of_events_join_and_can_be_of_one_machine,
};
use super::fixture::{
    Fixture, SITE, assert_stale, assert_transient, at, batch, batch_of, changes, machine, nothing, prune_all,
    reading, rejection, transition,
};
pub use super::history_clauses::{
    a_list_has_the_size_of_a_large_extra_and_the_machine_has_all_of_it,
    a_million_rows_are_read_by_index_only, figures_are_those_of_the_values_that_are_numbers,
    history_cannot_write, history_of_a_database_that_is_not_there_is_an_error_and_creates_nothing,
    pages_of_readings_join_also_within_a_microsecond, the_newest_reading_is_the_newest_by_its_own_time,
    who_has_read_enough_reads_no_further_and_the_connection_goes_on,
};
pub use super::liveness_clauses::{
    events_are_pending_until_they_are_marked_and_come_back_in_order,
    outages_are_recorded_once_and_stay_closed, outages_of_a_time_are_those_that_reach_into_it,
    readings_events_and_outages_of_a_time_are_those_of_the_site,
};
pub use super::refused_clauses::{
    a_refused_row_of_any_kind_is_left_out_and_told_and_all_else_is_recorded,
    thousands_of_changes_with_a_refused_one_among_them_are_recorded,
};
pub use super::rejected_clauses::{
    a_message_that_turns_out_to_be_an_array_counts_as_its_elements,
    a_reading_that_the_database_refuses_stays_rejected,
    a_retried_element_moves_in_the_ledger_and_its_row_goes, commits_and_retries_at_once_lose_no_count,
    rejected_elements_are_listed_in_pages_and_counted, rejected_elements_of_another_site_are_left_alone,
    rejections_keep_whether_the_clock_was_unset, without_a_ledger_nothing_is_retried,
};
pub use super::retained_clauses::{
    a_refused_retained_message_is_stored_when_it_comes_again,
    a_retained_message_is_forgotten_when_it_has_not_come_for_the_time_of_retention,
    a_retained_message_without_time_is_stored_once_however_often_it_comes,
    rejected_copies_of_a_retained_message_become_one_reading,
    the_retained_copy_of_the_newest_reading_is_no_other_reading,
};
pub use super::rollup_clauses::{
    a_question_that_takes_too_long_is_cut, figures_are_those_of_the_rows_whatever_happens,
    figures_of_long_times_are_read_by_index_only, refused_rows_are_in_no_bucket,
};
pub use super::rollup_exact_clauses::{
    a_chart_sees_a_deletion_whole_or_not_at_all, a_database_of_version_1_keeps_the_instant_it_had,
    an_empty_site_has_exact_rollups_from_the_beginning,
    readings_of_before_there_were_rollups_are_charted_from_the_rows,
    rollups_are_exact_also_when_two_processes_of_a_site_write_and_a_third_deletes,
};
pub use super::rollup_prune_clauses::{
    a_step_deletes_so_many_rollups_however_many_machines_there_are,
    rollups_past_retention_go_in_bounded_steps,
};
pub use super::trend_clauses::the_curves_of_many_machines_are_one_question;
pub use super::unreadable_clauses::rows_that_cannot_be_read_are_passed_over_and_named_once;
use crate::domain::{
    JournalHistory, JournalId, MachineStatus, OpenId, Qos, Seq, TimeSource, Timestamp, TransitionReason,
};
use crate::store::{self, Batch, CommitOutcome, ErrorClass, GapRow, MachineRow, PruneBounds, StoreError};

pub fn a_new_journal_begins_at_zero_and_keeps_its_position(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let checkpoint = store.checkpoint(journal).unwrap().unwrap();
    assert_eq!((checkpoint.committed_seq, checkpoint.messages), (Seq::ZERO, 0));
    assert_eq!((checkpoint.journal_id, checkpoint.site), (journal.to_string(), SITE.to_owned()));

    store.commit(&batch_of(journal, 0, 3)).unwrap();
    drop(store);
    let mut reopened = fixture.migrated();
    let checkpoint = reopened.checkpoint(journal).unwrap().unwrap();
    assert_eq!((checkpoint.committed_seq, checkpoint.messages, checkpoint.stored), (Seq(3), 3, 3));
    let age = Timestamp::from(chrono::Utc::now()).since(checkpoint.updated_at);
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
    assert_eq!((checkpoint.stored, checkpoint.duplicate, checkpoint.rejected), (3, 3, 0));

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
    assert_eq!(store.checkpoint(journal).unwrap().unwrap().messages, 5);
    assert_eq!(
        store.commit(&batch_of(journal, 5, 1)).unwrap().stored,
        1,
        "the store goes on after a stale batch"
    );
}

pub fn a_batch_sent_again_after_an_unknown_outcome_is_refused(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let sent = batch_of(journal, 0, 4);
    store.commit(&sent).unwrap();
    // The writer never heard of it, and reopens.
    let mut reopened = fixture.open();
    assert_stale(reopened.commit(&sent), 0, Some(4));
    // The old connection, a zombie, sends it too.
    assert_stale(store.commit(&sent), 0, Some(4));
    let checkpoint = reopened.checkpoint(journal).unwrap().unwrap();
    assert_eq!((checkpoint.messages, checkpoint.stored, checkpoint.duplicate), (4, 4, 0));
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
    assert_eq!(checkpoint.committed_seq, Seq(count));
    assert_eq!(
        (checkpoint.stored, checkpoint.duplicate, checkpoint.rejected),
        (outcome.stored, 0, outcome.rejected)
    );
    assert_eq!(fixture.raw().count("machine_telemetry"), outcome.stored);

    assert_eq!(store.commit(&batch_of(journal, count, 1)).unwrap().stored, 1, "the store goes on");
    outcome
}

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

pub fn fifty_refused_rows_of_thousands_are_set_aside(fixture: &Fixture) {
    refused_among(fixture, 4_096, |seq| seq % 81 == 5 && seq < 4_055);
    assert_eq!(fixture.raw().count("rejected_message"), 50);
}

pub fn a_batch_of_refused_rows_only_still_moves_the_position(fixture: &Fixture) {
    refused_among(fixture, 3, |_| true);
    assert_eq!(fixture.raw().count("rejected_message"), 3);
}

pub fn rejections_and_gaps_are_recorded_with_what_is_needed_to_look_into_them(fixture: &Fixture) {
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
    assert_eq!(store.checkpoint(journal).unwrap().unwrap().committed_seq, Seq(20));
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
            store.checkpoint(journal).unwrap().unwrap().ledger(),
            "what the commit says is so"
        );
        assert_eq!(outcome.ledger.elements(), elements + control);
    }
    let ledger = store.checkpoint(journal).unwrap().unwrap();
    assert_eq!((ledger.committed_seq, ledger.messages, ledger.control), (Seq(at_seq), at_seq, control));
    assert_eq!(ledger.stored + ledger.duplicate + ledger.rejected, elements);
    assert_eq!(ledger.stored, fixture.raw().count("machine_telemetry"));
    assert_eq!(ledger.rejected, fixture.raw().count("rejected_message"), "beside duplicates, too");
    assert!(ledger.duplicate > 0 && ledger.rejected > 6, "{ledger:?}");
}

const EVENT: [&str; 6] = ["machine_id", "status", "previous_status", "reason", "occurred_at", "last_seen_at"];

pub fn transitions_make_events_and_machines_and_again_change_nothing(fixture: &Fixture) {
    use MachineStatus::{Offline, Online};
    let (mut store, journal) = fixture.with_journal();
    let sent = changes(
        journal,
        0,
        vec![
            transition("press-1", TransitionReason::FirstSeen, 0, None),
            transition("ghost", TransitionReason::NeverSeen, 7, None),
            transition("press-1", TransitionReason::Silence, 15_000_000, Some(Online)),
            transition("press-1", TransitionReason::Message, 60_000_000, Some(Offline)),
        ],
    );
    for _ in 0..2 {
        store.commit(&sent).unwrap();
        let mut raw = fixture.raw();
        assert_eq!(
            raw.rows(&EVENT, "machine_event ORDER BY id"),
            [
                "press-1|online|-|first_seen|2026-01-05 06:39:59.000001+00:00|2026-01-05 06:39:59.000001+00:00",
                "ghost|offline|-|never_seen|2026-01-05 06:39:59.000008+00:00|-",
                "press-1|offline|online|silence|2026-01-05 06:40:14.000001+00:00|2026-01-05 06:39:59.000001+00:00",
                "press-1|online|offline|message|2026-01-05 06:40:59.000001+00:00|2026-01-05 06:40:59.000001+00:00",
            ]
        );
        let ghost = MachineRow {
            machine_id: machine("ghost"),
            status: Offline,
            status_since: Some(at(7)),
            reason: Some(TransitionReason::NeverSeen),
            first_seen_at: None,
            last_seen_at: None,
        };
        let press = MachineRow {
            machine_id: machine("press-1"),
            status: Online,
            status_since: Some(at(60_000_000)),
            reason: Some(TransitionReason::Message),
            first_seen_at: Some(at(0)),
            last_seen_at: Some(at(60_000_000)),
        };
        assert_eq!(store.machines().unwrap(), [ghost, press]);
    }
    assert_eq!(store.checkpoint(journal).unwrap().unwrap().committed_seq, Seq::ZERO);

    // A ghost that speaks at last.
    store
        .commit(&changes(
            journal,
            0,
            vec![transition("ghost", TransitionReason::FirstSeen, 99, Some(Offline))],
        ))
        .unwrap();
    let ghost = &store.machines().unwrap()[0];
    assert_eq!((ghost.status, ghost.first_seen_at, ghost.last_seen_at), (Online, Some(at(99)), Some(at(99))));
}

pub fn the_last_status_wins_whatever_its_time_and_what_is_sent_again_changes_nothing(fixture: &Fixture) {
    use MachineStatus::{Offline, Online};
    let (mut store, journal) = fixture.with_journal();
    // The clock is set back between the second and the third.
    let history = [
        transition("m", TransitionReason::FirstSeen, 60_000_000, None),
        transition("m", TransitionReason::Silence, 80_000_000, Some(Online)),
        transition("m", TransitionReason::Message, 10_000_000, Some(Offline)),
        transition("m", TransitionReason::Silence, 30_000_000, Some(Online)),
    ];
    for batch_size in 1..=4 {
        let mut own = history.clone();
        own.iter_mut().for_each(|each| each.machine_id = machine(&format!("m{batch_size}")));
        for run in own.chunks(batch_size) {
            store.commit(&changes(journal, 0, run.to_vec())).unwrap();
        }
        // A writer that was given up may be late with any beginning of it.
        for length in 1..=4 {
            store.commit(&changes(journal, 0, own[..length].to_vec())).unwrap();
        }
    }
    let machines = store.machines().unwrap();
    assert_eq!(machines.len(), 4);
    for row in machines {
        assert_eq!((row.status, row.status_since), (Offline, Some(at(30_000_000))), "{row:?}");
        assert_eq!(
            (row.first_seen_at, row.last_seen_at),
            (Some(at(60_000_000)), Some(at(15_000_000))),
            "{row:?}"
        );
    }
    assert_eq!(fixture.raw().count("machine_event"), 4 * 4);
}

pub fn sightings_move_known_machines_whichever_way_the_clock_went(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut first = changes(
        journal,
        0,
        vec![
            transition("a", TransitionReason::FirstSeen, 10, None),
            transition("ghost", TransitionReason::NeverSeen, 10, None),
        ],
    );
    // Created in the same batch.
    first.sightings = vec![(machine("a"), at(900)), (machine("nobody"), at(1))];
    store.commit(&first).unwrap();
    let last_seen = |rows: Vec<MachineRow>| rows.into_iter().map(|row| row.last_seen_at).collect::<Vec<_>>();
    assert_eq!(last_seen(store.machines().unwrap()), [Some(at(900)), None]);

    let mut second = nothing(journal, Seq::ZERO);
    second.sightings = vec![(machine("a"), at(899)), (machine("ghost"), at(5))];
    store.commit(&second).unwrap();
    assert_eq!(last_seen(store.machines().unwrap()), [Some(at(899)), Some(at(5))]);
}

pub fn trouble_that_is_no_rows_fault_fails_the_batch_and_stores_nothing(fixture: &Fixture) {
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
    assert_eq!(store.checkpoint(journal).unwrap().unwrap().committed_seq, Seq::ZERO);
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

pub fn two_migrators_at_once_apply_each_migration_once(fixture: &Fixture) {
    // As it is between two versions: migrations were recorded before, and some are pending.
    fixture.raw().execute(
        "CREATE TABLE __diesel_schema_migrations (
             version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)",
    );
    let before = fixture.open().migration_status().unwrap();
    assert!(before.applied.is_empty() && !before.pending.is_empty(), "{before:?}");
    let start = Barrier::new(4);
    let reports: Vec<_> = std::thread::scope(|scope| {
        let migrate = || {
            let mut store = fixture.open();
            start.wait();
            store.migrate().unwrap().applied
        };
        let migrators: Vec<_> = (0..4).map(|_| scope.spawn(migrate)).collect();
        migrators.into_iter().map(|migrator| migrator.join().unwrap()).collect()
    });
    assert_eq!(reports.concat(), before.pending, "{reports:?}");
    let after = fixture.open().migration_status().unwrap();
    assert_eq!((after.applied, after.pending, after.unknown), (before.pending, vec![], vec![]));
}

pub fn a_database_of_a_newer_binary_is_not_touched(fixture: &Fixture) {
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231235959')";
    let mut store = fixture.migrated();
    fixture.raw().execute(newer);
    assert_eq!(store.migration_status().unwrap().unknown, ["20991231235959"]);
    // As if one of ours were pending, too.
    fixture.raw().execute("DELETE FROM __diesel_schema_migrations WHERE version < '2099'");
    let error = store.migrate().unwrap_err();
    assert_eq!(error.class(), ErrorClass::Configuration, "{error:?}");
    assert!(error.to_string().contains("20991231235959"), "{error}");
    assert_eq!(fixture.raw().count("__diesel_schema_migrations"), 1);
}

pub fn pruning_deletes_the_oldest_of_the_site_in_bounded_steps(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut sent = batch_of(journal, 0, 90);
    for (n, row) in sent.readings.iter_mut().enumerate() {
        row.reading.machine_id = machine(["a", "b", "c"][n % 3]);
        row.qos = Qos::AtMostOnce;
    }
    store.commit(&sent).unwrap();
    // Records 1 to 59 are older than record 60.
    let before = reading(60).reading.recorded_at;
    assert_eq!(prune_all(&mut *store, before, 25), [25, 25, 9]);
    assert_eq!(prune_all(&mut *store, before, 25), [0]);
    let mut raw = fixture.raw();
    assert_eq!(raw.count("machine_telemetry"), 31);
    assert_eq!(raw.count("machine_telemetry WHERE digest < 60"), 0);
}

pub fn a_reading_goes_only_when_its_receipt_is_past_retention_too(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut sent = batch_of(journal, 0, 30);
    // A device whose clock stands years back: all of its readings are received now.
    for row in sent.readings.iter_mut().filter(|row| row.seq.0 % 3 == 0) {
        row.received_at = at(9_000_000_000);
    }
    store.commit(&sent).unwrap();
    assert_eq!(prune_all(&mut *store, at(1_000_000_000), 4).iter().sum::<u64>(), 20);
    assert_eq!(fixture.raw().count("machine_telemetry WHERE digest % 3 = 0"), 10);
    assert_eq!(prune_all(&mut *store, at(9_000_000_001), 4).iter().sum::<u64>(), 10);
}

pub fn a_step_of_deleting_looks_at_so_many_machines_and_rows_whatever_is_there(fixture: &Fixture) {
    drop(fixture.migrated());
    let columns = "site, machine_id, source_topic, recorded_at, time_source, received_at, created_at, digest";
    let time = "'2026-01-05 06:40:00.000000+00:00'";
    let machine_id = fixture.either("printf('m-%06d', n)", "'m-' || lpad(n::text, 6, '0')");
    let numbers = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000)";
    fixture.raw().execute(&format!(
        "{numbers} INSERT INTO machine_telemetry ({columns}) SELECT 'halle-7', {machine_id}, 't', {time}, 'device', {time}, {time}, n FROM c"
    ));
    let mut store = fixture.open();
    let bounds = PruneBounds { machines_max: 1_000, rows_max: 400, time_max: Duration::MAX };
    let nothing = store.prune(at(0), None, bounds).unwrap();
    assert_eq!((nothing.machines, nothing.looked_at, nothing.rows), (1_000, 0, 0));
    let second = store.prune(at(0), nothing.next.as_ref(), bounds).unwrap();
    assert_eq!((second.machines, second.looked_at), (1_000, 0), "it goes on behind the first thousand");
    let some = store.prune(at(1_000_000_000), second.next.as_ref(), bounds).unwrap();
    assert_eq!((some.machines, some.looked_at, some.rows), (400, 400, 400));
    let more = store.prune(at(1_000_000_000), some.next.as_ref(), bounds).unwrap();
    assert_eq!((more.looked_at, more.rows), (400, 400));
    assert_eq!(fixture.raw().rows(&["min(machine_id)"], "machine_telemetry"), ["m-000001"]);
    assert_eq!(fixture.raw().count("machine_telemetry"), 99_200);
    // A database that is far away: the time is used up with the first question.
    let hurried = PruneBounds { time_max: Duration::ZERO, ..bounds };
    let first = store.prune(at(1_000_000_000), more.next.as_ref(), hurried).unwrap();
    let second = store.prune(at(1_000_000_000), first.next.as_ref(), hurried).unwrap();
    assert_eq!(((first.machines, first.rows), (second.machines, second.rows)), ((1, 1), (1, 1)));
}
