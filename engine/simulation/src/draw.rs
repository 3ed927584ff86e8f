//! Numbers that depend on what they are for, not on who asks first.

use pipeline_testkit::Random;

/// A generator for one thing: the same seed and parts give the same numbers, in whatever order things are asked for.
pub fn draw(seed: u64, parts: &[u64]) -> Random {
    let mut bits = Random::new(seed).bits();
    for part in parts {
        bits = Random::new(bits ^ part.wrapping_mul(0x9E37_79B9_7F4A_7C15)).bits();
    }
    Random::new(bits)
}

/// A number for a text (FNV-1a).
pub fn number_of(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// True in so many of a thousand cases.
pub fn happens(random: &mut Random, per_mille: u32) -> bool {
    random.below(1_000) < per_mille as usize
}
