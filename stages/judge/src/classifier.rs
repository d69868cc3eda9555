//! A sequence classifier as an executor: texts in, raw rows out, in batches of fixed shapes.
//!
//! A small model gets one single-threaded session per thread, which run batches side by side; a large one gets one session
//! with all threads inside its operators, so that memory stays that of one model. Neither moves a bit of any row.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fracture_stage::{Error, Outcome, Progress, RowError, Ticket};
use ort::session::builder::PrepackedWeights;

use crate::config::{Activation, JudgeConfig};
use crate::layout::Layout;
use crate::provider::Provider;
use crate::raw::RawRow;
use crate::runtime::Runtime;
use crate::session::{Batch, Judge};
use crate::shape::{Shape, Shapes};
use crate::tokenize::{Encoded, Text, TextEncoder, Window};

/// Models up to this size get a session per thread, bytes with external data.
const SMALL_MODEL: u64 = 128 << 20;
/// Texts inside at once: enough to fill buckets and to sort well, few enough to hold.
const CAPACITY: usize = 2048;
/// Batches per thread in one step, so that steps stay short.
const BATCHES: usize = 4;

/// Texts that one thread tokenizes at a time.
const CHUNK: usize = 16;

/// The logits of a batch, `[windows, labels]`.
type Run = Result<Vec<Vec<f32>>, Error>;
/// The windows of a text.
type Tokenized = Result<Encoded, Error>;

/// What a thread did.
enum Job {
    Ran(Run),
    Encoded(Vec<Tokenized>),
}

/// How a judge is run. Nothing here but `max_length` and `stride` moves a result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Threads at most; 0 counts as 1.
    pub threads: usize,
    /// The longest window in tokens, special tokens included; the judge's own when not given.
    pub max_length: Option<usize>,
    /// Tokens that neighbouring windows of a long text share; without it long texts are truncated.
    pub stride: Option<usize>,
}

/// A text inside the executor.
struct Row {
    ticket: Ticket,
    logits: Vec<Option<Vec<f32>>>,
    truncated: bool,
}

/// A window that waits for its batch.
struct Waiting {
    row: u64,
    index: usize,
    window: Window,
}

/// A loaded judge.
pub struct Classifier {
    encoder: TextEncoder,
    sessions: Vec<Judge>,
    shapes: Shapes,
    config: JudgeConfig,
    shown: String,
    version: String,
    provider: Provider,
    new: VecDeque<(Ticket, Text)>,
    rows: HashMap<u64, Row>,
    queues: BTreeMap<Shape, VecDeque<Waiting>>,
    next_row: u64,
}

impl Classifier {
    /// Loads the judge at `layout`.
    ///
    /// # Errors
    /// When a file is damaged, the tokenizer does not fit the model, the runtime refuses the graph (a newer opset), the graph
    /// wants an input that no text gives, or the options leave no room for text.
    pub fn load(layout: &Layout, runtime: &Runtime, options: &Options) -> Result<Self, Error> {
        let config = JudgeConfig::read(layout)?;
        let threads = options.threads.max(1);
        let bytes: u64 = std::iter::once(&layout.model)
            .chain(layout.data.iter().map(|(_, path)| path))
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
            .map(|_| Judge::load(layout, runtime, inside, weights.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let constraints = sessions.first().map(|judge| judge.constraints).unwrap_or_default();
        let max_length = longest(layout, &config, options.max_length, constraints.length)?;
        let encoder = TextEncoder::load(layout, &config, max_length, options.stride)?;
        Ok(Self {
            shapes: Shapes::new(constraints, encoder.max_length()),
            encoder,
            sessions,
            config,
            shown: layout.model.display().to_string(),
            version: runtime.version().to_owned(),
            provider: runtime.provider(),
            new: VecDeque::new(),
            rows: HashMap::new(),
            queues: BTreeMap::new(),
            next_row: 0,
        })
    }

    /// The configuration of the judge.
    pub fn config(&self) -> &JudgeConfig {
        &self.config
    }

    /// How its logits become probabilities; `logits` as a raw row has them.
    ///
    /// # Errors
    /// See [`JudgeConfig::activation`].
    pub fn activation(&self, logits: usize) -> Result<Activation, Error> {
        self.config.activation(logits)
    }

    /// The longest window in tokens.
    pub fn max_length(&self) -> usize {
        self.encoder.max_length()
    }

    /// What a person should know of the judge's files.
    pub fn doubt(&self) -> Option<&str> {
        self.encoder.doubt()
    }

    /// How many texts fit now.
    pub fn room(&self) -> u32 {
        u32::try_from(CAPACITY.saturating_sub(self.active())).unwrap_or(u32::MAX)
    }

    fn active(&self) -> usize {
        self.new.len() + self.rows.len()
    }

    /// Takes a text.
    pub fn submit(&mut self, ticket: Ticket, text: Text) {
        self.new.push_back((ticket, text));
    }

    /// Gives back all texts: between two steps none is being computed.
    pub fn withdraw(&mut self) -> Vec<Ticket> {
        self.queues.clear();
        let new = self.new.drain(..).map(|(ticket, _)| ticket);
        new.chain(self.rows.drain().map(|(_, row)| row.ticket)).collect()
    }

    /// Runs full batches and tokenizes what is new beside them; without `more`, and when there is no room for more, runs
    /// others too. Hands out
    /// finished rows ([`RawRow::encode`]); a text whose logits are not finite fails alone.
    ///
    /// # Errors
    /// When the session fails.
    pub fn step(&mut self, more: bool, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error> {
        let partial = !more && self.new.is_empty();
        let mut batches = self.take_batches(partial);
        let mut texts: Vec<(Ticket, Text)> = Vec::new();
        let mut units = 0;
        if batches.is_empty() {
            // Nothing to compute yet: tokenizing comes first.
            let new: Vec<_> = self.new.drain(..).collect();
            let (_, encoded) = self.compute(&[], &new);
            units += self.queue(new, encoded, done);
            batches = self.take_batches(false);
            if batches.is_empty() && (!more || self.room() == 0) {
                batches = self.take_batches(true);
            }
        } else {
            texts.extend(self.new.drain(..));
        }
        // What came in meanwhile is tokenized beside the batches.
        let (runs, encoded) = self.compute(&batches, &texts);
        units += self.queue(texts, encoded, done);
        for ((_, waiting), logits) in batches.into_iter().zip(runs) {
            for (waiting, logits) in waiting.into_iter().zip(logits?) {
                units += u64::from(self.finish(waiting.row, waiting.index, logits, done)?);
            }
        }
        Ok(Progress {
            active: u32::try_from(self.active()).unwrap_or(u32::MAX),
            units,
        })
    }

    /// Which numeric class computes here.
    pub fn provenance(&self) -> Vec<(String, String)> {
        vec![
            ("onnxruntime".to_owned(), self.version.clone()),
            ("provider".to_owned(), self.provider.name().to_owned()),
        ]
    }

    /// Puts the windows of tokenized texts into the queues of their shapes. Returns how many texts failed.
    fn queue(
        &mut self,
        texts: Vec<(Ticket, Text)>,
        encoded: Vec<Tokenized>,
        done: &mut dyn FnMut(Ticket, Outcome),
    ) -> u64 {
        let mut failed = 0;
        for ((ticket, _), encoded) in texts.into_iter().zip(encoded) {
            let encoded = match encoded {
                Ok(encoded) => encoded,
                Err(error) => {
                    failed += 1;
                    done(
                        ticket,
                        Outcome::Failed(RowError {
                            message: error.to_string(),
                        }),
                    );
                    continue;
                }
            };
            let row = self.next_row;
            self.next_row += 1;
            self.rows.insert(
                row,
                Row {
                    ticket,
                    logits: vec![None; encoded.windows.len()],
                    truncated: encoded.truncated,
                },
            );
            for (index, window) in encoded.windows.into_iter().enumerate() {
                let shape = self.shapes.of(window.ids.len());
                self.queues
                    .entry(shape)
                    .or_default()
                    .push_back(Waiting { row, index, window });
            }
        }
        failed
    }

    /// The batches of this step, the costliest first so that threads end together. With `partial`, shapes that are not full
    /// run too.
    fn take_batches(&mut self, partial: bool) -> Vec<(Shape, Vec<Waiting>)> {
        let most = self.sessions.len() * BATCHES;
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

    /// Runs batches on all sessions and tokenizes texts beside them; the results are in the order of both.
    fn compute(&mut self, batches: &[(Shape, Vec<Waiting>)], texts: &[(Ticket, Text)]) -> (Vec<Run>, Vec<Tokenized>) {
        let (encoder, padding) = (&self.encoder, self.encoder.padding());
        let encode = |texts: &[(Ticket, Text)]| -> Vec<Tokenized> {
            texts.iter().map(|(_, text)| encoder.encode(text)).collect()
        };
        let batch = |(shape, waiting): &(Shape, Vec<Waiting>), judge: &mut Judge| -> Run {
            let windows = waiting.iter().map(|waiting| &waiting.window).collect();
            judge.run(&Batch { shape: *shape, windows }, padding)
        };
        if let [judge] = &mut self.sessions[..] {
            // The threads are inside the operators; tokenizing takes one more beside them.
            return std::thread::scope(|scope| {
                let other = (!texts.is_empty()).then(|| scope.spawn(|| encode(texts)));
                let runs = batches.iter().map(|one| batch(one, judge)).collect();
                let encoded = other.map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
                (runs, encoded.unwrap_or_default())
            });
        }
        let chunks: Vec<&[(Ticket, Text)]> = texts.chunks(CHUNK).collect();
        let threads = self.sessions.len();
        let idle: Mutex<Vec<&mut Judge>> = Mutex::new(self.sessions.iter_mut().collect());
        let results = on_threads(threads, batches.len() + chunks.len(), |index| {
            let Some(one) = batches.get(index) else {
                return Job::Encoded(encode(chunks[index - batches.len()]));
            };
            // There are as many sessions as threads, so one is idle.
            let Some(judge) = lock(&idle).pop() else {
                return Job::Ran(Err(Error::internal("more threads than sessions")));
            };
            let logits = batch(one, judge);
            lock(&idle).push(judge);
            Job::Ran(logits)
        });
        let (mut runs, mut encoded) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Job::Ran(run) => runs.push(run),
                Job::Encoded(some) => encoded.extend(some),
            }
        }
        (runs, encoded)
    }

    /// Stores the logits of a window; hands out the row when it was the last. Returns whether it did.
    ///
    /// # Errors
    /// When the number of logits does not fit the labels: it will for no other row.
    fn finish(
        &mut self,
        id: u64,
        index: usize,
        logits: Vec<f32>,
        done: &mut dyn FnMut(Ticket, Outcome),
    ) -> Result<bool, Error> {
        self.config.check_logits(logits.len(), &self.shown)?;
        let Some(row) = self.rows.get_mut(&id) else {
            return Ok(false);
        };
        row.logits[index] = Some(logits);
        if row.logits.iter().any(Option::is_none) {
            return Ok(false);
        }
        let Some(row) = self.rows.remove(&id) else {
            return Ok(false);
        };
        let raw = RawRow {
            logits: row.logits.into_iter().flatten().collect(),
            truncated: row.truncated,
        };
        done(
            row.ticket,
            match self.defect(&raw) {
                None => Outcome::Raw(raw.encode()),
                Some(message) => Outcome::Failed(RowError { message }),
            },
        );
        Ok(true)
    }

    /// What is wrong with a row: a logit that is no number.
    fn defect(&self, raw: &RawRow) -> Option<String> {
        raw.logits.iter().enumerate().find_map(|(window, logits)| {
            let index = logits.iter().position(|logit| !logit.is_finite())?;
            let label = self.config.labels.get(index);
            let label = label.map_or_else(|| format!("logit {index}"), |label| format!("`{label}`"));
            Some(format!(
                "{} gave {} for {label} in window {window}: the model is damaged or overflows; try its f32 export",
                self.shown, logits[index]
            ))
        })
    }
}

/// The longest window that is asked for, or that the graph fixes; `None` where the tokenizer says.
///
/// # Errors
/// When more is asked for than the graph takes.
pub(crate) fn longest(
    layout: &Layout,
    config: &JudgeConfig,
    asked: Option<usize>,
    fixed: Option<usize>,
) -> Result<Option<usize>, Error> {
    match (asked, fixed) {
        (Some(asked), Some(fixed)) if asked > fixed => Err(Error::pipeline(format!(
            "max_length: {asked} is more than the {fixed} tokens that {} is exported for",
            layout.model.display()
        ))
        .parameter(&["max_length"])),
        (None, Some(fixed)) => Ok(Some(config.max_length(None, None)?.min(fixed))),
        (asked, _) => Ok(asked),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// `work(0 .. count)` on at most `threads` threads; the results in order.
pub fn on_threads<T: Send>(threads: usize, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if threads <= 1 || count <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut finished = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return finished;
            }
            finished.push((index, work(index)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(worker)).collect();
        let mut all = worker();
        for other in others {
            match other.join() {
                Ok(finished) => all.extend(finished),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod nasty;
#[cfg(test)]
mod tests;
