//! Frames: the entries of append-only logs. Each carries its length and a checksum, so that what a kill or a power cut
//! tore is noticed, and reading goes on after a damaged stretch.
//!
//! A frame is `magic (4) · length of the body (4, little endian) · check (8) · body`; the check is the start of the
//! blake3 digest of magic, length and body.

/// The length of what precedes a body.
pub(crate) const HEAD: usize = 16;

/// What kind of log a frame belongs to.
pub(crate) type Magic = [u8; 4];

/// Appends a frame whose body is the concatenation of `parts`; gives the length of the whole frame.
pub(crate) fn append(out: &mut Vec<u8>, magic: Magic, parts: &[&[u8]]) -> usize {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    // A body of 4 GiB can not be framed; callers keep far below it.
    let length = u32::try_from(body).unwrap_or(u32::MAX).to_le_bytes();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&magic).update(&length);
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    out.reserve(HEAD + body);
    out.extend_from_slice(&magic);
    out.extend_from_slice(&length);
    out.extend_from_slice(&hasher.finalize().as_bytes()[..8]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    HEAD + body
}

/// The body of the frame that `bytes` starts with, when it is whole and undamaged.
pub(crate) fn open(bytes: &[u8], magic: Magic) -> Option<&[u8]> {
    let head = bytes.get(..HEAD)?;
    let length = u32::from_le_bytes(head[4..8].try_into().ok()?) as usize;
    let body = bytes.get(HEAD..HEAD.checked_add(length)?)?;
    if head[..4] != magic {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head[..8]).update(body);
    (hasher.finalize().as_bytes()[..8] == head[8..]).then_some(body)
}

/// The whole frames in some bytes, in order. Damaged stretches are skipped.
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    magic: Magic,
    at: usize,
    end: usize,
}

/// Reads the frames in `bytes`.
pub(crate) fn scan(bytes: &[u8], magic: Magic) -> Scan<'_> {
    Scan {
        bytes,
        magic,
        at: 0,
        end: 0,
    }
}

impl Scan<'_> {
    /// The offset after the last whole frame that was given: what follows is torn, or still being written.
    pub(crate) fn end(&self) -> usize {
        self.end
    }
}

impl<'a> Iterator for Scan<'a> {
    /// The offset of the frame, and its body.
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            let found = rest.windows(4).position(|window| window == self.magic)?;
            let start = self.at + found;
            if let Some(body) = open(&self.bytes[start..], self.magic) {
                self.at = start + HEAD + body.len();
                self.end = self.at;
                return Some((start, body));
            }
            self.at = start + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const MAGIC: Magic = *b"Test";

    fn log(bodies: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for body in bodies {
            append(&mut bytes, MAGIC, &[body]);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_cut_log_gives_the_frames_before_the_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
        ) {
            let (bytes, ends) = log(&bodies);
            for cut in 0..=bytes.len() {
                let mut frames = scan(&bytes[..cut], MAGIC);
                let read: Vec<Vec<u8>> = frames.by_ref().map(|(_, body)| body.to_vec()).collect();
                let whole = ends.iter().filter(|end| **end <= cut).count();
                prop_assert_eq!(&read[..], &bodies[..whole]);
                prop_assert_eq!(frames.end(), whole.checked_sub(1).map_or(0, |last| ends[last]));
            }
        }

        #[test]
        fn a_flipped_bit_costs_one_frame(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 3..6),
            at in any::<prop::sample::Index>(), bit in 0..8u32,
        ) {
            let (mut bytes, ends) = log(&bodies);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let lost = ends.iter().filter(|end| **end <= at).count();
            let mut left = bodies.clone();
            left.remove(lost);
            let read: Vec<Vec<u8>> = scan(&bytes, MAGIC).map(|(_, body)| body.to_vec()).collect();
            prop_assert_eq!(read, left);
        }
    }
}
