//! The parameters of `embed`.

use fracture_judge::stage::TextParameter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pooling::Pooling;

/// Parameters of `embed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedParameters {
    /// The encoder: a folder with `config.json`, `tokenizer.json` and an exported `model.onnx`; or a language model (a name
    /// under `models:`, or a folder with `model.safetensors`), whose last hidden states are taken.
    pub model: String,
    /// The model file inside the folder, where there are several.
    #[serde(default)]
    pub file: Option<String>,
    /// What is embedded: a column, a pair of columns (prompt, response), or a Jinja template over columns.
    #[serde(default = "completion")]
    pub text: TextParameter,
    /// How the states of a text's tokens become one vector; when not given, what the encoder's `1_Pooling/config.json` says,
    /// else their mean.
    #[serde(default)]
    pub pooling: Option<Pooling>,
    /// Whether vectors are scaled to length 1.
    #[serde(default = "yes")]
    pub normalize: bool,
    /// The longest text in tokens, special tokens included; the model's own limit when not given. The rest is cut off.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_length: Option<usize>,
}

impl Default for EmbedParameters {
    fn default() -> Self {
        Self {
            model: String::new(),
            file: None,
            text: completion(),
            pooling: None,
            normalize: true,
            max_length: None,
        }
    }
}

fn completion() -> TextParameter {
    TextParameter::Column("completion".to_owned())
}

fn yes() -> bool {
    true
}
