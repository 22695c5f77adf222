//! Format version 1, byte by byte, as an independent encoder made it from the tables in the module's head. If one of these tests fails, journals of installed services can no longer be read.

use super::*;
use crate::domain::JournalId;
use crate::journal::record;
use crate::journal::segment::{HEADER_BYTES, Header};

const SEGMENT: &str = "\
414e444f4e4a4e4c0100000040000000010000000000000067e5504410b1426f9247bb680e5fe0c80000000000000000\
00000000000000000000000005ea36d04c000000ee439871010000000000000000605ba09d3706000000000000000000\
1c000100666163746f72792f6d616368696e652f6d312f74656c656d657472797b2274656d7065726174757265223a32\
312e357d200000006346968f020000000000000001605ba09d370600000000000000000004000400662fc3bc1e000000\
269bbd84030000000000000002605ba09d37060001000000000000000000020000ff";

fn header() -> Header {
    let id = uuid::Uuid::parse_str("67e55044-10b1-426f-9247-bb680e5fe0c8").unwrap();
    Header { first: Seq(1), journal_id: JournalId(id) }
}

fn golden_records() -> Vec<u8> {
    let mut bytes = header().encode().to_vec();
    let mut buffer = Vec::new();
    let messages: [(&str, &[u8], Qos, bool); 3] = [
        ("factory/machine/m1/telemetry", br#"{"temperature":21.5}"#, Qos::AtLeastOnce, false),
        ("f/ü", b"", Qos::AtMostOnce, true),
        ("", &[0, 255], Qos::ExactlyOnce, false),
    ];
    for (index, (topic, payload, qos, retained)) in messages.into_iter().enumerate() {
        let number = index as u64;
        let received_at = Timestamp::from_micros(1_750_000_000_000_000 + number as i64);
        let message =
            Message { received_at, qos, retained, clock_unset: false, topic: topic.into(), payload };
        record::encode(&mut buffer, header().seed(), Seq(number + 1), Seq(number / 2), &message);
        bytes.extend_from_slice(&buffer);
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn format_version_1_is_written_byte_for_byte() {
    assert_eq!(hex(&golden_records()), SEGMENT);
}

#[test]
fn a_segment_of_format_version_1_is_read() {
    let bytes: Vec<u8> = (0..SEGMENT.len() / 2)
        .map(|at| u8::from_str_radix(&SEGMENT[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    assert_eq!(Header::decode(bytes.first_chunk::<HEADER_BYTES>().unwrap()), Ok(header()));
    let mut at = HEADER_BYTES;
    let mut topics = Vec::new();
    while at < bytes.len() {
        let len = record::record_len(*bytes[at..].first_chunk().unwrap()).unwrap();
        let stored = record::decode(&bytes[at..at + len], header().seed()).unwrap();
        topics.push((stored.seq.0, stored.message.topic.to_text().into_owned()));
        at += len;
    }
    let expected = [(1, "factory/machine/m1/telemetry"), (2, "f/ü"), (3, "")];
    assert_eq!(topics, expected.map(|(seq, topic)| (seq, topic.to_owned())));
}
