//! `/api/v1/machines/<id>/readings`: pages, buckets and CSV.

use actix_web::{HttpRequest, HttpResponse, web};

use super::csv;
use super::machines::require_known;
use super::model::{Reading, Readings, ReadingsAnswer, ReadingsBucket, ReadingsBuckets};
use super::words::{FormatWord, OrderWord};
use crate::clock::wall_now;
use crate::domain::{MachineId, Timestamp};
use crate::http::problem::Problem;
use crate::http::query::{Parameters, machine_id_in_path};
use crate::http::{HttpState, etag};
use crate::store::{BucketsQuery, Order, ReadingCursor, ReadingsQuery};

/// Rows of a page unless told otherwise, and at most.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 10_000;
/// Buckets of one answer: enough for the minutes of a month.
const BUCKETS_MAX: i64 = 50_000;
/// Readings that the buckets of one page are computed from, about: a second of work, with a field of `extra`.
const BUCKETS_READINGS_MAX: u32 = 100_000;
/// What is asked for by bucket when `from` is not given.
const BUCKETS_SPAN_MICROS: i64 = 86_400 * 1_000_000;
/// Longest name of a field of `extra`.
const FIELD_CHARS_MAX: usize = 200;

#[derive(Clone, Copy)]
enum Format {
    Json,
    Csv,
}

/// Readings of one machine: `from` is inclusive, `to` exclusive; newest first unless `order=asc`. With `bucket`, the
/// minimum, mean, maximum and count of each stretch of that length.
#[utoipa::path(get, path = "/api/v1/machines/{machine_id}/readings", params(
    ("machine_id" = String, Path, description = "The machine's id, percent-encoded as one segment"),
    ("from" = Option<String>, Query, format = DateTime, description = "First instant that counts, RFC 3339, or a date at the site"),
    ("to" = Option<String>, Query, format = DateTime, description = "First instant that counts no more"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 10000, description = "Rows of a page, 1 to 10000, 100 if not given; CSV without it is not paged"),
    ("order" = inline(Option<OrderWord>), Query, description = "desc (newest first) or asc"),
    ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ("format" = inline(Option<FormatWord>), Query, description = "json or csv"),
    ("bucket" = Option<String>, Query, pattern = "^[0-9]+[smhd]$", description = "Length of a bucket, 1s to 1d, such as 1m; at most 50000 buckets. Quick over long times: 5m and its multiples; others come in pages of about 100000 readings, oldest first"),
    ("extra" = Option<String>, Query, max_length = 200, description = "With bucket: also figures of this numeric field of extra"),
), responses(
    (status = 200, description = "Readings or buckets", content(
        (ReadingsAnswer = "application/json"), (String = "text/csv"))),
    (status = 304, description = "Nothing has changed since the ETag given in If-None-Match"),
    (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such machine, and no readings of one", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is away, or the answer takes too long", body = Problem, content_type = "application/problem+json"),
))]
pub async fn readings(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let machine_id = machine_id_in_path(&request, 3)?;
    let mut parameters = Parameters::of(&request)?;
    let from = parameters.instant("from", state.time_zone)?;
    let to = parameters.instant("to", state.time_zone)?;
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(Problem::bad_request(format!("from ({from}) is after to ({to})")));
    }
    if let Some(bucket_seconds) = parameters.seconds("bucket", 1, 86_400)? {
        return buckets(request, state, parameters, Span { machine_id, from, to }, bucket_seconds).await;
    }
    let format = parameters.word("format", &[("json", Format::Json), ("csv", Format::Csv)])?;
    let order = parameters.word("order", &[("desc", Order::Descending), ("asc", Order::Ascending)])?;
    let limit = parameters.number("limit", 0, 1, LIMIT_MAX)?;
    let cursor = parameters.take("cursor").or_else(|| parameters.take("next"));
    parameters.finish()?;
    let cursor = cursor.as_deref().map(read_cursor).transpose()?;
    require_known(&state, &machine_id).await?;
    let mut query = ReadingsQuery {
        machine_id,
        from: ReadingCursor::before(from.unwrap_or(Timestamp::from_micros(i64::MIN))),
        to: ReadingCursor::before(to.unwrap_or(Timestamp::from_micros(i64::MAX))),
        order,
        limit: if limit == 0 { LIMIT } else { limit },
    };
    if let Some(cursor) = cursor {
        query.advance(cursor);
    }
    match format {
        Format::Csv => csv::answer(state.history.clone(), query, limit != 0).await,
        Format::Json => page(&request, &state, query).await,
    }
}

fn read_cursor(text: &str) -> Result<ReadingCursor, Problem> {
    text.parse().map_err(|_| Problem::bad_request("cursor is not the `next` of a page before"))
}

/// Pages of buckets end between two of them: any other place would give figures of part of a bucket.
fn read_cursor_of_buckets(text: &str, bucket_seconds: u32) -> Result<ReadingCursor, Problem> {
    let cursor = read_cursor(text)?;
    let is_between = cursor.at.as_micros().rem_euclid(i64::from(bucket_seconds) * 1_000_000) == 0;
    if is_between && cursor == ReadingCursor::before(cursor.at) {
        return Ok(cursor);
    }
    Err(Problem::bad_request("cursor is not the `next` of a page of such buckets before"))
}

async fn page(
    request: &HttpRequest,
    state: &HttpState,
    query: ReadingsQuery,
) -> Result<HttpResponse, Problem> {
    let limit = query.limit as usize;
    // One more tells whether there is a next page.
    let asked = ReadingsQuery { limit: query.limit + 1, ..query };
    let mut rows = state.history.ask(move |history| history.readings(&asked)).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| row.key.to_string());
    let readings = rows.iter().map(Reading::from).collect();
    Ok(etag::json(request, &Readings { readings, next }))
}

struct Span {
    machine_id: MachineId,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

async fn buckets(
    request: HttpRequest,
    state: web::Data<HttpState>,
    mut parameters: Parameters,
    span: Span,
    bucket_seconds: u32,
) -> Result<HttpResponse, Problem> {
    let extra = extra_field(&mut parameters)?;
    let cursor =
        parameters.take("cursor").map(|text| read_cursor_of_buckets(&text, bucket_seconds)).transpose()?;
    parameters.finish()?;
    let to = span.to.unwrap_or_else(wall_now);
    let from =
        span.from.unwrap_or(Timestamp::from_micros(to.as_micros().saturating_sub(BUCKETS_SPAN_MICROS)));
    let from = cursor.map_or(from, |cursor| cursor.at.clamp(from.min(to), to));
    let count = to.as_micros().saturating_sub(from.as_micros()) / (i64::from(bucket_seconds) * 1_000_000);
    if count > BUCKETS_MAX {
        return Err(Problem::bad_request(format!(
            "that would be {count} buckets; allowed are {BUCKETS_MAX}: make the bucket longer, or the time shorter"
        )));
    }
    require_known(&state, &span.machine_id).await?;
    let query =
        BucketsQuery { machine_id: span.machine_id, from, to, bucket_seconds: Some(bucket_seconds), extra };
    let page = state.history.ask(move |history| {
        let to = history.bucket_page_end(&query, BUCKETS_READINGS_MAX)?;
        Ok((to, history.buckets(&BucketsQuery { to, ..query.clone() })?))
    });
    let (page_to, rows) = page.await?;
    let answer = ReadingsBuckets {
        bucket_seconds,
        from: from.to_string(),
        to: page_to.to_string(),
        buckets: rows.iter().map(ReadingsBucket::from).collect(),
        next: (page_to < to).then(|| ReadingCursor::before(page_to).to_string()),
    };
    Ok(etag::json(&request, &answer))
}

/// The field of `extra` that figures are wanted of, if one is.
pub fn extra_field(parameters: &mut Parameters) -> Result<Option<String>, Problem> {
    let field = parameters.take("extra");
    if field.as_ref().is_some_and(|field| field.chars().count() > FIELD_CHARS_MAX) {
        return Err(Problem::bad_request(format!(
            "extra is longer than {FIELD_CHARS_MAX} characters; allowed is the name of a field"
        )));
    }
    Ok(field)
}
