//! `/api/v1/machines/<id>/readings`: pages, buckets and CSV.

use std::ops::ControlFlow;

use actix_web::{HttpRequest, HttpResponse, web};

use super::csv;
use super::machines::require_known;
use super::model::{BucketsPage, NextPage, Reading, ReadingsAnswer, ReadingsBucket};
use super::words::{FormatWord, OrderWord};
use crate::clock::wall_now;
use crate::domain::{MachineId, Timestamp};
use crate::http::body::{BodyWriter, ListWriter};
use crate::http::problem::Problem;
use crate::http::query::{Parameters, machine_id_in_path};
use crate::http::{HistoryClient, HttpState, etag};
use crate::store::{BucketsQuery, History, Order, ReadingCursor, ReadingsQuery, StoreError, StoredReading};

/// Rows of a page by default.
const LIMIT: u32 = 100;
/// Most rows of a page.
const LIMIT_MAX: u32 = 10_000;
/// Rows of the first statement of a page. Each further statement doubles them, as far as rows of that size fit: rows that
/// are requested but do not fit travel from the database for nothing.
pub const ROWS_AT_FIRST: u32 = 16;
/// Upper bound on a reading's JSON without its `extra`.
const READING_BYTES: usize = 512;
/// Upper bound on a bucket's JSON.
const BUCKET_BYTES: usize = 1_024;
/// Most buckets of one response: enough for the minutes of a month.
const BUCKETS_MAX: i64 = 50_000;
/// Approximate number of readings behind the buckets of one page: a second of work with a field of `extra`.
const BUCKETS_READINGS_MAX: u32 = 100_000;
/// Default range of buckets when `from` is not given.
const BUCKETS_SPAN_MICROS: i64 = 86_400 * 1_000_000;
/// Longest name of an `extra` field.
const FIELD_CHARS_MAX: usize = 200;

#[derive(Clone, Copy)]
enum Format {
    Json,
    Csv,
}

/// Returns readings of one machine: from `from` (inclusive) to `to` (exclusive), newest first unless `order=asc`. With
/// `bucket`, returns the minimum, mean, maximum and count of each bucket of that length.
#[utoipa::path(get, path = "/api/v1/machines/{machine_id}/readings", params(
    ("machine_id" = String, Path, description = "The machine's id, percent-encoded as one segment"),
    ("from" = Option<String>, Query, format = DateTime, description = "Start, inclusive: RFC 3339, or a date, which is midnight at the site"),
    ("to" = Option<String>, Query, format = DateTime, description = "End, exclusive"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 10000, description = "Rows per page; 100 if not given. A page has at most 4 MiB, or one row. CSV without a limit is not paged"),
    ("order" = inline(Option<OrderWord>), Query, description = "desc (newest first) or asc"),
    ("cursor" = Option<String>, Query, description = "`next` of the previous page"),
    ("format" = inline(Option<FormatWord>), Query, description = "json or csv"),
    ("bucket" = Option<String>, Query, pattern = "^[0-9]+[smhd]$", description = "Length of a bucket, 1s to 1d, such as 1m; at most 50000 buckets, oldest first. 5m and its multiples are fast over long ranges; other lengths come in pages of about 100000 readings. A page has at most 4 MiB"),
    ("extra" = Option<String>, Query, max_length = 200, description = "With bucket: also statistics of this numeric field of extra"),
), responses(
    (status = 200, description = "Readings or buckets", content(
        (ReadingsAnswer = "application/json"), (String = "text/csv"))),
    (status = 304, description = "Not changed since the ETag in If-None-Match"),
    (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such machine, and no readings of one", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is away, the answer takes too long, or too many large responses are being sent", body = Problem, content_type = "application/problem+json"),
))]
pub async fn readings(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let machine_id = machine_id_in_path(&request, 3)?;
    let mut parameters = Parameters::of(&request)?;
    let from = parameters.instant("from", state.time_zone())?;
    let to = parameters.instant("to", state.time_zone())?;
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
    let cursor = parameters.cursor(|text| text.parse::<ReadingCursor>().ok())?;
    parameters.finish()?;
    let client = state.client(&request);
    require_known(&state, &client, &machine_id).await?;
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
        Format::Csv => csv::answer(client, query, limit != 0).await,
        Format::Json => page(&request, &client, query).await,
    }
}

/// Reads a cursor that lies between two buckets. From any other position the first bucket would be incomplete.
fn read_bucket_cursor(text: &str, bucket_seconds: u32) -> Option<ReadingCursor> {
    let cursor = text.parse::<ReadingCursor>().ok()?;
    let is_between = cursor.at.as_micros().rem_euclid(i64::from(bucket_seconds) * 1_000_000) == 0;
    (is_between && cursor == ReadingCursor::before(cursor.at)).then_some(cursor)
}

async fn page(
    request: &HttpRequest,
    client: &HistoryClient,
    query: ReadingsQuery,
) -> Result<HttpResponse, Problem> {
    let written = client.write(move |history, body| write_page(history, body, &query));
    let (body, ()) = written.await?;
    Ok(etag::tagged(request, body))
}

/// Writes the rows of `query` up to its limit or the size of a page. Reads one row more to learn if a page follows.
fn write_page(
    history: &mut dyn History,
    body: &mut BodyWriter,
    query: &ReadingsQuery,
) -> Result<(), StoreError> {
    let mut page = ListWriter::begin(body, "readings");
    let mut part = ReadingsQuery { limit: ROWS_AT_FIRST.min(query.limit + 1), ..query.clone() };
    let (mut last, mut more) = (None, false);
    loop {
        let mut read = 0;
        history.readings(&part, &mut |row| {
            read += 1;
            more = page.rows() == query.limit || !page.has_room_for(bytes(&row));
            if more {
                return ControlFlow::Break(());
            }
            page.push(&Reading::from(&row));
            last = Some(row.key);
            ControlFlow::Continue(())
        })?;
        if more || read < part.limit {
            break;
        }
        if let Some(last) = last {
            part.advance(last);
        }
        part.limit = (part.limit * 2).min(page.rows_expected()).min(query.limit + 1 - page.rows());
    }
    let next = last.filter(|_| more).map(|key| key.to_string());
    page.end(&NextPage { next });
    Ok(())
}

/// Returns an upper bound on a reading's JSON.
fn bytes(row: &StoredReading) -> usize {
    READING_BYTES + row.time_source.len() + row.reading.extra.as_ref().map_or(0, String::len)
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
    let cursor = parameters.cursor(|text| read_bucket_cursor(text, bucket_seconds))?;
    parameters.finish()?;
    let to = span.to.unwrap_or_else(wall_now);
    let from =
        span.from.unwrap_or(Timestamp::from_micros(to.as_micros().saturating_sub(BUCKETS_SPAN_MICROS)));
    let from = cursor.map_or(from, |cursor| cursor.at.clamp(from.min(to), to));
    let count = to.as_micros().saturating_sub(from.as_micros()) / (i64::from(bucket_seconds) * 1_000_000);
    if count > BUCKETS_MAX {
        return Err(Problem::bad_request(format!(
            "that would be {count} buckets, at most {BUCKETS_MAX} are allowed: use a longer bucket or a shorter range"
        )));
    }
    let client = state.client(&request);
    require_known(&state, &client, &span.machine_id).await?;
    let query =
        BucketsQuery { machine_id: span.machine_id, from, to, bucket_seconds: Some(bucket_seconds), extra };
    let page = client.write(move |history, body| {
        let to = history.bucket_page_end(&query, BUCKETS_READINGS_MAX)?;
        write_buckets(history, body, &BucketsQuery { to, ..query.clone() }, query.to)
    });
    let (body, ()) = page.await?;
    Ok(etag::tagged(&request, body))
}

/// Writes the buckets of `query` up to the size of a page. `all_to` is the end of the last page.
fn write_buckets(
    history: &mut dyn History,
    body: &mut BodyWriter,
    query: &BucketsQuery,
    all_to: Timestamp,
) -> Result<(), StoreError> {
    let mut page = ListWriter::begin(body, "buckets");
    let mut to = query.to;
    history.buckets(query, &mut |bucket| {
        if !page.has_room_for(BUCKET_BYTES) {
            to = Timestamp::from_micros(bucket.start_seconds.saturating_mul(1_000_000));
            return ControlFlow::Break(());
        }
        page.push(&ReadingsBucket::from(&bucket));
        ControlFlow::Continue(())
    })?;
    page.end(&BucketsPage {
        bucket_seconds: query.bucket_seconds.unwrap_or(0),
        from: query.from.to_string(),
        to: to.to_string(),
        next: (to < all_to).then(|| ReadingCursor::before(to).to_string()),
    });
    Ok(())
}

/// Takes the parameter `extra`: the name of an `extra` field.
pub fn extra_field(parameters: &mut Parameters) -> Result<Option<String>, Problem> {
    let field = parameters.take("extra");
    if field.as_ref().is_some_and(|field| field.chars().count() > FIELD_CHARS_MAX) {
        return Err(Problem::bad_request(format!(
            "extra is longer than {FIELD_CHARS_MAX} characters; expected the name of a field"
        )));
    }
    Ok(field)
}
