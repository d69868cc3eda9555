//! The golden example and the properties of the frontier (SCIENCE.md B2).

#![allow(clippy::unwrap_used)]

use fracture_science::{Aggregate, Frontier, FrontierOptions, ItemScore, Pair, frontier, rates, reduce};
use proptest::prelude::*;

fn items(u: &[f64], v: &[f64]) -> Vec<ItemScore> {
    let item = |(i, (&first, &second)): (usize, (&f64, &f64))| ItemScore {
        item: i as u64,
        cluster: i as u64,
        first,
        second,
    };
    u.iter().zip(v).enumerate().map(item).collect()
}

fn compute(u: &[f64], v: &[f64]) -> Frontier {
    frontier(
        &items(u, v),
        &FrontierOptions {
            bootstrap: 300,
            ..FrontierOptions::default()
        },
    )
    .unwrap()
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "found {found}, expected {expected}"
    );
}

#[test]
fn golden_example() {
    let u = [0.02, 0.10, 0.05, 0.60, 0.30, 0.01, 0.45, 0.90];
    let v = [0.05, 0.70, 0.55, 0.40, 0.80, 0.01, 0.95, 0.92];
    let f = compute(&u, &v);
    let pairs: Vec<Pair> = (0..8)
        .map(|i| Pair {
            item: i as u64,
            cluster: i as u64,
            first: &u[i..=i],
            second: &v[i..=i],
        })
        .collect();
    let r = rates(&pairs, 0.5, Aggregate::Product).unwrap();
    assert_eq!((r.fracture, r.anti), (0.5, 0.125));
    close(f.mean_positive_lift.value.unwrap(), 0.26875, 1e-12);
    close(f.mean_lift.value.unwrap(), 0.24375, 1e-12);
    close(f.median_lift.value.unwrap(), 0.265, 1e-12);
    close(f.median_logit_lift.value.unwrap(), 1.59049, 5e-6);
    close(f.marginal_median_lift.unwrap(), 0.425, 1e-12);
    close(f.superiority.unwrap(), 0.8125, 1e-12);
    close(f.area.unwrap(), 0.6875, 1e-12);
    close(f.max_gap.unwrap(), 0.375, 1e-12);
    assert_eq!(f.max_gap_threshold, Some(0.70));
    let at_max: Vec<f64> = f.curve.iter().filter(|p| p.gap == 0.375).map(|p| p.threshold).collect();
    // The stretches (.30, .40], (.45, .55] and (.60, .70].
    assert_eq!(at_max, [0.40, 0.55, 0.70]);
    close(f.dominance.unwrap(), 0.93, 1e-12);
    assert_eq!(f.clipped_share, Some(0.0));
    close(f.positive_share.value.unwrap(), 0.75, 1e-12);
    // The gap is positive on (.02, .95] and 0 elsewhere.
    assert_eq!(f.overtakes, [0.02]);
    // SE of the mean lift, .109869 with n - 1: the bootstrap's is that of n.
    let interval = f.mean_lift;
    close(
        (interval.high.unwrap() - interval.low.unwrap()) / 2.0,
        1.96 * 0.109869 * (7.0f64 / 8.0).sqrt(),
        0.03,
    );
    assert_eq!(f.quantiles.len(), 9);
    close(f.quantiles[4].lift.value.unwrap(), 0.425, 1e-12);
    // .10 and .70, .05 and .55 sum to less than 1; .60 and .40 to exactly 1, which overtakes nothing.
    assert_eq!(f.confidence_overtaken, Some(0.375));
    assert!(f.median_logit_lift.low < f.median_logit_lift.value);
}

fn score() -> impl Strategy<Value = f64> {
    (0u8..=20).prop_map(|s| f64::from(s) / 20.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_gap_is_the_net_flip_rate(data in prop::collection::vec((score(), score()), 1..30)) {
        let (u, v): (Vec<f64>, Vec<f64>) = data.into_iter().unzip();
        let f = compute(&u, &v);
        let pairs: Vec<Pair> = (0..u.len())
            .map(|i| Pair { item: i as u64, cluster: i as u64, first: &u[i..=i], second: &v[i..=i] })
            .collect();
        for p in &f.curve {
            let r = rates(&pairs, p.threshold, Aggregate::Product).unwrap();
            prop_assert!((p.gap - r.net).abs() < 1e-12);
            prop_assert!((p.train - r.train_unsafe).abs() < 1e-12 && (p.deploy - r.deploy_unsafe).abs() < 1e-12);
            if let (Some(low), Some(high)) = (p.low, p.high) {
                prop_assert!(low <= p.gap && p.gap <= high);
            }
        }
        let negative = f.mean_positive_lift.value.unwrap() - f.mean_lift.value.unwrap();
        prop_assert!(negative > -1e-12);
    }

    #[test]
    fn swapping_the_regimes_mirrors_everything(data in prop::collection::vec((score(), score()), 1..30)) {
        let (u, v): (Vec<f64>, Vec<f64>) = data.into_iter().unzip();
        let (f, b) = (compute(&u, &v), compute(&v, &u));
        prop_assert!((f.area.unwrap() + b.area.unwrap() - 1.0).abs() < 1e-12);
        prop_assert!((f.superiority.unwrap() + b.superiority.unwrap() - 1.0).abs() < 1e-12);
        prop_assert!((f.median_lift.value.unwrap() + b.median_lift.value.unwrap()).abs() < 1e-12);
        for (p, q) in f.curve.iter().zip(&b.curve) {
            prop_assert!((p.gap + q.gap).abs() < 1e-12);
        }
        prop_assert!(f.dominance.unwrap() + b.dominance.unwrap() <= 1.0 + 1e-12);
    }

    #[test]
    fn ranks_are_invariant_under_monotone_transforms(data in prop::collection::vec((score(), score()), 1..30)) {
        let (u, v): (Vec<f64>, Vec<f64>) = data.into_iter().unzip();
        let warp = |x: &[f64]| -> Vec<f64> { x.iter().map(|s| s * s).collect() };
        let (f, w) = (compute(&u, &v), compute(&warp(&u), &warp(&v)));
        prop_assert_eq!(f.area, w.area);
        prop_assert_eq!(f.superiority, w.superiority);
        prop_assert_eq!(f.max_gap, w.max_gap);
    }

    #[test]
    fn order_changes_no_bit(data in prop::collection::vec((score(), score()), 1..30), turn in 0usize..30) {
        let (u, v): (Vec<f64>, Vec<f64>) = data.into_iter().unzip();
        let mut rows = items(&u, &v);
        rows.iter_mut().for_each(|r| r.cluster /= 2);
        let options = FrontierOptions { bootstrap: 300, ..FrontierOptions::default() };
        let before = frontier(&rows, &options).unwrap();
        let len = rows.len();
        rows.rotate_left(turn % len);
        rows.reverse();
        prop_assert_eq!(frontier(&rows, &options).unwrap(), before);
    }
}

#[test]
fn no_effect_and_no_items() {
    let u: Vec<f64> = (0..50).map(|i| f64::from(i) / 50.0).collect();
    let f = compute(&u, &u);
    assert_eq!(
        (f.dominance, f.area, f.median_lift.value, f.superiority),
        (Some(0.0), Some(0.5), Some(0.0), Some(0.5))
    );
    assert!(!f.strictly_dominant && f.overtakes.is_empty());
    let none = compute(&[], &[]);
    assert_eq!(
        (none.n, none.area, none.dominance, none.median_lift.value, none.max_gap),
        (0, None, None, None, None)
    );
    assert_eq!(
        (none.p_dominance, none.quantiles.len(), none.confidence_overtaken),
        (None, 0, None)
    );
    let one = compute(&[0.2], &[f64::NAN]);
    assert_eq!((one.n, one.invalid), (0, 1));
    assert!(
        frontier(
            &[],
            &FrontierOptions {
                confidence: 0.0,
                ..FrontierOptions::default()
            }
        )
        .is_err()
    );
}

/// The band holds the whole gap at once, so it is wider than the pointwise interval and narrows with the square root.
#[test]
fn bands_widen_pointwise_intervals() {
    let uniform = |i: u64| fracture_science::identity(&[&i.to_string()]) as f64 / u64::MAX as f64;
    let u: Vec<f64> = (0..1500).map(|i| uniform(2 * i)).collect();
    let v: Vec<f64> = (0..1500).map(|i| uniform(2 * i + 1)).collect();
    let f = frontier(&items(&u, &v), &FrontierOptions::default()).unwrap();
    let middle = f
        .curve
        .iter()
        .min_by(|a, b| (a.threshold - 0.5).abs().total_cmp(&(b.threshold - 0.5).abs()))
        .unwrap();
    let half = (middle.high.unwrap() - middle.low.unwrap()) / 2.0;
    let pointwise = (0.5f64 / 1500.0).sqrt();
    assert!(half > 2.2 * pointwise && half < 3.6 * pointwise, "{half} {pointwise}");
    assert!(
        f.curve.iter().all(|p| p.low.unwrap() <= 0.0 && p.high.unwrap() >= 0.0),
        "no effect leaves the band"
    );
}

/// Deploy risk above train risk in every item is dominance; the shift function shows it at every decile.
#[test]
fn a_shift_is_dominance() {
    let uniform = |i: u64| fracture_science::identity(&[&i.to_string()]) as f64 / u64::MAX as f64;
    let u: Vec<f64> = (0..400).map(|i| 0.7 * uniform(i)).collect();
    let v: Vec<f64> = u.iter().map(|u| u + 0.3).collect();
    let f = compute(&u, &v);
    assert!(f.strictly_dominant && f.p_dominance.unwrap() < 0.01);
    for quantile in &f.quantiles {
        close(quantile.lift.value.unwrap(), 0.3, 1e-9);
        close(quantile.lift.low.unwrap(), 0.3, 1e-9);
    }
    let back = compute(&v, &u);
    assert!(!back.strictly_dominant && back.p_dominance.unwrap() > 0.5);
}

#[test]
fn samples_are_reduced_by_their_valid_mean() {
    let pair = Pair {
        item: 1,
        cluster: 2,
        first: &[0.2, f64::NAN, 0.4],
        second: &[0.5, 0.7, 0.9],
    };
    let missing = Pair {
        item: 2,
        cluster: 2,
        first: &[],
        second: &[0.5],
    };
    let reduced = reduce(&[pair, missing], Aggregate::Product);
    assert_eq!(reduced.len(), 1);
    close(reduced[0].first, 0.3, 1e-12);
    close(reduced[0].second, 0.7, 1e-12);
}
