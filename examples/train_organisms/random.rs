//! Randomness as a function of a seed and a position, so that a training run is one function of its inputs.

/// An increment with well mixed bits (2^64 divided by the golden ratio), as SplitMix64 uses it.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FNV-1a, 64 bit: a fixed hash of a text, the same on every machine.
pub fn hash_text(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// A stream of random numbers named by (seed, position): two streams of different names are unrelated.
pub struct Stream {
    key: u64,
    counter: u64,
}

impl Stream {
    /// The stream at `position` of the family `seed`.
    pub fn new(seed: u64, position: u64) -> Self {
        Stream {
            key: mix(mix(seed ^ GOLDEN).wrapping_add(position.wrapping_mul(GOLDEN))),
            counter: 0,
        }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(self.key.wrapping_add(self.counter.wrapping_mul(GOLDEN)))
    }

    /// The next number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A position in a list of `length` things.
    pub fn below(&mut self, length: usize) -> usize {
        (self.unit() * length as f64) as usize
    }

    /// One of `things`, which must not be empty.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len())]
    }

    /// A standard normal number as the centred sum of twelve uniform ones (Irwin-Hall): additions only, so that
    /// no mathematical library can change a bit of the initial weights.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_by_seed_and_position() {
        let draw = |seed, position| Stream::new(seed, position).bits();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut stream = Stream::new(7, 0);
        let normal: Vec<f64> = (0..20_000).map(|_| stream.normal()).collect();
        let mean = normal.iter().sum::<f64>() / 20_000.0;
        let variance = normal.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05,
            "mean {mean}, variance {variance}"
        );
        assert!((0..10_000).all(|_| stream.below(3) < 3));
    }
}
