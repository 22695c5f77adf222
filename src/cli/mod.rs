//! The command line: one file for each command. A command prints its result to standard output and each error as one
//! line to standard error, and ends with one of the codes of [`Exit`].

mod arguments;
mod audit;
mod backup;
mod completions;
mod config;
mod connect;
mod copy;
mod db;
mod export;
mod health;
mod import;
mod journal;
mod machines;
mod man;
mod prune;
mod rejected;
mod run;
mod service;
mod simulate;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use crate::app;
use crate::config::{Loaded, Sources, load};
use crate::file_access;
use crate::logging::causes;
use crate::shutdown::Exit;
use crate::terminal;

/// Plant-floor telemetry: from an MQTT broker into SQL, with nothing lost, nothing twice, nothing silent.
#[derive(Debug, Parser)]
#[command(name = "andon", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    configuration: Configuration,
    #[command(subcommand)]
    command: Command,
}

/// The heading of the options that every command has.
const GLOBAL: &str = "Configuration";

/// Options of every command: which configuration to load.
#[derive(clap::Args)]
struct Configuration {
    /// The site; its settings are in sites/SITE.toml of the configuration directory [env: ANDON_SITE]
    #[arg(long, value_name = "SITE", global = true, help_heading = GLOBAL, add = ArgValueCompleter::new(completions::sites))]
    site: Option<String>,
    /// The configuration directory [default: config, or /etc/andon if there is no config] [env: ANDON_CONFIG_DIR]
    #[arg(long, value_name = "DIR", global = true, help_heading = GLOBAL, value_hint = ValueHint::DirPath)]
    config_dir: Option<PathBuf>,
    /// Set a key, such as mqtt.host=broker; overrides files and environment; repeatable
    #[arg(long, value_name = "KEY=VALUE", global = true, help_heading = GLOBAL)]
    set: Vec<String>,
}

impl std::fmt::Debug for Configuration {
    /// Leaves out `--set`, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Configuration")
            .field("site", &self.site)
            .field("config_dir", &self.config_dir)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service until SIGTERM or SIGINT
    Run(run::Options),
    /// Check or show the configuration
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Create or update the tables, show their state, back them up, copy them, or delete old readings
    Db {
        #[command(subcommand)]
        command: db::Command,
    },
    /// Inspect, verify, export or repair the journal
    Journal {
        #[command(subcommand)]
        command: journal::Command,
    },
    /// Write readings as CSV or Parquet; works while the service runs
    Export(export::Options),
    /// List, show or retry rejected messages
    Rejected {
        #[command(subcommand)]
        command: rejected::Command,
    },
    /// Show which machines are online, or how available they were; works without the service, too
    Machines(machines::Options),
    /// Ask the running service whether it is ready; exit code 0 if it is, 1 if not
    Health(health::Options),
    /// Publish messages like a fleet of machines, faults included
    Simulate(simulate::Options),
    /// Print the script with which a shell completes commands, options and sites
    Completions(completions::Options),
    /// Print the manual
    Man(man::Options),
}

/// Parses the command line of this process, runs the command, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(exit) = completions::answer_shell() {
        return exit.into();
    }
    match Cli::try_parse_from(set_first(std::env::args_os())) {
        Ok(cli) => cli.execute().into(),
        Err(error) => {
            // --help and --version are "errors", too, with code 0. A text that cannot be printed has no reader.
            error.print().ok();
            if error.use_stderr() { Exit::Usage.into() } else { Exit::Clean.into() }
        }
    }
}

/// Moves every `--set` right behind the program's name. clap keeps the values of a global option from one place only:
/// otherwise those behind the command would silently replace those before it.
fn set_first(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments;
    let mut first: Vec<OsString> = arguments.next().into_iter().collect();
    let mut others = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            others.push(argument);
            others.extend(arguments);
            break;
        }
        if argument == "--set" {
            first.push(argument);
            first.extend(arguments.next());
        } else if argument.as_encoded_bytes().starts_with(b"--set=") {
            first.push(argument);
        } else {
            others.push(argument);
        }
    }
    first.append(&mut others);
    first
}

impl Cli {
    fn execute(self) -> Exit {
        // These two need no configuration, and must work beside a broken one.
        match &self.command {
            Command::Completions(options) => return completions::run(options).print(),
            Command::Man(options) => return man::run(options).print(),
            _ => {}
        }
        // What those print is for everybody; all that follows is not.
        file_access::close_to_others();
        if matches!(self.command, Command::Run(_)) {
            app::hold_hangup();
        }
        let sources = self.configuration.sources(environment());
        let loaded = match load(&sources) {
            Ok(loaded) => loaded,
            Err(error) => {
                complain(&error.to_string());
                return Exit::Usage;
            }
        };
        let output = match self.command {
            Command::Run(options) => return run::run(&options, sources, loaded),
            Command::Machines(options) => return machines::run(&options, &loaded.settings),
            Command::Simulate(options) => return simulate::run(options, &loaded.settings),
            Command::Health(options) => health::run(&options, &loaded.settings),
            Command::Config { command } => config::run(&command, &sources, &loaded),
            Command::Db { command } => db::run(&command, &loaded.settings),
            Command::Journal { command } => journal::run(&command, &loaded.settings),
            Command::Export(options) => export::run(&options, &loaded.settings),
            Command::Rejected { command } => rejected::run(&command, &loaded.settings),
            Command::Completions(options) => completions::run(&options),
            Command::Man(options) => man::run(&options),
        };
        output.print()
    }
}

impl Configuration {
    /// Returns the sources that the command line names, or else the environment.
    fn sources(self, environment: BTreeMap<String, String>) -> Sources {
        let variable = |name: &str| environment.get(name).filter(|text| !text.is_empty()).cloned();
        Sources {
            site: self.site.or_else(|| variable("ANDON_SITE")),
            config_dir: self.config_dir.or_else(|| variable("ANDON_CONFIG_DIR").map(PathBuf::from)),
            set: self.set,
            environment,
            ..Sources::default()
        }
    }
}

/// Returns the environment of this process, with U+FFFD in place of what is not Unicode.
fn environment() -> BTreeMap<String, String> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect()
}

/// What a command prints at its end.
#[derive(Debug, PartialEq, Eq)]
struct Output {
    /// For standard output; ends with a line break if it is not empty.
    text: String,
    /// For standard error, one line each.
    complaints: Vec<String>,
    exit: Exit,
}

impl Output {
    fn clean(text: String) -> Self {
        Self { text, complaints: Vec::new(), exit: Exit::Clean }
    }

    fn failed(exit: Exit, complaint: impl Into<String>) -> Self {
        Self { text: String::new(), complaints: vec![complaint.into()], exit }
    }

    fn print(self) -> Exit {
        let printed = io::stdout().lock().write_all(self.text.as_bytes());
        for complaint in &self.complaints {
            complain(complaint);
        }
        match printed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                complain(&format!("cannot write to standard output: {error}"));
                Exit::Failure
            }
            _ => self.exit,
        }
    }
}

/// Writes lines to standard error. A closed standard error is no reason to fail.
fn complain(lines: &str) {
    let mut stderr = io::stderr().lock();
    for line in lines.lines() {
        writeln!(stderr, "andon: {}", terminal::printable(line)).ok();
    }
}

/// Says which operation failed, and why.
fn failed_to(error: &dyn std::error::Error) -> String {
    format!("failed to {}", causes(error))
}

/// Counts a noun: `1 record`, `2 records`.
fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Formats rows under their headings, with aligned columns; a heading that begins with `>` aligns its column to the right.
/// Escapes the cells, which may come from a device: see [`terminal`].
fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let right: Vec<bool> = headings.iter().map(|heading| heading.starts_with('>')).collect();
    let headings = headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect();
    let plain = |cells: &Vec<String>| -> Vec<String> {
        cells.iter().map(|cell| terminal::printable(cell).into_owned()).collect()
    };
    let lines: Vec<Vec<String>> = std::iter::once(&headings).chain(rows).map(plain).collect();
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for cells in &lines {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(column, cell)| match (right[column], widths[column]) {
                (true, width) => format!("{cell:>width$}"),
                (false, width) => format!("{cell:<width$}"),
            })
            .collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        let arguments = std::iter::once(&"andon").chain(arguments);
        Cli::try_parse_from(set_first(arguments.map(OsString::from)))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        for arguments in [
            ["--site", "demo", "--set", "mqtt.port=1", "--set", "mqtt.qos=2", "config", "check"],
            ["config", "check", "--set", "mqtt.port=1", "--set", "mqtt.qos=2", "--site", "demo"],
            ["--set", "mqtt.port=1", "config", "--site", "demo", "check", "--set", "mqtt.qos=2"],
        ] {
            let sources = parse(&arguments).expect("valid").configuration.sources(BTreeMap::new());
            assert_eq!(sources.site.as_deref(), Some("demo"));
            assert_eq!(sources.set, ["mqtt.port=1", "mqtt.qos=2"]);
        }
    }

    #[test]
    fn site_and_directory_come_from_the_environment_unless_given() {
        let environment = || {
            [("ANDON_SITE", "north"), ("ANDON_CONFIG_DIR", "etc")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        };
        let sources = parse(&["run"]).expect("valid").configuration.sources(environment());
        assert_eq!(
            (sources.site.as_deref(), sources.config_dir),
            (Some("north"), Some(PathBuf::from("etc")))
        );
        let given = parse(&["run", "--site", "south"]).expect("valid");
        assert_eq!(given.configuration.sources(environment()).site.as_deref(), Some("south"));
    }

    #[test]
    fn the_values_of_set_are_not_in_debug_output() {
        let cli = parse(&["run", "--set", "mqtt.password=hunter2"]).expect("valid");
        assert!(!format!("{cli:?}").contains("hunter2"));
    }

    #[test]
    fn a_cell_cannot_reverse_the_line() {
        let rows = [vec!["a\u{202e}b".to_owned(), "\u{1b}[2J".to_owned()]];
        assert_eq!(table(&["name", "x"], &rows), "name        x\na\\u{202e}b  \\u{1b}[2J\n");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "7".to_owned()], vec!["long".to_owned(), "1234567".to_owned()]];
        assert_eq!(table(&["name", ">count"], &rows), "name    count\na           7\nlong  1234567\n");
    }
}
