//! What the real program creates is closed to other users, whatever umask it inherits; what older versions left open is
//! warned about.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::Mode;

use crate::support::andon::{Andon, Site};
use crate::support::database::rows_stored;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher;

const TOPIC: &str = "factory/machine/{machine}/telemetry";

/// Returns the command as a shell with that umask starts it.
fn under(umask: u32, mut command: Command) -> Command {
    let set_umask = move || {
        rustix::process::umask(Mode::from_raw_mode(umask));
        Ok(())
    };
    // SAFETY: `umask` is one system call, which allocates nothing and never fails.
    unsafe { command.pre_exec(set_umask) };
    command
}

fn succeeds(umask: u32, site: &Site, arguments: &[&str]) {
    let output = under(umask, site.command(arguments)).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns path and mode of everything below `directory`, itself included.
fn modes(directory: &Path) -> BTreeMap<String, u32> {
    let mode = |path: &Path| path.symlink_metadata().unwrap().permissions().mode() & 0o7777;
    let mut found = BTreeMap::from([(directory.display().to_string(), mode(directory))]);
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(modes(&path));
        } else {
            found.insert(path.display().to_string(), mode(&path));
        }
    }
    found
}

/// Changes a byte in the middle of the newest segment with records.
fn damage(journal: &Path) {
    let mut segments: Vec<_> = fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    let bytes = fs::read(&segments[0]).unwrap();
    let at = bytes.windows(9).position(|window| window == b"press-000").expect("a record");
    let mut changed = bytes;
    changed[at] ^= 0xff;
    let mut file = fs::OpenOptions::new().write(true).open(&segments[0]).unwrap();
    file.write_all(&changed).unwrap();
}

/// Runs the service and each command that writes files, and returns the modes of all of them.
fn everything_created(umask: u32) -> BTreeMap<String, u32> {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let data = site.path().join("data");
    let out = site.path().join("out");
    fs::create_dir(&out).unwrap();
    let site = site
        .set(&format!("store.url=sqlite://{}", data.join("line/andon.db").display()))
        .set(&format!("journal.dir={}", data.join("line/journal").display()));
    let url = format!("sqlite://{}", data.join("line/andon.db").display());
    let mut andon = Andon::start(under(umask, site.command(&["run"])), site.path().join("run.log"));
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 3, 0..300, 1);
    wait_until("the rows", || rows_stored(&url) == 300);
    succeeds(umask, &site, &["db", "backup", out.join("backup.db").to_str().unwrap()]);
    for format in ["csv", "parquet"] {
        let file = out.join(format!("readings.{format}"));
        succeeds(umask, &site, &["export", "--format", format, "--output", file.to_str().unwrap()]);
    }
    let mut found = modes(&data);
    assert!(andon.stop().success());
    damage(&data.join("line/journal"));
    succeeds(umask, &site, &["journal", "repair"]);
    found.extend(modes(&data));
    found.extend(modes(&out).into_iter().filter(|(path, _)| Path::new(path) != out));
    found
}

/// Proves FAC-1.
#[test]
fn everything_that_is_created_is_closed_to_others_and_the_groups_only_by_the_umask_of_the_unit() {
    for (umask, file, directory) in [(0o022, 0o600, 0o700), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700)] {
        let found = everything_created(umask);
        for name in [
            "lock",
            "journal.meta",
            "clock.json",
            ".seg",
            "andon.db",
            "-wal",
            "-shm",
            "backup.db",
            ".csv",
            ".parquet",
            ".bin",
        ] {
            assert!(found.keys().any(|path| path.ends_with(name)), "{name} in {found:?}");
        }
        for (path, mode) in &found {
            // Backups and exports are a person's, and with the key of the sessions anybody could log in.
            let is_private = path.contains("/out/") || path.ends_with("sessions.json");
            let expected = match (Path::new(path).extension(), is_private) {
                (_, true) => 0o600,
                (None, _) if ["data", "line", "journal"].iter().any(|name| path.ends_with(name)) => directory,
                _ => file,
            };
            assert_eq!(*mode, expected, "{path} has mode {mode:o} under umask {umask:o}");
        }
    }
}

#[test]
fn data_that_an_older_version_left_open_is_warned_about_with_the_command_that_closes_it() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_seeing();
    assert!(andon.stop().success());
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (file, journal) = (site.path().join("andon.db"), site.journal_dir());
    for path in [site.path(), &journal] {
        set(path, 0o755);
    }
    set(&file, 0o644);

    let check = || {
        let output = site.command(&["config", "check"]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let warned = check();
    let closing = [
        format!("read {} (mode 0755); run chmod o-rwx {}", journal.display(), journal.display()),
        format!("read {} (mode 0644); run chmod o-rwx {}", file.display(), file.display()),
    ];
    for line in &closing {
        assert!(warned.contains(line), "no {line:?} in {warned}");
    }
    let mut andon = site.run();
    for line in &closing {
        andon.wait_for_log(line);
    }
    andon.stop();
    for line in check().lines() {
        // Also of what lies beside the file by now.
        if let Some((_, command)) = line.split_once("run chmod") {
            let command = format!("chmod{command}");
            assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
        }
    }
    assert!(!check().contains("every user"), "{}", check());
}

/// Somebody who may write to the directory must not have root, who runs a command there, overwrite any file of the computer.
/// Proves NEW-2.
#[test]
fn nothing_is_written_through_a_symbolic_link_in_the_directory_of_the_journal() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_seeing();
    assert!(andon.stop().success());
    let (journal, victim) = (site.journal_dir(), site.path().join("victim"));
    fs::write(&victim, "untouched").unwrap();
    for name in ["clock.json.tmp", "sessions.json.tmp", "subscriptions.json.tmp", "ahead.tmp", "room.tmp"] {
        let link = journal.join(name);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&victim, &link).unwrap();
    }
    let run = |arguments: &[&str]| site.command(arguments).output().unwrap();
    run(&["db", "prune", "--confirm-clock"]);
    run(&["journal", "repair"]);
    let mut andon = site.run();
    andon.wait_until_seeing();
    assert!(andon.stop().success());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");

    fs::remove_file(journal.join("journal.lock")).unwrap();
    std::os::unix::fs::symlink(&victim, journal.join("journal.lock")).unwrap();
    assert_eq!(run(&["journal", "repair"]).status.code(), Some(1));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
}
