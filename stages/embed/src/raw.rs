//! The raw row that is memoised: the pooled vector of one text, before it is scaled.

use fracture_stage::Error;

/// The first byte of the encoding.
const FORMAT: u8 = 1;

/// What the model said of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRow {
    /// The pooled vector.
    pub vector: Vec<f32>,
    /// Whether some of the text was cut off.
    pub truncated: bool,
}

impl RawRow {
    /// Bytes: format, truncated, then the vector as little-endian f32.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + 4 * self.vector.len());
        bytes.extend([FORMAT, u8::from(self.truncated)]);
        bytes.extend(self.vector.iter().flat_map(|x| x.to_le_bytes()));
        bytes
    }

    /// The inverse of [`RawRow::encode`].
    ///
    /// # Errors
    /// When the bytes are of another format or length.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::internal("a memoised embedding is damaged or of another version");
        let [FORMAT, truncated @ (0 | 1), rest @ ..] = bytes else {
            return Err(damaged());
        };
        let (values, left) = rest.as_chunks::<4>();
        if !left.is_empty() || values.is_empty() {
            return Err(damaged());
        }
        Ok(Self {
            vector: values.iter().map(|value| f32::from_le_bytes(*value)).collect(),
            truncated: *truncated == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_inverts_encoding(vector in prop::collection::vec(-1e30f32..1e30, 1..40), truncated: bool) {
            let row = RawRow { vector, truncated };
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
