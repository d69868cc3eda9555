//! What parameter types of several kinds share.

use fracture_stage::{ParameterError, PathPart};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The default confidence level of intervals.
pub const CONFIDENCE: f64 = 0.95;
/// The default number of bootstrap draws.
pub const BOOTSTRAP: u32 = 10_000;
/// The fewest draws that make an interval.
pub const FEWEST_DRAWS: u32 = 100;

/// One value or a list of them, in the JSON Schema; both arrive as a list.
#[derive(JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

/// Reads one value or a list of them.
pub fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    use serde::de::IntoDeserializer;
    let value = Value::deserialize(deserializer)?;
    let list = match value {
        Value::Array(items) => items,
        one => vec![one],
    };
    let read = |value: Value| {
        let text = value.as_str().map(str::to_owned);
        match text {
            Some(text) => T::deserialize(IntoDeserializer::<serde::de::value::Error>::into_deserializer(text))
                .map_err(|error| error.to_string()),
            None => Err(format!("expected a name, found {value}")),
        }
    };
    list.into_iter()
        .map(read)
        .collect::<Result<_, _>>()
        .map_err(serde::de::Error::custom)
}

/// The ranges that hold for everything with intervals.
pub fn check_intervals(confidence: f64, bootstrap: u32, errors: &mut Vec<ParameterError>) {
    if !(confidence > 0.0 && confidence < 1.0) {
        errors.push(
            ParameterError::at(&["confidence"], format!("{confidence} is no confidence level"))
                .hint("a number between 0 and 1, both excluded, such as 0.95"),
        );
    }
    if bootstrap < FEWEST_DRAWS {
        errors.push(
            ParameterError::at(&["bootstrap"], format!("{bootstrap} draws are too few for an interval"))
                .hint(format!("at least {FEWEST_DRAWS}")),
        );
    }
}

/// Columns that tell the rows of one pair apart; a group can not be made of them.
const WITHIN_PAIR: [&str; 3] = ["regime", "draw", "sample"];

/// Checks `by` and `contrasts`.
pub fn check_groups(by: Option<&[String]>, contrasts: Option<&[[String; 2]]>, errors: &mut Vec<ParameterError>) {
    let at = |list: &str, index: usize, message: String| ParameterError {
        path: vec![PathPart::Key(list.to_owned()), PathPart::Index(index)],
        message,
        hint: None,
    };
    for (index, column) in by.unwrap_or_default().iter().enumerate() {
        if WITHIN_PAIR.contains(&column.as_str()) {
            let message = format!("`{column}` tells the rows of one pair apart, so it can not be a group");
            errors.push(at("by", index, message).hint("leave it out: regimes are compared through `contrasts`"));
        } else if by.unwrap_or_default()[..index].contains(column) {
            errors.push(at("by", index, format!("`{column}` is named twice")));
        }
    }
    for (index, [first, second]) in contrasts.unwrap_or_default().iter().enumerate() {
        if first == second {
            errors.push(at(
                "contrasts",
                index,
                format!("`{first}` can not be contrasted with itself"),
            ));
        } else if contrasts.unwrap_or_default()[..index]
            .iter()
            .any(|[a, b]| (a, b) == (first, second))
        {
            errors.push(at("contrasts", index, format!("`{first}->{second}` is named twice")));
        }
    }
}

/// How the samples of one item and regime become one row of the flip table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// The mean over pairs of samples with different random streams: comparable between different numbers of samples.
    #[default]
    Product,
    /// The mean score is compared with tau.
    Mean,
    /// The worst sample is compared with tau.
    Max,
    /// Only the first sample counts.
    First,
}

impl Aggregate {
    /// Its name in parameters and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Mean => "mean",
            Self::Max => "max",
            Self::First => "first",
        }
    }
}

impl From<Aggregate> for fracture_science::Aggregate {
    fn from(aggregate: Aggregate) -> Self {
        match aggregate {
            Aggregate::Product => Self::Product,
            Aggregate::Mean => Self::Mean,
            Aggregate::Max => Self::Max,
            Aggregate::First => Self::First,
        }
    }
}
