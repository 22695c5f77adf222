//! The files in `deploy`: what a service manager, a package or a container is given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn unit() -> String {
    fs::read_to_string(repository().join("deploy/systemd/andon@.service")).unwrap()
}

/// Returns the values of a directive, in order.
fn values<'a>(unit: &'a str, directive: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(name, _)| *name == directive).map(|(_, value)| value).collect()
}

/// Returns the program's output if it is installed; says why the test is skipped if not.
fn run_if_installed(program: &str, arguments: &[&str], hint: &str) -> Option<(bool, String)> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8(text).unwrap()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no {program} ({hint})");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// An instance of the unit, which systemd-analyze can look at.
fn instance() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("andon@site.service");
    fs::write(&path, unit()).unwrap();
    (directory, path)
}

#[test]
fn the_unit_is_sandboxed_below_an_exposure_of_2_5() {
    let (_directory, path) = instance();
    let arguments = ["security", "--offline=true", "--no-pager", "--threshold=25", path.to_str().unwrap()];
    let hint = "scripts/setup.sh test installs it: Debian's package systemd";
    let Some((is_below, report)) = run_if_installed("systemd-analyze", &arguments, hint) else { return };
    assert!(report.contains("Overall exposure level"), "{report}");
    assert!(is_below, "{report}");
}

#[test]
fn the_clock_can_be_asked_and_not_set_inside_the_sandbox() {
    let unit = unit();
    assert_eq!(values(&unit, "ProtectClock"), ["no"], "it would forbid clock_adjtime");
    assert_eq!(values(&unit, "CapabilityBoundingSet"), [""], "no CAP_SYS_TIME");
    assert_eq!(values(&unit, "AmbientCapabilities"), [""]);
    let filter = values(&unit, "SystemCallFilter");
    assert_eq!(filter.first(), Some(&"@system-service"));
    assert_eq!(filter.last(), Some(&"adjtimex clock_adjtime"), "after the group that takes them away");
    // The journal reads the boot id there.
    assert_eq!(values(&unit, "ProcSubset"), Vec::<&str>::new());
}

#[test]
fn the_unit_restarts_what_a_restart_can_mend() {
    let unit = unit();
    assert_eq!(values(&unit, "Type"), ["notify"]);
    assert_eq!(values(&unit, "Restart"), ["on-failure"]);
    assert_eq!(values(&unit, "RestartPreventExitStatus"), ["2 3"]);
    assert_eq!(values(&unit, "UMask"), ["0077"]);
    assert_eq!(values(&unit, "ExecStartPre"), Vec::<&str>::new());
    for limited in ["StartLimitBurst", "StartLimitIntervalSec", "MemoryMax", "StateDirectory"] {
        assert_eq!(values(&unit, limited).len(), 1, "{limited}");
    }
    let seconds = |directive: &str| values(&unit, directive)[0].parse::<u64>().unwrap();
    assert!(seconds("TimeoutStopSec") > 10, "a stop takes up to 10 s");
    assert!(seconds("WatchdogSec") > 2 * 10, "well above the default of supervisor.hang_after");
}

/// Every secret of the configuration has a credential, and the unit passes it on if it is there.
#[test]
fn the_unit_passes_every_secret_on() {
    let defaults = fs::read_to_string(repository().join("config/default.toml")).unwrap();
    let text = defaults.replace("\n# ", " ");
    let mut secrets: Vec<&str> = text
        .match_indices("systemd credential: ")
        .map(|(at, found)| text[at + found.len()..].split('.').next().unwrap())
        .collect();
    let unit = unit();
    let mut loaded = Vec::new();
    for credential in values(&unit, "LoadCredential") {
        let (id, source) = credential.split_once(':').unwrap();
        assert_eq!(source, format!("andon.%i.{id}"), "a name, not a path: it may be missing");
        loaded.push(id);
    }
    secrets.sort_unstable();
    loaded.sort_unstable();
    assert!(secrets.len() >= 5, "{secrets:?}");
    assert_eq!(loaded, secrets);
}
