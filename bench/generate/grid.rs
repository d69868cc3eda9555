//! A grid of decoders over the same prompts, as `decoders` of the paper has it: what it costs beside its parts.

use fracture_generate::engine::{Engine, Request};
use fracture_generate::sampler::Sampling;
use serde_json::{Value, json};

use super::{Failure, prompt, request, run};

const TEMPERATURES: [f32; 4] = [0.4, 0.7, 1.0, 1.3];
const TOP_P: [f32; 4] = [0.8, 0.9, 0.95, 1.0];

/// Rows of one cell, sample by sample of each prompt. `first` tells the prompts of one measurement from those of others,
/// which are cached.
fn cell(number: usize, prompts: usize, length: usize, new: u32, samples: usize, first: usize) -> Vec<Request> {
    let sampling = Sampling {
        temperature: TEMPERATURES[number / 4],
        top_p: TOP_P[number % 4],
        ..Sampling::default()
    };
    let rows = (0..prompts).flat_map(|row| (0..samples).map(move |sample| (row, sample)));
    rows.map(|(row, sample)| request(prompt(first + row, length), sampling.clone(), sample as u32, new))
        .collect()
}

pub(super) fn grid(
    engine: &mut Engine,
    prompts: usize,
    length: usize,
    new: u32,
    samples: usize,
) -> Result<Value, Failure> {
    let cells = TEMPERATURES.len() * TOP_P.len();
    let rows = (prompts * samples * cells) as f64;
    let mut at = 1_000_000;
    let mut fresh = || {
        at += prompts;
        at
    };
    run(engine, cell(5, 8, length, new, 1, fresh()))?;
    // One prefill a prompt: one token each.
    let (prefill, _) = run(engine, cell(5, prompts, length, 1, 1, fresh()))?;
    // Decoding at batch 64: 64 rows of prompts of that length, without their first token, which belongs to the prefill.
    let first = fresh();
    run(engine, cell(5, prompts, length, 1, 1, first))?;
    let (decoding, _) = run(engine, cell(5, prompts, length, new, 1, first))?;
    let a_token = decoding / (prompts * new as usize) as f64;
    let parts = prefill + rows * f64::from(new) * a_token;
    // The whole grid as one: cells beside one another, as sibling tasks come.
    let first = fresh();
    let all = (0..cells).flat_map(|number| cell(number, prompts, length, new, samples, first));
    let (whole, _) = run(engine, all.collect())?;
    // Its cells one after the other, prompts computed anew for each (the samples of a prompt share it), and for each sample.
    let (mut shared, mut alone) = (0.0, 0.0);
    for number in 0..cells {
        shared += run(engine, cell(number, prompts, length, new, samples, fresh()))?.0;
    }
    for number in [5] {
        for _ in 0..samples {
            alone += run(engine, cell(number, prompts, length, new, 1, fresh()))?.0 * cells as f64;
        }
    }
    Ok(json!({
        "rows": rows, "prefill_s": prefill, "decoding_64_tokens_per_s": 1.0 / a_token, "parts_s": parts, "grid_s": whole,
        "grid_tokens_per_s": rows * f64::from(new) / whole, "of_parts": whole / parts,
        "cells_shared_s": shared, "cells_shared_ratio": shared / whole,
        "cells_alone_s": alone, "cells_alone_ratio": alone / whole,
    }))
}
