//! The body of the fuzz target for records; see [`crate::fuzzing`].

use std::io;
use std::sync::Arc;

use super::cursor::{CHUNK_BYTES, Cursor, Step};
use super::fs::FsFile;
use super::record::{self, BadRecord, RECORD_HEADER_BYTES};
use crate::domain::{Message, Qos, Seq, Timestamp, Topic};

/// Uses the first four bytes as the CRC's seed, and the rest as a record, as a segment's tail, and as a message's content.
///
/// Checks that nothing panics, that no length is used before it is checked, that decoding and encoding are inverse, and
/// that every changed byte is detected.
pub fn fuzz_record(bytes: &[u8]) {
    let Some((seed, bytes)) = bytes.split_first_chunk() else { return };
    let seed = u32::from_le_bytes(*seed);
    decode_any(bytes, seed);
    walk(bytes, seed);
    round_trip(bytes, seed);
}

/// Decodes the bytes as they are, and with a correct checksum: then the fields must be checked on their own.
fn decode_any(bytes: &[u8], seed: u32) {
    let Some(prefix) = bytes.first_chunk() else { return };
    let Ok(len) = record::record_len(*prefix) else { return };
    assert!(len >= RECORD_HEADER_BYTES, "a record has a header");
    let Some(bytes) = bytes.get(..len) else { return };
    let mut right = bytes.to_vec();
    record::seal(&mut right, seed);
    for candidate in [bytes, &right] {
        match record::decode(candidate, seed) {
            Ok(stored) => {
                let mut again = Vec::new();
                record::encode(&mut again, seed, stored.seq, stored.watermark, &stored.message);
                assert_eq!(
                    (again.as_slice(), stored.record_len()),
                    (candidate, len),
                    "each record has one encoding"
                );
            }
            Err(bad) => assert!(
                bad == BadRecord::Content || (bad == BadRecord::Checksum && candidate != right),
                "{bad}"
            ),
        }
    }
}

/// A cursor stops at the end of the bytes and holds no more memory than a chunk or one record.
fn walk(bytes: &[u8], seed: u32) {
    let file: Arc<dyn FsFile> = Arc::new(Bytes(bytes.to_vec()));
    let mut cursor = Cursor::new(file, seed, 0, bytes.len() as u64);
    loop {
        let before = cursor.offset();
        let advanced = matches!(cursor.step(), Ok(Step::Record(_)));
        assert!(cursor.offset() <= bytes.len() as u64);
        assert!(cursor.memory() <= 2 * CHUNK_BYTES.max(bytes.len()), "memory is bounded by the file");
        if !advanced {
            assert_eq!(cursor.offset(), before, "the cursor stays before bytes that are not a record");
            return;
        }
        assert!(cursor.offset() > before);
    }
}

/// Builds a message from the bytes, and encodes and decodes it.
fn round_trip(bytes: &[u8], seed: u32) {
    let Some((numbers, content)) = bytes.split_first_chunk::<18>() else { return };
    let number =
        |at: usize| u64::from_le_bytes(*numbers[at..].first_chunk().expect("18 bytes hold two numbers"));
    let (topic, payload) = content.split_at(content.len().min(usize::from(numbers[16])));
    let message = Message {
        received_at: Timestamp::from_micros(number(0).cast_signed()),
        qos: Qos::from_u8(numbers[17] % 3).expect("below 3"),
        retained: numbers[17] > 127,
        clock_unset: numbers[17] % 2 == 1,
        topic: Topic::from_bytes(topic),
        payload,
    };
    let mut encoded = Vec::new();
    record::encode(&mut encoded, seed, Seq(number(8)), Seq(number(0)), &message);
    assert_eq!(record::encoded_len(&message).ok(), Some(encoded.len()));
    let stored = record::decode(&encoded, seed).expect("what was encoded decodes");
    assert_eq!((stored.message, stored.seq, stored.watermark), (message, Seq(number(8)), Seq(number(0))));

    let at = usize::from(numbers[0]) * 257 % encoded.len();
    encoded[at] ^= numbers[1] | 1;
    assert_eq!(record::decode(&encoded, seed).err(), Some(BadRecord::Checksum), "a changed byte is detected");
}

/// A file in memory, for reading.
struct Bytes(Vec<u8>);

impl FsFile for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}
