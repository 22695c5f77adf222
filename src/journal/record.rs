//! Encodes and decodes records; decoding trusts no byte. `mod.rs` describes the format.

use std::fmt;

use super::JournalError;
use crate::domain::{Message, Qos, Seq, Timestamp, Topic};

/// Longest payload: 256 MiB, the most that MQTT can carry.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Length and CRC.
pub(super) const PREFIX_BYTES: usize = 8;
/// Bytes before the topic.
pub(super) const RECORD_HEADER_BYTES: usize = 36;
/// Fixed part of the bytes that the length field counts.
const BODY_FIXED_BYTES: usize = RECORD_HEADER_BYTES - PREFIX_BYTES;
const BODY_BYTES_MAX: usize = BODY_FIXED_BYTES + u16::MAX as usize + PAYLOAD_BYTES_MAX;

const QOS_MASK: u8 = 0b011;
const RETAINED_BIT: u8 = 0b100;
const INVALID_TOPIC_BIT: u8 = 0b1000;
const CLOCK_UNSET_BIT: u8 = 0b1_0000;
const FLAGS: u8 = QOS_MASK | RETAINED_BIT | INVALID_TOPIC_BIT | CLOCK_UNSET_BIT;

/// A decoded record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored<'a> {
    pub seq: Seq,
    /// Newest seq known to be durable when this record was appended.
    pub watermark: Seq,
    pub message: Message<'a>,
}

impl Stored<'_> {
    /// Returns the length of the whole record.
    pub(super) fn record_len(&self) -> usize {
        RECORD_HEADER_BYTES + self.content_len()
    }

    /// Returns the length of topic and payload.
    pub(super) fn content_len(&self) -> usize {
        self.message.topic.as_bytes().len() + self.message.payload.len()
    }
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadRecord {
    /// Length 0: nothing was written here.
    Blank,
    /// A length that no record has.
    Length { found: u32 },
    /// The file ends before the record does.
    Truncated,
    /// The checksum does not match.
    Checksum,
    /// The checksum matches, but a field has a value that Andon never writes.
    Content,
    /// A whole record, but with another seq than expected.
    OutOfOrder { expected: Seq, found: Seq },
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("there is none"),
            Self::Length { found } => write!(f, "the record's length {found} is impossible"),
            Self::Truncated => f.write_str("the file ends inside the record"),
            Self::Checksum => f.write_str("the record's checksum is wrong"),
            Self::Content => f.write_str("the record's fields are impossible"),
            Self::OutOfOrder { expected, found } => {
                write!(f, "record {found} is in the place of record {expected}")
            }
        }
    }
}

/// Returns the length of a message as a record.
pub(super) fn encoded_len(message: &Message<'_>) -> Result<usize, JournalError> {
    let (topic, payload) = (message.topic.as_bytes().len(), message.payload.len());
    if topic > usize::from(u16::MAX) || payload > PAYLOAD_BYTES_MAX {
        return Err(JournalError::TooLarge { topic, payload });
    }
    Ok(RECORD_HEADER_BYTES + topic + payload)
}

/// Replaces the contents of `buffer` with the record. [`encoded_len`] must have accepted the message.
pub(super) fn encode(buffer: &mut Vec<u8>, seed: u32, seq: Seq, watermark: Seq, message: &Message<'_>) {
    buffer.clear();
    encode_onto(buffer, seed, seq, watermark, message);
}

/// Adds the record to `buffer`. [`encoded_len`] must have accepted the message.
pub(super) fn encode_onto(buffer: &mut Vec<u8>, seed: u32, seq: Seq, watermark: Seq, message: &Message<'_>) {
    let topic = message.topic.as_bytes();
    let topic_len = u16::try_from(topic.len()).expect("encoded_len checked the topic");
    let body_len = BODY_FIXED_BYTES + topic.len() + message.payload.len();
    let body_len = u32::try_from(body_len).expect("encoded_len checked topic and payload");
    let retained = if message.retained { RETAINED_BIT } else { 0 };
    let invalid_topic = if matches!(message.topic, Topic::Invalid(_)) { INVALID_TOPIC_BIT } else { 0 };

    let mut header = [0u8; RECORD_HEADER_BYTES];
    header[0..4].copy_from_slice(&body_len.to_le_bytes());
    header[8..16].copy_from_slice(&seq.0.to_le_bytes());
    header[16..24].copy_from_slice(&message.received_at.as_micros().to_le_bytes());
    header[24..32].copy_from_slice(&watermark.0.to_le_bytes());
    header[32..34].copy_from_slice(&topic_len.to_le_bytes());
    let clock_unset = if message.clock_unset { CLOCK_UNSET_BIT } else { 0 };
    header[34] = message.qos.as_u8() | retained | invalid_topic | clock_unset;
    let begin = buffer.len();
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(topic);
    buffer.extend_from_slice(message.payload);
    seal(&mut buffer[begin..], seed);
}

/// Writes the checksum into an otherwise complete record.
pub(super) fn seal(record: &mut [u8], seed: u32) {
    let crc = checksum(seed, record);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Returns the length of the record that begins with these four bytes, if it is within the format's bounds.
pub(super) fn record_len(prefix: [u8; 4]) -> Result<usize, BadRecord> {
    let found = u32::from_le_bytes(prefix);
    let body_len = found as usize;
    match body_len {
        0 => Err(BadRecord::Blank),
        BODY_FIXED_BYTES..=BODY_BYTES_MAX => Ok(PREFIX_BYTES + body_len),
        _ => Err(BadRecord::Length { found }),
    }
}

/// Decodes exactly one record, whose length [`record_len`] returned.
pub(super) fn decode(record: &[u8], seed: u32) -> Result<Stored<'_>, BadRecord> {
    if checksum(seed, record) != u32::from_le_bytes(field(record, 4)) {
        return Err(BadRecord::Checksum);
    }
    let topic_len = usize::from(u16::from_le_bytes(field(record, 32)));
    let flags = record[34];
    let qos = Qos::from_u8(flags & QOS_MASK).ok_or(BadRecord::Content)?;
    let rest = &record[RECORD_HEADER_BYTES..];
    if flags & !FLAGS != 0 || record[35] != 0 || topic_len > rest.len() {
        return Err(BadRecord::Content);
    }
    let (topic, payload) = rest.split_at(topic_len);
    let topic = decode_topic(topic, flags & INVALID_TOPIC_BIT != 0)?;
    Ok(Stored {
        seq: stored_seq(record),
        watermark: Seq(u64::from_le_bytes(field(record, 24))),
        message: Message {
            received_at: Timestamp::from_micros(i64::from_le_bytes(field(record, 16))),
            qos,
            retained: flags & RETAINED_BIT != 0,
            clock_unset: flags & CLOCK_UNSET_BIT != 0,
            topic,
            payload,
        },
    })
}

/// Decodes the topic. The bit must agree with the bytes, so that each message has one encoding.
fn decode_topic(bytes: &[u8], is_invalid: bool) -> Result<Topic<'_>, BadRecord> {
    let topic = Topic::from_bytes(bytes);
    if matches!(topic, Topic::Invalid(_)) == is_invalid { Ok(topic) } else { Err(BadRecord::Content) }
}

/// Returns the seq field, unchecked; `record` holds at least the record's header.
pub(super) fn stored_seq(record: &[u8]) -> Seq {
    Seq(u64::from_le_bytes(field(record, 8)))
}

fn checksum(seed: u32, record: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed, &record[..4]);
    crc32c::crc32c_append(crc, &record[PREFIX_BYTES..])
}

fn field<const N: usize>(record: &[u8], offset: usize) -> [u8; N] {
    *record[offset..].first_chunk().expect("a record is at least as long as its header")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message<'static> {
        Message {
            received_at: Timestamp::from_micros(-7),
            qos: Qos::ExactlyOnce,
            retained: true,
            clock_unset: true,
            topic: "a/ü".into(),
            payload: &[0, 255, 3],
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let mut buffer = vec![9; 1000];
        encode(&mut buffer, 77, Seq(5), Seq(3), &message());
        assert_eq!(buffer.len(), encoded_len(&message()).expect("within bounds"));
        assert_eq!(record_len(field(&buffer, 0)), Ok(buffer.len()));
        let stored = decode(&buffer, 77).expect("a whole record");
        assert_eq!(stored, Stored { seq: Seq(5), watermark: Seq(3), message: message() });
    }

    #[test]
    fn a_topic_that_is_not_text_reads_back_byte_for_byte() {
        for topic in [b"a/\xff/b".as_slice(), b"a\0b", &[0xff; 65_535]] {
            let message = Message { topic: Topic::from_bytes(topic), ..message() };
            let mut buffer = Vec::new();
            encode(&mut buffer, 77, Seq(5), Seq(3), &message);
            assert_eq!(decode(&buffer, 77).expect("a whole record").message, message);
            for lie in [INVALID_TOPIC_BIT, 0b10_0000] {
                let mut lying = buffer.clone();
                lying[34] ^= lie;
                seal(&mut lying, 77);
                assert_eq!(decode(&lying, 77), Err(BadRecord::Content), "{lie:b}");
            }
        }
    }

    #[test]
    fn every_changed_bit_is_detected() {
        let mut buffer = Vec::new();
        encode(&mut buffer, 77, Seq(5), Seq(3), &message());
        for bit in 0..buffer.len() * 8 {
            let mut changed = buffer.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&changed, 77).is_err(), "bit {bit}");
        }
        assert_eq!(decode(&buffer, 78), Err(BadRecord::Checksum), "a record of another segment");
    }

    #[test]
    fn lengths_out_of_bounds_are_refused_before_anything_is_read() {
        assert_eq!(record_len([0; 4]), Err(BadRecord::Blank));
        assert_eq!(record_len(27u32.to_le_bytes()), Err(BadRecord::Length { found: 27 }));
        assert_eq!(record_len(28u32.to_le_bytes()), Ok(36));
        let max = u32::try_from(BODY_BYTES_MAX).expect("fits");
        assert!(record_len(max.to_le_bytes()).is_ok());
        assert_eq!(record_len((max + 1).to_le_bytes()), Err(BadRecord::Length { found: max + 1 }));
    }

    #[test]
    fn a_topic_or_payload_too_long_is_refused() {
        let topic = "t".repeat(65_536);
        assert!(matches!(
            encoded_len(&Message { topic: topic.as_str().into(), ..message() }),
            Err(JournalError::TooLarge { topic: 65_536, .. })
        ));
    }
}
