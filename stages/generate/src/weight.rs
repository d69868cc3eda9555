//! A weight matrix as a model uses it: where it lies (in the map of a checkpoint file, or in memory), in its own type.
//!
//! Nothing is converted when a model is loaded: products widen f16 and bf16 exactly where they use them, so a checkpoint
//! takes no memory of its own beside the page cache.

use crate::kernel::{self, Matrix, Shape};
use crate::ops::Run;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Storage, Tensor, bail};
use half::{bf16, f16};
use std::sync::Arc;

/// A matrix `[rows, columns]` of f32, f16 or bf16, row-major.
#[derive(Clone)]
pub struct Weight {
    owner: Owner,
    /// The first value; it lies in what `owner` keeps alive and is aligned for its type.
    first: *const u8,
    dtype: DType,
    rows: usize,
    columns: usize,
}

/// What keeps the values where they are.
#[derive(Clone)]
#[expect(dead_code, reason = "held, not read")]
enum Owner {
    Map(Arc<MmapedSafetensors>),
    /// A contiguous tensor on the CPU, which nobody writes to.
    Tensor(Tensor),
}

// SAFETY: the values are only read, and what holds them may be shared and sent.
unsafe impl Send for Weight {}
unsafe impl Sync for Weight {}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match self.owner {
            Owner::Map(_) => "mapped",
            Owner::Tensor(_) => "in memory",
        };
        write!(f, "Weight[{}, {}] {:?} {place}", self.rows, self.columns, self.dtype)
    }
}

impl Weight {
    /// The tensor `name` of mapped files, if it is `[rows, columns]` of a type that products take and lies as that type
    /// must; `None` has it copied.
    pub(crate) fn mapped(map: &Arc<MmapedSafetensors>, name: &str, rows: usize, columns: usize) -> Option<Self> {
        let view = map.get(name).ok()?;
        let dtype = DType::try_from(view.dtype()).ok()?;
        let aligned = match dtype {
            DType::F32 => view.data().as_ptr().cast::<f32>().is_aligned(),
            DType::F16 | DType::BF16 => view.data().as_ptr().cast::<u16>().is_aligned(),
            _ => false,
        };
        let fits = view.shape() == [rows, columns] && view.data().len() == rows * columns * dtype.size_in_bytes();
        (aligned && fits && cfg!(target_endian = "little")).then(|| Self {
            owner: Owner::Map(map.clone()),
            first: view.data().as_ptr(),
            dtype,
            rows,
            columns,
        })
    }

    /// A tensor `[rows, columns]` of f32, f16 or bf16 on the CPU.
    ///
    /// # Errors
    /// Another shape, type or device.
    pub fn new(tensor: &Tensor) -> Result<Self> {
        let tensor = tensor.contiguous()?;
        let (rows, columns) = tensor.dims2()?;
        let dtype = tensor.dtype();
        let first = {
            let (storage, layout) = tensor.storage_and_layout();
            let Storage::Cpu(storage) = &*storage else {
                bail!("a weight that is not in main memory");
            };
            let Some((from, _)) = layout.contiguous_offsets() else {
                bail!("a weight that is not contiguous: {layout:?}");
            };
            match dtype {
                DType::F32 => storage.as_slice::<f32>()?[from..].as_ptr().cast::<u8>(),
                DType::F16 => storage.as_slice::<f16>()?[from..].as_ptr().cast(),
                DType::BF16 => storage.as_slice::<bf16>()?[from..].as_ptr().cast(),
                other => bail!("a weight of {other:?}"),
            }
        };
        Ok(Self {
            owner: Owner::Tensor(tensor),
            first,
            dtype,
            rows,
            columns,
        })
    }

    /// `count` rows from row `from` on; they stay where they are.
    ///
    /// # Errors
    /// Rows that are not there.
    pub fn narrow(&self, from: usize, count: usize) -> Result<Self> {
        if from.checked_add(count).is_none_or(|end| end > self.rows) {
            bail!("rows {from} to {from} + {count} of a weight of {}", self.rows);
        }
        // SAFETY: the row lies inside the weight, or at its end when there is none.
        let first = unsafe { self.first.add(from * self.columns * self.dtype.size_in_bytes()) };
        Ok(Self {
            first,
            rows: count,
            ..self.clone()
        })
    }

    /// Rows and columns.
    pub fn dims(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    fn matrix(&self) -> Matrix<'_> {
        let count = self.rows * self.columns;
        // SAFETY: `first` points to as many aligned values, which `owner` keeps where they are; every bit pattern is a
        // number of these types. A file that another process changes meanwhile would change numbers, as it would the
        // result of reading it; one that is cut short ends this process with SIGBUS.
        unsafe {
            match self.dtype {
                DType::F16 => Matrix::F16(std::slice::from_raw_parts(self.first.cast(), count)),
                DType::BF16 => Matrix::Bf16(std::slice::from_raw_parts(self.first.cast(), count)),
                _ => Matrix::F32(std::slice::from_raw_parts(self.first.cast(), count)),
            }
        }
    }

    /// `x · Wᵀ`: `[rows of x, columns]` to `[rows of x, rows]`.
    ///
    /// # Errors
    /// Shapes or types that do not fit.
    pub fn product(&self, run: Run, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(&Product(run, self))
    }

    /// The rows of these numbers, widened: `[indices, columns]`.
    ///
    /// # Errors
    /// A row that is not there.
    pub fn gather(&self, indices: &[u32]) -> Result<Tensor> {
        let mut out = vec![0.0; indices.len() * self.columns];
        for (&index, out) in indices.iter().zip(out.chunks_exact_mut(self.columns)) {
            if index as usize >= self.rows {
                bail!("row {index} of a weight of {}", self.rows);
            }
            self.matrix().widen(index as usize * self.columns, out);
        }
        Tensor::from_vec(out, (indices.len(), self.columns), &Device::Cpu)
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
        let mut out = vec![0.0; rows * columns];
        let shape = Shape { rows, columns, inner };
        let x = crate::ops::values(x, layout)?;
        kernel::product(run.unit, x, weight.matrix(), &mut out, shape, run.threads);
        Ok((CpuStorage::F32(out), (rows, columns).into()))
    }
}

#[cfg(test)]
mod tests;
