//! Typed access to the fields of a `config.json`, with errors that name the field.

use super::Family;
use fracture_stage::Error;
use serde_json::{Map, Value};

/// Fields that do not change what a model computes.
const HARMLESS: &[&str] = &[
    "_name_or_path",
    "_attn_implementation_autoset",
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// Fields that every family reads.
const COMMON: &[&str] = &[
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "layer_types",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "tie_word_embeddings",
    "vocab_size",
];

/// Fields that a family reads besides the common ones.
fn own(family: Family) -> &'static [&'static str] {
    match family {
        Family::Llama => &["attention_bias", "mlp_bias"],
        Family::Mistral => &["sliding_window"],
        Family::Mixtral => &["sliding_window", "num_local_experts", "num_experts_per_tok"],
        Family::Qwen2 => &["use_sliding_window", "sliding_window", "max_window_layers"],
        Family::Qwen3 => &[
            "attention_bias",
            "use_sliding_window",
            "sliding_window",
            "max_window_layers",
        ],
        Family::Gemma => &["attention_bias", "hidden_activation"],
        Family::Gemma2 => &[
            "attention_bias",
            "hidden_activation",
            "sliding_window",
            "query_pre_attn_scalar",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            // Without effect on one forward pass: how much memory the cache of `transformers` takes.
            "sliding_window_size",
        ],
        Family::Gemma3 => &[
            "attention_bias",
            "hidden_activation",
            "sliding_window",
            "sliding_window_pattern",
            "_sliding_window_pattern",
            "query_pre_attn_scalar",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "rope_local_base_freq",
        ],
        Family::Phi3 => &[
            "sliding_window",
            "original_max_position_embeddings",
            "partial_rotary_factor",
        ],
    }
}

/// The object in a `config.json`.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub fn new(value: &'a Value) -> Result<Self, Error> {
        match value.as_object() {
            Some(map) => Ok(Self { map }),
            None => Err(Error::input("config.json does not hold an object").hint("fetch the checkpoint again")),
        }
    }

    /// An error about a field that this version cannot honour.
    pub fn unsupported(&self, name: &str, value: &str) -> Error {
        Error::input(format!("config.json: {name}: {value} is not supported"))
            .cause("the model would compute something else than it was trained to")
    }

    /// An error about a field that is not there.
    pub fn missing(&self, name: &str) -> Error {
        Error::input(format!("config.json: {name} is missing"))
    }

    fn wrong(&self, name: &str, wanted: &str, value: &Value) -> Error {
        Error::input(format!("config.json: {name} must be {wanted}, not {value}"))
    }

    /// Refuses fields that nobody reads, unless they are off.
    pub fn refuse_unknown(&self, family: Family) -> Result<(), Error> {
        for (name, value) in self.map {
            let known = HARMLESS.contains(&name.as_str())
                || COMMON.contains(&name.as_str())
                || own(family).contains(&name.as_str())
                // All of a head turns, which is what the others do anyway.
                || name == "partial_rotary_factor" && value.as_f64() == Some(1.0);
            let off = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(items) => items.is_empty(),
                _ => false,
            };
            if !known && !off {
                let mut shown = value.to_string();
                if shown.len() > 80 {
                    shown = "its value".to_owned();
                }
                return Err(self.unsupported(name, &shown).hint(format!(
                    "fracture does not know this field for {family:?}; use a plain checkpoint"
                )));
            }
        }
        Ok(())
    }

    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// The value, if it is there and not null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub fn object(&self, name: &str) -> Result<Option<Fields<'a>>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields { map })),
            Some(value) => Err(self.wrong(name, "an object", value)),
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(String::as_str)
    }

    pub fn maybe_count(&self, name: &str) -> Result<Option<usize>, Error> {
        match self.get(name) {
            None => Ok(None),
            // The bound keeps products of sizes far from overflow.
            Some(value) => match value.as_u64() {
                Some(count) if count < 1 << 31 => Ok(Some(count as usize)),
                _ => Err(self.wrong(name, "a count", value)),
            },
        }
    }

    /// A count that must be there and above zero.
    pub fn count(&self, name: &str) -> Result<usize, Error> {
        match self.maybe_count(name)? {
            None => Err(self.missing(name)),
            Some(0) => Err(self.wrong(name, "above zero", &Value::from(0))),
            Some(count) => Ok(count),
        }
    }

    pub fn count_or(&self, name: &str, default: usize) -> Result<usize, Error> {
        Ok(self.maybe_count(name)?.unwrap_or(default))
    }

    pub fn maybe_number(&self, name: &str) -> Result<Option<f64>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(self.wrong(name, "a number", value)),
            },
        }
    }

    pub fn number_or(&self, name: &str, default: f64) -> Result<f64, Error> {
        Ok(self.maybe_number(name)?.unwrap_or(default))
    }

    pub fn number(&self, name: &str) -> Result<f64, Error> {
        self.maybe_number(name)?.ok_or_else(|| self.missing(name))
    }

    pub fn flag_or(&self, name: &str, default: bool) -> Result<bool, Error> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(self.wrong(name, "true or false", value)),
        }
    }

    pub fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(value) => Err(self.wrong(name, "text", value)),
        }
    }

    /// The first of `architectures`.
    pub fn architecture(&self) -> Result<Option<String>, Error> {
        match self.get("architectures") {
            None => Ok(None),
            Some(value) => match value.as_array().and_then(|names| names.first()) {
                None => Ok(None),
                Some(Value::String(name)) => Ok(Some(name.clone())),
                Some(_) => Err(self.wrong("architectures", "a list of names", value)),
            },
        }
    }

    /// One id or a list of ids.
    pub fn ids(&self, name: &str) -> Result<Vec<u32>, Error> {
        ids(self.get(name)).ok_or_else(|| self.wrong(name, "a token id or a list of them", &self.map[name]))
    }

    /// `layer_types` as "does this layer slide".
    pub fn layer_types(&self, layers: usize) -> Result<Option<Vec<bool>>, Error> {
        let Some(value) = self.get("layer_types") else {
            return Ok(None);
        };
        let Some(types) = value.as_array().filter(|types| types.len() == layers) else {
            return Err(self.wrong("layer_types", &format!("a list of {layers} names"), value));
        };
        types
            .iter()
            .map(|kind| match kind.as_str() {
                Some("full_attention") => Ok(false),
                Some("sliding_attention") => Ok(true),
                _ => Err(self.unsupported("layer_types", &kind.to_string())),
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

/// One id or a list of ids; `None` when it is neither.
pub(crate) fn ids(value: Option<&Value>) -> Option<Vec<u32>> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(one).collect(),
        Some(value) => one(value).map(|id| vec![id]),
    }
}
