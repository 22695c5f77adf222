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

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The package's description in Cargo.toml.
fn package() -> toml::Table {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"]["deb"].as_table().unwrap().clone()
}

/// Where the package puts each file: source, and path in the system.
fn assets() -> Vec<(String, String)> {
    let package = package();
    let asset = |asset: &toml::Value| {
        let [source, target] = [0, 1].map(|at| asset[at].as_str().unwrap().to_owned());
        let name = if target.ends_with('/') { source.rsplit('/').next().unwrap() } else { "" };
        let target = format!("/{target}{name}");
        (source, target)
    };
    package["assets"].as_array().unwrap().iter().map(asset).collect()
}

#[test]
fn everything_that_the_package_takes_from_the_repository_is_there() {
    for (source, _) in assets().iter().filter(|(source, _)| !source.starts_with("target/")) {
        assert!(repository().join(source).is_file(), "{source}");
    }
}

/// Who admits the program into a plant wants to know of what it is made, and whom to tell about a weakness.
#[test]
fn the_package_says_of_what_the_program_is_made() {
    let targets: Vec<String> = assets().into_iter().map(|(_, target)| target).collect();
    for name in ["andon.cdx.json", "THIRD-PARTY-LICENCES.gz", "SECURITY.md"] {
        let target = format!("/usr/share/doc/andon/{name}");
        assert!(targets.contains(&target), "{target}");
    }
    let script = read("scripts/package.sh");
    assert!(script.contains("cargo auditable build"), "the program has the list, too");
    let copyright = read("deploy/debian/copyright");
    for named in ["andon.cdx.json", "THIRD-PARTY-LICENCES.gz"] {
        assert!(copyright.contains(&format!("/usr/share/doc/andon/{named}")), "{named}");
    }
}

/// dpkg asks before it replaces a conffile that was changed, and replaces any other file.
#[test]
fn every_file_in_etc_is_a_conffile() {
    let package = package();
    let mut conffiles: Vec<_> =
        package["conf-files"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    let assets = assets();
    let mut in_etc: Vec<_> =
        assets.iter().map(|(_, target)| target.as_str()).filter(|path| path.starts_with("/etc/")).collect();
    conffiles.sort_unstable();
    in_etc.sort_unstable();
    assert_eq!(conffiles, in_etc);
}

#[test]
fn the_newest_entry_of_the_packages_changelog_is_this_version() {
    let entry = format!("andon ({}-", env!("CARGO_PKG_VERSION"));
    assert!(read("deploy/debian/changelog").starts_with(&entry), "add an entry for {entry}…)");
    assert!(read("deploy/compose.yaml").contains(&format!("image: andon:{}\n", env!("CARGO_PKG_VERSION"))));
}

/// The example as it is, and with every setting that it suggests.
#[test]
fn the_example_of_a_site_is_without_mistakes() {
    let example = read("deploy/debian/example.toml");
    let is_suggestion =
        |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
    assert!(example.lines().filter(is_suggestion).count() >= 8, "suggestions are found");
    let uncomment = |line: &str| match line {
        // These two name files that the administrator writes.
        line if line.contains("_file = ") => String::new(),
        line if is_suggestion(&line) => line[1..].to_owned(),
        line => line.to_owned(),
    };
    let suggested: Vec<String> = example.lines().map(uncomment).collect();
    for text in [example, suggested.join("\n")] {
        let config = tempfile::tempdir().unwrap();
        fs::create_dir(config.path().join("sites")).unwrap();
        fs::write(config.path().join("sites/hall-3.toml"), &text).unwrap();
        let sources = andon::config::Sources {
            config_dir: Some(config.path().to_owned()),
            site: Some("hall-3".to_owned()),
            ..Default::default()
        };
        let loaded = andon::config::load(&sources).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }
}

/// Variables in the files that people copy set keys that exist.
#[test]
fn every_variable_that_is_shown_sets_a_key() {
    let known: Vec<String> = andon::config::documentation()
        .into_iter()
        .filter_map(|block| match block {
            andon::config::Block::Key { path, .. } => Some(path),
            _ => None,
        })
        .collect();
    let text = ["deploy/compose.yaml", "deploy/Dockerfile", "deploy/debian/default"].map(read).concat();
    let variables: Vec<&str> = text.split("ANDON__").skip(1).collect();
    assert!(variables.len() >= 8, "variables are found");
    for rest in variables {
        let name: String =
            rest.chars().take_while(|next| next.is_ascii_uppercase() || *next == '_').collect();
        let key = name.to_lowercase().replace("__", ".");
        assert!(known.contains(&key), "{name} sets no key");
    }
}

/// `make audit` cannot know them: the bundled C is not in Cargo.lock.
#[test]
fn the_security_page_names_the_c_code_that_is_linked() {
    let page = read("SECURITY.md");
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let crate_version = |name: &str| {
        let packages = lock["package"].as_array().unwrap();
        let found = packages.iter().find(|package| package["name"].as_str() == Some(name)).unwrap();
        found["version"].as_str().unwrap().to_owned()
    };
    let sqlite = libsqlite3_sys::SQLITE_VERSION.to_str().unwrap();
    for (code, version, bundled_by) in
        [("SQLite", sqlite, "libsqlite3-sys"), ("Eclipse Paho C", &paho_version(), "paho-mqtt-sys")]
    {
        let row = format!("| {code} | {version} | bundled by `{bundled_by}` {} |", crate_version(bundled_by));
        assert!(page.contains(&row), "SECURITY.md: {row}");
    }
}

/// Asks the linked library.
fn paho_version() -> String {
    use std::ffi::CStr;
    // SAFETY: it returns a static array of C strings that ends with a null name.
    unsafe {
        let mut entry = paho_mqtt_sys::MQTTAsync_getVersionInfo();
        while !(*entry).name.is_null() {
            if CStr::from_ptr((*entry).name).to_str() == Ok("Version") {
                return CStr::from_ptr((*entry).value).to_str().unwrap().to_owned();
            }
            entry = entry.add(1);
        }
    }
    panic!("the library names no version");
}

#[test]
fn what_the_containers_mount_is_there() {
    let compose = read("deploy/compose.yaml");
    let mounts: Vec<&str> = compose
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ./"))
        .map(|mount| mount.split(':').next().unwrap())
        .collect();
    assert!(mounts.len() >= 5, "{mounts:?}");
    for mount in mounts {
        assert!(repository().join("deploy").join(mount).exists(), "{mount}");
    }
}
