//! The fixed shapes in which texts are scored.
//!
//! ONNX Runtime picks kernels by shape, and the last bit of a row can differ between a batch of one and a batch of eight. So a
//! row's shape is a function of its own length alone: lengths are rounded up to a bucket, every bucket has one number of rows,
//! and a batch that is not full is filled with dummy rows.

/// Tokens of one batch at most, where a bucket can hold more than [`LEAST_ROWS`]: enough for products to be as fast as they
/// get, few enough for what lies between them to stay in the cache, and for few dummies in the last batch of a bucket.
const TOKENS: usize = 256;
const MOST_ROWS: usize = 8;
const LEAST_ROWS: usize = 2;

/// The dimensions that a graph fixes, and what it needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Constraints {
    /// The graph's own number of rows.
    pub rows: Option<usize>,
    /// The graph's own length.
    pub length: Option<usize>,
    /// Whether an operator mixes rows: one row at a time and no padding at all.
    pub alone: bool,
}

/// One shape: `[rows, length]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Tokens per row.
    pub length: usize,
    /// Rows per batch.
    pub rows: usize,
}

/// Which shape a window of some length is scored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shapes {
    constraints: Constraints,
    max_length: usize,
}

impl Shapes {
    /// The shapes of a graph for windows of at most `max_length` tokens.
    pub fn new(constraints: Constraints, max_length: usize) -> Self {
        Self {
            constraints,
            max_length,
        }
    }

    /// The shape of a window of `tokens` tokens, `1 ..= max_length`.
    pub fn of(&self, tokens: usize) -> Shape {
        let Constraints { rows, length, alone } = self.constraints;
        let length = length.unwrap_or(if alone {
            tokens
        } else {
            round_up(tokens).min(self.max_length).max(tokens)
        });
        let rows = rows.unwrap_or(if alone {
            1
        } else {
            (TOKENS / length).clamp(LEAST_ROWS, MOST_ROWS)
        });
        Shape { length, rows }
    }
}

/// Buckets of 8 up to 64, of 16 up to 128, of 32 up to 256 and so on: padding costs at most an eighth beyond 64.
fn round_up(tokens: usize) -> usize {
    let step = (tokens.next_power_of_two() / 8).max(8);
    tokens.div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_monotonous_tight_and_few() {
        let shapes = Shapes::new(Constraints::default(), 512);
        let all: Vec<Shape> = (1..=512).map(|tokens| shapes.of(tokens)).collect();
        for (index, shape) in all.iter().enumerate() {
            let tokens = index + 1;
            assert!(shape.length >= tokens && shape.length <= 512, "{tokens}: {shape:?}");
            assert!(
                shape.length - tokens < 8.max(tokens.next_power_of_two() / 8),
                "{tokens}: {shape:?}"
            );
            assert!((LEAST_ROWS..=MOST_ROWS).contains(&shape.rows));
        }
        assert!(all.windows(2).all(|pair| pair[0].length <= pair[1].length));
        let mut lengths: Vec<usize> = all.iter().map(|shape| shape.length).collect();
        lengths.dedup();
        assert_eq!(lengths.len(), 20, "{lengths:?}");
    }

    #[test]
    fn what_the_graph_fixes_wins() {
        let fixed = Constraints {
            rows: Some(1),
            length: Some(128),
            alone: false,
        };
        assert_eq!(Shapes::new(fixed, 128).of(3), Shape { length: 128, rows: 1 });
        let alone = Constraints {
            alone: true,
            ..Constraints::default()
        };
        assert_eq!(Shapes::new(alone, 512).of(33), Shape { length: 33, rows: 1 });
        assert_eq!(Shapes::new(Constraints::default(), 100).of(99).length, 100);
    }
}
