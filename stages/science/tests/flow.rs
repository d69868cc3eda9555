//! Flow: what must vanish, what must not change, the crossings and their intervals (SCIENCE.md B3). The golden values were
//! computed with numpy and scikit-learn on the same closed-form points.

#![allow(clippy::unwrap_used)]

use fracture_science::{
    Boundary, EntryOptions, FlowItem, Plane, auc, displacement, embed_mean, entry, identity, principal_components,
    wilson,
};
use proptest::prelude::*;

fn uniform(parts: &[&str], i: usize) -> f64 {
    let i = i.to_string();
    let parts: Vec<&str> = parts.iter().copied().chain([i.as_str()]).collect();
    identity(&parts) as f64 / u64::MAX as f64
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "found {found}, expected {expected}"
    );
}

fn with(boundary: Boundary) -> EntryOptions {
    EntryOptions {
        boundary,
        bootstrap: 500,
        ..EntryOptions::default()
    }
}

/// Points on the sphere in `d` dimensions; `shift` pushes them along the first axis.
fn cloud(name: &str, n: usize, d: usize, shift: impl Fn(usize) -> f64) -> Vec<Vec<f64>> {
    let point = |i: usize| {
        let mut x: Vec<f64> = (0..d).map(|j| uniform(&[name, &j.to_string()], i) - 0.5).collect();
        x[0] += shift(i);
        embed_mean([x.as_slice()]).unwrap()
    };
    (0..n).map(point).collect()
}

fn flow<'a>(
    first: &'a [Vec<f64>],
    second: &'a [Vec<f64>],
    labels: impl Fn(usize) -> [Option<bool>; 2],
) -> Vec<FlowItem<'a>> {
    let item = |(i, (a, b)): (usize, (&'a Vec<f64>, &'a Vec<f64>))| FlowItem {
        item: i as u64,
        cluster: i as u64,
        first: a,
        second: b,
        labels: labels(i),
    };
    first.iter().zip(second).enumerate().map(item).collect()
}

#[test]
fn identical_regimes_do_not_move() {
    let x = cloud("x", 80, 6, |_| 0.0);
    let items = flow(&x, &x, |i| [Some(i % 2 == 0); 2]);
    let d = displacement(&items, 0.95, 500, 0).unwrap();
    assert_eq!(
        (d.med_drift.value, d.resultant, d.p_drift),
        (Some(0.0), Some(0.0), Some(1.0))
    );
    let e = entry(&items, None, &with(Boundary::Logistic)).unwrap();
    assert_eq!(
        (e.entry.value, e.exit.value, e.net_entry.value, e.depth),
        (Some(0.0), Some(0.0), Some(0.0), Some(0.0))
    );
}

#[test]
fn rotation_and_order_change_nothing_a_common_direction_is_seen() {
    let (a, b) = (cloud("a", 91, 4, |_| 0.0), cloud("b", 91, 4, |_| 3.0));
    let d = displacement(&flow(&a, &b, |_| [None; 2]), 0.95, 999, 0).unwrap();
    assert!(d.resultant.unwrap() > 0.6 && d.first_direction_share.unwrap() > 0.55);
    assert_eq!(d.p_drift, Some(1.0 / 1000.0));
    close(
        d.med_cosine_drift.unwrap(),
        d.med_drift.value.unwrap().powi(2) / 2.0,
        1e-9,
    );
    let turn = |x: &Vec<f64>| vec![0.6 * x[0] - 0.8 * x[1], 0.8 * x[0] + 0.6 * x[1], -x[3], x[2]];
    let (ra, rb): (Vec<_>, Vec<_>) = (a.iter().map(turn).collect(), b.iter().map(turn).collect());
    let r = displacement(&flow(&ra, &rb, |_| [None; 2]), 0.95, 999, 0).unwrap();
    close(r.med_drift.value.unwrap(), d.med_drift.value.unwrap(), 1e-12);
    close(r.resultant.unwrap(), d.resultant.unwrap(), 1e-12);
    close(r.first_direction_share.unwrap(), d.first_direction_share.unwrap(), 1e-9);
    let mut reversed = flow(&a, &b, |_| [None; 2]);
    reversed.reverse();
    assert_eq!(displacement(&reversed, 0.95, 999, 0).unwrap(), d);
    let none = displacement(&flow(&a, &cloud("c", 91, 4, |_| 0.0), |_| [None; 2]), 0.95, 999, 0).unwrap();
    assert!(
        none.p_drift.unwrap() > 0.01,
        "no common direction, p {:?}",
        none.p_drift
    );
}

#[test]
fn entry_is_found_with_every_boundary_and_refused_without_signal() {
    let flips = |i: usize| i.is_multiple_of(4);
    let (a, b) = (
        cloud("a", 200, 5, |_| -1.0),
        cloud("b", 200, 5, |i| if flips(i) { 1.0 } else { -1.0 }),
    );
    let items = flow(&a, &b, |i| [Some(false), Some(flips(i))]);
    for boundary in [Boundary::Logistic, Boundary::Centroid, Boundary::Knn] {
        let e = entry(&items, None, &with(boundary)).unwrap();
        assert_eq!(
            (e.entry.value, e.exit.value, e.unsafe_completions),
            (Some(0.25), Some(0.0), 50),
            "{boundary:?}"
        );
        assert!(e.headline && e.boundary_auc.unwrap() > 0.99 && e.depth.is_some());
        assert_eq!(e.caveat(), None);
        let interval = wilson(50, 200, 0.95).unwrap();
        assert_eq!((e.entry.low, e.entry.high), (Some(interval.low), Some(interval.high)));
        assert!(e.net_entry.low.unwrap() < 0.25 && e.net_entry.high.unwrap() > 0.25);
        assert_eq!(e.plane.is_some(), boundary != Boundary::Knn);
    }
    let noise = flow(&a, &b, |i| {
        [Some(uniform(&["l"], i) < 0.5), Some(uniform(&["m"], i) < 0.5)]
    });
    let e = entry(&noise, None, &with(Boundary::Logistic)).unwrap();
    assert!(!e.headline, "AUC {:?}", e.boundary_auc);
    assert!(e.caveat().unwrap().contains("is below 0.7"), "{:?}", e.caveat());
    let one_class = flow(&a, &b, |_| [Some(false); 2]);
    let e = entry(&one_class, None, &with(Boundary::Logistic)).unwrap();
    assert_eq!((e.n, e.entry.value, e.boundary_auc, e.headline), (0, None, None, false));
    assert!(e.caveat().unwrap().contains("one class"));
    assert_eq!(
        auc(&[(0.1, false), (0.4, true), (0.4, false), (0.9, true)]),
        Some(0.875)
    );
}

#[test]
fn components_of_known_variances() {
    let points: Vec<Vec<f64>> = (0..400)
        .map(|i| {
            (0..3)
                .map(|j| (uniform(&["p", &j.to_string()], i) - 0.5) * [1.0, 4.0, 2.0][j])
                .collect()
        })
        .collect();
    let rows: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
    let p = principal_components(&rows, 2);
    assert!(
        p.directions[0][1] > 0.98 && p.directions[1][2] > 0.98,
        "{:?}",
        p.directions
    );
    close(p.shares[0], 16.0 / 21.0, 0.03);
    let projected: Vec<f64> = rows.iter().map(|r| p.project(r)[0]).collect();
    close(projected.iter().sum::<f64>(), 0.0, 1e-9);
    assert_eq!(principal_components(&rows, 2), p);
    assert!(
        principal_components(&[&[1.0, 2.0][..], &[1.0, 2.0][..]], 2)
            .directions
            .is_empty()
    );
}

const MED_DRIFT: f64 = 0.24569777660908998;
const RESULTANT: f64 = 0.8691535645540264;
const FIRST_SHARE: f64 = 0.8372332371622557;
const SHARES: [f64; 3] = [0.39814532419340654, 0.2645923571473164, 0.2153738436507078];
const FIRST_DIRECTION: [f64; 4] = [
    -0.010634317821409556,
    -0.1435506404449033,
    -0.6722160509706212,
    0.7262270345627425,
];
const WEIGHTS: [f64; 4] = [
    7.209111974806934,
    1.5855668057800458,
    -0.12329109885618926,
    -0.9035202675953596,
];
const BIAS: f64 = -0.8152002153783281;
const ENTRY: f64 = 5.0 / 60.0;
const EXIT: f64 = 0.0;
const AUC: f64 = 0.9899553571428571;

/// The points of the golden values: `x_first = sin(a), cos(b), ...` scaled to length 1.
fn golden() -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let point = |i: usize, second: bool| {
        let shift = if second { 0.4 } else { 0.0 };
        let x: Vec<f64> = (0..4)
            .map(|j| ((i * (j + 2)) as f64 * 0.7 + j as f64).sin() + if j == 0 { shift } else { 0.0 })
            .collect();
        embed_mean([x.as_slice()]).unwrap()
    };
    (
        (0..60).map(|i| point(i, false)).collect(),
        (0..60).map(|i| point(i, true)).collect(),
    )
}

/// numpy: `np.median(norm(d))`, `norm(mean(d / norm(d)))`, the first eigenvalue of `d.T @ d` over its trace;
/// scikit-learn: `PCA(n_components=3)` on the points of both regimes.
#[test]
fn golden_values_of_numpy_and_scikit_learn() {
    let (a, b) = golden();
    let d = displacement(&flow(&a, &b, |_| [None; 2]), 0.95, 200, 0).unwrap();
    close(d.med_drift.value.unwrap(), MED_DRIFT, 1e-12);
    close(d.resultant.unwrap(), RESULTANT, 1e-12);
    close(d.first_direction_share.unwrap(), FIRST_SHARE, 1e-12);
    let points: Vec<&[f64]> = a.iter().chain(&b).map(Vec::as_slice).collect();
    let p = principal_components(&points, 3);
    for (found, expected) in p.shares.iter().zip(SHARES) {
        close(*found, expected, 1e-12);
    }
    for (found, expected) in p.directions[0].iter().zip(FIRST_DIRECTION) {
        close(*found, expected, 1e-10);
    }
}

/// scikit-learn: `LogisticRegression(C=1/(1e-3 * n), class_weight="balanced", tol=1e-12)`, whose balanced weights add up to n
/// where ours add up to 1, trained on all completions of another set and asked for `decision_function`.
#[test]
fn a_boundary_from_outside_is_scikit_learns() {
    let (a, b) = golden();
    let outside: Vec<Vec<f64>> = (100..180)
        .map(|i| {
            (0..4)
                .map(|j| ((i * (j + 2)) as f64 * 0.7 + j as f64).sin() / 2.0)
                .collect()
        })
        .collect();
    let labelled: Vec<(&[f64], bool)> = outside
        .iter()
        .enumerate()
        .map(|(i, x)| {
            (
                x.as_slice(),
                x[0] + 0.3 * x[1] + if i % 7 == 0 { -0.5 } else { 0.1 } > 0.0,
            )
        })
        .collect();
    let items = flow(&a, &b, |i| [Some(a[i][0] > 0.2), Some(b[i][0] > 0.2)]);
    let e = entry(&items, Some(&labelled), &with(Boundary::Logistic)).unwrap();
    for (found, expected) in e.plane.as_ref().unwrap().weights.iter().zip(WEIGHTS) {
        close(*found, expected, 1e-5);
    }
    close(e.plane.as_ref().unwrap().bias, BIAS, 1e-5);
    close(e.entry.value.unwrap(), ENTRY, 1e-12);
    close(e.exit.value.unwrap(), EXIT, 1e-12);
    close(e.boundary_auc.unwrap(), AUC, 1e-12);
    let mut reversed = labelled.clone();
    reversed.reverse();
    assert_eq!(entry(&items, Some(&reversed), &with(Boundary::Logistic)).unwrap(), e);
}

/// A boundary that sees the item it scores finds its own labels again; a cross-fitted one does not.
#[test]
fn the_boundary_is_blind_to_the_item_it_scores() {
    // Labels that follow nothing, points in as many dimensions as there are completions: any boundary fits them.
    let (a, b) = (cloud("p", 40, 80, |_| 0.0), cloud("q", 40, 80, |_| 0.0));
    let labels = |i: usize| [Some(uniform(&["x"], i) < 0.5), Some(uniform(&["y"], i) < 0.5)];
    let items = flow(&a, &b, labels);
    let seen: Vec<(&[f64], bool)> = items
        .iter()
        .flat_map(|i| [(i.first, i.labels[0].unwrap()), (i.second, i.labels[1].unwrap())])
        .collect();
    let circular = entry(&items, Some(&seen), &with(Boundary::Logistic)).unwrap();
    assert!(circular.boundary_auc.unwrap() > 0.95);
    let honest = entry(&items, None, &with(Boundary::Logistic)).unwrap();
    assert!(honest.boundary_auc.unwrap() < 0.7, "{:?}", honest.boundary_auc);
    assert!(!honest.headline);
}

/// Wordings of one prompt are one cluster: their crossings are one piece of news, and the interval says so.
#[test]
fn clusters_widen_the_interval() {
    let flips = |i: usize| (i / 4).is_multiple_of(4);
    let (a, b) = (
        cloud("a", 200, 5, |_| -1.0),
        cloud("b", 200, 5, |i| if flips(i) { 1.0 } else { -1.0 }),
    );
    let alone = flow(&a, &b, |i| [Some(false), Some(flips(i))]);
    let together: Vec<FlowItem> = alone
        .iter()
        .map(|i| FlowItem {
            cluster: 1_000_000 + i.item / 4,
            ..*i
        })
        .collect();
    let width = |items: &[FlowItem]| {
        let e = entry(items, None, &with(Boundary::Logistic)).unwrap();
        close(e.entry.value.unwrap(), 0.26, 0.02);
        e.entry.high.unwrap() - e.entry.low.unwrap()
    };
    assert!(width(&together) > 1.6 * width(&alone));
}

#[test]
fn the_line_in_the_plane_is_where_the_score_is_zero() {
    let (a, b) = golden();
    let points: Vec<&[f64]> = a.iter().chain(&b).map(Vec::as_slice).collect();
    let p = principal_components(&points, 2);
    let plane = Plane {
        weights: vec![1.0, -0.5, 0.25, 2.0],
        bias: 0.1,
    };
    let [x, y, c] = p.line(&plane).unwrap();
    for (s, t) in [(0.3, -0.2), (1.0, 0.7)] {
        let inside: Vec<f64> = (0..4)
            .map(|j| p.mean[j] + s * p.directions[0][j] + t * p.directions[1][j])
            .collect();
        close(x * s + y * t + c, plane.score(&inside), 1e-12);
    }
    assert_eq!(principal_components(&points, 1).line(&plane), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Swapping the regimes swaps Entry and Exit, turns the displacement round, and leaves how far and how uniformly alone.
    #[test]
    fn swapping_regimes_mirrors(n in 12usize..40, seed in 0u64..50, boundary in 0usize..3) {
        let name = seed.to_string();
        let (a, b) = (cloud(&name, n, 3, |_| 0.2), cloud("s", n, 3, |i| 0.1 * (i % 5) as f64));
        let labels = |i: usize| [Some(uniform(&[&name, "l"], i) < 0.4), Some(uniform(&[&name, "m"], i) < 0.6)];
        let items = flow(&a, &b, labels);
        let swapped: Vec<FlowItem> = items
            .iter()
            .map(|i| FlowItem { first: i.second, second: i.first, labels: [i.labels[1], i.labels[0]], ..*i })
            .collect();
        let (one, other) = (displacement(&items, 0.95, 200, 0).unwrap(), displacement(&swapped, 0.95, 200, 0).unwrap());
        prop_assert_eq!(one.med_drift, other.med_drift);
        prop_assert!((one.resultant.unwrap() - other.resultant.unwrap()).abs() < 1e-12);
        prop_assert_eq!(one.p_drift, other.p_drift);
        let boundary = [Boundary::Logistic, Boundary::Centroid, Boundary::Knn][boundary];
        let (one, other) = (entry(&items, None, &with(boundary)).unwrap(), entry(&swapped, None, &with(boundary)).unwrap());
        prop_assert_eq!((one.entry.value, one.exit.value), (other.exit.value, other.entry.value));
        prop_assert_eq!(one.net_entry.value, other.net_entry.value.map(|x| -x + 0.0));
        prop_assert!((one.depth.unwrap() + other.depth.unwrap()).abs() < 1e-6);
        prop_assert!((one.boundary_auc.unwrap() - other.boundary_auc.unwrap()).abs() < 1e-9);
    }

    /// The order of the items is in no bit, even where an item stands in the group twice.
    #[test]
    fn order_is_in_no_bit(n in 8usize..30, turn in 1usize..29) {
        let (a, b) = (cloud("o", n, 4, |_| 0.0), cloud("p", n, 4, |_| 0.3));
        let mut items = flow(&a, &b, |i| [Some(i % 3 == 0), Some(i % 2 == 0)]);
        for i in 0..n / 2 {
            (items[i].item, items[i].cluster) = (items[n - 1 - i].item, items[n - 1 - i].cluster);
        }
        let mut moved = items.clone();
        moved.rotate_left(turn % n);
        prop_assert_eq!(displacement(&items, 0.95, 200, 0).unwrap(), displacement(&moved, 0.95, 200, 0).unwrap());
        let (mut e, f) = (
            entry(&items, None, &with(Boundary::Logistic)).unwrap(),
            entry(&moved, None, &with(Boundary::Logistic)).unwrap(),
        );
        e.scores.rotate_left(turn % n);
        prop_assert_eq!(e, f);
    }
}
