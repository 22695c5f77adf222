//! `/api/v1/events`: the changes of the machines' status.

use actix_web::{HttpRequest, HttpResponse, web};

use super::model::{Event, Events, NextPage};
use super::texts::{CursorText, InstantText, MachineIdText};
use crate::domain::Timestamp;
use crate::http::body::ListWriter;
use crate::http::problem::Problem;
use crate::http::query::{Parameters, in_order};
use crate::http::{HttpState, etag};
use crate::store::{EventCursor, Events as Which, EventsQuery};

const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

/// Lists changes of status, newest first. Without `from` and `to` they come in the order in which they happened; with
/// one of them, by their time. The two differ after the clock was set back.
#[utoipa::path(get, path = "/api/v1/events", params(
    ("machine_id" = inline(MachineIdText), Query, description = "Only this machine"),
    ("from" = inline(InstantText), Query, description = "Start, inclusive: RFC 3339, or a date, which is midnight at the site"),
    ("to" = inline(InstantText), Query, description = "End, exclusive; not before `from`"),
    ("limit" = u32, Query, minimum = 1, maximum = 1000, description = "Events per page; 100 if not given"),
    ("cursor" = inline(CursorText), Query, description = "`next` of the previous page"),
), responses(
    (status = 200, description = "The events", body = Events),
    (status = 304, description = "Not changed since the ETag in If-None-Match"),
    (status = 422, description = "from is after to", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is away, or too many large responses are being sent", body = Problem, content_type = "application/problem+json"),
))]
pub async fn events(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::of(&request)?;
    let machine_id = parameters.machine_id("machine_id")?;
    let from = parameters.instant("from", state.time_zone())?;
    let to = parameters.instant("to", state.time_zone())?;
    let limit = parameters.number("limit", LIMIT, 1, LIMIT_MAX)?;
    let cursor = parameters.cursor(|text| text.parse::<EventCursor>().ok())?;
    parameters.finish()?;
    in_order(from, to)?;
    let mut which = range(from, to);
    if let Some(cursor) = cursor {
        which.advance(cursor);
    }
    let query = EventsQuery { machine_id, which, limit: limit + 1 };
    let client = state.client(&request);
    let written = client.write(move |history, body| {
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

/// Without bounds, events are paged by id; with a bound, by time.
fn range(from: Option<Timestamp>, to: Option<Timestamp>) -> Which {
    if from.or(to).is_none() {
        return Which::ALL;
    }
    let from = from.unwrap_or(Timestamp::from_micros(i64::MIN));
    let to = to.unwrap_or(Timestamp::from_micros(i64::MAX));
    Which::Within { from, before: EventCursor::before(to) }
}
