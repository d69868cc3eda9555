//! The raw row that is memoised: the logits of every window of one text, before labels, activation and reduction.

use fracture_stage::Error;

/// The first byte of the encoding.
const FORMAT: u8 = 1;

/// What the model said of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRow {
    /// Logits, `[windows, labels]`.
    pub logits: Vec<Vec<f32>>,
    /// Whether some of the text was in no window.
    pub truncated: bool,
}

impl RawRow {
    /// Bytes: format, truncated, then windows and labels as little-endian u32, then the logits as little-endian f32.
    pub fn encode(&self) -> Vec<u8> {
        let labels = self.logits.first().map_or(0, Vec::len);
        let mut bytes = Vec::with_capacity(10 + 4 * labels * self.logits.len());
        bytes.extend([FORMAT, u8::from(self.truncated)]);
        bytes.extend(count(self.logits.len()));
        bytes.extend(count(labels));
        bytes.extend(self.logits.iter().flatten().flat_map(|logit| logit.to_le_bytes()));
        bytes
    }

    /// The inverse of [`RawRow::encode`].
    ///
    /// # Errors
    /// When the bytes are of another format or length.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::internal("a memoised row of a judge is damaged or of another version");
        let [FORMAT, truncated @ (0 | 1), rest @ ..] = bytes else {
            return Err(damaged());
        };
        let (windows, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let (labels, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let (windows, labels) = (
            u32::from_le_bytes(*windows) as usize,
            u32::from_le_bytes(*labels) as usize,
        );
        if labels == 0 || windows == 0 || windows.checked_mul(labels).and_then(|n| n.checked_mul(4)) != Some(rest.len())
        {
            return Err(damaged());
        }
        let (values, _) = rest.as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        Ok(Self {
            logits: values.chunks(labels).map(<[f32]>::to_vec).collect(),
            truncated: *truncated == 1,
        })
    }
}

fn count(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_inverts_encoding(windows in 1..5usize, labels in 1..5usize, truncated: bool, seed: u32) {
            let value = |w: usize, l: usize| f32::from_bits(seed.wrapping_mul(2_654_435_761).wrapping_add((w * 7 + l) as u32) & 0x7f7f_ffff);
            let row = RawRow { logits: (0..windows).map(|w| (0..labels).map(|l| value(w, l)).collect()).collect(), truncated };
            let bytes = row.encode();
            prop_assert_eq!(RawRow::decode(&bytes).unwrap(), row);
            prop_assert!(RawRow::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes: Vec<u8>) {
            if let Ok(row) = RawRow::decode(&bytes) {
                prop_assert_eq!(row.encode(), bytes);
            }
        }
    }
}
