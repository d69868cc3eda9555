//! The architecture that a GGUF file's metadata describe, as the [`Config`] that drives the decoder.
//!
//! The keys are turned into the fields of a `config.json`, so that there is one reading of each family. A key of the
//! architecture that is not known here is an error that names it, unless its value is "off".

use super::{Gguf, Value};
use crate::config::{Config, Rope, Scaling};
use fracture_stage::Error;
use serde_json::{Map, Value as Json, json};

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

/// Reads the architecture.
///
/// # Errors
/// An architecture or a key that is not supported, a missing key, values that do not fit together; each named.
pub(crate) fn read(gguf: &Gguf) -> Result<Config, Error> {
    let keys = Keys::new(gguf)?;
    keys.refuse_unknown()?;
    let mut fields = keys.fields()?;
    let long = keys.long_factors()?;
    if long.is_none() {
        if let Some(scaling) = keys.scaling()? {
            fields.insert("rope_scaling".to_owned(), scaling);
        }
    }
    fields.insert("eos_token_id".to_owned(), json!(super::vocabulary::named_ends(gguf)));
    let told = |error: Error| error.context(format!("{}: its metadata cannot be used", gguf.path().display()));
    let mut config = Config::parse(&Json::Object(fields).to_string()).map_err(told)?;
    if let Some(long) = long {
        let theta = keys.number("rope.freq_base")?.unwrap_or(1e4);
        let scaling = Scaling::Long {
            factors: long.factors,
            amplitude: long.amplitude,
        };
        config.ropes[0] = Rope::new(theta, keys.rotated(config.head_dim)?, &scaling);
        config.context = config.context.min(long.context.unwrap_or(usize::MAX));
    }
    Ok(config)
}

/// Divisors of the rotary frequencies that lie in the file as a tensor.
struct Long {
    factors: Vec<f64>,
    amplitude: f64,
    context: Option<usize>,
}

/// The keys of the file's architecture.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl<'a> Keys<'a> {
    fn new(gguf: &'a Gguf) -> Result<Self, Error> {
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

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.gguf
            .header()
            .metadata()
            .get(&format!("{}.{key}", self.architecture))
    }

    fn named(&self, key: &str) -> String {
        format!("{}: {}.{key}", self.gguf.path().display(), self.architecture)
    }

    fn unsupported(&self, key: &str, value: impl std::fmt::Display) -> Error {
        Error::input(format!("{}: {value} is not supported", self.named(key)))
            .cause("the model would compute something else than it was trained to")
    }

    fn wrong(&self, key: &str, wanted: &str, value: &Value) -> Error {
        Error::input(format!("{} must be {wanted}, not {value}", self.named(key))).hint("fetch the file again")
    }

    fn missing(&self, key: &str) -> Error {
        Error::input(format!("{} is missing", self.named(key))).hint("convert the model again with a current llama.cpp")
    }

    fn maybe_count(&self, key: &str) -> Result<Option<usize>, Error> {
        match self.get(key) {
            None => Ok(None),
            // The bound keeps products of sizes far from overflow.
            Some(Value::Integer(value)) if (0..1 << 31).contains(value) => Ok(Some(*value as usize)),
            Some(value) => Err(self.wrong(key, "a count", value)),
        }
    }

    fn count(&self, key: &str) -> Result<usize, Error> {
        match self.maybe_count(key)? {
            None => Err(self.missing(key)),
            Some(0) => Err(self.wrong(key, "above zero", &Value::Integer(0))),
            Some(count) => Ok(count),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Number(value)) if value.is_finite() => Ok(Some(*value)),
            Some(Value::Integer(value)) => Ok(Some(*value as f64)),
            Some(value) => Err(self.wrong(key, "a number", value)),
        }
    }

    /// Refuses keys of the architecture that nobody reads, unless they are off.
    fn refuse_unknown(&self) -> Result<(), Error> {
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

    /// The fields of a `config.json`, but for what stretches the rotary embedding.
    fn fields(&self) -> Result<Map<String, Json>, Error> {
        let (hidden, heads) = (self.count("embedding_length")?, self.count("attention.head_count")?);
        let layers = self.count("block_count")?;
        let head_dim = match self.maybe_count("attention.key_length")? {
            Some(length) => length,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => return Err(self.missing("attention.key_length")),
        };
        if let Some(length) = self
            .maybe_count("attention.value_length")?
            .filter(|length| *length != head_dim)
        {
            let cause = format!("{length}, where keys have a length of {head_dim},");
            return Err(self.unsupported("attention.value_length", cause));
        }
        let embedding = match self.gguf.tensor("token_embd.weight") {
            Some((_, tensor)) if tensor.shape.len() == 2 => tensor.shape[0],
            _ => {
                return Err(Error::input(format!(
                    "{}: no token_embd.weight",
                    self.gguf.path().display()
                )));
            }
        };
        let (model_type, class) = self.family()?;
        let mut fields = Map::new();
        let mut set = |name: &str, value: Json| fields.insert(name.to_owned(), value);
        set("model_type", json!(model_type));
        set("architectures", json!([class]));
        set("hidden_size", json!(hidden));
        set("num_attention_heads", json!(heads));
        set("num_hidden_layers", json!(layers));
        set(
            "num_key_value_heads",
            json!(self.maybe_count("attention.head_count_kv")?.unwrap_or(heads)),
        );
        set("head_dim", json!(head_dim));
        set("vocab_size", json!(embedding));
        set("max_position_embeddings", json!(self.count("context_length")?));
        set("intermediate_size", json!(self.count("feed_forward_length")?));
        let epsilon = self.number("attention.layer_norm_rms_epsilon")?;
        // The file holds an f32: its shortest decimal is what the checkpoint said.
        let epsilon = epsilon.ok_or_else(|| self.missing("attention.layer_norm_rms_epsilon"))? as f32;
        set(
            "rms_norm_eps",
            json!(epsilon.to_string().parse::<f64>().unwrap_or(f64::from(epsilon))),
        );
        set("rope_theta", json!(self.number("rope.freq_base")?.unwrap_or(1e4)));
        set(
            "tie_word_embeddings",
            json!(self.gguf.tensor("output.weight").is_none()),
        );
        let window = self
            .maybe_count("attention.sliding_window")?
            .filter(|window| *window > 0);
        match model_type {
            "llama" => {
                let has = |name: &str| self.gguf.tensor(name).is_some();
                set("attention_bias", json!(has("blk.0.attn_q.bias")));
                set("mlp_bias", json!(has("blk.0.ffn_up.bias")));
            }
            "mistral" => drop(set("sliding_window", json!(window))),
            "mixtral" => {
                set("sliding_window", json!(window));
                set("num_local_experts", json!(self.count("expert_count")?));
                set("num_experts_per_tok", json!(self.count("expert_used_count")?));
            }
            "gemma2" | "gemma3_text" => {
                set(
                    "query_pre_attn_scalar",
                    json!(self.query_scalar(layers, hidden, heads, head_dim)),
                );
                let default = if model_type == "gemma2" { Some(4096) } else { None };
                let window = window
                    .or(default)
                    .ok_or_else(|| self.missing("attention.sliding_window"))?;
                set("sliding_window", json!(window));
                set("layer_types", json!(self.layer_types(layers)?));
                for cap in ["attn_logit_softcapping", "final_logit_softcapping"] {
                    if let Some(value) = self.number(cap)? {
                        set(cap, json!(value));
                    }
                }
                if model_type == "gemma3_text" {
                    set(
                        "rope_local_base_freq",
                        json!(self.number("rope.freq_base_swa")?.unwrap_or(1e4)),
                    );
                }
            }
            "phi3" => {
                set("sliding_window", json!(window));
                let rotated = self.rotated(head_dim)?;
                if rotated != head_dim {
                    set("partial_rotary_factor", json!(rotated as f64 / head_dim as f64));
                }
            }
            _ => {}
        }
        if model_type != "phi3" && self.rotated(head_dim)? != head_dim {
            return Err(self.unsupported("rope.dimension_count", self.rotated(head_dim)?));
        }
        Ok(fields)
    }

    /// `model_type` and class of the family. What llama.cpp calls llama is several.
    fn family(&self) -> Result<(&'static str, &'static str), Error> {
        let experts = self.maybe_count("expert_count")?.unwrap_or(0);
        let window = self.maybe_count("attention.sliding_window")?.unwrap_or(0);
        Ok(match self.architecture {
            "llama" if experts > 0 => ("mixtral", "MixtralForCausalLM"),
            "llama" if window > 0 => ("mistral", "MistralForCausalLM"),
            "llama" => ("llama", "LlamaForCausalLM"),
            "qwen2" => ("qwen2", "Qwen2ForCausalLM"),
            "qwen3" => ("qwen3", "Qwen3ForCausalLM"),
            "gemma" => ("gemma", "GemmaForCausalLM"),
            "gemma2" => ("gemma2", "Gemma2ForCausalLM"),
            "gemma3" => ("gemma3_text", "Gemma3ForCausalLM"),
            _ => ("phi3", "Phi3ForCausalLM"),
        })
    }

    /// How many dimensions of a head turn.
    fn rotated(&self, head_dim: usize) -> Result<usize, Error> {
        Ok(self.maybe_count("rope.dimension_count")?.unwrap_or(head_dim))
    }

    /// What Gemma scales attention by. No file says so; as llama.cpp does, the largest models are known by their depth.
    fn query_scalar(&self, layers: usize, hidden: usize, heads: usize, head_dim: usize) -> usize {
        match (self.architecture, layers) {
            ("gemma2", 46) | ("gemma3", 62) => hidden / heads,
            _ => head_dim,
        }
    }

    /// Which layers look through the window: all but every so many-th, or as a list says.
    fn layer_types(&self, layers: usize) -> Result<Vec<&'static str>, Error> {
        const KEY: &str = "attention.sliding_window_pattern";
        let name = |slides: bool| if slides { "sliding_attention" } else { "full_attention" };
        let every = match self.get(KEY) {
            Some(Value::List(_)) => {
                let listed = self.gguf.header().integers(&format!("{}.{KEY}", self.architecture))?;
                let listed = listed.unwrap_or_default();
                if listed.len() != layers {
                    return Err(self.unsupported(KEY, format!("a list of {} for {layers} layers", listed.len())));
                }
                return Ok(listed.into_iter().map(|slides| name(slides != 0)).collect());
            }
            _ => self.maybe_count(KEY)?,
        };
        let every = every.unwrap_or(if self.architecture == "gemma2" { 2 } else { 6 });
        Ok((0..layers)
            .map(|layer| name(every == 0 || layer % every < every - 1))
            .collect())
    }

    /// Divisors that the file holds as a tensor: Llama 3's, and the short list of LongRoPE.
    fn long_factors(&self) -> Result<Option<Long>, Error> {
        let head_dim = match self.maybe_count("attention.key_length")? {
            Some(length) => length,
            None => self.count("embedding_length")? / self.count("attention.head_count")?,
        };
        let pairs = self.rotated(head_dim)? / 2;
        let short = self.gguf.small("rope_factors_short.weight", pairs)?;
        let freqs = self.gguf.small("rope_freqs.weight", pairs)?;
        let kind = self.scaling_type()?;
        let Some(factors) = short.as_ref().or(freqs.as_ref()) else {
            return match kind {
                Some("longrope") => Err(self
                    .unsupported("rope.scaling.type", "longrope")
                    .cause("the file has no tensor rope_factors_short.weight")),
                _ => Ok(None),
            };
        };
        if factors.iter().any(|factor| !(*factor > 0.0 && factor.is_finite())) {
            let place = self.gguf.path().display();
            return Err(Error::input(format!(
                "{place}: a divisor of the rotary frequencies is not above zero"
            )));
        }
        match kind {
            None | Some("none" | "longrope") => {}
            Some(other) => {
                let cause = format!("`{other}`, with divisors in a tensor beside it,");
                return Err(self.unsupported("rope.scaling.type", cause));
            }
        }
        let amplitude = match short {
            Some(_) => self.number("rope.scaling.attn_factor")?.unwrap_or(1.0),
            None => 1.0,
        };
        Ok(Some(Long {
            factors: factors.iter().map(|factor| f64::from(*factor)).collect(),
            amplitude,
            // Beyond it other divisors hold, which would change the keys already cached.
            context: match short {
                Some(_) => self.maybe_count("rope.scaling.original_context_length")?,
                None => None,
            },
        }))
    }

    fn scaling_type(&self) -> Result<Option<&'a str>, Error> {
        match self.get("rope.scaling.type") {
            None => Ok(None),
            Some(Value::Text(kind)) => Ok(Some(kind)),
            Some(value) => Err(self.wrong("rope.scaling.type", "text", value)),
        }
    }

    /// `rope_scaling` of a `config.json`.
    fn scaling(&self) -> Result<Option<Json>, Error> {
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.number("rope.scale_linear")?,
        };
        let factor = factor.filter(|factor| *factor != 0.0);
        let kind = match (self.scaling_type()?, factor) {
            (None | Some("none"), None) | (Some("none"), _) => return Ok(None),
            (None | Some("linear"), None | Some(1.0)) => return Ok(None),
            (None, Some(_)) => "linear",
            (Some(kind), _) => kind,
        };
        let factor = factor.ok_or_else(|| self.missing("rope.scaling.factor"))?;
        match kind {
            "linear" => Ok(Some(json!({"rope_type": "linear", "factor": factor}))),
            "yarn" => {
                let own = self.number("rope.scaling.attn_factor")?.unwrap_or(1.0);
                let mut scaling = json!({
                    "rope_type": "yarn",
                    "factor": factor,
                    "attention_factor": own * (1.0 + 0.1 * libm::log(factor.max(1.0))),
                });
                for (field, key) in [
                    (
                        "original_max_position_embeddings",
                        "rope.scaling.original_context_length",
                    ),
                    ("beta_fast", "rope.scaling.yarn_beta_fast"),
                    ("beta_slow", "rope.scaling.yarn_beta_slow"),
                ] {
                    if let Some(value) = self.number(key)? {
                        scaling[field] = json!(value);
                    }
                }
                Ok(Some(scaling))
            }
            other => Err(self
                .unsupported("rope.scaling.type", format!("`{other}`"))
                .hint("none, linear, yarn and longrope are supported")),
        }
    }
}
