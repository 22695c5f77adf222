//! What logging writes, drops and survives.

use std::io;
use std::sync::{Arc, Mutex};

use slog::{crit, debug, error, info, trace, warn};

use super::*;

/// What a drain wrote.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn lines(&self) -> Vec<String> {
        let written = self.0.lock().expect("no panic while writing").clone();
        String::from_utf8(written).expect("UTF-8").lines().map(str::to_owned).collect()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while writing").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn levels(text: &str) -> LogLevels {
    LogLevels::parse(text).expect("valid levels")
}

/// What is written as JSON while `log` logs.
fn written(text: &str, log: impl FnOnce(&Logger)) -> Vec<serde_json::Value> {
    let sink = Sink::default();
    let (logger, guard) = start(json_drain(sink.clone()), &levels(text));
    log(&logger);
    drop(guard);
    sink.lines().iter().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

fn messages(lines: &[serde_json::Value]) -> Vec<&str> {
    lines.iter().map(|line| line["msg"].as_str().expect("a message")).collect()
}

/// Proves LOG-2.
#[test]
fn json_is_one_object_a_line_with_time_level_component_message_and_values() {
    let lines = written("info", |logger| {
        let logger = logger.new(o!(keys::COMPONENT => "writer"));
        warn!(logger, "database is \"away\"\nfor now"; keys::ATTEMPT => 3);
    });
    let [line] = lines.as_slice() else { panic!("one line, not {lines:?}") };
    let keys: Vec<&String> = line.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["ts", "level", "msg", "component", "attempt"]);
    assert_eq!(line["level"], "warn");
    assert_eq!(line["component"], "writer");
    assert_eq!(line["msg"], "database is \"away\"\nfor now");
    assert_eq!(line["attempt"], 3);
    let ts = line["ts"].as_str().expect("a time");
    assert!(chrono::DateTime::parse_from_rfc3339(ts).is_ok(), "{ts}");
    assert_eq!(ts.len(), "2026-01-02T03:04:05.678901Z".len(), "{ts} has microseconds");
}

#[test]
fn text_is_one_plain_line_with_level_message_and_values_off_a_terminal() {
    let sink = Sink::default();
    let decorator = slog_term::PlainDecorator::new(sink.clone());
    let (logger, guard) = start(text_drain(decorator), &levels("info"));
    info!(logger.new(o!(keys::COMPONENT => "mqtt")), "connected"; keys::BROKER => "127.0.0.1:1883");
    drop(guard);
    let lines = sink.lines();
    let [line] = lines.as_slice() else { panic!("one line, not {lines:?}") };
    assert!(line.ends_with("INFO connected, component: mqtt, broker: 127.0.0.1:1883"), "{line}");
}

#[test]
fn no_value_passes_for_a_field_or_a_line_and_levels_are_whole_words() {
    let sink = Sink::default();
    let decorator = slog_term::PlainDecorator::new(sink.clone());
    let (logger, guard) = start(text_drain(decorator), &levels("trace"));
    let id = "press-1, status: offline\n2026-01-02T03:04:05Z ERROR forged\u{202e}";
    info!(logger, "machine changed its status"; keys::MACHINE_ID => id, keys::STATUS => "online", "none" => None::<u8>);
    crit!(logger, "a");
    error!(logger, "a");
    warn!(logger, "b\r\nc");
    debug!(logger, "d"; "count" => 7, "path" => "/var/lib/x");
    trace!(logger, "e"; keys::REASON => "k=v");
    drop(guard);
    let rest: Vec<String> =
        sink.lines().iter().map(|line| line.split_once(' ').expect("a time").1.to_owned()).collect();
    let quoted = r#""press-1, status: offline\n2026-01-02T03:04:05Z ERROR forged\u{202e}""#;
    let expected = [
        &format!("INFO machine changed its status, machine_id: {quoted}, status: online, none: \"\""),
        "ERROR a",
        "ERROR a",
        r"WARN b\r\nc",
        "DEBUG d, count: 7, path: /var/lib/x",
        r#"TRACE e, reason: "k=v""#,
    ];
    assert_eq!(rest, expected);
}

#[test]
fn json_shows_no_invisible_character_and_means_the_same() {
    let sink = Sink::default();
    let (logger, guard) = start(json_drain(sink.clone()), &levels("info"));
    let id = "press\u{202e}7\u{e0001} ä\n";
    info!(logger, "m"; keys::MACHINE_ID => id);
    drop(guard);
    let [line] = &sink.lines()[..] else { panic!("one line") };
    assert!(line.chars().all(terminal::is_plain), "{line}");
    let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(value["machine_id"], id);
}

#[test]
fn an_error_is_written_with_its_causes_on_one_line() {
    #[derive(Debug, thiserror::Error)]
    #[error("write segment 7")]
    struct Outer(#[source] io::Error);
    let error = Outer(io::Error::other("disk\nfailed"));
    assert_eq!(causes(&error), "write segment 7: disk failed");
}

#[test]
fn below_the_level_nothing_is_written() {
    let lines = written("warn", |logger| {
        error!(logger, "error");
        warn!(logger, "warn");
        info!(logger, "info");
        debug!(logger, "debug");
    });
    assert_eq!(messages(&lines), ["error", "warn"]);
}

#[test]
fn a_component_has_its_own_level() {
    let lines = written("info,mqtt=trace,writer=error", |logger| {
        let mqtt = logger.new(o!(keys::COMPONENT => "mqtt"));
        let inner = mqtt.new(o!(keys::COMPONENT => "writer"));
        trace!(mqtt, "mqtt trace");
        warn!(inner, "writer warn");
        error!(inner, "writer error");
        debug!(logger, "root debug");
        info!(logger, "root info");
        info!(logger, "its own component"; keys::COMPONENT => "writer");
    });
    assert_eq!(messages(&lines), ["mqtt trace", "writer error", "root info"]);
}

#[test]
fn whether_a_level_is_enabled_is_known_without_logging() {
    let (logger, _guard) = start(json_drain(io::sink()), &levels("warn,mqtt=debug"));
    assert!(logger.is_debug_enabled());
    assert!(!logger.is_trace_enabled());
}

/// Blocks in the first write until the test lets it go on.
struct Stuck(mpsc::Receiver<()>, Sink);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An error means that the test has let go for good.
        self.0.recv().ok();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Proves LOG-1.
#[test]
fn a_full_channel_never_blocks_and_says_how_much_was_dropped() {
    let (release, stuck) = mpsc::channel();
    let sink = Sink::default();
    let (logger, guard) = start(json_drain(Stuck(stuck, sink.clone())), &levels("info"));
    for number in 0..CHANNEL_RECORDS_MAX + 100 {
        info!(logger, "one of many"; "number" => number);
    }
    drop(release);
    // The next record that finds room brings the report.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !sink.lines().iter().any(|line| line.contains("dropped messages")) {
        assert!(std::time::Instant::now() < deadline, "no report of dropped records");
        info!(logger, "after");
        thread::yield_now();
    }
    drop(guard);
}

/// Proves LOG-3.
#[test]
fn logging_after_the_guard_is_gone_or_to_a_closed_stream_does_no_harm() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (logger, guard) = start(json_drain(Closed), &levels("info"));
    info!(logger, "first");
    info!(logger, "second");
    drop(guard);
    info!(logger, "third");
}

/// Proves LOG-2.
#[test]
fn a_hanging_stream_does_not_keep_the_process_from_ending() {
    let (release, stuck) = mpsc::channel();
    let (logger, guard) = start(json_drain(Stuck(stuck, Sink::default())), &levels("info"));
    info!(logger, "never written");
    let started = std::time::Instant::now();
    drop(guard);
    assert!(started.elapsed() < FLUSH_MAX + Duration::from_secs(5));
    drop(release);
}

#[test]
fn records_of_the_log_crate_come_in_with_their_target() {
    let sink = Sink::default();
    let (logger, guard) = start(json_drain(sink.clone()), &levels("info"));
    bridge_log_crate(&logger);
    log::warn!(target: "some_crate", "from elsewhere");
    log::info!(target: "some_crate", "chatter");
    log::error!(target: "actix_http::h1::dispatcher", "said by a port scanner");
    log::warn!(target: "paho_mqtt::async_client", "said by us, too");
    drop(guard);
    assert!(!sink.lines().iter().any(|line| line.contains("said by")), "{:?}", sink.lines());
    let ours: Vec<String> = sink.lines().into_iter().filter(|line| line.contains("some_crate")).collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert!(
        ours[0].contains("from elsewhere") && ours[0].contains("\"component\":\"some_crate\""),
        "{ours:?}"
    );
}

#[test]
fn levels_change_while_loggers_exist() {
    let sink = Sink::default();
    let (logger, guard) = start(json_drain(sink.clone()), &levels("warn"));
    let (mqtt, writer) =
        (logger.new(o!(keys::COMPONENT => "mqtt")), logger.new(o!(keys::COMPONENT => "writer")));
    info!(mqtt, "before");
    guard.levels().set(&levels("error,mqtt=debug"));
    debug!(mqtt, "detailed");
    warn!(writer, "suppressed");
    guard.levels().set(&levels("info"));
    debug!(mqtt, "too much again");
    info!(writer, "after");
    drop(guard);
    let lines: Vec<serde_json::Value> =
        sink.lines().iter().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(messages(&lines), ["detailed", "after"]);
}
