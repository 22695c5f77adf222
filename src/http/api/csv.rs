//! Readings as CSV (RFC 4180): a stream of pages, so that a month is one small answer after the other.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::http::problem::Problem;
use crate::http::{HistoryError, HistoryPool};
use crate::store::{ReadingsQuery, StoredReading};

/// Rows read at a time.
const PAGE: u32 = 2_000;
const HEADINGS: &str = "recorded_at,temperature,humidity,vibration,extra,time_source,received_at\r\n";

/// The readings of `query`: as many as its limit says, or, if it is not `limited`, all of its range. The first page is read
/// before the answer begins, so that a database that is away is told as such.
pub async fn answer(
    history: HistoryPool,
    query: ReadingsQuery,
    limited: bool,
) -> Result<HttpResponse, Problem> {
    let name = format!("{}.csv", query.machine_id);
    let name = utf8_percent_encode(&name, NON_ALPHANUMERIC);
    let disposition = format!("attachment; filename=\"readings.csv\"; filename*=UTF-8''{name}");
    let left = if limited { u64::from(query.limit) } else { u64::MAX };
    let mut body = CsvBody {
        history,
        query,
        left,
        ready: VecDeque::from([Bytes::from_static(HEADINGS.as_bytes())]),
        asking: None,
    };
    let first = body.ask().await?;
    body.take(&first);
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

type Page = Result<Vec<StoredReading>, HistoryError>;

/// Reads a page when the client has taken the one before: a slow client costs one page of memory, and no connection to the
/// database.
struct CsvBody {
    history: HistoryPool,
    query: ReadingsQuery,
    left: u64,
    ready: VecDeque<Bytes>,
    asking: Option<Pin<Box<dyn Future<Output = Page>>>>,
}

impl CsvBody {
    fn ask(&mut self) -> Pin<Box<dyn Future<Output = Page>>> {
        let limit = u32::try_from(self.left).unwrap_or(u32::MAX).min(PAGE);
        let (history, query) = (self.history.clone(), ReadingsQuery { limit, ..self.query.clone() });
        Box::pin(async move { history.ask(move |history| history.readings(&query)).await })
    }

    fn take(&mut self, rows: &[StoredReading]) {
        let full = rows.len() as u64 == self.left.min(u64::from(PAGE));
        self.left = if full { self.left - rows.len() as u64 } else { 0 };
        if let Some(last) = rows.last() {
            self.query.advance(last.key);
            self.ready.push_back(lines(rows).into());
        }
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
            if let Some(chunk) = body.ready.pop_front() {
                return Poll::Ready(Some(Ok(chunk)));
            }
            if body.left == 0 {
                return Poll::Ready(None);
            }
            let mut asking = body.asking.take().unwrap_or_else(|| body.ask());
            match asking.as_mut().poll(context) {
                Poll::Ready(Ok(rows)) => body.take(&rows),
                // The connection is cut, so that nobody takes half of the rows for all.
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(std::io::Error::other(error)))),
                Poll::Pending => {
                    body.asking = Some(asking);
                    return Poll::Pending;
                }
            }
        }
    }
}

fn lines(rows: &[StoredReading]) -> String {
    let mut text = String::with_capacity(rows.len() * 96);
    for row in rows {
        let reading = &row.reading;
        text.push_str(&reading.recorded_at.to_string());
        for value in [reading.temperature, reading.humidity, reading.vibration] {
            text.push(',');
            if let Some(value) = value {
                text.push_str(&value.to_string());
            }
        }
        text.push(',');
        text.push_str(&quoted(reading.extra.as_deref().unwrap_or_default()));
        text.push(',');
        text.push_str(&quoted(&row.time_source));
        text.push(',');
        text.push_str(&row.received_at.to_string());
        text.push_str("\r\n");
    }
    text
}

/// A cell; quoted where it must be. Texts of machines only stand in `extra`, which begins with a brace: no spreadsheet takes it
/// for a formula.
fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use actix_web::body::to_bytes;

    use crate::domain::{JournalId, MachineId, Qos, Reading, Seq, TimeSource, Timestamp};
    use crate::store::{
        Batch, LatestReading, Order, ReadingCursor, ReadingRow, StoreOptions, UnreadableRows, open,
    };

    #[test]
    fn a_row_is_quoted_where_it_must_be() {
        let at = Timestamp::from_micros(1_767_595_199_000_001);
        let reading = LatestReading {
            recorded_at: at,
            temperature: Some(21.5),
            humidity: None,
            vibration: Some(-0.0),
            extra: Some(r#"{"note":"a, \"b\""}"#.to_owned()),
        };
        let key = ReadingCursor::before(at);
        let row = StoredReading { key, reading, time_source: "device".to_owned(), received_at: at };
        assert_eq!(
            lines(&[row]),
            "2026-01-05T06:39:59.000001Z,21.5,,-0,\"{\"\"note\"\":\"\"a, \\\"\"b\\\"\"\"\"}\",device,2026-01-05T06:39:59.000001Z\r\n"
        );
    }

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
            reading,
            payload: Vec::new(),
        }
    }

    #[test]
    fn downloads_that_nobody_reads_leave_the_database_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            url: format!("sqlite://{}/andon.db", directory.path().display()),
            site: "s".to_owned(),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(20),
            lock_timeout: Duration::from_secs(5),
            unreadable: UnreadableRows::default(),
        };
        let machine_id = MachineId::parse("m").unwrap();
        let mut store = open(&options).unwrap();
        store.migrate().unwrap();
        let journal_id = JournalId(uuid::Uuid::new_v4());
        store.checkpoint(journal_id).unwrap();
        let rows = 2 * u64::from(PAGE) + 1;
        let readings = (1..=rows).map(|seq| row(seq, &machine_id)).collect();
        let batch = Batch { upto: Seq(rows), messages: rows, readings, ..Batch::new(journal_id, Seq(0)) };
        store.commit(&batch).unwrap();

        let history = HistoryPool::start(&options).unwrap();
        let query = ReadingsQuery {
            machine_id,
            from: ReadingCursor::before(Timestamp::from_micros(0)),
            to: ReadingCursor::before(Timestamp::from_micros(i64::MAX / 4)),
            order: Order::Ascending,
            limit: 1,
        };
        actix_rt::System::new().block_on(async move {
            // More than there are connections; each has sent its headings and holds its first page.
            let mut idle = Vec::new();
            for _ in 0..8 {
                let mut body = answer(history.clone(), query.clone(), false).await.unwrap().into_body();
                let first = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await.unwrap().unwrap();
                assert_eq!(first, HEADINGS.as_bytes());
                idle.push(body);
            }
            let one = query.clone();
            assert_eq!(history.ask(move |history| history.readings(&one)).await.unwrap().len(), 1);
            let text = to_bytes(idle.pop().unwrap()).await.unwrap();
            let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
            assert_eq!(lines as u64, rows, "every row once");
        });
    }
}
