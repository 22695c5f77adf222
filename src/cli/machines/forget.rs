//! `andon machines forget`: removes machines that will not come back, with or without the service.
//!
//! Works through the database alone. If the service runs, waits until it has dropped them, too.

use std::time::{Duration, Instant};

use crate::app::store_options;
use crate::cli::{Exit, Output, audit, counted, db, failed_to};
use crate::clock::wall_now;
use crate::config::Settings;
use crate::domain::MachineId;
use crate::journal;
use crate::store::{self, Store, StoreError};

/// How long to wait for the running service. It looks every two seconds, and commits at once.
const DROPPED_WITHIN: Duration = Duration::from_secs(20);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Options of `andon machines forget`.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The machines
    #[arg(value_name = "ID", required = true)]
    machines: Vec<String>,
}

pub(super) fn run(options: &Options, settings: &Settings) -> Output {
    let (wanted, mut complaints) = wanted(&options.machines, settings);
    if !complaints.is_empty() {
        return Output { text: String::new(), complaints, exit: Exit::Usage };
    }
    if let Some(complaint) = db::missing_file(settings) {
        return Output::failed(Exit::Failure, complaint);
    }
    let outcome = store::open(&store_options(settings)).and_then(|mut store| {
        if !store.migration_status()?.pending.is_empty() {
            return Ok(None);
        }
        let unknown = store.request_forget(&wanted, wall_now())?;
        let asked: Vec<&MachineId> = wanted.iter().filter(|id| !unknown.contains(id)).collect();
        let ending = if asked.is_empty() { String::new() } else { ending(store.as_mut(), &asked, settings)? };
        let names = asked.iter().map(|id| format!("forgotten: {id}\n")).collect::<String>();
        Ok(Some((names + &ending, unknown)))
    });
    record(settings, &wanted, &outcome);
    match outcome {
        Ok(Some((text, unknown))) => {
            complaints.extend(unknown.iter().map(|id| format!("there is no machine {:?}", id.as_str())));
            let exit = if complaints.is_empty() { Exit::Clean } else { Exit::Failure };
            Output { text, complaints, exit }
        }
        Ok(None) => Output::failed(Exit::Failure, db::TABLES_BEHIND),
        Err(error) => Output::failed(Exit::Failure, failed_to(&error)),
    }
}

/// What became of the request: what there is to say, and the machines that the database does not have; `None`: its tables
/// are not up to date.
type Outcome = Result<Option<(String, Vec<MachineId>)>, StoreError>;

/// Records an event for each machine.
fn record(settings: &Settings, wanted: &[MachineId], outcome: &Outcome) {
    let ended = |id: &MachineId| match outcome {
        Ok(Some((_, unknown))) if unknown.contains(id) => {
            ("failed", Some("there is no such machine".to_owned()))
        }
        Ok(Some(_)) => ("done", None),
        Ok(None) => ("failed", Some(db::TABLES_BEHIND.to_owned())),
        Err(error) => ("failed", Some(failed_to(error))),
    };
    let event = |id: &MachineId| {
        let (outcome, detail) = ended(id);
        audit::event("machines forget", Some(id.to_string()), outcome, detail)
    };
    audit::record(settings, wanted.iter().map(event).collect());
}

/// Returns the machines, or why one of them cannot be forgotten.
fn wanted(names: &[String], settings: &Settings) -> (Vec<MachineId>, Vec<String>) {
    let (mut wanted, mut complaints) = (Vec::new(), Vec::new());
    for name in names {
        match MachineId::parse(name) {
            Ok(id) if settings.liveness.machines.get(&id).is_some_and(|rule| rule.expected) => {
                complaints.push(format!(
                    "machine {:?} is expected: take it out of liveness.machines, reload Andon, then forget it",
                    id.as_str()
                ));
            }
            Ok(id) => wanted.push(id),
            Err(error) => complaints.push(format!("{name:?} is no machine id: {error}")),
        }
    }
    (wanted, complaints)
}

/// Says what is left to do, and by whom.
fn ending(store: &mut dyn Store, machines: &[&MachineId], settings: &Settings) -> Result<String, StoreError> {
    if journal::holder(&settings.journal.dir).is_none() {
        return Ok(
            "the service does not run: it clears their statuses at the broker when it starts\n".to_owned()
        );
    }
    let asked = Instant::now();
    loop {
        let requests = store.forget_requests()?;
        let open = requests.iter().filter(|each| !each.removed && machines.contains(&&each.machine_id));
        match open.count() as u64 {
            0 => return Ok("the running service has dropped them\n".to_owned()),
            count if asked.elapsed() >= DROPPED_WITHIN => {
                return Ok(format!(
                    "the running service has not dropped {} yet; it will when it reaches this database and the broker\n",
                    counted(count, "machine")
                ));
            }
            _ => std::thread::sleep(LOOK_EVERY),
        }
    }
}
