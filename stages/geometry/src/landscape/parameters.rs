//! The parameters of `landscape`.

use fracture_measure::fracture::parameters::Metric;
use fracture_measure::parameters::{Aggregate, BOOTSTRAP, CONFIDENCE, OneOrMany, check_groups, check_intervals};
use fracture_stage::{ParameterError, PathPart};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The columns that the grid is made of, and the one that names its cells.
pub const DECODER: [&str; 3] = ["decoder", "temperature", "top_p"];

/// Parameters of `landscape`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LandscapeParameters {
    /// The columns of a group: one landscape over temperature and top-p for each. When not given, every key column but
    /// `item` and those of the decoder (`decoder`, `temperature`, `top_p`).
    pub by: Option<Vec<String>>,
    /// Pairs of regimes, `[FIRST, SECOND]`: a flip is safe in the first and unsafe in the second. When not given, every
    /// regime against `deploy`, and the regimes that differ only in `draw` (the A/A pair).
    pub contrasts: Option<Vec<[String; 2]>>,
    /// Which decoder the two regimes of a cell have.
    pub mode: Mode,
    /// The greatest risk that a cap may leave: a share, or a list of them. Caps are chosen on one half of the items and
    /// reported on the other; without a budget there are none.
    #[serde(deserialize_with = "numbers")]
    #[schemars(with = "OneOrMany<f64>")]
    pub budget: Vec<f64>,
    /// What gradient, ridge and caps are made from.
    pub metric: Metric,
    /// How the samples of one item and regime become one row of the flip table.
    pub aggregate: Aggregate,
    /// The confidence level of every interval, and of the simultaneous limits that caps are chosen by.
    #[schemars(range(min = 0, max = 1))]
    pub confidence: f64,
    /// How many draws the bootstrap takes.
    #[schemars(range(min = 100))]
    pub bootstrap: u32,
    /// The seed of the bootstrap's draws and of the split into halves.
    pub seed: u64,
    /// The column whose values are drawn together. When not given: the column `cluster` where there is one, else axis and
    /// item.
    pub cluster: Option<String>,
}

/// Which decoder the two regimes of a cell have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Both regimes answer with the cell's decoder.
    #[default]
    Both,
    /// The first regime answers greedily (temperature 0) in every cell, the second one with the cell's decoder: what a
    /// greedy audit says of every decoder that could be deployed.
    Deploy,
}

/// Reads one number or a list of them.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let list = match Value::deserialize(deserializer)? {
        Value::Array(list) => list,
        one => vec![one],
    };
    let number = |value: &Value| {
        value
            .as_f64()
            .ok_or_else(|| serde::de::Error::custom(format!("expected a number, found {value}")))
    };
    list.iter().map(number).collect()
}

impl Default for LandscapeParameters {
    fn default() -> Self {
        Self {
            by: None,
            contrasts: None,
            mode: Mode::default(),
            budget: Vec::new(),
            metric: Metric::default(),
            aggregate: Aggregate::default(),
            confidence: CONFIDENCE,
            bootstrap: BOOTSTRAP,
            seed: 0,
            cluster: None,
        }
    }
}

impl LandscapeParameters {
    /// Everything that is wrong with them.
    pub fn check(&self) -> Vec<ParameterError> {
        let mut errors = Vec::new();
        check_groups(self.by.as_deref(), self.contrasts.as_deref(), &mut errors);
        check_intervals(self.confidence, self.bootstrap, &mut errors);
        let at = |list: &str, index: usize, message: String| ParameterError {
            path: vec![PathPart::Key(list.to_owned()), PathPart::Index(index)],
            message,
            hint: None,
        };
        for (index, column) in self.by.iter().flatten().enumerate() {
            if DECODER.contains(&column.as_str()) {
                let message = format!("a landscape is over decoders, so `{column}` can not be a group");
                errors.push(at("by", index, message).hint("leave it out, or use `fracture` for one row per decoder"));
            }
        }
        for (index, budget) in self.budget.iter().enumerate() {
            if !(-1.0..=1.0).contains(budget) {
                let message = format!("{budget} is no share");
                errors.push(at("budget", index, message).hint("a number between 0 and 1, such as 0.1"));
            } else if self.budget[..index].contains(budget) {
                errors.push(at("budget", index, format!("{budget} is named twice")));
            }
        }
        errors
    }
}
