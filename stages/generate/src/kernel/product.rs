//! `out = x · Wᵀ`, each output one dot product in a fixed order.

use super::element::{Element, Matrix};
use super::lanes::{LANES, Lanes};
use super::team::scatter;
use super::tile::{self, Block, COLUMNS};
use super::{Unit, on_unit};
use half::{bf16, f16};
use std::cell::RefCell;
use std::mem::MaybeUninit;

/// Bytes of packed rows that are taken together, so that they stay in the second-level cache while weights pass by.
const ROW_BYTES: usize = 400 << 10;
/// Multiply-adds below which a piece of its own costs more than it brings.
const WORK_PER_PIECE: usize = 1 << 15;
/// Pieces for each thread, so that one that was held up leaves its share to the others.
const PIECES_PER_THREAD: usize = 4;
/// Columns of a piece at least.
const LEAST_COLUMNS: usize = 16;
/// Rows that are packed together: a multiple of every unit's tile.
const ROWS_PACKED: usize = 6;

/// The shape of a product: `x [rows, inner]`, `w [columns, inner]`, `out [rows, columns]`, all row-major.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub rows: usize,
    pub columns: usize,
    pub inner: usize,
}

/// `out[r][c] = Σ_i x[r][i] · w[c][i]`, spread over at most `threads` threads of the team that is installed. All of the
/// shape is written.
///
/// # Panics
/// When a slice is shorter than `shape` says.
pub(crate) fn product(
    unit: Unit,
    x: &[f32],
    w: Matrix<'_>,
    out: &mut [MaybeUninit<f32>],
    shape: Shape,
    threads: usize,
) {
    let Shape { rows, columns, inner } = shape;
    assert!(
        x.len() >= rows * inner && w.len() >= columns * inner && out.len() >= rows * columns,
        "{shape:?}"
    );
    // SAFETY: the lengths were checked above.
    unsafe {
        match w {
            Matrix::F32(w) => spread(unit, x, w.as_ptr(), out, shape, threads, fill_f32),
            Matrix::F16(w) => spread(unit, x, w.as_ptr(), out, shape, threads, fill_f16),
            Matrix::Bf16(w) => spread(unit, x, w.as_ptr(), out, shape, threads, fill_bf16),
        }
    }
}

/// One of several products of the same rows.
pub(crate) struct Part<'a> {
    pub w: Matrix<'a>,
    pub out: &'a mut [MaybeUninit<f32>],
    pub columns: usize,
}

/// [`product`] of the same rows with several weights. Few rows are packed once and all columns handed out together: what
/// a token takes of each is a matter of microseconds, and so is waiting for whoever is last.
///
/// # Panics
/// As [`product`].
pub(crate) fn products(unit: Unit, x: &[f32], parts: &mut [Part<'_>], rows: usize, inner: usize, threads: usize) {
    if threads <= 1 || rows > block_height(inner) || inner == 0 || rows == 0 {
        for Part { w, out, columns } in parts {
            let columns = *columns;
            product(unit, x, *w, out, Shape { rows, columns, inner }, threads);
        }
        return;
    }
    assert!(x.len() >= rows * inner);
    PACKED.with_borrow_mut(|packed| {
        let room = packed.room(tile::packed_len(rows, inner));
        // SAFETY: there are as many rows.
        unsafe { pack_together(unit, x.as_ptr(), rows, inner, room, threads) };
        let room = Base(room.cast_const(), std::ptr::null_mut());
        let mut pieces = Vec::new();
        for (number, part) in parts.iter_mut().enumerate() {
            let columns = part.columns;
            assert!(part.w.len() >= columns * inner && part.out.len() >= rows * columns);
            let width = piece_width(rows, columns, inner, threads);
            let out = Base(room.0, part.out.as_mut_ptr().cast());
            let starts = (0..columns).step_by(width.max(1));
            pieces.extend(starts.map(|from| (number, from, width.min(columns - from), out)));
        }
        let parts = &*parts;
        scatter(threads, pieces.len(), |piece| {
            let (number, from, count, Base(x, out)) = pieces[piece];
            let Part { w, columns, .. } = &parts[number];
            macro_rules! fill {
                ($w:expr, $fill:ident) => {{
                    let whole = Block {
                        x,
                        rows,
                        w: $w.as_ptr(),
                        columns: *columns,
                        inner,
                        out,
                        stride: *columns,
                    };
                    // SAFETY: the lengths were checked above; pieces write to columns of their own.
                    with_strip(inner, |strip| unsafe {
                        $fill(unit, whole.narrow(from, count), strip)
                    });
                }};
            }
            match w {
                Matrix::F32(w) => fill!(w, fill_f32),
                Matrix::F16(w) => fill!(w, fill_f16),
                Matrix::Bf16(w) => fill!(w, fill_bf16),
            }
        });
    });
}

/// Packed rows and a result, for threads that share them.
#[derive(Clone, Copy)]
struct Base(*const f32, *mut f32);

// SAFETY: threads read the rows and write to columns of their own.
unsafe impl Sync for Base {}
unsafe impl Send for Base {}

impl Base {
    /// Both at once: a closure would capture each pointer by itself, which is not to be shared.
    fn both(&self) -> (*const f32, *mut f32) {
        (self.0, self.1)
    }
}

/// Rows that are packed and taken together.
fn block_height(inner: usize) -> usize {
    (ROW_BYTES / size_of::<f32>() / inner.max(1)).max(24) / 6 * 6
}

/// Columns of a piece.
fn piece_width(rows: usize, columns: usize, inner: usize, threads: usize) -> usize {
    let pieces = match threads {
        1 => 1,
        _ => (threads * PIECES_PER_THREAD)
            .min(rows * columns * inner / WORK_PER_PIECE)
            .min(columns / LEAST_COLUMNS)
            .max(1),
    };
    columns.div_ceil(pieces).next_multiple_of(COLUMNS)
}

/// [`product`] with `f32` weights on one thread, with rows of `out` that are `stride` apart.
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
    // SAFETY: the lengths were checked above.
    unsafe { product_at(unit, x.as_ptr(), w.as_ptr(), out.as_mut_ptr(), shape, stride) };
}

/// [`product_strided`] on pointers, for threads that share `out` column by column.
///
/// # Safety
/// The pointers are valid for the shape and the stride, and nobody else writes to these columns.
pub(super) unsafe fn product_at(unit: Unit, x: *const f32, w: *const f32, out: *mut f32, shape: Shape, stride: usize) {
    let Shape { rows, columns, inner } = shape;
    PACKED.with_borrow_mut(|packed| {
        let room = packed.room(tile::packed_len(rows, inner));
        // SAFETY: the caller's promise.
        unsafe {
            pack(unit, x, rows, inner, room);
            let whole = Block {
                x: room.cast_const(),
                rows,
                w,
                columns,
                inner,
                out,
                stride,
            };
            with_strip(inner, |strip| fill_f32(unit, whole, strip));
        }
    });
}

/// Packs rows block by block and hands out columns of each block.
///
/// # Safety
/// The pointers and slices are as long as the shape says.
unsafe fn spread<E: Element>(
    unit: Unit,
    x: &[f32],
    w: *const E,
    out: &mut [MaybeUninit<f32>],
    shape: Shape,
    threads: usize,
    fill: unsafe fn(Unit, Block<E>, *mut f32),
) {
    let Shape { rows, columns, inner } = shape;
    if rows == 0 || columns == 0 || inner == 0 {
        return out.fill(MaybeUninit::new(0.0));
    }
    let height = block_height(inner);
    PACKED.with_borrow_mut(|packed| {
        let mut row = 0;
        while row < rows {
            let height = height.min(rows - row);
            let room = packed.room(tile::packed_len(height, inner));
            // SAFETY: the rows and columns named lie inside what the caller gave; pieces write to columns of their own.
            unsafe {
                pack_together(unit, x.as_ptr().add(row * inner), height, inner, room, threads);
                let whole = Block {
                    x: room.cast_const(),
                    rows: height,
                    w,
                    columns,
                    inner,
                    out: out.as_mut_ptr().cast::<f32>().add(row * columns),
                    stride: columns,
                };
                let width = piece_width(height, columns, inner, threads);
                scatter(threads, columns.div_ceil(width), |piece| {
                    let from = piece * width;
                    let part = whole.narrow(from, width.min(columns - from));
                    with_strip(inner, |strip| fill(unit, part, strip));
                });
            }
            row += height;
        }
    });
}

/// Packs rows on all threads. They were written by several of them, so half the time is that of lines that come over
/// from another's cache.
///
/// # Safety
/// As [`tile::pack_rows`].
unsafe fn pack_together(unit: Unit, x: *const f32, rows: usize, inner: usize, out: *mut f32, threads: usize) {
    let base = Base(x, out);
    let each = rows.div_ceil(threads.max(1)).next_multiple_of(ROWS_PACKED);
    scatter(threads, rows.div_ceil(each), |piece| {
        let (x, out) = base.both();
        let from = piece * each;
        // SAFETY: the rows are there; each piece writes to tiles of its own.
        unsafe {
            let out = out.add(tile::packed_len(from, inner));
            pack(unit, x.add(from * inner), each.min(rows - from), inner, out);
        }
    });
}

/// Memory that begins on a cache line and is used again.
#[derive(Default)]
struct Scratch(Vec<Line>);

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read and written through pointers")] [f32; LANES]);

impl Scratch {
    /// Room for `length` values; what it holds is left over.
    fn room(&mut self, length: usize) -> *mut f32 {
        let lines = length.div_ceil(LANES);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; LANES]));
        }
        self.0.as_mut_ptr().cast()
    }
}

thread_local! {
    /// The packed rows of the product that this thread gives out.
    static PACKED: RefCell<Scratch> = const { RefCell::new(Scratch(Vec::new())) };
    /// The packed columns that this thread works on.
    static STRIP: RefCell<Scratch> = const { RefCell::new(Scratch(Vec::new())) };
}

fn with_strip(inner: usize, work: impl FnOnce(*mut f32)) {
    STRIP.with_borrow_mut(|strip| work(strip.room(tile::packed_len(COLUMNS, inner))));
}

on_unit! {
    unsafe fn pack = pack_body(x: *const f32, rows: usize, inner: usize, out: *mut f32)
}

#[inline(always)]
unsafe fn pack_body<V: Lanes>(x: *const f32, rows: usize, inner: usize, out: *mut f32) {
    unsafe { tile::pack_rows::<V>(x, rows, inner, out) }
}

on_unit! {
    unsafe fn fill_f32 = fill_f32_body(block: Block<f32>, strip: *mut f32)
}

#[inline(always)]
unsafe fn fill_f32_body<V: Lanes>(block: Block<f32>, strip: *mut f32) {
    unsafe { tile::fill::<V, f32>(block, strip) }
}

on_unit! {
    unsafe fn fill_f16 = fill_f16_body(block: Block<f16>, strip: *mut f32)
}

#[inline(always)]
unsafe fn fill_f16_body<V: Lanes>(block: Block<f16>, strip: *mut f32) {
    unsafe { tile::fill::<V, f16>(block, strip) }
}

on_unit! {
    unsafe fn fill_bf16 = fill_bf16_body(block: Block<bf16>, strip: *mut f32)
}

#[inline(always)]
unsafe fn fill_bf16_body<V: Lanes>(block: Block<bf16>, strip: *mut f32) {
    unsafe { tile::fill::<V, bf16>(block, strip) }
}
