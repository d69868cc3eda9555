//! A language model as an executor: texts in, pooled last hidden states out.
//!
//! A text is tokenized as a completion's prompt without a chat template. The decoder's kernels give a sequence the same bits
//! whatever shares its batch.

use std::collections::VecDeque;

use fracture_generate::engine::{Engine, Options};
use fracture_generate::text::TextOptions;
use fracture_judge::Text;
use fracture_stage::{Error, Executor, Outcome, Progress, Request, RowError, Ticket};

use crate::encoder::outcome;
use crate::pooling::Pooling;
use crate::source::DecoderSource;

/// Texts inside at once.
const CAPACITY: usize = 1024;
/// Tokens that are computed together, unless one text has more.
const TOKENS: usize = 1024;

/// A loaded language model.
pub struct Decoder {
    engine: Engine,
    pooling: Pooling,
    max_length: usize,
    shown: String,
    waiting: VecDeque<(Ticket, Text)>,
}

impl Decoder {
    /// Loads the model. `max_length` cuts texts; the model's context without one.
    ///
    /// # Errors
    /// When the model can not be loaded, or `max_length` is beyond its context.
    pub fn load(
        source: &DecoderSource,
        threads: usize,
        pooling: Pooling,
        max_length: Option<usize>,
    ) -> Result<Self, Error> {
        let text = TextOptions {
            chat: false,
            ..TextOptions::default()
        };
        let options = Options {
            threads: Some(threads.max(1)),
            ..Options::default()
        };
        let context = source.config.context;
        let max_length = match max_length {
            Some(asked) if asked > context => {
                return Err(Error::pipeline(format!(
                    "max_length: {asked} is more than the model's context of {context} tokens"
                )));
            }
            asked => asked.unwrap_or(context),
        };
        Ok(Self {
            engine: Engine::load(&source.checkpoint, &text, options)?,
            pooling,
            max_length,
            shown: source.checkpoint.directory().display().to_string(),
            waiting: VecDeque::new(),
        })
    }

    /// The texts of the next batch, tokenized; those that can not be fail alone.
    fn batch(&mut self, done: &mut dyn FnMut(Ticket, Outcome)) -> Vec<Tokens> {
        let (mut batch, mut size) = (Vec::<Tokens>::new(), 0);
        while let Some((ticket, text)) = self.waiting.pop_front() {
            match self.tokens(&text) {
                Ok((ids, truncated)) => {
                    size += ids.len();
                    batch.push(Tokens { ticket, ids, truncated });
                }
                Err(error) => done(
                    ticket,
                    Outcome::Failed(RowError {
                        message: error.to_string(),
                    }),
                ),
            }
            if size >= TOKENS {
                break;
            }
        }
        batch
    }

    fn tokens(&self, text: &Text) -> Result<(Vec<u32>, bool), Error> {
        let mut ids = match text {
            Text::One(text) => self.engine.text().encode(text, true)?,
            Text::Pair { prompt, response } => self.engine.text().encode(&format!("{prompt}\n\n{response}"), true)?,
        };
        if ids.is_empty() {
            return Err(Error::task("the text has no token"));
        }
        let truncated = ids.len() > self.max_length;
        ids.truncate(self.max_length);
        Ok((ids, truncated))
    }
}

/// A text as the model reads it.
struct Tokens {
    ticket: Ticket,
    ids: Vec<u32>,
    truncated: bool,
}

impl Executor for Decoder {
    fn room(&self) -> u32 {
        u32::try_from(CAPACITY.saturating_sub(self.waiting.len())).unwrap_or(u32::MAX)
    }

    fn submit(&mut self, ticket: Ticket, request: Request) -> Result<(), Error> {
        let text = request
            .payload
            .downcast_ref::<Text>()
            .ok_or_else(|| Error::internal("a model was given something that is no text"))?;
        self.waiting.push_back((ticket, text.clone()));
        Ok(())
    }

    fn step(&mut self, _: bool, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error> {
        let before = self.waiting.len();
        let batch = self.batch(done);
        let sequences: Vec<&[u32]> = batch.iter().map(|tokens| tokens.ids.as_slice()).collect();
        let states = self.engine.hidden_states(&sequences)?;
        let dimension = self.engine.decoder().config().hidden;
        for (tokens, states) in batch.iter().zip(states) {
            let vector = self.pooling.apply(&states, dimension, 0..tokens.ids.len());
            done(
                tokens.ticket,
                outcome(vector.unwrap_or_default(), tokens.truncated, &self.shown),
            );
        }
        Ok(Progress {
            active: u32::try_from(self.waiting.len()).unwrap_or(u32::MAX),
            units: (before - self.waiting.len()) as u64,
        })
    }

    fn withdraw(&mut self) -> Vec<Ticket> {
        self.waiting.drain(..).map(|(ticket, _)| ticket).collect()
    }
}
