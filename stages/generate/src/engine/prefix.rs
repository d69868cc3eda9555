//! Prompts that were computed, kept as long as there is room.

use crate::cache::{Meter, View, shorten};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A computed prompt: its cache and the logits after its last token.
#[derive(Debug)]
pub(super) struct Prefix {
    views: Vec<View>,
    logits: Vec<f32>,
}

impl Prefix {
    pub fn new(views: Vec<View>, logits: Vec<f32>) -> Self {
        Self { views, logits }
    }

    pub fn views(&self) -> &[View] {
        &self.views
    }

    pub fn logits(&self) -> &[f32] {
        &self.logits
    }
}

/// The shortest beginning that is worth sharing, in tokens.
const LEAST: usize = 8;

/// Computed prompts by their tokens. In the order of tokens, the longest common beginning of a new prompt with any of
/// them is the one with a neighbour.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    known: BTreeMap<Arc<[u32]>, Entry>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    prefix: Arc<Prefix>,
    used: u64,
}

impl Prefixes {
    pub fn has(&self, prompt: &[u32]) -> bool {
        self.known.contains_key(prompt)
    }

    pub fn get(&mut self, prompt: &[u32]) -> Option<Arc<Prefix>> {
        self.clock += 1;
        let clock = self.clock;
        self.known.get_mut(prompt).map(|entry| {
            entry.used = clock;
            entry.prefix.clone()
        })
    }

    pub fn insert(&mut self, prompt: Arc<[u32]>, prefix: Arc<Prefix>) {
        self.clock += 1;
        self.known.insert(
            prompt,
            Entry {
                prefix,
                used: self.clock,
            },
        );
    }

    /// The longest cached beginning of `prompt` that leaves at least its last token to compute, and its length.
    pub fn longest(&mut self, prompt: &[u32]) -> (Vec<View>, usize) {
        self.clock += 1;
        let before = self
            .known
            .range::<[u32], _>((Bound::Unbounded, Bound::Excluded(prompt)))
            .next_back();
        let after = self
            .known
            .range::<[u32], _>((Bound::Included(prompt), Bound::Unbounded))
            .next();
        let best = [before, after]
            .into_iter()
            .flatten()
            .map(|(tokens, _)| {
                (
                    super::admission::common(tokens, prompt).min(prompt.len() - 1),
                    tokens.clone(),
                )
            })
            .max_by_key(|(length, _)| *length)
            .filter(|(length, _)| *length >= LEAST);
        match best.and_then(|(length, tokens)| Some((length, self.known.get_mut(&tokens)?))) {
            Some((length, entry)) => {
                entry.used = self.clock;
                (shorten(&entry.prefix.views, length), length)
            }
            None => (Vec::new(), 0),
        }
    }

    /// Drops the idle prompts that were used longest ago until `needed` positions fit beside those held.
    pub fn make_room(&mut self, meter: &Meter, budget: usize, needed: usize) -> bool {
        while meter.tokens() + needed > budget {
            let idle = self
                .known
                .iter()
                .filter(|(_, entry)| Arc::strong_count(&entry.prefix) == 1);
            let Some(oldest) = idle
                .min_by_key(|(_, entry)| entry.used)
                .map(|(tokens, _)| tokens.clone())
            else {
                return false;
            };
            self.known.remove(&oldest);
        }
        true
    }
}
