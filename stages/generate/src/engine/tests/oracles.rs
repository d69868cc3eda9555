//! Token for token what `transformers` gives, on its tiny checkpoints: those of this repository (one of every family, see
//! `tests/families/make.py`), those beside the project, and those of a folder that `FRACTURE_FAMILIES` names.

use super::*;
use crate::config::Config;
use crate::template::{Ending, Message};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The folder of the reference checkpoints that belong to the repository.
pub(crate) fn families() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families")
}

/// The reference checkpoints.
fn models() -> Vec<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracles/models");
    if !beside.is_dir() {
        notice("there are no reference checkpoints beside the project: compared with those of the repository alone");
    }
    let more = std::env::var_os("FRACTURE_FAMILIES").map(PathBuf::from);
    let mut models: Vec<PathBuf> = [Some(families()), Some(beside), more]
        .into_iter()
        .flatten()
        .flat_map(|root| std::fs::read_dir(&root).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.join("reference.jsonl").is_file())
        .collect();
    models.sort();
    assert!(models.len() >= 10, "the checkpoints of the repository are gone");
    models
}

#[allow(clippy::print_stderr)]
fn notice(text: &str) {
    eprintln!("{text}");
}

pub(crate) fn rows(model: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(model.join("reference.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

fn load(model: &Path) -> Engine {
    let checkpoint = Checkpoint::open(model).unwrap();
    Engine::load(&checkpoint, &TextOptions::default(), Options::default()).unwrap()
}

#[test]
fn prompts_render_and_tokenize_alike() {
    for model in models() {
        let engine = load(&model);
        for row in rows(&model) {
            let special = row["add_special_tokens"].as_bool().unwrap();
            let text = match row.get("messages") {
                None => row["text"].as_str().unwrap().to_owned(),
                Some(messages) => {
                    let text = |m: &Value, key: &str| m[key].as_str().unwrap().to_owned();
                    let messages: Vec<Message> = messages
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|m| Message::new(text(m, "role"), text(m, "content")))
                        .collect();
                    let ending = match row["add_generation_prompt"].as_bool().unwrap() {
                        true => Ending::Answer,
                        false => Ending::Nothing,
                    };
                    let rendered = engine.text().render(&messages, ending).unwrap();
                    assert_eq!(rendered.text, row["rendered"].as_str().unwrap(), "{}", row["id"]);
                    assert!(!rendered.system_folded && rendered.add_special_tokens == special);
                    rendered.text
                }
            };
            assert_eq!(
                engine.text().encode(&text, special).unwrap(),
                ids(&row["input_ids"]),
                "{}",
                row["id"]
            );
        }
    }
}

#[test]
fn greedy_tokens_and_log_probabilities_agree() {
    for model in models() {
        let mut engine = load(&model);
        let rows = rows(&model);
        let requests: Vec<Request> = rows
            .iter()
            .map(|row| {
                let steps = row["greedy_ids"].as_array().unwrap().len();
                request(&ids(&row["input_ids"]), Sampling::default(), "x", steps as u32)
            })
            .collect();
        let (mut compared, mut all) = (0, 0);
        for (row, finished) in rows.iter().zip(run_all(&mut engine, &requests)) {
            let (wanted, margins) = (ids(&row["greedy_ids"]), numbers(&row["margin"]));
            let close = margins.iter().position(|margin| *margin < 2e-3).unwrap_or(wanted.len());
            all += wanted.len();
            assert_eq!(finished.row.tokens[..close], wanted[..close], "{}", row["id"]);
            for (ours, theirs) in finished
                .row
                .logprobs
                .iter()
                .zip(numbers(&row["greedy_logprobs"]))
                .take(close)
            {
                assert!(
                    (f64::from(*ours) - theirs).abs() < 5e-4,
                    "{}: {ours} {theirs}",
                    row["id"]
                );
                compared += 1;
            }
            if close == wanted.len() {
                let text = engine.text();
                assert_eq!(
                    text.decode(&wanted, false).unwrap(),
                    row["greedy_text"].as_str().unwrap()
                );
                assert_eq!(
                    finished.text,
                    row["greedy_text_skip_special"].as_str().unwrap(),
                    "{}",
                    row["id"]
                );
            }
        }
        assert!(
            compared > all / 2,
            "{}: {compared} of {all} log-probabilities compared",
            model.display()
        );
    }
}

#[test]
fn an_answer_ends_where_the_model_ends_it() {
    for model in models() {
        let mut engine = load(&model);
        for row in rows(&model).iter().filter(|row| row["first_eos_step"].is_u64()) {
            let step = row["first_eos_step"].as_u64().unwrap() as usize;
            if numbers(&row["margin"])[..=step].iter().any(|margin| *margin < 2e-3) {
                continue;
            }
            let mut request = request(&ids(&row["input_ids"]), Sampling::default(), "x", 48);
            request.ignore_eos = false;
            let finished = run_all(&mut engine, &[request]).remove(0);
            assert_eq!(finished.row.tokens, ids(&row["greedy_ids"])[..=step], "{}", row["id"]);
            assert_eq!(finished.row.reason, crate::raw::FinishReason::Stop);
        }
    }
}

/// How far log-probabilities of forced tokens, and logits, are from the reference at most.
pub(crate) fn distance(decoder: &Decoder, rows: &[Value]) -> f64 {
    let run = Run {
        unit: Unit::best(),
        threads: 1,
    };
    let mut most = 0.0f64;
    let mut differ = |ours: f64, theirs: f64| most = most.max((ours - theirs).abs());
    for row in rows {
        let (prompt, forced) = (ids(&row["input_ids"]), ids(&row["forced_ids"]));
        let tokens: Vec<u32> = prompt.iter().chain(&forced).copied().collect();
        let mut cache = Cache::new(decoder.cache_shape(), Vec::new(), tokens.len(), &Meter::default());
        let mut slots = [Slot {
            tokens: &tokens,
            cache: &mut cache,
        }];
        let logits: Vec<Vec<f32>> = decoder
            .forward(run, &mut slots, Wanted::All)
            .unwrap()
            .to_vec2()
            .unwrap();
        for ((at, token), theirs) in forced.iter().enumerate().zip(numbers(&row["forced_logprobs"])) {
            let logits = &logits[prompt.len() - 1 + at];
            let top = logits.iter().copied().fold(f32::MIN, f32::max);
            let total: f64 = logits.iter().map(|logit| f64::from(logit - top).exp()).sum();
            differ(f64::from(logits[*token as usize] - top) - total.ln(), theirs);
        }
        if row.get("logits_last").is_some() {
            for (ours, theirs) in logits[prompt.len() - 1].iter().zip(numbers(&row["logits_last"])) {
                differ(f64::from(*ours), theirs);
            }
        }
    }
    most
}

#[test]
fn logits_and_forced_log_probabilities_agree() {
    for model in models() {
        let engine = load(&model);
        let distance = distance(engine.decoder(), &rows(&model));
        assert!(distance < 5e-4, "{}: {distance}", model.display());
    }
}

/// Candle's own operations, as they run on a device, compute the same models; here on the processor.
#[test]
fn plain_operations_agree_with_the_reference_and_with_the_kernels() {
    let own = families();
    let all = std::env::var_os("FRACTURE_FAMILIES").is_some();
    for model in models().into_iter().filter(|model| all || model.starts_with(&own)) {
        let checkpoint = Checkpoint::open(&model).unwrap();
        let load = |device| {
            let options = Options {
                device,
                ..Options::default()
            };
            Engine::load(&checkpoint, &TextOptions::default(), options).unwrap()
        };
        let rows = rows(&model);
        let (mut plain, mut kernels) = (load(Accelerator::CpuPlain), load(Accelerator::Cpu));
        let distance = distance(plain.decoder(), &rows);
        assert!(distance < 5e-4, "{}: {distance}", model.display());
        // In batches, with shared prefixes: what a slot sees is its own.
        let requests: Vec<Request> = rows
            .iter()
            .map(|row| request(&ids(&row["input_ids"]), Sampling::default(), "x", 12))
            .collect();
        let (ours, wanted) = (run_all(&mut plain, &requests), run_all(&mut kernels, &requests));
        for (row, (ours, wanted)) in rows.iter().zip(ours.iter().zip(&wanted)) {
            let close = numbers(&row["margin"])
                .iter()
                .position(|margin| *margin < 2e-3)
                .unwrap_or(12);
            let close = close.min(12);
            assert_eq!(ours.row.tokens[..close], wanted.row.tokens[..close], "{}", row["id"]);
            let logprobs = ours.row.logprobs.iter().zip(&wanted.row.logprobs).take(close);
            for (ours, wanted) in logprobs {
                assert!((ours - wanted).abs() < 1e-4, "{}: {ours} {wanted}", row["id"]);
            }
        }
        let prompts: Vec<Vec<u32>> = rows.iter().map(|row| ids(&row["input_ids"])).collect();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let states = plain.hidden_states(&prompts).unwrap().concat();
        let wanted = kernels.hidden_states(&prompts).unwrap().concat();
        let far = states
            .iter()
            .zip(&wanted)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(
            states.len() == wanted.len() && far < 1e-3,
            "{}: states {far}",
            model.display()
        );
    }
}

#[test]
fn a_device_that_is_not_built_in_is_refused() {
    let checkpoint = Checkpoint::open(&families().join("gemma_scaled")).unwrap();
    for device in [Accelerator::Cuda, Accelerator::Metal] {
        if device.lack().is_none() {
            continue;
        }
        let options = Options {
            device,
            ..Options::default()
        };
        let error = Engine::load(&checkpoint, &TextOptions::default(), options)
            .err()
            .unwrap();
        assert!(error.to_string().contains("--features"), "{error}");
    }
}

/// The comparison would see a family that is computed with one thing wrong.
#[test]
fn what_is_computed_wrongly_is_seen() {
    let wrong = [
        ("gemma2_capped", json!({"final_logit_softcapping": null})),
        ("gemma2_capped", json!({"attn_logit_softcapping": null})),
        ("gemma2_capped", json!({"rms_norm_eps": 2.9e-3})),
        ("gemma2_capped", json!({"query_pre_attn_scalar": 12})),
        ("gemma2_capped", json!({"sliding_window": 17})),
        (
            "gemma2_capped",
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
        ),
        ("gemma3_two_ropes", json!({"rope_scaling": null})),
        ("gemma3_two_ropes", json!({"rope_local_base_freq": 20000.0})),
        ("gemma_scaled", json!({"hidden_act": "silu"})),
        ("llama3_scaled_gqa", json!({"rms_norm_eps": 2.9e-3})),
        ("llama3_scaled_gqa", json!({"rope_scaling": null})),
        ("llama3_scaled_gqa", json!({"rope_theta": 10000.0})),
        (
            "llama_yarn_biased",
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
                "attention_factor": 1.0}}),
        ),
        (
            "llama_yarn_biased",
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32,
                "attention_factor": 1.138629436111989}}),
        ),
        ("mistral_windowed", json!({"sliding_window": 15})),
        ("mixtral_experts", json!({"num_experts_per_tok": 1})),
        ("phi3_fused", json!({"partial_rotary_factor": 1.0})),
        (
            "qwen2_mixed_windows",
            json!({"layer_types": ["sliding_attention", "sliding_attention"]}),
        ),
        ("qwen3_head_norms", json!({"rms_norm_eps": 2.9e-3})),
    ];
    for (name, changes) in wrong {
        let model = families().join(name);
        let checkpoint = Checkpoint::open(&model).unwrap();
        let mut config = checkpoint.read_json("config").unwrap();
        for (field, value) in changes.as_object().unwrap() {
            config[field] = value.clone();
        }
        let config = Config::parse(&config.to_string()).unwrap();
        let weights = Weights::open(&checkpoint, DType::F32, &Device::Cpu).unwrap();
        let decoder = Decoder::new(config, weights, &Device::Cpu).unwrap();
        let distance = distance(&decoder, &rows(&model));
        assert!(distance > 5e-4, "{name} with {changes}: {distance}");
    }
}
