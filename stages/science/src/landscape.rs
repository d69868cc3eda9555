//! The flip landscape over temperature and top-p: values, gradient and ridges (SCIENCE.md B4).
//!
//! Cells share their items, and a cluster weighs the same in every cell of a bootstrap draw, so that differences between
//! cells are paired draw by draw without any bookkeeping.

use serde::Serialize;

use crate::bootstrap::{ClusterSums, percentile};
use crate::compare::{Metric, item_means, metric_sums};
use crate::error::{Result, ScienceError, require};
use crate::fracture::{FlipOptions, Pair};
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
pub(crate) struct Measured {
    pub(crate) n: usize,
    pub(crate) value: Option<f64>,
    pub(crate) clusters: usize,
    pub(crate) draws: Vec<f64>,
    pub(crate) items: std::collections::BTreeMap<u64, (u64, f64)>,
}

pub(crate) fn measure(cell: &SurfaceCell, metric: Metric, options: &FlipOptions) -> Measured {
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

/// The grid: where each (temperature, top-p) lies among the cells. The values of top-p are those of the sampled cells: what
/// a greedy cell says of it has no effect.
pub(crate) struct Grid {
    pub(crate) temperatures: Vec<f64>,
    pub(crate) top_ps: Vec<f64>,
    /// `[temperature][top_p]`.
    pub(crate) cells: Vec<Vec<Option<usize>>>,
}

impl Grid {
    pub(crate) fn new(cells: &[SurfaceCell]) -> Result<Self> {
        for cell in cells {
            require(cell.temperature >= 0.0, "temperature", cell.temperature, "at least 0")?;
            require(cell.top_p > 0.0 && cell.top_p <= 1.0, "top_p", cell.top_p, "in (0, 1]")?;
        }
        let temperatures = axis(cells.iter().map(|c| c.temperature));
        let sampled = || cells.iter().filter(|c| c.temperature > 0.0);
        let top_ps = match sampled().next() {
            Some(_) => axis(sampled().map(|c| c.top_p)),
            None => axis(cells.iter().map(|c| c.top_p)),
        };
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
        // Along temperature a greedy cell stands at the greatest top-p, the one that changes a distribution least.
        let (t, p) = (
            place(&self.temperatures, cell.temperature),
            if cell.temperature == 0.0 {
                self.top_ps.len().saturating_sub(1)
            } else {
                place(&self.top_ps, cell.top_p)
            },
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
pub(crate) fn deviation(draws: &[f64]) -> Option<f64> {
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
