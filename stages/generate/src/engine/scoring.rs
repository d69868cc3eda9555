//! Weighing what a model might say next, as generative judges do, instead of choosing a token.

use std::sync::Arc;

use fracture_stage::Error;

use super::sequence::Sequence;
use super::{Engine, Finished, Request};
use crate::sampler::{Sampler, Sampling, Stream};

impl Engine {
    /// Adds a prompt whose next token is weighed: [`Finished::scores`] holds the log-probability of each of `tokens`. It
    /// takes its prompt and one token of room; what prompts share is computed once, as for completions.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn submit_scored(&mut self, ticket: u64, prompt: Arc<[u32]>, tokens: Arc<[u32]>) -> Result<(), Error> {
        let request = Request {
            prompt,
            sampling: Sampling::default(),
            stream: Stream([0; 32]),
            max_new_tokens: 1,
            stop: Vec::new(),
            ignore_eos: true,
        };
        self.submit(ticket, request)?;
        self.scored.insert(ticket, tokens);
        Ok(())
    }

    /// What became of a sequence that ended.
    pub(super) fn conclude(&mut self, sequence: Sequence) -> (u64, Result<Finished, Error>) {
        let Some(tokens) = self.scored.remove(&sequence.ticket()) else {
            return sequence.finish(&self.text);
        };
        let scores = Sampler::new(self.options.unit).weigh(sequence.prompt_logits(), &tokens);
        let (ticket, finished) = sequence.finish(&self.text);
        // Logits that are not finite have ended the sequence with an error that says more.
        let finished = finished.and_then(|finished| {
            let scores = scores.map_err(|problem| Error::task(problem.to_string()))?;
            Ok(Finished { scores, ..finished })
        });
        (ticket, finished)
    }
}
