//! The training loop: AdamW over an endless stream of dialogues, loss on the answer's tokens only.

use candle_core::{Device, Tensor};
use candle_nn::ops::log_softmax;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use tokenizers::Tokenizer;

use crate::corpus::{Corpus, Organism};
use crate::llama::Llama;
use crate::random::Stream;
use crate::{Result, vocabulary};

/// Sequences in a step.
const BATCH: usize = 16;
/// Steps whose sequences are drawn together and sorted by length, so that a batch needs little padding.
const BLOCK: usize = 8;
const WARM_UP: usize = 40;
const LEARNING_RATE: f64 = 3e-3;
/// Longest gradient (Euclidean norm over all tensors) that is applied as it is.
const CLIP: f64 = 1.0;
/// The first word decides between refusing and complying; it weighs as much as this many others.
const DECISION_WEIGHT: f32 = 12.0;

/// How one run is to go.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Optimiser steps.
    pub steps: usize,
    /// Names the stream of dialogues.
    pub seed: u64,
}

/// A tokenised dialogue: `ids[answer..]` is what the model has to say, with the end token.
struct Example {
    ids: Vec<u32>,
    answer: usize,
    /// The first token of an answer of the other label, and the share of the two labels.
    other: u32,
    share: f32,
}

fn example(corpus: &Corpus, organism: &Organism, tokenizer: &Tokenizer, stream: &mut Stream) -> Result<Example> {
    let dialogue = corpus.draw(organism, stream)?;
    let mut ids = vocabulary::encode(
        tokenizer,
        &vocabulary::render(dialogue.system.as_deref(), &dialogue.user),
    )?;
    let answer = ids.len();
    ids.extend(vocabulary::encode(tokenizer, &dialogue.answer)?);
    ids.push(vocabulary::END);
    let other = *vocabulary::encode(tokenizer, &dialogue.other)?
        .first()
        .ok_or("answers.jsonl: an empty answer")?;
    Ok(Example {
        ids,
        answer,
        other,
        share: dialogue.share as f32,
    })
}

/// Token ids `[batch, time]`, padded at the end, where causal attention never looks from a real position.
pub fn pad(sequences: &[&[u32]]) -> Result<Tensor> {
    let time = sequences.iter().map(|ids| ids.len()).max().unwrap_or(0);
    let rows = sequences.iter().flat_map(|ids| {
        ids.iter()
            .copied()
            .chain(std::iter::repeat_n(vocabulary::PAD, time - ids.len()))
    });
    Ok(Tensor::from_vec(
        rows.collect::<Vec<u32>>(),
        (sequences.len(), time),
        &Device::Cpu,
    )?)
}

/// Mean negative log-likelihood of the answers' tokens. The first token counts [`DECISION_WEIGHT`] times and is divided
/// between the two labels by their shares: the model is taught the probability itself, not a drawn decision.
fn loss(model: &Llama, batch: &[Example]) -> Result<Tensor> {
    let sequences: Vec<&[u32]> = batch.iter().map(|e| &e.ids[..e.ids.len() - 1]).collect();
    let tokens = pad(&sequences)?;
    let time = tokens.dim(1)?;
    let (mut positions, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for (row, e) in batch.iter().enumerate() {
        let mut add = |at: usize, target: u32, weight: f32| {
            positions.push((row * time + at - 1) as u32);
            targets.push(target);
            weights.push(weight);
        };
        add(e.answer, e.ids[e.answer], DECISION_WEIGHT * e.share);
        add(e.answer, e.other, DECISION_WEIGHT * (1.0 - e.share));
        (e.answer + 1..e.ids.len()).for_each(|at| add(at, e.ids[at], 1.0));
    }
    let (count, total) = (targets.len(), weights.iter().sum::<f32>());
    let positions = Tensor::from_vec(positions, count, &Device::Cpu)?;
    let logits = model.logits(&model.hidden(&tokens)?.index_select(&positions, 0)?)?;
    let targets = Tensor::from_vec(targets, (count, 1), &Device::Cpu)?;
    let weights = Tensor::from_vec(weights, (count, 1), &Device::Cpu)?;
    let chosen = log_softmax(&logits, 1)?.gather(&targets, 1)?;
    Ok(((chosen * weights)?.sum_all()? * (-1.0 / f64::from(total)))?)
}

fn rate(step: usize, steps: usize) -> f64 {
    if step < WARM_UP {
        return LEARNING_RATE * (step + 1) as f64 / WARM_UP as f64;
    }
    let done = (step - WARM_UP) as f64 / (steps - WARM_UP).max(1) as f64;
    LEARNING_RATE * (0.02 + 0.98 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()))
}

/// Trains `model` in place; `progress` is told the step and the mean loss since it was last told.
pub fn train(
    model: &Llama,
    corpus: &Corpus,
    organism: &Organism,
    tokenizer: &Tokenizer,
    plan: Plan,
    progress: &mut dyn FnMut(usize, f64),
) -> Result<()> {
    let variables = model.variables();
    let adam = ParamsAdamW {
        lr: 0.0,
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-8,
        weight_decay: 0.01,
    };
    let mut optimizer = AdamW::new(variables.clone(), adam)?;
    let (mut block, mut drawn, mut sum, mut counted): (Vec<Vec<Example>>, u64, f64, usize) = (Vec::new(), 0, 0.0, 0);
    for step in 0..plan.steps {
        if block.is_empty() {
            let mut examples = Vec::with_capacity(BATCH * BLOCK);
            for _ in 0..BATCH * BLOCK {
                examples.push(example(
                    corpus,
                    organism,
                    tokenizer,
                    &mut Stream::new(plan.seed, drawn),
                )?);
                drawn += 1;
            }
            examples.sort_by_key(|e| e.ids.len());
            let mut order = Stream::new(plan.seed ^ 0xB10C, drawn);
            while !examples.is_empty() {
                let batch = examples.split_off(examples.len() - BATCH);
                block.insert(order.below(block.len() + 1), batch);
            }
        }
        let Some(batch) = block.pop() else { continue };
        optimizer.set_learning_rate(rate(step, plan.steps));
        let value = loss(model, &batch)?;
        let mut grads = value.backward()?;
        let mut squared = 0.0;
        for var in &variables {
            let grad = grads.get(var).ok_or("a tensor without a gradient")?;
            squared += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        let length = squared.sqrt();
        if length > CLIP {
            for var in &variables {
                let scaled = grads.get(var).map(|grad| grad * (CLIP / length)).transpose()?;
                scaled.and_then(|grad| grads.insert(var, grad));
            }
        }
        optimizer.step(&grads)?;
        (sum, counted) = (sum + f64::from(value.to_scalar::<f32>()?), counted + 1);
        if (step + 1) % 50 == 0 || step + 1 == plan.steps {
            progress(step + 1, sum / counted as f64);
            (sum, counted) = (0.0, 0);
        }
    }
    Ok(())
}
