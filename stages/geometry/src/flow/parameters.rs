//! The parameters of `flow`.

use fracture_measure::parameters::{BOOTSTRAP, CONFIDENCE, check_groups, check_intervals};
use fracture_stage::ParameterError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `flow`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FlowParameters {
    /// The columns of a group; every key column but `item` when not given.
    pub by: Option<Vec<String>>,
    /// Pairs of regimes, `[FIRST, SECOND]`. When not given, every regime against `deploy`, and the regimes that differ only
    /// in `draw` (the A/A pair).
    pub contrasts: Option<Vec<[String; 2]>>,
    /// How the boundary between the safe and the unsafe side is drawn.
    pub boundary: BoundaryParameter,
    /// Folds of whole clusters over which the boundary is cross-fitted.
    #[schemars(range(min = 2))]
    pub folds: u32,
    /// The confidence level of every interval.
    #[schemars(range(min = 0, max = 1))]
    pub confidence: f64,
    /// How many draws the bootstrap and the sign-flip test take.
    #[schemars(range(min = 100))]
    pub bootstrap: u32,
    /// The seed of draws and folds.
    pub seed: u64,
    /// The column whose values are drawn together. When not given: the column `cluster` where there is one, else axis and
    /// item.
    pub cluster: Option<String>,
}

/// How the boundary is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BoundaryParameter {
    /// Logistic regression with an L2 penalty, classes balanced.
    #[default]
    Logistic,
    /// The nearer of the two class means.
    Centroid,
    /// The vote of the ten nearest completions, against the class's share.
    Knn,
}

impl BoundaryParameter {
    /// Its name in parameters and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logistic => "logistic",
            Self::Centroid => "centroid",
            Self::Knn => "knn",
        }
    }
}

impl From<BoundaryParameter> for fracture_science::Boundary {
    fn from(boundary: BoundaryParameter) -> Self {
        match boundary {
            BoundaryParameter::Logistic => Self::Logistic,
            BoundaryParameter::Centroid => Self::Centroid,
            BoundaryParameter::Knn => Self::Knn,
        }
    }
}

impl Default for FlowParameters {
    fn default() -> Self {
        Self {
            by: None,
            contrasts: None,
            boundary: BoundaryParameter::default(),
            folds: 5,
            confidence: CONFIDENCE,
            bootstrap: BOOTSTRAP,
            seed: 0,
            cluster: None,
        }
    }
}

impl FlowParameters {
    /// Everything that is wrong with them.
    pub fn check(&self) -> Vec<ParameterError> {
        let mut errors = Vec::new();
        check_groups(self.by.as_deref(), self.contrasts.as_deref(), &mut errors);
        check_intervals(self.confidence, self.bootstrap, &mut errors);
        if self.folds < 2 {
            let error = ParameterError::at(&["folds"], format!("{} folds leave nothing to train on", self.folds));
            errors.push(error.hint("at least 2"));
        }
        errors
    }
}
