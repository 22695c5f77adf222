//! What is sent when, without a socket; `tests/service_manager.rs` has the real program and a real socket.

use super::*;

const NO_BYTES: fn() -> Option<u64> = || None;

fn beat(checked: u64, answered: u64) -> Beat {
    Beat { checked, answered, is_excused: false }
}

fn snapshot(phase: Phase, beat: Beat) -> Snapshot {
    Snapshot { phase, beat, state: "works".to_owned(), line: "works".to_owned() }
}

/// A reporter that sees each of `snapshots` once, and sends at these `looks`.
fn looks(snapshots: Vec<Snapshot>) -> Vec<Vec<Message>> {
    let mut reporter = Reporter { has_watchdog: true, ..Reporter::default() };
    let now = Instant::now();
    let mut look = |snapshot: Snapshot| {
        reporter.look = Some(Box::new(move || snapshot.clone()));
        let messages = reporter.look(now, NO_BYTES);
        messages.into_iter().filter(|message| !matches!(message, Message::Status(_))).collect()
    };
    snapshots.into_iter().map(&mut look).collect()
}

/// Proves NTF-1.
#[test]
fn ready_is_sent_once_when_the_actors_run() {
    let still = beat(0, 0);
    let sent = looks(vec![
        snapshot(Phase::Starting, still),
        snapshot(Phase::Running, still),
        snapshot(Phase::Running, still),
        snapshot(Phase::Stopping, still),
        snapshot(Phase::Stopping, still),
    ]);
    let stopping = vec![Message::Stopping, Message::MoreTime(STOP_EXTENSION)];
    assert_eq!(sent, [vec![], vec![Message::Ready], vec![], stopping, vec![]]);
}

/// Proves NTF-1.
#[test]
fn an_end_without_an_error_is_ready_first_and_a_failure_never_is() {
    let stopping = [Message::Stopping, Message::MoreTime(STOP_EXTENSION)];
    assert_eq!(Reporter::default().end(Exit::Clean), [&[Message::Ready], &stopping[..]].concat());
    assert_eq!(Reporter::default().end(Exit::JournalDamaged), stopping);
}

/// Proves NTF-4.
#[test]
fn a_reload_is_reported_between_ready_and_stopping_only() {
    let mut reporter = Reporter::default();
    assert_eq!((reporter.reloading(), reporter.reloaded()), (vec![], vec![]), "it is not ready yet");
    reporter.ready();
    assert_eq!(reporter.reloading(), [Message::Reloading]);
    assert_eq!((reporter.reloaded(), reporter.reloaded()), (vec![Message::Ready], vec![]));
    assert_eq!(reporter.reloading(), [Message::Reloading]);
    reporter.stopping();
    assert_eq!((reporter.reloaded(), reporter.reloading()), (vec![], vec![]), "a READY would end the stop");
}

/// Proves NTF-2.
#[test]
fn the_watchdog_is_fed_only_after_progress_of_supervisor_and_actors() {
    let excused = |checked| Beat { is_excused: true, ..beat(checked, 9) };
    for (case, beats, fed) in [
        ("both move", vec![beat(1, 1), beat(2, 2)], vec![true, true]),
        ("nothing moves", vec![beat(1, 1), beat(1, 1)], vec![true, false]),
        ("the supervisor stands still", vec![beat(1, 1), beat(1, 2)], vec![true, false]),
        ("no actor answers", vec![beat(1, 1), beat(2, 1), beat(3, 1)], vec![true, false, false]),
        (
            "an answer counts whenever it came",
            vec![beat(1, 1), beat(1, 2), beat(2, 2)],
            vec![true, false, true],
        ),
        ("no actor can answer", vec![beat(1, 9), excused(2), excused(3)], vec![true, true, true]),
        ("excused actors excuse no supervisor", vec![excused(1), excused(1)], vec![true, false]),
    ] {
        let sent = looks(beats.into_iter().map(|beat| snapshot(Phase::Running, beat)).collect());
        let has_fed: Vec<bool> = sent.iter().map(|sent| sent.contains(&Message::Watchdog)).collect();
        assert_eq!(has_fed, fed, "{case}");
    }
}

/// Proves NTF-3.
#[test]
fn a_reason_from_outside_stays_one_status() {
    let refused = "refused\nWATCHDOG=1\r\nMAINPID=1";
    let message = status_line(refused);
    assert_eq!(message, Message::Status(r"refused\nWATCHDOG=1\r\nMAINPID=1".to_owned()));
    let Message::Status(long) = status_line(&"x".repeat(9_000)) else { unreachable!("it is a status") };
    assert_eq!(long.chars().count(), STATUS_CHARS_MAX + 1);
}

#[test]
fn a_new_state_is_reported_at_once_and_new_figures_now_and_then() {
    let mut reporter = Reporter::default();
    let start = Instant::now();
    let mut status = |second: u64, state: &str, line: &str| {
        reporter.status(state, line, start + Duration::from_secs(second))
    };
    let sent = |text: &str| Some(Message::Status(text.to_owned()));
    assert_eq!(status(0, "works", "1 stored"), sent("1 stored"));
    assert_eq!(status(1, "works", "2 stored"), None);
    assert_eq!(status(2, "broker", "broker away"), sent("broker away"));
    assert_eq!(status(6, "broker", "broker away; 3 stored"), None);
    assert_eq!(status(7, "broker", "broker away; 3 stored"), sent("broker away; 3 stored"));
    assert_eq!(status(60, "broker", "broker away; 3 stored"), None, "nothing new");
}

#[test]
fn a_start_gets_more_time_only_while_it_reads_or_writes() {
    let mut reporter = Reporter::default();
    let mut look = |bytes| reporter.look(Instant::now(), || bytes);
    let more_time = [Message::MoreTime(START_EXTENSION)];
    assert_eq!(look(Some(1_000_000)), []);
    assert_eq!(look(Some(9_000_000)), more_time);
    assert_eq!(look(Some(9_000_300)), [], "only the count itself was read");
    assert_eq!(look(None), []);
    assert_eq!(look(Some(10_000_000)), [], "compared with nothing");
    assert_eq!(look(Some(11_000_000)), more_time);
}
