//! SIGTERM and SIGINT.

use crate::support::andon::Site;
use crate::support::mosquitto::FreePort;

#[test]
fn a_second_signal_ends_a_stop_that_hangs_at_once() {
    for second in ["TERM", "INT"] {
        let site = Site::new(FreePort::find().number());
        let mut andon = site.run_with("mqtt::stop=sleep(120000)");
        andon.wait_for_log("no connection to the broker");
        andon.signal("TERM");
        andon.wait_for_log("a second signal ends the process at once");
        andon.signal(second);
        // The supervisor, or the deadline of the stop, would end it with 0.
        assert_eq!(andon.wait().code(), Some(1), "{}", andon.log());
        assert!(andon.log().contains("second signal: ending at once"), "{}", andon.log());
    }
}
