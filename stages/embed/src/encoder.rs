//! An encoder as an executor: texts in, pooled vectors out, in batches of fixed shapes.
//!
//! As with judges, a text's shape is a function of its own length ([`Shapes`]), so that what shares its batch moves no bit. A
//! small model gets one single-threaded session per thread; a large one gets one session with all threads inside.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use fracture_judge::classifier::on_threads;
use fracture_judge::session::{Batch, GraphOutputs, Network};
use fracture_judge::shape::{Shape, Shapes};
use fracture_judge::tokenize::Padding;
use fracture_judge::{Runtime, Text, TextEncoder, Window};
use fracture_stage::{Error, Executor, Outcome, Progress, Request, RowError, Ticket};
use ort::session::builder::PrepackedWeights;

use crate::pooling::Pooling;
use crate::raw::RawRow;
use crate::source::EncoderSource;

/// Models up to this size get a session per thread, bytes with external data.
const SMALL_MODEL: u64 = 128 << 20;
/// Texts inside at once.
const CAPACITY: usize = 2048;
/// Batches per thread in one step, so that steps stay short.
const BATCHES: usize = 4;

/// A text that waits for its batch.
struct Waiting {
    ticket: Ticket,
    window: Window,
    truncated: bool,
}

/// A loaded encoder.
pub struct Encoder {
    tokens: TextEncoder,
    sessions: Vec<Network>,
    shapes: Shapes,
    pooling: Pooling,
    dimension: usize,
    shown: String,
    version: String,
    new: VecDeque<(Ticket, Text)>,
    queues: BTreeMap<Shape, VecDeque<Waiting>>,
}

impl Encoder {
    /// Loads the encoder.
    ///
    /// # Errors
    /// When a file is damaged, the tokenizer does not fit the model, the runtime refuses the graph, it gives no states, or
    /// `max_length` leaves no room for text.
    pub fn load(
        source: &EncoderSource,
        runtime: &Runtime,
        threads: usize,
        pooling: Pooling,
        max_length: Option<usize>,
    ) -> Result<Self, Error> {
        let layout = &source.layout;
        let threads = threads.max(1);
        let paths = std::iter::once(&layout.model).chain(layout.data.iter().map(|(_, path)| path));
        let bytes: u64 = paths
            .filter_map(|path| std::fs::metadata(path).ok())
            .map(|metadata| metadata.len())
            .sum();
        let (count, inside) = if bytes <= SMALL_MODEL {
            (threads, 1)
        } else {
            (1, threads)
        };
        let weights = (count > 1).then(PrepackedWeights::new);
        let sessions = (0..count)
            .map(|_| Network::load(layout, runtime, inside, weights.as_ref(), states))
            .collect::<Result<Vec<_>, _>>()?;
        let constraints = sessions.first().map(Network::constraints).unwrap_or_default();
        let max_length = match (max_length, constraints.length) {
            (Some(asked), Some(fixed)) if asked > fixed => {
                return Err(Error::pipeline(format!(
                    "max_length: {asked} is more than the {fixed} tokens that {} is exported for",
                    layout.model.display()
                )));
            }
            (None, Some(fixed)) => Some(source.config.max_length(None, None)?.min(fixed)),
            (asked, _) => asked,
        };
        let tokens = TextEncoder::load(layout, &source.config, max_length, None)?;
        Ok(Self {
            shapes: Shapes::new(constraints, tokens.max_length()),
            tokens,
            sessions,
            pooling,
            dimension: source.dimension,
            shown: layout.model.display().to_string(),
            version: runtime.version().to_owned(),
            new: VecDeque::new(),
            queues: BTreeMap::new(),
        })
    }

    fn active(&self) -> usize {
        self.new.len() + self.queues.values().map(VecDeque::len).sum::<usize>()
    }

    /// Tokenizes everything new; a text that has no token fails alone.
    fn tokenize(&mut self, done: &mut dyn FnMut(Ticket, Outcome)) {
        let texts: Vec<(Ticket, Text)> = self.new.drain(..).collect();
        let tokens = &self.tokens;
        let encoded = on_threads(self.sessions.len(), texts.len(), |index| tokens.encode(&texts[index].1));
        for ((ticket, _), encoded) in texts.into_iter().zip(encoded) {
            let (window, truncated) =
                match encoded.map(|encoded| (encoded.windows.into_iter().next(), encoded.truncated)) {
                    Ok((Some(window), truncated)) => (window, truncated),
                    Ok((None, _)) => {
                        done(ticket, failed("the text has no token"));
                        continue;
                    }
                    Err(error) => {
                        done(ticket, failed(error));
                        continue;
                    }
                };
            let shape = self.shapes.of(window.ids.len());
            self.queues.entry(shape).or_default().push_back(Waiting {
                ticket,
                window,
                truncated,
            });
        }
    }

    /// The batches of this step, the longest texts first; shapes that are not full wait while `more` texts will come and there
    /// is room for them.
    fn batches(&mut self, more: bool) -> Vec<(Shape, Vec<Waiting>)> {
        let most = self.sessions.len() * BATCHES;
        let full = self.queues.iter().any(|(shape, queue)| queue.len() >= shape.rows);
        let partial = !more || (!full && self.active() >= CAPACITY);
        let mut batches = Vec::new();
        for (shape, queue) in self.queues.iter_mut().rev() {
            while batches.len() < most && !queue.is_empty() && (partial || queue.len() >= shape.rows) {
                let count = shape.rows.min(queue.len());
                batches.push((*shape, queue.drain(..count).collect()));
            }
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        batches
    }

    /// Runs batches on all sessions and pools the states of their texts; the results are in the order of the batches.
    fn run(&mut self, batches: &[(Shape, Vec<Waiting>)]) -> Result<Vec<Vec<Vec<f32>>>, Error> {
        let padding = self.tokens.padding();
        let (pooling, dimension, shown) = (self.pooling, self.dimension, self.shown.as_str());
        let threads = self.sessions.len();
        let idle: Mutex<Vec<&mut Network>> = Mutex::new(self.sessions.iter_mut().collect());
        let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
        let results = on_threads(threads, batches.len(), |index| {
            let (shape, waiting) = &batches[index];
            let batch = Batch {
                shape: *shape,
                windows: waiting.iter().map(|waiting| &waiting.window).collect(),
            };
            // There are as many sessions as threads, so one is idle.
            let Some(network) = lock().pop() else {
                return Err(Error::internal("more threads than sessions"));
            };
            let result = network.run(&batch, padding);
            lock().push(network);
            let (dimensions, states) = result?;
            check(&dimensions, *shape, dimension, shown)?;
            Ok(pool(&batch, &states, dimension, pooling, padding))
        });
        results.into_iter().collect()
    }
}

/// What is wrong with one text, as its outcome.
fn failed(cause: impl std::fmt::Display) -> Outcome {
    Outcome::Failed(RowError {
        message: cause.to_string(),
    })
}

/// The output that holds the states of tokens: by the names that exports use, else the only one of three dimensions.
fn states(outputs: &GraphOutputs, shown: &str) -> Result<String, Error> {
    let usual = ["last_hidden_state", "token_embeddings"];
    let named = usual
        .iter()
        .find(|usual| outputs.iter().any(|(name, _)| name == *usual));
    if let Some(name) = named {
        return Ok((*name).to_owned());
    }
    let deep: Vec<&String> = outputs
        .iter()
        .filter(|(_, rank)| *rank == Some(3))
        .map(|(name, _)| name)
        .collect();
    match deep.as_slice() {
        [only] => Ok((*only).clone()),
        _ => {
            let names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
            Err(Error::input(format!("{shown} gives no states of tokens"))
                .cause(format!("its outputs are {}", names.join(", ")))
                .hint("export the model with `optimum-cli export onnx --task feature-extraction`"))
        }
    }
}

/// The output must be `[rows, length, dimension]`.
fn check(found: &[i64], shape: Shape, dimension: usize, shown: &str) -> Result<(), Error> {
    let expected = [shape.rows, shape.length, dimension];
    if found.len() == 3 && found.iter().zip(expected).all(|(f, e)| usize::try_from(*f) == Ok(e)) {
        return Ok(());
    }
    Err(
        Error::input(format!("{shown} gives states of the shape {found:?}, not {expected:?}"))
            .cause(format!("config.json says that a vector has {dimension} values"))
            .hint("take config.json and the model from one export, made with `--task feature-extraction`"),
    )
}

fn pool(batch: &Batch<'_>, states: &[f32], dimension: usize, pooling: Pooling, padding: Padding) -> Vec<Vec<f32>> {
    let length = batch.shape.length;
    let rows = batch.windows.iter().zip(states.chunks_exact(length * dimension));
    rows.map(|(window, states)| {
        let start = if padding.left { length - window.ids.len() } else { 0 };
        let tokens = start..start + window.ids.len();
        pooling.apply(states, dimension, tokens).unwrap_or_default()
    })
    .collect()
}

impl Executor for Encoder {
    fn room(&self) -> u32 {
        u32::try_from(CAPACITY.saturating_sub(self.active())).unwrap_or(u32::MAX)
    }

    fn submit(&mut self, ticket: Ticket, request: Request) -> Result<(), Error> {
        let text = request
            .payload
            .downcast_ref::<Text>()
            .ok_or_else(|| Error::internal("an encoder was given something that is no text"))?;
        self.new.push_back((ticket, text.clone()));
        Ok(())
    }

    fn step(&mut self, more: bool, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error> {
        let before = self.active();
        self.tokenize(done);
        let batches = self.batches(more);
        let results = self.run(&batches)?;
        for ((_, waiting), vectors) in batches.into_iter().zip(results) {
            for (waiting, vector) in waiting.into_iter().zip(vectors) {
                done(waiting.ticket, outcome(vector, waiting.truncated, &self.shown));
            }
        }
        let active = self.active();
        Ok(Progress {
            active: u32::try_from(active).unwrap_or(u32::MAX),
            units: (before - active) as u64,
        })
    }

    fn withdraw(&mut self) -> Vec<Ticket> {
        let new = self.new.drain(..).map(|(ticket, _)| ticket);
        let queued = std::mem::take(&mut self.queues);
        new.chain(queued.into_values().flatten().map(|waiting| waiting.ticket))
            .collect()
    }

    fn provenance(&self) -> Vec<(String, String)> {
        vec![
            ("onnxruntime".to_owned(), self.version.clone()),
            ("provider".to_owned(), "cpu".to_owned()),
        ]
    }
}

/// A vector as an outcome; one that is not finite fails alone.
pub(crate) fn outcome(vector: Vec<f32>, truncated: bool, shown: &str) -> Outcome {
    match vector.iter().find(|x| !x.is_finite()) {
        Some(bad) => failed(format!(
            "{shown} gave {bad} for a state: the model is damaged or overflows; try its f32 export"
        )),
        None => Outcome::Raw(RawRow { vector, truncated }.encode()),
    }
}
