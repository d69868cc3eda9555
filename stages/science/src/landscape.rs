//! The flip landscape over temperature and top-p: gradient, ridges, and caps for a risk budget (SCIENCE.md B4).
//!
//! Cells share their items, and a cluster weighs the same in every cell of a bootstrap draw, so that differences between
//! cells are paired draw by draw without any bookkeeping.

use serde::Serialize;

use crate::bootstrap::{ClusterSums, percentile, quantile};
use crate::compare::{Metric, item_means, metric_sums};
use crate::error::{Result, ScienceError, require};
use crate::fracture::{FlipOptions, Pair, half};
use crate::interval::{Estimate, Method};
use crate::mcnemar::sign_flip_p;
use crate::multiplicity::holm;

/// One decoder setting with the rows measured under it. At temperature 0 top-p has no effect: one cell stands for all.
#[derive(Debug, Clone, PartialEq)]
pub struct SurfaceCell<'a> {
    /// Sampling temperature.
    pub temperature: f64,
    /// Nucleus mass.
    pub top_p: f64,
    /// The rows of this setting.
    pub pairs: Vec<Pair<'a>>,
}

/// The shape of the landscape at one cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LandscapeCell {
    /// Sampling temperature.
    pub temperature: f64,
    /// Nucleus mass.
    pub top_p: f64,
    /// Rows with a valid pair.
    pub n: usize,
    /// The metric with its bootstrap interval.
    pub value: Estimate,
    /// Slope along temperature: central difference, one-sided at the edge.
    pub gradient_temperature: Option<f64>,
    /// Its bootstrap standard error.
    pub gradient_temperature_se: Option<f64>,
    /// Slope along top-p.
    pub gradient_top_p: Option<f64>,
    /// Its bootstrap standard error.
    pub gradient_top_p_se: Option<f64>,
    /// Whether the cell is higher than both neighbours along an axis, resolved at a Holm-adjusted one-sided .05.
    pub ridge: bool,
    /// The smaller adjusted p of the two axes; `None` without two neighbours on any.
    pub ridge_p: Option<f64>,
}

/// A cell with its metric, its bootstrap draws and its items.
struct Measured {
    n: usize,
    value: Option<f64>,
    clusters: usize,
    draws: Vec<f64>,
    items: std::collections::BTreeMap<u64, (u64, f64)>,
}

fn measure(cell: &SurfaceCell, metric: Metric, options: &FlipOptions) -> Measured {
    let (sums, n): (ClusterSums, usize) = metric_sums(&cell.pairs, metric, options);
    let total = sums.total();
    let columns = if sums.len() >= 2 {
        sums.draws(options.bootstrap, options.seed)
    } else {
        vec![Vec::new(); 2]
    };
    Measured {
        n,
        value: (n > 0).then(|| total[0] / total[1]),
        clusters: sums.len(),
        draws: columns[0].iter().zip(&columns[1]).map(|(x, n)| x / n).collect(),
        items: item_means(&cell.pairs, metric, options),
    }
}

/// Distinct values, ascending.
fn axis(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut axis: Vec<f64> = values.collect();
    axis.sort_by(f64::total_cmp);
    axis.dedup();
    axis
}

/// The grid: where each (temperature, top-p) lies among the cells.
struct Grid {
    temperatures: Vec<f64>,
    top_ps: Vec<f64>,
    /// `[temperature][top_p]`.
    cells: Vec<Vec<Option<usize>>>,
}

impl Grid {
    fn new(cells: &[SurfaceCell]) -> Result<Self> {
        for cell in cells {
            require(cell.temperature >= 0.0, "temperature", cell.temperature, "at least 0")?;
            require(cell.top_p > 0.0 && cell.top_p <= 1.0, "top_p", cell.top_p, "in (0, 1]")?;
        }
        let temperatures = axis(cells.iter().map(|c| c.temperature));
        let top_ps = axis(cells.iter().map(|c| c.top_p));
        let at = |t: f64, p: f64| {
            cells
                .iter()
                .position(|c| c.temperature == t && (c.top_p == p || t == 0.0))
        };
        let rows = temperatures
            .iter()
            .map(|&t| top_ps.iter().map(|&p| at(t, p)).collect())
            .collect();
        let twice = cells
            .iter()
            .enumerate()
            .find(|(i, c)| at(c.temperature, c.top_p) != Some(*i));
        if let Some((_, cell)) = twice {
            let what = format!(
                "two cells of the landscape have T={}, top_p={}",
                cell.temperature, cell.top_p
            );
            return Err(ScienceError::Unsolvable(what));
        }
        Ok(Self {
            temperatures,
            top_ps,
            cells: rows,
        })
    }

    /// The neighbours of a cell along temperature (`axis` 0) or top-p (1), lower and higher, with their coordinate.
    fn neighbours(&self, cell: &SurfaceCell, axis: usize) -> [Option<(usize, f64)>; 2] {
        let place = |axis: &[f64], x: f64| axis.iter().position(|&y| y == x).unwrap_or(0);
        let (t, p) = (
            place(&self.temperatures, cell.temperature),
            place(&self.top_ps, cell.top_p),
        );
        // Greedy decoding is one cell: along top-p it has no neighbours.
        if axis == 1 && cell.temperature == 0.0 {
            return [None, None];
        }
        let find = |step: isize| {
            let (t, p) = if axis == 0 {
                (t.checked_add_signed(step)?, p)
            } else {
                (t, p.checked_add_signed(step)?)
            };
            let index = (*self.cells.get(t)?.get(p)?)?;
            Some((
                index,
                if axis == 0 {
                    self.temperatures[t]
                } else {
                    self.top_ps[p]
                },
            ))
        };
        [find(-1), find(1)]
    }
}

/// Values, gradients and ridges of a landscape, in the order of the cells.
///
/// # Errors
/// When a setting is outside its range or occurs twice.
pub fn surface(cells: &[SurfaceCell], metric: Metric, options: &FlipOptions) -> Result<Vec<LandscapeCell>> {
    let grid = Grid::new(cells)?;
    let measured: Vec<Measured> = cells.iter().map(|cell| measure(cell, metric, options)).collect();
    let tests: Vec<[Option<f64>; 2]> = cells
        .iter()
        .enumerate()
        .map(|(i, cell)| [0, 1].map(|axis| ridge_test(&measured, i, grid.neighbours(cell, axis), options)))
        .collect();
    let adjusted = holm(tests.as_flattened());
    let cell = |(i, cell): (usize, &SurfaceCell)| {
        let slope = |axis: usize| {
            let own = if axis == 0 { cell.temperature } else { cell.top_p };
            gradient(&measured, (i, own), grid.neighbours(cell, axis))
        };
        let (along_t, along_p) = (slope(0), slope(1));
        let ridge_p = adjusted[2 * i..2 * i + 2].iter().flatten().copied().reduce(f64::min);
        let here = &measured[i];
        LandscapeCell {
            temperature: cell.temperature,
            top_p: cell.top_p,
            n: here.n,
            value: Estimate::new(
                here.value,
                percentile(&here.draws, options.confidence),
                Method::ClusterBootstrap,
            ),
            gradient_temperature: along_t.map(|g| g.0),
            gradient_temperature_se: along_t.and_then(|g| g.1),
            gradient_top_p: along_p.map(|g| g.0),
            gradient_top_p_se: along_p.and_then(|g| g.1),
            ridge: ridge_p.is_some_and(|p| p < 0.05),
            ridge_p,
        }
    };
    Ok(cells.iter().enumerate().map(cell).collect())
}

/// The slope between the neighbours (the cell itself standing in for a missing one) and its bootstrap SE.
fn gradient(
    cells: &[Measured],
    own: (usize, f64),
    [lower, higher]: [Option<(usize, f64)>; 2],
) -> Option<(f64, Option<f64>)> {
    let ((a, x), (b, y)) = (lower.unwrap_or(own), higher.unwrap_or(own));
    if a == b {
        return None;
    }
    let slope = (cells[b].value? - cells[a].value?) / (y - x);
    let draws: Vec<f64> = cells[b]
        .draws
        .iter()
        .zip(&cells[a].draws)
        .map(|(b, a)| (b - a) / (y - x))
        .collect();
    Some((slope, deviation(&draws)))
}

/// Standard deviation of the draws that are numbers.
fn deviation(draws: &[f64]) -> Option<f64> {
    let defined: Vec<f64> = draws.iter().copied().filter(|d| !d.is_nan()).collect();
    let n = defined.len() as f64;
    let mean = defined.iter().sum::<f64>() / n;
    (defined.len() >= 2).then(|| (defined.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt())
}

/// One-sided p that a cell is higher than both neighbours: the larger of the two paired sign-flip p values (an
/// intersection-union test needs no further correction).
fn ridge_test(
    cells: &[Measured],
    own: usize,
    [lower, higher]: [Option<(usize, f64)>; 2],
    options: &FlipOptions,
) -> Option<f64> {
    let one_sided = |other: usize| -> Option<f64> {
        let mut differences: Vec<(u64, f64)> = cells[own]
            .items
            .iter()
            .filter_map(|(item, (cluster, x))| Some((*cluster, x - cells[other].items.get(item)?.1)))
            .collect();
        differences.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let by_cluster: Vec<(u64, f64)> = differences
            .chunk_by(|a, b| a.0 == b.0)
            .map(|d| (d[0].0, d.iter().map(|x| x.1).sum()))
            .collect();
        let rise: f64 = by_cluster.iter().map(|d| d.1).sum();
        let p = sign_flip_p(&by_cluster, options.bootstrap, options.seed)?;
        Some(if rise > 0.0 { 0.5 * p } else { 1.0 - 0.5 * p })
    };
    Some(one_sided(lower?.0)?.max(one_sided(higher?.0)?))
}

/// A cap that allows every decoder with `T <= temperature` and `p <= top_p`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cap {
    /// Highest temperature allowed.
    pub temperature: f64,
    /// Highest top-p allowed.
    pub top_p: f64,
    /// Cells of the grid it allows.
    pub cells: usize,
    /// Greatest metric over the whole grid, on the held-out half.
    pub before: Estimate,
    /// Greatest metric over the allowed cells, on the held-out half.
    pub after: Estimate,
}

/// The caps that keep a risk budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Caps {
    /// The budget.
    pub budget: f64,
    /// The half of the items the caps were chosen on; before and after are of the other one.
    pub half: usize,
    /// Maximal feasible caps, temperature ascending. Empty: no cap meets the budget, not even greedy decoding.
    pub staircase: Vec<Cap>,
    /// The index of the cap of the largest area among them.
    pub chosen: Option<usize>,
    /// Simultaneous upper limit of every cell on the choosing half, in the order of the cells.
    pub upper: Vec<Option<f64>>,
}

/// Chooses caps on one half of the items and reports them on the other. A cap is feasible when the simultaneous upper
/// limit of every cell it allows is within the budget; a cell without valid rows makes it infeasible.
///
/// # Errors
/// When a setting is outside its range or occurs twice, or the budget is not a number.
pub fn caps(cells: &[SurfaceCell], budget: f64, metric: Metric, options: &FlipOptions) -> Result<Caps> {
    require(!budget.is_nan(), "budget", budget, "a number")?;
    let grid = Grid::new(cells)?;
    let part = |which: usize| -> Vec<Measured> {
        let cut = |cell: &SurfaceCell| -> Measured {
            let kept = cell.pairs.iter().filter(|pair| half(pair.item, options.seed) == which);
            measure(
                &SurfaceCell {
                    pairs: kept.copied().collect(),
                    ..*cell
                },
                metric,
                options,
            )
        };
        cells.iter().map(cut).collect()
    };
    let (choosing, reporting) = (part(0), part(1));
    let upper = upper_limits(&choosing, options.confidence);
    let allowed = |t: f64, p: f64| -> Vec<usize> {
        let inside = |c: &SurfaceCell| c.temperature <= t && (c.top_p <= p || c.temperature == 0.0);
        cells
            .iter()
            .enumerate()
            .filter(|(_, c)| inside(c))
            .map(|(i, _)| i)
            .collect()
    };
    let feasible = |t: f64, p: f64| {
        let inside = allowed(t, p);
        !inside.is_empty() && inside.iter().all(|&i| upper[i].is_some_and(|u| u <= budget))
    };
    let everything: Vec<usize> = (0..cells.len()).collect();
    let mut staircase: Vec<Cap> = Vec::new();
    for &t in grid.temperatures.iter().rev() {
        let Some(&p) = grid.top_ps.iter().rev().find(|&&p| feasible(t, p)) else {
            continue;
        };
        if staircase.last().is_none_or(|cap| cap.top_p < p) {
            let inside = allowed(t, p);
            let (before, after) = (
                worst(&reporting, &everything, options),
                worst(&reporting, &inside, options),
            );
            staircase.push(Cap {
                temperature: t,
                top_p: p,
                cells: inside.len(),
                before,
                after,
            });
        }
    }
    staircase.reverse();
    let area = |cap: &Cap| (cap.temperature * cap.top_p, cap.temperature);
    let chosen = (0..staircase.len()).max_by(|&a, &b| {
        let (a, b) = (area(&staircase[a]), area(&staircase[b]));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    Ok(Caps {
        budget,
        half: 0,
        staircase,
        chosen,
        upper,
    })
}

/// Upper limits that hold for all cells at once: the value plus its SE times the quantile of the largest standardised
/// shortfall of a draw. A cell that never varied gets the rule of three at a level shared among the cells.
fn upper_limits(cells: &[Measured], confidence: f64) -> Vec<Option<f64>> {
    let draws = cells.iter().map(|c| c.draws.len()).max().unwrap_or(0);
    let mut largest = vec![0.0f64; draws];
    let errors: Vec<Option<f64>> = cells.iter().map(|c| deviation(&c.draws)).collect();
    for (cell, error) in cells.iter().zip(&errors) {
        if let (Some(value), Some(error)) = (cell.value, error.filter(|e| *e > 0.0)) {
            largest
                .iter_mut()
                .zip(&cell.draws)
                .for_each(|(max, d)| *max = max.max((value - d) / error));
        }
    }
    largest.sort_unstable_by(f64::total_cmp);
    let reach = quantile(&largest, confidence).unwrap_or(0.0);
    let shared = 1.0 - (1.0 - confidence) / cells.len().max(1) as f64;
    let limit = |(cell, error): (&Measured, &Option<f64>)| {
        let value = cell.value?;
        let unseen = crate::interval::rule_of_three(cell.clusters as u64, shared)?;
        Some(match error {
            Some(error) if *error > 0.0 => (value + reach * error).min(1.0),
            _ => (value + unseen).min(1.0),
        })
    };
    cells.iter().zip(&errors).map(limit).collect()
}

/// The greatest metric over some cells with the percentile interval of that maximum.
fn worst(cells: &[Measured], which: &[usize], options: &FlipOptions) -> Estimate {
    let value = which.iter().filter_map(|&i| cells[i].value).reduce(f64::max);
    let draws = which.iter().map(|&i| cells[i].draws.len()).max().unwrap_or(0);
    let greatest = |b: usize| {
        which
            .iter()
            .filter_map(|&i| cells[i].draws.get(b))
            .copied()
            .fold(f64::NAN, f64::max)
    };
    let maxima: Vec<f64> = (0..draws).map(greatest).collect();
    Estimate::new(value, percentile(&maxima, options.confidence), Method::ClusterBootstrap)
}
