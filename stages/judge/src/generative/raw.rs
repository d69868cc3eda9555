//! The raw row of a generative judge that is memoised: what the model held probable, before it means anything.

use fracture_stage::Error;

/// The first byte of the encoding; other than that of a classifier's rows.
const FORMAT: u8 = 2;

/// A sampled answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// What the model said from where its verdict should stand.
    pub text: String,
    /// Whether it was still speaking.
    pub cut: bool,
}

/// What the model said of one text.
#[derive(Debug, Clone, PartialEq)]
pub enum RawVerdict {
    /// For every spelling of every verdict the word's number (in [`super::Words::all`]) and the log-probability, in nats, of
    /// its tokens: the sum over tokens of the log-softmax of the model's logits.
    Weighed {
        /// Whether some of the text was left out.
        truncated: bool,
        /// Word and log-probability.
        candidates: Vec<(u16, f64)>,
    },
    /// Sampled answers, in order.
    Voted {
        /// Whether some of the text was left out.
        truncated: bool,
        /// The answers.
        votes: Vec<Vote>,
    },
    /// The model never wrote what its verdict was to follow.
    Silent {
        /// Whether some of the text was left out.
        truncated: bool,
    },
}

impl RawVerdict {
    /// Whether some of the text was left out.
    pub fn truncated(&self) -> bool {
        match self {
            Self::Weighed { truncated, .. } | Self::Voted { truncated, .. } | Self::Silent { truncated } => *truncated,
        }
    }

    /// How many answers ended before a verdict that was to come later in them.
    pub fn cut(&self) -> usize {
        match self {
            Self::Weighed { .. } => 0,
            Self::Voted { votes, .. } => votes.iter().filter(|vote| vote.cut && vote.text.is_empty()).count(),
            Self::Silent { .. } => 1,
        }
    }

    /// Bytes: format, truncated, kind, count as little-endian u32; then per candidate the word as u16 and the
    /// log-probability as f64, or per vote whether it was cut, its length as u32 and its text.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, count) = match self {
            Self::Weighed { candidates, .. } => (0, candidates.len()),
            Self::Voted { votes, .. } => (1, votes.len()),
            Self::Silent { .. } => (2, 0),
        };
        let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = vec![FORMAT, u8::from(self.truncated()), kind];
        bytes.extend(length(count));
        match self {
            Self::Weighed { candidates, .. } => {
                for (word, logprob) in candidates {
                    bytes.extend(word.to_le_bytes());
                    bytes.extend(logprob.to_le_bytes());
                }
            }
            Self::Voted { votes, .. } => {
                for vote in votes {
                    bytes.push(u8::from(vote.cut));
                    bytes.extend(length(vote.text.len()));
                    bytes.extend(vote.text.as_bytes());
                }
            }
            Self::Silent { .. } => {}
        }
        bytes
    }

    /// The inverse of [`RawVerdict::encode`].
    ///
    /// # Errors
    /// When the bytes are of another format or length.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(bytes)
            .ok_or_else(|| Error::internal("a memoised row of a generative judge is damaged or of another version"))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let [FORMAT, truncated @ (0 | 1), kind, rest @ ..] = bytes else {
            return None;
        };
        let truncated = *truncated == 1;
        let (count, mut rest) = rest.split_first_chunk()?;
        let count = u32::from_le_bytes(*count) as usize;
        let row = match kind {
            0 => {
                let mut candidates = Vec::new();
                for _ in 0..count {
                    let (word, after) = rest.split_first_chunk()?;
                    let (logprob, after) = after.split_first_chunk()?;
                    candidates.push((u16::from_le_bytes(*word), f64::from_le_bytes(*logprob)));
                    rest = after;
                }
                Self::Weighed { truncated, candidates }
            }
            1 => {
                let mut votes = Vec::new();
                for _ in 0..count {
                    let (cut, after) = rest.split_first()?;
                    let (length, after) = after.split_first_chunk()?;
                    let (text, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                    votes.push(Vote {
                        text: std::str::from_utf8(text).ok()?.to_owned(),
                        cut: match cut {
                            0 => false,
                            1 => true,
                            _ => return None,
                        },
                    });
                    rest = after;
                }
                Self::Voted { truncated, votes }
            }
            2 if count == 0 => Self::Silent { truncated },
            _ => return None,
        };
        rest.is_empty().then_some(row)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_inverts_encoding(
            truncated: bool,
            kind in 0..3,
            candidates in prop::collection::vec((any::<u16>(), -700.0..0.0f64), 0..6),
            votes in prop::collection::vec((".{0,12}", any::<bool>()), 0..4),
        ) {
            let votes = votes.into_iter().map(|(text, cut)| Vote { text, cut }).collect();
            let row = match kind {
                0 => RawVerdict::Weighed { truncated, candidates },
                1 => RawVerdict::Voted { truncated, votes },
                _ => RawVerdict::Silent { truncated },
            };
            let bytes = row.encode();
            prop_assert_eq!(&RawVerdict::decode(&bytes).unwrap(), &row);
            for cut in 0..bytes.len() {
                prop_assert!(RawVerdict::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes: Vec<u8>) {
            if let Ok(row) = RawVerdict::decode(&bytes) {
                prop_assert_eq!(row.encode(), bytes);
            }
        }
    }
}
