//! Landscape: what must vanish, what must not change, and that caps are nested (SCIENCE.md B4).

#![allow(clippy::unwrap_used)]

use fracture_science::{CHOOSING, FlipOptions, Metric, Pair, REPORTING, SurfaceCell, caps, identity, surface};

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

/// Scores of a landscape in which the share of flips at (T, p) is `rate`.
fn scores(n: usize, grid: &[(f64, f64)], rate: impl Fn(f64, f64) -> f64) -> Vec<Vec<[f64; 2]>> {
    let cell = |&(t, p): &(f64, f64)| {
        (0..n)
            .map(|i| [0.1, if uniform(&["cell"], i) < rate(t, p) { 0.9 } else { 0.1 }])
            .collect()
    };
    grid.iter().map(cell).collect()
}

fn cells<'a>(grid: &[(f64, f64)], scores: &'a [Vec<[f64; 2]>]) -> Vec<SurfaceCell<'a>> {
    let pair = |(i, s): (usize, &'a [f64; 2])| Pair {
        item: i as u64,
        cluster: i as u64,
        first: &s[..1],
        second: &s[1..],
    };
    let cell = |(&(temperature, top_p), s): (&(f64, f64), &'a Vec<[f64; 2]>)| SurfaceCell {
        temperature,
        top_p,
        pairs: s.iter().enumerate().map(pair).collect(),
    };
    grid.iter().zip(scores).map(cell).collect()
}

fn grid() -> Vec<(f64, f64)> {
    let mut grid = vec![(0.0, 1.0)];
    for t in [0.4, 0.8, 1.2] {
        grid.extend([0.5, 0.9, 1.0].map(|p| (t, p)));
    }
    grid
}

fn options() -> FlipOptions {
    FlipOptions {
        bootstrap: 1000,
        ..FlipOptions::default()
    }
}

#[test]
fn gradient_and_ridge() {
    let (grid, n) = (grid(), 400);
    let peak = scores(n, &grid, |t, _| if t == 0.8 { 0.5 } else { 0.1 });
    let s = surface(&cells(&grid, &peak), Metric::Fracture, &options()).unwrap();
    for cell in &s {
        assert_eq!(cell.ridge, cell.temperature == 0.8, "{cell:?}");
    }
    let ramp = scores(n, &grid, |t, p| 0.25 * t + 0.2 * p);
    let s = surface(&cells(&grid, &ramp), Metric::Fracture, &options()).unwrap();
    let middle = s.iter().find(|c| c.temperature == 0.8 && c.top_p == 0.9).unwrap();
    close(middle.gradient_temperature.unwrap(), 0.25, 0.06);
    close(middle.gradient_top_p.unwrap(), 0.2, 0.08);
    assert!(middle.gradient_temperature_se.unwrap() > 0.0 && s.iter().all(|c| !c.ridge));
    assert_eq!(s[0].gradient_top_p, None);
    // What a greedy cell says of top-p has no effect.
    let mut odd = cells(&grid, &ramp);
    odd[0].top_p = 0.7;
    let odd = surface(&odd, Metric::Fracture, &options()).unwrap();
    assert_eq!(odd[1..], s[1..]);
    assert_eq!(odd[0].gradient_temperature, s[0].gradient_temperature);
    // One row of the grid: nothing to compare with along temperature; one cell: no gradient at all.
    let row = surface(&cells(&grid[1..4], &ramp[1..4]), Metric::Fracture, &options()).unwrap();
    assert!(
        row.iter()
            .all(|c| c.gradient_temperature.is_none() && c.gradient_top_p.is_some())
    );
    assert!(row[1].ridge_p.is_some() && row[0].ridge_p.is_none());
    let one = surface(&cells(&grid[..1], &ramp[..1]), Metric::Fracture, &options()).unwrap();
    assert_eq!(
        (one[0].gradient_temperature, one[0].ridge_p, one[0].ridge),
        (None, None, false)
    );
    assert!(
        surface(
            &cells(&[(0.0, 1.0), (0.0, 0.5)], &peak[..2]),
            Metric::Fracture,
            &options()
        )
        .is_err()
    );
}

#[test]
fn caps_are_nested_and_all_or_nothing_on_a_constant_surface() {
    let (grid, n) = (grid(), 600);
    let flat = scores(n, &grid, |_, _| 0.2);
    let flat = cells(&grid, &flat);
    let none = caps(&flat, &[0.1], Metric::Fracture, &options()).unwrap().remove(0);
    assert!(none.staircase.is_empty() && none.chosen.is_none());
    let all = caps(&flat, &[0.35], Metric::Fracture, &options()).unwrap().remove(0);
    assert_eq!(all.staircase.len(), 1);
    assert_eq!(
        (
            all.staircase[0].temperature,
            all.staircase[0].top_p,
            all.staircase[0].cells
        ),
        (1.2, 1.0, 10)
    );
    for risk in &all.staircase[0].halves {
        assert_eq!((&risk.before, risk.reduction.value), (&risk.after, Some(0.0)));
    }
    assert!(all.items[CHOOSING] + all.items[REPORTING] == n && all.items[CHOOSING].abs_diff(n / 2) < 60);
    assert_eq!(all.before[REPORTING], all.staircase[0].halves[REPORTING].before);
    // A setting that nobody measured allows no cap that would allow it.
    let hole: Vec<_> = flat
        .iter()
        .filter(|c| (c.temperature, c.top_p) != (0.8, 0.9))
        .cloned()
        .collect();
    let around = caps(&hole, &[0.35], Metric::Fracture, &options()).unwrap().remove(0);
    let steps: Vec<(f64, f64)> = around.staircase.iter().map(|c| (c.temperature, c.top_p)).collect();
    assert_eq!(steps, [(0.4, 1.0), (1.2, 0.5)]);
    let slope = scores(n, &grid, |t, p| 0.3 * t * p);
    let slope = cells(&grid, &slope);
    let mut allowed = Vec::new();
    for budget in [0.05, 0.15, 0.25, 0.35, 0.5] {
        let c = caps(&slope, &[budget], Metric::Fracture, &options()).unwrap().remove(0);
        assert!(
            c.staircase
                .is_sorted_by(|a, b| a.temperature < b.temperature && a.top_p > b.top_p)
        );
        let inside = |t: f64, p: f64| c.staircase.iter().any(|s| t <= s.temperature && p <= s.top_p);
        let now: Vec<(f64, f64)> = grid.iter().copied().filter(|&(t, p)| inside(t, p)).collect();
        assert!(
            allowed.iter().all(|cell| now.contains(cell)),
            "a larger budget allows no less"
        );
        if let Some(chosen) = c.chosen {
            for risk in &c.staircase[chosen].halves {
                let (before, after) = (risk.before.value.unwrap(), risk.after.value.unwrap());
                assert!(after <= before && risk.reduction.low.unwrap() >= 0.0);
                assert!((risk.reduction.value.unwrap() - (before - after)).abs() < 1e-12);
            }
        }
        allowed = now;
    }
    assert_eq!(allowed.len(), grid.len());
}
