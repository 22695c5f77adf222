//! `/api/v1/machines/<id>/readings`: pages, buckets and CSV.

use std::ops::ControlFlow;

use actix_web::{HttpRequest, HttpResponse, web};

use super::csv;
use super::machines::require_known;
use super::model::{BucketsPage, NextPage, Reading, ReadingsAnswer, ReadingsBucket};
use super::texts::{BucketText, CursorText, FieldText, InstantText, MachineIdText};
use super::words::{FormatWord, OrderWord};
use crate::clock::wall_now;
use crate::domain::{MachineId, Timestamp};
use crate::http::body::{BodyWriter, ListWriter};
use crate::http::problem::Problem;
use crate::http::query::{Parameters, in_order, machine_id_in_path};
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
pub(super) const FIELD_CHARS_MAX: usize = 200;

#[derive(Clone, Copy)]
enum Format {
    Json,
    Csv,
}

/// Returns readings of one machine: from `from` (inclusive) to `to` (exclusive), newest first unless `order=asc`. With
/// `bucket`, returns the minimum, mean, maximum and count of each bucket of that length.
#[utoipa::path(get, path = "/api/v1/machines/{machine_id}/readings", params(
    ("machine_id" = inline(MachineIdText), Path, description = "The machine's id, percent-encoded as one segment"),
    ("from" = inline(InstantText), Query, description = "Start, inclusive: RFC 3339, or a date, which is midnight at the site"),
    ("to" = inline(InstantText), Query, description = "End, exclusive; not before `from`"),
    ("limit" = u32, Query, minimum = 1, maximum = 10000, description = "Rows per page; 100 if not given. A page has at most 4 MiB, or one row. CSV without a limit is not paged. Not with bucket"),
    ("order" = inline(OrderWord), Query, description = "desc (newest first) or asc. Not with bucket"),
    ("cursor" = inline(CursorText), Query, description = "`next` of the previous page"),
    ("format" = inline(FormatWord), Query, description = "json or csv. Not with bucket"),
    ("bucket" = inline(BucketText), Query, description = "Length of a bucket, 1s to 1d, such as 1m; at most 50000 buckets, oldest first. 5m and its multiples are fast over long ranges; other lengths come in pages of about 100000 readings. A page has at most 4 MiB"),
    ("extra" = inline(FieldText), Query, description = "With bucket only: also statistics of this numeric field of extra"),
), responses(
    (status = 200, description = "Readings or buckets", content(
        (ReadingsAnswer = "application/json"), (String = "text/csv"))),
    (status = 304, description = "Not changed since the ETag in If-None-Match"),
    (status = 422, description = "The parameters do not go together: from is after to, the cursor is of another bucket, one goes only with or without bucket, or there would be too many buckets", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such machine, and no readings of one", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The database is away, the answer takes too long, or too many large responses are being sent", body = Problem, content_type = "application/problem+json"),
))]
pub async fn readings(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let machine_id = machine_id_in_path(&request, 3)?;
    let mut parameters = Parameters::of(&request)?;
    let for_rows = ["format", "order", "limit"].into_iter().find(|name| parameters.has(name));
    let from = parameters.instant("from", state.time_zone())?;
    let to = parameters.instant("to", state.time_zone())?;
    let bucket = parameters.seconds("bucket", 1, 86_400)?;
    let extra = extra_field(&mut parameters)?;
    let format = parameters.word("format", &[("json", Format::Json), ("csv", Format::Csv)])?;
    let order = parameters.word("order", &[("desc", Order::Descending), ("asc", Order::Ascending)])?;
    let limit = parameters.number("limit", 0, 1, LIMIT_MAX)?;
    let cursor = parameters.cursor(|text| text.parse::<ReadingCursor>().ok())?;
    parameters.finish()?;
    in_order(from, to)?;
    let client = state.client(&request);
    match (bucket, for_rows, &extra) {
        (Some(bucket_seconds), None, _) => {
            let buckets = Buckets { bucket_seconds, extra, cursor };
            return buckets.answer(&request, &state, &client, Span { machine_id, from, to }).await;
        }
        (Some(_), Some(name), _) => {
            return Err(Problem::contradiction(format!("{name} does not go with bucket")));
        }
        (None, _, Some(_)) => return Err(Problem::contradiction("extra goes with bucket only")),
        (None, _, None) => {}
    }
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

/// True if a cursor lies between two buckets. From any other position the first bucket would be incomplete.
fn is_between_buckets(cursor: ReadingCursor, bucket_seconds: u32) -> bool {
    let is_between = cursor.at.as_micros().rem_euclid(i64::from(bucket_seconds) * 1_000_000) == 0;
    is_between && cursor == ReadingCursor::before(cursor.at)
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

/// What is asked of the buckets besides their range.
struct Buckets {
    bucket_seconds: u32,
    extra: Option<String>,
    cursor: Option<ReadingCursor>,
}

impl Buckets {
    async fn answer(
        self,
        request: &HttpRequest,
        state: &HttpState,
        client: &HistoryClient,
        span: Span,
    ) -> Result<HttpResponse, Problem> {
        let query = self.query(span)?;
        require_known(state, client, &query.machine_id).await?;
        let page = client.write(move |history, body| {
            let to = history.bucket_page_end(&query, BUCKETS_READINGS_MAX)?;
            write_buckets(history, body, &BucketsQuery { to, ..query.clone() }, query.to)
        });
        let (body, ()) = page.await?;
        Ok(etag::tagged(request, body))
    }

    fn query(self, span: Span) -> Result<BucketsQuery, Problem> {
        let bucket_seconds = self.bucket_seconds;
        if self.cursor.is_some_and(|cursor| !is_between_buckets(cursor, bucket_seconds)) {
            return Err(Problem::contradiction(
                "cursor is not the `next` of a previous page with this bucket",
            ));
        }
        let to = span.to.unwrap_or_else(wall_now);
        let from =
            span.from.unwrap_or(Timestamp::from_micros(to.as_micros().saturating_sub(BUCKETS_SPAN_MICROS)));
        let from = self.cursor.map_or(from, |cursor| cursor.at.clamp(from.min(to), to));
        let count = to.as_micros().saturating_sub(from.as_micros()) / (i64::from(bucket_seconds) * 1_000_000);
        if count > BUCKETS_MAX {
            return Err(Problem::contradiction(format!(
                "that would be {count} buckets, at most {BUCKETS_MAX} are allowed: use a longer bucket or a shorter range"
            )));
        }
        let machine_id = span.machine_id;
        Ok(BucketsQuery { machine_id, from, to, bucket_seconds: Some(bucket_seconds), extra: self.extra })
    }
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
    let Some(field) = parameters.take("extra")? else { return Ok(None) };
    if field.chars().count() > FIELD_CHARS_MAX {
        return Err(Problem::bad_request(format!(
            "extra is longer than {FIELD_CHARS_MAX} characters; expected the name of a field"
        )));
    }
    // No payload is stored with one, and PostgreSQL takes none in a text.
    if field.contains('\0') {
        return Err(Problem::bad_request("extra contains a NUL; expected the name of a field"));
    }
    Ok(Some(field))
}
