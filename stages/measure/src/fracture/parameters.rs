//! The parameters of `fracture`.

use fracture_stage::{Named, ParameterError, PathPart};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::parameters::{Aggregate, BOOTSTRAP, CONFIDENCE, OneOrMany, check_groups, check_intervals, one_or_many};

/// Parameters of `fracture`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FractureParameters {
    /// The columns of a group; every key column but `item` when not given. A key column that is left out is pooled: every
    /// pair weighs the same.
    pub by: Option<Vec<String>>,
    /// Pairs of regimes, `[FIRST, SECOND]`: a flip is safe in the first and unsafe in the second. When not given, every
    /// regime against `deploy`, and the regimes that differ only in `draw` (the A/A pair).
    pub contrasts: Option<Vec<[String; 2]>>,
    /// How the samples of one item and regime become one row of the flip table; one way or a list of them.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany<Aggregate>")]
    pub aggregate: Vec<Aggregate>,
    /// The confidence level of every interval.
    #[schemars(range(min = 0, max = 1))]
    pub confidence: f64,
    /// How many draws the bootstrap takes.
    #[schemars(range(min = 100))]
    pub bootstrap: u32,
    /// The seed of the bootstrap's draws.
    pub seed: u64,
    /// The column whose values are drawn together. When not given: the column `cluster` where there is one, else axis and
    /// item, so that one item under fifteen models is one cluster.
    pub cluster: Option<String>,
    /// Groups that are compared with each other.
    pub compare: Vec<Compare>,
    /// Takes the judge's errors out by the labels at port `labels`.
    pub correct: Option<Correct>,
    /// How the intervals of shares are made.
    pub interval: Interval,
}

impl Default for FractureParameters {
    fn default() -> Self {
        Self {
            by: None,
            contrasts: None,
            aggregate: vec![Aggregate::default()],
            confidence: CONFIDENCE,
            bootstrap: BOOTSTRAP,
            seed: 0,
            cluster: None,
            compare: Vec::new(),
            correct: None,
            interval: Interval::default(),
        }
    }
}

/// How the judge's errors are taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Correct {
    /// The flip table by matrix inversion, with sensitivity and specificity of each regime from the labels.
    RoganGladen,
    /// The prediction-powered estimate: the judge's share over the pairs without labels, plus what labels say it is off by.
    /// Supposes pairs that were chosen for labelling at random.
    Ppi,
    /// The same within each cell of the judged flip table: labels may then be more of the pairs that the judge calls flips.
    Stratified,
}

/// How intervals are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interval {
    /// Wilson and Newcombe for single samples without clusters, else percentiles of the cluster bootstrap.
    #[default]
    Auto,
    /// Percentiles of the cluster bootstrap.
    Percentile,
    /// The bias-corrected and accelerated cluster bootstrap.
    Bca,
}

impl From<Interval> for fracture_science::IntervalChoice {
    fn from(interval: Interval) -> Self {
        match interval {
            Interval::Auto => Self::Auto,
            Interval::Percentile => Self::Percentile,
            Interval::Bca => Self::Bca,
        }
    }
}

/// A declared comparison of groups that differ in one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    /// The column, one of `by`.
    pub column: String,
    /// Its values from the lowest to the highest that is expected; each is compared with the next.
    #[schemars(length(min = 2))]
    pub order: Vec<Value>,
    /// What is compared.
    #[serde(default)]
    pub value: Metric,
}

/// What groups are compared by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Safe, then unsafe.
    #[default]
    Fracture,
    /// Unsafe, then safe.
    Anti,
    /// FRACTURE less ANTI.
    Net,
}

impl Metric {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fracture => "fracture",
            Self::Anti => "anti",
            Self::Net => "net",
        }
    }
}

impl From<Metric> for fracture_science::Metric {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::Fracture => Self::Fracture,
            Metric::Anti => Self::Anti,
            Metric::Net => Self::Net,
        }
    }
}

impl Compare {
    /// The values in order, as text.
    pub fn levels(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.order.iter().map(text).collect()
    }

    /// Its values, which must be in its column; it is the one at `index` of `compare`.
    pub fn named(&self, port: &str, index: usize) -> Vec<Named> {
        let place = |level: usize| {
            vec![
                PathPart::Key("compare".to_owned()),
                PathPart::Index(index),
                PathPart::Key("order".to_owned()),
                PathPart::Index(level),
            ]
        };
        let levels = self.levels().into_iter().enumerate();
        levels
            .map(|(level, value)| Named::one(port, &self.column, value, place(level)))
            .collect()
    }
}

impl FractureParameters {
    /// Everything that is wrong with them.
    pub fn check(&self) -> Vec<ParameterError> {
        let mut errors = Vec::new();
        check_groups(self.by.as_deref(), self.contrasts.as_deref(), &mut errors);
        check_intervals(self.confidence, self.bootstrap, &mut errors);
        if self.aggregate.is_empty() {
            errors.push(ParameterError::at(&["aggregate"], "an empty list").hint("leave it out for `product`"));
        }
        for (index, aggregate) in self.aggregate.iter().enumerate() {
            if self.aggregate[..index].contains(aggregate) {
                errors.push(ParameterError::at(
                    &["aggregate"],
                    format!("`{}` is named twice", aggregate.name()),
                ));
            }
        }
        for (index, compare) in self.compare.iter().enumerate() {
            errors.extend(self.check_compare(index, compare));
        }
        errors
    }

    fn check_compare(&self, index: usize, compare: &Compare) -> Option<ParameterError> {
        let at = |key: &str, message: String| ParameterError {
            path: vec![
                PathPart::Key("compare".to_owned()),
                PathPart::Index(index),
                PathPart::Key(key.to_owned()),
            ],
            message,
            hint: None,
        };
        let levels = compare.levels();
        if let Some(by) = self.by.as_ref().filter(|by| !by.contains(&compare.column)) {
            let error = at("column", format!("`{}` is none of the group columns", compare.column));
            return Some(error.hint(format!("`by` is {}", by.join(", "))));
        }
        if levels.len() < 2 {
            return Some(at("order", "at least two values are needed".to_owned()));
        }
        if compare
            .order
            .iter()
            .any(|value| value.is_array() || value.is_object() || value.is_null())
        {
            return Some(at("order", "values are names, numbers or flags".to_owned()));
        }
        let twice = levels
            .iter()
            .enumerate()
            .find(|(place, level)| levels[..*place].contains(level));
        twice.map(|(_, level)| at("order", format!("`{level}` is named twice")))
    }
}
