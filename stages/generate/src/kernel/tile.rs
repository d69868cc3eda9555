//! Tiles of a product: a few rows against four columns, all accumulators in registers.
//!
//! Rows come packed (sixteen values of each row of a tile in turn, then the next sixteen), so that a tile reads them from
//! beginning to end. Weights come from memory one column after the other: only then does the processor fetch ahead, and
//! the first rows of a small batch cost what reading the weights costs. For larger batches four columns at a time are
//! packed into the first-level cache, widened to `f32`, and the next four are asked for meanwhile.

use super::element::Element;
use super::lanes::{LANES, Lanes};

/// Columns of a tile.
pub(super) const COLUMNS: usize = 4;
/// How far ahead weights that pass once are asked for, in bytes: over the end of a page, where the processor's own fetching
/// ahead stops.
const AHEAD: usize = 8 << 10;

/// A rectangle of the result, with rows of `out` that are `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Block<E> {
    /// Rows packed by [`pack_rows`].
    pub x: *const f32,
    pub rows: usize,
    pub w: *const E,
    pub columns: usize,
    pub inner: usize,
    pub out: *mut f32,
    pub stride: usize,
}

// SAFETY: threads that share a block read `x` and `w` and write to columns of their own.
unsafe impl<E> Sync for Block<E> {}
unsafe impl<E> Send for Block<E> {}

impl<E> Block<E> {
    /// `count` columns starting at `from`.
    ///
    /// # Safety
    /// They lie inside the block.
    pub unsafe fn narrow(self, from: usize, count: usize) -> Self {
        unsafe {
            Self {
                w: self.w.add(from * self.inner),
                out: self.out.add(from),
                columns: count,
                ..self
            }
        }
    }
}

/// Values that `rows` take when they are packed.
pub(super) fn packed_len(rows: usize, inner: usize) -> usize {
    rows * inner.next_multiple_of(LANES)
}

/// Packs `rows` of `x`, each `inner` long, in tiles of `V::ROWS`; what is missing of sixteen is zero.
///
/// # Safety
/// `x` holds `rows * inner` values and `out` has room for [`packed_len`].
#[inline(always)]
pub(super) unsafe fn pack_rows<V: Lanes>(x: *const f32, rows: usize, inner: usize, out: *mut f32) {
    let runs = inner.div_ceil(LANES);
    let mut row = 0;
    while row < rows {
        let height = V::ROWS.min(rows - row);
        for r in 0..height {
            // SAFETY: row and run stay inside.
            unsafe {
                let from = x.add((row + r) * inner);
                let to = out.add((row * runs + r) * LANES);
                copy_runs::<V, f32>(from, inner, to, height * LANES);
            }
        }
        row += height;
    }
}

/// Copies one row or column, widened, in runs of sixteen that end up `step` apart.
#[inline(always)]
unsafe fn copy_runs<V: Lanes, E: Element>(from: *const E, inner: usize, to: *mut f32, step: usize) {
    // SAFETY: the caller's.
    unsafe {
        let mut run = 0;
        while (run + 1) * LANES <= inner {
            E::load::<V>(from.add(run * LANES)).store(to.add(run * step));
            run += 1;
        }
        if run * LANES < inner {
            E::load_part::<V>(from.add(run * LANES), inner - run * LANES).store(to.add(run * step));
        }
    }
}

/// Computes a block; `strip` has room for four packed columns.
///
/// # Safety
/// The block's pointers are valid for its shape, nobody else writes to its rectangle, `strip` is valid.
#[inline(always)]
pub(super) unsafe fn fill<V: Lanes, E: Element>(block: Block<E>, strip: *mut f32) {
    let whole = block.columns / COLUMNS * COLUMNS;
    let mut column = 0;
    // SAFETY: columns and rows stay inside the block.
    unsafe {
        while column < whole {
            let part = block.narrow(column, COLUMNS);
            match block.rows <= V::ROWS {
                true => few::<V, E, COLUMNS>(part),
                false => many::<V, E>(part, strip),
            }
            column += COLUMNS;
        }
        while column < block.columns {
            few::<V, E, 1>(block.narrow(column, 1));
            column += 1;
        }
    }
}

/// All rows against `C` columns that are read from memory one after the other.
#[inline(always)]
unsafe fn few<V: Lanes, E: Element, const C: usize>(block: Block<E>) {
    let width = block.inner.next_multiple_of(LANES);
    let mut row = 0;
    while row < block.rows {
        let height = V::ROWS.min(block.rows - row);
        // SAFETY: `height` rows are left.
        unsafe {
            let (x, out) = (block.x.add(row * width), block.out.add(row * block.stride));
            match height {
                6 => direct::<V, E, 6, C>(x, block.w, block.inner, out, block.stride),
                5 => direct::<V, E, 5, C>(x, block.w, block.inner, out, block.stride),
                4 => direct::<V, E, 4, C>(x, block.w, block.inner, out, block.stride),
                3 => direct::<V, E, 3, C>(x, block.w, block.inner, out, block.stride),
                2 => direct::<V, E, 2, C>(x, block.w, block.inner, out, block.stride),
                _ => direct::<V, E, 1, C>(x, block.w, block.inner, out, block.stride),
            }
        }
        row += height;
    }
}

/// `R` rows against `C` columns, column by column. The order of each dot product does not depend on `R` and `C`.
#[inline(always)]
unsafe fn direct<V: Lanes, E: Element, const R: usize, const C: usize>(
    x: *const f32,
    w: *const E,
    inner: usize,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's rows and columns are `inner` long each.
    unsafe {
        let mut sums = [[V::zero(); C]; R];
        for c in 0..C {
            let w = w.add(c * inner);
            let mut column = [V::zero(); R];
            let mut run = 0;
            while (run + 1) * LANES <= inner {
                V::prefetch(w.add(run * LANES).cast::<u8>().wrapping_add(AHEAD));
                let weight = E::load::<V>(w.add(run * LANES));
                for (r, sum) in column.iter_mut().enumerate() {
                    *sum = sum.fma(V::load(x.add((run * R + r) * LANES)), weight);
                }
                run += 1;
            }
            if run * LANES < inner {
                let weight = E::load_part::<V>(w.add(run * LANES), inner - run * LANES);
                for (r, sum) in column.iter_mut().enumerate() {
                    *sum = sum.fma(V::load(x.add((run * R + r) * LANES)), weight);
                }
            }
            for (sums, sum) in sums.iter_mut().zip(column) {
                sums[c] = sum;
            }
        }
        put(sums, out, stride);
    }
}

/// All rows, in several tiles, against four columns that are packed into `strip`.
#[inline(always)]
unsafe fn many<V: Lanes, E: Element>(block: Block<E>, strip: *mut f32) {
    let inner = block.inner;
    let width = inner.next_multiple_of(LANES);
    // SAFETY: the caller's; what is asked for ahead is an address and no access.
    unsafe {
        for c in 0..COLUMNS {
            copy_runs::<V, E>(block.w.add(c * inner), inner, strip.add(c * LANES), COLUMNS * LANES);
        }
        let mut ahead: *const u8 = block.w.wrapping_add(COLUMNS * inner).cast();
        let tiles = block.rows.div_ceil(V::ROWS);
        // Lines of the next four columns for each step of a tile.
        let lines = (COLUMNS * size_of::<E>()).div_ceil(tiles * size_of::<f32>());
        let mut row = 0;
        while row < block.rows {
            let height = V::ROWS.min(block.rows - row);
            let (x, out) = (block.x.add(row * width), block.out.add(row * block.stride));
            let (steps, stride) = (width / LANES, block.stride);
            macro_rules! tile {
                ($rows:literal) => {
                    match lines {
                        1 => packed::<V, $rows, 1>(x, strip, steps, out, stride, ahead),
                        _ => packed::<V, $rows, 2>(x, strip, steps, out, stride, ahead),
                    }
                };
            }
            match height {
                6 => tile!(6),
                5 => tile!(5),
                4 => tile!(4),
                3 => tile!(3),
                2 => tile!(2),
                _ => tile!(1),
            }
            ahead = ahead.wrapping_add(steps * lines.min(2) * LINE);
            row += height;
        }
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// `R` rows against four packed columns; at each step `AHEAD` lines from `ahead` on are asked for.
#[inline(always)]
unsafe fn packed<V: Lanes, const R: usize, const AHEAD: usize>(
    x: *const f32,
    strip: *const f32,
    steps: usize,
    out: *mut f32,
    stride: usize,
    ahead: *const u8,
) {
    // SAFETY: the caller's rows and columns are `steps` runs long each.
    unsafe {
        let mut sums = [[V::zero(); COLUMNS]; R];
        for step in 0..steps {
            for line in 0..AHEAD {
                V::prefetch(ahead.wrapping_add((step * AHEAD + line) * LINE));
            }
            let mut weights = [V::zero(); COLUMNS];
            for (c, weight) in weights.iter_mut().enumerate() {
                *weight = V::load(strip.add((step * COLUMNS + c) * LANES));
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let value = V::load(x.add((step * R + r) * LANES));
                for (sum, weight) in row.iter_mut().zip(weights) {
                    *sum = sum.fma(value, weight);
                }
            }
        }
        put(sums, out, stride);
    }
}

/// Adds up the lanes of a tile and writes it.
#[inline(always)]
unsafe fn put<V: Lanes, const R: usize, const C: usize>(sums: [[V; C]; R], out: *mut f32, stride: usize) {
    for (r, row) in sums.iter().enumerate() {
        // SAFETY: the tile lies in the rectangle.
        unsafe {
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
