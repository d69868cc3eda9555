//! Attention of positions over the keys and values that they may see.
//!
//! Rows that see the same beginning (samples of one prompt, positions of one prompt) go through it together, so that it
//! is read once for all of them. Each score is a dot product of its own, and each row adds its values position by
//! position: who else is there changes no bit.

use super::lanes::{LANES, Lanes};
use super::product::{Shape, product_strided};
use super::{Unit, exp_shifted, maximum, on_unit, soft_cap};

/// A run of cached positions of one key-value head: `keys` and `values` are `[length, head_dim]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub keys: &'a [f32],
    pub values: &'a [f32],
}

impl<'a> Part<'a> {
    fn split(self, at: usize) -> (Self, Self) {
        let ((keys, later_keys), (values, later)) = (self.keys.split_at(at), self.values.split_at(at));
        let later = Part {
            keys: later_keys,
            values: later,
        };
        (Self { keys, values }, later)
    }
}

/// What the rows of a call see: for each row the runs of positions, in order.
#[derive(Debug, Default)]
pub(crate) struct Seen<'a> {
    parts: Vec<Part<'a>>,
    ends: Vec<usize>,
}

impl<'a> Seen<'a> {
    pub fn clear(&mut self) {
        self.parts.clear();
        self.ends.clear();
    }

    /// Adds a row, whose parts `add` pushes.
    pub fn row(&mut self, add: impl FnOnce(&mut Vec<Part<'a>>)) {
        add(&mut self.parts);
        self.ends.push(self.parts.len());
    }

    fn rows(&self) -> impl Iterator<Item = &[Part<'a>]> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(from, &to)| &self.parts[from..to])
    }

    /// The values of keys that all rows begin with; runs that begin at one address hold the same positions.
    fn shared(&self) -> usize {
        let mut rows = self.rows();
        let Some(first) = rows.next() else { return 0 };
        let length = |parts: &[Part<'_>]| parts.iter().map(|part| part.keys.len()).sum::<usize>();
        rows.fold(length(first), |least, row| {
            let mut common = 0;
            for (a, b) in first.iter().zip(row) {
                if !std::ptr::eq(a.keys.as_ptr(), b.keys.as_ptr()) {
                    break;
                }
                common += a.keys.len().min(b.keys.len());
                if a.keys.len() != b.keys.len() {
                    break;
                }
            }
            least.min(common)
        })
    }
}

/// Cuts runs after `values` values of keys.
fn cut<'a>(parts: &[Part<'a>], values: usize) -> (Vec<Part<'a>>, Vec<Part<'a>>) {
    let (mut before, mut after, mut left) = (Vec::new(), Vec::new(), values);
    for part in parts {
        let (head, tail) = part.split(left.min(part.keys.len()));
        left -= head.keys.len();
        before.extend((!head.keys.is_empty()).then_some(head));
        after.extend((!tail.keys.is_empty()).then_some(tail));
    }
    (before, after)
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

/// Softmax attention of `queries [rows, group, head_dim]`, scaled already, each row over what it sees, into
/// `out [rows, group, head_dim]`. How positions are cut into parts and which rows come together does not change a bit.
///
/// # Panics
/// When a slice does not have the length that `head` and `seen` say.
pub(crate) fn attend(unit: Unit, head: Head, queries: &[f32], seen: &Seen<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
    let Head { group, head_dim, cap } = head;
    let width = group * head_dim;
    assert!(queries.len() == seen.ends.len() * width && out.len() == queries.len());
    let Some(first) = seen.rows().next() else { return };
    let shared_values = seen.shared();
    let (shared, _) = cut(first, shared_values);
    let rests: Vec<Vec<Part<'_>>> = seen.rows().map(|row| cut(row, shared_values).1).collect();
    let length = |parts: &[Part<'_>]| parts.iter().map(|part| part.keys.len() / head_dim).sum::<usize>();
    let common = length(&shared);
    let stride = common + rests.iter().map(|rest| length(rest)).max().unwrap_or(0);
    if scores.len() < seen.ends.len() * group * stride {
        scores.resize(seen.ends.len() * group * stride, 0.0);
    }
    let weigh_keys = |queries: &[f32], parts: &[Part<'_>], scores: &mut [f32]| {
        let mut from = 0;
        for part in parts {
            let shape = Shape {
                rows: queries.len() / head_dim,
                columns: part.keys.len() / head_dim,
                inner: head_dim,
            };
            product_strided(unit, queries, part.keys, &mut scores[from..], shape, stride);
            from += shape.columns;
        }
    };
    weigh_keys(queries, &shared, scores);
    let mut totals = Vec::with_capacity(seen.ends.len() * group);
    for (row, rest) in rests.iter().enumerate() {
        let scores = &mut scores[row * group * stride..(row + 1) * group * stride];
        weigh_keys(&queries[row * width..(row + 1) * width], rest, &mut scores[common..]);
        let span = common + length(rest);
        for scores in scores.chunks_exact_mut(stride) {
            let scores = &mut scores[..span];
            if let Some(cap) = cap {
                soft_cap(unit, scores, cap);
            }
            let top = maximum(unit, scores);
            totals.push(exp_shifted(unit, scores, top));
        }
    }
    out.fill(0.0);
    let add_values = |scores: &[f32], parts: &[Part<'_>], out: &mut [f32]| {
        let mut from = 0;
        for part in parts {
            let length = part.keys.len() / head_dim;
            // SAFETY: each row has `stride` scores, of which these lie inside, and `head_dim` values of `out`.
            unsafe {
                weigh(
                    unit,
                    &scores[from..],
                    stride,
                    &part.values[..length * head_dim],
                    length,
                    out,
                )
            };
            from += length;
        }
    };
    add_values(scores, &shared, out);
    for (row, (rest, out)) in rests.iter().zip(out.chunks_exact_mut(width)).enumerate() {
        add_values(&scores[row * group * stride + common..], rest, out);
    }
    for (out, total) in out.chunks_exact_mut(head_dim).zip(totals) {
        let inverse = 1.0 / total;
        for value in out {
            *value *= inverse;
        }
    }
}

on_unit! {
    /// Adds `Σ_t weights[r · stride + t] · values[t]` to each row `r` of `out`, position by position.
    ///
    /// # Safety
    /// `values` holds `length` rows, as wide as those of `out`; `weights` holds `length` of each row.
    unsafe fn weigh = weigh_body(weights: &[f32], stride: usize, values: &[f32], length: usize, out: &mut [f32])
}

#[inline(always)]
unsafe fn weigh_body<V: Lanes>(weights: &[f32], stride: usize, values: &[f32], length: usize, out: &mut [f32]) {
    if length == 0 {
        return;
    }
    let width = values.len() / length;
    let rows = out.len() / width;
    let mut row = 0;
    while row < rows {
        let height = V::ROWS.min(rows - row);
        // SAFETY: `height` rows are left.
        unsafe {
            let (weights, out) = (weights.as_ptr().add(row * stride), out.as_mut_ptr().add(row * width));
            match height {
                6 => weigh_rows::<V, 6>(weights, stride, values, length, width, out),
                5 => weigh_rows::<V, 5>(weights, stride, values, length, width, out),
                4 => weigh_rows::<V, 4>(weights, stride, values, length, width, out),
                3 => weigh_rows::<V, 3>(weights, stride, values, length, width, out),
                2 => weigh_rows::<V, 2>(weights, stride, values, length, width, out),
                _ => weigh_rows::<V, 1>(weights, stride, values, length, width, out),
            }
        }
        row += height;
    }
}

/// `R` rows, in runs of columns.
#[inline(always)]
unsafe fn weigh_rows<V: Lanes, const R: usize>(
    weights: *const f32,
    stride: usize,
    values: &[f32],
    length: usize,
    width: usize,
    out: *mut f32,
) {
    let values = values.as_ptr();
    let mut column = 0;
    // SAFETY: columns stay below `width`.
    unsafe {
        while column + 4 * LANES <= width {
            weigh_tile::<V, R, 4>(weights, stride, values.add(column), length, width, out.add(column));
            column += 4 * LANES;
        }
        while column + LANES <= width {
            weigh_tile::<V, R, 1>(weights, stride, values.add(column), length, width, out.add(column));
            column += LANES;
        }
        let rest = width - column;
        if rest > 0 {
            for r in 0..R {
                let to = out.add(r * width + column);
                let mut sum = V::load_part(to, rest);
                for t in 0..length {
                    let value = V::load_part(values.add(t * width + column), rest);
                    sum = sum.fma(V::splat(*weights.add(r * stride + t)), value);
                }
                sum.store_part(to, rest);
            }
        }
    }
}

/// `R` rows and `N` runs of sixteen columns at once.
#[inline(always)]
unsafe fn weigh_tile<V: Lanes, const R: usize, const N: usize>(
    weights: *const f32,
    stride: usize,
    values: *const f32,
    length: usize,
    width: usize,
    out: *mut f32,
) {
    // SAFETY: `16 N` columns are there.
    unsafe {
        let mut sums = [[V::zero(); N]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(out.add(r * width + n * LANES));
            }
        }
        for t in 0..length {
            let mut value = [V::zero(); N];
            for (n, value) in value.iter_mut().enumerate() {
                *value = V::load(values.add(t * width + n * LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let weight = V::splat(*weights.add(r * stride + t));
                for (sum, value) in sums.iter_mut().zip(value) {
                    *sum = sum.fma(weight, value);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                sum.store(out.add(r * width + n * LANES));
            }
        }
    }
}
