//! One contract, kept by both databases: every clause runs against an SQLite file and against a real
//! PostgreSQL.
//!
//! Each clause is a test of its own on either. A server costs a fifth of a second: on PostgreSQL each clause has one.

#![allow(clippy::unwrap_used)]

mod bucket_pages;
mod claim_clauses;
mod clauses;
mod clock_clauses;
mod event_clauses;
mod fixture;
mod history_clauses;
mod liveness_clauses;
mod one_by_one;
mod only_postgres;
mod only_sqlite;
mod refused_clauses;
mod rejected_clauses;
mod retained_clauses;
mod rollup_clauses;
mod rollup_exact_clauses;
mod rollup_prune_clauses;
mod slow_postgres;
mod trend_clauses;
mod unreadable_clauses;

#[path = "../../../tests/support/postgres.rs"]
#[allow(dead_code, unused)]
mod postgres_server;

/// Makes each clause a test on SQLite and one on PostgreSQL.
macro_rules! contract {
    ($($clause:ident,)+) => {
        mod sqlite {
            $(
                #[test]
                fn $clause() {
                    super::clauses::$clause(&super::fixture::Fixture::sqlite());
                }
            )+
        }

        mod postgres {
            $(
                #[test]
                fn $clause() {
                    let server = super::postgres_server::Postgres::start();
                    super::clauses::$clause(&super::fixture::Fixture::postgres(server.url()));
                }
            )+
        }
    };
}

contract! {
    a_new_journal_begins_at_zero_and_keeps_its_position,
    a_claim_fences_whoever_had_the_position_before,
    a_position_of_another_history_is_not_claimed,
    a_position_of_version_1_is_claimed_by_who_held_all_of_it,
    of_claims_at_once_one_is_granted,
    readings_are_stored_to_the_last_bit_and_microsecond,
    duplicates_in_one_batch_and_across_batches_are_counted_and_not_stored,
    a_batch_on_another_position_is_refused_as_a_whole,
    a_batch_sent_again_after_an_unknown_outcome_is_refused,
    one_refused_row_is_set_aside_and_the_rest_is_stored,
    fifty_refused_rows_of_thousands_are_set_aside,
    a_batch_of_refused_rows_only_still_moves_the_position,
    rejections_and_gaps_are_recorded_with_what_is_needed_to_look_into_them,
    nul_characters_never_reach_the_database_nor_fail_a_batch,
    the_ledger_holds_over_batches_of_every_kind,
    transitions_make_events_and_machines_and_again_change_nothing,
    the_last_status_wins_whatever_its_time_and_what_is_sent_again_changes_nothing,
    sightings_move_known_machines_whichever_way_the_clock_went,
    events_are_pending_until_they_are_marked_and_come_back_in_order,
    outages_are_recorded_once_and_stay_closed,
    a_refused_row_of_any_kind_is_left_out_and_told_and_all_else_is_recorded,
    thousands_of_changes_with_a_refused_one_among_them_are_recorded,
    readings_events_and_outages_of_a_time_are_those_of_the_site,
    outages_of_a_time_are_those_that_reach_into_it,
    rows_that_cannot_be_read_are_passed_over_and_named_once,
    trouble_that_is_no_rows_fault_fails_the_batch_and_stores_nothing,
    machines_and_readings_of_another_site_are_left_alone,
    two_migrators_at_once_apply_each_migration_once,
    a_database_of_a_newer_binary_is_not_touched,
    pruning_deletes_the_oldest_of_the_site_in_bounded_steps,
    a_reading_goes_only_when_its_receipt_is_past_retention_too,
    a_step_of_deleting_looks_at_so_many_machines_and_rows_whatever_is_there,
    a_retried_element_moves_in_the_ledger_and_its_row_goes,
    a_message_that_turns_out_to_be_an_array_counts_as_its_elements,
    a_reading_that_the_database_refuses_stays_rejected,
    rejected_elements_of_another_site_are_left_alone,
    without_a_ledger_nothing_is_retried,
    commits_and_retries_at_once_lose_no_count,
    the_newer_record_of_the_trusted_time_stays,
    without_a_record_the_newest_position_stands_for_it,
    an_unreadable_record_of_the_trusted_time_is_named_and_stops_nothing,
    rejections_keep_whether_the_clock_was_unset,
    a_retained_message_without_time_is_stored_once_however_often_it_comes,
    the_retained_copy_of_the_newest_reading_is_no_other_reading,
    a_refused_retained_message_is_stored_when_it_comes_again,
    rejected_copies_of_a_retained_message_become_one_reading,
    a_retained_message_is_forgotten_when_it_has_not_come_for_the_time_of_retention,
    rejected_elements_are_listed_in_pages_and_counted,
    the_curves_of_many_machines_are_one_question,
    history_cannot_write,
    history_of_a_database_that_is_not_there_is_an_error_and_creates_nothing,
    pages_of_readings_join_also_within_a_microsecond,
    figures_are_those_of_the_values_that_are_numbers,
    the_newest_reading_is_the_newest_by_its_own_time,
    a_list_has_the_size_of_a_large_extra_and_the_machine_has_all_of_it,
    who_has_read_enough_reads_no_further_and_the_connection_goes_on,
    pages_of_events_join_and_can_be_of_one_machine,
    events_come_in_the_order_in_which_they_happened_and_those_of_a_time_by_their_times,
    events_are_read_by_index_only,
    a_million_rows_are_read_by_index_only,
    figures_are_those_of_the_rows_whatever_happens,
    refused_rows_are_in_no_bucket,
    an_empty_site_has_exact_rollups_from_the_beginning,
    readings_of_before_there_were_rollups_are_charted_from_the_rows,
    a_database_of_version_1_keeps_the_instant_it_had,
    rollups_are_exact_also_when_two_processes_of_a_site_write_and_a_third_deletes,
    a_chart_sees_a_deletion_whole_or_not_at_all,
    rollups_past_retention_go_in_bounded_steps,
    a_step_deletes_so_many_rollups_however_many_machines_there_are,
    a_question_that_takes_too_long_is_cut,
    figures_of_long_times_are_read_by_index_only,
    pages_of_buckets_join_and_are_of_few_readings,
}
