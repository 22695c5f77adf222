//! Readings as CSV (RFC 4180), streamed in small parts: a download of a month needs no more memory than one part.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::readings::ROWS_AT_FIRST;
use crate::export::csv::{HEADINGS, put_line};
use crate::http::body::{Body, BodyWriter};
use crate::http::problem::Problem;
use crate::http::{HistoryClient, HistoryError};
use crate::store::{History, ReadingCursor, ReadingsQuery, StoreError};

/// Most rows of a part.
const PART_ROWS_MAX: u32 = 2_000;
/// Bytes after which a part ends.
const PART_BYTES: usize = 256 * 1024;
/// How long a download waits when the budget or the database has no room for its next part.
const PAUSE: Duration = Duration::from_millis(200);

/// Returns the readings of `query`: as many as its limit, or, if not `limited`, all of its range. Reads the first part
/// before the response begins, so that a database that is away still becomes a 503.
pub async fn answer(
    client: HistoryClient,
    query: ReadingsQuery,
    limited: bool,
) -> Result<HttpResponse, Problem> {
    let name = format!("{}.csv", query.machine_id);
    let name = utf8_percent_encode(&name, NON_ALPHANUMERIC);
    let disposition = format!("attachment; filename=\"readings.csv\"; filename*=UTF-8''{name}");
    let left = if limited { u64::from(query.limit) } else { u64::MAX };
    let download = Download { client, query, left, rows_requested: ROWS_AT_FIRST };
    let body = CsvBody::begin(download).await?;
    let response = HttpResponse::Ok()
        .insert_header((
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/csv; charset=utf-8; header=present"),
        ))
        .insert_header((header::CONTENT_DISPOSITION, disposition))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(BoxBody::new(body));
    Ok(response)
}

/// The rest of a download.
struct Download {
    client: HistoryClient,
    query: ReadingsQuery,
    left: u64,
    /// Rows that the next part requests: about as many as will fit.
    rows_requested: u32,
}

/// The outcome of reading a part.
struct Part {
    rows: u32,
    bytes: usize,
    last: Option<ReadingCursor>,
    /// The part ended because it was full: more rows may follow.
    is_full: bool,
}

impl Download {
    /// Reads the next part. The first one starts with the headings.
    async fn read(&mut self, begins: bool) -> Result<Body, HistoryError> {
        let limit = self.rows_requested.min(u32::try_from(self.left).unwrap_or(u32::MAX));
        let query = ReadingsQuery { limit, ..self.query.clone() };
        let written = self.client.write(move |history, body| {
            if begins {
                body.text(HEADINGS);
            }
            write_part(history, body, &query)
        });
        let (body, part) = written.await?;
        let is_last = part.rows < limit && !part.is_full;
        self.left = if is_last { 0 } else { self.left - u64::from(part.rows) };
        self.rows_requested = rows_to_request(self.rows_requested, &part);
        if let Some(last) = part.last {
            self.query.advance(last);
        }
        Ok(body)
    }

    /// Reads the next part as soon as there is room for it.
    async fn read_next(mut self) -> NextRead {
        loop {
            match self.read(false).await {
                Err(HistoryError::Spent(_) | HistoryError::Busy) => actix_rt::time::sleep(PAUSE).await,
                read => return (self, read),
            }
        }
    }
}

/// Estimates the rows of the next part from the last one. Grows at most fourfold, because the next rows may be larger.
fn rows_to_request(before: u32, part: &Part) -> u32 {
    let bytes_per_row = part.bytes / (part.rows.max(1) as usize);
    let rows = u32::try_from(PART_BYTES / bytes_per_row.max(1) + 1).unwrap_or(u32::MAX);
    rows.min(before.saturating_mul(4)).min(PART_ROWS_MAX)
}

fn write_part(
    history: &mut dyn History,
    body: &mut BodyWriter,
    query: &ReadingsQuery,
) -> Result<Part, StoreError> {
    let mut part = Part { rows: 0, bytes: 0, last: None, is_full: false };
    history.readings(query, &mut |row| {
        put_line(&mut |text| body.text(text), &row);
        part.rows += 1;
        part.last = Some(row.key);
        part.bytes = body.bytes();
        part.is_full = part.bytes >= PART_BYTES || body.is_spent();
        if part.is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(part)
}

/// Reads a part once the client has taken the previous one. A slow client costs the memory of one part and no database
/// connection.
struct CsvBody {
    ready: Body,
    next: Next,
}

type NextRead = (Download, Result<Body, HistoryError>);

enum Next {
    Waiting(Download),
    Reading(Pin<Box<dyn Future<Output = NextRead>>>),
    /// Everything is read, or reading has failed.
    Done,
}

impl CsvBody {
    async fn begin(mut download: Download) -> Result<Self, HistoryError> {
        let ready = download.read(true).await?;
        Ok(Self { ready, next: Next::Waiting(download) })
    }
}

impl MessageBody for CsvBody {
    type Error = std::io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let body = self.get_mut();
        loop {
            if let Some(piece) = body.ready.next_piece() {
                return Poll::Ready(Some(Ok(piece)));
            }
            let mut reading = match std::mem::replace(&mut body.next, Next::Done) {
                Next::Waiting(download) if download.left > 0 => Box::pin(download.read_next()) as _,
                Next::Reading(reading) => reading,
                Next::Waiting(_) | Next::Done => return Poll::Ready(None),
            };
            match Pin::new(&mut reading).poll(context) {
                Poll::Ready((download, Ok(part))) => {
                    body.ready = part;
                    body.next = Next::Waiting(download);
                }
                // Break the connection, so that the client does not mistake a part for the whole.
                Poll::Ready((_, Err(error))) => return Poll::Ready(Some(Err(std::io::Error::other(error)))),
                Poll::Pending => {
                    body.next = Next::Reading(reading);
                    return Poll::Pending;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;
    use std::future::poll_fn;
    use std::sync::Arc;

    use crate::domain::{
        JournalHistory, JournalId, MachineId, OpenId, Qos, Reading, Seq, TimeSource, Timestamp,
    };
    use crate::http::lane::Lane;
    use crate::http::tests::store_options;
    use crate::http::{Budget, HistoryPool, IN_FLIGHT_BYTES_MAX};
    use crate::store::{Batch, Order, ReadingCursor, ReadingRow, collected, open};

    fn row(seq: u64, machine_id: &MachineId) -> ReadingRow {
        let at = Timestamp::from_micros(1_767_595_199_000_001 + seq as i64);
        let reading = Reading {
            machine_id: machine_id.clone(),
            temperature: Some(21.5),
            humidity: None,
            vibration: None,
            extra: None,
            recorded_at: at,
            time_source: TimeSource::Device,
            digest: seq,
        };
        ReadingRow {
            seq: Seq(seq),
            element: 0,
            received_at: at,
            topic: Arc::from("t"),
            qos: Qos::AtLeastOnce,
            retained: false,
            clock_unset: false,
            reading,
            payload: Vec::new(),
        }
    }

    /// Proves HTTP-2.
    #[test]
    fn stalled_downloads_hold_no_database_connection() {
        let directory = tempfile::tempdir().unwrap();
        let options = store_options(&directory);
        let machine_id = MachineId::parse("m").unwrap();
        let mut store = open(&options).unwrap();
        store.migrate().unwrap();
        let journal_id = JournalId(uuid::Uuid::new_v4());
        store.claim(&JournalHistory::of_new_journal(journal_id)).unwrap();
        let rows = 2 * u64::from(PART_ROWS_MAX) + 1;
        let readings = (1..=rows).map(|seq| row(seq, &machine_id)).collect();
        let batch = Batch {
            upto: Seq(rows),
            messages: rows,
            readings,
            ..Batch::new(journal_id, OpenId(journal_id.0), Seq(0))
        };
        store.commit(&batch).unwrap();

        let history = HistoryPool::start(&options, &slog::Logger::root(slog::Discard, slog::o!())).unwrap();
        let query = ReadingsQuery {
            machine_id,
            from: ReadingCursor::before(Timestamp::from_micros(0)),
            to: ReadingCursor::before(Timestamp::from_micros(i64::MAX / 4)),
            order: Order::Ascending,
            limit: 1,
        };
        actix_rt::System::new().block_on(async move {
            // More downloads than connections. Each has sent its headings and holds its first part.
            let budget = Budget::new(IN_FLIGHT_BYTES_MAX);
            let client = history.client(Lane::Api, None, &budget);
            let (mut idle, mut held) = (Vec::new(), 0);
            for _ in 0..8 {
                let download = Download {
                    client: client.clone(),
                    query: query.clone(),
                    left: u64::MAX,
                    rows_requested: ROWS_AT_FIRST,
                };
                let mut body = CsvBody::begin(download).await.unwrap();
                let first = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await.unwrap().unwrap();
                assert!(first.starts_with(HEADINGS.as_bytes()));
                held += first.len();
                idle.push(body);
            }
            let one = query.clone();
            let one = client.ask(move |history| collected(|each| history.readings(&one, each)));
            assert_eq!(one.await.unwrap().len(), 1);
            let first = held / idle.len();
            let text = to_bytes(idle.pop().unwrap()).await.unwrap();
            let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
            assert_eq!(lines as u64 + u64::from(ROWS_AT_FIRST), rows, "every row once, after {first} bytes");
        });
    }
}
