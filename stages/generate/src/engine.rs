//! Continuous batching: requests of many tasks share one running batch, prompts and prefixes are computed once.
//!
//! A request's result depends on its prompt, its sampling settings and its random stream alone: kernels are invariant,
//! random numbers are drawn by token position, and what shares the batch only decides when it is computed.

mod accelerator;
mod admission;
mod hidden;
mod prefix;
mod scoring;
mod sequence;

use crate::cache::Meter;
use crate::checkpoint::Checkpoint;
use crate::decoder::{Decoder, Slot, Wanted};
use crate::kernel::{Team, Unit, scatter_mut};
use crate::ops::Run;
use crate::raw::RawRow;
use crate::sampler::{Sampler, Sampling, Stream};
use crate::text::{Text, TextOptions};
use crate::weights::Weights;
pub use accelerator::Accelerator;
use candle_core::{DType, Device};
use fracture_stage::Error;
use prefix::Prefixes;
use sequence::Sequence;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// How an engine runs. Nothing here changes a result.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads; `None` takes as many as there are cores.
    pub threads: Option<usize>,
    /// Positions of the key-value cache that may be held at once, prompts and reserved answers together.
    pub max_batch_tokens: u32,
    /// Rows that are decoded together at most.
    pub max_rows: usize,
    /// Compute a prompt, or the beginning that prompts share, once.
    pub share_prefixes: bool,
    /// The vector unit.
    pub unit: Unit,
    /// Where products are computed. Unlike the others, this changes results, in their last digits.
    pub device: Accelerator,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: None,
            max_batch_tokens: 65_536,
            max_rows: 256,
            share_prefixes: true,
            unit: Unit::best(),
            device: Accelerator::Cpu,
        }
    }
}

/// The variable that bounds the key-value cache of a model, in positions; it changes no result.
const BUDGET: &str = "FRACTURE_MAX_BATCH_TOKENS";

impl Options {
    /// The options of a program's run: `threads`, and what the user's environment says of memory.
    ///
    /// # Errors
    /// A budget that is no number of positions.
    pub fn of_run(threads: usize) -> Result<Self, Error> {
        Self::with_budget(threads, std::env::var_os(BUDGET).as_deref())
    }

    fn with_budget(threads: usize, budget: Option<&std::ffi::OsStr>) -> Result<Self, Error> {
        let standard = Self::default();
        let max_batch_tokens = match budget {
            None => standard.max_batch_tokens,
            Some(text) => text
                .to_str()
                .and_then(|text| text.parse().ok())
                .filter(|tokens| *tokens > 0)
                .ok_or_else(|| {
                    Error::pipeline(format!(
                        "{BUDGET} is `{}`, which is no number of tokens",
                        text.display()
                    ))
                    .hint(format!(
                        "give a number above 0, or unset it for {}",
                        standard.max_batch_tokens
                    ))
                })?,
        };
        Ok(Self {
            threads: Some(threads.max(1)),
            max_batch_tokens,
            ..standard
        })
    }
}

/// One completion to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Token ids of the prompt, at least one.
    pub prompt: Arc<[u32]>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The random stream.
    pub stream: Stream,
    /// Tokens to generate at most.
    pub max_new_tokens: u32,
    /// Strings that end the completion.
    pub stop: Vec<String>,
    /// Do not stop where the model ends its answer (for comparisons).
    pub ignore_eos: bool,
}

/// A finished completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// What the row memo keeps.
    pub row: RawRow,
    /// The completion's text.
    pub text: String,
    /// Of [`Engine::submit_scored`]: the log-probability of each token that was asked for, in nats.
    pub scores: Vec<f64>,
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Prompt positions computed.
    pub prefill_tokens: u32,
    /// Tokens generated.
    pub decoded_tokens: u32,
    /// Requests that are running.
    pub active: u32,
    /// Requests that wait for room.
    pub waiting: u32,
}

struct Waiting {
    ticket: u64,
    request: Request,
    reserved: u32,
}

/// A model with its running batch.
pub struct Engine {
    decoder: Decoder,
    text: Text,
    options: Options,
    team: Arc<Team>,
    meter: Meter,
    prefixes: Prefixes,
    waiting: VecDeque<Waiting>,
    reserved: u64,
    active: Vec<Sequence>,
    scored: HashMap<u64, Arc<[u32]>>,
}

/// Prompt positions that are computed together.
const PREFILL_ROWS: usize = 512;
/// Rows a thread must have so that it takes whole sequences instead of columns of every product.
const ROWS_PER_THREAD: usize = 16;
/// Logits that are held at once, in values.
const LOGITS: usize = 16 << 20;

impl Engine {
    /// Loads a checkpoint to compute in f32 on the CPU.
    ///
    /// # Errors
    /// An unsupported architecture, files that cannot be read.
    pub fn load(checkpoint: &Checkpoint, text: &TextOptions, options: Options) -> Result<Self, Error> {
        let place = checkpoint.directory().display();
        let config = checkpoint
            .config()
            .map_err(|error| error.context(format!("{place}: cannot be run")))?;
        let text = Text::open(checkpoint, &config.eos, text)?;
        let device = Device::Cpu;
        let weights = Weights::of(checkpoint, &config, DType::F32, &device)?;
        let mut decoder = Decoder::new(config, weights, &device)?;
        if options.device != Accelerator::Cpu {
            let device = options.device.open()?;
            let weights = Weights::of(checkpoint, decoder.config(), DType::F32, &device)?;
            decoder = decoder.on(weights, &device)?;
        }
        Self::new(decoder, text, options)
    }

    /// An engine of a decoder that is in memory.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn new(decoder: Decoder, text: Text, mut options: Options) -> Result<Self, Error> {
        let threads = match options.threads {
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        };
        let team = Team::new(threads).map_err(|cause| {
            Error::internal(format!("{threads} threads for generation could not be started")).cause(cause)
        })?;
        options.max_rows = options
            .max_rows
            .min(LOGITS / decoder.config().vocabulary)
            .max(ROWS_PER_THREAD);
        let meter = Meter::default();
        let prefixes = Prefixes::default();
        let (waiting, active) = (VecDeque::new(), Vec::new());
        Ok(Self {
            decoder,
            text,
            options,
            team: Arc::new(team),
            meter,
            prefixes,
            waiting,
            reserved: 0,
            active,
            scored: HashMap::new(),
        })
    }

    /// The tokenizer and chat template.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// The model.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// How many positions are free for requests: each takes its prompt, unless that is cached, and its answer.
    pub fn room(&self) -> u32 {
        // What only a later request may use is given up when it is needed, so it counts as free.
        let (mut shared, mut own) = (BTreeMap::new(), 0);
        for sequence in &self.active {
            let (segments, answer) = sequence.cache().held();
            shared.extend(segments);
            own += answer;
        }
        let held = shared.values().sum::<usize>() as u64 + own as u64 + self.reserved;
        u64::from(self.options.max_batch_tokens).saturating_sub(held) as u32
    }

    /// The longest sequence the model is defined for.
    pub fn context(&self) -> usize {
        self.decoder.config().context
    }

    /// Adds a request. It may be given beyond [`Engine::room`]; then it waits.
    ///
    /// # Errors
    /// A prompt that is empty or leaves no room in the model's context or in the budget; settings out of range.
    pub fn submit(&mut self, ticket: u64, mut request: Request) -> Result<(), Error> {
        if let Some(problem) = request.sampling.problem() {
            return Err(Error::pipeline(problem));
        }
        let (prompt, context) = (request.prompt.len(), self.context());
        if prompt == 0 || request.max_new_tokens == 0 {
            return Err(Error::input(
                "a prompt without tokens, or no token to generate, gives no completion",
            ));
        }
        if prompt >= context {
            return Err(Error::input(format!(
                "a prompt of {prompt} tokens fills the model's context of {context}"
            ))
            .hint("shorten the prompt, or take a model with a longer context"));
        }
        request.max_new_tokens = request.max_new_tokens.min((context - prompt) as u32);
        let needed = prompt + request.max_new_tokens as usize;
        if needed > self.options.max_batch_tokens as usize {
            let budget = self.options.max_batch_tokens;
            return Err(Error::pipeline(format!(
                "a prompt of {prompt} tokens and its answer of {} exceed the {budget} that are held at once",
                request.max_new_tokens
            ))
            .hint(format!("raise {BUDGET}, or lower max_new_tokens")));
        }
        let known = self.options.share_prefixes
            && (self.prefixes.has(&request.prompt)
                || self
                    .waiting
                    .back()
                    .is_some_and(|last| last.request.prompt == request.prompt));
        let reserved = request.max_new_tokens + if known { 0 } else { prompt as u32 };
        self.reserved += u64::from(reserved);
        self.waiting.push_back(Waiting {
            ticket,
            request,
            reserved,
        });
        Ok(())
    }

    /// Gives back the requests that wait for room.
    pub fn withdraw(&mut self) -> Vec<u64> {
        self.reserved = 0;
        let tickets: Vec<u64> = self.waiting.drain(..).map(|waiting| waiting.ticket).collect();
        self.scored.retain(|ticket, _| !tickets.contains(ticket));
        tickets
    }

    /// Lets waiting requests in as far as there is room, computes their prompts, and one token of every running one.
    /// `done` gets each request that ended, in the order in which they came in.
    ///
    /// # Errors
    /// A defect; a request whose logits are not finite fails alone, through `done`.
    pub fn step(&mut self, done: &mut dyn FnMut(u64, Result<Finished, Error>)) -> Result<Progress, Error> {
        let team = self.team.clone();
        let progress = team.install(|| self.advance())?;
        let (ended, active): (Vec<_>, Vec<_>) = std::mem::take(&mut self.active).into_iter().partition(Sequence::ended);
        self.active = active;
        for sequence in ended {
            let (ticket, outcome) = self.conclude(sequence);
            done(ticket, outcome);
        }
        let (active, waiting) = (self.active.len() as u32, self.waiting.len() as u32);
        Ok(Progress {
            active,
            waiting,
            ..progress
        })
    }

    /// Runs until nothing is left.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn run(&mut self, done: &mut dyn FnMut(u64, Result<Finished, Error>)) -> Result<Progress, Error> {
        let mut total = Progress::default();
        loop {
            let progress = self.step(done)?;
            total.prefill_tokens += progress.prefill_tokens;
            total.decoded_tokens += progress.decoded_tokens;
            if progress.active == 0 && progress.waiting == 0 {
                return Ok(total);
            }
        }
    }

    fn advance(&mut self) -> Result<Progress, Error> {
        let threads = self.team.threads();
        let mut progress = Progress::default();
        let before = self.active.len();
        progress.prefill_tokens = self.admit(threads)?;
        let (unit, text) = (self.options.unit, &self.text);
        // The first token of those that came in follows from their prompts' logits.
        let fresh = &mut self.active[before..];
        let piece = fresh.len().div_ceil(threads).max(1);
        scatter_mut(threads, fresh, piece, |_, sequences| {
            let mut sampler = Sampler::new(unit);
            for sequence in sequences {
                sequence.begin(text, &mut sampler);
            }
        });
        progress.decoded_tokens = fresh.len() as u32;
        let mut running: Vec<&mut Sequence> = self.active.iter_mut().filter(|sequence| !sequence.ended()).collect();
        progress.decoded_tokens += running.len() as u32;
        let rows = running.len();
        let (run, piece) = share(unit, threads, rows, rows);
        let decoder = &self.decoder;
        // Rows that continue one prompt lie together: attention goes through it once for them.
        running.sort_by_key(|sequence| sequence.cache().origin());
        each(threads, &mut running, piece, |sequences| {
            decode(decoder, run, text, sequences)
        })?;
        Ok(progress)
    }
}

fn unreadable(cause: candle_core::Error) -> Error {
    Error::internal("logits could not be read").cause(cause)
}

/// Whether threads share out sequences (many rows: no waiting for one another) or columns of every product (few rows).
fn share(unit: Unit, threads: usize, rows: usize, sequences: usize) -> (Run, usize) {
    match threads > 1 && sequences >= threads && rows >= ROWS_PER_THREAD * threads {
        true => (Run { unit, threads: 1 }, sequences.div_ceil(threads)),
        false => (Run { unit, threads }, sequences.max(1)),
    }
}

/// Runs `piece` over runs of `length` items, spread over threads. The error is that of the first run that has one.
fn each<T: Send>(
    threads: usize,
    items: &mut [T],
    length: usize,
    piece: impl Fn(&mut [T]) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    scatter_mut(threads, items, length, |number, items| {
        if let Err(error) = piece(items) {
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                *failed = Some((number, error));
            }
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

/// One token of each sequence.
fn decode(decoder: &Decoder, run: Run, text: &Text, sequences: &mut [&mut Sequence]) -> Result<(), Error> {
    let mut slots: Vec<Slot<'_>> = sequences.iter_mut().map(|sequence| sequence.slot()).collect();
    let logits = decoder.forward(run, &mut slots, Wanted::Last)?;
    let (storage, layout) = logits.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else {
        return Err(Error::internal("logits are not in main memory"));
    };
    let logits = crate::ops::values(storage, layout).map_err(unreadable)?;
    let vocabulary = decoder.config().vocabulary;
    let piece = sequences.len().div_ceil(run.threads);
    scatter_mut(run.threads, sequences, piece, |number, sequences| {
        let mut sampler = Sampler::new(run.unit);
        let logits = logits[number * piece * vocabulary..].chunks_exact(vocabulary);
        for (sequence, logits) in sequences.iter_mut().zip(logits) {
            sequence.choose(logits, text, &mut sampler);
        }
    });
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
