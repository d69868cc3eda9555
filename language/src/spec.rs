//! The types of a pipeline file. Its JSON Schema, its checks and its reading all come from these.
//!
//! No `flatten` and no `untagged`: they ruin diagnostics. Where a value may have several forms its schema says so and the
//! compiler reads it from the marked tree.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A pipeline.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The version of the language.
    #[schemars(schema_with = "version_schema")]
    pub version: u32,
    /// The pipeline's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Files that this one builds on, relative to it; what this file says wins.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "one_or_many")]
    pub include: Value,
    /// Values for `${vars.NAME}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, Value>,
    /// Parameters by stage kind; those of a stage win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, BTreeMap<String, Value>>,
    /// Models by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, ModelEntry>,
    /// Stages by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, StageEntry>,
    /// Figures by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, FigureEntry>,
    /// Parts of a pipeline that `--profile NAME` puts over this one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub profiles: BTreeMap<String, BTreeMap<String, Value>>,
    /// Where stages run (later).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub executors: BTreeMap<String, Value>,
}

/// A model.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// A directory, a `.gguf` file, `hf://org/name@revision` or `openai://model`.
    pub source: String,
    /// Labels, columns for every reader.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "scalars_schema")]
    pub labels: BTreeMap<String, Value>,
    /// A directory with a LoRA adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The file to take when the source holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A chat template to use instead of the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// The number format of the weights in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// The revision of a served or hosted model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The address of a served model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The variable of the environment that holds the key of a served model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// Requests to a served model at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
    /// Requests to a served model in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u32>,
    /// Tokens of a served model in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<u32>,
    /// How a served model is asked: `chat` (messages; the default) or `completions` (a text that it continues).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// How long one request to a served model may take: seconds, or a text such as `90s`, `10m` (default 5 minutes).
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "duration_schema")]
    pub timeout: Value,
    /// How often a request to a served model is tried again (default 8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// The share of a served model's rows that may fail before the run stops (default 0.05).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_error_rate: Option<f64>,
    /// What a served model costs, for the run's summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Fields that go into every request to a served model, e.g. `{ top_k: 40 }`; they are part of the key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Value>,
    /// What the endpoint of a served model does not take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Lack>,
    /// The field that bounds a served model's completions (default: `max_completion_tokens` for chats with the public
    /// API, else `max_tokens`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_limit: Option<TokenLimit>,
}

/// How a served model is asked.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// With messages; the server applies its chat template.
    Chat,
    /// With a text that it continues.
    Completions,
}

/// What a million tokens cost, in any currency.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of prompts.
    #[schemars(range(min = 0.0))]
    pub input: f64,
    /// Of completions.
    #[schemars(range(min = 0.0))]
    pub output: f64,
}

/// What an endpoint does not take.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// No seed is sent: samples differ by the server's own chance.
    Seed,
    /// No temperature is sent; it must be 1.
    Temperature,
    /// `top_p` must be 1.
    TopP,
    /// No `stop`.
    Stop,
    /// No log-probabilities.
    Logprobs,
}

/// The field that bounds a completion.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimit {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

/// A stage.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageEntry {
    /// The stage kind.
    pub uses: String,
    /// What it needs: a stage, a list of stages, or a map from port to stage.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "needs_schema")]
    pub needs: Value,
    /// Variables; every combination of their values is a task.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "matrix_schema")]
    pub matrix: Value,
    /// A reduce stage runs once per value of these matrix variables or labels.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "one_or_many")]
    pub per: Value,
    /// Parameters of the kind.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "map_schema")]
    pub with: Value,
    /// Where it runs (later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    /// How long a task may take: seconds, or a text such as `90s`, `10m`, `2h`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "duration_schema")]
    pub timeout: Value,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A figure. What else it may hold is up to its plot.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
pub struct FigureEntry {
    /// The kind of figure.
    pub plot: String,
    /// The stage that it shows, or a map from port to stage.
    #[schemars(schema_with = "needs_schema")]
    pub from: Value,
    /// The file or files to write.
    #[schemars(schema_with = "one_or_many")]
    pub to: Value,
}

fn version_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "const": 1 })
}

fn one_or_many(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }, { "type": "null" }] })
}

fn needs_schema(_: &mut SchemaGenerator) -> Schema {
    let one = json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }] });
    json_schema!({ "anyOf": [
        { "type": "string" },
        { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        { "type": "object", "additionalProperties": one },
        { "type": "null" },
    ] })
}

fn matrix_schema(_: &mut SchemaGenerator) -> Schema {
    let combinations = json_schema!({ "type": "array", "items": { "type": "object" } });
    json_schema!({
        "type": ["object", "null"],
        "properties": { "include": combinations, "exclude": combinations },
        "additionalProperties": { "anyOf": [{ "type": "array" }, { "type": "object" }] },
    })
}

fn map_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["object", "null"] })
}

fn scalars_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
}

fn duration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "number", "exclusiveMinimum": 0 }, { "type": "string" }, { "type": "null" }] })
}
