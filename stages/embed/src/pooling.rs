//! One vector from the states of a text's tokens.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the states of a text's tokens become one vector. Padding takes no part; special tokens do, as sentence encoders are
/// trained with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean over tokens.
    #[default]
    Mean,
    /// The state of the first token.
    Cls,
    /// The largest value over tokens, dimension by dimension.
    Max,
    /// The state of the last token.
    Last,
}

impl Pooling {
    /// Its name in parameters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Max => "max",
            Self::Last => "last",
        }
    }

    /// Pools the states of `tokens` out of `states`, `[positions, dimension]` row by row. Sums are taken in f64 from the first
    /// token on. `None` without tokens.
    pub fn apply(self, states: &[f32], dimension: usize, tokens: Range<usize>) -> Option<Vec<f32>> {
        if tokens.is_empty() {
            return None;
        }
        let row = |token: usize| &states[token * dimension..(token + 1) * dimension];
        Some(match self {
            Self::Cls => row(tokens.start).to_vec(),
            Self::Last => row(tokens.end - 1).to_vec(),
            Self::Max => {
                let mut most = row(tokens.start).to_vec();
                for token in tokens.start + 1..tokens.end {
                    // A state that is no number stays one, so that it is noticed.
                    let larger = |(most, x): (&mut f32, &f32)| {
                        if *x > *most || x.is_nan() {
                            *most = *x;
                        }
                    };
                    most.iter_mut().zip(row(token)).for_each(larger);
                }
                most
            }
            Self::Mean => {
                let mut sum = vec![0.0f64; dimension];
                let count = tokens.len() as f64;
                for token in tokens {
                    sum.iter_mut().zip(row(token)).for_each(|(s, x)| *s += f64::from(*x));
                }
                sum.into_iter().map(|s| (s / count) as f32).collect()
            }
        })
    }
}

/// Scales a vector to length 1; `None` where it has no length or is not finite.
pub fn normalised(vector: &[f32]) -> Option<Vec<f32>> {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    (length > 0.0 && length.is_finite()).then(|| vector.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pools_the_tokens_and_nothing_else() {
        let states = [9.0, 9.0, 1.0, -2.0, 3.0, -4.0, 9.0, 9.0];
        let pool = |pooling: Pooling| pooling.apply(&states, 2, 1..3).unwrap();
        assert_eq!(pool(Pooling::Mean), [2.0, -3.0]);
        assert_eq!(pool(Pooling::Cls), [1.0, -2.0]);
        assert_eq!(pool(Pooling::Max), [3.0, -2.0]);
        assert_eq!(pool(Pooling::Last), [3.0, -4.0]);
        assert_eq!(Pooling::Mean.apply(&states, 2, 1..1), None);
        let broken = [1.0, f32::NAN];
        assert!(Pooling::Max.apply(&broken, 1, 0..2).unwrap()[0].is_nan());
    }

    #[test]
    fn a_vector_without_length_has_no_direction() {
        assert_eq!(normalised(&[3.0, 4.0]).unwrap(), [0.6, 0.8]);
        assert_eq!(normalised(&[0.0, 0.0]), None);
        assert_eq!(normalised(&[f32::NAN, 1.0]), None);
        assert_eq!(normalised(&[f32::INFINITY, 1.0]), None);
        // Squares that f32 could not hold.
        assert_eq!(normalised(&[1e30, 0.0]).unwrap(), [1.0, 0.0]);
    }
}
