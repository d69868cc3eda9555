//! The architecture that a GGUF file's metadata describe, as the [`Config`] that drives the decoder.
//!
//! The keys are turned into the fields of a `config.json`, so that there is one reading of each family. A key of the
//! architecture that is not known here is an error that names it, unless its value is "off".

use super::keys::Keys;
use super::{Gguf, Value};
use crate::config::{Config, Rope, Scaling};
use fracture_stage::Error;
use serde_json::{Map, Value as Json, json};

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

impl Keys<'_> {
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
}
