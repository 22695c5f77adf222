//! What the pipeline's parts know of themselves: journal, ledger, stages, broker and clock.

use super::Exposition;
use crate::clock::{mono_now, wall_now};
use crate::http::HttpState;
use crate::http::api::status::{Ledger, time_to_full};
use crate::journal::Space;
use crate::status::{ActorPhase, BrokerState};

pub(super) fn journal(out: &mut Exposition<'_>, state: &HttpState) {
    let stats = state.journal.stats();
    let positions = stats.positions;
    for (name, help, value) in [
        ("andon_journal_appended_seq", "Seq of the newest message in the journal.", positions.appended.0),
        ("andon_journal_synced_seq", "Seq of the newest message synced to the disk.", positions.synced.0),
        ("andon_journal_committed_seq", "Seq of the newest message in the database.", positions.committed.0),
        (
            "andon_journal_pending_messages",
            "Messages in the journal that are not in the database yet.",
            positions.appended.since(positions.committed),
        ),
        ("andon_journal_bytes", "Size of the journal.", stats.bytes),
        ("andon_journal_bytes_max", "Limit on the journal's size, journal.max_bytes.", stats.bytes_max),
        ("andon_journal_full", "1 while the journal has no room.", (stats.space != Space::Free).into()),
        ("andon_journal_failed", "1 once the journal has failed permanently.", stats.failed.into()),
    ] {
        out.gauge(name, help, value);
    }
    let oldest_pending = stats.oldest_pending.map_or(0.0, |at| wall_now().since(at).as_secs_f64());
    let to_full = time_to_full(state).seconds().map_or(f64::INFINITY, |seconds| seconds as f64);
    for (name, help, seconds) in [
        (
            "andon_journal_unsynced_age_seconds",
            "How long the oldest unsynced message has been waiting for the disk.",
            stats.unsynced_age.as_secs_f64(),
        ),
        (
            "andon_journal_disk_busy_seconds",
            "How long the disk has not responded to the journal; 0 if nothing waits for it.",
            stats.disk_busy_for.as_secs_f64(),
        ),
        (
            "andon_journal_oldest_pending_age_seconds",
            "Age of the oldest pending message; 0 if none is pending.",
            oldest_pending,
        ),
        (
            "andon_journal_time_to_full_seconds",
            "Time until the journal is full at the rates of the last minutes; +Inf if never, or not known yet.",
            to_full,
        ),
        (
            "andon_journal_sync_longest_seconds",
            "The longest sync of the journal since the start.",
            stats.sync_longest.as_secs_f64(),
        ),
    ] {
        out.gauge(name, help, seconds);
    }
    out.counter("andon_journal_dropped_total", "Messages dropped by drop_oldest.", stats.dropped_records);
    out.counter("andon_journal_syncs_total", "Syncs of the journal to the disk.", stats.syncs);
}

/// Writes the ledger. It covers the journal's whole life, not only this process.
pub(super) fn ledger(out: &mut Exposition<'_>, state: &HttpState) {
    let ledger = Ledger::now(state);
    let elements = [
        ("stored", ledger.stored),
        ("duplicate", ledger.duplicate),
        ("rejected", ledger.rejected),
        ("control", ledger.control),
    ];
    let known = elements.into_iter().filter_map(|(outcome, count)| Some((outcome, count?)));
    out.gauges("andon_ledger_elements", "The journal's ledger: elements by outcome.", "outcome", known);
    let messages = [
        ("journaled", Some(ledger.journaled)),
        ("committed", ledger.committed),
        ("pending", Some(ledger.pending)),
    ];
    let known = messages.into_iter().filter_map(|(place, count)| Some((place, count?)));
    out.gauges("andon_ledger_messages", "The journal's ledger: messages by place.", "place", known);
}

pub(super) fn stages(out: &mut Exposition<'_>, state: &HttpState) {
    let cells = &state.cells;
    let actors = cells.actors.snapshot();
    let restarts = actors.iter().map(|actor| (actor.name, actor.restarts));
    out.counters("andon_actor_restarts_total", "Restarts of an actor.", "actor", restarts);
    let running = actors.iter().map(|actor| (actor.name, actor.phase == ActorPhase::Running));
    out.gauges("andon_actor_running", "1 while an actor runs.", "actor", running);
    let now = mono_now();
    let stages = [("parser", cells.progress.parsed_at()), ("writer", cells.progress.committed_at())];
    let idle = stages.into_iter().filter_map(|(stage, at)| Some((stage, now.since(at?).as_secs_f64())));
    out.gauges("andon_stage_idle_seconds", "Time since a stage last made progress.", "stage", idle);
    let (stalled_for, _) = state.stall.observe(now, &state.journal.stats(), cells);
    out.gauge(
        "andon_standstill_seconds",
        "How long messages have been pending without a commit.",
        stalled_for.as_secs_f64(),
    );
}

pub(super) fn broker(out: &mut Exposition<'_>, state: &HttpState) {
    let broker = state.cells.broker.snapshot();
    out.gauge(
        "andon_broker_connected",
        "1 while connected with every subscription granted.",
        broker.state == BrokerState::Connected,
    );
    let states = BrokerState::ALL.map(|each| (each.as_str(), each == broker.state));
    out.gauges("andon_broker_state", "1 for the current state of the broker connection.", "state", states);
    out.counter("andon_broker_connects_total", "Connections to the broker.", broker.connects);
    out.counters(
        "andon_broker_socket_calls_total",
        "System calls on buffered connections to the broker.",
        "call",
        (state.socket_calls)(),
    );
}

/// Writes the clock that decides the age of rows.
pub(super) fn clock(out: &mut Exposition<'_>, state: &HttpState) {
    let clock = state.clock.status();
    out.gauge(
        "andon_clock_step_waiting",
        "1 while the wall clock is not trusted; then nothing expires.",
        clock.step.is_some() || clock.is_unset,
    );
    out.gauge(
        "andon_clock_step_seconds",
        "How far the wall clock is ahead of the trusted time (negative: behind) while it is not trusted, else 0.",
        clock.step.unwrap_or(0) as f64 / 1e6,
    );
    out.gauge(
        "andon_clock_trusted_timestamp_seconds",
        "The trusted time, in Unix time.",
        clock.trusted.as_micros() as f64 / 1e6,
    );
    out.gauge(
        "andon_clock_synchronised",
        "1 while the kernel reports the wall clock as synchronised (NTP).",
        clock.synchronised,
    );
}
