//! The clock thread: compares wall clock and trusted time, and logs what changes.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use slog::{Logger, error, info, o, warn};

use super::options::shortest_retention;
use crate::clock::ClockKeeper;
use crate::clock::trusted::{News, Reason};
use crate::config::Settings;
use crate::domain::duration_text;
use crate::logging::{causes, keys};

/// Pause between two comparisons.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reads the record beside the journal and starts the thread, which runs until the process ends.
pub(super) fn start(settings: &Settings, logger: &Logger) -> Arc<ClockKeeper> {
    let shortest = shortest_retention(settings);
    let keeper = Arc::new(ClockKeeper::open(&settings.journal.dir, &settings.site.id, shortest));
    let (watched, logger) = (Arc::clone(&keeper), logger.new(o!(keys::COMPONENT => "clock")));
    let watch = {
        let logger = logger.clone();
        move || watch(&watched, &logger)
    };
    // Without the thread retention deletes nothing, which can wait for the next start.
    if let Err(error) = thread::Builder::new().name("clock".to_owned()).spawn(watch) {
        error!(logger, "cannot start the clock thread: retention is off until the next start"; "error" => causes(&error));
    }
    keeper
}

fn watch(keeper: &ClockKeeper, logger: &Logger) -> ! {
    let mut last_failure: Option<String> = None;
    loop {
        let (changes, written) = keeper.look();
        changes.into_iter().for_each(|change| log(change, keeper, logger));
        let failure = written.err().map(|error| causes(&error));
        if let Some(failure) = failure.filter(|failure| last_failure.as_ref() != Some(failure)) {
            warn!(logger, "the trusted time cannot be stored beside the journal; the database holds it, too";
                "path" => %keeper.file().path().display(), "reason" => &failure);
            last_failure = Some(failure);
        }
        thread::sleep(INTERVAL);
    }
}

fn log(change: News, keeper: &ClockKeeper, logger: &Logger) {
    let status = keeper.status();
    let trusted = status.trusted.to_string();
    match change {
        News::StepWaits(by) => {
            warn!(logger, "the clock of this computer has jumped, and nothing confirms it: retention waits. \
                Correct it or switch time synchronisation on; if it is right, run `andon db prune \
                --confirm-clock`. Andon believes it after 7 days of running";
                "step" => words(by), "trusted_time" => trusted, "synchronised" => status.synchronised);
        }
        News::Unset => {
            warn!(logger, "the clock of this computer is not set (a dead battery?): Andon uses the trusted \
                time in its place, and believes devices' times however far ahead they are. Set the clock";
                "trusted_time" => trusted);
        }
        News::Followed(by, reason) => {
            let reason = match reason {
                Reason::Synchronised => "the kernel calls it synchronised",
                Reason::Held => "it has held for 7 days of running",
                Reason::Agrees => "it agrees with the trusted time",
                Reason::Confirmed => "an operator has confirmed it",
            };
            info!(logger, "Andon trusts the clock of this computer"; "step" => words(by), "trusted_time" => trusted,
                keys::REASON => reason);
        }
    }
}

/// `3h ahead`, `10d 2h back`.
fn words(micros: i64) -> String {
    let seconds = micros.unsigned_abs() / 1_000_000;
    let direction = if micros < 0 { "back" } else { "ahead" };
    format!("{} {direction}", duration_text::rounded(Duration::from_secs(seconds)))
}
