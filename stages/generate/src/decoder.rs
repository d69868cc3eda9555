//! One decoder for every family, driven by [`Config`].

mod attention;
mod layer;
mod plain;

use crate::cache::{Cache, CacheShape};
use crate::config::Config;
use crate::ops::{self, Linear, Norm, Run};
use crate::weight::Weight;
use crate::weights::Weights;
use attention::Rotation;
use candle_core::{Device, Result as CandleResult, Tensor};
use fracture_stage::Error;
use layer::Layer;

/// A language model, ready to run.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    embedding: Weight,
    layers: Vec<Layer>,
    norm: Norm,
    head: Linear,
    device: Device,
    plain: Option<plain::Plain>,
}

/// The new tokens of one sequence and what it has cached.
#[derive(Debug)]
pub struct Slot<'a> {
    /// New tokens, at the positions after the cached ones.
    pub tokens: &'a [u32],
    /// What is cached; the new tokens are added.
    pub cache: &'a mut Cache,
}

/// Which positions' logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The last new token of each slot.
    Last,
    /// Every new token.
    All,
}

impl Decoder {
    /// Takes the weights that `config` asks for.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or is left over.
    pub fn new(config: Config, mut weights: Weights, device: &Device) -> Result<Self, Error> {
        if config.tied {
            weights.tie();
        }
        let embedding = weights.matrix("model.embed_tokens.weight", config.vocabulary, config.hidden)?;
        let norm = layer::norm(&config, &mut weights, "model.norm.weight", config.hidden)?;
        let layers = (0..config.layers.len())
            .map(|index| Layer::new(&config, index, &mut weights))
            .collect::<Result<Vec<_>, _>>()?;
        let head = match config.tied {
            true => weights.tied_head(&embedding, &config)?,
            false => weights.matrix("lm_head.weight", config.vocabulary, config.hidden)?,
        };
        weights.finish(config.tied)?;
        Ok(Self {
            config,
            embedding,
            layers,
            norm,
            head: Linear::new(head, None),
            device: device.clone(),
            plain: None,
        })
    }

    /// The same model, computed by candle's own operations on `device`; `weights` are those it was made of, once more.
    ///
    /// # Errors
    /// As [`Decoder::new`].
    pub fn on(mut self, weights: Weights, device: &Device) -> Result<Self, Error> {
        self.plain = Some(plain::Plain::new(&self.config, weights, device)?);
        Ok(self)
    }

    /// The architecture.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The extents of a sequence's cache.
    pub fn cache_shape(&self) -> CacheShape {
        let Config { kv_heads, head_dim, .. } = self.config;
        CacheShape {
            layers: self.layers.len(),
            kv_heads,
            head_dim,
        }
    }

    /// Runs the new tokens of all slots together and returns logits `[rows, vocabulary]` in the order of the slots.
    ///
    /// A row's bits depend on its own sequence alone.
    ///
    /// # Errors
    /// A token outside the vocabulary or a cache without room; candle's own.
    pub fn forward(&self, run: Run, slots: &mut [Slot<'_>], wanted: Wanted) -> Result<Tensor, Error> {
        self.check(slots)?;
        match &self.plain {
            Some(plain) => plain.logits(&self.config, slots, wanted).map_err(failed),
            None => self.run(run, slots, wanted).map_err(failed),
        }
    }

    /// Runs the new tokens of all slots together and returns their last hidden states, behind the final norm:
    /// `[rows, hidden]` in the order of the slots. A row's bits depend on its own sequence alone.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub fn hidden(&self, run: Run, slots: &mut [Slot<'_>]) -> Result<Tensor, Error> {
        self.check(slots)?;
        if let Some(plain) = &self.plain {
            return plain.hidden(&self.config, slots).map_err(failed);
        }
        let states = self.states(run, slots).and_then(|x| self.norm.forward(run, &x));
        states.map_err(failed)
    }

    fn check(&self, slots: &[Slot<'_>]) -> Result<(), Error> {
        for slot in slots.iter() {
            if slot.tokens.is_empty() || slot.tokens.len() > slot.cache.room() {
                let (new, room) = (slot.tokens.len(), slot.cache.room());
                return Err(Error::internal(format!(
                    "{new} new tokens for a cache with room for {room}"
                )));
            }
            if let Some(token) = slot
                .tokens
                .iter()
                .find(|token| **token as usize >= self.config.vocabulary)
            {
                let cause = format!("the vocabulary has {} entries", self.config.vocabulary);
                return Err(Error::input(format!("token {token} is outside the model's vocabulary"))
                    .cause(cause)
                    .hint("tokenizer.json and config.json belong to different models"));
            }
        }
        Ok(())
    }

    /// What the last layer gives for the new tokens, before the final norm.
    fn states(&self, run: Run, slots: &mut [Slot<'_>]) -> CandleResult<Tensor> {
        let tokens: Vec<u32> = slots.iter().flat_map(|slot| slot.tokens.iter().copied()).collect();
        let mut x = self.embedding.gather(&tokens, run)?;
        if let Some(scale) = self.config.embedding_scale {
            x = (x * f64::from(scale))?;
        }
        let rotations: Vec<Rotation> = self
            .config
            .ropes
            .iter()
            .map(|rope| Rotation::new(rope, slots))
            .collect();
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(run, &self.config, index, x, slots, &rotations)?;
        }
        for slot in slots.iter_mut() {
            slot.cache.advance(slot.tokens.len());
        }
        Ok(x)
    }

    fn run(&self, run: Run, slots: &mut [Slot<'_>], wanted: Wanted) -> CandleResult<Tensor> {
        let rows: usize = slots.iter().map(|slot| slot.tokens.len()).sum();
        let mut x = self.states(run, slots)?;
        if wanted == Wanted::Last && rows > slots.len() {
            let last: Vec<u32> = slots
                .iter()
                .scan(0, |end, slot| {
                    *end += slot.tokens.len() as u32;
                    Some(*end - 1)
                })
                .collect();
            let count = last.len();
            x = x.index_select(&Tensor::from_vec(last, count, &self.device)?, 0)?;
        }
        let logits = self.head.forward(run, &self.norm.forward(run, &x)?)?;
        match self.config.final_cap {
            Some(cap) => ops::soft_cap(run, &logits, cap),
            None => Ok(logits),
        }
    }
}

fn failed(cause: candle_core::Error) -> Error {
    Error::internal("the model could not be run").cause(cause)
}
