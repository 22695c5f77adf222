//! The kinds of metrics: plain atomics, and how each looks in `/metrics`.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::domain::word_enum;

word_enum! {
    /// What Prometheus knows a metric as. The word is that of its text format.
    pub enum Kind {
        /// It only grows.
        Counter = "counter",
        /// It goes up and down.
        Gauge = "gauge",
        /// Measurements, counted by their size.
        Histogram = "histogram",
    }
}

/// A number of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A count, or a yes (1) or no (0).
    Whole(u64),
    /// Anything else.
    Fraction(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Fraction(value)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl fmt::Display for Number {
    /// Rust writes `inf`, which some readers of the format reject.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Fraction(f64::INFINITY) => f.write_str("+Inf"),
            Self::Fraction(f64::NEG_INFINITY) => f.write_str("-Inf"),
            Self::Fraction(value) => value.fmt(f),
        }
    }
}

/// One line of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Follows the metric's name.
    pub suffix: &'static str,
    /// Name and value of its label, if it has one.
    pub label: Option<(&'static str, String)>,
    /// Its number.
    pub number: Number,
}

impl Sample {
    fn plain(number: impl Into<Number>) -> Self {
        Self { suffix: "", label: None, number: number.into() }
    }
}

/// A value that `/metrics` shows.
pub trait Metric {
    /// What it is to Prometheus.
    const KIND: Kind;

    /// Returns its current lines. Without any, `/metrics` leaves the metric out.
    fn samples(&self) -> Vec<Sample>;
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metric for Counter {
    const KIND: Kind = Kind::Counter;

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::plain(self.get())]
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metric for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::plain(self.get())]
    }
}

/// A gauge that `/metrics` shows only while it is not 0.
#[derive(Debug, Default)]
pub struct OptionalGauge(Gauge);

impl OptionalGauge {
    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.set(value);
    }
}

impl Metric for OptionalGauge {
    const KIND: Kind = Kind::Gauge;

    fn samples(&self) -> Vec<Sample> {
        if self.0.get() == 0 { Vec::new() } else { self.0.samples() }
    }
}

/// A yes or no.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Replaces the value.
    pub fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metric for Flag {
    const KIND: Kind = Kind::Gauge;

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::plain(self.get())]
    }
}

/// One metric for each value of a label.
#[derive(Debug)]
pub struct ByLabel<K, M> {
    label: &'static str,
    each: Vec<(K, &'static str, M)>,
}

/// A counter for each value of a label.
pub type Counters<K> = ByLabel<K, Counter>;
/// A gauge for each value of a label.
pub type Gauges<K> = ByLabel<K, Gauge>;

impl<K: Copy + PartialEq, M: Default> ByLabel<K, M> {
    /// Makes one for each of `keys`; `word` gives the label's value.
    #[must_use]
    pub fn new(label: &'static str, keys: &[K], word: fn(K) -> &'static str) -> Self {
        let each = keys.iter().map(|key| (*key, word(*key), M::default()));
        Self { label, each: each.collect() }
    }

    /// Returns the one of `key`.
    #[must_use]
    pub fn of(&self, key: K) -> &M {
        let found = self.each.iter().find(|(known, ..)| *known == key);
        found.map(|(_, _, metric)| metric).expect("it was made with every key")
    }
}

impl<K, M: Metric> Metric for ByLabel<K, M> {
    const KIND: Kind = M::KIND;

    fn samples(&self) -> Vec<Sample> {
        let labelled = |(_, word, metric): &(K, &'static str, M)| {
            let label = (self.label, (*word).to_owned());
            let lines = metric.samples().into_iter();
            lines.map(|line| Sample { label: Some(label.clone()), ..line }).collect::<Vec<_>>()
        };
        self.each.iter().flat_map(labelled).collect()
    }
}

/// A histogram of measurements. Observed once per batch, not once per message.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// Number of measurements in each bucket; the last bucket is above all bounds.
    between: Box<[Counter]>,
    /// The sum, as the bits of a double.
    sum: AtomicU64,
}

impl Histogram {
    /// Creates an empty histogram; `bounds` must ascend.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let between = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Self { bounds, between, sum: AtomicU64::new(0) }
    }

    /// Adds one measurement.
    pub fn observe(&self, value: f64) {
        self.between[self.bounds.partition_point(|bound| *bound < value)].add(1);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        let _always_added = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl Metric for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn samples(&self) -> Vec<Sample> {
        let mut count = 0;
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets = bounds.zip(&self.between).map(|(bound, counter)| {
            count += counter.get();
            let label = Some(("le", Number::from(bound).to_string()));
            Sample { suffix: "_bucket", label, number: count.into() }
        });
        let mut samples: Vec<Sample> = buckets.collect();
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        samples.push(Sample { suffix: "_sum", ..Sample::plain(sum) });
        samples.push(Sample { suffix: "_count", ..Sample::plain(count) });
        samples
    }
}
