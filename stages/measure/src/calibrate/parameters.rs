//! The parameters of `calibrate`.

use std::collections::BTreeMap;

use fracture_science::CalibrationMethod;
use fracture_stage::ParameterError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parameters::check_groups;

/// Parameters of `calibrate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrateParameters {
    /// The family of maps.
    pub method: Method,
    /// How many folds judge the map on labels that it was not fitted to.
    #[schemars(range(min = 2))]
    pub folds: u32,
    /// How many bins of equal mass the reliability table has.
    #[schemars(range(min = 1))]
    pub bins: u32,
    /// Columns whose values get a map each; one map for all when not given. `threshold` names the same columns.
    pub by: Vec<String>,
    /// The column of scores.
    pub score: String,
    /// The column whose values share a fold. When not given: the column `cluster` where there is one, else axis and item.
    pub cluster: Option<String>,
    /// The seed of the folds.
    pub seed: u64,
    /// Other parameters for groups where a column of `by` has a value: `COLUMN: { VALUE: { method: isotonic } }`.
    pub cases: BTreeMap<String, BTreeMap<String, Case>>,
}

impl Default for CalibrateParameters {
    fn default() -> Self {
        Self {
            method: Method::default(),
            folds: 5,
            bins: 10,
            by: Vec::new(),
            score: "p_unsafe".to_owned(),
            cluster: None,
            seed: 0,
            cases: BTreeMap::new(),
        }
    }
}

/// What may differ between groups.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    /// The family of maps of these groups.
    pub method: Option<Method>,
}

/// The family of maps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A logistic curve on the logit of the score.
    #[default]
    Platt,
    /// The monotone fit of least squares; it wants about 200 labels.
    Isotonic,
    /// One temperature on the logit.
    Temperature,
}

impl Method {
    /// Its name in parameters and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Platt => "platt",
            Self::Isotonic => "isotonic",
            Self::Temperature => "temperature",
        }
    }
}

impl From<Method> for CalibrationMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Platt => Self::Platt,
            Method::Isotonic => Self::Isotonic,
            Method::Temperature => Self::Temperature,
        }
    }
}

impl CalibrateParameters {
    /// Everything that is wrong with them.
    pub fn check(&self) -> Vec<ParameterError> {
        let mut errors = Vec::new();
        check_groups(Some(&self.by), None, &mut errors);
        if self.folds < 2 {
            errors
                .push(ParameterError::at(&["folds"], "folds hold labels out only when there are at least 2").hint("5"));
        }
        if self.bins == 0 {
            errors.push(ParameterError::at(&["bins"], "a reliability table has at least one bin").hint("10"));
        }
        for column in self.cases.keys().filter(|column| !self.by.contains(column)) {
            errors.push(
                ParameterError::at(&["cases", column], format!("`{column}` is no column of `by`"))
                    .hint(format!("say `by: [{column}]`: a map holds for a whole group")),
            );
        }
        errors
    }
}
