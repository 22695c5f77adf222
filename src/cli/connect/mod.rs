//! `andon config check --connect`: connects like the service, step by step, and reports for each step "ok" or why not.
//!
//! It changes nothing. At the broker it uses another client id and another session, and publishes one echo, which is not
//! retained. It opens the database, but does not migrate it. It creates a file in the directory of the journal, and
//! removes it.

mod broker;
mod storage;

use serde_json::json;

use super::{Exit, Output, table};
use crate::config::Settings;
use crate::terminal;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It works; what was found.
    Ok(String),
    /// It does not work; why.
    Failed(String),
    /// It was not tried; why.
    Skipped(String),
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// What it connects to, such as the address of a broker.
    target: String,
    /// What was done.
    step: String,
    outcome: Outcome,
}

impl Step {
    fn new(target: &str, step: impl Into<String>, result: Result<String, String>) -> Self {
        let outcome = result.map_or_else(Outcome::Failed, Outcome::Ok);
        Self { target: target.to_owned(), step: step.into(), outcome }
    }

    fn skipped(target: &str, step: impl Into<String>, why: impl Into<String>) -> Self {
        Self { target: target.to_owned(), step: step.into(), outcome: Outcome::Skipped(why.into()) }
    }

    /// Returns the result in a word, and its detail.
    fn in_words(&self) -> (&'static str, &str) {
        match &self.outcome {
            Outcome::Ok(found) => ("ok", found),
            Outcome::Failed(why) => ("FAILED", why),
            Outcome::Skipped(why) => ("not tried", why),
        }
    }
}

/// Takes every step, and prints them below `heading`.
pub(super) fn run(settings: &Settings, heading: String, json: bool) -> Output {
    // The MQTT client library would do this, too, but its threads may outlive it.
    openssl_sys::init();
    let client_id = broker::throw_away_client_id();
    let mut steps = broker::check(settings, &client_id);
    steps.push(storage::check_database(settings));
    steps.extend(storage::check_journal(settings));
    let failed = steps.iter().filter(|step| matches!(step.outcome, Outcome::Failed(_))).count();
    let text = if json { as_json(&steps, &client_id) } else { heading + &as_text(&steps, &client_id) };
    let complaints = match failed {
        0 => Vec::new(),
        1 => vec!["1 step failed".to_owned()],
        _ => vec![format!("{failed} steps failed")],
    };
    Output { text, complaints, exit: if failed == 0 { Exit::Clean } else { Exit::Failure } }
}

fn as_text(steps: &[Step], client_id: &str) -> String {
    let mut text = format!(
        "\ntesting the connections, with the client id {client_id:?} and its own session: a running service keeps its session\n\n"
    );
    let mut shown = "";
    let rows: Vec<Vec<String>> = steps
        .iter()
        .map(|step| {
            let target = if step.target == shown { "" } else { step.target.as_str() };
            shown = &step.target;
            let (word, detail) = step.in_words();
            vec![target.to_owned(), step.step.clone(), word.to_owned(), detail.to_owned()]
        })
        .collect();
    text.push_str(&table(&["what", "step", "result", "detail"], &rows));
    text
}

fn as_json(steps: &[Step], client_id: &str) -> String {
    let steps: Vec<_> = steps
        .iter()
        .map(|step| {
            let (word, detail) = step.in_words();
            let word = word.to_lowercase().replace(' ', "_");
            json!({ "target": step.target, "step": step.step, "result": word, "detail": detail })
        })
        .collect();
    let object = json!({ "client_id": client_id, "steps": steps });
    format!("{}\n", terminal::json(&format!("{object:#}")))
}
