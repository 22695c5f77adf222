//! A bound on how often something is written for strangers who can cause it at will. Pure; the time comes in.

use std::time::Duration;

use crate::clock::Mono;

/// Admits so many in each period, and counts the others.
#[derive(Debug)]
pub struct Pace {
    max: u32,
    period: Duration,
    begun_at: Mono,
    admitted: u32,
    left_out: u64,
}

impl Pace {
    /// Admits at most `max` in each `period`.
    pub const fn new(max: u32, period: Duration) -> Self {
        Self { max, period, begun_at: Mono(0), admitted: 0, left_out: 0 }
    }

    /// Returns whether the next one is admitted.
    pub fn admits(&mut self, now: Mono) -> bool {
        if now.since(self.begun_at) >= self.period {
            (self.begun_at, self.admitted) = (now, 0);
        }
        let admits = self.admitted < self.max;
        if admits {
            self.admitted += 1;
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
        admits
    }

    /// Returns how many were left out, once their period is over: to be summed up in one.
    pub fn left_out(&mut self, now: Mono) -> Option<u64> {
        if self.left_out == 0 || now.since(self.begun_at) < self.period {
            return None;
        }
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_admitted_in_each_period_and_the_others_summed_up_once() {
        let at = |seconds: u64| Mono::from(Duration::from_secs(seconds));
        let mut pace = Pace::new(3, Duration::from_secs(60));
        let admitted = |pace: &mut Pace, second| (0..10).filter(|_| pace.admits(at(second))).count();
        assert_eq!((admitted(&mut pace, 100), pace.left_out(at(159))), (3, None));
        assert_eq!(admitted(&mut pace, 159), 0);
        assert_eq!((pace.left_out(at(160)), pace.left_out(at(160))), (Some(17), None));
        assert_eq!(admitted(&mut pace, 160), 3);
    }
}
