//! `andon man`: the manual pages. Section 1 comes from the command line's own definition, section 5 from the documentation
//! of the keys.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use super::{Cli, Exit, Output};
use crate::config::{Block, documentation};

/// Name of the page about the configuration.
const CONFIGURATION_PAGE: &str = "andon.toml.5";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Write the page of every command, and andon.toml(5), into this directory, instead of printing andon(1)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> Output {
    let written = match &options.dir {
        Some(dir) => write_all(dir).map(|()| String::new()),
        None => commands_page(),
    };
    written.map_or_else(
        |error| Output::failed(Exit::Failure, format!("cannot write the manual: {error}")),
        Output::clean,
    )
}

fn commands_page() -> io::Result<String> {
    let mut page = Vec::new();
    Man::new(Cli::command()).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn write_all(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)?;
    fs::write(dir.join(CONFIGURATION_PAGE), configuration_page())
}

/// Returns andon.toml(5).
fn configuration_page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = Roff(format!(".TH andon.toml 5 \"\" \"andon {version}\" \"Configuration of Andon\"\n"));
    page.heading("NAME");
    page.line("andon.toml - the configuration of andon(1)");
    page.heading("FILES");
    for (path, meaning) in [
        ("/etc/andon/sites/SITE.toml", "The settings of a site: andon --site SITE."),
        ("/etc/andon/local.toml", "Settings of every site on this computer; they override those of a site."),
    ] {
        page.term(path);
        page.line(meaning);
    }
    page.heading("DESCRIPTION");
    for block in documentation() {
        match block {
            Block::Section { name, comment } => {
                page.heading(&format!("[{name}]"));
                page.comment(&comment);
            }
            Block::Key { path, setting, comment } => {
                page.term(&path);
                page.comment(&comment);
                page.line(&format!("Written as: {setting}"));
            }
            Block::Text(comment) => page.comment(&comment),
        }
    }
    page.heading("SEE ALSO");
    page.line("andon(1), andon-config(1)");
    page.0
}

/// Text in the language of manual pages.
struct Roff(String);

impl Roff {
    fn heading(&mut self, text: &str) {
        self.0.push_str(&format!(".SH \"{}\"\n", escaped(text)));
    }

    /// Begins an indented paragraph under a bold term.
    fn term(&mut self, text: &str) {
        self.0.push_str(&format!(".TP\n\\fB{}\\fR\n", escaped(text)));
    }

    fn line(&mut self, text: &str) {
        self.0.push_str(&format!("{}\n", escaped(text)));
    }

    /// Sets lines that are indented as they are, and lets the others flow.
    fn comment(&mut self, lines: &[String]) {
        let mut is_example = false;
        for line in lines {
            if line.starts_with("  ") != is_example {
                is_example = !is_example;
                self.0.push_str(if is_example { ".RS 2\n.nf\n" } else { ".fi\n.RE\n" });
            }
            if line.starts_with("Allowed: ") {
                self.0.push_str(".br\n");
            }
            match line.as_str() {
                "" => self.0.push_str(".P\n"),
                line => self.line(line),
            }
        }
        if is_example {
            self.0.push_str(".fi\n.RE\n");
        }
    }
}

/// Escapes what the language would take for its own.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_the_configuration_too() {
        let dir = tempfile::tempdir().expect("a directory");
        write_all(dir.path()).expect("written");
        for page in
            ["andon.1", "andon-run.1", "andon-config-check.1", "andon-journal-repair.1", CONFIGURATION_PAGE]
        {
            let text =
                fs::read_to_string(dir.path().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
            assert!(text.contains(".SH"), "{page}: {text}");
        }
    }

    #[test]
    fn the_page_of_the_configuration_has_every_key() {
        let page = configuration_page();
        for key in
            ["site.id", "mqtt.host", "mqtt.port", "mqtt.tls.ca_file", "payload.fields", "log.status_interval"]
        {
            let term = format!(".TP\n\\fB{}\\fR\n", escaped(key));
            assert_eq!(page.matches(&term).count(), 1, "{key}");
        }
        assert!(page.contains("Allowed: a whole number from 1 to 65535"));
    }

    #[test]
    fn text_cannot_be_taken_for_a_command() {
        assert_eq!(escaped(".SH x-y \\ \"z\""), "\\&.SH x\\-y \\e \\(dqz\\(dq");
    }
}
