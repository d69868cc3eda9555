//! The parameters of `judge`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::generative::Words;
use crate::provider::Provider;

/// Parameters of `judge`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeParameters {
    /// The judge: a folder with `config.json`, `tokenizer.json` and an exported `model.onnx` (a classifier) or
    /// `model.safetensors` (a generative judge), or a name under `models:`. With `kind: scores`, what the judge is called.
    pub model: String,
    /// The model file inside the folder, where there are several.
    #[serde(default)]
    pub file: Option<String>,
    /// What sort of judge it is.
    #[serde(default)]
    pub kind: JudgeKind,
    /// Where a classifier computes; accelerators need a build with their feature.
    #[serde(default)]
    pub provider: Provider,
    /// What is judged: a column, a pair of columns (prompt, response), or a Jinja template over columns. In a template a null
    /// is `none` and written as nothing, a final newline is kept, and a text whose `completion` (or `response`) is empty has
    /// no score.
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
    /// What becomes of a text that is empty or blank.
    #[serde(default)]
    pub empty: EmptyParameter,
    /// With `kind: scores`: the column of scores; `p_unsafe` or else `score` when not given.
    #[serde(default)]
    pub score: Option<String>,
    /// With `kind: scores`: the columns by which a score belongs to a text. When not given: `item`, and `axis`, `regime`,
    /// `decoder`, `sample` and every other key column that both tables have.
    #[serde(default)]
    pub on: Vec<String>,
    /// Texts that are scored before and after each use of the judge and compared with what they scored when it ran first:
    /// a file (JSONL with `text`, or one text a line), a list, `false` for none. Lines of a JSONL file may say what the text
    /// must score, as `p_LABEL` (`p_unsafe` of a generative judge). When not given, `canaries.jsonl` in the judge's folder,
    /// else a handful that ships. A served judge is watched only where canaries are asked for (`true` for those that ship):
    /// they are requests like others, and their verdicts are compared (`agreement`).
    #[serde(default)]
    pub canaries: Option<CanariesParameter>,
    /// Served judges with `canaries`: the share of canaries whose verdict must stay what it was (default 0.99).
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub agreement: Option<f64>,
    /// Generative judges: what is asked. A shipped template (`granite-guardian`, `harmbench`, `llama-guard`, `own-chat`,
    /// `shieldgemma`, `wildguard`), a file, or Jinja over `prompt`, `response`, `policy` and columns.
    #[serde(default)]
    pub template: Option<String>,
    /// Generative judges: the text of the template's `policy`.
    #[serde(default)]
    pub policy: Option<String>,
    /// Generative judges: the words of the answer; all their spellings count.
    #[serde(default)]
    pub verdict: Option<Words>,
    /// Generative judges: what the answer is made to begin with, before its verdict.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Generative judges: the model writes until this text, and its verdict follows.
    #[serde(default)]
    pub after: Option<String>,
    /// Generative judges: sample this many answers and take the share of the unsafe ones, instead of probabilities.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub votes: Option<u32>,
    /// Generative judges with `votes`: logits are divided by it (default 1).
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub temperature: Option<f64>,
    /// Generative judges with `votes`: the seed of the random streams (default 0).
    #[serde(default)]
    pub seed: Option<u64>,
    /// Generative judges with `votes` or `after`: tokens of an answer at most (default 16, or 128 with `after`).
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_new_tokens: Option<u32>,
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
            provider: Provider::default(),
            text: completion(),
            unsafe_labels: Vec::new(),
            labels: BTreeMap::new(),
            orientation: OrientationParameter::default(),
            max_length: None,
            stride: None,
            reduce: ReduceParameter::default(),
            empty: EmptyParameter::default(),
            score: None,
            on: Vec::new(),
            canaries: None,
            agreement: None,
            template: None,
            policy: None,
            verdict: None,
            prefix: None,
            after: None,
            votes: None,
            temperature: None,
            seed: None,
            max_new_tokens: None,
            cases: BTreeMap::new(),
        }
    }
}

/// Which canaries are scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CanariesParameter {
    /// `false`: none; `true`: the shipped ones.
    Shipped(bool),
    /// A file.
    File(String),
    /// The texts.
    Texts(Vec<String>),
}

impl JudgeParameters {
    /// Every case: column, value, what differs.
    pub fn all_cases(&self) -> impl Iterator<Item = (&str, &str, &Verdict)> {
        self.cases.iter().flat_map(|(column, values)| {
            values
                .iter()
                .map(move |(value, verdict)| (column.as_str(), value.as_str(), verdict))
        })
    }

    /// The names of the parameters that were given and only mean something to a generative judge.
    pub fn generative(&self) -> Vec<&'static str> {
        let given = [
            ("template", self.template.is_some()),
            ("agreement", self.agreement.is_some()),
            ("policy", self.policy.is_some()),
            ("verdict", self.verdict.is_some()),
            ("prefix", self.prefix.is_some()),
            ("after", self.after.is_some()),
            ("votes", self.votes.is_some()),
            ("temperature", self.temperature.is_some()),
            ("seed", self.seed.is_some()),
            ("max_new_tokens", self.max_new_tokens.is_some()),
        ];
        given
            .into_iter()
            .filter_map(|(name, given)| given.then_some(name))
            .collect()
    }

    /// The names of the parameters that were given and only mean something to scores from elsewhere.
    pub fn joining(&self) -> Vec<&'static str> {
        let given = [("score", self.score.is_some()), ("on", !self.on.is_empty())];
        given
            .into_iter()
            .filter_map(|(name, given)| given.then_some(name))
            .collect()
    }

    /// The names of the parameters that were given and only mean something to a judge that runs.
    pub fn running(&self) -> Vec<&'static str> {
        let given = [
            ("max_length", self.max_length.is_some()),
            ("canaries", self.canaries.is_some()),
        ];
        given
            .into_iter()
            .filter_map(|(name, given)| given.then_some(name))
            .collect()
    }

    /// The names of the parameters that were given and only mean something to a classifier.
    pub fn classifying(&self) -> Vec<&'static str> {
        let given = [
            ("file", self.file.is_some()),
            ("provider", self.provider != Provider::default()),
            ("unsafe", !self.unsafe_labels.is_empty()),
            ("labels", !self.labels.is_empty()),
            ("stride", self.stride.is_some()),
            ("reduce", self.reduce != ReduceParameter::default()),
        ];
        given
            .into_iter()
            .filter_map(|(name, given)| given.then_some(name))
            .collect()
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
    /// Scores from elsewhere, at the port `scores`.
    Scores,
}

/// What becomes of a text that is empty or blank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EmptyParameter {
    /// It has no score, and is counted.
    #[default]
    Invalid,
    /// It is judged like any other.
    Score,
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
