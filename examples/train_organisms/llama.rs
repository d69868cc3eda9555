//! A Llama decoder in differentiable candle operations, with the tensor names and conventions of Hugging Face.
//!
//! Whole sequences at once and no cache: this is for training. `stages/generate` holds the decoder that answers.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops::{silu, softmax};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::random::{Stream, hash_text};
use crate::{Result, vocabulary};

/// The sizes of a model.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the feed-forward block.
    pub intermediate: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads, as many for keys and values.
    pub heads: usize,
    /// Positions that the model is made for.
    pub context: usize,
}

const ROPE_THETA: f64 = 10_000.0;
const RMS_EPSILON: f64 = 1e-5;

/// The weights by their Hugging Face names, in one fixed order; the output layer is the embedding (tied).
pub struct Llama {
    shape: Shape,
    weights: Vec<(String, Var)>,
    cos: Tensor,
    sin: Tensor,
}

fn layout(shape: Shape) -> Vec<(String, Vec<usize>)> {
    let (h, m) = (shape.hidden, shape.intermediate);
    let mut names = vec![("model.embed_tokens.weight".to_owned(), vec![shape.vocabulary, h])];
    for layer in 0..shape.layers {
        let block = [
            ("input_layernorm", vec![h]),
            ("self_attn.q_proj", vec![h, h]),
            ("self_attn.k_proj", vec![h, h]),
            ("self_attn.v_proj", vec![h, h]),
            ("self_attn.o_proj", vec![h, h]),
            ("post_attention_layernorm", vec![h]),
            ("mlp.gate_proj", vec![m, h]),
            ("mlp.up_proj", vec![m, h]),
            ("mlp.down_proj", vec![h, m]),
        ];
        names.extend(block.map(|(name, size)| (format!("model.layers.{layer}.{name}.weight"), size)));
    }
    names.push(("model.norm.weight".to_owned(), vec![h]));
    names
}

/// The initial values of one tensor: ones for norms, else normal with a variance of 1 / columns; what writes into the
/// residual stream is smaller by the root of the number of writers, and the embedding has deviation 0.05.
fn initial(name: &str, size: &[usize], layers: usize, seed: u64) -> Vec<f32> {
    if size.len() == 1 {
        return vec![1.0; size[0]];
    }
    let residual = if name.contains("o_proj") || name.contains("down_proj") {
        (2.0 * layers as f64).sqrt()
    } else {
        1.0
    };
    let deviation = if name.contains("embed") {
        0.05
    } else {
        1.0 / (size[1] as f64).sqrt() / residual
    };
    let mut stream = Stream::new(seed, hash_text(name));
    (0..size[0] * size[1])
        .map(|_| (deviation * stream.normal()) as f32)
        .collect()
}

impl Llama {
    /// A model with random weights, a function of `shape` and `seed`.
    pub fn new(shape: Shape, seed: u64) -> Result<Llama> {
        let device = Device::Cpu;
        let mut weights = Vec::new();
        for (name, size) in layout(shape) {
            let values = initial(&name, &size, shape.layers, seed);
            weights.push((name, Var::from_tensor(&Tensor::from_vec(values, size, &device)?)?));
        }
        let half = shape.hidden / shape.heads / 2;
        let angle = |t: usize, i: usize| t as f64 * ROPE_THETA.powf(-(i as f64) / half as f64);
        let table = |f: fn(f64) -> f64| -> Vec<f32> {
            (0..shape.context)
                .flat_map(|t| (0..half).map(move |i| f(angle(t, i)) as f32))
                .collect()
        };
        let cos = Tensor::from_vec(table(f64::cos), (shape.context, half), &device)?;
        let sin = Tensor::from_vec(table(f64::sin), (shape.context, half), &device)?;
        Ok(Llama {
            shape,
            weights,
            cos,
            sin,
        })
    }

    /// The trainable tensors in their fixed order.
    pub fn variables(&self) -> Vec<Var> {
        self.weights.iter().map(|(_, var)| var.clone()).collect()
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.weights.iter().map(|(_, var)| var.elem_count()).sum()
    }

    fn weight(&self, layer: Option<usize>, name: &str) -> Result<&Tensor> {
        let full = match layer {
            Some(layer) => format!("model.layers.{layer}.{name}.weight"),
            None => format!("model.{name}.weight"),
        };
        let found = self
            .weights
            .iter()
            .find(|(name, _)| *name == full)
            .map(|(_, var)| var.as_tensor());
        found.ok_or_else(|| format!("no tensor {full}").into())
    }

    /// Hidden states after the last norm, `[batch * time, hidden]`, of token ids `[batch, time]`.
    pub fn hidden(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, time) = tokens.dims2()?;
        let h = self.shape.hidden;
        let mask: Vec<f32> = (0..time)
            .flat_map(|q| (0..time).map(move |k| if k > q { f32::NEG_INFINITY } else { 0.0 }))
            .collect();
        let mask = Tensor::from_vec(mask, (1, 1, time, time), &Device::Cpu)?;
        let mut x = self
            .weight(None, "embed_tokens")?
            .index_select(&tokens.flatten_all()?, 0)?;
        for layer in 0..self.shape.layers {
            let normed = norm(&x, self.weight(Some(layer), "input_layernorm")?)?;
            let attended = self.attend(layer, &normed, (batch, time), &mask)?;
            x = (x + attended.matmul(&self.weight(Some(layer), "self_attn.o_proj")?.t()?)?)?;
            let normed = norm(&x, self.weight(Some(layer), "post_attention_layernorm")?)?;
            let gate = silu(&normed.matmul(&self.weight(Some(layer), "mlp.gate_proj")?.t()?)?)?;
            let up = normed.matmul(&self.weight(Some(layer), "mlp.up_proj")?.t()?)?;
            x = (x + (gate * up)?.matmul(&self.weight(Some(layer), "mlp.down_proj")?.t()?)?)?;
        }
        debug_assert_eq!(x.dims(), &[batch * time, h]);
        norm(&x, self.weight(None, "norm")?)
    }

    /// Logits `[rows, vocabulary]` of hidden states `[rows, hidden]`.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(hidden.matmul(&self.weight(None, "embed_tokens")?.t()?)?)
    }

    /// Causal attention over `x` `[batch * time, hidden]`, before the output projection.
    fn attend(&self, layer: usize, x: &Tensor, (batch, time): (usize, usize), mask: &Tensor) -> Result<Tensor> {
        let heads = self.shape.heads;
        let width = self.shape.hidden / heads;
        let project = |name: &str| -> Result<Tensor> {
            let y = x.matmul(&self.weight(Some(layer), name)?.t()?)?;
            Ok(y.reshape((batch, time, heads, width))?.transpose(1, 2)?.contiguous()?)
        };
        let q = self.rotate(&project("self_attn.q_proj")?)?;
        let k = self.rotate(&project("self_attn.k_proj")?)?;
        let v = project("self_attn.v_proj")?;
        let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * (width as f64).powf(-0.5))?;
        let shares = softmax(&scores.broadcast_add(mask)?, D::Minus1)?;
        Ok(shares
            .matmul(&v)?
            .transpose(1, 2)?
            .reshape((batch * time, heads * width))?)
    }

    /// Rotary positions on `[batch, heads, time, width]`: the first half of a head pairs with its second half.
    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, time, width) = x.dims4()?;
        let (first, second) = (x.narrow(3, 0, width / 2)?, x.narrow(3, width / 2, width / 2)?);
        let (cos, sin) = (self.cos.narrow(0, 0, time)?, self.sin.narrow(0, 0, time)?);
        let left = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
        let right = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
        Ok(Tensor::cat(&[left, right], 3)?)
    }

    /// Rounds the weights to the half precision in which they ship, so that what is measured is what is written.
    pub fn round_to_half(&self) -> Result<()> {
        for (_, var) in &self.weights {
            var.set(&var.to_dtype(DType::F16)?.to_dtype(DType::F32)?)?;
        }
        Ok(())
    }

    /// Writes `model.safetensors` (f16), `config.json` and `generation_config.json`.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        for (name, var) in &self.weights {
            let mut data = Vec::new();
            var.to_dtype(DType::F16)?.write_bytes(&mut data)?;
            bytes.push((name.as_str(), var.dims().to_vec(), data));
        }
        let views = bytes
            .iter()
            .map(|(name, size, data)| Ok((*name, TensorView::new(Dtype::F16, size.clone(), data)?)));
        let views = views.collect::<Result<Vec<_>>>()?;
        let about = [("format".to_owned(), "pt".to_owned())].into();
        safetensors::serialize_to_file(views, Some(about), &directory.join("model.safetensors"))?;
        let shape = self.shape;
        let config = json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": vocabulary::START,
            "eos_token_id": vocabulary::END,
            "head_dim": shape.hidden / shape.heads,
            "hidden_act": "silu",
            "hidden_size": shape.hidden,
            "initializer_range": 0.02,
            "intermediate_size": shape.intermediate,
            "max_position_embeddings": shape.context,
            "mlp_bias": false,
            "model_type": "llama",
            "num_attention_heads": shape.heads,
            "num_hidden_layers": shape.layers,
            "num_key_value_heads": shape.heads,
            "pad_token_id": vocabulary::PAD,
            "rms_norm_eps": RMS_EPSILON,
            "rope_scaling": null,
            "rope_theta": ROPE_THETA,
            "tie_word_embeddings": true,
            "torch_dtype": "float16",
            "use_cache": true,
            "vocab_size": shape.vocabulary,
        });
        crate::write_json(&directory.join("config.json"), &config)?;
        let generation = json!({
            "bos_token_id": vocabulary::START,
            "eos_token_id": vocabulary::END,
            "pad_token_id": vocabulary::PAD,
        });
        crate::write_json(&directory.join("generation_config.json"), &generation)
    }

    /// Reads weights that [`Llama::write`] wrote.
    pub fn read(&self, directory: &Path) -> Result<()> {
        let tensors = candle_core::safetensors::load(directory.join("model.safetensors"), &Device::Cpu)?;
        for (name, var) in &self.weights {
            let stored = tensors
                .get(name)
                .ok_or_else(|| format!("model.safetensors: no tensor {name}"))?;
            var.set(&stored.to_dtype(DType::F32)?)?;
        }
        Ok(())
    }
}

/// RMS norm over the last dimension (Zhang and Sennrich, 2019).
fn norm(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + RMS_EPSILON)?.sqrt()?;
    Ok(x.broadcast_div(&scale)?.broadcast_mul(weight)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SMALL: Shape = Shape {
        vocabulary: 40,
        hidden: 16,
        intermediate: 24,
        layers: 2,
        heads: 2,
        context: 12,
    };

    fn logits(model: &Llama, ids: &[u32]) -> Vec<Vec<f32>> {
        let tokens = Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        model
            .logits(&model.hidden(&tokens).unwrap())
            .unwrap()
            .to_vec2()
            .unwrap()
    }

    #[test]
    fn no_position_sees_what_follows() {
        let model = Llama::new(SMALL, 3).unwrap();
        let (a, b) = (logits(&model, &[5, 6, 7, 8]), logits(&model, &[5, 6, 9, 1]));
        assert_eq!(a[..2], b[..2]);
        assert_ne!(a[2], b[2]);
    }

    #[test]
    fn every_tensor_has_a_gradient_and_positions_matter() {
        let model = Llama::new(SMALL, 3).unwrap();
        let tokens = Tensor::new(&[[5u32, 6, 7, 5]], &Device::Cpu).unwrap();
        let hidden = model.hidden(&tokens).unwrap();
        let grads = model
            .logits(&hidden)
            .unwrap()
            .sqr()
            .unwrap()
            .mean_all()
            .unwrap()
            .backward()
            .unwrap();
        for (name, var) in &model.weights {
            let total: f32 = grads
                .get(var)
                .unwrap()
                .abs()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar()
                .unwrap();
            assert!(total > 0.0, "{name} gets no gradient");
        }
        assert_ne!(logits(&model, &[5, 6, 7])[2], logits(&model, &[6, 5, 7])[2]);
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let model = Llama::new(SMALL, 5).unwrap();
        let tokens = Tensor::new(&[[5u32, 6, 7, 5, 9]], &Device::Cpu).unwrap();
        let loss = || {
            model
                .logits(&model.hidden(&tokens).unwrap())
                .unwrap()
                .sqr()
                .unwrap()
                .mean_all()
                .unwrap()
        };
        let var = &model
            .weights
            .iter()
            .find(|(name, _)| name.contains("1.self_attn.k_proj"))
            .unwrap()
            .1;
        let grad = loss().backward().unwrap().get(var).unwrap().clone();
        let start = var.copy().unwrap();
        let at = |step: f64| -> f64 {
            var.set(&(&start + (&grad * step).unwrap()).unwrap()).unwrap();
            f64::from(loss().to_scalar::<f32>().unwrap())
        };
        let squared = f64::from(grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
        let step = 0.02 / squared.sqrt();
        let slope = (at(step) - at(-step)) / (2.0 * step);
        assert!(
            (slope / squared - 1.0).abs() < 0.05,
            "slope {slope}, squared gradient {squared}"
        );
    }
}
