//! From logits to the next token: filters in the order of `transformers`, counter-based random numbers.

use crate::kernel::{self, Unit};

/// How a token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the most probable token (the lowest id among equals); above, logits are divided by it.
    pub temperature: f32,
    /// Keep the most probable tokens until their mass reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep this many most probable tokens (and those equal to the last); 0 keeps all.
    pub top_k: u32,
    /// Keep tokens at least this fraction as probable as the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Logits of tokens that occurred, in the prompt or after, are divided by this when positive, else multiplied.
    pub repetition_penalty: f32,
    /// How many most probable tokens are told beside each chosen one; it changes no choice.
    pub top: u32,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            top: 0,
        }
    }
}

impl Sampling {
    /// What is wrong with these settings, if anything.
    pub fn problem(&self) -> Option<String> {
        let Self {
            temperature,
            top_p,
            min_p,
            repetition_penalty,
            ..
        } = *self;
        let checks = [
            (
                temperature >= 0.0 && temperature.is_finite(),
                "temperature must be 0 or above",
                temperature,
            ),
            (
                (0.0..=1.0).contains(&top_p) && top_p > 0.0,
                "top_p must be above 0 and at most 1",
                top_p,
            ),
            ((0.0..=1.0).contains(&min_p), "min_p must be between 0 and 1", min_p),
            (
                repetition_penalty > 0.0 && repetition_penalty.is_finite(),
                "repetition_penalty must be above 0",
                repetition_penalty,
            ),
        ];
        checks
            .iter()
            .find(|(good, _, _)| !good)
            .map(|(_, rule, value)| format!("{rule}, not {value}"))
    }
}

/// The key of a row's random stream: a function of what identifies the row and of nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stream(pub [u8; 32]);

impl Stream {
    /// The stream of a row. Regimes of one item share it; another `draw` or `sample` has another.
    pub fn new(seed: u64, axis: &str, item: &str, sample: u32, draw: u32) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("fracture random stream of a generated row, version 1");
        hasher.update(&seed.to_le_bytes());
        for text in [axis, item] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&sample.to_le_bytes());
        hasher.update(&draw.to_le_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// The uniform number in [0, 1) of the token at `position` of the completion.
    pub fn uniform(&self, position: u64) -> f64 {
        let hash = blake3::keyed_hash(&self.0, &position.to_le_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.as_bytes()[..8]);
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A chosen token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Its id.
    pub token: u32,
    /// Its log-probability under the model's own distribution: softmax of the raw logits, before temperature,
    /// penalty and filters. The sum over a completion is what forced decoding of it gives.
    pub logprob: f32,
    /// Entropy, in nats, of the distribution that the token was drawn from, after temperature and filters; 0 at
    /// temperature 0.
    pub entropy: f32,
}

/// The logits held NaN or infinity: the model computed nonsense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the model's logits are not finite")]
pub struct NotFinite;

/// Chooses tokens; keeps its buffers between calls.
#[derive(Debug)]
pub struct Sampler {
    unit: Unit,
    raw: Vec<f32>,
    scaled: Vec<f32>,
    weights: Vec<f32>,
    kept: Vec<u32>,
    ranks: Vec<u64>,
    top: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler whose exponentials run on `unit`.
    pub fn new(unit: Unit) -> Self {
        Self {
            unit,
            raw: Vec::new(),
            scaled: Vec::new(),
            weights: Vec::new(),
            kept: Vec::new(),
            ranks: Vec::new(),
            top: Vec::new(),
        }
    }

    /// Chooses from raw `logits [vocabulary]`. `seen` are the tokens of prompt and completion (needed for a
    /// repetition penalty only), `uniform` the number in [0, 1) that decides.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub fn choose(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        seen: impl Iterator<Item = u32>,
        uniform: impl FnOnce() -> f64,
    ) -> Result<Choice, NotFinite> {
        let top = kernel::maximum(self.unit, logits);
        self.raw.clear();
        self.raw.extend_from_slice(logits);
        kernel::exp_shifted(self.unit, &mut self.raw, top);
        let total = sum(&self.raw);
        if !top.is_finite() || !total.is_finite() {
            return Err(NotFinite);
        }
        self.tell(logits, sampling.top as usize, f64::from(top) + libm::log(total));
        let penalised = sampling.repetition_penalty != 1.0;
        self.scaled.clear();
        self.scaled.extend_from_slice(logits);
        if penalised {
            self.penalise(logits, sampling.repetition_penalty, seen);
        }
        let (token, entropy) = match sampling.temperature == 0.0 {
            true => (argmax(&self.scaled, kernel::maximum(self.unit, &self.scaled)), 0.0),
            false => self.draw(sampling, uniform()),
        };
        let logprob = f64::from(logits[token as usize] - top) - libm::log(total);
        Ok(Choice {
            token,
            logprob: logprob as f32,
            entropy,
        })
    }

    /// The most probable tokens where a token was last chosen, as many as [`Sampling::top`] asks for, with their
    /// log-probabilities in nats under the model's own distribution; falling, the lower id first among equals.
    pub fn top(&self) -> &[(u32, f32)] {
        &self.top
    }

    fn tell(&mut self, logits: &[f32], count: usize, normaliser: f64) {
        self.top.clear();
        let count = count.min(logits.len());
        if count == 0 {
            return;
        }
        let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        self.kept.clear();
        self.kept.extend(0..logits.len() as u32);
        if count < logits.len() {
            self.kept.select_nth_unstable_by(count - 1, order);
        }
        self.kept[..count].sort_unstable_by(order);
        let logprob = |id: u32| (f64::from(logits[id as usize]) - normaliser) as f32;
        self.top.extend(self.kept[..count].iter().map(|&id| (id, logprob(id))));
    }

    /// The log-probabilities, in nats, of some tokens under the model's own distribution: softmax of the raw `logits
    /// [vocabulary]`. A token outside the vocabulary has none, negative infinity.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub fn weigh(&mut self, logits: &[f32], tokens: &[u32]) -> Result<Vec<f64>, NotFinite> {
        let top = kernel::maximum(self.unit, logits);
        self.raw.clear();
        self.raw.extend_from_slice(logits);
        kernel::exp_shifted(self.unit, &mut self.raw, top);
        let total = sum(&self.raw);
        if !top.is_finite() || !total.is_finite() {
            return Err(NotFinite);
        }
        let normaliser = f64::from(top) + libm::log(total);
        let weigh = |token: &u32| {
            let logit = logits.get(*token as usize);
            logit.map_or(f64::NEG_INFINITY, |logit| f64::from(*logit) - normaliser)
        };
        Ok(tokens.iter().map(weigh).collect())
    }

    fn penalise(&mut self, logits: &[f32], penalty: f32, seen: impl Iterator<Item = u32>) {
        for token in seen {
            // From the raw logit, so that a token that occurred twice is penalised once.
            let token = token as usize;
            if let (Some(&logit), Some(scaled)) = (logits.get(token), self.scaled.get_mut(token)) {
                *scaled = if logit < 0.0 { logit * penalty } else { logit / penalty };
            }
        }
    }

    fn draw(&mut self, sampling: &Sampling, uniform: f64) -> (u32, f32) {
        for value in &mut self.scaled {
            *value /= sampling.temperature;
        }
        let top = kernel::maximum(self.unit, &self.scaled);
        self.weights.clear();
        self.weights.extend_from_slice(&self.scaled);
        kernel::exp_shifted(self.unit, &mut self.weights, top);
        let filtered = sampling.top_p < 1.0 || sampling.min_p > 0.0 || sampling.top_k > 0;
        if !filtered {
            let (weights, scaled) = (&self.weights, &self.scaled);
            let total = sum(weights);
            let entropy = entropy(
                total,
                weights
                    .iter()
                    .zip(scaled)
                    .map(|(w, x)| f64::from(*w) * f64::from(x - top)),
            );
            return (pick(weights.iter().copied().zip(0..), total * uniform), entropy);
        }
        self.filter(sampling);
        let weights = &self.weights;
        let kept = || self.kept.iter().map(|&id| (weights[id as usize], id));
        let total: f64 = kept().map(|(weight, _)| f64::from(weight)).sum();
        let products = kept().map(|(weight, id)| f64::from(weight) * f64::from(self.scaled[id as usize] - top));
        (pick(kept(), total * uniform), entropy(total, products))
    }

    /// Leaves in `kept`, by id, the tokens that top-k, then top-p, then min-p let through.
    fn filter(&mut self, sampling: &Sampling) {
        let weights = &self.weights;
        self.kept.clear();
        let mut floor = 0.0;
        let k = sampling.top_k as usize;
        if k > 0 && k < weights.len() {
            let mut order = self.scaled.clone();
            order.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
            let least = order[k - 1];
            let kept = (0..weights.len() as u32).filter(|&id| self.scaled[id as usize] >= least);
            self.kept.extend(kept);
        } else {
            // Tokens below this share of the mass that top-p may drop cannot survive it, all of them together.
            if sampling.top_p < 1.0 {
                let spare = f64::from(1.0 - sampling.top_p) * sum(weights);
                floor = (0.5 * spare / weights.len() as f64) as f32;
            }
            self.kept
                .extend((0..weights.len() as u32).filter(|&id| weights[id as usize] >= floor));
        }
        if sampling.top_p < 1.0 {
            let total: f64 = match floor > 0.0 {
                true => sum(weights),
                false => self.kept.iter().map(|&id| f64::from(weights[id as usize])).sum(),
            };
            // Weights are positive, so their bits order as they do; among equals the lower id comes first.
            let rank = |id: u32| (u64::from(weights[id as usize].to_bits()) << 32) | u64::from(!id);
            self.ranks.clear();
            self.ranks.extend(self.kept.iter().map(|&id| rank(id)));
            self.ranks.sort_unstable_by(|a, b| b.cmp(a));
            let limit = f64::from(sampling.top_p) * total;
            let mut mass = 0.0;
            let last = self.ranks.iter().find(|&&rank| {
                mass += f64::from(f32::from_bits((rank >> 32) as u32));
                mass >= limit
            });
            if let Some(&last) = last {
                self.kept.retain(|&id| rank(id) >= last);
            }
        }
        if sampling.min_p > 0.0 {
            // The most probable token has the weight 1.
            self.kept.retain(|&id| weights[id as usize] >= sampling.min_p);
        }
    }
}

/// The lowest id whose value is `top`.
fn argmax(values: &[f32], top: f32) -> u32 {
    values.iter().position(|value| *value == top).unwrap_or(0) as u32
}

/// The first token at which the running sum of weights, by id, passes `target`.
fn pick(weights: impl Iterator<Item = (f32, u32)>, target: f64) -> u32 {
    let (mut mass, mut last) = (0.0, 0);
    for (weight, id) in weights {
        mass += f64::from(weight);
        last = id;
        if mass > target {
            break;
        }
    }
    last
}

/// `ln Z - (Σ w·ln w) / Z` of weights that are normed by `Z` = `total`, from the products `w·ln w`.
fn entropy(total: f64, products: impl Iterator<Item = f64>) -> f32 {
    ((libm::log(total) - products.sum::<f64>() / total).max(0.0)) as f32
}

/// Adds in eight lanes of `f64`, by position.
fn sum(values: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(value);
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        *sum += f64::from(value);
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests;
