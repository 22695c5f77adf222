//! `andon config check` and `andon config show`. A configuration with mistakes does not get here: loading has reported
//! them, and the process ends with exit code 2.

use clap::Subcommand;

use super::{Loaded, Output, Sources, connect, run};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Report every mistake in the configuration; exit code 2 if there is one
    Check {
        /// Also test the connection to the brokers and the database, and the directory of the journal, step by step; exit
        /// code 1 if a step fails
        #[arg(long)]
        connect: bool,
        /// With --connect: print the steps as JSON
        #[arg(long, requires = "connect")]
        json: bool,
    },
    /// Print the settings in effect, without secrets
    Show {
        /// Show where each value comes from
        #[arg(long)]
        origin: bool,
    },
}

pub(super) fn run(command: &Command, sources: &Sources, loaded: &Loaded) -> Output {
    let mut output = match command {
        Command::Check { connect: false, .. } => Output::clean(check(sources, loaded)),
        Command::Check { connect: true, json } => {
            connect::run(&loaded.settings, check(sources, loaded), *json)
        }
        Command::Show { origin } => Output::clean(loaded.show(*origin)),
    };
    let warnings = loaded.warnings.iter().map(|warning| format!("warning: {warning}"));
    output.complaints.splice(0..0, warnings);
    output
}

fn check(sources: &Sources, loaded: &Loaded) -> String {
    let named = if sources.site.is_some() { "" } else { " (no --site given)" };
    let mut lines =
        vec!["configuration is valid".to_owned(), format!("site: {}{named}", loaded.settings.site.id)];
    lines.push("files:".to_owned());
    lines.push("  built-in defaults".to_owned());
    lines.extend(loaded.files.iter().map(|file| format!("  {}", file.display())));
    if loaded.files.is_empty() {
        lines.push(format!("  none in {}", run::directories(loaded)));
    }
    if !loaded.worker_enabled {
        lines.push("RUN_MQTT_WORKER is false: `andon run` will end at once".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}
