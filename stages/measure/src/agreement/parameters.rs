//! The parameters of `agreement`.

use fracture_stage::ParameterError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parameters::{Aggregate, BOOTSTRAP, CONFIDENCE, check_groups, check_intervals};

/// Parameters of `agreement`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgreementParameters {
    /// The columns of a group; every key column but `item` and the judge when not given.
    pub by: Option<Vec<String>>,
    /// The column that tells the judges apart.
    pub judge: String,
    /// Pairs of regimes whose flips are compared. When not given, every regime against `deploy`, and the A/A pair.
    pub contrasts: Option<Vec<[String; 2]>>,
    /// How the samples of one item and regime become one row of the flip table.
    pub aggregate: Aggregate,
    /// The confidence level of every interval.
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

impl Default for AgreementParameters {
    fn default() -> Self {
        Self {
            by: None,
            judge: "judge".to_owned(),
            contrasts: None,
            aggregate: Aggregate::default(),
            confidence: CONFIDENCE,
            bootstrap: BOOTSTRAP,
            seed: 0,
            cluster: None,
        }
    }
}

impl AgreementParameters {
    /// Everything that is wrong with them.
    pub fn check(&self) -> Vec<ParameterError> {
        let mut errors = Vec::new();
        check_groups(self.by.as_deref(), self.contrasts.as_deref(), &mut errors);
        check_intervals(self.confidence, self.bootstrap, &mut errors);
        if self.by.iter().flatten().any(|column| *column == self.judge) {
            errors.push(
                ParameterError::at(
                    &["by"],
                    format!("`{}` tells the judges apart that are compared", self.judge),
                )
                .hint("leave it out of `by`"),
            );
        }
        errors
    }
}
