//! `/machines/<id>`: one machine, live, with its figures, charts and changes.
//!
//! The page is whole without scripts; they only keep it up to date. What the database cannot tell is said in its place,
//! and the present state comes from the snapshot, so it is there without a database.

mod blind_spans;
mod history;
mod numbers;
mod query;
mod span;
mod status_timeline;
mod view;

#[cfg(test)]
mod tests;

use actix_web::{HttpResponse, web};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use self::query::Question;
use self::span::Lookback;
use super::{headers, layout};
use crate::clock::wall_now;
use crate::domain::MachineId;
use crate::http::{HttpState, machines};

/// What stands for itself in a path, as in the scripts' `encodeURIComponent`.
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The query of the page.
#[derive(Debug, Deserialize)]
pub struct PageQuery {
    range: Option<String>,
    /// For `/machines?id=`: names that cannot stand in a path, such as `..`.
    id: Option<String>,
}

/// The page of the machine that the path names.
pub async fn by_path(
    state: web::Data<HttpState>,
    path: web::Path<String>,
    query: web::Query<PageQuery>,
) -> HttpResponse {
    page_of(&state, &path, &query).await
}

/// The page of the machine that `?id=` names; without one, the way to the board.
pub async fn by_query(state: web::Data<HttpState>, query: web::Query<PageQuery>) -> HttpResponse {
    match &query.id {
        Some(id) => page_of(&state, id, &query).await,
        None => HttpResponse::SeeOther().insert_header(("location", "/")).finish(),
    }
}

/// What a page holds while it is put together, about: its charts' points, and up to a thousand changes.
const GATHERED_BYTES: usize = 1024 * 1024;

async fn page_of(state: &HttpState, id: &str, query: &PageQuery) -> HttpResponse {
    let Ok(machine_id) = MachineId::parse(id) else {
        return headers::page(HttpResponse::NotFound(), view::not_found(state.installation(), id));
    };
    let Ok(charge) = state.budget.charge(GATHERED_BYTES) else {
        return headers::busy(layout::busy(state.installation()));
    };
    let machine = machines::current(state).await.find(&machine_id);
    let machine = machine.as_ref();
    let question = Question {
        machine_id: machine_id.clone(),
        lookback: Lookback::parse(query.range.as_deref()),
        zone: state.time_zone,
        now: wall_now(),
        status: machine.and_then(|machine| Some((machine.status, machine.status_since?))),
    };
    let mut past = question.ask(&state.history).await;
    let mut outages = Vec::new();
    if let Ok(known) = &mut past {
        match blind_spans::look(&state.history, &question, machine, known).await {
            Ok(found) => outages = found,
            Err(error) => past = Err(error),
        }
    }
    let unheard_of = past.as_ref().is_ok_and(|past| past.latest.is_none() && past.events.is_empty());
    if machine.is_none() && unheard_of {
        return headers::page(HttpResponse::NotFound(), view::not_found(state.installation(), id));
    }
    let content = view::Content {
        machine_id: &machine_id,
        machine,
        past: past.as_ref(),
        outages: &outages,
        question: &question,
    };
    headers::large_page(charge, view::machine(state.installation(), &content))
        .unwrap_or_else(|_| headers::busy(layout::busy(state.installation())))
}

/// Where the machine's page is, without its query.
fn address(machine_id: &MachineId) -> String {
    format!("/machines/{}", encoded(machine_id))
}

fn encoded(machine_id: &MachineId) -> String {
    utf8_percent_encode(machine_id.as_str(), IN_A_PATH).to_string()
}
