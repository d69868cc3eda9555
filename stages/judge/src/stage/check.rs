//! What can be known of a classifier before it runs. Mistakes that show in its files are told when the pipeline is planned,
//! not after hours of generation; planning opens no runtime. What costs more is checked when a run begins.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use fracture_stage::Error;

use super::Known;
use super::parameters::JudgeParameters;
use crate::classifier::longest;
use crate::runtime::{Runtime, RuntimeOptions};
use crate::session::{Judge, check_inputs};
use crate::tokenize::TextEncoder;

/// A tokenizer up to this size is read when a pipeline is planned, bytes: some tens of milliseconds. A larger one (the
/// vocabularies of a hundred languages) is read when a run begins.
const SMALL_TOKENIZER: u64 = 4 << 20;
/// Operator sets and file formats up to these are known to every runtime that this program takes. A model of a newer one is
/// opened when a run begins, to hear what the runtime says of it; others are opened once, when they are needed.
const KNOWN_OPSET: u64 = 21;
const KNOWN_FORMAT: u64 = 10;

/// A judge with its settings, as far as a check depends on them.
type Checked = (PathBuf, Option<SystemTime>, PathBuf, Option<usize>, Option<usize>);

/// Tokenizers that were found to fit: a matrix has many tasks with one judge.
static FITTING: Mutex<Option<HashSet<Checked>>> = Mutex::new(None);

/// What planning can know.
///
/// # Errors
/// When the graph wants an input that no text gives, gives another number of logits than there are labels, windows are too
/// long or have no room, or the tokenizer does not fit.
pub(super) fn at_plan(known: &Known, parameters: &JudgeParameters) -> Result<(), Error> {
    let (layout, config) = (&known.layout, &known.config);
    let shown = layout.model.display().to_string();
    check_inputs(&layout.graph.inputs, &shown).map_err(|error| error.parameter(&["model"]))?;
    if let Some(logits) = layout.graph.labels {
        config
            .check_logits(usize::try_from(logits).unwrap_or(usize::MAX), &shown)
            .map_err(|error| error.parameter(&["model"]))?;
    }
    let asked = window(known, parameters)?;
    let most = config.max_length(asked, None)?;
    if let Some(stride) = parameters.stride.filter(|stride| *stride >= most) {
        return Err(
            Error::pipeline(format!("stride: {stride} does not fit windows of {most} tokens"))
                .hint("stride is how many tokens two neighbouring windows share; 128 is usual for windows of 512")
                .parameter(&["stride"]),
        );
    }
    match size(known) <= SMALL_TOKENIZER {
        true => tokenizer(known, parameters, asked),
        false => Ok(()),
    }
}

/// What is checked when a run begins, before anything is generated.
///
/// # Errors
/// When the tokenizer does not fit, or the runtime refuses a model of a newer format.
pub(super) fn at_start(known: &Known, parameters: &JudgeParameters) -> Result<(), Error> {
    if size(known) > SMALL_TOKENIZER {
        tokenizer(known, parameters, window(known, parameters)?)?;
    }
    let graph = &known.layout.graph;
    if graph.opset().is_none_or(|opset| opset <= KNOWN_OPSET) && graph.ir_version <= KNOWN_FORMAT {
        return Ok(());
    }
    // A runtime that has to be fetched first is fetched when it is needed: all rows may be in the memo.
    let runtime = Runtime::load(&RuntimeOptions::from_env(true), &mut |_| {});
    let Ok(runtime) = runtime.and_then(|runtime| runtime.on(parameters.provider)) else {
        return Ok(());
    };
    Judge::load(&known.layout, &runtime, 1, None).map(drop)
}

fn size(known: &Known) -> u64 {
    std::fs::metadata(&known.layout.tokenizer).map_or(0, |metadata| metadata.len())
}

fn window(known: &Known, parameters: &JudgeParameters) -> Result<Option<usize>, Error> {
    let fixed = known
        .layout
        .graph
        .length
        .and_then(|length| usize::try_from(length).ok());
    longest(&known.layout, &known.config, parameters.max_length, fixed)
}

fn tokenizer(known: &Known, parameters: &JudgeParameters, window: Option<usize>) -> Result<(), Error> {
    let path = &known.layout.tokenizer;
    let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let model = known.layout.model.clone();
    let checked: Checked = (path.clone(), changed, model, window, parameters.stride);
    let lock = || FITTING.lock().unwrap_or_else(PoisonError::into_inner);
    if lock().as_ref().is_some_and(|fitting| fitting.contains(&checked)) {
        return Ok(());
    }
    TextEncoder::load(&known.layout, &known.config, window, parameters.stride).map_err(|error| {
        match error.parameter.is_empty() {
            true => error.parameter(&["model"]),
            false => error,
        }
    })?;
    lock().get_or_insert_default().insert(checked);
    Ok(())
}

#[cfg(test)]
mod tests;
