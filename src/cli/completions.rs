//! `andon completions`: prints the script with which a shell completes commands, options and values.
//!
//! The script asks `andon` itself at each completion, so it never is out of date, and `--site` offers the sites that are there.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use super::{Cli, Exit, Output, environment};
use crate::config::{Sources, site_names};

/// The script sets this variable to the shell's name. Then `andon` answers it and does nothing else.
const VARIABLE: &str = "ANDON_COMPLETE";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The shell that will read the script
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(options: &Options) -> Output {
    let shell: &dyn EnvCompleter = match options.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    match shell.write_registration(VARIABLE, "andon", "andon", "andon", &mut script) {
        Ok(()) => Output::clean(String::from_utf8_lossy(&script).into_owned()),
        Err(error) => Output::failed(Exit::Failure, format!("cannot write the script: {error}")),
    }
}

/// Answers a shell that asks for completions; `None` if none asks.
pub(super) fn answer_shell() -> Option<Exit> {
    let directory = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), directory.as_deref());
    match asked {
        Ok(false) => None,
        Ok(true) => Some(Exit::Clean),
        // The shell shows nothing of this; it completes nothing.
        Err(_) => Some(Exit::Failure),
    }
}

/// Offers the sites of the configuration directory that the command line names so far, or else of the usual one.
pub(super) fn sites(typed: &OsStr) -> Vec<CompletionCandidate> {
    let given = config_dir(std::env::args_os());
    let variable = environment().remove("ANDON_CONFIG_DIR").filter(|text| !text.is_empty());
    let sources = Sources { config_dir: given.or_else(|| variable.map(PathBuf::from)), ..Sources::default() };
    let typed = typed.to_string_lossy();
    let names = site_names(&sources).into_iter().filter(|name| name.starts_with(&*typed));
    names.map(CompletionCandidate::new).collect()
}

fn config_dir(arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut arguments = arguments.skip_while(|argument| argument != "--config-dir");
    arguments.nth(1).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_has_a_script_that_asks_andon() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let Output { text, exit, .. } = run(&Options { shell });
            assert_eq!(exit, Exit::Clean);
            assert!(text.contains(VARIABLE), "{shell:?}: {text}");
        }
    }

    #[test]
    fn sites_come_from_the_directory_that_was_typed() {
        let typed = |words: &[&str]| config_dir(words.iter().map(OsString::from));
        assert_eq!(typed(&["andon", "--", "andon", "--config-dir", "etc", "--site", ""]), Some("etc".into()));
        assert_eq!(typed(&["andon", "--", "andon", "--site", ""]), None);
        assert_eq!(typed(&["andon", "--", "andon", "--config-dir"]), None);
    }
}
