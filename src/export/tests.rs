use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::domain::{JournalHistory, JournalId, OpenId, Qos, Reading, Seq, TimeSource};
use crate::store::{
    Batch, DatabaseUrl, Progress, ReadingRow, StoreOptions, UnreadableRows, open, open_history,
};

/// 2026-01-01T00:00:00Z
const T0: i64 = 1_767_225_600_000_000;
const EXTRA: &str = r#"{"note":"a, \"b\"\n","n":1.50}"#;

fn machine(id: &str) -> MachineId {
    MachineId::parse(id).unwrap()
}

/// Reading `number`, of one of three machines; every fifth time is the same as the one before it of that machine.
fn reading(number: u64) -> ReadingRow {
    let machine_id = machine(["press-1", "a,b", "ofen ß"][number as usize % 3]);
    let at = Timestamp::from_micros(T0 + (number / 5 * 5) as i64 * 1_000_000);
    let reading = Reading {
        machine_id,
        temperature: Some(number as f64 / 8.0),
        humidity: None,
        vibration: number.is_multiple_of(2).then_some(-0.5),
        extra: number.is_multiple_of(4).then(|| EXTRA.to_owned()),
        recorded_at: at,
        time_source: TimeSource::Device,
        digest: number,
    };
    ReadingRow {
        seq: Seq(number),
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

struct Stored {
    _directory: tempfile::TempDir,
    history: Box<dyn History>,
}

fn stored(count: u64) -> Stored {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/andon.db", directory.path().display());
    let options = StoreOptions {
        url: DatabaseUrl::parse(&url).unwrap(),
        schema: None,
        site: "halle-7".to_owned(),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(20),
        lock_timeout: Duration::from_secs(10),
        timescale: false,
        unreadable: UnreadableRows::default(),
        progress: Progress::default(),
    };
    let mut store = open(&options).unwrap();
    store.migrate().unwrap();
    let journal = JournalId(uuid::Uuid::new_v4());
    store.claim(&JournalHistory::of_new_journal(journal)).unwrap();
    let readings = (1..=count).map(reading).collect();
    let batch = Batch {
        upto: Seq(count),
        messages: count,
        readings,
        ..Batch::new(journal, OpenId(journal.0), Seq(0))
    };
    store.commit(&batch).unwrap();
    Stored { _directory: directory, history: open_history(&options).unwrap() }
}

fn everything() -> Wanted {
    Wanted { machine_id: None, from: Timestamp::from_micros(i64::MIN), to: Timestamp::from_micros(i64::MAX) }
}

/// Output that a test can look at when the sink is gone.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn csv(wanted: &Wanted, stored: &mut Stored) -> String {
    let out = Bytes::default();
    let mut sink: Box<dyn ReadingSink> = Box::new(CsvFile::begin(out.clone()).unwrap());
    let mut counted = 0;
    export(&mut *stored.history, wanted, &mut *sink, &mut |rows| counted += rows).unwrap();
    sink.finish().unwrap();
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("\r\n").count() as u64, counted + 1);
    text
}

#[test]
fn every_reading_of_every_machine_is_in_the_csv_once_in_order() {
    let rows = 3 * u64::from(PAGE_ROWS) + 7;
    let text = csv(&everything(), &mut stored(rows));
    let mut lines = text.split("\r\n");
    assert_eq!(
        lines.next().unwrap(),
        "machine_id,recorded_at,temperature,humidity,vibration,extra,time_source,received_at"
    );
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len() as u64, rows);
    let mut expected: Vec<ReadingRow> = (1..=rows).map(reading).collect();
    expected.sort_by_key(|row| (row.reading.machine_id.clone(), row.reading.recorded_at, row.reading.digest));
    for (line, row) in lines.iter().zip(&expected) {
        let id = row.reading.machine_id.as_str();
        let id = if id.contains(',') { format!("\"{id}\"") } else { id.to_owned() };
        let start = format!("{id},{},{}", row.reading.recorded_at, row.reading.temperature.unwrap());
        assert!(line.starts_with(&start), "{line}, not {start}");
    }
    assert!(text.contains(r#","{""note"":""a, \""b\""\n"",""n"":1.50}",device,"#), "{}", lines[3]);
}

#[test]
fn one_machine_and_a_range_of_time_can_be_chosen() {
    let mut stored = stored(100);
    let at = |second: i64| Timestamp::from_micros(T0 + second * 1_000_000);
    let wanted = Wanted { machine_id: Some(machine("press-1")), from: at(30), to: at(60) };
    let text = csv(&wanted, &mut stored);
    let expected = (1..=100).map(reading).filter(|row| {
        row.reading.machine_id.as_str() == "press-1" && (at(30)..at(60)).contains(&row.reading.recorded_at)
    });
    assert_eq!(text.lines().count(), 1 + expected.count());
    let nobody = Wanted { machine_id: Some(machine("nobody")), ..everything() };
    assert_eq!(csv(&nobody, &mut stored).lines().count(), 1);
}

#[cfg(feature = "parquet")]
#[test]
fn a_parquet_file_holds_the_same_readings() {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::RowAccessor;

    let mut stored = stored(2_500);
    let out = Bytes::default();
    let mut sink: Box<dyn ReadingSink> = Box::new(ParquetFile::begin(out.clone()).unwrap());
    export(&mut *stored.history, &everything(), &mut *sink, &mut |_| {}).unwrap();
    sink.finish().unwrap();
    let file = tempfile::tempfile().unwrap();
    (&file).write_all(&out.0.lock().unwrap()).unwrap();

    let reader = SerializedFileReader::new(file).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 2_500);
    let mut expected: Vec<ReadingRow> = (1..=2_500).map(reading).collect();
    expected.sort_by_key(|row| (row.reading.machine_id.clone(), row.reading.recorded_at, row.reading.digest));
    for (found, row) in reader.get_row_iter(None).unwrap().zip(&expected) {
        let found = found.unwrap();
        let reading = &row.reading;
        assert_eq!(found.get_string(0).unwrap(), reading.machine_id.as_str());
        assert_eq!(found.get_timestamp_micros(1).unwrap(), reading.recorded_at.as_micros());
        assert_eq!(found.get_double(2).ok(), reading.temperature);
        assert!(found.get_double(3).is_err(), "NULL");
        assert_eq!(found.get_double(4).ok(), reading.vibration);
        assert_eq!(found.get_string(5).ok(), reading.extra.as_ref());
        assert_eq!(found.get_string(6).unwrap(), "device");
        assert_eq!(found.get_timestamp_micros(7).unwrap(), row.received_at.as_micros());
    }
}
