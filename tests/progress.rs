//! Long commands show on a terminal how far they are, and leave a pipe clean.

use std::process::{Command, Stdio};

use crate::support::andon::Site;
use crate::support::database::rows_stored;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher;

const TOPIC: &str = "factory/machine/{machine}/telemetry";

/// Runs `command` with a terminal of its own, made by `script`, and returns what that terminal was sent.
fn on_a_terminal(command: &Command) -> String {
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''"));
    let words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"])
        .stdin(Stdio::null())
        .env("TERM", "xterm")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_long_command_shows_a_bar_on_a_terminal_and_nothing_but_its_result_in_a_pipe() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 3, 0..200, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 200);
    andon.stop();

    let shown = on_a_terminal(&site.command(&["journal", "verify"]));
    assert!(shown.contains("reading the journal") && shown.contains("left"), "{shown:?}");
    assert!(shown.trim_end().ends_with("200 records in 1 segment"), "the bar is gone: {shown:?}");

    let output = site.command(&["journal", "verify"]).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(text[0].ends_with("200 records in 1 segment\n") && text[1].is_empty(), "{text:?}");
}
