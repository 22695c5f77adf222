//! `/metrics`: everything that is counted, as Prometheus reads it.
//!
//! The values live in [`crate::metrics`], in the journal and on the boards, and are written down for each answer, so that the
//! pipeline never waits for one.

mod page;
mod process;

use actix_web::body::BoxBody;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, web};

use self::page::Page;
use super::HttpState;
use super::api::status::{Ledger, time_to_full};
use super::body::{BodyWriter, PAGE_BYTES_MAX};
use super::problem::Problem;
use crate::clock::{Mono, mono_now, wall_now};
use crate::domain::{DisplayStatus, RefusedKind, RejectReason};
use crate::status::{ActorPhase, BrokerState, MachineView};

/// More than all metrics take up that are not of one machine.
const OTHERS_BYTES: usize = 64 * 1024;
/// More than the metrics of one machine take up, beside its id.
const MACHINE_BYTES: usize = 160;

/// Every metric, in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "Prometheus text format 0.0.4; every name begins with andon_", body = String, content_type = "text/plain"),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
))]
pub async fn metrics(state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let mut body = BodyWriter::new(&state.budget);
    exposition(&mut Page::new(&mut body), &state);
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let body = BoxBody::new(body.finish()?);
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, content_type)).body(body))
}

/// All metrics of this moment as text.
fn exposition(page: &mut Page<'_>, state: &HttpState) {
    messages(page, state);
    journal(page, state);
    ledger(page, state);
    pipeline(page, state);
    broker(page, state);
    machines(page, state);
    http(page, state);
    clock(page, state);
    process::process(page, state);
}

fn messages(page: &mut Page<'_>, state: &HttpState) {
    let metrics = &state.metrics;
    page.counter("andon_messages_received_total", "Messages journaled.", metrics.messages_received.get());
    page.counter(
        "andon_received_bytes_total",
        "Payload bytes of the messages journaled.",
        metrics.bytes_received.get(),
    );
    page.counter(
        "andon_readings_stored_total",
        "Readings stored as new rows.",
        metrics.readings_stored.get(),
    );
    page.counter(
        "andon_readings_duplicate_total",
        "Readings that were stored already.",
        metrics.readings_duplicate.get(),
    );
    let rejected = RejectReason::ALL.map(|reason| (reason.as_str(), metrics.rejected(reason)));
    page.counters(
        "andon_rejected_total",
        "Elements kept in rejected_message, by reason.",
        "reason",
        rejected,
    );
    page.counter(
        "andon_transitions_recorded_total",
        "Changes of machines' status recorded.",
        metrics.transitions_recorded.get(),
    );
    let refused = RefusedKind::ALL.map(|kind| (kind.as_str(), metrics.refused(kind)));
    page.counters(
        "andon_refused_rows_total",
        "Rows beside the readings that the database refused and that are stored nowhere, by what they were to record.",
        "kind",
        refused,
    );
}

fn journal(page: &mut Page<'_>, state: &HttpState) {
    let stats = state.journal.stats();
    let positions = stats.positions;
    page.whole(
        "andon_journal_appended_seq",
        "Seq of the newest message in the journal.",
        positions.appended.0,
    );
    page.whole(
        "andon_journal_synced_seq",
        "Seq of the newest message that is on the disk for certain.",
        positions.synced.0,
    );
    page.whole(
        "andon_journal_committed_seq",
        "Seq of the newest message that is in the database.",
        positions.committed.0,
    );
    let pending = positions.appended.since(positions.committed);
    page.whole("andon_journal_pending_messages", "Messages that are in the journal only.", pending);
    page.whole("andon_journal_bytes", "Bytes of the journal.", stats.bytes);
    page.whole("andon_journal_bytes_max", "The journal's bound, journal.max_bytes.", stats.bytes_max);
    let age = stats.unsynced_age.as_secs_f64();
    page.gauge(
        "andon_journal_unsynced_age_seconds",
        "How long the oldest message has been waiting for the disk.",
        age,
    );
    page.gauge(
        "andon_journal_disk_busy_seconds",
        "How long the disk has kept the journal waiting for an answer that has not come yet.",
        stats.disk_busy_for.as_secs_f64(),
    );
    let age = stats.oldest_pending.map_or(0.0, |at| wall_now().since(at).as_secs_f64());
    page.gauge(
        "andon_journal_oldest_pending_age_seconds",
        "Age of the oldest pending message; 0 if none is.",
        age,
    );
    let to_full = time_to_full(state).seconds().map_or(f64::INFINITY, |seconds| seconds as f64);
    page.gauge(
        "andon_journal_time_to_full_seconds",
        "When the journal is full if all goes on as in the last minutes; +Inf if never, or not known yet.",
        to_full,
    );
    page.counter("andon_journal_dropped_total", "Messages given up by drop_oldest.", stats.dropped_records);
    page.counter("andon_journal_syncs_total", "Times that the journal was forced to the disk.", stats.syncs);
    page.gauge(
        "andon_journal_sync_longest_seconds",
        "The longest time that one forcing of the journal to the disk took, since the start.",
        stats.sync_longest.as_secs_f64(),
    );
    let full = u64::from(!matches!(stats.space, crate::journal::Space::Free));
    page.whole("andon_journal_full", "1 while the journal has no room.", full);
    page.whole("andon_journal_failed", "1 once the journal has failed for good.", u64::from(stats.failed));
}

/// Of the whole life of the journal, not of this process.
fn ledger(page: &mut Page<'_>, state: &HttpState) {
    let ledger = Ledger::now(state);
    let parts = [
        ("stored", ledger.stored),
        ("duplicate", ledger.duplicate),
        ("rejected", ledger.rejected),
        ("control", ledger.control),
    ];
    let known = parts.into_iter().filter_map(|(name, count)| Some((name, count?)));
    page.wholes(
        "andon_ledger_elements",
        "The journal's ledger: elements by what became of them.",
        "outcome",
        known,
    );
    let messages = [
        ("journaled", Some(ledger.journaled)),
        ("committed", ledger.committed),
        ("pending", Some(ledger.pending)),
    ];
    let known = messages.into_iter().filter_map(|(name, count)| Some((name, count?)));
    page.wholes("andon_ledger_messages", "The journal's ledger: messages by where they are.", "place", known);
}

fn pipeline(page: &mut Page<'_>, state: &HttpState) {
    let (metrics, boards) = (&state.metrics, &state.boards);
    page.distribution(&metrics.batches.commit_seconds);
    page.distribution(&metrics.batches.rows);
    page.distribution(&metrics.batches.latency_seconds);
    page.counter("andon_commits_total", "Batches committed.", metrics.batches_committed.get());
    page.counter(
        "andon_store_failures_total",
        "Attempts to use the database that failed.",
        metrics.store_failures.get(),
    );
    page.whole(
        "andon_store_up",
        "1 if the newest attempt to use the database succeeded.",
        u64::from(metrics.store_available.get()),
    );
    page.whole(
        "andon_site_shared",
        "1 if another service of this site worked on the same database within the last hour.",
        u64::from(metrics.site_shared.get()),
    );
    page.counter(
        "andon_unreadable_rows_total",
        "Rows of the database that are not as Andon writes them and are passed over; the log names them.",
        metrics.rows_unreadable.get(),
    );
    page.whole("andon_writer_queue_jobs", "Jobs that wait for the database.", metrics.writer_queue.get());
    let actors = boards.actors.snapshot();
    let restarts = actors.iter().map(|actor| (actor.name, actor.restarts));
    page.counters("andon_actor_restarts_total", "Restarts of an actor.", "actor", restarts);
    let running = actors.iter().map(|actor| (actor.name, u64::from(actor.phase == ActorPhase::Running)));
    page.wholes("andon_actor_running", "1 while an actor runs.", "actor", running);
    let now = mono_now();
    let stages = [("parser", boards.progress.parsed_at()), ("writer", boards.progress.committed_at())];
    let idle = stages.into_iter().filter_map(|(name, at)| Some((name, seconds_since(at?, now))));
    page.gauges("andon_stage_idle_seconds", "Time since a stage last moved on.", "stage", idle);
    let (still_for, _) = state.stall.look(now, &state.journal.stats(), boards);
    page.gauge(
        "andon_standstill_seconds",
        "How long nothing has been stored although something was pending all the time.",
        still_for.as_secs_f64(),
    );
}

fn seconds_since(at: Mono, now: Mono) -> f64 {
    std::time::Duration::from_micros(now.0.saturating_sub(at.0)).as_secs_f64()
}

fn broker(page: &mut Page<'_>, state: &HttpState) {
    let (metrics, broker) = (&state.metrics, state.boards.broker.snapshot());
    let connected = u64::from(broker.state == BrokerState::Connected);
    page.whole("andon_broker_connected", "1 while connected with every subscription granted.", connected);
    let states = BrokerState::ALL.map(|each| (each.as_str(), u64::from(each == broker.state)));
    page.wholes("andon_broker_state", "1 for the state of the link to the broker.", "state", states);
    page.counter("andon_broker_connects_total", "Connections to the broker.", broker.connects);
    page.counter(
        "andon_broker_failures_total",
        "Connections lost or refused.",
        metrics.broker_failures.get(),
    );
    let expiry = metrics.certificate_expires_at.get();
    if expiry > 0 {
        page.whole(
            "andon_certificate_expiry_timestamp_seconds",
            "When the first certificate of the broker link expires, in Unix time.",
            expiry,
        );
    }
}

fn machines(page: &mut Page<'_>, state: &HttpState) {
    let metrics = &state.metrics;
    let counts = [
        (DisplayStatus::Online, &metrics.machines_online),
        (DisplayStatus::Offline, &metrics.machines_offline),
        (DisplayStatus::Unknown, &metrics.machines_unknown),
        (DisplayStatus::NeverSeen, &metrics.machines_never_seen),
    ];
    let counts = counts.map(|(status, gauge)| (status.as_str(), gauge.get()));
    page.wholes("andon_machines", "Machines by status.", "status", counts);
    page.whole(
        "andon_sightings_untracked",
        "Sightings of machines beyond liveness.machines_max, which are not watched.",
        metrics.sightings_untracked.get(),
    );
    page.whole(
        "andon_machines_flapping",
        "Machines that change their status too often.",
        metrics.machines_flapping.get(),
    );
    page.counter(
        "andon_transitions_unrecorded_total",
        "Changes of status given up unrecorded, because too many waited for the database.",
        metrics.transitions_unrecorded.get(),
    );
    page.counter(
        "andon_transitions_unpublished_total",
        "Changes of status given up unpublished, because too many waited for the broker.",
        metrics.transitions_unpublished.get(),
    );
    if state.metrics_per_machine {
        each_machine(page, &state.boards.machines.snapshot().machines);
    }
}

/// A line each of as many machines as an answer has room for.
fn each_machine(page: &mut Page<'_>, all: &[MachineView]) {
    let mut bytes = 0;
    let fits = |view: &&MachineView| {
        bytes += MACHINE_BYTES + 4 * view.machine_id.as_str().len();
        bytes < PAGE_BYTES_MAX - OTHERS_BYTES
    };
    let shown = &all[..all.iter().take_while(fits).count()];
    let online = shown.iter();
    let online =
        online.map(|view| (view.machine_id.as_str(), u64::from(view.status == DisplayStatus::Online)));
    page.wholes("andon_machine_online", "1 while a machine is online.", "machine_id", online);
    let seen = shown
        .iter()
        .filter_map(|view| Some((view.machine_id.as_str(), view.last_seen_at?.as_micros() as f64 / 1e6)));
    page.gauges(
        "andon_machine_last_seen_timestamp_seconds",
        "A machine's newest message, in Unix time.",
        "machine_id",
        seen,
    );
    page.whole(
        "andon_machines_without_metrics",
        "Machines that have no line of their own here, because they are too many.",
        (all.len() - shown.len()) as u64,
    );
}

/// The clock by which the age of rows is counted.
fn clock(page: &mut Page<'_>, state: &HttpState) {
    let clock = state.clock.status();
    page.whole(
        "andon_clock_step_waiting",
        "1 while the wall clock is not believed: nothing is deleted for its sake.",
        u64::from(clock.step.is_some() || clock.is_unset),
    );
    page.gauge(
        "andon_clock_step_seconds",
        "How far the wall clock is ahead of the trusted time (back, if negative) while it is not believed, else 0.",
        clock.step.unwrap_or(0) as f64 / 1e6,
    );
    page.gauge(
        "andon_clock_trusted_timestamp_seconds",
        "The trusted time, in Unix time.",
        clock.trusted.as_micros() as f64 / 1e6,
    );
    page.whole(
        "andon_clock_synchronised",
        "1 while the kernel calls the wall clock synchronised (NTP).",
        u64::from(clock.synchronised),
    );
}

fn http(page: &mut Page<'_>, state: &HttpState) {
    page.whole("andon_http_streams", "Live streams that are open.", state.streams.open() as u64);
    page.counter(
        "andon_http_streams_dropped_total",
        "Live streams that were too slow.",
        state.streams.dropped() as u64,
    );
    page.whole(
        "andon_http_in_flight_bytes",
        "Bytes of large answers that are not sent yet.",
        state.budget.taken() as u64,
    );
    page.counter(
        "andon_http_answers_refused_total",
        "Large answers refused because too many were under way.",
        state.budget.refused(),
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{MachineId, Timestamp};
    use crate::http::{Budget, IN_FLIGHT_BYTES_MAX};

    #[test]
    fn of_too_many_machines_there_are_as_many_lines_as_an_answer_has_room_for() {
        let view = |number: usize| MachineView {
            machine_id: MachineId::parse(&format!("robot-{number:05}")).unwrap(),
            status: DisplayStatus::Online,
            status_since: None,
            reason: None,
            first_seen_at: None,
            last_seen_at: Some(Timestamp::from_micros(7)),
            offline_after: Duration::from_secs(15),
            flapping: false,
            refused: false,
        };
        for (machines, shown) in [(3, 3), (100_000, 20_239)] {
            let all: Vec<_> = (0..machines).map(view).collect();
            let mut body = BodyWriter::new(&Budget::new(IN_FLIGHT_BYTES_MAX));
            each_machine(&mut Page::new(&mut body), &all);
            assert!(body.bytes() < PAGE_BYTES_MAX, "{} bytes", body.bytes());
            let mut body = body.finish().unwrap();
            let mut text = String::new();
            while let Some(piece) = body.next_piece() {
                text.push_str(std::str::from_utf8(&piece).unwrap());
            }
            assert_eq!(text.matches("andon_machine_online{").count(), shown);
            assert_eq!(text.matches("andon_machine_last_seen_timestamp_seconds{").count(), shown);
            assert!(text.ends_with(&format!("\nandon_machines_without_metrics {}\n", machines - shown)));
        }
    }
}
