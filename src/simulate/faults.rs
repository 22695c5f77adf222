//! The faults that a simulated machine can have.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::machine::Members;
use crate::domain::word_enum;

word_enum! {
    /// A fault; a machine has at most one. Machines get them in this order, starting with the last machine.
    #[derive(Hash)]
    pub enum Fault {
        /// Now and then falls silent for 30 to 60 s.
        Silence = "silence",
        /// Sends the seconds since it was switched on as its timestamp.
        UptimeClock = "uptime timestamp",
        /// Prints a bare `NaN`, `nan` or `inf` where its vibration sensor has no value.
        BareTokens = "bare NaN",
        /// Cuts off about every fourth message in the middle.
        Malformed = "malformed JSON",
        /// Sends about every third message twice, byte for byte.
        Duplicates = "duplicate",
        /// Now and then sends 10 to 30 readings of the last second or so at once.
        Burst = "burst",
        /// Sends its numbers as strings.
        TextNumbers = "numbers as text",
        /// Sends no machine id; only the topic names the machine.
        NoMachineId = "no machine_id",
    }
}

impl Fault {
    /// Returns the fault of machine `index` (from 0) of `machines`.
    pub(super) fn of(index: u32, machines: u32) -> Option<Fault> {
        let from_last = machines.checked_sub(index + 1)?;
        if index == 0 {
            return None;
        }
        Self::ALL.get(usize::try_from(from_last).ok()?).copied()
    }
}

/// How often each fault occurred: messages with it; for [`Fault::Silence`], times a machine fell silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    /// Returns how often `fault` occurred.
    #[must_use]
    pub fn get(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Returns each fault and how often it occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.into_iter().map(|fault| (fault, self.get(fault)))
    }

    pub(super) fn add(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }
}

/// Returns the length of a silence that begins now, about every two minutes; `None` if none does.
pub(super) fn silence(rng: &mut StdRng, interval: Duration) -> Option<Duration> {
    happens(rng, interval, Duration::from_secs(120))
        .then(|| Duration::from_millis(rng.random_range(30_000..=60_000)))
}

/// Returns the readings of a burst that begins now, about every 20 s; `None` if none does.
pub(super) fn burst(rng: &mut StdRng, interval: Duration) -> Option<u32> {
    happens(rng, interval, Duration::from_secs(20)).then(|| rng.random_range(10..=30))
}

/// Returns whether an event that happens about every `period` happens in this `interval`.
fn happens(rng: &mut StdRng, interval: Duration, period: Duration) -> bool {
    rng.random_bool((interval.as_secs_f64() / period.as_secs_f64()).clamp(0.0, 1.0))
}

/// Applies the fault to the members of a payload; returns whether it changed them.
pub(super) fn spoil(fault: Fault, members: &mut Members, uptime: Duration, rng: &mut StdRng) -> bool {
    match fault {
        Fault::UptimeClock => members.set("timestamp", uptime.as_secs().to_string()),
        Fault::BareTokens => {
            if !rng.random_bool(0.3) {
                return false;
            }
            let token = ["NaN", "nan", "inf"][rng.random_range(0..3)];
            members.set("vibration", token.to_owned());
        }
        Fault::TextNumbers => members.quote(&["temperature", "humidity", "vibration"]),
        Fault::NoMachineId => members.remove("machine_id"),
        Fault::Silence | Fault::Malformed | Fault::Duplicates | Fault::Burst => return false,
    }
    true
}

/// Cuts about every fourth payload; returns whether it did.
pub(super) fn cut(payload: &mut String, rng: &mut StdRng) -> bool {
    let cuts = rng.random_bool(0.25);
    if cuts {
        // The payload is ASCII, and a cut before the last brace never leaves valid JSON.
        payload.truncate(rng.random_range(1..payload.len()));
    }
    cuts
}
