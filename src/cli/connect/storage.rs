//! The steps of the database, its migrations, and the directory of the journal.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::Step;
use crate::app::store_options;
use crate::cli::db::TABLES_AHEAD;
use crate::cli::{counted, failed_to};
use crate::config::Settings;
use crate::store::{self, MigrationStatus};

pub(super) fn check_database(settings: &Settings) -> Step {
    let target = format!("database {}", settings.store.url);
    if let Some(path) = settings.store.url.sqlite_path().filter(|path| !path.exists()) {
        let writable = path.parent().map_or_else(|| Ok(PathBuf::new()), try_to_write);
        let detail = writable.map(|_| "does not exist yet; `andon run` creates it".to_owned());
        return Step::new(&target, "open", detail);
    }
    let looked = store::open(&store_options(settings)).and_then(|mut store| {
        let migrations = store.migration_status()?;
        Ok((store.facts().clone(), migrations))
    });
    let detail = looked.map_err(|error| failed_to(&error)).and_then(|(facts, migrations)| {
        let warnings: Vec<String> = facts.warnings.iter().map(|warning| format!("; {warning}")).collect();
        if let Some(obstacle) = facts.obstacle() {
            return Err(obstacle);
        }
        let state = migration_state(&migrations)?;
        let note = facts.note().map_or_else(String::new, |note| format!("; {note}"));
        Ok(format!("{} {}, {state}{}{note}", facts.backend, facts.version, warnings.concat()))
    });
    Step::new(&target, "connect", detail)
}

fn migration_state(migrations: &MigrationStatus) -> Result<String, String> {
    if !migrations.unknown.is_empty() {
        return Err(TABLES_AHEAD.to_owned());
    }
    Ok(match migrations.pending.len() {
        0 => "all migrations applied".to_owned(),
        pending => {
            format!("{} pending; `andon run` applies them", counted(pending as u64, "migration"))
        }
    })
}

/// Checks that the directory can be written to, and that the disk has room for the growth of the journal.
pub(super) fn check_journal(settings: &Settings) -> Vec<Step> {
    let journal = &settings.journal;
    let target = format!("journal {}", journal.dir.display());
    let written = try_to_write(&journal.dir);
    let there = written.as_ref().ok().cloned();
    let detail = written.map(|directory| {
        if directory == journal.dir {
            "as this user".to_owned()
        } else {
            format!("as this user; does not exist yet, `andon run` creates it below {}", directory.display())
        }
    });
    let mut steps = vec![Step::new(&target, "write", detail)];
    if let Some(directory) = there {
        steps.push(Step::new(&target, "room", room(&directory, &journal.dir, journal.max_bytes)));
    }
    steps
}

fn room(on: &Path, dir: &Path, bytes_max: u64) -> Result<String, String> {
    let disk = rustix::fs::statvfs(on).map_err(|error| format!("cannot find out the free space: {error}"))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let used: u64 = fs::read_dir(dir)
        .map(|entries| {
            entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
        })
        .unwrap_or(0);
    let wanted = bytes_max.saturating_sub(used);
    let detail = format!("{} free, and the journal may still grow by {}", mebibytes(free), mebibytes(wanted));
    if free >= wanted { Ok(detail) } else { Err(format!("{detail}: make room, or lower journal.max_bytes")) }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Creates a file and removes it, in the directory or in the nearest existing one above it; returns which.
fn try_to_write(directory: &Path) -> Result<PathBuf, String> {
    let name = format!(".andon-check-{}", std::process::id());
    let above =
        directory.ancestors().map(|each| if each.as_os_str().is_empty() { Path::new(".") } else { each });
    for directory in above {
        let probe = directory.join(&name);
        match File::create_new(&probe) {
            Ok(_) => {
                let removed = fs::remove_file(&probe);
                return removed
                    .map(|()| directory.to_owned())
                    .map_err(|error| format!("{}: {error}", probe.display()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot write to {}: {error}", directory.display())),
        }
    }
    Err(format!("cannot create {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_may_outgrow_the_disk_is_reported() {
        let home = tempfile::tempdir().expect("a directory");
        assert!(room(home.path(), home.path(), 1).is_ok());
        let detail = room(home.path(), home.path(), u64::MAX).expect_err("no disk is as large");
        assert!(detail.contains("lower journal.max_bytes"), "{detail}");
    }

    #[test]
    fn a_missing_directory_is_tried_above_and_nothing_is_left() {
        let home = tempfile::tempdir().expect("a directory");
        let written = try_to_write(&home.path().join("a/b/c")).expect("it can be made");
        assert_eq!(written, home.path());
        assert_eq!(fs::read_dir(home.path()).expect("readable").count(), 0);
        let file = home.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(try_to_write(&file).is_err(), "a file is no directory");
    }
}
