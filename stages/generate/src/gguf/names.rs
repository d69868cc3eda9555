//! The names of tensors, and what llama.cpp's converter does to them.

use super::Gguf;
use crate::config::{Config, Family};
use crate::kernel::Order;

/// Where a tensor of a Hugging Face checkpoint lies in a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The name in the file.
    pub name: String,
    /// One of the experts that are stacked in the tensor.
    pub expert: Option<usize>,
    /// How its rows lie.
    pub order: Order,
}

/// What a name means, of a tensor that a family has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    family: Family,
    head_dim: usize,
    rotates_neighbours: bool,
}

impl Names {
    /// Of the model that `config` describes.
    pub fn new(config: &Config) -> Self {
        Self {
            family: config.family,
            head_dim: config.head_dim,
            // llama.cpp rotates neighbouring dimensions for what it calls llama, and halves for all others.
            rotates_neighbours: matches!(config.family, Family::Llama | Family::Mistral | Family::Mixtral),
        }
    }

    /// The place of the tensor `name`, as transformers calls it; `None` for a name that no model has.
    pub fn place(&self, gguf: &Gguf, name: &str) -> Option<Place> {
        let plain = |name: String| Place {
            name,
            expert: None,
            order: Order::Straight,
        };
        match name {
            "model.embed_tokens.weight" => return Some(plain("token_embd.weight".to_owned())),
            "model.norm.weight" => return Some(plain("output_norm.weight".to_owned())),
            "lm_head.weight" => return Some(plain("output.weight".to_owned())),
            _ => {}
        }
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        if let Some(rest) = part.strip_prefix("block_sparse_moe.experts.") {
            let (expert, matrix) = rest.split_once('.')?;
            let matrix = match matrix {
                "w1" => "gate",
                "w2" => "down",
                "w3" => "up",
                _ => return None,
            };
            // Files of early 2024 hold each expert by itself.
            let single = format!("blk.{layer}.ffn_{matrix}.{expert}.{kind}");
            if gguf.tensor(&single).is_some() {
                return Some(plain(single));
            }
            return Some(Place {
                name: format!("blk.{layer}.ffn_{matrix}_exps.{kind}"),
                expert: Some(expert.parse().ok()?),
                order: Order::Straight,
            });
        }
        let four_norms = self.family.has_output_norms();
        let ours = match part {
            "input_layernorm" => "attn_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "self_attn.qkv_proj" => "attn_qkv",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "post_attention_layernorm" if four_norms => "post_attention_norm",
            "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
            "post_feedforward_layernorm" => "post_ffw_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            "block_sparse_moe.gate" => "ffn_gate_inp",
            _ => return None,
        };
        let turned = self.rotates_neighbours && matches!(ours, "attn_q" | "attn_k");
        Some(Place {
            name: format!("blk.{layer}.{ours}.{kind}"),
            expert: None,
            order: match turned {
                true => Order::Paired(self.head_dim),
                false => Order::Straight,
            },
        })
    }
}
