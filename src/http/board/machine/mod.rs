//! `/machines/<id>`: one machine with its current state, statistics, charts and changes.
//!
//! The page is complete without scripts; they only keep it up to date. The current state comes from the status snapshot,
//! so it is there without a database. Where the database cannot answer, the page says so.

mod blind_spans;
mod history_view;
mod numbers;
mod query;
mod span;
mod status_timeline;
mod view;

#[cfg(test)]
mod tests;

use actix_web::{HttpRequest, HttpResponse, web};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use self::query::PageRequest;
use self::span::Lookback;
use super::{headers, layout};
use crate::clock::wall_now;
use crate::domain::MachineId;
use crate::http::{HistoryClient, HttpState, machines};

/// Characters that stay unencoded in a path, as in `encodeURIComponent` of the scripts.
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Query parameters of the page. People edit addresses, so unknown and repeated parameters are no error: the first counts.
#[derive(Debug, Default)]
struct PageQuery {
    range: Option<String>,
    /// For `/machines?id=`: ids that cannot be a path segment, such as `..`.
    id: Option<String>,
}

impl PageQuery {
    fn of(request: &HttpRequest) -> Self {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let pairs = pairs.map(web::Query::into_inner).unwrap_or_default();
        let first = |wanted: &str| {
            let found = pairs.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        Self { range: first("range"), id: first("id") }
    }
}

/// Serves the page of the machine in the path.
pub async fn by_path(
    state: web::Data<HttpState>,
    path: web::Path<String>,
    request: HttpRequest,
) -> HttpResponse {
    page_of(&state, &state.client(&request), &path, &PageQuery::of(&request)).await
}

/// Serves the page of the machine in `?id=`. Without it, redirects to the board.
pub async fn by_query(state: web::Data<HttpState>, request: HttpRequest) -> HttpResponse {
    let query = PageQuery::of(&request);
    match &query.id {
        Some(id) => page_of(&state, &state.client(&request), id, &query).await,
        None => HttpResponse::SeeOther().insert_header(("location", "/")).finish(),
    }
}

/// Approximate memory of a page while it is built: the points of its charts and up to a thousand changes.
const PAGE_DATA_BYTES: usize = 1024 * 1024;

async fn page_of(state: &HttpState, client: &HistoryClient, id: &str, query: &PageQuery) -> HttpResponse {
    let Ok(machine_id) = MachineId::parse(id) else {
        return headers::page(HttpResponse::NotFound(), view::not_found(state.installation(), id));
    };
    let Ok(charge) = client.budget().charge(PAGE_DATA_BYTES) else {
        return headers::busy(layout::busy(state.installation()));
    };
    let machine = machines::current(state).await.find(&machine_id);
    let machine = machine.as_ref();
    let request = PageRequest {
        machine_id: machine_id.clone(),
        lookback: Lookback::parse(query.range.as_deref()),
        zone: state.time_zone(),
        now: wall_now(),
        status: machine.and_then(|machine| Some((machine.status, machine.status_since?))),
    };
    let mut history = request.load(client).await;
    let mut outages = Vec::new();
    if let Ok(loaded) = &mut history {
        match blind_spans::add_outages(client, &request, machine, loaded).await {
            Ok(found) => outages = found,
            Err(error) => history = Err(error),
        }
    }
    let has_no_data =
        history.as_ref().is_ok_and(|history| history.latest.is_none() && history.events.is_empty());
    if machine.is_none() && has_no_data {
        return headers::page(HttpResponse::NotFound(), view::not_found(state.installation(), id));
    }
    let content = view::Content {
        machine_id: &machine_id,
        machine,
        history: history.as_ref(),
        outages: &outages,
        request: &request,
    };
    headers::large_page(charge, view::machine(state.installation(), &content))
        .unwrap_or_else(|_| headers::busy(layout::busy(state.installation())))
}

/// Returns the path of the machine's page, without a query.
fn address(machine_id: &MachineId) -> String {
    format!("/machines/{}", encoded(machine_id))
}

fn encoded(machine_id: &MachineId) -> String {
    utf8_percent_encode(machine_id.as_str(), IN_A_PATH).to_string()
}
