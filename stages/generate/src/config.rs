//! `config.json` of a model, read into the one description that drives the decoder.
//!
//! Each family's defaults are those of `transformers`' configuration class. A field that could change the model's
//! arithmetic and is not supported is an error that names it: a wrong answer is worse than none.

mod fields;
mod rope;

use crate::kernel::Activation;
use fields::Fields;
pub(crate) use fields::ids;
use fracture_stage::Error;
pub use rope::{Rope, Scaling};

/// Everything that the decoder needs to know about an architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The family that `model_type` names.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward block.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// The longest sequence that the positions are defined for, in tokens.
    pub context: usize,
    /// What the norms add to the mean square.
    pub norm_eps: f32,
    /// Activation of the feed-forward block.
    pub activation: Activation,
    /// One entry per layer.
    pub layers: Vec<LayerConfig>,
    /// The rotary embeddings that layers refer to by index.
    pub ropes: Vec<Rope>,
    /// What attention scores are multiplied by.
    pub attention_scale: f32,
    /// `cap · tanh(score / cap)` of attention scores.
    pub attention_cap: Option<f32>,
    /// `cap · tanh(logit / cap)` of the final logits.
    pub final_cap: Option<f32>,
    /// What embeddings are multiplied by.
    pub embedding_scale: Option<f32>,
    /// The output projection is the embedding.
    pub tied: bool,
    /// Which projections have a bias.
    pub biases: Biases,
    /// Experts of a mixture, and how many of them a token goes to.
    pub experts: Option<Experts>,
    /// Ids that end an answer, as the configuration gives them.
    pub eos: Vec<u32>,
}

/// A model family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Family {
    Llama,
    Mistral,
    Mixtral,
    Qwen2,
    Qwen3,
    Gemma,
    Gemma2,
    Gemma3,
    Phi3,
}

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerConfig {
    /// How many positions, its own included, a position sees; `None` sees all before it.
    pub window: Option<usize>,
    /// Index into [`Config::ropes`].
    pub rope: usize,
}

/// Which projections of a layer have a bias.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub attention: bool,
    /// The output of attention.
    pub output: bool,
    /// The feed-forward block.
    pub block: bool,
}

/// A sparse mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a token is sent to.
    pub per_token: usize,
}

const SUPPORTED: &str = "llama, mistral, mixtral, qwen2, qwen3, gemma, gemma2, gemma3_text, phi3";

impl Family {
    fn of(fields: &Fields<'_>) -> Result<Self, Error> {
        let (model_type, class) = (fields.text("model_type")?, fields.architecture()?);
        let (family, expected) = match model_type.as_deref() {
            Some("llama") => (Self::Llama, "LlamaForCausalLM"),
            Some("mistral") => (Self::Mistral, "MistralForCausalLM"),
            Some("mixtral") => (Self::Mixtral, "MixtralForCausalLM"),
            Some("qwen2") => (Self::Qwen2, "Qwen2ForCausalLM"),
            Some("qwen3") => (Self::Qwen3, "Qwen3ForCausalLM"),
            Some("gemma") => (Self::Gemma, "GemmaForCausalLM"),
            Some("gemma2") => (Self::Gemma2, "Gemma2ForCausalLM"),
            Some("gemma3_text") => (Self::Gemma3, "Gemma3ForCausalLM"),
            Some("phi3") => (Self::Phi3, "Phi3ForCausalLM"),
            Some(other) => {
                return Err(fields
                    .unsupported("model_type", other)
                    .hint(format!("supported: {SUPPORTED}")));
            }
            None => return Err(fields.missing("model_type").hint(format!("supported: {SUPPORTED}"))),
        };
        match class {
            Some(class) if class != expected => Err(fields
                .unsupported("architectures", &class)
                .hint(format!("{expected} is supported"))),
            _ => Ok(family),
        }
    }

    fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma | Self::Gemma2 | Self::Gemma3)
    }

    /// Norm weights are stored as the difference from one.
    pub fn norm_from_one(self) -> bool {
        self.is_gemma()
    }

    /// Queries and keys are normed head by head.
    pub fn has_head_norms(self) -> bool {
        matches!(self, Self::Qwen3 | Self::Gemma3)
    }

    /// Attention and feed-forward outputs are normed before they join the residual stream.
    pub fn has_output_norms(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    /// The projections of queries, keys and values lie in one matrix, and so do gate and up.
    pub fn is_fused(self) -> bool {
        matches!(self, Self::Phi3)
    }
}

impl Config {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// Text that is no JSON object, an unsupported family, a missing or unsupported field; each named.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|cause| {
            Error::input("config.json is not JSON")
                .cause(cause)
                .hint("fetch the checkpoint again")
        })?;
        let fields = Fields::new(&value)?;
        let family = Family::of(&fields)?;
        fields.refuse_unknown(family)?;
        let hidden = fields.count("hidden_size")?;
        let heads = fields.count("num_attention_heads")?;
        let layers = fields.count("num_hidden_layers")?;
        let kv_heads = match fields.maybe_count("num_key_value_heads")? {
            Some(given) => given,
            // Said to be nothing, it is that of queries; not said, the family's.
            None if fields.has("num_key_value_heads") => heads,
            None => default_kv_heads(family, heads),
        };
        let head_dim = match fields.maybe_count("head_dim")? {
            Some(given) => given,
            None => match family {
                Family::Qwen3 => 128,
                Family::Gemma | Family::Gemma2 | Family::Gemma3 => 256,
                _ if hidden.is_multiple_of(heads) => hidden / heads,
                _ => {
                    return Err(fields
                        .missing("head_dim")
                        .cause("hidden_size is no multiple of num_attention_heads"));
                }
            },
        };
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            let cause = format!("num_key_value_heads is {kv_heads}, num_attention_heads is {heads}");
            return Err(Error::input("config.json: query heads do not divide among key-value heads").cause(cause));
        }
        let context = fields.count_or("max_position_embeddings", default_context(family))?;
        let (ropes, context) = rope::read(&fields, family, head_dim, context)?;
        let scalar = match family {
            Family::Gemma2 | Family::Gemma3 => fields.number_or("query_pre_attn_scalar", 256.0)?,
            _ => head_dim as f64,
        };
        let config = Self {
            family,
            hidden,
            intermediate: fields.count("intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            vocabulary: fields.count("vocab_size")?,
            context,
            norm_eps: fields.number_or("rms_norm_eps", default_eps(family))? as f32,
            activation: activation(&fields, family)?,
            layers: layer_configs(&fields, family, layers)?,
            ropes,
            attention_scale: libm::pow(scalar, -0.5) as f32,
            // Gemma 3 carries the field over and applies none, there as here.
            attention_cap: match family {
                Family::Gemma3 => None,
                _ => cap(&fields, family, "attn_logit_softcapping", 50.0)?,
            },
            final_cap: cap(&fields, family, "final_logit_softcapping", 30.0)?,
            embedding_scale: family.is_gemma().then(|| libm::sqrt(hidden as f64) as f32),
            tied: fields.flag_or("tie_word_embeddings", family.is_gemma())?,
            biases: biases(&fields, family)?,
            experts: experts(&fields, family)?,
            eos: fields.ids("eos_token_id")?,
        };
        config.check_layers()?;
        Ok(config)
    }

    fn check_layers(&self) -> Result<(), Error> {
        match self
            .layers
            .iter()
            .find(|layer| layer.rope >= self.ropes.len() || layer.window == Some(0))
        {
            Some(layer) => Err(Error::input(format!("config.json: a layer cannot be run: {layer:?}"))),
            None => Ok(()),
        }
    }
}

fn default_kv_heads(family: Family, heads: usize) -> usize {
    match family {
        Family::Llama | Family::Phi3 => heads,
        Family::Mistral | Family::Mixtral => 8,
        Family::Qwen2 | Family::Qwen3 => 32,
        Family::Gemma => 16,
        Family::Gemma2 | Family::Gemma3 => 4,
    }
}

fn default_context(family: Family) -> usize {
    match family {
        Family::Llama => 2048,
        Family::Mistral | Family::Mixtral | Family::Gemma3 => 131_072,
        Family::Qwen2 | Family::Qwen3 => 32_768,
        Family::Gemma | Family::Gemma2 => 8192,
        Family::Phi3 => 4096,
    }
}

fn default_eps(family: Family) -> f64 {
    match family {
        Family::Mixtral | Family::Phi3 => 1e-5,
        _ => 1e-6,
    }
}

/// Soft caps exist in Gemma 2, and of the final logits in 3 (where there is none by default).
fn cap(fields: &Fields<'_>, family: Family, name: &str, default: f64) -> Result<Option<f32>, Error> {
    let value = match family {
        Family::Gemma2 if !fields.has(name) => Some(default),
        Family::Gemma2 | Family::Gemma3 => fields.maybe_number(name)?,
        _ => None,
    };
    Ok(value.map(|value| value as f32))
}

fn activation(fields: &Fields<'_>, family: Family) -> Result<Activation, Error> {
    // The first Gemma says it in either field, and its `gelu` means the tanh form that it was trained with.
    let first = family == Family::Gemma;
    let (name, default) = match family {
        Family::Gemma if fields.get("hidden_activation").is_none() => ("hidden_act", "gelu_pytorch_tanh"),
        Family::Gemma | Family::Gemma2 | Family::Gemma3 => ("hidden_activation", "gelu_pytorch_tanh"),
        _ => ("hidden_act", "silu"),
    };
    match fields.text(name)?.as_deref().unwrap_or(default) {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        "gelu" if first => Ok(Activation::GeluTanh),
        "gelu" => Ok(Activation::Gelu),
        other => Err(fields
            .unsupported(name, other)
            .hint("silu, gelu and gelu_pytorch_tanh are supported")),
    }
}

fn biases(fields: &Fields<'_>, family: Family) -> Result<Biases, Error> {
    let attention = match family {
        Family::Mistral | Family::Mixtral | Family::Phi3 => false,
        // Qwen2 has these three always, and none behind attention.
        Family::Qwen2 => {
            return Ok(Biases {
                attention: true,
                ..Biases::default()
            });
        }
        _ => fields.flag_or("attention_bias", false)?,
    };
    let block = family == Family::Llama && fields.flag_or("mlp_bias", false)?;
    Ok(Biases {
        attention,
        output: attention,
        block,
    })
}

fn experts(fields: &Fields<'_>, family: Family) -> Result<Option<Experts>, Error> {
    if family != Family::Mixtral {
        return Ok(None);
    }
    let experts = Experts {
        count: fields.count_or("num_local_experts", 8)?,
        per_token: fields.count_or("num_experts_per_tok", 2)?,
    };
    if experts.per_token == 0 || experts.per_token > experts.count {
        return Err(fields.unsupported("num_experts_per_tok", &experts.per_token.to_string()));
    }
    Ok(Some(experts))
}

/// Which layers look through a window, and which rotary embedding they use.
fn layer_configs(fields: &Fields<'_>, family: Family, layers: usize) -> Result<Vec<LayerConfig>, Error> {
    let window = window(fields, family)?;
    let sliding: Vec<bool> = match fields.layer_types(layers)? {
        Some(types) => types,
        None => match family {
            Family::Qwen2 | Family::Qwen3 => {
                let from = fields.count_or("max_window_layers", 28)?;
                (0..layers).map(|layer| layer >= from).collect()
            }
            Family::Gemma2 => (0..layers).map(|layer| layer % 2 == 0).collect(),
            Family::Gemma3 => {
                let every = fields.count_or("sliding_window_pattern", 6)?.max(1);
                (0..layers).map(|layer| !(layer + 1).is_multiple_of(every)).collect()
            }
            _ => vec![true; layers],
        },
    };
    let local_rope = usize::from(family == Family::Gemma3);
    let layer = |slides: bool| LayerConfig {
        window: if slides { window } else { None },
        rope: if slides { local_rope } else { 0 },
    };
    let typed = fields.get("layer_types").is_some();
    if typed && window.is_none() && sliding.contains(&true) {
        return Err(fields.unsupported("layer_types", "sliding_attention without a sliding_window"));
    }
    // These families have one kind of layer; `transformers` passes over what their `layer_types` say.
    let one_kind = matches!(
        family,
        Family::Llama | Family::Mistral | Family::Mixtral | Family::Gemma | Family::Phi3
    );
    if typed && one_kind && window.is_some() && sliding.contains(&false) {
        return Err(fields.unsupported("layer_types", "full_attention beside a sliding_window"));
    }
    Ok(sliding.into_iter().map(layer).collect())
}

fn window(fields: &Fields<'_>, family: Family) -> Result<Option<usize>, Error> {
    match family {
        Family::Llama | Family::Gemma => Ok(None),
        Family::Qwen2 | Family::Qwen3 if !fields.flag_or("use_sliding_window", false)? => Ok(None),
        Family::Mixtral | Family::Phi3 => fields.maybe_count("sliding_window"),
        _ if !fields.has("sliding_window") => Ok(Some(4096)),
        _ => fields.maybe_count("sliding_window"),
    }
}

#[cfg(test)]
mod tests;
