//! Logits of every architecture and every format against transformers and llama.cpp, and against ourselves.

use super::*;
use crate::cache::{Cache, Meter};
use crate::checkpoint::Checkpoint;
use crate::decoder::{Decoder, Slot, Wanted};
use crate::kernel::Unit;
use crate::ops::Run;
use crate::weights::Weights;
use candle_core::{DType, Device};

fn decoder(name: &str) -> Decoder {
    let checkpoint = Checkpoint::open(&path(name)).unwrap();
    let config = checkpoint.config().unwrap();
    let weights = Weights::of(&checkpoint, &config, DType::F32, &Device::Cpu).unwrap();
    Decoder::new(config, weights, &Device::Cpu).unwrap()
}

fn logits(decoder: &Decoder, run: Run, prompts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let meter = Meter::default();
    let mut caches: Vec<Cache> = prompts
        .iter()
        .map(|prompt| Cache::new(decoder.cache_shape(), Vec::new(), prompt.len(), &meter))
        .collect();
    let mut slots: Vec<Slot<'_>> = prompts
        .iter()
        .zip(&mut caches)
        .map(|(tokens, cache)| Slot { tokens, cache })
        .collect();
    decoder
        .forward(run, &mut slots, Wanted::Last)
        .unwrap()
        .to_vec2()
        .unwrap()
}

fn run() -> Run {
    Run {
        unit: Unit::best(),
        threads: 1,
    }
}

fn prompts(told: &Json) -> Vec<Vec<u32>> {
    told["prompts"].as_array().unwrap().iter().map(ids).collect()
}

fn furthest(ours: &[f32], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let pairs = ours.iter().zip(theirs);
    pairs
        .map(|(ours, theirs)| (f64::from(*ours) - theirs).abs())
        .fold(0.0, f64::max)
}

fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    logits
        .iter()
        .map(|logit| (f64::from(*logit) - total.ln()) as f32)
        .collect()
}

#[test]
fn logits_are_those_of_transformers_on_the_dequantised_weights() {
    for (name, told) in models() {
        let decoder = decoder(&name);
        for (index, prompt) in prompts(&told).into_iter().enumerate() {
            let ours = logits(&decoder, run(), &[prompt]).remove(0);
            // The reference is rounded to six digits; its logits spread over some twenty.
            let off = furthest(&ours, &numbers(&told["logits"][index]));
            assert!(off < 5e-4, "{name} {index}: {off}");
            // llama.cpp rounds activations to eight bits, we do not: its distance to transformers is the like.
            let off = furthest(&log_softmax(&ours), &numbers(&told["llama_cpp"][index]));
            assert!(off < 0.5, "{name} {index}: {off}");
        }
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers_while_they_are_clear() {
    let mut compared = 0;
    for (name, told) in models() {
        let decoder = decoder(&name);
        for (index, mut tokens) in prompts(&told).into_iter().enumerate() {
            let greedy = &told["greedy"][index];
            for (token, margin) in ids(&greedy["tokens"]).into_iter().zip(numbers(&greedy["margins"])) {
                if margin < 2e-3 {
                    break;
                }
                let logits = logits(&decoder, run(), std::slice::from_ref(&tokens)).remove(0);
                let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)));
                assert_eq!(best, Some(token as usize), "{name} {index}");
                tokens.push(token);
                compared += 1;
            }
        }
    }
    assert!(compared > 300, "{compared} tokens compared");
}

#[test]
fn bits_do_not_depend_on_batch_threads_and_unit() {
    for name in ["formats", "llama2", "smollm", "mixtral", "gemma3"] {
        let decoder = decoder(name);
        let size = decoder.config().vocabulary as u32;
        let prompts: Vec<Vec<u32>> = (0..64u32)
            .map(|row| (0..1 + row * 5 % 13).map(|i| (row * 31 + i * i * 7) % size).collect())
            .collect();
        let bits = |rows: Vec<Vec<f32>>| -> Vec<Vec<u32>> {
            rows.into_iter()
                .map(|row| row.into_iter().map(f32::to_bits).collect())
                .collect()
        };
        let alone: Vec<Vec<u32>> = prompts
            .iter()
            .flat_map(|prompt| bits(logits(&decoder, run(), std::slice::from_ref(prompt))))
            .collect();
        assert_ne!(alone[0], alone[1], "a test that cannot fail");
        for unit in Unit::all() {
            for (batch, threads) in [(1, 1), (7, 1), (64, 1), (64, 2)] {
                let run = Run { unit, threads };
                let together: Vec<Vec<u32>> = prompts
                    .chunks(batch)
                    .flat_map(|prompts| bits(logits(&decoder, run, prompts)))
                    .collect();
                assert!(
                    together == alone,
                    "{name}: {batch} rows, {threads} threads, {}",
                    unit.name()
                );
            }
        }
    }
}

#[test]
fn parts_are_the_whole() {
    let whole = decoder("smollm");
    let parts = decoder("parts-00001-of-00002");
    let prompt = vec![vec![5, 9, 300, 17]];
    assert_eq!(logits(&whole, run(), &prompt), logits(&parts, run(), &prompt));
}

#[test]
fn architectures_are_read_from_the_metadata() {
    let config = |name: &str| Checkpoint::open(&path(name)).unwrap().config().unwrap();
    let llama = config("llama3");
    assert_eq!(
        (llama.hidden, llama.heads, llama.kv_heads, llama.head_dim),
        (64, 4, 2, 16)
    );
    assert_eq!((llama.norm_eps, llama.tied, llama.context), (1e-6, false, 512));
    // Llama 3's stretched frequencies, the lowest divided by four.
    assert!(llama.ropes[0].frequencies[7] < 5e5f32.powf(-7.0 / 8.0) / 3.9);
    assert!(config("qwen2").tied && config("gemma").tied && !config("qwen3").tied);
    let gemma = config("gemma3");
    let windows: Vec<bool> = gemma.layers.iter().map(|layer| layer.window.is_some()).collect();
    assert_eq!(windows, [true, true, true, true, true, false, true]);
    assert_eq!(
        (config("gemma2").attention_cap, config("gemma2").final_cap),
        (Some(20.0), Some(10.0))
    );
    assert_eq!(
        config("mixtral")
            .experts
            .map(|experts| (experts.count, experts.per_token)),
        Some((4, 2))
    );
}
