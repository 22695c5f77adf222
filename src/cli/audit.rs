//! The audit log of commands that change something: who ran them, from where, and how they ended. One line on standard
//! error, and a row in the database. While the database is away there is the line alone: no command fails for its row.

use std::time::Duration;

use slog::{Level, o};

use super::{Exit, Output};
use crate::app::store_options;
use crate::audit::{event_now, record_and_wait};
use crate::config::{LogLevels, Settings};
use crate::logging::{self, keys};
use crate::operator::Operator;
use crate::store::{AuditEvent, StoreOptions};

/// How long a command waits for a database that is away, to write the row.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a command waits for its row in all.
const ROW_WITHIN: Duration = Duration::from_secs(8);
/// Longest target or detail.
const TEXT_CHARS_MAX: usize = 500;

/// What of a command's text tells its outcome in short.
pub(super) enum Detail {
    /// The line that holds these words.
    LineWith(&'static str),
    /// The last line.
    LastLine,
    /// All of it.
    Whole,
}

impl Detail {
    fn of(&self, text: &str) -> Option<String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        match self {
            Self::LineWith(words) => lines.find(|line| line.contains(words)).map(str::to_owned),
            Self::LastLine => lines.next_back().map(str::to_owned),
            Self::Whole => Some(lines.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty()),
        }
    }
}

/// Records how a command ended, and returns its output unchanged. A mistake on its command line is no event.
pub(super) fn recorded(
    settings: &Settings,
    (action, detail): (&str, Detail),
    target: String,
    output: Output,
) -> Output {
    let (outcome, detail) = match output.exit {
        Exit::Usage => return output,
        Exit::Clean => ("done", detail.of(&output.text)),
        _ => ("failed", output.complaints.last().cloned()),
    };
    record(settings, vec![event(action, Some(target), outcome, detail)]);
    output
}

/// Describes what this command has just done.
pub(super) fn event(
    action: &str,
    target: Option<String>,
    outcome: &str,
    detail: Option<String>,
) -> AuditEvent {
    let Operator { name, source } = Operator::of_this_process(|name| std::env::var(name).ok());
    AuditEvent {
        target: target.map(cut),
        detail: detail.map(cut),
        ..event_now(&name, &source, action, outcome)
    }
}

/// Records events of this command.
pub(super) fn record(settings: &Settings, events: Vec<AuditEvent>) {
    // Whatever log.level says: it is the service's.
    let (logger, guard) = logging::init(settings.log.format, &LogLevels::all(Level::Info));
    let store = store_options(settings);
    let options = StoreOptions {
        connect_timeout: store.connect_timeout.min(PATIENCE),
        statement_timeout: store.statement_timeout.min(PATIENCE),
        lock_timeout: store.lock_timeout.min(PATIENCE),
        ..store
    };
    record_and_wait(&options, events, ROW_WITHIN, &logger.new(o!(keys::COMPONENT => "audit")));
    drop(guard);
}

fn cut(text: String) -> String {
    if text.chars().count() <= TEXT_CHARS_MAX {
        return text;
    }
    text.chars().take(TEXT_CHARS_MAX).chain(['…']).collect()
}
