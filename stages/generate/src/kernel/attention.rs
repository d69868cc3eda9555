//! Attention of one position over the keys and values that it may see.

use super::lanes::{LANES, Lanes};
use super::product::{Shape, product_strided};
use super::{Unit, exp_shifted, maximum, on_unit, soft_cap};

/// A run of cached positions of one key-value head: `keys` and `values` are `[length, head_dim]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub keys: &'a [f32],
    pub values: &'a [f32],
}

/// What the query heads of one key-value head have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// How many query heads share the key-value head.
    pub group: usize,
    pub head_dim: usize,
    /// Soft cap of the scores, if the model has one.
    pub cap: Option<f32>,
}

/// Softmax attention of `queries [group, head_dim]`, scaled already, over `parts` in order, into
/// `out [group, head_dim]`. How the positions are cut into parts does not change a bit.
///
/// # Panics
/// When a slice does not have the length that `head` says.
pub(crate) fn attend(
    unit: Unit,
    head: Head,
    queries: &[f32],
    parts: &[Part<'_>],
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let Head { group, head_dim, cap } = head;
    assert!(queries.len() == group * head_dim && out.len() == group * head_dim);
    let span: usize = parts.iter().map(|part| part.keys.len() / head_dim).sum();
    scores.clear();
    scores.resize(group * span, 0.0);
    let mut from = 0;
    for part in parts {
        let length = part.keys.len() / head_dim;
        let shape = Shape {
            rows: group,
            columns: length,
            inner: head_dim,
        };
        product_strided(unit, queries, part.keys, &mut scores[from..], shape, span);
        from += length;
    }
    if let Some(cap) = cap {
        soft_cap(unit, scores, cap);
    }
    for (scores, out) in scores.chunks_exact_mut(span).zip(out.chunks_exact_mut(head_dim)) {
        let top = maximum(unit, scores);
        let total = exp_shifted(unit, scores, top);
        out.fill(0.0);
        let mut from = 0;
        for part in parts {
            let length = part.values.len() / head_dim;
            assert!(part.keys.len() == part.values.len() && part.keys.len() == length * head_dim);
            // SAFETY: `values` holds `length` rows of `head_dim`, as many as there are scores from `from` on.
            unsafe { weigh(unit, &scores[from..from + length], part.values, out) };
            from += length;
        }
        let inverse = 1.0 / total;
        for value in out.iter_mut() {
            *value *= inverse;
        }
    }
}

on_unit! {
    /// Adds `Σ_t weights[t] · values[t]` to `out`, position by position.
    ///
    /// # Safety
    /// `values` holds `weights.len()` rows of `out.len()`.
    unsafe fn weigh = weigh_body(weights: &[f32], values: &[f32], out: &mut [f32])
}

#[inline(always)]
unsafe fn weigh_body<V: Lanes>(weights: &[f32], values: &[f32], out: &mut [f32]) {
    let width = out.len();
    let mut column = 0;
    // SAFETY: columns stay below `width`.
    unsafe {
        while column + 4 * LANES <= width {
            weigh_columns::<V, 4>(weights, values, out, column);
            column += 4 * LANES;
        }
        while column + LANES <= width {
            weigh_columns::<V, 1>(weights, values, out, column);
            column += LANES;
        }
        if column < width {
            let rest = width - column;
            let mut sum = V::load_part(out.as_ptr().add(column), rest);
            for (t, &weight) in weights.iter().enumerate() {
                sum = sum.fma(
                    V::splat(weight),
                    V::load_part(values.as_ptr().add(t * width + column), rest),
                );
            }
            sum.store_part(out.as_mut_ptr().add(column), rest);
        }
    }
}

/// `N` runs of sixteen columns at once.
#[inline(always)]
unsafe fn weigh_columns<V: Lanes, const N: usize>(weights: &[f32], values: &[f32], out: &mut [f32], column: usize) {
    let width = out.len();
    // SAFETY: `column + 16 N <= width`.
    unsafe {
        let to = out.as_mut_ptr().add(column);
        let mut sums = [V::zero(); N];
        for (n, sum) in sums.iter_mut().enumerate() {
            *sum = V::load(to.add(n * LANES));
        }
        for (t, &weight) in weights.iter().enumerate() {
            let from = values.as_ptr().add(t * width + column);
            let weight = V::splat(weight);
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = sum.fma(weight, V::load(from.add(n * LANES)));
            }
        }
        for (n, sum) in sums.iter().enumerate() {
            sum.store(to.add(n * LANES));
        }
    }
}
