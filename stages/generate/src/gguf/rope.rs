//! What stretches the rotary embedding of a GGUF file's model.

use super::Value;
use super::keys::Keys;
use fracture_stage::Error;
use serde_json::{Value as Json, json};

/// Divisors of the rotary frequencies that lie in the file as a tensor.
pub(super) struct Long {
    pub factors: Vec<f64>,
    pub amplitude: f64,
    pub context: Option<usize>,
}

impl<'a> Keys<'a> {
    /// How many dimensions of a head turn.
    pub fn rotated(&self, head_dim: usize) -> Result<usize, Error> {
        Ok(self.maybe_count("rope.dimension_count")?.unwrap_or(head_dim))
    }

    /// Divisors that the file holds as a tensor: Llama 3's, and the short list of LongRoPE.
    pub fn long_factors(&self) -> Result<Option<Long>, Error> {
        let head_dim = match self.maybe_count("attention.key_length")? {
            Some(length) => length,
            None => self.count("embedding_length")? / self.count("attention.head_count")?,
        };
        let pairs = self.rotated(head_dim)? / 2;
        let short = self.gguf.small("rope_factors_short.weight", pairs)?;
        let freqs = self.gguf.small("rope_freqs.weight", pairs)?;
        let kind = self.scaling_type()?;
        let Some(factors) = short.as_ref().or(freqs.as_ref()) else {
            return match kind {
                Some("longrope") => Err(self
                    .unsupported("rope.scaling.type", "longrope")
                    .cause("the file has no tensor rope_factors_short.weight")),
                _ => Ok(None),
            };
        };
        if factors.iter().any(|factor| !(*factor > 0.0 && factor.is_finite())) {
            let place = self.gguf.path().display();
            return Err(Error::input(format!(
                "{place}: a divisor of the rotary frequencies is not above zero"
            )));
        }
        match kind {
            None | Some("none" | "longrope") => {}
            Some(other) => {
                let cause = format!("`{other}`, with divisors in a tensor beside it,");
                return Err(self.unsupported("rope.scaling.type", cause));
            }
        }
        let amplitude = match short {
            Some(_) => self.number("rope.scaling.attn_factor")?.unwrap_or(1.0),
            None => 1.0,
        };
        Ok(Some(Long {
            factors: factors.iter().map(|factor| f64::from(*factor)).collect(),
            amplitude,
            // Beyond it other divisors hold, which would change the keys already cached.
            context: match short {
                Some(_) => self.maybe_count("rope.scaling.original_context_length")?,
                None => None,
            },
        }))
    }

    pub fn scaling_type(&self) -> Result<Option<&'a str>, Error> {
        match self.get("rope.scaling.type") {
            None => Ok(None),
            Some(Value::Text(kind)) => Ok(Some(kind)),
            Some(value) => Err(self.wrong("rope.scaling.type", "text", value)),
        }
    }

    /// `rope_scaling` of a `config.json`.
    pub fn scaling(&self) -> Result<Option<Json>, Error> {
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.number("rope.scale_linear")?,
        };
        let factor = factor.filter(|factor| *factor != 0.0);
        let kind = match (self.scaling_type()?, factor) {
            (None | Some("none"), None) | (Some("none"), _) => return Ok(None),
            (None | Some("linear"), None | Some(1.0)) => return Ok(None),
            (None, Some(_)) => "linear",
            (Some(kind), _) => kind,
        };
        let factor = factor.ok_or_else(|| self.missing("rope.scaling.factor"))?;
        match kind {
            "linear" => Ok(Some(json!({"rope_type": "linear", "factor": factor}))),
            "yarn" => {
                let own = self.number("rope.scaling.attn_factor")?.unwrap_or(1.0);
                let mut scaling = json!({
                    "rope_type": "yarn",
                    "factor": factor,
                    "attention_factor": own * (1.0 + 0.1 * libm::log(factor.max(1.0))),
                });
                for (field, key) in [
                    (
                        "original_max_position_embeddings",
                        "rope.scaling.original_context_length",
                    ),
                    ("beta_fast", "rope.scaling.yarn_beta_fast"),
                    ("beta_slow", "rope.scaling.yarn_beta_slow"),
                ] {
                    if let Some(value) = self.number(key)? {
                        scaling[field] = json!(value);
                    }
                }
                Ok(Some(scaling))
            }
            other => Err(self
                .unsupported("rope.scaling.type", format!("`{other}`"))
                .hint("none, linear, yarn and longrope are supported")),
        }
    }
}
