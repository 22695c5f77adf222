//! Response bodies: built in pieces, charged to the [`Budget`] while they are held, and sent in pieces.
//!
//! A body is never one long allocation: growing one copies it, and the connection copies it once more as a whole.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::budget::{Budget, BudgetSpent, Charge, FREE_BYTES};

/// Bytes of one piece: about what a connection accepts at a time.
pub const PIECE_BYTES: usize = 32 * 1024;
/// Largest page of a list in bytes, unless its only row is larger.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Reserved at the end of a page for the fields that follow its rows.
const PAGE_END_BYTES: usize = 4 * 1024;

/// Builds a body. Once the budget is spent it drops everything, and [`BodyWriter::finish`] fails.
pub struct BodyWriter {
    pieces: VecDeque<Bytes>,
    open: Vec<u8>,
    bytes: usize,
    hash: Xxh3,
    charge: Charge,
    is_spent: bool,
}

impl BodyWriter {
    /// Starts an empty body.
    #[must_use]
    pub fn new(budget: &Budget) -> Self {
        let charge = budget.charge(0).expect("a charge of 0 bytes always fits");
        let hash = Xxh3::new();
        Self { pieces: VecDeque::new(), open: Vec::new(), bytes: 0, hash, charge, is_spent: false }
    }

    /// Returns the bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True once the budget is spent. Nothing written from then on is kept.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// Appends text.
    pub fn text(&mut self, text: &str) {
        self.write_bytes(text.as_bytes());
    }

    /// Appends a value as JSON.
    pub fn json(&mut self, value: &impl Serialize) {
        serde_json::to_writer(self, value)
            .expect("strings, numbers and booleans always serialise, and this writer never fails");
    }

    /// Returns the finished body.
    ///
    /// # Errors
    /// The budget ran out while the body was written.
    pub fn finish(mut self) -> Result<Body, BudgetSpent> {
        self.close_piece();
        if self.is_spent {
            return Err(BudgetSpent);
        }
        let Self { pieces, bytes, hash, charge, .. } = self;
        Ok(Body { pieces, bytes, tag: hash.digest(), charge })
    }

    fn write_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_spent {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.open.len()));
            if self.open.is_empty() && !self.pieces.is_empty() {
                self.open.reserve_exact(PIECE_BYTES);
            }
            self.open.extend_from_slice(now);
            self.hash.update(now);
            self.bytes += now.len();
            if self.open.len() == PIECE_BYTES {
                self.close_piece();
            }
            bytes = later;
        }
    }

    /// Closes the open piece and charges for it. The first [`FREE_BYTES`] of a body are free.
    fn close_piece(&mut self) {
        let free = FREE_BYTES.saturating_sub(self.bytes - self.open.len());
        if self.charge.grow(self.open.len().saturating_sub(free)).is_err() {
            self.is_spent = true;
            self.pieces.clear();
            self.charge.release(usize::MAX);
        }
        let piece = std::mem::take(&mut self.open);
        if !self.is_spent && !piece.is_empty() {
            self.pieces.push_back(piece.into());
        }
    }
}

impl io::Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A finished body.
pub struct Body {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    tag: u64,
    charge: Charge,
}

impl Body {
    /// Wraps text whose bytes `charge` already covers.
    #[must_use]
    pub fn of_text(text: String, charge: Charge) -> Self {
        let (bytes, tag) = (text.len(), 0);
        Self { pieces: VecDeque::from([text.into()]), bytes, tag, charge }
    }

    /// Returns a hash of the bytes, for the ETag.
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// Takes the next bytes to send, at most one piece.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        let first = self.pieces.front_mut()?;
        if first.len() > PIECE_BYTES {
            return Some(first.split_to(PIECE_BYTES));
        }
        let last = self.pieces.pop_front();
        if self.pieces.is_empty() {
            self.charge.release(usize::MAX);
        } else {
            self.charge.release(PIECE_BYTES);
        }
        last
    }
}

impl MessageBody for Body {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.get_mut().next_piece().map(Ok))
    }
}

/// Writes one page of a list: a JSON object that begins with the list and is bounded in bytes.
pub struct ListWriter<'a> {
    body: &'a mut BodyWriter,
    rows: u32,
}

impl<'a> ListWriter<'a> {
    /// Starts the object with the list `name`.
    pub fn begin(body: &'a mut BodyWriter, name: &str) -> Self {
        body.text("{\"");
        body.text(name);
        body.text("\":[");
        Self { body, rows: 0 }
    }

    /// Returns the number of rows so far.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// True if a row of at most `bytes` still fits. The first row always fits, so that every page makes progress.
    #[must_use]
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let fits = self.body.bytes() + bytes + PAGE_END_BYTES <= PAGE_BYTES_MAX;
        (self.rows == 0 || fits) && !self.body.is_spent()
    }

    /// Estimates how many more rows fit, from the average so far; one more than that, to fill the page.
    #[must_use]
    pub fn rows_expected(&self) -> u32 {
        let room = PAGE_BYTES_MAX.saturating_sub(self.body.bytes());
        let of_one = self.body.bytes() / (self.rows.max(1) as usize);
        u32::try_from(room / of_one.max(1)).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Appends a row.
    pub fn push(&mut self, row: &impl Serialize) {
        if self.rows > 0 {
            self.body.text(",");
        }
        self.rows += 1;
        self.body.json(row);
    }

    /// Closes the list and appends the fields of the object `rest`.
    pub fn end(self, rest: &impl Serialize) {
        let rest = serde_json::to_string(rest).expect("strings, numbers and booleans always serialise");
        self.body.text("],");
        self.body.text(rest.strip_prefix('{').expect("an object"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::budget::IN_FLIGHT_BYTES_MAX;

    fn sent(mut body: Body) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = body.next_piece() {
            assert!(piece.len() <= PIECE_BYTES);
            all.extend_from_slice(&piece);
        }
        all
    }

    #[test]
    fn a_body_of_any_length_is_sent_whole_and_returns_its_charge() {
        let budget = Budget::new(IN_FLIGHT_BYTES_MAX);
        for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 100_000] {
            let text: String = (0..length).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
            let mut writer = BodyWriter::new(&budget);
            text.as_bytes().chunks(7_919).for_each(|part| writer.text(std::str::from_utf8(part).unwrap()));
            let body = writer.finish().unwrap();
            assert_eq!(body.size(), BodySize::Sized(length as u64));
            assert_eq!(
                budget.taken(),
                length.saturating_sub(FREE_BYTES),
                "all but the free bytes are charged"
            );
            assert_eq!(sent(body), text.as_bytes(), "{length}");
            assert_eq!(budget.taken(), 0);
        }
    }

    #[test]
    fn an_unread_body_holds_its_charge_until_it_is_dropped() {
        let budget = Budget::new(300_000);
        let written = |bytes: usize| {
            let mut writer = BodyWriter::new(&budget);
            writer.text(&"x".repeat(bytes));
            writer.finish()
        };
        let unread = written(250_000).unwrap();
        assert_eq!(written(250_000).err(), Some(BudgetSpent));
        assert!(written(FREE_BYTES).is_ok(), "small responses still pass");
        assert_eq!(budget.taken(), 250_000 - FREE_BYTES, "a refused body holds nothing");
        drop(unread);
        assert!(written(250_000).is_ok());
        let text = Body::of_text("y".repeat(100_000), budget.charge(100_000).unwrap());
        assert_eq!(budget.taken(), 100_000);
        assert_eq!(sent(text).len(), 100_000);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn the_tag_depends_on_the_bytes_alone() {
        let budget = Budget::new(IN_FLIGHT_BYTES_MAX);
        let tag = |parts: &[&str]| {
            let mut writer = BodyWriter::new(&budget);
            parts.iter().for_each(|part| writer.text(part));
            writer.finish().unwrap().tag()
        };
        assert_eq!(tag(&["ab", "c"]), tag(&["a", "bc"]));
        assert_ne!(tag(&["abc"]), tag(&["abd"]));
    }

    /// Proves HTTP-2.
    #[test]
    fn a_page_stays_below_its_bound_and_has_at_least_one_row() {
        let budget = Budget::new(IN_FLIGHT_BYTES_MAX);
        let page = |row: &str| {
            let mut body = BodyWriter::new(&budget);
            let mut list = ListWriter::begin(&mut body, "rows");
            while list.rows() < 100 && list.has_room_for(row.len() + 3) {
                list.push(&row);
            }
            list.end(&serde_json::json!({ "next": null, "more": 1 }));
            let json: serde_json::Value = serde_json::from_slice(&sent(body.finish().unwrap())).unwrap();
            assert!(json["next"].is_null() && json["more"] == 1);
            json["rows"].as_array().unwrap().len()
        };
        assert_eq!(page("x"), 100);
        assert_eq!(page(&"x".repeat(1_000_000)), 4);
        assert_eq!(page(&"x".repeat(5_000_000)), 1);
    }
}
