//! The parameters of `frontier`.

use fracture_stage::ParameterError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parameters::{BOOTSTRAP, CONFIDENCE, check_groups, check_intervals};

/// Parameters of `frontier`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FrontierParameters {
    /// The columns of a group; every key column but `item` when not given.
    pub by: Option<Vec<String>>,
    /// Pairs of regimes, `[FIRST, SECOND]`. When not given, every regime against `deploy`, and the regimes that differ only
    /// in `draw` (the A/A pair).
    pub contrasts: Option<Vec<[String; 2]>>,
    /// The column of scores. Samples of one item and regime are reduced to their mean.
    pub score: String,
    /// The confidence level of intervals and bands.
    #[schemars(range(min = 0, max = 1))]
    pub confidence: f64,
    /// How many draws the bootstrap takes.
    #[schemars(range(min = 100))]
    pub bootstrap: u32,
    /// The seed of the bootstrap's draws.
    pub seed: u64,
    /// The column whose values are drawn together. When not given: the column `cluster` where there is one, else axis and
    /// item.
    pub cluster: Option<String>,
}

impl Default for FrontierParameters {
    fn default() -> Self {
        Self {
            by: None,
            contrasts: None,
            score: "p_unsafe".to_owned(),
            confidence: CONFIDENCE,
            bootstrap: BOOTSTRAP,
            seed: 0,
            cluster: None,
        }
    }
}

impl FrontierParameters {
    /// Everything that is wrong with them.
    pub fn check(&self) -> Vec<ParameterError> {
        let mut errors = Vec::new();
        check_groups(self.by.as_deref(), self.contrasts.as_deref(), &mut errors);
        check_intervals(self.confidence, self.bootstrap, &mut errors);
        errors
    }
}
