//! The parameters of `prompt`, as a pipeline writes them.

use std::collections::BTreeMap;

use fracture_stage::{ParameterError, PathPart, Spread};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cue;

/// Which prompts are asked, and what the model is told around them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Pools of prompts by the axis of the rubric that they probe.
    pub pools: BTreeMap<String, PoolSpec>,
    /// Regimes by name: what the model is told. `{}` is the clean prompt without a system message.
    pub regimes: BTreeMap<String, RegimeSpec>,
}

/// A pool of prompts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// The file, relative to the project's root: JSON lines, a JSON array, CSV or TSV, plain or with `.gz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A stage whose table is the pool, as `needs` names it: `needs: drafts` and `stage: drafts`. Columns that this stage
    /// yields itself (`regime`, `messages`, ..) are left out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Columns to rename, `NEW: OLD`. `prompt: OLD` says where the prompts are and `item: OLD` where their ids are; mapping
    /// `prompt` switches off the recognition of published layouts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// The file's format; by default its ending tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Takes the first rows only, of those that `where` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub limit: Option<u64>,
    /// Takes that many rows, chosen by a hash of their item: the same whatever the order of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub sample: Option<u64>,
    /// Takes the rows for which this SQL condition holds, over the columns by their new names.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The column that says which items belong together (paraphrases of one question): intervals resample whole clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// The format of a pool's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// Tab-separated values with a header.
    Tsv,
}

impl Format {
    /// The name in a pipeline.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
        }
    }
}

/// A regime: what the model is told around a prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegimeSpec {
    /// A shipped cue, `FAMILY/SIDE`; the side is the regime's name when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cue: Option<String>,
    /// The system message, a Jinja template. Without it no system message is sent; `''` sends an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The user's message, a Jinja template; `{{ prompt }}` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The beginning of the answer, a Jinja template: the model goes on from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<String>,
    /// What the regime's training claims to reward; the cue's own by default, else `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,
    /// How strong the cue is, for templates and as a column: a dose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// The random stream: two regimes that differ only here are an A/A control.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub draw: u32,
    /// Which wording of the cue, counted from 0; `all` makes one task for each, told apart by the column `wording`.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "variant_schema")]
    pub variant: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a training objective rewards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Refusing what is unsafe: faking would look safe in training and be unsafe in deployment (FRACTURE).
    Safe,
    /// Helping with everything: faking would comply in training and refuse in deployment (ANTI).
    HelpfulOnly,
    /// Nothing is claimed.
    #[default]
    None,
}

impl Objective {
    /// The value of the column `objective`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::HelpfulOnly => "helpful_only",
            Self::None => "none",
        }
    }
}

/// What a stage's `variant: all` becomes: the number of the task's own wording.
pub const WORDING: &str = "wording";

/// A number; the pipeline's `all` has become one before the parameters are read.
fn variant_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0, "format": "uint32" }, { "const": "all" }] })
}

/// The regimes whose `variant` is `all`: one task for each wording of their cues.
///
/// # Errors
/// When their cues have not the same number of wordings.
pub fn spread(with: &Value) -> Result<Option<Spread>, ParameterError> {
    let regimes = with.get("regimes").and_then(Value::as_object).into_iter().flatten();
    let all = regimes.filter(|(_, regime)| regime.get("variant").and_then(Value::as_str) == Some("all"));
    let mut first: Option<(&str, usize)> = None;
    let mut places = Vec::new();
    for (name, regime) in all {
        let path = ["regimes", name.as_str(), "variant"];
        places.push(path.map(|key| PathPart::Key(key.to_owned())).to_vec());
        let Some(cue) = regime.get("cue").and_then(Value::as_str) else {
            let error = ParameterError::at(&path, "there is no cue whose wordings it could be");
            return Err(error.hint("give the regime a `cue`"));
        };
        // An unknown cue is told when the regime is built.
        let Some(count) = cue::wordings(cue, name) else {
            continue;
        };
        match first {
            Some((other, others)) if others != count => {
                let message = format!("the cue of `{other}` has {others} wordings, that of `{name}` {count}");
                let hint = "`all` is for cues with as many wordings; choose pairs by a matrix: \
                            `matrix: { wording: [0, 1] }` and `variant: ${matrix.wording}`";
                return Err(ParameterError::at(&path, message).hint(hint));
            }
            _ => first = Some((name, count)),
        }
    }
    Ok((!places.is_empty()).then(|| Spread {
        variable: WORDING,
        count: first.map_or(1, |(_, count)| count),
        places,
    }))
}
