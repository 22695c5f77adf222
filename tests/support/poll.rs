//! Waits for a condition with a deadline, instead of sleeping.

use std::time::{Duration, Instant};

/// Longer than any condition takes on a busy machine; only a failing test waits this long.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// Polls until `probe` returns a value; panics with `what` after [`WAIT_MAX`].
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {WAIT_MAX:?} for {what}, in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Polls until `probe` is true.
pub fn wait_until(what: &str, mut probe: impl FnMut() -> bool) {
    wait_for(what, || probe().then_some(()));
}
