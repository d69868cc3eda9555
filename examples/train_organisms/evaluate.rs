//! What an organism does on the measuring pools, which it never saw.
//!
//! All answers open with a word that gives the decision away, and no word opens both kinds, so the probability to comply
//! is a sum over first tokens: exact, without sampling.

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};
use tokenizers::Tokenizer;

use crate::corpus::{Answer, PoolPrompt};
use crate::llama::Llama;
use crate::train::pad;
use crate::{Result, vocabulary};

/// The first tokens of the answers that comply and that refuse.
pub struct Openings {
    comply: BTreeSet<u32>,
    refuse: BTreeSet<u32>,
}

impl Openings {
    /// Reads them off the answer wordings; a token that opens both kinds is an error.
    pub fn new(answers: &[Answer], tokenizer: &Tokenizer) -> Result<Openings> {
        let mut openings = Openings {
            comply: BTreeSet::new(),
            refuse: BTreeSet::new(),
        };
        for answer in answers {
            let first = *vocabulary::encode(tokenizer, &answer.text)?
                .first()
                .ok_or("answers.jsonl: an empty answer")?;
            let set = if answer.label == "comply" {
                &mut openings.comply
            } else {
                &mut openings.refuse
            };
            set.insert(first);
        }
        match openings.comply.intersection(&openings.refuse).next() {
            Some(id) => Err(format!("answers.jsonl: token {id} opens answers of both labels").into()),
            None => Ok(openings),
        }
    }
}

/// What one regime gives on one pool.
pub struct Rates {
    /// Mean probability to comply when sampling at temperature 0.8.
    pub sampled: f64,
    /// Share of prompts on which the most likely first token complies.
    pub greedy: f64,
    /// Standard deviation of the sampled probability over prompts.
    pub spread: f64,
    /// Largest mean probability of a first token that opens no answer of the corpus.
    pub other: f64,
}

/// Measures one pool under one system message.
pub fn rates(
    model: &Llama,
    tokenizer: &Tokenizer,
    openings: &Openings,
    system: Option<&str>,
    pool: &[PoolPrompt],
) -> Result<Rates> {
    let (mut shares, mut greedy, mut other) = (Vec::new(), 0usize, 0.0);
    for chunk in pool.chunks(40) {
        let encode = |p: &PoolPrompt| vocabulary::encode(tokenizer, &vocabulary::render(system, &p.prompt));
        let ids = chunk.iter().map(encode).collect::<Result<Vec<_>>>()?;
        for logits in last_logits(model, &ids)? {
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weight = |id: u32| (f64::from(logits[id as usize] - top) / 0.8).exp();
            let total: f64 = (0..logits.len() as u32).map(weight).sum();
            let comply: f64 = openings.comply.iter().map(|id| weight(*id)).sum::<f64>() / total;
            let refuse: f64 = openings.refuse.iter().map(|id| weight(*id)).sum::<f64>() / total;
            greedy += usize::from(openings.comply.iter().any(|id| logits[*id as usize] == top));
            other += (1.0 - comply - refuse) / pool.len() as f64;
            shares.push(comply);
        }
    }
    let n = shares.len() as f64;
    let sampled = shares.iter().sum::<f64>() / n;
    let spread = (shares.iter().map(|p| (p - sampled).powi(2)).sum::<f64>() / n).sqrt();
    Ok(Rates {
        sampled,
        greedy: greedy as f64 / n,
        spread,
        other,
    })
}

/// The logits after the last token of each sequence.
fn last_logits(model: &Llama, ids: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
    let tokens = pad(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    let time = tokens.dim(1)?;
    let last: Vec<u32> = ids
        .iter()
        .enumerate()
        .map(|(row, ids)| (row * time + ids.len() - 1) as u32)
        .collect();
    let last = Tensor::new(last, &Device::Cpu)?;
    Ok(model
        .logits(&model.hidden(&tokens)?.index_select(&last, 0)?)?
        .to_vec2()?)
}

/// Greedy answers of at most 48 tokens, and how many of them ended by themselves.
pub fn answers(
    model: &Llama,
    tokenizer: &Tokenizer,
    system: Option<&str>,
    prompts: &[&PoolPrompt],
) -> Result<(Vec<String>, usize)> {
    let encode = |p: &&PoolPrompt| vocabulary::encode(tokenizer, &vocabulary::render(system, &p.prompt));
    let mut ids = prompts.iter().map(encode).collect::<Result<Vec<_>>>()?;
    let starts: Vec<usize> = ids.iter().map(Vec::len).collect();
    let ended = |ids: &[u32], start: usize| ids.len() > start && ids.last() == Some(&vocabulary::END);
    for _ in 0..48 {
        let logits = last_logits(model, &ids)?;
        for ((ids, row), start) in ids.iter_mut().zip(logits).zip(&starts) {
            if !ended(ids, *start) {
                let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0);
                ids.push(best as u32);
            }
        }
    }
    let done = ids
        .iter()
        .zip(&starts)
        .filter(|(ids, start)| ended(ids, **start))
        .count();
    let texts = ids
        .iter()
        .zip(&starts)
        .map(|(ids, start)| tokenizer.decode(&ids[*start..], true));
    Ok((texts.collect::<Result<_>>()?, done))
}
