#![allow(clippy::unwrap_used)]
//! The engine on models with random weights, and on the reference checkpoints where they are.

mod invariance;
pub(crate) mod oracles;
mod samples;
mod scoring;

use super::*;
use crate::cache::Cache;
use crate::config::Config;
use candle_core::Tensor;
use std::collections::HashMap;

/// A tokenizer of single bytes, so that tests need no checkpoint.
pub(super) fn byte_text() -> Text {
    let directory = tempfile::tempdir().unwrap();
    let vocabulary: Vec<String> = (0..128u8)
        .map(|byte| format!("{}:{byte}", serde_json::Value::from((byte as char).to_string())))
        .collect();
    let tokenizer = format!(
        r#"{{"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":null,"post_processor":null,
        "decoder":{{"type":"Fuse"}},"model":{{"type":"BPE","vocab":{{{}}},"merges":[]}}}}"#,
        vocabulary.join(",")
    );
    std::fs::write(directory.path().join("tokenizer.json"), tokenizer).unwrap();
    std::fs::write(directory.path().join("config.json"), "{}").unwrap();
    std::fs::write(
        directory.path().join("model.safetensors"),
        [&2u64.to_le_bytes()[..], b"{}"].concat(),
    )
    .unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    Text::open(&checkpoint, &[0], &TextOptions::default()).unwrap()
}

/// Uniform numbers in [-1, 1] from a counter.
pub(super) fn noise(name: &str, count: usize) -> Vec<f32> {
    let stream = Stream::new(7, "weights", name, 0, 0);
    (0..count)
        .map(|i| (2.0 * stream.uniform(i as u64) - 1.0) as f32)
        .collect()
}

/// A small model of a family with random weights. Its widths are no multiples of sixteen.
pub(super) fn random_model(overrides: serde_json::Value) -> Decoder {
    random_model_of(overrides, |tensor| tensor)
}

/// [`random_model`] with each tensor as `change` makes it.
pub(super) fn random_model_of(overrides: serde_json::Value, change: impl Fn(Tensor) -> Tensor) -> Decoder {
    let mut config = serde_json::json!({
        "model_type": "llama", "hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 128,
        "max_position_embeddings": 256, "tie_word_embeddings": false,
    });
    for (name, value) in overrides.as_object().unwrap() {
        config[name] = value.clone();
    }
    let config = Config::parse(&config.to_string()).unwrap();
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: &[usize]| {
        let count = shape.iter().product();
        let scale = if shape.len() == 2 {
            (3.0 / shape[1] as f32).sqrt()
        } else {
            0.5
        };
        let offset = if name.contains("norm") { 1.0 } else { 0.0 };
        let values: Vec<f32> = noise(&name, count).into_iter().map(|x| offset + scale * x).collect();
        tensors.insert(name, change(Tensor::from_vec(values, shape, &Device::Cpu).unwrap()));
    };
    let Config {
        hidden,
        intermediate: inner,
        heads,
        kv_heads,
        head_dim,
        vocabulary,
        ..
    } = config;
    let family = config.family;
    add("model.embed_tokens.weight".to_owned(), &[vocabulary, hidden]);
    add("model.norm.weight".to_owned(), &[hidden]);
    if !config.tied {
        add("lm_head.weight".to_owned(), &[vocabulary, hidden]);
    }
    for layer in 0..config.layers.len() {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        add(name("input_layernorm"), &[hidden]);
        add(name("post_attention_layernorm"), &[hidden]);
        if family.has_output_norms() {
            add(name("pre_feedforward_layernorm"), &[hidden]);
            add(name("post_feedforward_layernorm"), &[hidden]);
        }
        if family.has_head_norms() {
            add(name("self_attn.q_norm"), &[head_dim]);
            add(name("self_attn.k_norm"), &[head_dim]);
        }
        add(name("self_attn.o_proj"), &[hidden, queries]);
        if family.is_fused() {
            add(name("self_attn.qkv_proj"), &[queries + 2 * keys, hidden]);
            add(name("mlp.gate_up_proj"), &[2 * inner, hidden]);
        } else {
            add(name("self_attn.q_proj"), &[queries, hidden]);
            add(name("self_attn.k_proj"), &[keys, hidden]);
            add(name("self_attn.v_proj"), &[keys, hidden]);
        }
        match config.experts {
            Some(experts) => {
                add(name("block_sparse_moe.gate"), &[experts.count, hidden]);
                for expert in 0..experts.count {
                    for (part, out, inner) in [("w1", inner, hidden), ("w2", hidden, inner), ("w3", inner, hidden)] {
                        add(
                            name(&format!("block_sparse_moe.experts.{expert}.{part}")),
                            &[out, inner],
                        );
                    }
                }
            }
            None => {
                if !family.is_fused() {
                    add(name("mlp.gate_proj"), &[inner, hidden]);
                    add(name("mlp.up_proj"), &[inner, hidden]);
                }
                add(name("mlp.down_proj"), &[hidden, inner]);
            }
        }
    }
    let weights = Weights::from_tensors(tensors, DType::F32, &Device::Cpu);
    Decoder::new(config, weights, &Device::Cpu).unwrap()
}

pub(super) fn request(prompt: &[u32], sampling: Sampling, item: &str, max_new_tokens: u32) -> Request {
    Request {
        prompt: prompt.into(),
        sampling,
        stream: Stream::new(17, "safety", item, 0, 0),
        max_new_tokens,
        stop: Vec::new(),
        ignore_eos: true,
    }
}

/// Runs requests to their end; results in the order of the requests.
pub(super) fn run_all(engine: &mut Engine, requests: &[Request]) -> Vec<Finished> {
    let mut results: Vec<Option<Finished>> = vec![None; requests.len()];
    for (ticket, request) in requests.iter().enumerate() {
        engine.submit(ticket as u64, request.clone()).unwrap();
    }
    engine
        .run(&mut |ticket, finished| results[ticket as usize] = Some(finished.unwrap()))
        .unwrap();
    results.into_iter().map(Option::unwrap).collect()
}
