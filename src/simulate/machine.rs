//! One machine: sensors that drift, a device clock that is slightly off, and its payload.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::domain::Timestamp;

/// A machine of the fleet.
#[derive(Debug)]
pub(super) struct Machine {
    id: String,
    clock: ClockFormat,
    /// How far its clock is off, in microseconds.
    clock_offset: i64,
    temperature: Sensor,
    humidity: Sensor,
    vibration: Sensor,
    cycles: u64,
    /// Wear of its tool, 0 (new) to 1 (changed at once).
    wear: f64,
    pub(super) rng: StdRng,
}

/// How a machine writes the time.
#[derive(Debug, Clone, Copy)]
enum ClockFormat {
    Iso8601,
    UnixMillis,
    UnixSeconds,
}

/// A value that swings slowly around its centre, with noise.
#[derive(Debug)]
struct Sensor {
    centre: f64,
    swing: f64,
    noise: f64,
    period_seconds: f64,
    phase: f64,
    wander: f64,
}

/// The members of a payload, each value as JSON text.
#[derive(Debug)]
pub(super) struct Members(Vec<(&'static str, String)>);

/// Returns the id of machine `index` (from 0) of every fleet.
#[must_use]
pub fn machine_name(index: u32) -> String {
    format!("press-{:02}", u64::from(index) + 1)
}

impl Machine {
    /// Creates machine `index` (from 0) of the fleet with this `seed`.
    pub(super) fn new(index: u32, seed: u64) -> Self {
        let mut rng =
            StdRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(index.into()));
        let clock = match index % 3 {
            0 => ClockFormat::Iso8601,
            1 => ClockFormat::UnixMillis,
            _ => ClockFormat::UnixSeconds,
        };
        Self {
            id: machine_name(index),
            clock,
            clock_offset: rng.random_range(-800_000..=800_000),
            temperature: Sensor::new(&mut rng, 55.0..75.0, 4.0, 0.15),
            humidity: Sensor::new(&mut rng, 35.0..50.0, 3.0, 0.2),
            vibration: Sensor::new(&mut rng, 0.02..0.08, 0.008, 0.002),
            cycles: rng.random_range(10_000..500_000),
            wear: rng.random_range(0.0..0.9),
            rng,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Measures at `at` and returns the members of the payload.
    pub(super) fn measure(&mut self, at: Timestamp) -> Members {
        self.cycles += 1;
        self.wear = if self.wear >= 1.0 { 0.0 } else { self.wear + 0.0004 };
        let rng = &mut self.rng;
        let setting_up = self.wear < 0.01;
        let temperature = self.temperature.measure(at, rng) - if setting_up { 15.0 } else { 0.0 };
        let humidity = self.humidity.measure(at, rng).clamp(0.0, 100.0);
        let vibration = (self.vibration.measure(at, rng) * (1.0 + self.wear)).max(0.0);
        let mode = if setting_up { "\"setup\"" } else { "\"auto\"" };
        Members(vec![
            ("machine_id", format!("\"{}\"", self.id)),
            ("temperature", format!("{temperature:.2}")),
            ("humidity", format!("{humidity:.1}")),
            ("vibration", format!("{vibration:.4}")),
            ("timestamp", self.device_time(at)),
            ("mode", mode.to_owned()),
            ("cycles", self.cycles.to_string()),
            ("tool", format!("{{\"wear\":{:.3}}}", self.wear)),
        ])
    }

    /// Returns the device's clock as JSON text, in whole milliseconds.
    fn device_time(&self, at: Timestamp) -> String {
        let millis = (at.as_micros() + self.clock_offset).div_euclid(1000);
        match self.clock {
            ClockFormat::UnixMillis => millis.to_string(),
            ClockFormat::UnixSeconds => format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000)),
            ClockFormat::Iso8601 => {
                let instant = Timestamp::from_micros(millis * 1000).to_chrono();
                format!("\"{}\"", instant.format("%Y-%m-%dT%H:%M:%S%.3fZ"))
            }
        }
    }
}

impl Sensor {
    fn new(rng: &mut StdRng, centre: std::ops::Range<f64>, swing: f64, noise: f64) -> Self {
        Self {
            centre: rng.random_range(centre),
            swing,
            noise,
            period_seconds: rng.random_range(600.0..1800.0),
            phase: rng.random_range(0.0..TAU),
            wander: 0.0,
        }
    }

    fn measure(&mut self, at: Timestamp, rng: &mut StdRng) -> f64 {
        // A random walk pulled back to the centre stays within about 5 × noise.
        self.wander = self.wander * 0.95 + rng.random_range(-self.noise..=self.noise);
        let seconds = Duration::from_micros(at.as_micros().unsigned_abs()).as_secs_f64();
        self.centre + self.swing * (TAU * seconds / self.period_seconds + self.phase).sin() + self.wander
    }
}

impl Members {
    pub(super) fn set(&mut self, name: &str, json: String) {
        if let Some((_, value)) = self.0.iter_mut().find(|(member, _)| *member == name) {
            *value = json;
        }
    }

    pub(super) fn quote(&mut self, names: &[&str]) {
        for (_, value) in self.0.iter_mut().filter(|(member, _)| names.contains(member)) {
            *value = format!("\"{value}\"");
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(member, _)| *member != name);
    }

    /// Returns the payload.
    pub(super) fn to_json(&self) -> String {
        let mut json = String::with_capacity(200);
        let mut separator = '{';
        for (name, value) in &self.0 {
            write!(json, "{separator}\"{name}\":{value}").expect("writing to a String cannot fail");
            separator = ',';
        }
        json.push('}');
        json
    }
}
