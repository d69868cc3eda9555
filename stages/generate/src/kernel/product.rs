//! `out = x · Wᵀ`, each output one dot product in a fixed order.

use super::lanes::{LANES, Lanes};
use super::{Unit, on_unit};
use rayon::prelude::*;

/// Rows of `x` that are taken together, so that they stay in the second-level cache while weights pass by.
const ROW_BLOCK: usize = 96;
/// Columns of a tile.
const COLUMNS: usize = 4;
/// Multiply-adds below which another thread costs more than it brings.
const WORK_PER_THREAD: usize = 1 << 16;

/// The shape of a product: `x [rows, inner]`, `w [columns, inner]`, `out [rows, columns]`, all row-major.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub rows: usize,
    pub columns: usize,
    pub inner: usize,
}

/// `out[r][c] = Σ_i x[r][i] · w[c][i]`, spread over at most `threads` threads of the current rayon pool.
///
/// # Panics
/// When a slice is shorter than `shape` says.
pub(crate) fn product(unit: Unit, x: &[f32], w: &[f32], out: &mut [f32], shape: Shape, threads: usize) {
    let Shape { rows, columns, inner } = shape;
    assert!(
        x.len() >= rows * inner && w.len() >= columns * inner && out.len() >= rows * columns,
        "{shape:?}"
    );
    let work = rows * columns * inner;
    let pieces = threads.min(work / WORK_PER_THREAD).max(1);
    let whole = Block {
        x: x.as_ptr(),
        rows,
        w: w.as_ptr(),
        columns,
        inner,
        out: out.as_mut_ptr(),
        stride: columns,
    };
    if pieces == 1 {
        // SAFETY: the lengths were checked above.
        unsafe { block(unit, whole) };
        return;
    }
    let width = columns.div_ceil(pieces).next_multiple_of(COLUMNS);
    (0..columns.div_ceil(width)).into_par_iter().for_each(|piece| {
        let from = piece * width;
        // SAFETY: inside the checked lengths; pieces write to columns of their own.
        unsafe { block(unit, whole.narrow(from, width.min(columns - from))) };
    });
}

/// [`product`] on one thread, with rows of `out` that are `stride` apart.
///
/// # Panics
/// When a slice is shorter than the shape and the stride say.
pub(super) fn product_strided(unit: Unit, x: &[f32], w: &[f32], out: &mut [f32], shape: Shape, stride: usize) {
    let Shape { rows, columns, inner } = shape;
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(x.len() >= rows * inner && w.len() >= columns * inner, "{shape:?}");
    assert!(
        columns <= stride && out.len() >= (rows - 1) * stride + columns,
        "{shape:?} {stride}"
    );
    let whole = Block {
        x: x.as_ptr(),
        rows,
        w: w.as_ptr(),
        columns,
        inner,
        out: out.as_mut_ptr(),
        stride,
    };
    // SAFETY: the lengths were checked above.
    unsafe { block(unit, whole) };
}

/// [`product_strided`] on pointers, for threads that share `out` column by column.
///
/// # Safety
/// The pointers are valid for the shape and the stride, and nobody else writes to these columns.
pub(super) unsafe fn product_at(unit: Unit, x: *const f32, w: *const f32, out: *mut f32, shape: Shape, stride: usize) {
    let Shape { rows, columns, inner } = shape;
    let whole = Block {
        x,
        rows,
        w,
        columns,
        inner,
        out,
        stride,
    };
    // SAFETY: the caller's promise.
    unsafe { block(unit, whole) };
}

/// A rectangle of the result.
#[derive(Clone, Copy)]
struct Block {
    x: *const f32,
    rows: usize,
    w: *const f32,
    columns: usize,
    inner: usize,
    out: *mut f32,
    stride: usize,
}

// SAFETY: threads that share a block read `x` and `w` and write to columns of their own.
unsafe impl Sync for Block {}
unsafe impl Send for Block {}

impl Block {
    /// `count` columns starting at `from`.
    ///
    /// # Safety
    /// They lie inside the block.
    unsafe fn narrow(&self, from: usize, count: usize) -> Self {
        unsafe {
            Self {
                w: self.w.add(from * self.inner),
                out: self.out.add(from),
                columns: count,
                ..*self
            }
        }
    }
}

on_unit! {
    /// # Safety
    /// The pointers of the block are valid for its shape, and nobody else writes to its rectangle.
    unsafe fn block = block_body(block: Block)
}

#[inline(always)]
unsafe fn block_body<V: Lanes>(block: Block) {
    let mut row = 0;
    while row < block.rows {
        let rows = ROW_BLOCK.min(block.rows - row);
        // SAFETY: rows and columns stay inside the block.
        unsafe {
            let x = block.x.add(row * block.inner);
            let out = block.out.add(row * block.stride);
            let mut column = 0;
            while column + COLUMNS <= block.columns {
                let w = block.w.add(column * block.inner);
                strip::<V, COLUMNS>(x, rows, w, block.inner, out.add(column), block.stride);
                column += COLUMNS;
            }
            while column < block.columns {
                let w = block.w.add(column * block.inner);
                strip::<V, 1>(x, rows, w, block.inner, out.add(column), block.stride);
                column += 1;
            }
        }
        row += rows;
    }
}

/// All rows against `C` columns, in tiles that the unit's registers hold.
#[inline(always)]
unsafe fn strip<V: Lanes, const C: usize>(
    x: *const f32,
    rows: usize,
    w: *const f32,
    inner: usize,
    out: *mut f32,
    stride: usize,
) {
    let mut row = 0;
    while row < rows {
        let take = V::ROWS.min(rows - row);
        // SAFETY: `take` rows are left.
        unsafe {
            let (x, out) = (x.add(row * inner), out.add(row * stride));
            match take {
                6 => tile::<V, 6, C>(x, w, inner, out, stride),
                5 => tile::<V, 5, C>(x, w, inner, out, stride),
                4 => tile::<V, 4, C>(x, w, inner, out, stride),
                3 => tile::<V, 3, C>(x, w, inner, out, stride),
                2 => tile::<V, 2, C>(x, w, inner, out, stride),
                _ => tile::<V, 1, C>(x, w, inner, out, stride),
            }
        }
        row += take;
    }
}

/// `R` rows against `C` columns. The order of each dot product does not depend on `R` and `C`.
#[inline(always)]
unsafe fn tile<V: Lanes, const R: usize, const C: usize>(
    x: *const f32,
    w: *const f32,
    inner: usize,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's rows and columns are `inner` long each.
    unsafe {
        let mut sums = [[V::zero(); C]; R];
        let mut i = 0;
        while i + LANES <= inner {
            let mut weights = [V::zero(); C];
            for (c, weight) in weights.iter_mut().enumerate() {
                *weight = V::load(w.add(c * inner + i));
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let value = V::load(x.add(r * inner + i));
                for (sum, weight) in row.iter_mut().zip(weights) {
                    *sum = sum.fma(value, weight);
                }
            }
            i += LANES;
        }
        if i < inner {
            for (r, row) in sums.iter_mut().enumerate() {
                let value = V::load_part(x.add(r * inner + i), inner - i);
                for (c, sum) in row.iter_mut().enumerate() {
                    *sum = sum.fma(value, V::load_part(w.add(c * inner + i), inner - i));
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            let to = out.add(r * stride);
            if C == COLUMNS {
                let four = V::sum4([row[0], row[1 % C], row[2 % C], row[3 % C]]);
                to.cast::<[f32; COLUMNS]>().write_unaligned(four);
            } else {
                for (c, sum) in row.iter().enumerate() {
                    *to.add(c) = sum.sum();
                }
            }
        }
    }
}
