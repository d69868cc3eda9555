//! A decoder layer: attention and a feed-forward block, each with its norms, on the residual stream.

use super::Slot;
use super::attention::{Attention, Rotation};
use crate::config::{Config, Experts};
use crate::ops::{self, Linear, Norm, Run};
use crate::weights::Weights;
use candle_core::{Result as CandleResult, Tensor};
use fracture_stage::Error;

#[derive(Debug)]
pub(super) struct Layer {
    input_norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    head_norms: Option<(Norm, Norm)>,
    output: Linear,
    attention_norm: Option<Norm>,
    block_norm: Norm,
    block: Block,
    output_norm: Option<Norm>,
}

/// The feed-forward part.
#[derive(Debug)]
enum Block {
    Gated(Gated),
    Mixture {
        router: Linear,
        experts: Vec<Gated>,
        per_token: usize,
    },
}

/// `down(activation(gate(x)) · up(x))`.
#[derive(Debug)]
struct Gated {
    gate: Linear,
    up: Linear,
    down: Linear,
}

pub(super) fn norm(config: &Config, weights: &mut Weights, name: &str, width: usize) -> Result<Norm, Error> {
    let weight = weights.take(name, &[width])?;
    Norm::new(
        weight,
        config.norm_eps,
        config.family.norm_from_one() && !weights.has_whole_norms(),
    )
    .map_err(|cause| Error::internal(format!("{name} could not be prepared")).cause(cause))
}

/// A projection, with its bias where the architecture has one. A bias that it does not have is left over, which is an
/// error: none is dropped, and none is made up.
fn linear(weights: &mut Weights, name: &str, out: usize, inner: usize, biased: bool) -> Result<Linear, Error> {
    let weight = weights.matrix(&format!("{name}.weight"), out, inner)?;
    let bias = match biased {
        true => Some(weights.take(&format!("{name}.bias"), &[out])?),
        false => None,
    };
    Ok(Linear::new(weight, bias))
}

/// Projections that lie below one another in one matrix.
fn fused(weights: &mut Weights, name: &str, outs: &[usize], inner: usize) -> Result<Vec<Linear>, Error> {
    let all = weights.matrix(&format!("{name}.weight"), outs.iter().sum(), inner)?;
    let mut from = 0;
    outs.iter()
        .map(|&out| {
            let part = all.narrow(from, out);
            from += out;
            let part = part.map_err(|cause| Error::internal(format!("{name} could not be split")).cause(cause))?;
            Ok(Linear::new(part, None))
        })
        .collect()
}

impl Layer {
    pub fn new(config: &Config, index: usize, weights: &mut Weights) -> Result<Self, Error> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let (hidden, head_dim) = (config.hidden, config.head_dim);
        let (queries, keys) = (config.heads * head_dim, config.kv_heads * head_dim);
        let (family, biases) = (config.family, config.biases);
        let (query, key, value) = if family.is_fused() {
            let mut parts = fused(weights, &name("self_attn.qkv_proj"), &[queries, keys, keys], hidden)?.into_iter();
            match (parts.next(), parts.next(), parts.next()) {
                (Some(query), Some(key), Some(value)) => (query, key, value),
                _ => return Err(Error::internal("a fused projection came apart wrongly")),
            }
        } else {
            (
                linear(weights, &name("self_attn.q_proj"), queries, hidden, biases.attention)?,
                linear(weights, &name("self_attn.k_proj"), keys, hidden, biases.attention)?,
                linear(weights, &name("self_attn.v_proj"), keys, hidden, biases.attention)?,
            )
        };
        let head_norms = match family.has_head_norms() {
            true => Some((
                norm(config, weights, &name("self_attn.q_norm.weight"), head_dim)?,
                norm(config, weights, &name("self_attn.k_norm.weight"), head_dim)?,
            )),
            false => None,
        };
        // Gemma 2 and 3 norm what attention gives as well; their norm before the block has a name of its own.
        let (attention_norm, block_norm, output_norm) = match family.has_output_norms() {
            true => (
                Some("post_attention_layernorm"),
                "pre_feedforward_layernorm",
                Some("post_feedforward_layernorm"),
            ),
            false => (None, "post_attention_layernorm", None),
        };
        let mut named = |part: &str| norm(config, weights, &name(&format!("{part}.weight")), hidden);
        let attention_norm = attention_norm.map(&mut named).transpose()?;
        let block_norm = named(block_norm)?;
        let output_norm = output_norm.map(&mut named).transpose()?;
        Ok(Self {
            input_norm: named("input_layernorm")?,
            query,
            key,
            value,
            head_norms,
            output: linear(weights, &name("self_attn.o_proj"), hidden, queries, biases.output)?,
            attention_norm,
            block_norm,
            block: Block::new(config, &name(""), weights)?,
            output_norm,
        })
    }

    /// `x [rows, hidden]` to the same.
    pub fn forward(
        &self,
        run: Run,
        config: &Config,
        index: usize,
        x: Tensor,
        slots: &mut [Slot<'_>],
        rotations: &[Rotation],
    ) -> CandleResult<Tensor> {
        let normed = self.input_norm.forward(run, &x)?;
        let [mut query, mut key, value] = Linear::forward_all([&self.query, &self.key, &self.value], run, &normed)?;
        if let Some((query_norm, key_norm)) = &self.head_norms {
            query = query_norm.forward(run, &query)?;
            key = key_norm.forward(run, &key)?;
        }
        let attention = Attention::new(run, config, index, slots, &rotations[config.layers[index].rope]);
        let mut attended = self
            .output
            .forward(run, &query.apply_op3_no_bwd(&key, &value, &attention)?)?;
        if let Some(norm) = &self.attention_norm {
            attended = norm.forward(run, &attended)?;
        }
        let x = ops::add(run, &x, &attended)?;
        let mut fed = self.block.forward(run, config, &self.block_norm.forward(run, &x)?)?;
        if let Some(norm) = &self.output_norm {
            fed = norm.forward(run, &fed)?;
        }
        ops::add(run, &x, &fed)
    }
}

impl Block {
    fn new(config: &Config, prefix: &str, weights: &mut Weights) -> Result<Self, Error> {
        let (hidden, inner, biased) = (config.hidden, config.intermediate, config.biases.block);
        if let Some(Experts { count, per_token }) = config.experts {
            let name = format!("{prefix}block_sparse_moe");
            let router = linear(weights, &format!("{name}.gate"), count, hidden, false)?;
            let expert = |index: usize| {
                let mut part = |part: &str, out, inner| {
                    linear(weights, &format!("{name}.experts.{index}.{part}"), out, inner, false)
                };
                let (gate, down, up) = (
                    part("w1", inner, hidden)?,
                    part("w2", hidden, inner)?,
                    part("w3", inner, hidden)?,
                );
                Ok::<_, Error>(Gated { gate, up, down })
            };
            let experts = (0..count).map(expert).collect::<Result<_, _>>()?;
            return Ok(Self::Mixture {
                router,
                experts,
                per_token,
            });
        }
        let down = linear(weights, &format!("{prefix}mlp.down_proj"), hidden, inner, biased)?;
        if config.family.is_fused() {
            let mut parts = fused(weights, &format!("{prefix}mlp.gate_up_proj"), &[inner, inner], hidden)?.into_iter();
            return match (parts.next(), parts.next()) {
                (Some(gate), Some(up)) => Ok(Self::Gated(Gated { gate, up, down })),
                _ => Err(Error::internal("a fused projection came apart wrongly")),
            };
        }
        let gate = linear(weights, &format!("{prefix}mlp.gate_proj"), inner, hidden, biased)?;
        let up = linear(weights, &format!("{prefix}mlp.up_proj"), inner, hidden, biased)?;
        Ok(Self::Gated(Gated { gate, up, down }))
    }

    fn forward(&self, run: Run, config: &Config, x: &Tensor) -> CandleResult<Tensor> {
        match self {
            Self::Gated(gated) => gated.forward(run, config, x),
            Self::Mixture {
                router,
                experts,
                per_token,
            } => {
                let shares = route(&router.forward(run, x)?.to_vec2()?, *per_token);
                let mut sum = x.zeros_like()?;
                // Experts in order of their number, so that a row's sum has one order whatever shares its batch.
                for (index, expert) in experts.iter().enumerate() {
                    let (rows, weights): (Vec<u32>, Vec<f32>) = shares
                        .iter()
                        .filter(|share| share.expert == index)
                        .map(|share| (share.row, share.weight))
                        .unzip();
                    if rows.is_empty() {
                        continue;
                    }
                    let count = rows.len();
                    let rows = Tensor::from_vec(rows, count, x.device())?;
                    let weights = Tensor::from_vec(weights, (count, 1), x.device())?;
                    let out = expert.forward(run, config, &x.index_select(&rows, 0)?)?;
                    sum = sum.index_add(&rows, &out.broadcast_mul(&weights)?, 0)?;
                }
                Ok(sum)
            }
        }
    }
}

impl Gated {
    fn forward(&self, run: Run, config: &Config, x: &Tensor) -> CandleResult<Tensor> {
        let [gate, up] = Linear::forward_all([&self.gate, &self.up], run, x)?;
        self.down.forward(run, &ops::gate(run, config.activation, &gate, &up)?)
    }
}

/// A row that goes to an expert, and the weight of its answer.
pub(super) struct Share {
    pub row: u32,
    pub expert: usize,
    pub weight: f32,
}

/// Sends each row to its `per_token` best experts (lower number first among equals), with softmax weights that are
/// normed to one over the chosen.
pub(super) fn route(logits: &[Vec<f32>], per_token: usize) -> Vec<Share> {
    let mut shares = Vec::with_capacity(logits.len() * per_token);
    for (row, logits) in logits.iter().enumerate() {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let top = logits[order[0]];
        let raw: Vec<f32> = order[..per_token]
            .iter()
            .map(|&expert| libm::expf(logits[expert] - top))
            .collect();
        let total: f32 = raw.iter().sum();
        for (&expert, raw) in order.iter().zip(raw) {
            shares.push(Share {
                row: row as u32,
                expert,
                weight: raw / total,
            });
        }
    }
    shares
}
