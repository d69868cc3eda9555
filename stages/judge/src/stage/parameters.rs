//! The parameters of `judge`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `judge`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeParameters {
    /// The judge: a folder with `config.json`, `tokenizer.json` and an exported `model.onnx`, or a name under `models:`.
    pub model: String,
    /// The model file inside the folder, where there are several.
    #[serde(default)]
    pub file: Option<String>,
    /// What sort of judge it is.
    #[serde(default)]
    pub kind: JudgeKind,
    /// What is judged: a column, a pair of columns (prompt, response), or a Jinja template over columns.
    #[serde(default = "completion")]
    pub text: TextParameter,
    /// The labels that count as unsafe.
    #[serde(default, rename = "unsafe")]
    pub unsafe_labels: Vec<String>,
    /// Names for the judge's labels (by label or index), where its configuration has generic ones.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether the labels under `unsafe` are the bad ones or the good ones.
    #[serde(default)]
    pub orientation: OrientationParameter,
    /// The longest window in tokens; the judge's own limit when not given.
    #[serde(default)]
    #[schemars(range(min = 4))]
    pub max_length: Option<usize>,
    /// Tokens that neighbouring windows of a long text share; without it long texts are truncated.
    #[serde(default)]
    pub stride: Option<usize>,
    /// How the windows of a long text become one score.
    #[serde(default)]
    pub reduce: ReduceParameter,
    /// Texts with known scores that are scored before and after each use of the judge.
    #[serde(default)]
    pub canaries: String,
    /// Other parameters for rows where a column has a value: `COLUMN: { VALUE: { unsafe: [...] } }`.
    #[serde(default)]
    pub cases: BTreeMap<String, BTreeMap<String, Verdict>>,
}

impl Default for JudgeParameters {
    fn default() -> Self {
        Self {
            model: String::new(),
            file: None,
            kind: JudgeKind::default(),
            text: completion(),
            unsafe_labels: Vec::new(),
            labels: BTreeMap::new(),
            orientation: OrientationParameter::default(),
            max_length: None,
            stride: None,
            reduce: ReduceParameter::default(),
            canaries: String::new(),
            cases: BTreeMap::new(),
        }
    }
}

fn completion() -> TextParameter {
    TextParameter::Column("completion".to_owned())
}

/// What may differ between rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The labels that count as unsafe in these rows.
    #[serde(default, rename = "unsafe")]
    pub unsafe_labels: Option<Vec<String>>,
    /// Whether those are the bad ones or the good ones.
    #[serde(default)]
    pub orientation: Option<OrientationParameter>,
    /// How windows become one score.
    #[serde(default)]
    pub reduce: Option<ReduceParameter>,
}

/// What sort of judge it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JudgeKind {
    /// A sequence classifier.
    #[default]
    Classifier,
    /// A language model that answers with a verdict.
    Generative,
}

/// What is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TextParameter {
    /// A column, or a Jinja template when it holds `{{`.
    Column(String),
    /// A prompt and the response to it, for judges trained on pairs.
    Pair([String; 2]),
}

/// What the labels under `unsafe` mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrientationParameter {
    /// They are the bad ones.
    #[default]
    Bad,
    /// They are the good ones: `p_unsafe` is one minus their probability.
    Good,
}

impl From<OrientationParameter> for crate::score::Orientation {
    fn from(parameter: OrientationParameter) -> Self {
        match parameter {
            OrientationParameter::Bad => Self::Bad,
            OrientationParameter::Good => Self::Good,
        }
    }
}

/// How the windows of a long text become one score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReduceParameter {
    /// The worst window.
    #[default]
    Max,
    /// The first window.
    First,
    /// The mean over windows.
    Mean,
}

impl From<ReduceParameter> for crate::score::Reduce {
    fn from(parameter: ReduceParameter) -> Self {
        match parameter {
            ReduceParameter::Max => Self::Max,
            ReduceParameter::First => Self::First,
            ReduceParameter::Mean => Self::Mean,
        }
    }
}
