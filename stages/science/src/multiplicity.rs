//! p values adjusted for how many were looked at. A missing p value (`None`) is no test: it takes no part.

/// Indices of the present p values, smallest first; equal values keep their order.
fn ascending(p: &[Option<f64>]) -> Vec<(usize, f64)> {
    let mut present: Vec<(usize, f64)> = p
        .iter()
        .enumerate()
        .filter_map(|(i, p)| p.filter(|p| !p.is_nan()).map(|p| (i, p)))
        .collect();
    present.sort_by(|a, b| a.1.total_cmp(&b.1));
    present
}

/// Holm's step-down adjustment (family-wise error), for contrasts declared beforehand.
pub fn holm(p: &[Option<f64>]) -> Vec<Option<f64>> {
    let present = ascending(p);
    let mut adjusted = vec![None; p.len()];
    let mut running: f64 = 0.0;
    for (rank, &(index, p)) in present.iter().enumerate() {
        running = running.max((present.len() - rank) as f64 * p).min(1.0);
        adjusted[index] = Some(running);
    }
    adjusted
}

/// Benjamini and Hochberg's step-up adjustment (false discovery rate), for a whole grid.
pub fn benjamini_hochberg(p: &[Option<f64>]) -> Vec<Option<f64>> {
    let present = ascending(p);
    let mut adjusted = vec![None; p.len()];
    let mut running: f64 = 1.0;
    for (rank, &(index, p)) in present.iter().enumerate().rev() {
        running = running.min(p * present.len() as f64 / (rank + 1) as f64);
        adjusted[index] = Some(running);
    }
    adjusted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_by_hand() {
        let p = [Some(0.01), None, Some(0.04), Some(0.03), Some(0.005)];
        let close = |a: Vec<Option<f64>>, b: [f64; 4]| {
            assert_eq!(a[1], None);
            for (x, y) in [a[0], a[2], a[3], a[4]].into_iter().zip(b) {
                assert!((x.unwrap() - y).abs() < 1e-15);
            }
        };
        close(holm(&p), [0.03, 0.06, 0.06, 0.02]);
        close(benjamini_hochberg(&p), [0.02, 0.04, 0.04, 0.02]);
    }

    proptest! {
        #[test]
        fn between_p_and_bonferroni(p in prop::collection::vec(0.0f64..=1.0, 1..30)) {
            let given: Vec<_> = p.iter().copied().map(Some).collect();
            let (h, b) = (holm(&given), benjamini_hochberg(&given));
            for i in 0..p.len() {
                let (h, b) = (h[i].unwrap(), b[i].unwrap());
                prop_assert!(p[i] <= b + 1e-15 && b <= h + 1e-15 && h <= (p[i] * p.len() as f64).min(1.0) + 1e-15);
            }
        }
    }
}
