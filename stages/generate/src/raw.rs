//! The bytes of a raw row, as the row memo keeps it: tokens and log-probabilities, no text.
//!
//! Version 1, little-endian: version `u8`, finish reason `u8`, entropy `f32`, prompt tokens `u32`, count `u32`, the
//! tokens as `u32`, the log-probabilities as `f32`. Version 2 has behind them the most probable tokens of each place: how
//! many, as `u32`, all their ids as `u32`, all their log-probabilities as `f32`; a row without them is of version 1.

use fracture_stage::Error;

const PLAIN: u8 = 1;
const WITH_TOP: u8 = 2;
const HEADER: usize = 14;

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop string came up.
    Stop,
    /// It reached `max_new_tokens` or the model's context.
    Length,
}

impl FinishReason {
    /// The value of the column `finish_reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What generation gives for a row.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRow {
    /// The tokens of the completion, the one that ended it included.
    pub tokens: Vec<u32>,
    /// For each token its log-probability, see [`crate::sampler::Choice::logprob`].
    pub logprobs: Vec<f32>,
    /// The most probable tokens where each was chosen, as many for each, see [`crate::sampler::Sampler::top`]; none where
    /// they were not asked for.
    pub top: Vec<(u32, f32)>,
    /// Mean over tokens of the sampling distribution's entropy, in nats.
    pub entropy: f32,
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
}

impl RawRow {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + 8 * (self.tokens.len() + self.top.len()));
        bytes.push(if self.top.is_empty() { PLAIN } else { WITH_TOP });
        bytes.push(match self.reason {
            FinishReason::Stop => 0,
            FinishReason::Length => 1,
        });
        bytes.extend(self.entropy.to_le_bytes());
        bytes.extend(self.prompt_tokens.to_le_bytes());
        bytes.extend((self.tokens.len() as u32).to_le_bytes());
        bytes.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        bytes.extend(self.logprobs.iter().flat_map(|logprob| logprob.to_le_bytes()));
        if !self.top.is_empty() {
            let width = self.top.len() / self.tokens.len().max(1);
            bytes.extend((width as u32).to_le_bytes());
        }
        bytes.extend(self.top.iter().flat_map(|(id, _)| id.to_le_bytes()));
        bytes.extend(self.top.iter().flat_map(|(_, logprob)| logprob.to_le_bytes()));
        bytes
    }

    /// The row of `bytes`.
    ///
    /// # Errors
    /// Another version, or bytes that are not what [`RawRow::encode`] gives.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let broken = |cause: String| Error::internal("a stored row of generation cannot be read").cause(cause);
        let version = bytes.first().copied().unwrap_or_default();
        if version != PLAIN && version != WITH_TOP {
            return Err(broken(format!("version {version}, not {PLAIN} or {WITH_TOP}")));
        }
        let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
            return Err(broken(format!("{} bytes", bytes.len())));
        };
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let count = u32::from_le_bytes(word(10)) as usize;
        let wrong = || broken(format!("{} bytes for {count} tokens", rest.len()));
        let (own, top) = rest.split_at_checked(8 * count).ok_or_else(wrong)?;
        let top = match (version, top.split_at_checked(4)) {
            (PLAIN, _) if top.is_empty() => top,
            (WITH_TOP, Some((width, top))) => {
                let width = u32::from_le_bytes([width[0], width[1], width[2], width[3]]);
                let wanted = 8 * count as u64 * u64::from(width);
                Some(top)
                    .filter(|top| wanted > 0 && top.len() as u64 == wanted)
                    .ok_or_else(wrong)?
            }
            _ => return Err(wrong()),
        };
        let reason = match header[1] {
            0 => FinishReason::Stop,
            1 => FinishReason::Length,
            other => return Err(broken(format!("finish reason {other}"))),
        };
        let words = |bytes: &[u8]| {
            bytes
                .chunks_exact(4)
                .map(|b| [b[0], b[1], b[2], b[3]])
                .collect::<Vec<_>>()
        };
        let (tokens, logprobs) = own.split_at(4 * count);
        let (ids, weights) = top.split_at(top.len() / 2);
        let top = words(ids).into_iter().zip(words(weights));
        Ok(Self {
            top: top
                .map(|(id, logprob)| (u32::from_le_bytes(id), f32::from_le_bytes(logprob)))
                .collect(),
            tokens: words(tokens).into_iter().map(u32::from_le_bytes).collect(),
            logprobs: words(logprobs).into_iter().map(f32::from_le_bytes).collect(),
            entropy: f32::from_le_bytes(word(2)),
            reason,
            prompt_tokens: u32::from_le_bytes(word(6)),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_row_comes_back(
            rows in prop::collection::vec((any::<u32>(), any::<u32>()), 0..40),
            entropy in any::<u32>(),
            stop in any::<bool>(),
            prompt_tokens in any::<u32>(),
            width in 0..3usize,
        ) {
            let (tokens, bits): (Vec<u32>, Vec<u32>) = rows.into_iter().unzip();
            let logprobs = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            let reason = if stop { FinishReason::Stop } else { FinishReason::Length };
            let logprobs: Vec<f32> = logprobs;
            let top = tokens.iter().zip(&logprobs).flat_map(|(id, logprob)| vec![(id ^ 1, logprob + 1.0); width]).collect();
            let row = RawRow { tokens, logprobs, top, entropy: f32::from_bits(entropy), reason, prompt_tokens };
            let bytes = row.encode();
            let back = RawRow::decode(&bytes).unwrap();
            prop_assert_eq!(back.encode(), bytes.clone());
            prop_assert_eq!(&back.tokens, &row.tokens);
            prop_assert_eq!(back.top.len(), row.top.len());
            prop_assert_eq!(bytes[0], if row.top.is_empty() { 1 } else { 2 });
            prop_assert_eq!(back.reason, row.reason);
            for cut in 0..bytes.len() {
                prop_assert!(RawRow::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn bytes_of_others_are_refused_or_read_whole(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(row) = RawRow::decode(&bytes) {
                prop_assert_eq!(row.encode(), bytes);
            }
        }
    }
}
