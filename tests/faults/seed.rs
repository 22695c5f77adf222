//! Repeatable randomness: every draw of a fault depends on `ANDON_FAULT_SEED` and the fault's name alone.

use std::time::Duration;

/// The default seed. It is fixed, so that running a red test again repeats it.
const SEED: u64 = 20_261_122;

/// Returns the seed of this run.
pub fn chosen() -> u64 {
    let given = std::env::var("ANDON_FAULT_SEED").ok().filter(|text| !text.is_empty());
    given.map_or(SEED, |text| text.parse().expect("ANDON_FAULT_SEED is a whole number"))
}

/// SplitMix64: small, and the same in every version.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Makes a source of its own for `name`, independent of what runs beside it.
    pub fn of(seed: u64, name: &str) -> Self {
        let named = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed ^ named)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Draws a number from 0 to `bound` − 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Draws one of `all`.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    /// Sleeps up to `max`, so that the seed decides when the next step strikes.
    pub fn pause(&mut self, max: Duration) {
        std::thread::sleep(max.mul_f64(self.below(1000) as f64 / 1000.0));
    }

    /// Draws random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}
