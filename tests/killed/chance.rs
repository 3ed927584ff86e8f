//! Random numbers from a seed: a failed run is repeated with the seed that it printed.

use std::time::Duration;

use crate::killed::setting;

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub struct Chance(u64);

impl Chance {
    /// From `PIPELINE_TEST_KILL_SEED`, or a seed of its own; prints it.
    pub fn new(what: &str) -> Self {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = setting("PIPELINE_TEST_KILL_SEED", since_1970.as_millis() as usize);
        println!("{what}: PIPELINE_TEST_KILL_SEED={seed}");
        Chance(seed as u64)
    }

    /// From 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Up to a time.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.fraction())
    }

    /// Heads or tails.
    pub fn is_heads(&mut self) -> bool {
        self.fraction() < 0.5
    }
}
