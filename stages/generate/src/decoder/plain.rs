//! The decoder by candle's own operations: what computes where our kernels do not run, on accelerators.
//!
//! Keys and values are kept in main memory with those of every other sequence, so that prefixes are shared as ever; they
//! travel to the device at each step. Results are close to the kernels', not equal in their bits, and may depend on what
//! shares a batch.

use super::{Slot, Wanted};
use crate::config::{Config, Experts, Rope};
use crate::kernel::Activation;
use crate::weights::Weights;
use candle_core::{D, Device, Result as CandleResult, Tensor};
use fracture_stage::Error;

/// A language model on a device, in f32.
#[derive(Debug)]
pub(super) struct Plain {
    device: Device,
    embedding: Tensor,
    layers: Vec<PlainLayer>,
    norm: Tensor,
    head: Tensor,
}

#[derive(Debug)]
struct PlainLayer {
    input_norm: Tensor,
    query: Affine,
    key: Affine,
    value: Affine,
    head_norms: Option<(Tensor, Tensor)>,
    output: Affine,
    attention_norm: Option<Tensor>,
    block_norm: Tensor,
    router: Option<Affine>,
    /// One, or those of a mixture.
    blocks: Vec<[Affine; 3]>,
    output_norm: Option<Tensor>,
}

/// A weight `[out, in]` and a bias `[out]`.
#[derive(Debug)]
struct Affine {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Affine {
    fn take(weights: &mut Weights, name: &str, out: usize, inner: usize, biased: bool) -> Result<Self, Error> {
        let weight = weights.take(&format!("{name}.weight"), &[out, inner])?;
        let bias = match biased {
            true => Some(weights.take(&format!("{name}.bias"), &[out])?),
            false => None,
        };
        Ok(Self { weight, bias })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let product = x.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

impl Plain {
    /// Takes all weights; they come out on `device`.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or is left over.
    pub fn new(config: &Config, mut weights: Weights, device: &Device) -> Result<Self, Error> {
        let (vocabulary, hidden) = (config.vocabulary, config.hidden);
        if config.tied {
            weights.tie();
        }
        let embedding = weights.take("model.embed_tokens.weight", &[vocabulary, hidden])?;
        let norm = norm(config, &mut weights, "model.norm.weight", hidden)?;
        let layers = (0..config.layers.len())
            .map(|index| PlainLayer::new(config, index, &mut weights))
            .collect::<Result<Vec<_>, _>>()?;
        let head = match config.tied {
            true => weights
                .parted_head(vocabulary, hidden)?
                .unwrap_or_else(|| embedding.clone()),
            false => weights.take("lm_head.weight", &[vocabulary, hidden])?,
        };
        weights.finish(config.tied)?;
        Ok(Self {
            device: device.clone(),
            embedding,
            layers,
            norm,
            head,
        })
    }

    /// Runs the new tokens of all slots and returns their states behind the final norm, `[rows, hidden]`, in main memory.
    ///
    /// # Errors
    /// Candle's.
    pub fn hidden(&self, config: &Config, slots: &mut [Slot<'_>]) -> CandleResult<Tensor> {
        let states = self.states(config, slots)?;
        rms_norm(&states, &self.norm, config)?.to_device(&Device::Cpu)
    }

    /// Runs the new tokens of all slots and returns logits `[rows, vocabulary]` in main memory.
    ///
    /// # Errors
    /// Candle's.
    pub fn logits(&self, config: &Config, slots: &mut [Slot<'_>], wanted: Wanted) -> CandleResult<Tensor> {
        let mut states = self.states(config, slots)?;
        if wanted == Wanted::Last {
            let ends = slots.iter().scan(0, |end, slot| {
                *end += slot.tokens.len() as u32;
                Some(*end - 1)
            });
            let last: Vec<u32> = ends.collect();
            let count = last.len();
            states = states.index_select(&Tensor::from_vec(last, count, &self.device)?, 0)?;
        }
        let logits = rms_norm(&states, &self.norm, config)?.matmul(&self.head.t()?)?;
        let logits = match config.final_cap {
            Some(cap) => soft_cap(&logits, cap)?,
            None => logits,
        };
        logits.to_device(&Device::Cpu)?.contiguous()
    }

    fn states(&self, config: &Config, slots: &mut [Slot<'_>]) -> CandleResult<Tensor> {
        let tokens: Vec<u32> = slots.iter().flat_map(|slot| slot.tokens.iter().copied()).collect();
        let rows = tokens.len();
        let tokens = Tensor::from_vec(tokens, rows, &self.device)?;
        let mut x = self.embedding.index_select(&tokens, 0)?;
        if let Some(scale) = config.embedding_scale {
            x = (x * f64::from(scale))?;
        }
        let turn = |rope: &Rope| Turn::new(rope, slots, &self.device);
        let turns = config.ropes.iter().map(turn).collect::<CandleResult<Vec<_>>>()?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(config, index, &x, slots, &turns[config.layers[index].rope])?;
        }
        for slot in slots.iter_mut() {
            slot.cache.advance(slot.tokens.len());
        }
        Ok(x)
    }
}

fn norm(config: &Config, weights: &mut Weights, name: &str, width: usize) -> Result<Tensor, Error> {
    let weight = weights.take(name, &[width])?;
    let whole = match config.family.norm_from_one() && !weights.has_whole_norms() {
        true => weight + 1.0,
        false => Ok(weight),
    };
    whole.map_err(|cause| Error::internal(format!("{name} could not be prepared")).cause(cause))
}

fn rms_norm(x: &Tensor, weight: &Tensor, config: &Config) -> CandleResult<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    let root = (mean + f64::from(config.norm_eps))?.sqrt()?;
    x.broadcast_div(&root)?.broadcast_mul(weight)
}

fn soft_cap(x: &Tensor, cap: f32) -> CandleResult<Tensor> {
    let cap = f64::from(cap);
    (x / cap)?.tanh()? * cap
}

/// Cosines and sines of every row of a batch, `[rows, 1, pairs]`.
struct Turn {
    pairs: usize,
    cosines: Tensor,
    sines: Tensor,
}

impl Turn {
    fn new(rope: &Rope, slots: &[Slot<'_>], device: &Device) -> CandleResult<Self> {
        let pairs = rope.frequencies.len();
        let rows: usize = slots.iter().map(|slot| slot.tokens.len()).sum();
        let (mut cosines, mut sines) = (vec![0.0; rows * pairs], vec![0.0; rows * pairs]);
        let positions = slots.iter().flat_map(|slot| {
            let first = slot.cache.length();
            first..first + slot.tokens.len()
        });
        let out = cosines.chunks_exact_mut(pairs).zip(sines.chunks_exact_mut(pairs));
        for (position, (cosines, sines)) in positions.zip(out) {
            rope.angles(position, cosines, sines);
        }
        Ok(Self {
            pairs,
            cosines: Tensor::from_vec(cosines, (rows, 1, pairs), device)?,
            sines: Tensor::from_vec(sines, (rows, 1, pairs), device)?,
        })
    }

    /// Turns heads `[rows, heads, head_dim]`: dimension `i` with dimension `i + pairs`; dimensions beyond stay.
    fn turn(&self, x: &Tensor) -> CandleResult<Tensor> {
        let (pairs, width) = (self.pairs, x.dim(2)?);
        let (low, high) = (x.narrow(2, 0, pairs)?, x.narrow(2, pairs, pairs)?);
        let mixed = |a: &Tensor, b: &Tensor| {
            Ok::<_, candle_core::Error>((a.broadcast_mul(&self.cosines)?, b.broadcast_mul(&self.sines)?))
        };
        let (low_cosine, high_sine) = mixed(&low, &high)?;
        let (high_cosine, low_sine) = mixed(&high, &low)?;
        let mut parts = vec![(low_cosine - high_sine)?, (high_cosine + low_sine)?];
        if 2 * pairs < width {
            parts.push(x.narrow(2, 2 * pairs, width - 2 * pairs)?);
        }
        Tensor::cat(&parts, 2)
    }
}

impl PlainLayer {
    fn new(config: &Config, index: usize, weights: &mut Weights) -> Result<Self, Error> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let (hidden, head_dim, inner) = (config.hidden, config.head_dim, config.intermediate);
        let (queries, keys) = (config.heads * head_dim, config.kv_heads * head_dim);
        let (family, biases) = (config.family, config.biases);
        let [query, key, value] = match family.is_fused() {
            true => fused(weights, &name("self_attn.qkv_proj"), [queries, keys, keys], hidden)?,
            false => {
                let mut take = |part: &str, out| Affine::take(weights, &name(part), out, hidden, biases.attention);
                [
                    take("self_attn.q_proj", queries)?,
                    take("self_attn.k_proj", keys)?,
                    take("self_attn.v_proj", keys)?,
                ]
            }
        };
        let output = Affine::take(weights, &name("self_attn.o_proj"), hidden, queries, biases.output)?;
        let mut blocks = Vec::new();
        let mut router = None;
        if let Some(Experts { count, .. }) = config.experts {
            let moe = name("block_sparse_moe");
            router = Some(Affine::take(weights, &format!("{moe}.gate"), count, hidden, false)?);
            for expert in 0..count {
                let mut take = |part: &str, out, inner| {
                    Affine::take(weights, &format!("{moe}.experts.{expert}.{part}"), out, inner, false)
                };
                blocks.push([
                    take("w1", inner, hidden)?,
                    take("w3", inner, hidden)?,
                    take("w2", hidden, inner)?,
                ]);
            }
        } else {
            let down = Affine::take(weights, &name("mlp.down_proj"), hidden, inner, biases.block)?;
            let [gate, up] = match family.is_fused() {
                true => fused(weights, &name("mlp.gate_up_proj"), [inner, inner], hidden)?,
                false => {
                    let mut take = |part: &str| Affine::take(weights, &name(part), inner, hidden, biases.block);
                    [take("mlp.gate_proj")?, take("mlp.up_proj")?]
                }
            };
            blocks.push([gate, up, down]);
        }
        let mut named = |part: &str, width| norm(config, weights, &name(&format!("{part}.weight")), width);
        let head_norms = match family.has_head_norms() {
            true => Some((
                named("self_attn.q_norm", head_dim)?,
                named("self_attn.k_norm", head_dim)?,
            )),
            false => None,
        };
        let post = named("post_attention_layernorm", hidden)?;
        let (attention_norm, block_norm, output_norm) = match family.has_output_norms() {
            true => (
                Some(post),
                named("pre_feedforward_layernorm", hidden)?,
                Some(named("post_feedforward_layernorm", hidden)?),
            ),
            false => (None, post, None),
        };
        Ok(Self {
            input_norm: named("input_layernorm", hidden)?,
            query,
            key,
            value,
            head_norms,
            output,
            attention_norm,
            block_norm,
            router,
            blocks,
            output_norm,
        })
    }

    fn forward(
        &self,
        config: &Config,
        index: usize,
        x: &Tensor,
        slots: &mut [Slot<'_>],
        turn: &Turn,
    ) -> CandleResult<Tensor> {
        let normed = rms_norm(x, &self.input_norm, config)?;
        let heads = |x: Tensor, count: usize| x.reshape(((), count, config.head_dim));
        let mut query = heads(self.query.forward(&normed)?, config.heads)?;
        let mut key = heads(self.key.forward(&normed)?, config.kv_heads)?;
        let value = self.value.forward(&normed)?;
        if let Some((query_norm, key_norm)) = &self.head_norms {
            query = rms_norm(&query, query_norm, config)?;
            key = rms_norm(&key, key_norm, config)?;
        }
        store(config, index, &turn.turn(&key)?, &value, slots)?;
        let query = (turn.turn(&query)? * f64::from(config.attention_scale))?;
        let mut attended = self.output.forward(&attend(config, index, &query, slots)?)?;
        if let Some(norm) = &self.attention_norm {
            attended = rms_norm(&attended, norm, config)?;
        }
        let x = (x + attended)?;
        let mut fed = self.feed(config, &rms_norm(&x, &self.block_norm, config)?)?;
        if let Some(norm) = &self.output_norm {
            fed = rms_norm(&fed, norm, config)?;
        }
        x + fed
    }

    fn feed(&self, config: &Config, x: &Tensor) -> CandleResult<Tensor> {
        let block = |[gate, up, down]: &[Affine; 3], x: &Tensor| {
            let gate = gate.forward(x)?;
            let gate = match config.activation {
                Activation::Silu => gate.silu()?,
                Activation::GeluTanh => gate.gelu()?,
                Activation::Gelu => gate.gelu_erf()?,
            };
            down.forward(&(gate * up.forward(x)?)?)
        };
        let (Some(router), Some(Experts { per_token, .. })) = (&self.router, config.experts) else {
            return block(&self.blocks[0], x);
        };
        let shares = super::layer::route(&router.forward(x)?.to_vec2()?, per_token);
        let mut sum = x.zeros_like()?;
        for (index, expert) in self.blocks.iter().enumerate() {
            let own = shares.iter().filter(|share| share.expert == index);
            let (rows, weights): (Vec<u32>, Vec<f32>) = own.map(|share| (share.row, share.weight)).unzip();
            if rows.is_empty() {
                continue;
            }
            let count = rows.len();
            let rows = Tensor::from_vec(rows, count, x.device())?;
            let weights = Tensor::from_vec(weights, (count, 1), x.device())?;
            let out = block(expert, &x.index_select(&rows, 0)?)?;
            sum = sum.index_add(&rows, &out.broadcast_mul(&weights)?, 0)?;
        }
        Ok(sum)
    }
}

/// Projections that lie below one another in one matrix.
fn fused<const N: usize>(
    weights: &mut Weights,
    name: &str,
    outs: [usize; N],
    inner: usize,
) -> Result<[Affine; N], Error> {
    let all = weights.take(&format!("{name}.weight"), &[outs.iter().sum(), inner])?;
    let mut from = 0;
    let mut parts = Vec::with_capacity(N);
    for out in outs {
        let part = all.narrow(0, from, out).and_then(|part| part.contiguous());
        from += out;
        let weight = part.map_err(|cause| Error::internal(format!("{name} could not be split")).cause(cause))?;
        parts.push(Affine { weight, bias: None });
    }
    <[Affine; N]>::try_from(parts).map_err(|_| Error::internal("a fused projection came apart wrongly"))
}

/// Adds new keys and values, `[rows, kv_heads · head_dim]` each, to the caches.
fn store(config: &Config, layer: usize, key: &Tensor, value: &Tensor, slots: &mut [Slot<'_>]) -> CandleResult<()> {
    let host = |x: &Tensor| x.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>();
    let (keys, values) = (host(key)?, host(value)?);
    let Config { kv_heads, head_dim, .. } = *config;
    let mut rows = keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim));
    for slot in slots {
        for ahead in 0..slot.tokens.len() {
            for (head, (key, value)) in (0..kv_heads).zip(rows.by_ref()) {
                slot.cache.write(layer, false, head, ahead, key);
                slot.cache.write(layer, true, head, ahead, value);
            }
        }
    }
    Ok(())
}

/// Attends with scaled queries `[rows, heads, head_dim]` over the caches; `[rows, heads · head_dim]`.
fn attend(config: &Config, layer: usize, query: &Tensor, slots: &[Slot<'_>]) -> CandleResult<Tensor> {
    let Config {
        heads,
        kv_heads,
        head_dim,
        ..
    } = *config;
    let group = heads / kv_heads;
    let device = query.device();
    let mut row = 0;
    let mut out = Vec::with_capacity(slots.len());
    for slot in slots {
        let (first, rows) = (slot.cache.length(), slot.tokens.len());
        let window = config.layers[layer].window.unwrap_or(usize::MAX);
        let (from, to) = ((first + 1).saturating_sub(window), first + rows);
        let span = to - from;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for head in 0..kv_heads {
            let mut parts = Vec::new();
            slot.cache.parts(layer, head, from, to, &mut parts);
            for part in parts {
                keys.extend_from_slice(part.keys);
                values.extend_from_slice(part.values);
            }
        }
        let keys = Tensor::from_vec(keys, (kv_heads, span, head_dim), device)?;
        let values = Tensor::from_vec(values, (kv_heads, span, head_dim), device)?;
        let sees = |row: usize, at: usize| {
            let (position, at) = (first + row, from + at);
            at <= position && position - at < window
        };
        let mask =
            (0..rows).flat_map(|row| (0..span).map(move |at| if sees(row, at) { 0.0 } else { f32::NEG_INFINITY }));
        let mask = Tensor::from_vec(mask.collect::<Vec<f32>>(), (1, 1, rows, span), device)?;
        let queries = query.narrow(0, row, rows)?.reshape((rows, kv_heads, group, head_dim))?;
        let queries = queries.permute((1, 2, 0, 3))?.contiguous()?;
        let queries = queries.reshape((kv_heads, group * rows, head_dim))?;
        let mut scores = queries.matmul(&keys.t()?)?;
        if let Some(cap) = config.attention_cap {
            scores = soft_cap(&scores, cap)?;
        }
        let scores = scores.reshape((kv_heads, group, rows, span))?.broadcast_add(&mask)?;
        let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let shares = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
        let attended = shares.reshape((kv_heads, group * rows, span))?.matmul(&values)?;
        let attended = attended
            .reshape((kv_heads, group, rows, head_dim))?
            .permute((2, 0, 1, 3))?;
        out.push(attended.contiguous()?.reshape((rows, heads * head_dim))?);
        row += rows;
    }
    Tensor::cat(&out, 0)
}
