//! An old row becomes a reading, by the rules for payloads. Pure.

use crate::domain::{MachineId, MachineIdError, Reading, TimeSource, Timestamp};
use crate::payload;
use crate::store::{ImportedReading, OldRow};

/// Instants that a database can hold: the years 1 to 9999.
const STORABLE: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;
/// Longest part of a bad text that a reason quotes, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// Interprets an old row.
///
/// Its times stay as they are, also those of before 2025: the old worker has judged them. A row without a time of its own
/// has that of its storing. Which clock `recorded_at` came from is not known; it counts as the device's.
///
/// # Errors
/// What is wrong with it.
pub fn reading(row: &OldRow) -> Result<ImportedReading, String> {
    let machine_id = machine_id(row)?;
    let created_at = instant("created_at", row.created_at.as_deref())?;
    let recorded_at = instant("recorded_at", row.recorded_at.as_deref())?;
    let (recorded_at, created_at) = match (recorded_at, created_at) {
        (Some(recorded_at), created_at) => (recorded_at, created_at.unwrap_or(recorded_at)),
        (None, Some(created_at)) => (created_at, created_at),
        (None, None) => return Err("it has neither recorded_at nor created_at".to_owned()),
    };
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let reading = Reading {
        machine_id,
        temperature: finite(row.temperature),
        humidity: finite(row.humidity),
        vibration: finite(row.vibration),
        extra: None,
        recorded_at,
        time_source: TimeSource::Device,
        digest: digest(row),
    };
    Ok(ImportedReading { reading, topic: row.source_topic.clone().unwrap_or_default(), created_at })
}

fn machine_id(row: &OldRow) -> Result<MachineId, String> {
    let text = row.machine_id.as_deref().unwrap_or_default();
    MachineId::parse(text).map_err(|error| match error {
        MachineIdError::Empty => "it has no machine_id".to_owned(),
        other => other.to_string(),
    })
}

/// Reads one of the two times; `None` if it is absent.
fn instant(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, String> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let read = payload::instant(text).filter(|instant| STORABLE.contains(&instant.as_micros()));
    let shown: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    read.map(Some).ok_or_else(|| format!("{name} is {shown:?}, which is no time"))
}

/// Tells the old rows apart, each from all others: also two that are equal but for their ids.
fn digest(row: &OldRow) -> u64 {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let number = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
    let fields = [
        row.id.to_string(),
        text(&row.machine_id),
        number(row.temperature),
        number(row.humidity),
        number(row.vibration),
        text(&row.source_topic),
        text(&row.recorded_at),
        text(&row.created_at),
    ];
    payload::digest(fields.join("\0").as_bytes(), TimeSource::Device, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> OldRow {
        OldRow {
            id: 7,
            machine_id: Some(" Press-1 ".to_owned()),
            temperature: Some(21.5),
            humidity: Some(f64::NAN),
            vibration: Some(f64::NEG_INFINITY),
            source_topic: None,
            recorded_at: Some("2025-11-22T12:11:12.5+02:00".to_owned()),
            created_at: Some("2025-11-22 10:11:13".to_owned()),
        }
    }

    #[test]
    fn a_row_becomes_a_reading_by_the_rules_for_payloads() {
        let imported = reading(&row()).unwrap();
        assert_eq!(imported.reading.machine_id.as_str(), "press-1");
        assert_eq!(imported.reading.recorded_at.to_string(), "2025-11-22T10:11:12.500000Z");
        assert_eq!(imported.created_at.to_string(), "2025-11-22T10:11:13.000000Z");
        let values = (imported.reading.temperature, imported.reading.humidity, imported.reading.vibration);
        assert_eq!(values, (Some(21.5), None, None));
        assert_eq!(imported.topic, "");
    }

    #[test]
    fn times_of_before_2025_stay_and_an_absent_one_is_the_other() {
        let at = |recorded: Option<&str>, created: Option<&str>| {
            let (recorded_at, created_at) = (recorded.map(str::to_owned), created.map(str::to_owned));
            let imported = reading(&OldRow { recorded_at, created_at, ..row() })?;
            Ok::<_, String>((imported.reading.recorded_at.to_string(), imported.created_at.to_string()))
        };
        let (old, new) = ("1970-01-01T00:00:12.000000Z".to_owned(), "2023-05-06T00:00:00.000000Z".to_owned());
        assert_eq!(at(Some("12"), Some("2023-05-06")), Ok((old.clone(), new.clone())));
        assert_eq!(at(None, Some("2023-05-06")), Ok((new.clone(), new)));
        assert_eq!(at(Some("12"), Some(" ")), Ok((old.clone(), old)));
        assert_eq!(at(None, None), Err("it has neither recorded_at nor created_at".to_owned()));
    }

    #[test]
    fn what_is_wrong_with_a_row_is_said() {
        let reason = |row: OldRow| reading(&row).unwrap_err();
        let bad = "yesterday ".repeat(20);
        assert_eq!(
            reason(OldRow { recorded_at: Some(bad.clone()), ..row() }),
            format!("recorded_at is {:?}, which is no time", &bad[..60])
        );
        let too_late = Some("9999-12-31T23:59:59-01:00".to_owned());
        assert!(reason(OldRow { created_at: too_late, ..row() }).starts_with("created_at is"));
        assert_eq!(reason(OldRow { machine_id: None, ..row() }), "it has no machine_id");
        assert!(reason(OldRow { machine_id: Some("x".repeat(101)), ..row() }).contains("101 characters"));
    }

    #[test]
    fn equal_rows_with_different_ids_are_different_readings() {
        let digest_of = |row: OldRow| reading(&row).unwrap().reading.digest;
        assert_eq!(digest_of(row()), digest_of(row()));
        assert_ne!(digest_of(row()), digest_of(OldRow { id: 8, ..row() }));
        assert_ne!(digest_of(row()), digest_of(OldRow { temperature: None, ..row() }));
    }
}
