//! One running completion.

use super::prefix::Prefix;
use super::{Finished, Request};
use crate::cache::Cache;
use crate::decoder::Slot;
use crate::raw::{FinishReason, RawRow};
use crate::sampler::{NotFinite, Sampler};
use crate::text::Text;
use fracture_stage::Error;
use std::sync::Arc;

pub(super) struct Sequence {
    ticket: u64,
    request: Request,
    prefix: Arc<Prefix>,
    cache: Cache,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    top: Vec<(u32, f32)>,
    entropy: f64,
    ended: Option<Result<FinishReason, Error>>,
}

impl Sequence {
    pub fn new(ticket: u64, request: Request, prefix: Arc<Prefix>, cache: Cache) -> Self {
        let room = request.max_new_tokens as usize;
        let (tokens, logprobs) = (Vec::with_capacity(room), Vec::with_capacity(room));
        Self {
            ticket,
            request,
            prefix,
            cache,
            tokens,
            logprobs,
            top: Vec::new(),
            entropy: 0.0,
            ended: None,
        }
    }

    pub fn ended(&self) -> bool {
        self.ended.is_some()
    }

    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// The logits after the prompt's last token.
    pub fn prompt_logits(&self) -> &[f32] {
        self.prefix.logits()
    }

    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The last token, which the model has not seen yet.
    pub fn slot(&mut self) -> Slot<'_> {
        let last = self.tokens.len().saturating_sub(1);
        Slot {
            tokens: &self.tokens[last..],
            cache: &mut self.cache,
        }
    }

    /// The first token, from the prompt's logits.
    pub fn begin(&mut self, text: &Text, sampler: &mut Sampler) {
        let prefix = self.prefix.clone();
        self.choose(prefix.logits(), text, sampler);
    }

    /// The next token.
    pub fn choose(&mut self, logits: &[f32], text: &Text, sampler: &mut Sampler) {
        let request = &self.request;
        let seen = request.prompt.iter().chain(&self.tokens).copied();
        let position = self.tokens.len() as u64;
        let choice = sampler.choose(logits, &request.sampling, seen, || request.stream.uniform(position));
        match choice {
            Ok(choice) => {
                self.tokens.push(choice.token);
                self.logprobs.push(choice.logprob);
                self.top.extend_from_slice(sampler.top());
                self.entropy += f64::from(choice.entropy);
                self.ended = self.reason(text).transpose();
            }
            Err(NotFinite) => {
                self.ended = Some(Err(Error::task("the model's logits are not finite")
                    .cause(format!("at token {} of the completion", self.tokens.len()))
                    .hint(
                        "the checkpoint is damaged, or its activations overflow; try another dtype or checkpoint",
                    )));
            }
        }
    }

    /// Why the completion ends here, if it does.
    fn reason(&self, text: &Text) -> Result<Option<FinishReason>, Error> {
        let request = &self.request;
        let last = self.tokens.last();
        if !request.ignore_eos && last.is_some_and(|token| text.eos().binary_search(token).is_ok()) {
            return Ok(Some(FinishReason::Stop));
        }
        if !request.stop.is_empty() {
            let completion = text.decode(&self.tokens, true)?;
            if request.stop.iter().any(|stop| completion.contains(stop.as_str())) {
                return Ok(Some(FinishReason::Stop));
            }
        }
        Ok((self.tokens.len() >= request.max_new_tokens as usize).then_some(FinishReason::Length))
    }

    pub fn finish(self, text: &Text) -> (u64, Result<Finished, Error>) {
        let ended = self
            .ended
            .unwrap_or_else(|| Err(Error::internal("a completion was closed while it ran")));
        let finished = ended.and_then(|reason| {
            let completion = text.completion(&self.tokens, &self.request.stop)?;
            let entropy = (self.entropy / self.tokens.len().max(1) as f64) as f32;
            let prompt_tokens = self.request.prompt.len() as u32;
            let row = RawRow {
                tokens: self.tokens,
                logprobs: self.logprobs,
                top: self.top,
                entropy,
                reason,
                prompt_tokens,
            };
            Ok(Finished {
                row,
                text: completion,
                scores: Vec::new(),
            })
        });
        (self.ticket, finished)
    }
}
