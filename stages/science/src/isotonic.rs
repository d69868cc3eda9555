//! Isotonic regression of labels on scores, by pooling adjacent violators.

/// A stretch of scores with one fitted value.
struct Block {
    first: f64,
    last: f64,
    harmful: u64,
    count: u64,
}

/// The corners of the monotone fit of least squares to (score, label) sorted by score: each block of equal fitted values
/// gives its first and its last score, a block of one score a single corner. Equal scores are one point of their weight.
/// Counts are whole, so no order of equal rows leaves a trace.
pub(crate) fn isotonic(rows: &[(f64, bool)]) -> (Vec<f64>, Vec<f64>) {
    let mut blocks: Vec<Block> = Vec::new();
    for equal in rows.chunk_by(|a, b| a.0 == b.0) {
        let mut block = Block {
            first: equal[0].0,
            last: equal[0].0,
            harmful: equal.iter().filter(|row| row.1).count() as u64,
            count: equal.len() as u64,
        };
        // A block that is not below its neighbour joins it; products compare the two shares exactly.
        while let Some(before) = blocks.pop_if(|before| before.harmful * block.count >= block.harmful * before.count) {
            block = Block {
                first: before.first,
                last: block.last,
                harmful: before.harmful + block.harmful,
                count: before.count + block.count,
            };
        }
        blocks.push(block);
    }
    let (mut scores, mut values) = (Vec::new(), Vec::new());
    for block in blocks {
        let value = block.harmful as f64 / block.count as f64;
        scores.push(block.first);
        values.push(value);
        if block.last > block.first {
            scores.push(block.last);
            values.push(value);
        }
    }
    (scores, values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn violators_are_pooled() {
        let rows = [(0.1, false), (0.2, true), (0.3, false), (0.4, true), (0.4, true)];
        assert_eq!(isotonic(&rows), (vec![0.1, 0.2, 0.3, 0.4], vec![0.0, 0.5, 0.5, 1.0]));
        assert_eq!(isotonic(&[(0.3, true)]), (vec![0.3], vec![1.0]));
        assert_eq!(isotonic(&[]), (vec![], vec![]));
    }

    proptest! {
        /// The fit is monotone, and at each score it is the max-min of the means (Barlow et al. 1972).
        #[test]
        fn is_the_max_min_of_means(labels in prop::collection::vec(any::<bool>(), 1..24)) {
            let rows: Vec<(f64, bool)> = labels.iter().enumerate().map(|(i, &l)| (i as f64, l)).collect();
            let (scores, values) = isotonic(&rows);
            prop_assert!(scores.is_sorted() && values.is_sorted());
            let mean = |a: usize, b: usize| {
                labels[a..=b].iter().filter(|l| **l).count() as f64 / (b - a + 1) as f64
            };
            for i in 0..labels.len() {
                let expected = (0..=i)
                    .map(|a| (i..labels.len()).map(|b| mean(a, b)).fold(f64::INFINITY, f64::min))
                    .fold(f64::NEG_INFINITY, f64::max);
                let above = scores.partition_point(|&s| s < i as f64);
                prop_assert!((values[above] - expected).abs() < 1e-12);
            }
        }
    }
}
