//! Which requests come in, and the computation of their prompts: each once, whoever asks for it.

use super::prefix::Prefix;
use super::sequence::Sequence;
use super::{Engine, PREFILL_ROWS, Request, Waiting, each, share, unreadable};
use crate::cache::Cache;
use crate::decoder::{Slot, Wanted};
use fracture_stage::Error;
use std::sync::Arc;

/// Positions that a prompt must share with another so that it waits for them.
const SHARE_LEAST: usize = 32;

/// A prompt to be computed, and who asked for it.
struct Planned {
    prompt: Arc<[u32]>,
    start: usize,
    cache: Cache,
    requests: Vec<(u64, Request)>,
    logits: Vec<f32>,
}

/// How many tokens two prompts begin with in common.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Engine {
    /// Lets requests in and computes the prompts that are not cached. Returns the positions computed.
    pub(super) fn admit(&mut self, threads: usize) -> Result<u32, Error> {
        let mut wave: Vec<Planned> = Vec::new();
        let (mut new, mut planned_tokens, mut rows) = (0, 0, self.active.len());
        while let Some(next) = self.waiting.front() {
            let (prompt, answer) = (&next.request.prompt, next.request.max_new_tokens as usize);
            let share = self.options.share_prefixes;
            let same = wave.iter().position(|planned| share && planned.prompt == *prompt);
            let cached = if share { self.prefixes.get(prompt) } else { None };
            let (views, start) = match (share && same.is_none() && cached.is_none(), &same, &cached) {
                (true, _, _) => self.prefixes.longest(prompt),
                _ => (Vec::new(), 0),
            };
            let uncached = if same.is_some() || cached.is_some() {
                0
            } else {
                prompt.len() - start
            };
            let budget = self.options.max_batch_tokens as usize;
            let needed = planned_tokens + uncached + answer;
            if rows >= self.options.max_rows || (uncached > 0 && new > 0 && new + uncached > PREFILL_ROWS) {
                break;
            }
            if share
                && uncached > 0
                && wave
                    .iter()
                    .any(|planned| common(&planned.prompt, prompt) >= start + SHARE_LEAST)
            {
                break; // the next step finds what it shares with this wave cached
            }
            if !self.prefixes.make_room(&self.meter, budget, needed) {
                break;
            }
            let Some(Waiting {
                ticket,
                request,
                reserved,
            }) = self.waiting.pop_front()
            else {
                break;
            };
            self.reserved -= u64::from(reserved);
            (new, planned_tokens, rows) = (new + uncached, planned_tokens + uncached + answer, rows + 1);
            if let Some(prefix) = cached {
                let cache = self.cache(&prefix, answer);
                planned_tokens -= answer;
                self.active.push(Sequence::new(ticket, request, prefix, cache));
            } else if let Some(same) = same {
                wave[same].requests.push((ticket, request));
            } else {
                let cache = Cache::new(self.decoder.cache_shape(), views, uncached, &self.meter);
                planned_tokens -= uncached;
                let prompt = request.prompt.clone();
                wave.push(Planned {
                    prompt,
                    start,
                    cache,
                    requests: vec![(ticket, request)],
                    logits: Vec::new(),
                });
            }
        }
        self.prefill(&mut wave, threads, new)?;
        for Planned {
            prompt,
            cache,
            requests,
            logits,
            ..
        } in wave
        {
            let prefix = Arc::new(Prefix::new(cache.into_views(), logits));
            if self.options.share_prefixes {
                self.prefixes.insert(prompt, prefix.clone());
            }
            for (ticket, request) in requests {
                let cache = self.cache(&prefix, request.max_new_tokens as usize);
                self.active.push(Sequence::new(ticket, request, prefix.clone(), cache));
            }
        }
        Ok(new as u32)
    }

    /// A cache that continues a prompt with room for an answer.
    fn cache(&self, prefix: &Prefix, answer: usize) -> Cache {
        Cache::new(self.decoder.cache_shape(), prefix.views().to_vec(), answer, &self.meter)
    }

    fn prefill(&self, wave: &mut [Planned], threads: usize, rows: usize) -> Result<(), Error> {
        let (run, piece) = share(self.options.unit, threads, rows, wave.len());
        let decoder = &self.decoder;
        each(threads, wave, piece, |wave| {
            // A prompt longer than a block is computed block by block; a wave of several fits one block.
            let blocks = wave
                .iter()
                .map(|planned| (planned.prompt.len() - planned.start).div_ceil(PREFILL_ROWS))
                .max();
            for block in 0..blocks.unwrap_or(0) {
                let mut slots = Vec::with_capacity(wave.len());
                let mut owners = Vec::with_capacity(wave.len());
                for planned in wave.iter_mut() {
                    let from = planned.start + block * PREFILL_ROWS;
                    let to = planned.prompt.len().min(from + PREFILL_ROWS);
                    if from < to {
                        slots.push(Slot {
                            tokens: &planned.prompt[from..to],
                            cache: &mut planned.cache,
                        });
                        owners.push(&mut planned.logits);
                    }
                }
                let logits = decoder.forward(run, &mut slots, Wanted::Last)?;
                let rows: Vec<Vec<f32>> = logits.to_vec2().map_err(unreadable)?;
                for (owner, row) in owners.into_iter().zip(rows) {
                    *owner = row;
                }
            }
            Ok(())
        })
    }
}
