//! Caps on temperature and top-p that keep a risk budget, chosen on one half of the items and reported on the other
//! (SCIENCE.md B4, C12).

use serde::Serialize;

use crate::bootstrap::{percentile, quantile};
use crate::compare::Metric;
use crate::error::{Result, require};
use crate::fracture::{FlipOptions, half};
use crate::interval::{Estimate, Method};
use crate::landscape::{Grid, Measured, SurfaceCell, deviation, measure};

/// The half of the items that caps are chosen on, an index into [`Cap::halves`]; the other one reports.
pub const CHOOSING: usize = 0;
/// The half of the items that caps are reported on.
pub const REPORTING: usize = 1;

/// The greatest risk before and after a cap, on one half of the items.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CappedRisk {
    /// Greatest metric over the whole grid.
    pub before: Estimate,
    /// Greatest metric over the allowed cells.
    pub after: Estimate,
    /// `before - after`, paired draw by draw; never below 0.
    pub reduction: Estimate,
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
    /// What it does on the half that it was chosen on ([`CHOOSING`], optimistic) and on the other one ([`REPORTING`]).
    pub halves: [CappedRisk; 2],
}

/// The caps that keep a risk budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Caps {
    /// The budget.
    pub budget: f64,
    /// Maximal feasible caps, temperature ascending. Empty: no cap meets the budget, not even greedy decoding.
    pub staircase: Vec<Cap>,
    /// The index of the cap of the largest area (temperature times top-p) among them, the hotter one among equals.
    pub chosen: Option<usize>,
    /// Greatest metric over the whole grid, on both halves.
    pub before: [Estimate; 2],
    /// Distinct items with a valid pair in any cell, on both halves.
    pub items: [usize; 2],
    /// Simultaneous upper limit of every cell on the choosing half, in the order of the cells.
    pub upper: Vec<Option<f64>>,
}

/// Chooses caps for each budget on one half of the items and reports them on the other. A cap is feasible when the
/// simultaneous upper limit of every cell it allows is within the budget. A setting of the grid that was not measured, or
/// has no valid row, makes every cap that would allow it infeasible: nobody knows what it does.
///
/// # Errors
/// When a setting is outside its range or occurs twice, or a budget is not a number.
pub fn caps(cells: &[SurfaceCell], budgets: &[f64], metric: Metric, options: &FlipOptions) -> Result<Vec<Caps>> {
    for &budget in budgets {
        require(!budget.is_nan(), "budget", budget, "a number")?;
    }
    let grid = Grid::new(cells)?;
    let part = |which: usize| -> Vec<Measured> {
        let cut = |cell: &SurfaceCell| -> Measured {
            let kept = cell.pairs.iter().filter(|pair| half(pair.item, options.seed) == which);
            let pairs = kept.copied().collect();
            measure(&SurfaceCell { pairs, ..*cell }, metric, options)
        };
        cells.iter().map(cut).collect()
    };
    let halves = [part(CHOOSING), part(REPORTING)];
    let chooser = Chooser {
        cells,
        grid: &grid,
        upper: upper_limits(&halves[CHOOSING], options.confidence),
        halves: &halves,
        options,
    };
    Ok(budgets.iter().map(|&budget| chooser.caps(budget)).collect())
}

/// What the caps of every budget are chosen from.
struct Chooser<'a> {
    cells: &'a [SurfaceCell<'a>],
    grid: &'a Grid,
    upper: Vec<Option<f64>>,
    halves: &'a [Vec<Measured>; 2],
    options: &'a FlipOptions,
}

impl Chooser<'_> {
    fn caps(&self, budget: f64) -> Caps {
        let mut staircase: Vec<Cap> = Vec::new();
        for &t in self.grid.temperatures.iter().rev() {
            let feasible = |p: f64| self.feasible(t, p, budget);
            let Some(&p) = self.grid.top_ps.iter().rev().find(|&&p| feasible(p)) else {
                continue;
            };
            if staircase.last().is_none_or(|cap| cap.top_p < p) {
                let inside = self.allowed(t, p);
                staircase.push(Cap {
                    temperature: t,
                    top_p: p,
                    cells: inside.len(),
                    halves: [CHOOSING, REPORTING].map(|half| self.risk(half, &inside)),
                });
            }
        }
        staircase.reverse();
        let area = |cap: &Cap| (cap.temperature * cap.top_p, cap.temperature);
        let chosen = (0..staircase.len()).max_by(|&a, &b| {
            let (a, b) = (area(&staircase[a]), area(&staircase[b]));
            a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let everything: Vec<usize> = (0..self.cells.len()).collect();
        let half = |which: usize| self.maximum(which, &everything);
        Caps {
            budget,
            staircase,
            chosen,
            before: [CHOOSING, REPORTING].map(|which| estimate(&half(which), self.options)),
            items: [CHOOSING, REPORTING].map(|which| items(&self.halves[which])),
            upper: self.upper.clone(),
        }
    }

    /// The measured cells that a cap allows.
    fn allowed(&self, t: f64, p: f64) -> Vec<usize> {
        let inside = |c: &SurfaceCell| c.temperature <= t && (c.top_p <= p || c.temperature == 0.0);
        (0..self.cells.len()).filter(|&i| inside(&self.cells[i])).collect()
    }

    fn feasible(&self, t: f64, p: f64, budget: f64) -> bool {
        let below = |axis: &[f64], limit: f64| axis.partition_point(|&x| x <= limit);
        let columns = below(&self.grid.top_ps, p);
        let mut settings = self.grid.cells[..below(&self.grid.temperatures, t)]
            .iter()
            .flat_map(|row| &row[..columns]);
        settings.all(|cell| cell.is_some_and(|i| self.upper[i].is_some_and(|upper| upper <= budget)))
    }

    fn risk(&self, half: usize, inside: &[usize]) -> CappedRisk {
        let everything: Vec<usize> = (0..self.cells.len()).collect();
        let (before, after) = (self.maximum(half, &everything), self.maximum(half, inside));
        let reduction = Maximum {
            value: before.value.zip(after.value).map(|(before, after)| before - after),
            draws: before.draws.iter().zip(&after.draws).map(|(b, a)| b - a).collect(),
        };
        let [before, after, reduction] = [before, after, reduction].map(|m| estimate(&m, self.options));
        CappedRisk {
            before,
            after,
            reduction,
        }
    }

    /// The greatest metric over some cells, and in every draw.
    fn maximum(&self, half: usize, which: &[usize]) -> Maximum {
        let cells = &self.halves[half];
        let draws = which.iter().map(|&i| cells[i].draws.len()).max().unwrap_or(0);
        let mut maxima = vec![f64::NAN; draws];
        for &i in which {
            maxima
                .iter_mut()
                .zip(&cells[i].draws)
                .for_each(|(max, &draw)| *max = max.max(draw));
        }
        Maximum {
            value: which.iter().filter_map(|&i| cells[i].value).reduce(f64::max),
            draws: maxima,
        }
    }
}

/// The greatest value of several cells with its bootstrap draws.
struct Maximum {
    value: Option<f64>,
    draws: Vec<f64>,
}

fn estimate(maximum: &Maximum, options: &FlipOptions) -> Estimate {
    let interval = percentile(&maximum.draws, options.confidence);
    Estimate::new(maximum.value, interval, Method::ClusterBootstrap)
}

/// Distinct items of several cells.
fn items(cells: &[Measured]) -> usize {
    let mut items: Vec<u64> = cells.iter().flat_map(|cell| cell.items.keys().copied()).collect();
    items.sort_unstable();
    items.dedup();
    items.len()
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
