//! Typed blake3 digests, and the framing that every key of fracture is hashed with.
//!
//! A `Digest<T>` is 32 bytes that know what they are the digest of: the digest of a file's bytes can not be passed where
//! the key of an action is wanted. The framing is injective: every field is hashed as its tag, its length and its bytes,
//! so that no two different lists of fields feed the same bytes to the hash.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The bytes of a file or a blob.
#[derive(Debug)]
pub enum Bytes {}
/// The values of a column: type, values and validity, whatever file holds them.
#[derive(Debug)]
pub enum Values {}
/// A task as the pipeline describes it, known before anything runs.
#[derive(Debug)]
pub enum Recipe {}
/// A task with the content of what it reads: what makes a result the same result.
#[derive(Debug)]
pub enum Action {}
/// What determines one raw row of a row-wise kind, apart from the row's own request.
#[derive(Debug)]
pub enum Lineage {}
/// One raw row in the row memo.
#[derive(Debug)]
pub enum Row {}

/// A blake3 digest of a `T`.
pub struct Digest<T: ?Sized> {
    bytes: [u8; 32],
    of: PhantomData<fn() -> T>,
}

impl<T: ?Sized> Digest<T> {
    /// A digest from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { bytes, of: PhantomData }
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// All 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.bytes).to_hex().as_str().to_owned()
    }

    /// Adds all 64 hexadecimal digits to a text.
    pub fn push_hex(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(blake3::Hash::from_bytes(self.bytes).to_hex().as_bytes());
    }

    /// The first 12 hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl Digest<Bytes> {
    /// The digest of some bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_bytes(*blake3::hash(bytes).as_bytes())
    }
}

impl<T: ?Sized> Clone for Digest<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: ?Sized> Copy for Digest<T> {}
impl<T: ?Sized> PartialEq for Digest<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
impl<T: ?Sized> Eq for Digest<T> {}
impl<T: ?Sized> PartialOrd for Digest<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T: ?Sized> Ord for Digest<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}
impl<T: ?Sized> Hash for Digest<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}
impl<T: ?Sized> fmt::Debug for Digest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}
impl<T: ?Sized> fmt::Display for Digest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// What is wrong with a text that should be a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: 64 hexadecimal digits are expected")]
pub struct NotADigest(pub String);

impl<T: ?Sized> FromStr for Digest<T> {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| NotADigest(text.to_owned()))?;
        Ok(Self::from_bytes(*hash.as_bytes()))
    }
}

impl<T: ?Sized> Serialize for Digest<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de, T: ?Sized> Deserialize<'de> for Digest<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A hash over tagged, length-prefixed fields.
///
/// Keys are short: their fields are collected and hashed at once, which is quicker than feeding them one by one, and a
/// clone of what was said so far is small. What is long is fed to the hash as it comes.
#[derive(Debug)]
pub struct Framed {
    pending: Vec<u8>,
    hasher: Option<Box<blake3::Hasher>>,
}

/// So many bytes are collected before they are fed to the hash.
const PENDING: usize = 4096;

impl Clone for Framed {
    /// A clone is made to add something, so it has room for it.
    fn clone(&self) -> Self {
        let mut pending = Vec::with_capacity(self.pending.len() + 512);
        pending.extend_from_slice(&self.pending);
        Self {
            pending,
            hasher: self.hasher.clone(),
        }
    }
}

impl Framed {
    /// Starts a hash in its own domain: two domains never give the same digest.
    pub fn new(domain: &str) -> Self {
        let mut framed = Self {
            pending: Vec::with_capacity(256),
            hasher: None,
        };
        framed.text(domain);
        framed
    }

    fn feed(&mut self, bytes: &[u8]) {
        if self.pending.len() + bytes.len() <= PENDING {
            self.pending.extend_from_slice(bytes);
            return;
        }
        let hasher = self.hasher.get_or_insert_default();
        hasher.update(&self.pending);
        self.pending.clear();
        if bytes.len() <= PENDING {
            self.pending.extend_from_slice(bytes);
        } else {
            hasher.update(bytes);
        }
    }

    /// Adds bytes, preceded by their length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.feed(&(bytes.len() as u64).to_le_bytes());
        self.feed(bytes);
        self
    }

    /// Adds a text, preceded by its length.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number of fixed width.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.feed(&number.to_le_bytes());
        self
    }

    /// Adds another digest.
    pub fn digest<T: ?Sized>(&mut self, digest: &Digest<T>) -> &mut Self {
        self.feed(digest.as_bytes());
        self
    }

    /// Adds raw bytes without a length; only for the fixed-width values of a column whose count was hashed before.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.feed(bytes);
        self
    }

    /// The digest.
    pub fn finish<T: ?Sized>(&self) -> Digest<T> {
        let hash = match &self.hasher {
            None => blake3::hash(&self.pending),
            Some(hasher) => hasher.as_ref().clone().update(&self.pending).finalize(),
        };
        Digest::from_bytes(*hash.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_keeps_fields_apart() {
        let one: Digest<Row> = Framed::new("t").text("ab").text("c").finish();
        let two: Digest<Row> = Framed::new("t").text("a").text("bc").finish();
        assert_ne!(one, two);
    }

    #[test]
    fn long_fields_are_hashed_as_short_ones() {
        // The same bytes in one piece and in many, below, at and beyond what is collected.
        for length in [0, 1, PENDING - 9, PENDING, PENDING + 1, 3 * PENDING + 5] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut plain = blake3::Hasher::new();
            plain.update(&1_u64.to_le_bytes()).update(b"t").update(&bytes);
            let expected = Digest::<Row>::from_bytes(*plain.finalize().as_bytes());
            for piece in [1, 7, PENDING, PENDING + 1] {
                let mut framed = Framed::new("t");
                bytes.chunks(piece).for_each(|chunk| {
                    framed.raw(chunk);
                });
                assert_eq!(framed.finish::<Row>(), expected, "{length} bytes in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_digest_survives_its_text() {
        let digest = Digest::<Bytes>::of(b"x");
        assert_eq!(digest.hex().parse(), Ok(digest));
        assert!("zz".parse::<Digest<Bytes>>().is_err());
    }
}
