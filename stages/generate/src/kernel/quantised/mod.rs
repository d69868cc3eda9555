//! `out = x · Wᵀ` of `f32` rows with packed weights.
//!
//! Weights are unpacked on the way into the same dot products, in the same order, as [`super::product`] takes them:
//! the result has the bits of a product with the unpacked matrix. Few rows unpack sixteen weights at a time in
//! registers; many rows unpack some columns at a time into a panel that stays in the cache, and share it.

mod blocks;
mod unpack;

use super::lanes::LANES;
use super::product::product_at;
use super::team::scatter;
use super::{Shape, Unit, on_unit};
use crate::gguf::Format;
use blocks::{Bf16, Blocks, F16, Q4_0, Q4K, Q5_0, Q5K, Q6K, Q8_0};
use std::cell::RefCell;
use unpack::Unpack;

/// Columns of a tile.
const COLUMNS: usize = 4;
/// Rows up to which weights are unpacked in registers.
const FEW: usize = 4;
/// Values of a panel of unpacked columns.
const PANEL: usize = 1 << 15;
/// How far ahead of their use weights are asked for, in bytes.
const AHEAD: usize = 2048;
/// Multiply-adds below which a piece of its own costs more than it brings.
const WORK_PER_PIECE: usize = 1 << 15;
/// Pieces for each thread, so that one that was held up leaves its share to the others.
const PIECES_PER_THREAD: usize = 4;

/// In which order a matrix's rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// One after the other.
    Straight,
    /// In heads of this many rows, rows `i` and `i + half` beside one another: how llama.cpp stores the projections
    /// of queries and keys that it rotates in neighbouring pairs.
    Paired(usize),
}

/// A matrix `[rows, width]` of packed weights.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    pub bytes: &'a [u8],
    pub format: Format,
    pub rows: usize,
    pub width: usize,
    pub order: Order,
}

/// Rows of this width can be taken packed: whole vectors of weights in every block.
pub(crate) fn can_be_packed(format: Format, width: usize) -> bool {
    format != Format::F32 && width.is_multiple_of(format.block().max(LANES))
}

impl Packed<'_> {
    fn check(&self) {
        let length = self.width / self.format.block() * self.format.bytes() * self.rows;
        assert!(
            can_be_packed(self.format, self.width) && self.bytes.len() >= length,
            "{:?} [{}, {}] in {} bytes",
            self.format,
            self.rows,
            self.width,
            self.bytes.len()
        );
        if let Order::Paired(head) = self.order {
            assert!(
                head > 0 && head % 2 == 0 && self.rows.is_multiple_of(head),
                "{} rows in heads of {head}",
                self.rows
            );
        }
    }
}

/// `out[r][c] = Σ_i x[r][i] · w[c][i]`, spread over at most `threads` threads of the team that is installed.
///
/// # Panics
/// When a slice is shorter than the shapes say, or the width is none of the format's.
pub(crate) fn packed_product(unit: Unit, x: &[f32], w: Packed<'_>, out: &mut [f32], rows: usize, threads: usize) {
    w.check();
    let (columns, inner) = (w.rows, w.width);
    assert!(x.len() >= rows * inner && out.len() >= rows * columns, "{rows} rows");
    let pieces = match threads {
        1 => 1,
        _ => (threads * PIECES_PER_THREAD)
            .min(rows * columns * inner / WORK_PER_PIECE)
            .max(1),
    };
    let whole = Work {
        unit,
        x: x.as_ptr(),
        rows,
        w: w.bytes.as_ptr(),
        format: w.format,
        inner,
        order: w.order,
        from: 0,
        to: columns,
        out: out.as_mut_ptr(),
        stride: columns,
    };
    if pieces == 1 {
        // SAFETY: the lengths were checked above.
        unsafe { whole.run() };
        return;
    }
    let width = columns.div_ceil(pieces).next_multiple_of(COLUMNS);
    scatter(threads, columns.div_ceil(width), |piece| {
        let from = piece * width;
        let to = columns.min(from + width);
        // SAFETY: inside the checked lengths; pieces write to columns of their own.
        unsafe { whole.between(from, to).run() };
    });
}

/// Unpacks row `row` into `out`, which is as long as a row.
///
/// # Panics
/// When there is no such row.
pub(crate) fn unpack_row(unit: Unit, w: Packed<'_>, row: usize, out: &mut [f32]) {
    w.check();
    assert!(
        row < w.rows && out.len() == w.width,
        "row {row} of {} into {}",
        w.rows,
        out.len()
    );
    let work = Work {
        unit,
        x: std::ptr::null(),
        rows: 0,
        w: w.bytes.as_ptr(),
        format: w.format,
        inner: w.width,
        order: w.order,
        from: row,
        to: row + 1,
        out: out.as_mut_ptr(),
        stride: w.width,
    };
    // SAFETY: the row lies inside the checked bytes, and `out` has room for it.
    unsafe { unpack(unit, work, out.as_mut_ptr()) };
}

/// Columns `from..to` of a product.
#[derive(Clone, Copy)]
struct Work {
    unit: Unit,
    x: *const f32,
    rows: usize,
    w: *const u8,
    format: Format,
    inner: usize,
    order: Order,
    from: usize,
    to: usize,
    out: *mut f32,
    stride: usize,
}

// SAFETY: threads that share the work read `x` and `w` and write to columns of their own.
unsafe impl Sync for Work {}
unsafe impl Send for Work {}

thread_local! {
    /// The panel of this thread.
    static UNPACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Work {
    /// Some of the columns.
    fn between(self, from: usize, to: usize) -> Self {
        Self { from, to, ..self }
    }

    /// # Safety
    /// The pointers are valid for the shapes, and nobody else writes to these columns.
    unsafe fn run(self) {
        if self.rows <= FEW {
            // SAFETY: the caller's promise.
            unsafe { few(self.unit, self) };
            return;
        }
        let panel = (PANEL / self.inner).next_multiple_of(COLUMNS).max(COLUMNS);
        UNPACKED.with_borrow_mut(|values| {
            values.resize(panel * self.inner, 0.0);
            let mut from = self.from;
            while from < self.to {
                let to = self.to.min(from + panel);
                let shape = Shape {
                    rows: self.rows,
                    columns: to - from,
                    inner: self.inner,
                };
                // SAFETY: the panel has room for these columns; `out` and `x` are the caller's promise.
                unsafe {
                    unpack(self.unit, self.between(from, to), values.as_mut_ptr());
                    product_at(
                        self.unit,
                        self.x,
                        values.as_ptr(),
                        self.out.add(from),
                        shape,
                        self.stride,
                    );
                }
                from = to;
            }
        });
    }

    /// Where the weights of a column begin.
    ///
    /// # Safety
    /// The column lies inside the matrix.
    #[inline(always)]
    unsafe fn column<F: Blocks>(&self, column: usize) -> *const u8 {
        let row = match self.order {
            Order::Straight => column,
            Order::Paired(head) => {
                let (first, at) = (column - column % head, column % head);
                match at < head / 2 {
                    true => first + 2 * at,
                    false => first + 2 * (at - head / 2) + 1,
                }
            }
        };
        // SAFETY: the caller's promise.
        unsafe { self.w.add(row * (self.inner / F::WIDTH * F::BYTES)) }
    }
}

/// Runs a generic function for the format of some work.
macro_rules! by_format {
    ($format:expr, $function:ident::<$v:ident>($($arg:expr),*)) => {
        match $format {
            Format::F32 => {}
            Format::F16 => $function::<$v, F16>($($arg),*),
            Format::Bf16 => $function::<$v, Bf16>($($arg),*),
            Format::Q4_0 => $function::<$v, Q4_0>($($arg),*),
            Format::Q5_0 => $function::<$v, Q5_0>($($arg),*),
            Format::Q8_0 => $function::<$v, Q8_0>($($arg),*),
            Format::Q4K => $function::<$v, Q4K>($($arg),*),
            Format::Q5K => $function::<$v, Q5K>($($arg),*),
            Format::Q6K => $function::<$v, Q6K>($($arg),*),
        }
    };
}

on_unit! {
    /// # Safety
    /// The columns lie inside the matrix, and `to` has room for them.
    unsafe fn unpack = unpack_body(work: Work, to: *mut f32)
}

#[inline(always)]
unsafe fn unpack_body<V: Unpack>(work: Work, to: *mut f32) {
    unsafe { by_format!(work.format, unpack_columns::<V>(work, to)) }
}

#[inline(always)]
unsafe fn unpack_columns<V: Unpack, F: Blocks>(work: Work, to: *mut f32) {
    for column in work.from..work.to {
        // SAFETY: the column lies inside the matrix, its weights inside its blocks.
        unsafe {
            let (blocks, to) = (work.column::<F>(column), to.add((column - work.from) * work.inner));
            for block in 0..work.inner / F::WIDTH {
                let (at, to) = (blocks.add(block * F::BYTES), to.add(block * F::WIDTH));
                let shared = F::shared::<V>(at);
                for part in 0..F::WIDTH / LANES {
                    F::weights(at, &shared, part).store(to.add(part * LANES));
                }
            }
        }
    }
}

on_unit! {
    /// # Safety
    /// The pointers are valid for the shapes, there are at most `FEW` rows, and nobody else writes to these columns.
    unsafe fn few = few_body(work: Work)
}

#[inline(always)]
unsafe fn few_body<V: Unpack>(work: Work) {
    unsafe { by_format!(work.format, few_columns::<V>(work)) }
}

#[inline(always)]
unsafe fn few_columns<V: Unpack, F: Blocks>(work: Work) {
    let mut column = work.from;
    while column < work.to {
        // A tile at the end overlaps the one before it: the same sums are written again.
        let at = match column + COLUMNS <= work.to {
            true => column,
            false => work.to.saturating_sub(COLUMNS).max(work.from),
        };
        // SAFETY: the columns lie inside the work.
        unsafe {
            if at + COLUMNS <= work.to {
                let w = [
                    work.column::<F>(at),
                    work.column::<F>(at + 1),
                    work.column::<F>(at + 2),
                    work.column::<F>(at + 3),
                ];
                match work.rows {
                    1 => tile::<V, F, 1, COLUMNS>(&work, w, at),
                    2 => tile::<V, F, 2, COLUMNS>(&work, w, at),
                    3 => tile::<V, F, 3, COLUMNS>(&work, w, at),
                    4 => tile::<V, F, 4, COLUMNS>(&work, w, at),
                    _ => {}
                }
            } else {
                for column in at..work.to {
                    let w = [work.column::<F>(column)];
                    for row in 0..work.rows {
                        let one = Work {
                            x: work.x.add(row * work.inner),
                            out: work.out.add(row * work.stride),
                            ..work
                        };
                        tile::<V, F, 1, 1>(&one, w, column);
                    }
                }
            }
        }
        column = at + COLUMNS;
    }
}

/// `R` rows against the columns whose weights begin at `w`. The order of each dot product is that of
/// [`super::product`].
#[inline(always)]
unsafe fn tile<V: Unpack, F: Blocks, const R: usize, const C: usize>(work: &Work, w: [*const u8; C], column: usize) {
    // SAFETY: rows are `inner` long, which is whole blocks.
    unsafe {
        let mut sums = [[V::zero(); C]; R];
        // One column after the other: only then does the processor fetch ahead.
        for c in 0..C {
            let mut column = [V::zero(); R];
            for block in 0..work.inner / F::WIDTH {
                let at = w[c].add(block * F::BYTES);
                V::prefetch(at.wrapping_add(AHEAD));
                let shared = F::shared::<V>(at);
                for part in 0..F::WIDTH / LANES {
                    let weight = F::weights(at, &shared, part);
                    for (r, sum) in column.iter_mut().enumerate() {
                        let value = V::load(work.x.add(r * work.inner + block * F::WIDTH + part * LANES));
                        *sum = sum.fma(value, weight);
                    }
                }
            }
            for (sums, sum) in sums.iter_mut().zip(column) {
                sums[c] = sum;
            }
        }
        for (r, row) in sums.iter().enumerate() {
            let to = work.out.add(r * work.stride + column);
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

#[cfg(test)]
mod tests;
