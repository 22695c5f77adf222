//! Query parameters: each one known, given once, and within its bounds. Everything else is a problem that names the
//! parameter and says what is allowed.

use actix_web::HttpRequest;
use chrono::{DateTime, NaiveDate};
use chrono_tz::Tz;
use percent_encoding::percent_decode_str;

use super::problem::Problem;
use super::window::midnight;
use crate::domain::{MACHINE_ID_CHARS_MAX, MachineId, MachineIdError, Timestamp};

/// The parameters that no handler has taken yet: names decoded, values as they came.
pub struct Parameters {
    rest: Vec<(String, String)>,
}

impl Parameters {
    /// Parses the query of `request`.
    pub fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let mut rest: Vec<(String, String)> = Vec::new();
        for pair in request.query_string().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(&name.replace('+', " "))?;
            if rest.iter().any(|(known, _)| *known == name) {
                return Err(Problem::bad_request(format!("{name:?} is given twice")));
            }
            if value.is_empty() {
                return Err(Problem::bad_request(format!(
                    "{name:?} is empty; leave it out, or give it a value"
                )));
            }
            rest.push((name, value.to_owned()));
        }
        Ok(Self { rest })
    }

    /// Takes the text of a parameter, if it is given. It is never empty.
    pub fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        self.take_raw(name).map(|raw| decoded(&raw.replace('+', " "))).transpose()
    }

    /// True if the parameter is given and not taken yet.
    pub fn has(&self, name: &str) -> bool {
        self.rest.iter().any(|(known, _)| known == name)
    }

    fn take_raw(&mut self, name: &str) -> Option<String> {
        let index = self.rest.iter().position(|(known, _)| known == name)?;
        Some(self.rest.swap_remove(index).1)
    }

    /// Takes a whole number within bounds.
    pub fn number(&mut self, name: &str, default: u32, min: u32, max: u32) -> Result<u32, Problem> {
        let Some(text) = self.take(name)? else { return Ok(default) };
        let number = read_whole(&text).filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| {
            Problem::bad_request(format!("{name} is {text:?}; expected a whole number from {min} to {max}"))
        })
    }

    /// Takes one of some words. The first is the default.
    pub fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Result<T, Problem> {
        let Some(text) = self.take(name)? else { return Ok(words[0].1) };
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Problem::bad_request(format!("{name} is {text:?}; expected one of {}", allowed.join(", ")))
        })
    }

    /// Takes an instant: RFC 3339, or a date, which means midnight in `zone`.
    pub fn instant(&mut self, name: &str, zone: Tz) -> Result<Option<Timestamp>, Problem> {
        // A "+" that was not percent-encoded begins an offset here; it is no space.
        let Some(text) = self.take_raw(name) else { return Ok(None) };
        let text = decoded(&text)?;
        let instant = read_instant(&text, zone);
        instant.map(Some).ok_or_else(|| {
            Problem::bad_request(format!(
                "{name} is {text:?}; expected an instant such as 2026-11-22T20:00:00Z or \
                 2026-11-22T20:00:00%2B01:00, or a date such as 2026-11-22"
            ))
        })
    }

    /// Takes a duration such as `30s`, `1m`, `6h`, `1d`, in seconds.
    pub fn seconds(&mut self, name: &str, min: u32, max: u32) -> Result<Option<u32>, Problem> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        let seconds = read_seconds(&text).filter(|seconds| (min..=max).contains(seconds));
        seconds.map(Some).ok_or_else(|| {
            let allowed = "expected a whole number of s, m, h or d, such as 1m, from 1s to 1d";
            Problem::bad_request(format!("{name} is {text:?}; {allowed}"))
        })
    }

    /// Takes a machine id.
    pub fn machine_id(&mut self, name: &str) -> Result<Option<MachineId>, Problem> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        let id = read_machine_id(&text).map_err(|error| Problem::bad_request(format!("{name}: {error}")))?;
        Ok(Some(id))
    }

    /// Takes `cursor`. `read` returns `None` for text that is no cursor.
    pub fn cursor<T>(&mut self, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        let Some(text) = self.take("cursor")? else { return Ok(None) };
        let cursor = read(&text);
        cursor.map(Some).ok_or_else(|| Problem::bad_request("cursor is not the `next` of a previous page"))
    }

    /// Refuses what is left: a misspelt parameter must not silently mean its default.
    pub fn finish(self) -> Result<(), Problem> {
        match self.rest.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::bad_request(format!(
                "there is no parameter {name:?} here; see /api/openapi.json"
            ))),
        }
    }
}

/// Checks that a range does not end before it begins.
pub fn in_order(from: Option<Timestamp>, to: Option<Timestamp>) -> Result<(), Problem> {
    match (from, to) {
        (Some(from), Some(to)) if from > to => {
            Err(Problem::contradiction(format!("from ({from}) is after to ({to})")))
        }
        _ => Ok(()),
    }
}

fn decoded(text: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Problem::bad_request("the query is not percent-encoded UTF-8".to_owned()))
}

/// Reads a whole number as JSON writes it: without sign and leading zeros.
fn read_whole(text: &str) -> Option<u32> {
    let is_canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_canonical)
}

fn read_instant(text: &str, zone: Tz) -> Option<Timestamp> {
    // chrono also reads dates of another length, such as 2026-1-1, which RFC 3339 does not know.
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if text.len() == "2026-01-01".len() && digits == "20260101".len() {
        return text.parse::<NaiveDate>().ok().map(|date| midnight(date, zone));
    }
    DateTime::parse_from_rfc3339(text).ok().map(|instant| Timestamp::from(instant.to_utc()))
}

/// Reads the id of a machine. In a payload blanks around it do not count; in an address they do, as the description says.
fn read_machine_id(text: &str) -> Result<MachineId, MachineIdError> {
    let chars = text.chars().count();
    if chars > MACHINE_ID_CHARS_MAX {
        return Err(MachineIdError::TooLong { chars });
    }
    match text.chars().find(|c| c.is_control()) {
        Some(control) => Err(MachineIdError::ControlCharacter { code: u32::from(control) }),
        None => MachineId::parse(text),
    }
}

fn read_seconds(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    read_whole(number)?.checked_mul(factor)
}

/// Returns the machine id in the path: segment number `index` (from 0), percent-decoded. So an id may contain `/`.
pub fn machine_id_in_path(request: &HttpRequest, index: usize) -> Result<MachineId, Problem> {
    let segment = request.uri().path().split('/').skip(1).nth(index).unwrap_or_default();
    let text = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| Problem::bad_request("the machine id in the path is not percent-encoded UTF-8"))?;
    read_machine_id(&text).map_err(|error| Problem::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn parameters(query: &str) -> Parameters {
        let request = TestRequest::with_uri(&format!("/x?{query}")).to_http_request();
        Parameters::of(&request).unwrap()
    }

    #[test]
    fn instants_are_read_with_any_offset_and_dates_are_midnight_at_the_site() {
        let berlin = chrono_tz::Europe::Berlin;
        let table = [
            ("2026-07-01T00:00:00Z", Some("2026-07-01T00:00:00.000000Z")),
            ("2026-07-01T02:00:00%2B02:00", Some("2026-07-01T00:00:00.000000Z")),
            ("2026-07-01T02:00:00+02:00", Some("2026-07-01T00:00:00.000000Z")),
            ("2026-07-01", Some("2026-06-30T22:00:00.000000Z")),
            ("2026-12-01", Some("2026-11-30T23:00:00.000000Z")),
            ("yesterday", None),
            ("1700000000", None),
            ("2026-07-01T00:00:00", None),
        ];
        for (text, expected) in table {
            let found = parameters(&format!("from={text}")).instant("from", berlin);
            match expected {
                Some(expected) => assert_eq!(found.unwrap().unwrap().to_string(), expected, "{text}"),
                None => assert!(found.unwrap_err().to_string().contains("expected"), "{text}"),
            }
        }
    }

    #[test]
    fn a_parameter_out_of_bounds_misspelt_or_repeated_is_a_problem_that_names_it() {
        for limit in ["0", "1001", "-1", "ten", "1.5", "99999999999"] {
            let problem = parameters(&format!("limit={limit}")).number("limit", 10, 1, 1000).unwrap_err();
            assert!(problem.to_string().contains("from 1 to 1000"), "{problem}");
        }
        assert_eq!(parameters("limit=1000").number("limit", 10, 1, 1000), Ok(1000));
        let left = parameters("limitt=1").finish().unwrap_err();
        assert!(left.to_string().contains("\"limitt\""), "{left}");
        let request = TestRequest::with_uri("/x?a=1&a=2").to_http_request();
        assert!(Parameters::of(&request).is_err());
        assert!(parameters("a=%ff").take("a").is_err());
        for wrong in ["%ff=1", "a=", "a", "limit="] {
            let request = TestRequest::with_uri(&format!("/x?{wrong}")).to_http_request();
            assert!(Parameters::of(&request).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, expected) in [("1m", Some(60)), ("90s", Some(90)), ("1d", Some(86_400))] {
            assert_eq!(parameters(&format!("bucket={text}")).seconds("bucket", 1, 86_400), Ok(expected));
        }
        for text in ["60", "0s", "2d", "1y", "m", "-1m", "99999999999d"] {
            assert!(parameters(&format!("bucket={text}")).seconds("bucket", 1, 86_400).is_err(), "{text}");
        }
    }

    #[test]
    fn a_machine_id_in_the_path_is_one_decoded_segment() {
        let table = [
            ("/api/v1/machines/press-1/readings", Some("press-1")),
            ("/api/v1/machines/a%2Fb%2Bc%23d%25e%20f", Some("a/b+c#d%e f")),
            ("/api/v1/machines/%252F", Some("%2f")),
            ("/api/v1/machines/a+b", Some("a+b")),
            ("/api/v1/machines/%E3%83%97%E3%83%AC%E3%82%B9", Some("プレス")),
            ("/api/v1/machines/%3Cscript%3E", Some("<script>")),
            ("/api/v1/machines/%ff", None),
            ("/api/v1/machines/%00", None),
            ("/api/v1/machines/%20", None),
        ];
        for (path, expected) in table {
            let request = TestRequest::with_uri(path).to_http_request();
            let found = machine_id_in_path(&request, 3).ok();
            assert_eq!(found.as_ref().map(MachineId::as_str), expected, "{path}");
        }
    }
}
