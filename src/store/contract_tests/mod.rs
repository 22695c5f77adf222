//! The contract of the store, one test per clause and database: an SQLite file, and a real PostgreSQL server.
//!
//! A PostgreSQL server starts in a fifth of a second, so each clause has its own.

#![allow(clippy::unwrap_used)]

mod bucket_page_clauses;
mod claim_clauses;
mod clock_clauses;
mod commit_clauses;
mod copied_databases;
mod copied_readings;
mod event_clauses;
mod fixture;
mod forget_clauses;
mod history_clauses;
mod import_clauses;
mod liveness_clauses;
mod machine_clauses;
mod migration_clauses;
mod moved_files;
mod only_postgres;
mod only_sqlite;
mod partitions;
mod prune_clauses;
mod reference_view_clauses;
mod refused_clauses;
mod rejected_clauses;
mod retained_clauses;
mod retention_clauses;
mod rollup_clauses;
mod rollup_exact_clauses;
mod rollup_prune_clauses;
mod run_sizes;
mod schema_clauses;
mod slow_postgres;
mod sqlite_runs;
mod timescale;
mod trend_clauses;
mod unreadable_clauses;

#[path = "../../../tests/support/postgres.rs"]
#[allow(dead_code, unused)]
mod postgres_server;

/// Makes each clause a test on SQLite and one on PostgreSQL.
macro_rules! contract {
    ($($module:ident { $($clause:ident,)+ })+) => {
        mod sqlite {
            $($(
                #[test]
                fn $clause() {
                    super::$module::$clause(&super::fixture::Fixture::sqlite());
                }
            )+)+
        }

        mod postgres {
            $($(
                #[test]
                fn $clause() {
                    let server = super::postgres_server::Postgres::start();
                    super::$module::$clause(&super::fixture::Fixture::postgres(server.url()));
                }
            )+)+
        }
    };
}

contract! {
    bucket_page_clauses {
        pages_of_buckets_join_and_have_a_bounded_number_of_readings,
    }
    claim_clauses {
        a_new_claim_fences_the_previous_holder,
        a_position_of_another_history_is_not_claimed,
        a_position_of_version_1_is_granted_to_a_journal_that_held_all_of_it,
        only_one_of_concurrent_claims_is_granted,
    }
    clock_clauses {
        the_newer_record_of_the_trusted_time_stays,
        without_a_record_the_newest_commit_is_the_trusted_time,
        an_unreadable_clock_record_is_named_and_stops_no_claim,
    }
    commit_clauses {
        a_new_journal_begins_at_zero_and_keeps_its_position,
        readings_are_stored_to_the_last_bit_and_microsecond,
        duplicates_in_one_batch_and_across_batches_are_counted_and_not_stored,
        a_batch_on_another_position_is_refused_as_a_whole,
        a_batch_sent_again_after_an_unknown_outcome_is_refused,
        one_refused_row_is_set_aside_and_the_rest_is_stored,
        fifty_refused_rows_of_thousands_are_set_aside,
        a_batch_of_refused_rows_only_still_moves_the_position,
        rejections_and_gaps_are_recorded_with_their_details,
        nul_characters_never_reach_the_database_nor_fail_a_batch,
        the_ledger_holds_over_batches_of_every_kind,
        an_error_that_no_row_caused_fails_the_batch,
        machines_and_readings_of_another_site_are_left_alone,
    }
    event_clauses {
        pages_of_events_join_and_can_be_of_one_machine,
        events_come_in_order_of_recording_and_those_of_a_range_in_order_of_time,
        events_are_read_by_index_only,
    }
    forget_clauses {
        a_request_deletes_the_row_and_stays_until_the_status_is_cleared,
        a_later_request_of_the_same_machine_is_not_done_by_an_earlier_change,
    }
    history_clauses {
        history_cannot_write,
        history_of_a_database_that_is_not_there_is_an_error_and_creates_nothing,
        pages_of_readings_join_also_within_a_microsecond,
        statistics_count_only_values_that_are_numbers,
        the_newest_reading_is_the_newest_by_its_own_time,
        a_list_has_the_size_of_a_large_extra_and_one_machine_has_its_text,
        reading_stops_early_and_the_connection_stays_usable,
        machines_that_have_readings_are_found_one_after_the_other,
        a_million_rows_are_read_by_index_only,
    }
    liveness_clauses {
        events_are_pending_until_they_are_marked_and_come_back_in_order,
        outages_are_recorded_once_and_stay_closed,
        readings_events_and_outages_of_a_range_are_those_of_the_site,
        outages_of_a_range_are_those_that_overlap_it,
    }
    machine_clauses {
        transitions_make_events_and_machines_once,
        the_last_status_wins_whatever_its_time,
        sightings_update_known_machines_even_when_the_clock_goes_back,
    }
    migration_clauses {
        concurrent_migrators_apply_each_migration_once,
        a_database_of_a_newer_binary_is_not_touched,
    }
    prune_clauses {
        pruning_deletes_the_oldest_of_the_site_in_bounded_steps,
        a_reading_is_pruned_only_once_its_receipt_is_past_retention_too,
        a_pruning_step_examines_a_bounded_number_of_machines_and_rows,
    }
    refused_clauses {
        a_refused_row_of_any_kind_is_reported_and_the_rest_is_recorded,
        one_refused_change_among_thousands_costs_only_itself,
    }
    rejected_clauses {
        a_retried_element_moves_in_the_ledger_and_loses_its_row,
        a_message_that_turns_out_to_be_an_array_counts_as_its_elements,
        a_reading_that_the_database_refuses_stays_rejected,
        rejected_elements_of_another_site_are_left_alone,
        without_a_ledger_nothing_is_retried,
        concurrent_commits_and_retries_lose_no_count,
        rejections_keep_whether_the_clock_was_unset,
        rejected_elements_are_listed_in_pages_and_counted,
    }
    retained_clauses {
        a_retained_message_without_time_is_stored_once_however_often_it_comes,
        the_retained_copy_of_the_newest_reading_is_a_duplicate,
        a_refused_retained_message_is_stored_when_it_comes_again,
        rejected_copies_of_a_retained_message_become_one_reading,
        a_retained_message_is_forgotten_once_its_last_receipt_is_past_retention,
    }
    retention_clauses {
        events_past_retention_go_but_the_newest_of_each_machine_stays,
        outages_past_retention_go_but_the_newest_stays,
        rejected_messages_go_by_age_in_steps_of_bounded_bytes,
        the_oldest_rejected_messages_go_once_a_site_has_too_many_bytes,
        age_and_bytes_of_rejected_messages_are_bounded_in_one_run,
        audit_events_are_recorded_and_go_by_age,
        a_run_without_limits_deletes_nothing,
        rejected_messages_of_the_version_before_are_bounded_too,
    }
    rollup_clauses {
        rollups_equal_the_readings_whatever_happens,
        refused_rows_are_in_no_bucket,
        a_query_that_takes_too_long_is_cancelled,
        statistics_of_long_ranges_are_read_by_index_only,
    }
    rollup_exact_clauses {
        an_empty_site_has_exact_rollups_from_the_beginning,
        readings_older_than_rollups_are_charted_from_the_readings,
        a_database_of_version_1_keeps_the_instant_it_had,
        rollups_stay_exact_while_two_processes_write_and_a_third_prunes,
        a_chart_sees_a_deletion_whole_or_not_at_all,
    }
    rollup_prune_clauses {
        rollups_past_retention_are_pruned_in_bounded_steps,
        a_pruning_step_deletes_a_bounded_number_of_rollups,
    }
    trend_clauses {
        one_query_returns_the_trends_of_many_machines,
    }
    unreadable_clauses {
        unreadable_rows_are_skipped_and_named_once,
    }
}
