//! What a segment of the row memo is made of: the frames of rows, and the entries of its index.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::digest::{Digest, Row};
use crate::frame::{self, Magic};

pub(crate) const ROWS: Magic = *b"\xf1Ro1";
pub(crate) const INDEX: Magic = *b"\xf1Ri1";

/// Rows that lie closer than this are read together, up to `READ_BYTES` at once.
pub(crate) const GAP_BYTES: u64 = 16 << 10;
pub(crate) const READ_BYTES: u64 = 1 << 20;

/// The first half of a row's digest; the whole is compared when the row is read.
pub(crate) type Short = [u8; 16];

/// Where the frame of a row lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) segment: u32,
    pub(crate) length: u32,
}

/// A digest is its own hash.
#[derive(Debug, Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }
    // The length that a slice adds says nothing here.
    fn write_usize(&mut self, _: usize) {}
    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) type Places = HashMap<Short, Place, BuildHasherDefault<DigestHasher>>;

pub(crate) fn short(row: &Digest<Row>) -> Short {
    let mut short = [0; 16];
    short.copy_from_slice(&row.as_bytes()[..16]);
    short
}

/// A row in an index frame.
pub(crate) struct Entry {
    pub(crate) short: Short,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

impl Entry {
    pub(crate) const LENGTH: usize = 28;

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.short);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            short: bytes.get(..16)?.try_into().ok()?,
            offset: u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?),
            length: u32::from_le_bytes(bytes.get(24..28)?.try_into().ok()?),
        })
    }
}

/// Which stretch of the segment an index frame covers, and its rows.
pub(crate) fn stretch(body: &[u8]) -> Option<(u64, u64, &[u8])> {
    let start = u64::from_le_bytes(body.get(..8)?.try_into().ok()?);
    let end = u64::from_le_bytes(body.get(8..16)?.try_into().ok()?);
    Some((start, end, &body[16..]))
}

pub(crate) fn range(place: &Place, base: u64) -> std::ops::Range<usize> {
    let start = usize::try_from(place.offset - base).unwrap_or(usize::MAX);
    start..start.saturating_add(place.length as usize)
}

/// How many of the first places are read at once.
pub(crate) fn run_length(places: &[(Place, usize)]) -> usize {
    let Some((first, _)) = places.first() else { return 0 };
    let mut end = first.offset + u64::from(first.length);
    let joins = |place: &Place, end: u64| {
        place.segment == first.segment
            && place.offset <= end + GAP_BYTES
            && place.offset + u64::from(place.length) - first.offset <= READ_BYTES
    };
    let mut count = 1;
    for (place, _) in &places[1..] {
        if !joins(place, end) {
            break;
        }
        end = end.max(place.offset + u64::from(place.length));
        count += 1;
    }
    count
}

pub(crate) fn payload(frame: Option<&[u8]>, row: &Digest<Row>) -> Option<Vec<u8>> {
    let body = frame::open(frame?, ROWS)?;
    let (digest, payload) = body.split_at_checked(32)?;
    (digest == row.as_bytes()).then(|| payload.to_vec())
}
