//! Token for token what `transformers` gives, on its tiny checkpoints.

use super::*;
use crate::template::{Ending, Message};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The reference checkpoints, beside the project.
fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracles/models");
    let mut models: Vec<PathBuf> = std::fs::read_dir(&root)
        .map(|list| list.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    models.sort();
    if models.is_empty() {
        notice("the reference checkpoints are not beside the project: comparison with transformers SKIPPED");
    }
    models
}

#[allow(clippy::print_stderr)]
fn notice(text: &str) {
    eprintln!("{text}");
}

fn rows(model: &Path) -> Vec<Value> {
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
            .map(|row| request(&ids(&row["input_ids"]), Sampling::default(), "x", 48))
            .collect();
        let mut compared = 0;
        for (row, finished) in rows.iter().zip(run_all(&mut engine, &requests)) {
            let (wanted, margins) = (ids(&row["greedy_ids"]), numbers(&row["margin"]));
            let close = margins.iter().position(|margin| *margin < 2e-3).unwrap_or(wanted.len());
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
            compared > 500,
            "{}: {compared} log-probabilities compared",
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

#[test]
fn logits_and_forced_log_probabilities_agree() {
    for model in models() {
        let engine = load(&model);
        let decoder = engine.decoder();
        let run = Run {
            unit: Unit::best(),
            threads: 1,
        };
        for row in rows(&model) {
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
                let ours = f64::from(logits[*token as usize] - top) - total.ln();
                assert!((ours - theirs).abs() < 5e-4, "{}: {ours} {theirs}", row["id"]);
            }
            if row.get("logits_last").is_some() {
                for (ours, theirs) in logits[prompt.len() - 1].iter().zip(numbers(&row["logits_last"])) {
                    assert!(
                        (f64::from(*ours) - theirs).abs() < 5e-4,
                        "{}: {ours} {theirs}",
                        row["id"]
                    );
                }
            }
        }
    }
}
