//! `/api/v1/machines` and `/api/v1/machines/<id>`.

use actix_web::body::BoxBody;
use actix_web::http::header::{CACHE_CONTROL, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};

use super::model::{Machine, Machines, NextPage};
use super::problem_of_machine;
use super::texts::{MachineCursorText, MachineIdText};
use crate::domain::{MACHINE_ID_CHARS_MAX, MachineId};
use crate::http::body::{BodyWriter, ListWriter};
use crate::http::problem::Problem;
use crate::http::query::{Parameters, machine_id_in_path};
use crate::http::{HistoryClient, HistoryError, HttpState, LatestReadings, etag, machines};
use crate::status::MachineView;
use crate::store::LatestReading;

/// Most machines of a page, and the default.
const LIMIT_MAX: u32 = 10_000;
/// Upper bound on a machine's JSON without its id and its `extra`.
const MACHINE_BYTES: usize = 768;

/// Longest cursor: two digits for each byte of the longest id.
pub(super) const CURSOR_CHARS_MAX: usize = 2 * 4 * MACHINE_ID_CHARS_MAX;

/// Lists the machines of the site in order of their ids.
#[utoipa::path(get, path = "/api/v1/machines", params(
    ("limit" = u32, Query, minimum = 1, maximum = 10000, description = "Machines per page; 10000 if not given. A page has at most 4 MiB"),
    ("cursor" = inline(MachineCursorText), Query, description = "`next` of the previous page"),
), responses(
    (status = 200, description = "A page of machines, in order of their ids", body = Machines),
    (status = 304, description = "Not changed since the ETag in If-None-Match"),
    (status = 503, description = "Too many large responses are being sent", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::of(&request)?;
    let limit = parameters.number("limit", LIMIT_MAX, 1, LIMIT_MAX)?;
    let after = parameters.cursor(read_cursor)?.unwrap_or_default();
    parameters.finish()?;
    let known = machines::current(&state).await;
    let latest = state.latest.get(&state.own_client()).await;
    let client = state.client(&request);
    let body = client.list(move |body| write_page(body, &known, &latest, &after, limit)).await?;
    Ok(etag::tagged(&request, body))
}

/// Writes the machines after `after`, up to `limit` or the size of a page.
fn write_page(
    body: &mut BodyWriter,
    known: &machines::Machines,
    latest: &LatestReadings,
    after: &[u8],
    limit: u32,
) {
    let mut page = ListWriter::begin(body, "machines");
    let (mut last, mut more) = (None, false);
    for view in known.after(after) {
        let latest = latest.get(&view.machine_id);
        if page.rows() == limit || !page.has_room_for(bytes(view, latest)) {
            more = true;
            break;
        }
        page.push(&Machine::new(view, known.status(view), latest));
        last = Some(&view.machine_id);
    }
    page.end(&NextPage { next: last.filter(|_| more).map(cursor_after) });
}

/// Returns an upper bound on a machine's JSON.
fn bytes(view: &MachineView, latest: Option<&LatestReading>) -> usize {
    let extra = latest.and_then(|latest| latest.extra.as_ref()).map_or(0, String::len);
    // JSON escapes a quotation mark with a second byte.
    MACHINE_BYTES + 2 * view.machine_id.as_str().len() + extra
}

/// Returns the cursor of the position after a machine: opaque, and valid in a query without encoding.
fn cursor_after(machine_id: &MachineId) -> String {
    machine_id.as_str().bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the bytes of a cursor: those of an id, or of nothing that is one, which still has a place among the ids.
fn read_cursor(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    };
    if text.len() > CURSOR_CHARS_MAX {
        return None;
    }
    text.as_bytes().chunks(2).map(byte).collect()
}

/// Checks that the machine exists: it is watched, or has readings. A machine beyond `liveness.machines_max`, or one with
/// only retained messages, has readings but is not watched.
///
/// # Errors
/// The machine does not exist, or the database is away and cannot tell.
pub async fn require_known(
    state: &HttpState,
    client: &HistoryClient,
    machine_id: &MachineId,
) -> Result<(), Problem> {
    if machines::was_watched(state, machine_id) {
        return Ok(());
    }
    let asked = machine_id.clone();
    if client.ask(move |history| Ok(history.latest_of(&asked)?.is_some())).await? {
        return Ok(());
    }
    // The last snapshot may be old, and the machine new or only expected.
    let known = machines::current(state).await;
    known.find(machine_id).map(drop).ok_or_else(|| problem_of_machine(machine_id))
}

/// Returns one machine.
#[utoipa::path(get, path = "/api/v1/machines/{machine_id}", params(
    ("machine_id" = inline(MachineIdText), Path, description = "The machine's id, percent-encoded as one segment"),
), responses(
    (status = 200, description = "The machine, with all of its newest `extra`", body = Machine),
    (status = 400, description = "Not a machine id", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such machine", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Too many large responses are being sent", body = Problem, content_type = "application/problem+json"),
))]
pub async fn one(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    Parameters::of(&request)?.finish()?;
    let machine_id = machine_id_in_path(&request, 3)?;
    let known = machines::current(&state).await;
    let Some(view) = known.find(&machine_id) else { return Err(problem_of_machine(&machine_id)) };
    let asked = view.clone();
    let client = state.client(&request);
    let written = client.write(move |history, body| {
        let latest = history.latest_of(&asked.machine_id)?;
        body.json(&Machine::new(&asked, asked.status, latest.as_ref()));
        Ok(())
    });
    let body = match written.await {
        Ok((body, ())) => body,
        Err(HistoryError::Spent(spent)) => return Err(spent.into()),
        // The database is away: use the last known reading.
        Err(_) => {
            let latest = state.latest.get(&state.own_client()).await;
            let mut body = BodyWriter::new(client.budget());
            body.json(&Machine::new(&view, view.status, latest.get(&machine_id)));
            body.finish()?
        }
    };
    let mut response = HttpResponse::Ok();
    response.insert_header(ContentType::json()).insert_header((CACHE_CONTROL, "no-store"));
    Ok(response.body(BoxBody::new(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_the_id_it_was_written_from() {
        for id in ["a", "press-1", "a/b+c#d%e f", "プレス", "\"<script>'"] {
            let machine_id = MachineId::parse(id).unwrap();
            let cursor = cursor_after(&machine_id);
            assert!(cursor.bytes().all(|byte| byte.is_ascii_hexdigit()), "{cursor}");
            assert_eq!(read_cursor(&cursor).unwrap(), machine_id.as_str().as_bytes());
        }
        let longest = "7".repeat(CURSOR_CHARS_MAX);
        assert!(read_cursor(&longest).is_some());
        for wrong in ["7", "zz", "+1", "é", &format!("{longest}77")] {
            assert!(read_cursor(wrong).is_none(), "{wrong}");
        }
    }
}
