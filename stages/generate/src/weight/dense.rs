//! Weights of f32, f16 or bf16 where they lie: in the map of a checkpoint file, or in memory.

use crate::kernel::Matrix;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Result, Storage, Tensor, bail};
use half::{bf16, f16};
use std::sync::Arc;

/// A matrix `[rows, columns]` of f32, f16 or bf16, row-major.
#[derive(Clone)]
pub struct Dense {
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
unsafe impl Send for Dense {}
unsafe impl Sync for Dense {}

impl std::fmt::Debug for Dense {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match self.owner {
            Owner::Map(_) => "mapped",
            Owner::Tensor(_) => "in memory",
        };
        write!(f, "Dense[{}, {}] {:?} {place}", self.rows, self.columns, self.dtype)
    }
}

impl Dense {
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

    pub(super) fn matrix(&self) -> Matrix<'_> {
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
}
