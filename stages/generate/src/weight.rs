//! A weight matrix as a model uses it: where it lies (in the map of a checkpoint file, or in memory), in its own type.
//!
//! Nothing is converted when a model is loaded: products widen f16 and bf16 exactly where they use them and unpack what is
//! packed, so a checkpoint takes no memory of its own beside the page cache.

mod dense;

use crate::gguf::PackedRows;
use crate::kernel::{self, ProductPart, Shape};
use crate::ops::{Run, values};
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Storage, Tensor, bail};
pub use dense::Dense;
use std::sync::Arc;

/// A matrix `[rows, columns]`, row-major.
#[derive(Debug, Clone)]
pub enum Weight {
    /// f32, f16 or bf16.
    Dense(Dense),
    /// Packed as in a GGUF file; unpacked where it is used.
    Packed(PackedRows),
}

impl Weight {
    /// The tensor `name` of mapped files, if it is `[rows, columns]` of a type that products take and lies as that type
    /// must; `None` has it copied.
    pub(crate) fn mapped(map: &Arc<MmapedSafetensors>, name: &str, rows: usize, columns: usize) -> Option<Self> {
        Dense::mapped(map, name, rows, columns).map(Self::Dense)
    }

    /// A tensor `[rows, columns]` of f32, f16 or bf16 on the CPU.
    ///
    /// # Errors
    /// Another shape, type or device.
    pub fn new(tensor: &Tensor) -> Result<Self> {
        Dense::new(tensor).map(Self::Dense)
    }

    /// `count` rows from row `from` on; they stay where they are.
    ///
    /// # Errors
    /// Rows that are not there.
    pub fn narrow(&self, from: usize, count: usize) -> Result<Self> {
        match self {
            Self::Dense(dense) => Ok(Self::Dense(dense.narrow(from, count)?)),
            Self::Packed(rows) => match rows.narrow(from, count) {
                Some(rows) => Ok(Self::Packed(rows)),
                None => bail!("rows {from} to {from} + {count} of {rows:?}"),
            },
        }
    }

    /// Rows and columns.
    pub fn dims(&self) -> (usize, usize) {
        match self {
            Self::Dense(dense) => dense.dims(),
            Self::Packed(rows) => rows.shape(),
        }
    }

    /// `x · Wᵀ`: `[rows of x, columns]` to `[rows of x, rows]`.
    ///
    /// # Errors
    /// Shapes or types that do not fit.
    pub fn product(&self, run: Run, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(&Product(run, self))
    }

    /// [`Weight::product`] of the same rows with several weights, handed out to the threads together where all are dense.
    ///
    /// # Errors
    /// As [`Weight::product`].
    pub fn products<const N: usize>(weights: [&Self; N], run: Run, x: &Tensor) -> Result<Vec<Tensor>> {
        let mut dense = Vec::with_capacity(N);
        for weight in weights {
            match weight {
                Self::Dense(weight) => dense.push(weight),
                Self::Packed(_) => return weights.into_iter().map(|weight| weight.product(run, x)).collect(),
            }
        }
        let (storage, layout) = x.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            bail!("a kernel was given a tensor that is not in main memory");
        };
        let (x, (rows, inner)) = (values(storage, layout)?, layout.shape().dims2()?);
        if let Some(other) = dense.iter().find(|weight| weight.dims().1 != inner) {
            bail!("a product of [{rows}, {inner}] with {other:?}");
        }
        let mut outs: Vec<Vec<f32>> = dense
            .iter()
            .map(|weight| Vec::with_capacity(rows * weight.dims().0))
            .collect();
        let parts = dense.iter().zip(&mut outs).map(|(weight, out)| ProductPart {
            w: weight.matrix(),
            out: &mut out.spare_capacity_mut()[..rows * weight.dims().0],
            columns: weight.dims().0,
        });
        kernel::products(run.unit, x, &mut parts.collect::<Vec<_>>(), rows, inner, run.threads);
        for (out, weight) in outs.iter_mut().zip(&dense) {
            // SAFETY: the products wrote all of it.
            unsafe { out.set_len(rows * weight.dims().0) };
        }
        let tensors = outs.into_iter().zip(&dense);
        tensors
            .map(|(out, weight)| Tensor::from_vec(out, (rows, weight.dims().0), &Device::Cpu))
            .collect()
    }

    /// The rows of these numbers, as `f32`: `[indices, columns]`.
    ///
    /// # Errors
    /// A row that is not there.
    pub fn gather(&self, indices: &[u32], run: Run) -> Result<Tensor> {
        let (count, width) = self.dims();
        let mut out = vec![0.0; indices.len() * width];
        for (&index, out) in indices.iter().zip(out.chunks_exact_mut(width)) {
            if index as usize >= count {
                bail!("row {index} of {self:?}");
            }
            match self {
                Self::Dense(dense) => dense.matrix().widen(index as usize * width, out),
                Self::Packed(rows) => kernel::unpack_row(run.unit, rows.packed(), index as usize, out),
            }
        }
        Tensor::from_vec(out, (indices.len(), width), &Device::Cpu)
    }
}

struct Product<'a>(Run, &'a Weight);

impl CustomOp1 for Product<'_> {
    fn name(&self) -> &'static str {
        "invariant-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, candle_core::Shape)> {
        let Self(run, weight) = *self;
        let ((rows, inner), (columns, width)) = (layout.shape().dims2()?, weight.dims());
        if inner != width {
            bail!("a product of [{rows}, {inner}] with [{columns}, {width}]");
        }
        let x = values(x, layout)?;
        let out = match weight {
            Weight::Dense(dense) => {
                let (shape, count) = (Shape { rows, columns, inner }, rows * columns);
                let mut out = Vec::with_capacity(count);
                let room = &mut out.spare_capacity_mut()[..count];
                kernel::product(run.unit, x, dense.matrix(), room, shape, run.threads);
                // SAFETY: the product wrote all of it.
                unsafe { out.set_len(count) };
                out
            }
            Weight::Packed(packed) => {
                let mut out = vec![0.0; rows * columns];
                kernel::packed_product(run.unit, x, packed.packed(), &mut out, rows, run.threads);
                out
            }
        };
        Ok((CpuStorage::F32(out), (rows, columns).into()))
    }
}

#[cfg(test)]
mod tests;
