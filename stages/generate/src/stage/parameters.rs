//! The parameters of `generate`, and what they come to.

use fracture_stage::ParameterError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::Accelerator;
use crate::sampler::Sampling;
use crate::template::Date;

/// Parameters of `generate`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["model"]))]
pub struct Generate {
    /// The model: a name under `models:`, or the path of a checkpoint's folder.
    pub model: String,
    /// Decoder settings as one map; its keys win over those beside it.
    pub decoder: Option<DecoderSettings>,
    /// 0 is greedy decoding (default); above, logits are divided by it.
    #[schemars(range(min = 0.0))]
    pub temperature: Option<f64>,
    /// Keep the most probable tokens until their mass reaches this.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: Option<f64>,
    /// Keep this many most probable tokens; 0 keeps all.
    pub top_k: Option<u32>,
    /// Keep tokens at least this fraction as probable as the most probable one.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: Option<f64>,
    /// Makes tokens that occurred less probable; 1 changes nothing.
    #[schemars(range(min = 0.0))]
    pub repetition_penalty: Option<f64>,
    /// Completions for each prompt; at temperature 0 it counts as 1.
    #[schemars(range(min = 1))]
    pub samples: Option<u32>,
    /// Tokens of a completion at most (default 256).
    #[schemars(range(min = 1))]
    pub max_new_tokens: Option<u32>,
    /// Strings that end a completion.
    pub stop: Option<Vec<String>>,
    /// The seed of the random streams (default 0).
    pub seed: Option<u64>,
    /// Use the model's chat template (default true).
    pub chat: Option<bool>,
    /// A system text that is put before the regime's own.
    pub system: Option<String>,
    /// Tags whose text moves from the completion to `reasoning`, e.g. `[think]`.
    pub strip: Option<Vec<String>>,
    /// Keep the log-probability of every token (column `token_logprobs`); a number N keeps the N most probable tokens in
    /// its place too (`top_tokens` and `top_logprobs`, N values a token one after the other).
    pub logprobs: Option<Logprobs>,
    /// The type of the weights in memory: `f32` (default), or the type that the checkpoint is stored in. Computing is in
    /// f32 whatever it is.
    pub dtype: Option<String>,
    /// Where the model computes (default `cpu`); another device gives other last digits, and is in the key.
    pub device: Option<Accelerator>,
    /// The date that templates render, `YYYY-MM-DD`.
    pub date: Option<String>,
}

/// Which log-probabilities are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "`logprobs` is true, false or how many most probable tokens are kept for each"
)]
pub enum Logprobs {
    /// Of the chosen tokens, or none.
    Chosen(bool),
    /// Of the chosen tokens and of so many most probable ones.
    Top(#[schemars(range(min = 1, max = 1000))] u32),
}

/// The settings that a `decoder` map may hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DecoderSettings {
    /// See `temperature` of the stage.
    #[schemars(range(min = 0.0))]
    pub temperature: Option<f64>,
    /// See `top_p` of the stage.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: Option<f64>,
    /// See `top_k` of the stage.
    pub top_k: Option<u32>,
    /// See `min_p` of the stage.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: Option<f64>,
    /// See `repetition_penalty` of the stage.
    #[schemars(range(min = 0.0))]
    pub repetition_penalty: Option<f64>,
    /// See `samples` of the stage.
    #[schemars(range(min = 1))]
    pub samples: Option<u32>,
    /// See `max_new_tokens` of the stage.
    #[schemars(range(min = 1))]
    pub max_new_tokens: Option<u32>,
    /// See `stop` of the stage.
    pub stop: Option<Vec<String>>,
    /// See `seed` of the stage.
    pub seed: Option<u64>,
}

/// What the parameters come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// 0 is greedy.
    pub temperature: f64,
    /// 1 keeps all.
    pub top_p: f64,
    /// 0 keeps all.
    pub top_k: u32,
    /// 0 keeps all.
    pub min_p: f64,
    /// 1 changes nothing.
    pub repetition_penalty: f64,
    /// At least 1.
    pub samples: u32,
    /// At least 1.
    pub max_new_tokens: u32,
    /// Strings that end a completion.
    pub stop: Vec<String>,
    /// The seed of the random streams.
    pub seed: u64,
    /// Use the chat template.
    pub chat: bool,
    /// Put before the regime's system text.
    pub system: Option<String>,
    /// Tags whose text becomes `reasoning`.
    pub strip: Vec<String>,
    /// Keep the log-probability of every token.
    pub logprobs: bool,
    /// Keep so many most probable tokens beside every one.
    pub top_logprobs: u32,
    /// The type of the weights in memory.
    pub dtype: Option<String>,
    /// Where the model computes.
    pub device: Accelerator,
    /// What `strftime_now` renders.
    pub date: Date,
    /// The same as the user wrote it.
    pub date_text: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            samples: 1,
            max_new_tokens: 256,
            stop: Vec::new(),
            seed: 0,
            chat: true,
            system: None,
            strip: Vec::new(),
            logprobs: false,
            top_logprobs: 0,
            dtype: None,
            device: Accelerator::Cpu,
            date: Date::default(),
            date_text: None,
        }
    }
}

/// What is said of another type than those there are.
pub const DTYPE_HINT: &str = "leave it out: computing is in f32, and weights of f16 and bf16 are widened exactly";

/// What is wrong with a `dtype`, if anything.
pub fn dtype_problem(dtype: &str) -> Option<String> {
    let known = ["f32", "f16", "bf16"].contains(&dtype);
    (!known).then(|| format!("dtype is f32, f16 or bf16, not `{dtype}`"))
}

impl Settings {
    /// Joins the `decoder` map with the parameters beside it.
    ///
    /// # Errors
    /// All values that are out of range.
    pub fn new(parameters: &Generate) -> Result<Self, Vec<ParameterError>> {
        let mut errors = Vec::new();
        let decoder = parameters.decoder.clone().unwrap_or_default();
        let default = Self::default();
        if let Some(problem) = parameters.dtype.as_deref().and_then(dtype_problem) {
            errors.push(ParameterError::at(&["dtype"], problem).hint(DTYPE_HINT));
        }
        let date = match parameters.date.as_deref().map(Date::parse) {
            None => default.date,
            Some(Some(date)) => date,
            Some(None) => {
                errors.push(ParameterError::at(&["date"], "a date is written YYYY-MM-DD"));
                default.date
            }
        };
        let settings = Self {
            temperature: decoder
                .temperature
                .or(parameters.temperature)
                .unwrap_or(default.temperature),
            top_p: decoder.top_p.or(parameters.top_p).unwrap_or(default.top_p),
            top_k: decoder.top_k.or(parameters.top_k).unwrap_or(default.top_k),
            min_p: decoder.min_p.or(parameters.min_p).unwrap_or(default.min_p),
            repetition_penalty: decoder
                .repetition_penalty
                .or(parameters.repetition_penalty)
                .unwrap_or(default.repetition_penalty),
            samples: decoder.samples.or(parameters.samples).unwrap_or(default.samples),
            max_new_tokens: decoder
                .max_new_tokens
                .or(parameters.max_new_tokens)
                .unwrap_or(default.max_new_tokens),
            stop: decoder.stop.or_else(|| parameters.stop.clone()).unwrap_or_default(),
            seed: decoder.seed.or(parameters.seed).unwrap_or(default.seed),
            chat: parameters.chat.unwrap_or(default.chat),
            system: parameters.system.clone(),
            strip: parameters.strip.clone().unwrap_or_default(),
            logprobs: parameters
                .logprobs
                .is_some_and(|logprobs| logprobs != Logprobs::Chosen(false)),
            top_logprobs: match parameters.logprobs {
                Some(Logprobs::Top(count)) => count,
                _ => 0,
            },
            dtype: parameters.dtype.clone(),
            device: parameters.device.unwrap_or_default(),
            date,
            date_text: parameters.date.clone(),
        };
        if let Some(lack) = settings.device.lack() {
            let hint = "leave it out to compute on the processor; a device is never replaced by another";
            errors.push(ParameterError::at(&["device"], lack).hint(hint));
        }
        if let Some(Logprobs::Top(0 | 1001..)) = parameters.logprobs {
            let message = "logprobs is true, false or a number from 1 to 1000";
            errors.push(ParameterError::at(&["logprobs"], message));
        }
        if let Some(problem) = settings.sampling().problem() {
            errors.push(ParameterError::at(&[], problem));
        }
        for (name, value) in [
            ("samples", settings.samples),
            ("max_new_tokens", settings.max_new_tokens),
        ] {
            if value == 0 {
                errors.push(ParameterError::at(&[name], format!("{name} must be at least 1")));
            }
        }
        if settings.stop.iter().any(String::is_empty) {
            errors.push(ParameterError::at(
                &["stop"],
                "an empty stop string would end every completion",
            ));
        }
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }

    /// How tokens are chosen.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature as f32,
            top_p: self.top_p as f32,
            top_k: self.top_k,
            min_p: self.min_p as f32,
            repetition_penalty: self.repetition_penalty as f32,
            top: self.top_logprobs,
        }
    }

    /// Whether results depend on random numbers.
    pub fn samples_tokens(&self) -> bool {
        self.temperature > 0.0
    }

    /// Completions for each prompt: greedy decoding gives one.
    pub fn sample_count(&self) -> u32 {
        if self.samples_tokens() { self.samples } else { 1 }
    }

    /// The name of a decoder that has none: `T=0.8,p=0.95`, or `greedy`. Decoders that choose otherwise are named otherwise:
    /// it is a key column.
    pub fn name(&self) -> String {
        let sampled = self.samples_tokens();
        let mut name = match sampled {
            true => format!("T={}", self.temperature),
            false => "greedy".to_owned(),
        };
        if sampled && self.top_p < 1.0 {
            name.push_str(&format!(",p={}", self.top_p));
        }
        if sampled && self.top_k > 0 {
            name.push_str(&format!(",k={}", self.top_k));
        }
        if sampled && self.min_p > 0.0 {
            name.push_str(&format!(",min_p={}", self.min_p));
        }
        if self.repetition_penalty != 1.0 {
            name.push_str(&format!(",penalty={}", self.repetition_penalty));
        }
        name
    }

    /// The settings by their names, those that change nothing at their defaults.
    pub fn described(&self) -> Generate {
        let sampled = self.samples_tokens();
        let default = Self::default();
        Generate {
            model: String::new(),
            decoder: None,
            temperature: Some(self.temperature),
            top_p: Some(if sampled { self.top_p } else { default.top_p }),
            top_k: Some(if sampled { self.top_k } else { default.top_k }),
            min_p: Some(if sampled { self.min_p } else { default.min_p }),
            repetition_penalty: Some(self.repetition_penalty),
            samples: Some(self.sample_count()),
            max_new_tokens: Some(self.max_new_tokens),
            stop: Some(self.stop.clone()),
            seed: Some(if sampled { self.seed } else { default.seed }),
            chat: Some(self.chat),
            system: self.system.clone(),
            strip: Some(self.strip.clone()),
            logprobs: Some(match self.top_logprobs {
                0 => Logprobs::Chosen(self.logprobs),
                count => Logprobs::Top(count),
            }),
            dtype: None,
            device: Some(self.device).filter(|device| *device != Accelerator::Cpu),
            date: self.date_text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_that_choose_otherwise_are_named_otherwise() {
        let named = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.name()
        };
        assert_eq!(named(|settings| settings.top_p = 0.5), "greedy");
        assert_eq!(
            named(|settings| settings.repetition_penalty = 1.3),
            "greedy,penalty=1.3"
        );
        assert_eq!(
            named(|settings| {
                (settings.temperature, settings.top_p, settings.top_k) = (0.8, 0.95, 40);
                (settings.min_p, settings.repetition_penalty) = (0.05, 1.1);
            }),
            "T=0.8,p=0.95,k=40,min_p=0.05,penalty=1.1"
        );
    }
}
