//! The raw row of a completion by a served model, as the row memo keeps it.
//!
//! Little is gained by a form of bytes for what a network brought: it is JSON with a version, which other programs can
//! read, too.

use std::time::{SystemTime, UNIX_EPOCH};

use fracture_stage::Error;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Finish};
use crate::identity::Identity;

const VERSION: u32 = 1;

/// What a served model gave for a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServedRow {
    version: u32,
    /// The completion.
    pub text: String,
    /// What the server keeps apart as reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Why it ended: `stop`, `length`, `content_filter`; `None` when the server says nothing of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// Tokens of the prompt, as the server counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Tokens of the completion, as the server counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u32>,
    /// Log-probabilities of the tokens, when they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<f32>>,
    /// Who answered.
    pub by: Identity,
}

impl ServedRow {
    /// The row of an answer that came now.
    pub fn new(answer: Answer) -> Self {
        let finish = match answer.finish {
            Finish::Stop => Some("stop"),
            Finish::Length => Some("length"),
            Finish::ContentFilter => Some("content_filter"),
            Finish::Other => None,
        };
        let scores = answer.tokens.as_ref();
        Self {
            version: VERSION,
            by: Identity::of(&answer, now()),
            finish: finish.map(str::to_owned),
            logprobs: scores.map(|tokens| tokens.iter().map(|token| finite(token.logprob)).collect()),
            text: answer.text,
            reasoning: answer.reasoning,
            prompt_tokens: answer.prompt_tokens,
            completion_tokens: answer.completion_tokens,
        }
    }

    /// The bytes. All numbers are finite.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The row of bytes.
    ///
    /// # Errors
    /// When they are no row of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let broken = |cause: String| Error::internal("a stored row of a served model can not be read").cause(cause);
        let row: Self = serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))?;
        match row.version {
            VERSION => Ok(row),
            other => Err(broken(format!("version {other}, not {VERSION}"))),
        }
    }

    /// Why it is no answer that can be judged, if it is none.
    pub fn invalid(&self) -> Option<&'static str> {
        match self.finish.as_deref() {
            Some("content_filter") => Some("the server's content filter withheld the completion"),
            _ => None,
        }
    }
}

/// A logarithm as it is kept. Some servers say the least number there is in 64 bits for nothing at all, which JSON does
/// not hold in 32.
fn finite(logprob: f64) -> f32 {
    (logprob as f32).clamp(f32::MIN, f32::MAX)
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_probability_of_nothing_comes_back() {
        let answer = json!({ "choices": [{ "text": "a",
            "logprobs": { "tokens": ["a", "b"], "token_logprobs": [f64::MIN, -1e300] } }] });
        let row = ServedRow::new(Answer::parse(answer).unwrap());
        assert_eq!(
            ServedRow::decode(&row.encode()).unwrap().logprobs,
            Some(vec![f32::MIN, f32::MIN])
        );
    }

    #[test]
    fn a_row_comes_back() {
        let answer = Answer::parse(json!({
            "model": "m-1", "system_fingerprint": "fp",
            "choices": [{ "text": "He\"y\u{0}", "finish_reason": "content_filter",
                "logprobs": { "tokens": ["He", "y"], "token_logprobs": [-0.25, -1.5] } }],
            "usage": { "prompt_tokens": 3 },
        }));
        let row = ServedRow::new(answer.unwrap());
        assert_eq!(ServedRow::decode(&row.encode()).unwrap(), row);
        assert_eq!(row.logprobs, Some(vec![-0.25, -1.5]));
        assert!(row.invalid().is_some() && row.completion_tokens.is_none());
        assert!(ServedRow::decode(b"{}").is_err() && ServedRow::decode(b"\x01\x00").is_err());
        let other = String::from_utf8(row.encode())
            .unwrap()
            .replace("\"version\":1", "\"version\":2");
        assert!(ServedRow::decode(other.as_bytes()).is_err());
    }
}
