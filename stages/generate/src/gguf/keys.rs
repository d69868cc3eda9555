//! The metadata of a file's architecture, by key, with errors that name it.

use super::{Gguf, Value};
use fracture_stage::Error;

/// Architectures that are read.
const SUPPORTED: &str = "llama (Mistral and Mixtral too), qwen2, qwen3, gemma, gemma2, gemma3, phi3";

/// Keys that every architecture may have and that are read here or change nothing.
const COMMON: &[&str] = &[
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "pooling_type",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "tensor_data_layout",
    "vocab_size",
];

/// Keys that an architecture has besides.
fn own(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "llama" => &["attention.sliding_window", "expert_count", "expert_used_count"],
        "gemma2" => &[
            "attention.sliding_window",
            "attention.sliding_window_pattern",
            "attn_logit_softcapping",
            "final_logit_softcapping",
        ],
        "gemma3" => &[
            "attention.sliding_window",
            "attention.sliding_window_pattern",
            "final_logit_softcapping",
            "rope.freq_base_swa",
        ],
        "phi3" => &["attention.sliding_window"],
        _ => &[],
    }
}

/// The keys of the file's architecture.
pub(super) struct Keys<'a> {
    pub gguf: &'a Gguf,
    pub architecture: &'a str,
}

impl<'a> Keys<'a> {
    pub fn new(gguf: &'a Gguf) -> Result<Self, Error> {
        let place = gguf.path().display();
        let metadata = gguf.header().metadata();
        if let Some(Value::Text(kind)) = metadata.get("general.type") {
            if kind != "model" {
                return Err(
                    Error::input(format!("{place}: holds no model: general.type is `{kind}`"))
                        .hint("name the file of the model itself"),
                );
            }
        }
        let architecture = match metadata.get("general.architecture") {
            Some(Value::Text(name)) => name.as_str(),
            Some(value) => {
                return Err(Error::input(format!(
                    "{place}: general.architecture is {value}, no text"
                )));
            }
            None => return Err(Error::input(format!("{place}: general.architecture is missing"))),
        };
        match architecture {
            "llama" | "qwen2" | "qwen3" | "gemma" | "gemma2" | "gemma3" | "phi3" => Ok(Self { gguf, architecture }),
            other => Err(
                Error::input(format!("{place}: general.architecture: `{other}` is not supported"))
                    .cause("the model would compute something else than it was trained to")
                    .hint(format!("supported: {SUPPORTED}")),
            ),
        }
    }

    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.gguf
            .header()
            .metadata()
            .get(&format!("{}.{key}", self.architecture))
    }

    pub fn named(&self, key: &str) -> String {
        format!("{}: {}.{key}", self.gguf.path().display(), self.architecture)
    }

    pub fn unsupported(&self, key: &str, value: impl std::fmt::Display) -> Error {
        Error::input(format!("{}: {value} is not supported", self.named(key)))
            .cause("the model would compute something else than it was trained to")
    }

    pub fn wrong(&self, key: &str, wanted: &str, value: &Value) -> Error {
        Error::input(format!("{} must be {wanted}, not {value}", self.named(key))).hint("fetch the file again")
    }

    pub fn missing(&self, key: &str) -> Error {
        Error::input(format!("{} is missing", self.named(key))).hint("convert the model again with a current llama.cpp")
    }

    pub fn maybe_count(&self, key: &str) -> Result<Option<usize>, Error> {
        match self.get(key) {
            None => Ok(None),
            // The bound keeps products of sizes far from overflow.
            Some(Value::Integer(value)) if (0..1 << 31).contains(value) => Ok(Some(*value as usize)),
            Some(value) => Err(self.wrong(key, "a count", value)),
        }
    }

    pub fn count(&self, key: &str) -> Result<usize, Error> {
        match self.maybe_count(key)? {
            None => Err(self.missing(key)),
            Some(0) => Err(self.wrong(key, "above zero", &Value::Integer(0))),
            Some(count) => Ok(count),
        }
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Number(value)) if value.is_finite() => Ok(Some(*value)),
            Some(Value::Integer(value)) => Ok(Some(*value as f64)),
            Some(value) => Err(self.wrong(key, "a number", value)),
        }
    }

    /// Refuses keys of the architecture that nobody reads, unless they are off.
    pub fn refuse_unknown(&self) -> Result<(), Error> {
        let prefix = format!("{}.", self.architecture);
        for (name, value) in self.gguf.header().metadata() {
            let Some(key) = name.strip_prefix(&prefix) else {
                continue;
            };
            let known = COMMON.contains(&key) || own(self.architecture).contains(&key);
            let off = match value {
                Value::Integer(value) => *value == 0,
                Value::Number(value) => *value == 0.0,
                Value::Flag(value) => !value,
                Value::Text(text) => text.is_empty(),
                Value::List(list) => list.is_empty(),
            };
            if !known && !off {
                return Err(self
                    .unsupported(key, value)
                    .hint("fracture does not know this key; it may be one of a newer llama.cpp"));
            }
        }
        if self.get("attention.causal") == Some(&Value::Flag(false)) {
            return Err(self.unsupported("attention.causal", false));
        }
        Ok(())
    }
}
