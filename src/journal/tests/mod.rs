//! Tests of the journal as a whole: on a simulated disk, driven by hand, and on a real one with its threads.
#![allow(clippy::unwrap_used)]

mod basics;
mod bounds;
mod concurrency;
mod crashes;
mod exports;
mod faults;
mod golden;
mod holes;
mod inspection;
mod lost_end;
mod model;
mod positions;
mod repairs;
pub(crate) mod sim_fs;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::threads::Drive;
use super::{
    Gap, Journal, JournalError, JournalListener, JournalOptions, ReadOutcome, Recovery, Space, SyncMode,
    WhenFull,
};
use crate::domain::{Message, Qos, Seq, Timestamp};
use sim_fs::SimFs;

const DIR: &str = "/journal";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn segment(first: u64) -> PathBuf {
    super::segment::segment_path(dir(), Seq(first))
}

/// Keeps what it is told.
#[derive(Default)]
struct Notes {
    readable: Mutex<Seq>,
    space: Mutex<Vec<Space>>,
    failures: Mutex<Vec<String>>,
}

impl JournalListener for Notes {
    fn readable(&self, upto: Seq) {
        let mut readable = self.readable.lock().unwrap();
        *readable = upto.max(*readable);
    }

    fn space(&self, space: Space) {
        self.space.lock().unwrap().push(space);
    }

    fn failed(&self, error: &JournalError) {
        self.failures.lock().unwrap().push(error.to_string());
    }
}

fn options() -> JournalOptions {
    JournalOptions {
        dir: dir().to_owned(),
        site: "plant".to_owned(),
        max_bytes: 1 << 30,
        segment_bytes: 64 * 1024,
        sync: SyncMode::Background,
        when_full: WhenFull::Hold,
    }
}

fn try_open_with(
    fs: &SimFs,
    options: JournalOptions,
    notes: &Arc<Notes>,
) -> Result<(Journal, Recovery), JournalError> {
    Journal::open_driven(options, Arc::new(fs.clone()), notes.clone(), Drive::ByHand)
}

fn try_open(fs: &SimFs) -> Result<(Journal, Recovery), JournalError> {
    try_open_with(fs, options(), &Arc::default())
}

fn open(fs: &SimFs) -> (Journal, Recovery) {
    try_open(fs).expect("a journal that opens")
}

/// The text of a message is made from its number, so that any mix-up shows.
fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut payload = format!("{number}:").into_bytes();
    payload.resize(len.max(payload.len()), (number % 251) as u8);
    payload
}

fn append(journal: &Journal, number: u64, len: usize) -> Result<Seq, JournalError> {
    let payload = payload(number, len);
    let topic = format!("factory/machine/m{}/telemetry", number % 7);
    journal.append(&Message {
        received_at: Timestamp::from_micros(1_700_000_000_000_000 + number as i64),
        qos: Qos::from_u8((number % 3) as u8).unwrap(),
        retained: number.is_multiple_of(5),
        clock_unset: false,
        topic: topic.as_str().into(),
        payload: &payload,
    })
}

/// Appends `count` messages, numbered like their seqs.
fn append_many(journal: &Journal, count: u64, len: usize) {
    for _ in 0..count {
        let number = journal.positions().appended.0 + 1;
        assert_eq!(append(journal, number, len).unwrap(), Seq(number));
    }
}

/// Checks that a record is the message of its seq, whatever its length.
fn check(record: super::Record<'_>) {
    let number = record.seq.0;
    let message = record.message;
    assert_eq!(message.payload, payload(number, message.payload.len()), "payload of {number}");
    assert_eq!(message.topic.to_text(), format!("factory/machine/m{}/telemetry", number % 7));
    assert_eq!(message.received_at.as_micros(), 1_700_000_000_000_000 + number as i64);
    assert_eq!(message.qos.as_u8(), (number % 3) as u8);
    assert_eq!(message.retained, number.is_multiple_of(5));
}

/// Reads all there is after `after`; checks order and contents.
fn read_all(journal: &Journal, after: u64) -> Result<(Vec<u64>, Vec<Gap>), JournalError> {
    let mut reader = journal.reader(Seq(after));
    let (mut seqs, mut gaps) = (Vec::new(), Vec::new());
    let mut before = after;
    loop {
        let visited_before = seqs.len();
        let outcome = reader.read(7, 100_000, &mut |record| {
            check(record);
            seqs.push(record.seq.0);
        })?;
        assert_eq!(seqs.len() - visited_before, outcome.records);
        if outcome == ReadOutcome::default() {
            assert!(seqs.is_sorted(), "in order");
            return Ok((seqs, gaps));
        }
        gaps.extend(outcome.gap);
        assert!(reader.position().0 > before, "a read that returns something moves on");
        before = reader.position().0;
    }
}

fn seqs(journal: &Journal, after: u64) -> Vec<u64> {
    let (seqs, gaps) = read_all(journal, after).expect("readable");
    assert_eq!(gaps, []);
    seqs
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.collect()
}
