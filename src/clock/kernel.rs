//! Asks the kernel whether the wall clock is synchronised (`clock_adjtime(2)`).

use super::system_now;

/// The kernel's own reading must agree with ours within this, or its answer is about another clock.
const AGREES_WITHIN_S: i64 = 3_600;

/// Returns true if the kernel reports a synchronised clock (NTP, PTP). A failing call means no.
#[must_use]
pub fn is_synchronised() -> bool {
    #[cfg(feature = "failpoints")]
    fail_point!("clock::synchronised", |word: Option<String>| word.as_deref() == Some("true"));
    // SAFETY: all zeros is a valid `timex`, and asks for nothing to be changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is valid for writes and outlives the call.
    let answer = unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &raw mut state) };
    if answer < 0 || answer == libc::TIME_ERROR || state.status & libc::STA_UNSYNC != 0 {
        return false;
    }
    let ours = system_now().as_micros() / 1_000_000;
    ours.abs_diff(state.time.tv_sec) < AGREES_WITHIN_S.unsigned_abs()
}

#[cfg(test)]
mod tests {
    #[test]
    fn asking_changes_nothing_and_always_returns() {
        let first = super::is_synchronised();
        assert_eq!(first, super::is_synchronised());
    }
}
