//! Tests of a paired difference: exact and mid-p McNemar, and the sign-flip test by cluster.

use crate::hash::{Stream, purpose};

/// Natural logarithm of the probability of `k` heads in `n` fair tosses.
fn ln_half_binomial(k: u64, n: u64) -> f64 {
    let (kf, nf) = (k as f64, n as f64);
    libm::lgamma(nf + 1.0) - libm::lgamma(kf + 1.0) - libm::lgamma(nf - kf + 1.0) - nf * std::f64::consts::LN_2
}

/// Pr(X <= k) and Pr(X = k) for X binomial(n, 1/2): the last term from its logarithm, the others by their ratio.
fn half_binomial(k: u64, n: u64) -> (f64, f64) {
    let last = ln_half_binomial(k, n).exp();
    let (mut sum, mut term, mut j) = (last, last, k);
    while j > 0 && term > sum * 1e-18 {
        term *= j as f64 / (n - j + 1) as f64;
        sum += term;
        j -= 1;
    }
    (sum, last)
}

/// Two-sided exact McNemar p of the discordant counts; 1 when there are none.
pub fn mcnemar_exact(safe_unsafe: u64, unsafe_safe: u64) -> f64 {
    let n = safe_unsafe + unsafe_safe;
    if n == 0 || safe_unsafe == unsafe_safe {
        return 1.0;
    }
    (2.0 * half_binomial(safe_unsafe.min(unsafe_safe), n).0).min(1.0)
}

/// Two-sided mid-p McNemar: half the probability of the observed table is left out. Less conservative than the exact
/// test (Fagerland, Lydersen and Laake 2013).
pub fn mcnemar_mid_p(safe_unsafe: u64, unsafe_safe: u64) -> f64 {
    let n = safe_unsafe + unsafe_safe;
    if n == 0 || safe_unsafe == unsafe_safe {
        return 1.0;
    }
    let (below, at) = half_binomial(safe_unsafe.min(unsafe_safe), n);
    (2.0 * below - at).min(1.0)
}

/// The most clusters whose sign patterns are all enumerated (2^16 patterns).
const ENUMERATED: usize = 16;

/// Two-sided p of the hypothesis that swapping the regimes within a cluster changes nothing: the sum of the clusters'
/// differences under random signs, clusters as wholes. Exact by enumeration with few clusters that differ at all, else
/// from `draws` draws with the usual +1 (Phipson and Smyth 2010). `clusters` holds (cluster hash, summed difference).
pub fn sign_flip_p(clusters: &[(u64, f64)], draws: usize, seed: u64) -> Option<f64> {
    let mut moving: Vec<(u64, f64)> = clusters.iter().copied().filter(|c| c.1 != 0.0).collect();
    if clusters.is_empty() || clusters.iter().any(|c| c.1.is_nan()) {
        return None;
    }
    if moving.is_empty() {
        return Some(1.0);
    }
    moving.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let observed: f64 = moving.iter().map(|c| c.1).sum::<f64>().abs();
    let scale: f64 = moving.iter().map(|c| c.1.abs()).sum();
    // Sums of the same numbers in other signs differ by rounding; ties must still count as ties.
    let bar = observed - 1e-12 * scale;
    if moving.len() <= ENUMERATED {
        let patterns = 1u64 << moving.len();
        let reached = (0..patterns)
            .filter(|pattern| {
                let sum: f64 = moving
                    .iter()
                    .enumerate()
                    .map(|(i, c)| if pattern >> i & 1 == 1 { -c.1 } else { c.1 })
                    .sum();
                sum.abs() >= bar
            })
            .count();
        return Some(reached as f64 / patterns as f64);
    }
    (draws > 0).then(|| {
        let reached: usize = signed_sums(&moving, draws, seed)
            .iter()
            .filter(|sum| sum.abs() >= bar)
            .count();
        (reached + 1) as f64 / (draws + 1) as f64
    })
}

/// The sum under the random signs of each draw. One word of a cluster's stream gives the signs of 64 draws. Clusters of
/// equal size are counted, not added: counts of minus signs are kept bit by bit, 64 draws in a word.
fn signed_sums(moving: &[(u64, f64)], draws: usize, seed: u64) -> Vec<f64> {
    let mut sums = vec![0.0; draws.next_multiple_of(64)];
    let mut sorted = moving.to_vec();
    sorted.sort_by(|a, b| a.1.abs().total_cmp(&b.1.abs()).then(a.0.cmp(&b.0)));
    for equal in sorted.chunk_by(|a, b| a.1.abs() == b.1.abs()) {
        if equal.len() >= WORTH_COUNTING {
            count_signs(equal, seed, &mut sums);
        } else {
            add_signs(equal, seed, &mut sums);
        }
    }
    sums.truncate(draws);
    sums
}

/// So many equal sizes are counted faster than added.
const WORTH_COUNTING: usize = 8;

fn add_signs(clusters: &[(u64, f64)], seed: u64, sums: &mut [f64]) {
    for &(id, value) in clusters {
        let stream = Stream::new(seed, purpose::SIGN_FLIP, id);
        for (block, out) in sums.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let signs = stream.word(block as u64);
            for (bit, sum) in out.iter_mut().enumerate() {
                *sum += f64::from_bits(value.to_bits() ^ ((signs >> bit & 1) << 63));
            }
        }
    }
}

/// Adds `size * (plus signs - minus signs)` of clusters of equal size.
fn count_signs(equal: &[(u64, f64)], seed: u64, sums: &mut [f64]) {
    let size = equal[0].1.abs();
    let streams: Vec<(Stream, u64)> = equal
        .iter()
        .map(|&(id, value)| {
            // Of a negative value it is the other sign that makes it negative.
            let turned = if value < 0.0 { u64::MAX } else { 0 };
            (Stream::new(seed, purpose::SIGN_FLIP, id), turned)
        })
        .collect();
    for (block, out) in sums.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        // Plane `p` holds bit `p` of every draw's count.
        let mut planes = [0u64; 64];
        for (stream, turned) in &streams {
            let (mut carry, mut plane) = (stream.word(block as u64) ^ turned, 0);
            while carry != 0 {
                (planes[plane], carry) = (planes[plane] ^ carry, planes[plane] & carry);
                plane += 1;
            }
        }
        let used = 64 - (equal.len() as u64).leading_zeros() as usize;
        for (bit, sum) in out.iter_mut().enumerate() {
            let minus: u64 = (0..used).map(|plane| (planes[plane] >> bit & 1) << plane).sum();
            *sum += size * (equal.len() as f64 - 2.0 * minus as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn close(found: f64, expected: f64, relative: f64) {
        assert!(
            (found - expected).abs() <= relative * expected,
            "found {found}, expected {expected}"
        );
    }

    #[test]
    fn golden() {
        close(mcnemar_exact(25, 5), 3.249e-4, 2e-4);
        close(mcnemar_mid_p(25, 5), 1.922e-4, 2e-4);
        close(mcnemar_exact(12, 3), 0.035156, 1e-5);
        close(mcnemar_mid_p(3, 12), 0.021271, 2e-5);
        assert_eq!(mcnemar_exact(0, 0), 1.0);
        assert_eq!(mcnemar_exact(6, 6), 1.0);
        assert_eq!(mcnemar_mid_p(6, 6), 1.0);
        assert_eq!(mcnemar_exact(1, 0), 1.0);
    }

    #[test]
    fn enumerated_sign_flips_are_mcnemar() {
        for (b, c) in [(5, 1), (9, 3), (4, 4), (1, 0), (14, 2)] {
            let clusters: Vec<(u64, f64)> = (0..b + c)
                .map(|i| (i * 77 + 1, if i < b { 1.0 } else { -1.0 }))
                .collect();
            close(sign_flip_p(&clusters, 0, 0).unwrap(), mcnemar_exact(b, c), 1e-12);
        }
    }

    #[test]
    fn counted_signs_are_added_signs() {
        let clusters: Vec<(u64, f64)> = (0..300)
            .map(|i| (i * 31 + 5, [1.0, -1.0, 2.0, -3.0][(i % 4) as usize]))
            .collect();
        let mut added = vec![0.0; 640];
        add_signs(&clusters, 7, &mut added);
        assert_eq!(signed_sums(&clusters, 640, 7), added);
    }

    #[test]
    fn drawn_sign_flips_approach_mcnemar_whatever_the_order() {
        let mut clusters: Vec<(u64, f64)> = (0..40).map(|i| (i * 31 + 5, if i < 27 { 1.0 } else { -1.0 })).collect();
        let p = sign_flip_p(&clusters, 40_000, 3).unwrap();
        close(p, mcnemar_exact(27, 13), 0.1);
        clusters.reverse();
        assert_eq!(sign_flip_p(&clusters, 40_000, 3), Some(p));
        assert_eq!(sign_flip_p(&[], 100, 0), None);
        assert_eq!(sign_flip_p(&[(1, 0.0)], 100, 0), Some(1.0));
    }
}
