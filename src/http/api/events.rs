//! `/api/v1/events`: the changes of the machines' status.

use actix_web::{HttpRequest, HttpResponse, web};

use super::model::{Event, Events, NextPage};
use crate::domain::Timestamp;
use crate::http::body::ListWriter;
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::{HttpState, etag};
use crate::store::{EventCursor, Events as Which, EventsQuery};

const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

/// Changes of status, newest first: in the order in which they happened; with `from` or `to` in the order of the times that they bear,
/// which is another one where the clock was set back.
#[utoipa::path(get, path = "/api/v1/events", params(
    ("machine_id" = Option<String>, Query, description = "Only of this machine"),
    ("from" = Option<String>, Query, format = DateTime, description = "First instant that counts, RFC 3339, or a date at the site"),
    ("to" = Option<String>, Query, format = DateTime, description = "First instant that counts no more"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Events of a page, 1 to 1000, 100 if not given"),
    ("cursor" = Option<String>, Query, description = "`next` of the page before"),
), responses(
    (status = 200, description = "The events", body = Events),
    (status = 304, description = "Nothing has changed since the ETag given in If-None-Match"),
    (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is away, or too much is under way to other clients", body = Problem, content_type = "application/problem+json"),
))]
pub async fn events(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::of(&request)?;
    let machine_id = parameters.machine_id("machine_id")?;
    let from = parameters.instant("from", state.time_zone)?;
    let to = parameters.instant("to", state.time_zone)?;
    let limit = parameters.number("limit", LIMIT, 1, LIMIT_MAX)?;
    let cursor = parameters.take("cursor").or_else(|| parameters.take("next"));
    parameters.finish()?;
    let mut which = range(from, to);
    if let Some(text) = cursor {
        let cursor = text.parse::<EventCursor>();
        let cursor = cursor.map_err(|_| Problem::bad_request("cursor is not the `next` of a page before"))?;
        which.advance(cursor);
    }
    let query = EventsQuery { machine_id, which, limit: limit + 1 };
    let written = state.history.write(&state.budget, move |history, body| {
        let rows = history.events(&query)?;
        let mut page = ListWriter::begin(body, "events");
        rows.iter().take(limit as usize).for_each(|row| page.push(&Event::from(row)));
        let more = rows.len() > limit as usize;
        let next = rows.get(limit as usize - 1).filter(|_| more).map(|row| row.key.to_string());
        page.end(&NextPage { next });
        Ok(())
    });
    let (body, ()) = written.await?;
    Ok(etag::tagged(&request, body))
}

/// A walk by ids has no bound but the page, a range of times is found by them.
fn range(from: Option<Timestamp>, to: Option<Timestamp>) -> Which {
    if from.or(to).is_none() {
        return Which::ALL;
    }
    let from = from.unwrap_or(Timestamp::from_micros(i64::MIN));
    let to = to.unwrap_or(Timestamp::from_micros(i64::MAX));
    Which::Within { from, before: EventCursor::before(to) }
}
