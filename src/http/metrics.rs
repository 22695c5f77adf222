//! `/metrics`: all counters and gauges in Prometheus's text format.
//!
//! The values live in [`crate::metrics`], whose table names them, in the journal and in the status snapshots. Each
//! request reads them anew, so the pipeline never waits for one.

mod disk;
mod exposition;
mod machines;
mod pipeline;
mod process;

use actix_web::body::BoxBody;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};

pub use self::disk::DataPlace;
use self::exposition::Exposition;
use super::HttpState;
use super::body::BodyWriter;
use super::lane::Lane;
use super::problem::Problem;

/// Every metric, in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "Prometheus text format 0.0.4; every name begins with andon_", body = String, content_type = "text/plain"),
))]
pub async fn metrics(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let mut body = BodyWriter::new(state.client(&request).budget());
    write_all(&mut Exposition::new(&mut body), &state);
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let body = BoxBody::new(body.finish()?);
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, content_type)).body(body))
}

fn write_all(out: &mut Exposition<'_>, state: &HttpState) {
    state.metrics.families().for_each(|family| out.family(&family));
    pipeline::journal(out, state);
    pipeline::ledger(out, state);
    pipeline::stages(out, state);
    pipeline::broker(out, state);
    pipeline::clock(out, state);
    if state.settings().metrics_per_machine {
        machines::each_machine(out, &state.cells.machines.snapshot().machines);
    }
    http(out, state);
    disk::disks(out, state);
    process::process(out, state);
}

/// By route; the route of a path that has none is `other`.
fn requests(out: &mut Exposition<'_>, state: &HttpState) {
    let routes = state.requests.lock();
    let codes: Vec<_> = routes
        .iter()
        .flat_map(|(route, kept)| {
            kept.by_code.iter().map(move |(code, count)| (route, code.to_string(), count.get()))
        })
        .collect();
    let lines =
        codes.iter().map(|(route, code, count)| ([("route", route.as_str()), ("code", code)], *count));
    out.counters_of("andon_http_requests_total", "Requests answered, by route and status code.", lines);
    out.histograms(
        "andon_http_request_duration_seconds",
        "From a request to the head of its answer, by route.",
        "route",
        routes.iter().map(|(route, kept)| (route.as_str(), &kept.seconds)),
    );
}

/// What is asked of the database, by lane.
fn history(out: &mut Exposition<'_>, state: &HttpState) {
    let loads = Lane::ALL.map(|(name, lane)| (name, state.history.load(lane)));
    out.gauges(
        "andon_http_history_waiting",
        "Questions that wait for their turn, by lane: those of the board, and of the API.",
        "lane",
        loads.iter().map(|(name, load)| (*name, load.waiting as u64)),
    );
    out.counters(
        "andon_http_history_refused_total",
        "Questions whose turn did not come soon enough, by lane.",
        "lane",
        loads.iter().map(|(name, load)| (*name, load.refused)),
    );
}

fn http(out: &mut Exposition<'_>, state: &HttpState) {
    requests(out, state);
    history(out, state);
    let (streams, budget, connections) = (&state.streams, &state.budget, &state.connections);
    out.gauge("andon_http_connections", "Connections that are open.", connections.open() as u64);
    out.counter(
        "andon_http_connections_evicted_total",
        "Idle connections closed to make room for others.",
        connections.evicted(),
    );
    out.counter(
        "andon_http_connections_refused_total",
        "Connections refused because all others were busy.",
        connections.refused(),
    );
    if let Some(tls) = &state.tls {
        let not_after = u64::try_from(tls.not_after()).unwrap_or(0);
        out.gauge(
            "andon_http_tls_not_after_seconds",
            "When the certificate of HTTP ends, in Unix time.",
            not_after,
        );
        out.counter(
            "andon_http_tls_handshakes_failed_total",
            "TLS connections of HTTP that never began.",
            tls.failed_handshakes(),
        );
    }
    out.gauge("andon_http_streams", "Live streams that are open.", streams.open() as u64);
    out.counter(
        "andon_http_streams_dropped_total",
        "Live streams that were too slow.",
        streams.dropped() as u64,
    );
    out.counter(
        "andon_http_streams_refused_total",
        "Live streams refused because all, or all of their address, were in use.",
        streams.refused() as u64,
    );
    out.gauge("andon_http_in_flight_bytes", "Bytes of large responses not sent yet.", budget.taken() as u64);
    out.counter(
        "andon_http_answers_refused_total",
        "Large responses refused because too many were being sent.",
        budget.refused(),
    );
}
