//! The second moment of a span of rows in tiles of the upper triangle, with the widest vectors that this processor has.
//!
//! Rows are centred into panels of [`WIDE`] columns, `[panels][rows][WIDE]`, which is the order in which the products read
//! them. A tile's products over a block of [`ROWS`] rows are summed in f32 registers, blocks are added in f64.

/// Columns of a panel, rows and columns of a tile.
const WIDE: usize = 32;
/// Rows of a block: one panel of them stays in the first-level cache.
const ROWS: usize = 256;

/// A row of a panel.
type Row = [f32; WIDE];
/// Sums of products of two panels.
type Tile = [[f64; WIDE]; WIDE];

/// Whether this processor has what [`second_moment`] needs.
pub(crate) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512f")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Adds `sum of (x - c)` of the points to `sum` and writes the upper triangle of `sum of (x - c)(x - c)^T` to `second`,
/// `[dimension, dimension]`. Only where [`available`]; elsewhere nothing is added.
#[expect(unsafe_code, reason = "vector instructions that were looked for")]
pub(crate) fn second_moment<T: Copy + Into<f64>>(points: &[&[T]], centre: &[f64], sum: &mut [f64], second: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if available() {
        // SAFETY: the processor has AVX-512F, as was just asked.
        unsafe { x86::second_moment(points, centre, sum, second) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (points, centre, sum, second);
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "loads and stores of whole vectors")]
mod x86 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps};

    use super::{ROWS, Row, Tile, WIDE};

    #[target_feature(enable = "avx512f")]
    pub(super) fn second_moment<T: Copy + Into<f64>>(
        points: &[&[T]],
        centre: &[f64],
        sum: &mut [f64],
        second: &mut [f64],
    ) {
        let dimension = centre.len();
        let panels = dimension.div_ceil(WIDE);
        let mut block: Vec<Row> = vec![[0.0; WIDE]; panels * ROWS];
        let mut tiles: Vec<Tile> = vec![[[0.0; WIDE]; WIDE]; panels * (panels + 1) / 2];
        for points in points.chunks(ROWS) {
            for (at, point) in points.iter().enumerate() {
                let columns = point.chunks(WIDE).zip(centre.chunks(WIDE)).zip(sum.chunks_mut(WIDE));
                for (panel, ((values, centre), sum)) in columns.enumerate() {
                    let row = &mut block[panel * ROWS + at];
                    for ((x, value), (c, sum)) in row.iter_mut().zip(values).zip(centre.iter().zip(sum)) {
                        let centred: f64 = (*value).into() - c;
                        *sum += centred;
                        *x = centred as f32;
                    }
                }
            }
            let mut tiles = tiles.iter_mut();
            for right in 0..panels {
                let b = &block[right * ROWS..][..points.len()];
                for left in 0..=right {
                    if let Some(tile) = tiles.next() {
                        add(&block[left * ROWS..][..points.len()], b, tile);
                    }
                }
            }
        }
        let mut tiles = tiles.iter();
        for right in 0..panels {
            for left in 0..=right {
                let Some(tile) = tiles.next() else { return };
                for (i, products) in tile.iter().enumerate().take(dimension - left * WIDE) {
                    let start = (left * WIDE + i) * dimension;
                    let row = &mut second[start + right * WIDE..start + dimension.min((right + 1) * WIDE)];
                    row.copy_from_slice(&products[..row.len()]);
                }
            }
        }
    }

    /// `tile[i][j] += sum over rows of a[row][i] * b[row][j]`, eight rows of the tile at a time in sixteen registers.
    #[target_feature(enable = "avx512f")]
    fn add(a: &[Row], b: &[Row], tile: &mut Tile) {
        for (eighth, out) in tile.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let mut sums = [[_mm512_setzero_ps(); 2]; 8];
            for (a, b) in a.iter().zip(b) {
                // SAFETY: a row has 32 values, two vectors of 16.
                let (low, high) = unsafe { (_mm512_loadu_ps(b.as_ptr()), _mm512_loadu_ps(b.as_ptr().add(16))) };
                for (sums, x) in sums.iter_mut().zip(&a.as_chunks::<8>().0[eighth]) {
                    let x = _mm512_set1_ps(*x);
                    sums[0] = _mm512_fmadd_ps(x, low, sums[0]);
                    sums[1] = _mm512_fmadd_ps(x, high, sums[1]);
                }
            }
            for (out, sums) in out.iter_mut().zip(sums) {
                let mut row: Row = [0.0; WIDE];
                // SAFETY: a row has 32 values, two vectors of 16.
                unsafe {
                    _mm512_storeu_ps(row.as_mut_ptr(), sums[0]);
                    _mm512_storeu_ps(row.as_mut_ptr().add(16), sums[1]);
                }
                out.iter_mut().zip(row).for_each(|(out, x)| *out += f64::from(x));
            }
        }
    }
}
