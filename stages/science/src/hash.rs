//! Identities as 64-bit hashes, and counter-based random numbers drawn from them.
//!
//! A draw is a function of (seed, identity, counter) and of nothing else: no position, no order, no state.

/// Odd constant of the splitmix64 sequence (the golden ratio times 2^64).
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The identity of a row, a cluster or a group, from the parts that name it. Parts are length-prefixed, so that
/// `["ab", "c"]` and `["a", "bc"]` differ.
pub fn identity(parts: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut first = [0u8; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// The finaliser of splitmix64 (Steele, Lea and Flood 2014): a bijection of 64 bits whose outputs on consecutive
/// multiples of an odd constant pass the usual batteries.
#[inline(always)]
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A stream of random words addressed by a counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream(u64);

impl Stream {
    /// The stream of one identity under one seed. `purpose` keeps the streams of different uses apart.
    pub(crate) fn new(seed: u64, purpose: u64, id: u64) -> Self {
        Self(mix(mix(mix(seed.wrapping_add(STEP)) ^ purpose).wrapping_add(STEP) ^ id))
    }

    /// Word number `counter` of the stream.
    #[inline(always)]
    pub(crate) fn word(self, counter: u64) -> u64 {
        mix(self.0.wrapping_add(counter.wrapping_add(1).wrapping_mul(STEP)))
    }
}

/// Purposes of streams, so that (say) the folds of an item say nothing about its bootstrap weights.
pub(crate) mod purpose {
    pub(crate) const BOOTSTRAP: u64 = 1;
    pub(crate) const SIGN_FLIP: u64 = 2;
    pub(crate) const HALF: u64 = 3;
    pub(crate) const FOLD: u64 = 4;
    pub(crate) const PRIOR: u64 = 6;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(identity(&["ab", "c"]), identity(&["a", "bc"]));
        assert_eq!(identity(&["ab", "c"]), identity(&["ab", "c"]));
    }

    #[test]
    fn streams_of_neighbours_are_uncorrelated() {
        let (a, b) = (Stream::new(0, 1, 7), Stream::new(0, 1, 8));
        let agree: u32 = (0..4096).map(|i| (a.word(i) ^ b.word(i)).count_zeros()).sum();
        let expected = 4096.0 * 32.0;
        assert!((f64::from(agree) - expected).abs() < 5.0 * (4096.0f64 * 16.0).sqrt());
    }
}
