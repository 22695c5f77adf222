//! `andon db import`: takes over from the reference Python worker. Its rows become readings, its table gets another name, and
//! a view takes its place. Can be ended at any time and started again; works while the service runs.

mod convert;

use std::time::Duration;

use super::{Exit, Output, counted, failed_to};
use crate::app::store_options;
use crate::config::Settings;
use crate::store::{Found, Import, ImportState, KEPT_TABLE, StoreError, TakeOver};
use crate::terminal::progress::{ProgressDisplay, Unit};

/// Most unreadable rows to list one by one; the others are counted.
const LISTED_MAX: u32 = 20;
/// Attempts to take over while others hold the old table; each waits two seconds for it, and a pause follows.
const ATTEMPTS_MAX: u32 = 30;
/// Pause between two attempts, in which what queued behind the last one gets its turn.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

pub(super) fn run(settings: &Settings) -> Output {
    match import(settings) {
        Ok(output) => output,
        Err(error @ StoreError::ImportRefused { .. }) => Output::failed(Exit::Usage, failed_to(&error)),
        Err(error) => Output::failed(
            Exit::Failure,
            format!(
                "{}; nothing is lost: what was brought over stays, and `andon db import` goes on from there",
                failed_to(&error)
            ),
        ),
    }
}

fn import(settings: &Settings) -> Result<Output, StoreError> {
    match Import::find(&store_options(settings))? {
        Found::Nothing => {
            let complaint = "there is no table of the reference worker where the role's own search path leads; \
                             `andon db status` shows what is there";
            Ok(Output::failed(Exit::Failure, complaint))
        }
        Found::Done(mut import) => {
            let corrected = import.read_again(&convert::reading)?;
            let mut text = format!("{} was imported before\n", old_name(import.state()));
            if corrected > 0 {
                text.push_str(&format!(
                    "{} can be read now, and stored\n",
                    counted(corrected, "corrected row")
                ));
            }
            text.push_str(&report(&mut import)?);
            Ok(Output::clean(text))
        }
        Found::Table(mut import) => bring_over(&mut import),
    }
}

/// Brings all rows over and puts the view in place.
fn bring_over(import: &mut Import) -> Result<Output, StoreError> {
    let mut complaints: Vec<String> = import.dependents()?.into_iter().map(|dependent| {
        format!("warning: {dependent} refers to the old table, and stays with it under its new name; point it to the view")
    }).collect();
    let mut done = import.state().rows_read;
    let total = import.rows_about()?.max(done);
    let progress = ProgressDisplay::start("importing", Unit::Things("rows"), done, Some(total));
    for _ in 0..ATTEMPTS_MAX {
        if let Some(upto) = import.settle()? {
            while import.step(upto, &convert::reading)? {
                progress.advance(import.state().rows_read - done);
                done = import.state().rows_read;
            }
        }
        import.index()?;
        match import.take_over(&convert::reading)? {
            TakeOver::Behind => {}
            TakeOver::Busy => std::thread::sleep(ATTEMPT_PAUSE),
            TakeOver::Done => {
                drop(progress);
                complaints.extend(late(import.state()));
                let text = format!("{} is imported\n{}", old_name(import.state()), report(import)?);
                return Ok(Output { complaints, ..Output::clean(text) });
            }
        }
    }
    complaints.push(format!(
        "all rows of {} are brought over, but other programs kept the table busy, so that no view could take its place. Stop the reference \
         worker and long transactions (`SELECT * FROM pg_stat_activity`), then run `andon db import` again",
        old_name(import.state())
    ));
    Ok(Output { text: String::new(), complaints, exit: Exit::Failure })
}

fn old_name(state: &ImportState) -> String {
    format!("{}.machine_telemetry", state.source)
}

/// Says that the reference worker still runs, if rows came in meanwhile.
fn late(state: &ImportState) -> Option<String> {
    (state.late > 0).then(|| {
        format!(
            "warning: {} came in during the import: the reference worker still runs. They were brought over, too. What it inserts from \
             now on is refused: stop it (RUN_MQTT_WORKER=false for the web application)",
            counted(state.late, "row")
        )
    })
}

/// Says what became of the rows.
fn report(import: &mut Import) -> Result<String, StoreError> {
    let listed = import.unreadable(LISTED_MAX)?;
    let state = import.state();
    let kept = format!("{}.{}", state.source, state.kept_as.as_deref().unwrap_or(KEPT_TABLE));
    let mut text = format!("  {}: {} stored", counted(state.rows_read, "row"), state.stored);
    if state.known > 0 {
        text.push_str(&format!(", {} known to Andon already", state.known));
    }
    if state.unreadable > 0 {
        text.push_str(&format!(", {} unreadable", state.unreadable));
    }
    if state.id_offset > 0 {
        text.push_str(&format!(
            "\n  Andon had used some of their ids: each is larger by {}",
            state.id_offset
        ));
    }
    text.push_str(&format!("\n  the old table is {kept} now; drop it when you do not need it any more\n"));
    if state.unreadable > 0 {
        text.push_str(&format!(
            "  unreadable rows, also in table reference_unreadable; correct them in {kept} and run `andon db import` again:\n"
        ));
        for row in &listed {
            text.push_str(&format!("    id {}: {}\n", row.id, crate::terminal::printable(&row.reason)));
        }
        let more = state.unreadable.saturating_sub(listed.len() as u64);
        if more > 0 {
            text.push_str(&format!("    and {more} more\n"));
        }
    }
    Ok(text)
}
