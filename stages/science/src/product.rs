//! Matrix products through the `gemm` kernels, on one thread each: the same numbers give the same bits on any number of
//! threads, because callers share out whole products and add their results in a fixed order.

use gemm::{Parallelism, gemm};

/// A matrix in a slice: element `(i, j)` lies at `i * row_stride + j * column_stride`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Columns `from..width` of a matrix of `rows` rows of `width` values each, one after the other.
    ///
    /// # Panics
    /// When the values are too few.
    pub(crate) fn rows(values: &'a [T], rows: usize, width: usize, from: usize) -> Self {
        assert!(
            from <= width && rows * width <= values.len(),
            "a matrix larger than its values"
        );
        Self {
            values: &values[from.min(values.len())..],
            rows,
            columns: width - from,
            row_stride: width,
            column_stride: 1,
        }
    }

    /// The first `columns` of its columns.
    pub(crate) fn first(self, columns: usize) -> Self {
        assert!(columns <= self.columns, "more columns than there are");
        Self { columns, ..self }
    }

    /// Rows as columns.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Whether its last element lies inside the slice.
    fn fits(&self) -> bool {
        let last = |count: usize, stride: usize| (count - 1) * stride;
        self.rows == 0
            || self.columns == 0
            || last(self.rows, self.row_stride) + last(self.columns, self.column_stride) < self.values.len()
    }
}

/// The two element types.
pub(crate) trait Element: Copy + Default + Send + Sync + Into<f64> + 'static {
    const ONE: Self;
    /// Whether it is f32.
    const NARROW: bool;
    /// The nearest value.
    fn nearest(value: f64) -> Self;
}

impl Element for f32 {
    const ONE: Self = 1.0;
    const NARROW: bool = true;
    #[inline(always)]
    fn nearest(value: f64) -> Self {
        value as f32
    }
}

impl Element for f64 {
    const ONE: Self = 1.0;
    const NARROW: bool = false;
    #[inline(always)]
    fn nearest(value: f64) -> Self {
        value
    }
}

/// Writes `a · b` (`[m, k] · [k, n]`) row by row into `out`, `[m, n]`.
///
/// # Panics
/// When the shapes do not fit.
#[expect(unsafe_code, reason = "the kernels take pointers and strides")]
pub(crate) fn product<T: Element>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: &mut [T]) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(
        b.rows == k && out.len() == m * n && a.fits() && b.fits(),
        "a product of [{m}, {k}] and [{}, {n}] into {} values",
        b.rows,
        out.len()
    );
    if k == 0 {
        out.fill(T::default());
        return;
    }
    let stride = |stride: usize| stride as isize;
    // SAFETY: all three matrices lie inside their slices, as was just checked; `out` is borrowed mutably, so it overlaps
    // neither of the others; `T` is f32 or f64, which the kernels know.
    unsafe {
        gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(n),
            false,
            a.values.as_ptr(),
            stride(a.column_stride),
            stride(a.row_stride),
            b.values.as_ptr(),
            stride(b.column_stride),
            stride(b.row_stride),
            T::default(),
            T::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_windows_and_transposes() {
        let a: Vec<f64> = (0..12).map(f64::from).collect();
        // [3, 4] with its columns 1.., times its own transpose.
        let window = Matrix::rows(&a, 3, 4, 1);
        let mut out = vec![f64::NAN; 9];
        product(window, window.transposed(), &mut out);
        let expected = |i: usize, j: usize| (1..4).map(|k| a[i * 4 + k] * a[j * 4 + k]).sum::<f64>();
        for (at, found) in out.iter().enumerate() {
            assert_eq!(*found, expected(at / 3, at % 3));
        }
        let mut left = vec![f64::NAN; 8];
        product(
            Matrix::rows(&a, 3, 4, 0).first(2).transposed(),
            Matrix::rows(&a, 3, 4, 0),
            &mut left,
        );
        let expected = |i: usize, j: usize| (0..3).map(|k| a[k * 4 + i] * a[k * 4 + j]).sum::<f64>();
        for (at, found) in left.iter().enumerate() {
            assert_eq!(*found, expected(at / 4, at % 4));
        }
        let mut empty = vec![1.0; 4];
        product(Matrix::rows(&a, 2, 0, 0), Matrix::rows(&a, 0, 2, 0), &mut empty);
        assert_eq!(empty, [0.0; 4]);
    }
}
