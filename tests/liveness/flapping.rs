//! Machines that change their status too often.

use super::retained;
use crate::machines::{speak, wait_for_events};
use crate::support::andon::Site;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::Single;

/// Proves TRK-10.
#[test]
fn a_flapping_machine_is_published_as_flapping_logged_once_and_still_flaps_after_a_restart() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port())
        .set("liveness.flapping_changes=2")
        .set("liveness.flapping_window=1h")
        .configure("[[liveness.last_will]]\nfilter = \"factory/machine/+/lwt\"\npayload = \"gone\"");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    let status = || retained(broker.port(), "andon/test/machine/press-1/status");
    speak(&mut single, "press-1");
    single.publish("factory/machine/press-1/lwt", b"gone", 1);
    wait_until("two changes, which are allowed", || {
        let status = status();
        status.contains(r#""status":"offline""#) && status.contains(r#""flapping":false"#)
    });
    speak(&mut single, "press-1");
    single.publish("factory/machine/press-1/lwt", b"gone", 1);
    let all = [
        "online - first_seen",
        "offline online last_will",
        "online offline message",
        "offline online last_will",
    ];
    wait_for_events(&url, "press-1", &all);
    wait_until("the flag", || status().contains(r#""flapping":true"#));
    assert_eq!(andon.log().matches("machine flaps:").count(), 1);
    assert!(andon.stop().success());

    let clock = site.path().join("clock-offset");
    std::fs::write(&clock, "0").unwrap();
    let mut andon = site.run_with(&format!("clock::offset=return({})", clock.display()));
    andon.wait_until_seeing();
    wait_until("the flag, after the restart", || status().contains(r#""flapping":true"#));
    assert_eq!(andon.log().matches("machine stopped flapping").count(), 0);
    // The wall clock jumps two hours ahead; flapping is counted on the monotonic clock.
    std::fs::write(&clock, "7200000000").unwrap();
    speak(&mut single, "press-2");
    wait_until("the other machine", || {
        retained(broker.port(), "andon/test/machine/press-2/status").contains(r#""status":"online""#)
    });
    assert!(status().contains(r#""flapping":true"#), "{}", status());
    let log = andon.log();
    assert_eq!(
        (log.matches("machine flaps:").count(), log.matches("machine stopped flapping").count()),
        (0, 0)
    );
    assert!(andon.stop().success());

    // For the next process these changes are two hours old.
    let mut andon = site.run_with(&format!("clock::offset=return({})", clock.display()));
    andon.wait_until_seeing();
    wait_until("the flag to go", || status().contains(r#""flapping":false"#));
    assert!(andon.stop().success());
}

/// Proves TRK-10.
#[test]
fn a_machine_stops_flapping_once_its_changes_are_older_than_the_window() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port())
        .set("liveness.flapping_changes=1")
        .set("liveness.flapping_window=10s")
        .configure("[[liveness.last_will]]\nfilter = \"factory/machine/+/lwt\"\npayload = \"gone\"");
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    speak(&mut single, "press-1");
    single.publish("factory/machine/press-1/lwt", b"gone", 1);
    andon.wait_for_log("machine flaps:");
    andon.wait_for_log("machine stopped flapping");
    wait_until("the flag to go", || {
        retained(broker.port(), "andon/test/machine/press-1/status").contains(r#""flapping":false"#)
    });
    assert!(andon.stop().success());
}
