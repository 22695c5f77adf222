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
use crate::http::{HttpState, etag};
use crate::store::{BucketsQuery, History, Order, ReadingCursor, ReadingsQuery, StoreError, StoredReading};

/// Rows of a page unless told otherwise, and at most.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 10_000;
/// Rows of the first statement of a page; then twice as many, and so on, as far as rows of their size have room: what is asked for
/// and not taken comes all the way from the database for nothing.
pub const ROWS_AT_FIRST: u32 = 16;
/// More than the times and numbers of a reading take up, beside its `extra`.
const READING_BYTES: usize = 512;
/// More than a bucket takes up.
const BUCKET_BYTES: usize = 1_024;
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
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 10000, description = "Rows of a page, 1 to 10000, 100 if not given; a page has at most 4 MiB, or one row; CSV without it is not paged"),
    ("order" = inline(Option<OrderWord>), Query, description = "desc (newest first) or asc"),
    ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ("format" = inline(Option<FormatWord>), Query, description = "json or csv"),
    ("bucket" = Option<String>, Query, pattern = "^[0-9]+[smhd]$", description = "Length of a bucket, 1s to 1d, such as 1m; at most 50000 buckets. Quick over long times: 5m and its multiples; others come in pages of about 100000 readings, all in pages of at most 4 MiB, oldest first"),
    ("extra" = Option<String>, Query, max_length = 200, description = "With bucket: also figures of this numeric field of extra"),
), responses(
    (status = 200, description = "Readings or buckets", content(
        (ReadingsAnswer = "application/json"), (String = "text/csv"))),
    (status = 304, description = "Nothing has changed since the ETag given in If-None-Match"),
    (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such machine, and no readings of one", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is away, the answer takes too long, or too much is under way to other clients", body = Problem, content_type = "application/problem+json"),
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
        Format::Csv => csv::answer(&state, query, limit != 0).await,
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
    let written = state.history.write(&state.budget, move |history, body| write_page(history, body, &query));
    let (body, ()) = written.await?;
    Ok(etag::tagged(request, body))
}

/// Writes the rows of `query` until its limit, or the bound of a page, is reached. One row more tells whether there is a next page.
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

/// More than what a reading takes up in JSON.
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
    let page = state.history.write(&state.budget, move |history, body| {
        let to = history.bucket_page_end(&query, BUCKETS_READINGS_MAX)?;
        write_buckets(history, body, &BucketsQuery { to, ..query.clone() }, query.to)
    });
    let (body, ()) = page.await?;
    Ok(etag::tagged(&request, body))
}

/// Writes the buckets of `query`, until the bound of a page is reached; `all_to` is where the last page ends.
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
