//! A value over temperature × top-p: what the landscape and the contour map draw.

use fracture_stage::Error;

use super::{Input, NOTED, needs, required};
use crate::groups::Panel;
use crate::parameters::FigureParameters;
use crate::rows::Rows;
use crate::scale::Scale;

/// The columns of the grid, which no panel shows.
pub const GRID: &[&str] = &["temperature", "top_p", "decoder"];

/// A value at every combination of temperatures and nucleus masses.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The temperatures, ascending.
    pub temperatures: Vec<f64>,
    /// The nucleus masses, ascending.
    pub masses: Vec<f64>,
    /// The values, by temperature and mass; `None` where there is none.
    pub values: Vec<Vec<Option<f64>>>,
    /// Cells on a ridge.
    pub ridge: Vec<(usize, usize)>,
}

/// The column of the value.
pub fn value(parameters: &FigureParameters) -> &str {
    parameters.y.as_deref().unwrap_or("fracture")
}

/// What both plots read.
pub fn input(parameters: &FigureParameters) -> Input {
    let optional: Vec<&str> = ["ridge"].into_iter().chain(NOTED.iter().copied()).collect();
    let columns = required(&["temperature", "top_p", value(parameters)]);
    Input::main(&["landscape"], needs(columns, &optional))
}

impl Field {
    /// The field of a panel's rows. At temperature 0 top-p has no effect, so one row counts for every mass.
    ///
    /// # Errors
    /// When two rows belong to one cell, or the grid has fewer than two temperatures or masses.
    pub fn of(rows: &Rows, panel: &Panel, name: &str) -> Result<Self, Error> {
        let (temperature, mass) = (rows.values("temperature")?, rows.values("top_p")?);
        let (values, ridge) = (rows.values(name)?, rows.flags("ridge"));
        let sorted = |all: &mut dyn Iterator<Item = f64>| {
            let mut all: Vec<f64> = all.collect();
            all.sort_by(f64::total_cmp);
            all.dedup();
            all
        };
        let greedy = |row: usize| temperature[row] == Some(0.0);
        let temperatures = sorted(&mut panel.rows.iter().filter_map(|row| temperature[*row]));
        let masses = sorted(
            &mut panel
                .rows
                .iter()
                .filter(|row| !greedy(**row))
                .filter_map(|row| mass[*row]),
        );
        if temperatures.len() < 2 || masses.len() < 2 {
            let found = format!(
                "{} temperatures and {} values of top-p",
                temperatures.len(),
                masses.len()
            );
            return Err(
                Error::pipeline(format!("a landscape needs at least two of each, there are {found}"))
                    .hint("sweep both in the matrix that generates, or use `plot: grid` or `plot: bars`"),
            );
        }
        let mut field = Self {
            values: vec![vec![None; masses.len()]; temperatures.len()],
            ridge: Vec::new(),
            temperatures,
            masses,
        };
        let mut taken = vec![vec![false; field.masses.len()]; field.temperatures.len()];
        for &row in &panel.rows {
            let Some(at) = field.temperatures.iter().position(|one| Some(*one) == temperature[row]) else {
                continue;
            };
            let across: Vec<usize> = if greedy(row) {
                (0..field.masses.len()).collect()
            } else {
                field
                    .masses
                    .iter()
                    .position(|one| Some(*one) == mass[row])
                    .into_iter()
                    .collect()
            };
            for p in across {
                if std::mem::replace(&mut taken[at][p], true) && !greedy(row) {
                    let place = format!("T = {} and top-p = {}", field.temperatures[at], field.masses[p]);
                    return Err(Error::pipeline(format!("several rows belong to {place}"))
                        .hint("choose rows with `where`, or name the column that tells them apart as `panel`"));
                }
                field.values[at][p] = values[row];
            }
            if ridge[row] && !greedy(row) {
                field.ridge.extend(
                    field
                        .masses
                        .iter()
                        .position(|one| Some(*one) == mass[row])
                        .map(|p| (at, p)),
                );
            }
        }
        field.ridge.sort_unstable();
        Ok(field)
    }

    /// All values.
    pub fn all(&self) -> impl Iterator<Item = f64> + Clone + '_ {
        self.values.iter().flatten().flatten().copied()
    }

    /// The cells without a value, for a caption.
    pub fn missing(&self) -> Vec<String> {
        let cells = self.values.iter().enumerate().flat_map(|(t, line)| {
            line.iter()
                .enumerate()
                .filter(|(_, value)| value.is_none())
                .map(move |(p, _)| format!("T = {}, top-p = {}", self.temperatures[t], self.masses[p]))
        });
        cells.collect()
    }

    /// The corners of a cell between four measured settings, by temperature and mass: its values, if all are there.
    pub fn corners(&self, t: usize, p: usize) -> Option<[f64; 4]> {
        Some([
            self.values[t][p]?,
            self.values[t + 1][p]?,
            self.values[t + 1][p + 1]?,
            self.values[t][p + 1]?,
        ])
    }

    /// An axis over the temperatures.
    pub fn temperature_scale(&self) -> Scale {
        axis(&self.temperatures)
    }

    /// An axis over the masses.
    pub fn mass_scale(&self) -> Scale {
        axis(&self.masses)
    }
}

/// From the first to the last value, with a tick at each.
fn axis(values: &[f64]) -> Scale {
    let (low, high) = (values[0], values[values.len() - 1]);
    Scale::with_ticks(low, high, values.to_vec())
}
