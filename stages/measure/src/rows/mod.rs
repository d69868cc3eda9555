//! Rows become items under regimes: which rows belong together, which group they fall in, what is compared with what.
//!
//! A *unit* is one value of all key columns: an item of an axis under one model, decoder, judge and so on. Its rows differ
//! in `regime`, `draw` and `sample`. Two regimes of a unit are a pair (LANGUAGE.md rule 7).

mod by;
mod codes;
mod duplicates;
mod groups;
mod labels;
mod load;
mod pairs;
mod regimes;
mod told;
mod verdicts;

use std::ops::Range;

use arrow::array::ArrayRef;
use fracture_stage::stage::Need;

pub use by::{by_fields, check_by, resolve};
pub use codes::Codes;
pub use groups::Groups;
pub use labels::{Labels, label_needs};
pub use pairs::{PairTable, Slots};
pub use regimes::Contrast;
pub use told::{Told, named_regimes};
pub use verdicts::{BETWEEN, verdict};

/// What is read of the rows, and how they are grouped.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The group columns; `None`: every key column but `item`.
    pub by: Option<&'a [String]>,
    /// The cluster column; `None`: the column `cluster` where there is one.
    pub cluster: Option<&'a str>,
    /// The column of scores.
    pub score: &'a str,
    /// Whether the rows are verdicts, with a threshold each.
    pub verdicts: bool,
    /// A key column that does not tell apart what is matched between groups ([`Unit::matched`]): the judge, where judges
    /// are compared.
    pub apart: Option<&'a str>,
}

impl Default for Reading<'_> {
    fn default() -> Self {
        Self {
            by: None,
            cluster: None,
            score: "p_unsafe",
            verdicts: true,
            apart: None,
        }
    }
}

/// The column that clusters where no other is named.
const CLUSTER: &str = "cluster";
/// What tells whether two regimes say the same thing to the model.
const TOLD: [&str; 4] = ["cue", "strength", "variant", "cue_hash"];

impl Reading<'_> {
    /// The columns that are read.
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = vec![Need::any("item"), Need::any("regime"), Need::any(self.score)];
        let optional = ["axis", "draw", "sample", "invalid", "finish_reason", "objective"];
        needs.extend(optional.iter().chain(&TOLD).map(|name| Need::optional(name)));
        needs.push(self.cluster.map_or_else(|| Need::optional(CLUSTER), Need::any));
        if self.verdicts {
            needs.extend([Need::any("tau"), Need::optional("tau_other"), Need::optional("unsafe")]);
        }
        needs.extend(self.by.unwrap_or_default().iter().map(|name| Need::any(name)));
        let mut seen: Vec<String> = Vec::new();
        needs.retain(|need| {
            let new = !seen.contains(&need.column);
            seen.push(need.column.clone());
            new
        });
        needs
    }
}

/// One sample's score under one regime.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Which sample it is: the rank of its draw within the regime's rows of the unit, and its number. Equal slots of two
    /// regimes share a random stream.
    pub slot: (u32, i64),
    /// Its row, counted over all tables.
    pub row: u32,
    /// The score; NaN is invalid.
    pub score: f64,
    /// The row's threshold; NaN where there is none.
    pub tau: f64,
    /// The other convention's threshold; NaN where there is none.
    pub tau_other: f64,
    /// Whether the completion was cut off by its length.
    pub truncated: bool,
    /// What people said: 1 unsafe, 0 safe, NaN where there is no label or as many for as against.
    pub human: f64,
}

/// The samples of a unit under one regime.
#[derive(Debug, Clone)]
pub struct Side {
    samples: Range<usize>,
    /// The lowest draw.
    draw: i64,
    /// What the model was told, as a number: equal numbers, equal cue, strength, variant and cue text.
    told: u32,
    /// The declared objective, an index into [`Measured::objectives`].
    pub objective: u32,
}

/// One value of all key columns.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Hash of axis and item.
    pub item: u64,
    /// Hash of the cluster.
    pub cluster: u64,
    /// Hash of all key columns but [`Reading::apart`].
    pub matched: u64,
}

/// The rows of a port, in units and groups.
#[derive(Debug)]
pub struct Measured {
    /// The group columns, one value per group, groups in order.
    pub by: Vec<(String, ArrayRef)>,
    /// The same as text.
    pub by_text: Vec<Vec<Option<String>>>,
    /// The units of each group.
    pub groups: Vec<Vec<usize>>,
    /// The regimes, sorted by name.
    pub regimes: Vec<String>,
    /// The cue of each regime, the first by name where its rows have several.
    pub cues: Vec<Option<String>>,
    /// The objectives that occur.
    pub objectives: Vec<Option<String>>,
    /// What a person should know of how labels fitted the rows.
    pub labelling: Vec<String>,
    /// Whether the rows say what the model was told.
    says_told: bool,
    units: Vec<Unit>,
    /// `[units, regimes]`.
    sides: Vec<Option<Side>>,
    samples: Vec<Sample>,
}

impl Measured {
    /// A unit's samples under a regime.
    pub fn side(&self, unit: usize, regime: usize) -> Option<&Side> {
        self.sides.get(unit * self.regimes.len() + regime)?.as_ref()
    }

    /// The samples, by slot.
    pub fn samples(&self, side: &Side) -> &[Sample] {
        &self.samples[side.samples.clone()]
    }

    /// Who a unit is.
    pub fn unit(&self, unit: usize) -> &Unit {
        &self.units[unit]
    }

    /// The number of units.
    pub fn units(&self) -> usize {
        self.units.len()
    }
}
