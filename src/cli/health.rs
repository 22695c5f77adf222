//! `andon health`: asks the running service whether it is ready, for containers and service managers.

use clap::Args;
use serde::Deserialize;

use super::service::{self, Answer};
use super::{Exit, Output};
use crate::config::Settings;
use crate::terminal;

/// Longest answer to read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only ask whether the process can work (/livez), not whether messages arrive and are stored (/readyz)
    #[arg(long)]
    live: bool,
}

#[derive(Deserialize)]
struct Health {
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    ok: bool,
    reason: String,
}

pub(super) fn run(options: &Options, settings: &Settings) -> Output {
    let path = if options.live { "/livez" } else { "/readyz" };
    let answer = service::ask_health(&settings.http, path, ANSWER_BYTES_MAX);
    match answer.and_then(|answer| read(&answer)) {
        Ok(text) => Output::clean(text),
        Err(complaint) => Output::failed(Exit::Failure, complaint),
    }
}

/// Returns one line for each check; the failing ones are the error.
fn read(answer: &Answer) -> Result<String, String> {
    let Ok(Health { checks }) = serde_json::from_str(&answer.body) else { return Err(answer.complaint()) };
    let lines = |wanted: fn(&Check) -> bool| -> String {
        let lines = checks.iter().filter(|check| wanted(check));
        let line = |check: &Check| format!("{}: {}", check.name, check.reason);
        lines.map(|check| format!("{}\n", terminal::printable(&line(check)))).collect()
    };
    let failing = lines(|check| !check.ok);
    if answer.status == "200" && failing.is_empty() {
        Ok(lines(|_| true))
    } else {
        Err(failing.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, ok: bool) -> Answer {
        let body =
            format!("{{\"status\":\"?\",\"checks\":[{{\"name\":\"mqtt\",\"ok\":{ok},\"reason\":\"r\"}}]}}");
        Answer { status: status.to_owned(), body }
    }

    #[test]
    fn each_check_of_the_answer_is_a_line() {
        assert_eq!(read(&answer("200", true)), Ok("mqtt: r\n".to_owned()));
        assert_eq!(read(&answer("503", false)), Err("mqtt: r".to_owned()));
        let other = |status: &str| Answer { status: status.to_owned(), body: "{}".to_owned() };
        assert!(read(&other("401")).is_err_and(|error| error.contains("token")));
        assert!(read(&other("no status")).is_err_and(|error| error.contains("is it Andon")));
    }
}
