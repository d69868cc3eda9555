//! A weight matrix as a model uses it: a tensor, or rows of a GGUF file packed as they lie there.

use crate::gguf::PackedRows;
use crate::kernel::{self, Shape};
use crate::ops::{Run, values};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Tensor, bail};

/// A matrix `[rows, columns]`, row-major.
#[derive(Debug, Clone)]
pub enum Weight {
    /// `f32` in memory.
    Dense(Tensor),
    /// Packed; unpacked where it is used.
    Packed(PackedRows),
}

impl Weight {
    /// A tensor `[rows, columns]` of f32.
    ///
    /// # Errors
    /// Another shape.
    pub fn new(tensor: &Tensor) -> Result<Self> {
        tensor.dims2()?;
        Ok(Self::Dense(tensor.contiguous()?))
    }

    /// `count` rows from row `from` on.
    ///
    /// # Errors
    /// Rows that are not there.
    pub fn narrow(&self, from: usize, count: usize) -> Result<Self> {
        match self {
            Self::Dense(tensor) => Ok(Self::Dense(tensor.narrow(0, from, count)?.force_contiguous()?)),
            Self::Packed(rows) => match rows.narrow(from, count) {
                Some(rows) => Ok(Self::Packed(rows)),
                None => bail!("rows {from} to {from} + {count} of {rows:?}"),
            },
        }
    }

    /// Rows and columns.
    pub fn dims(&self) -> Result<(usize, usize)> {
        match self {
            Self::Dense(tensor) => tensor.dims2(),
            Self::Packed(rows) => Ok(rows.shape()),
        }
    }

    /// `x · Wᵀ`: `[rows of x, columns]` to `[rows of x, rows]`.
    ///
    /// # Errors
    /// Shapes or types that do not fit.
    pub fn product(&self, run: Run, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(tensor) => x.apply_op2_no_bwd(tensor, &Product(run)),
            Self::Packed(rows) => x.apply_op1_no_bwd(&PackedProduct(run, rows)),
        }
    }

    /// The rows of these numbers, as `f32`: `[indices, columns]`.
    ///
    /// # Errors
    /// A row that is not there.
    pub fn gather(&self, indices: &[u32], run: Run) -> Result<Tensor> {
        match self {
            Self::Dense(tensor) => tensor.index_select(&Tensor::new(indices, tensor.device())?, 0),
            Self::Packed(rows) => {
                let (count, width) = rows.shape();
                let mut out = vec![0.0; indices.len() * width];
                for (&index, out) in indices.iter().zip(out.chunks_exact_mut(width)) {
                    if index as usize >= count {
                        bail!("row {index} of {rows:?}");
                    }
                    kernel::unpack_row(run.unit, rows.packed(), index as usize, out);
                }
                Tensor::from_vec(out, (indices.len(), width), &Device::Cpu)
            }
        }
    }
}

struct Product(Run);

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "invariant-product"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, candle_core::Shape)> {
        let ((rows, inner), (columns, width)) = (x_layout.shape().dims2()?, w_layout.shape().dims2()?);
        if inner != width {
            bail!("a product of [{rows}, {inner}] with [{columns}, {width}]");
        }
        let mut out = vec![0.0; rows * columns];
        let shape = Shape { rows, columns, inner };
        kernel::product(
            self.0.unit,
            values(x, x_layout)?,
            values(w, w_layout)?,
            &mut out,
            shape,
            self.0.threads,
        );
        Ok((CpuStorage::F32(out), (rows, columns).into()))
    }
}

struct PackedProduct<'a>(Run, &'a PackedRows);

impl CustomOp1 for PackedProduct<'_> {
    fn name(&self) -> &'static str {
        "invariant-packed-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, candle_core::Shape)> {
        let Self(run, weight) = *self;
        let ((rows, inner), (columns, width)) = (layout.shape().dims2()?, weight.shape());
        if inner != width {
            bail!("a product of [{rows}, {inner}] with [{columns}, {width}]");
        }
        let mut out = vec![0.0; rows * columns];
        kernel::packed_product(
            run.unit,
            values(x, layout)?,
            weight.packed(),
            &mut out,
            rows,
            run.threads,
        );
        Ok((CpuStorage::F32(out), (rows, columns).into()))
    }
}
