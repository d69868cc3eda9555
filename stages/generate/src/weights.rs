//! Tensors of a checkpoint, memory-mapped: matrices are used where they lie, vectors are converted to the compute type.

use crate::checkpoint::Checkpoint;
use crate::weight::Weight;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use fracture_stage::Error;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The tensors of a model, taken one by one; what is left at the end was not understood.
pub struct Weights {
    source: Source,
    dtype: DType,
    device: Device,
    left: BTreeSet<String>,
    place: String,
}

enum Source {
    Mapped(Arc<MmapedSafetensors>),
    Memory(HashMap<String, Tensor>),
}

impl Weights {
    /// Maps the weight files of a checkpoint. Tensors come out as `dtype` on `device`.
    ///
    /// # Errors
    /// Files that cannot be mapped.
    pub fn open(checkpoint: &Checkpoint, dtype: DType, device: &Device) -> Result<Self, Error> {
        let place = checkpoint.directory().display().to_string();
        // SAFETY: the maps are read as long as the model lives. A file that another process cuts short meanwhile ends
        // this one with SIGBUS; lengths were checked when the checkpoint was opened.
        let mapped = unsafe { MmapedSafetensors::multi(checkpoint.shards()) };
        let mapped = mapped.map_err(|cause| {
            Error::input(format!("{place}: weights cannot be mapped"))
                .cause(cause)
                .hint("fetch the checkpoint again")
        })?;
        let left = checkpoint.tensors().keys().cloned().collect();
        Ok(Self {
            source: Source::Mapped(Arc::new(mapped)),
            dtype,
            device: device.clone(),
            left,
            place,
        })
    }

    /// Tensors that are in memory already, as tests and a merge of adapters have them.
    pub fn from_tensors(tensors: HashMap<String, Tensor>, dtype: DType, device: &Device) -> Self {
        let left = tensors.keys().cloned().collect();
        Self {
            source: Source::Memory(tensors),
            dtype,
            device: device.clone(),
            left,
            place: "memory".to_owned(),
        }
    }

    /// Is there a tensor of this name?
    pub fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Mapped(mapped) => mapped.get(name).is_ok(),
            Source::Memory(tensors) => tensors.contains_key(name),
        }
    }

    /// The matrix `name` of exactly `[rows, columns]`, in its own type and, where it is mapped, in its place.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Weight, Error> {
        if let Source::Mapped(mapped) = &self.source
            && let Some(weight) = Weight::mapped(mapped, name, rows, columns)
        {
            self.left.remove(name);
            return Ok(weight);
        }
        let tensor = self.read(name, &[rows, columns])?;
        Weight::new(&tensor).map_err(|cause| self.unreadable(name, cause))
    }

    /// The tensor `name` of exactly `shape`, contiguous, in the compute type.
    ///
    /// # Errors
    /// A missing tensor, another shape, an element type that is not f32, f16 or bf16.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        let tensor = self.read(name, shape)?;
        tensor
            .to_dtype(self.dtype)
            .and_then(|tensor| tensor.contiguous())
            .map_err(|cause| self.unreadable(name, cause))
    }

    fn unreadable(&self, name: &str, cause: candle_core::Error) -> Error {
        Error::input(format!("{}: tensor {name} cannot be read", self.place)).cause(cause)
    }

    /// A tensor in its own type, checked.
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        if !self.has(name) {
            return Err(Error::input(format!("{}: tensor {name} is missing", self.place))
                .hint("config.json and the weights do not belong together; fetch the checkpoint again"));
        }
        let tensor = match &self.source {
            Source::Mapped(mapped) => mapped.load(name, &self.device),
            Source::Memory(tensors) => tensors[name].to_device(&self.device),
        };
        let tensor = tensor.map_err(|cause| self.unreadable(name, cause))?;
        if tensor.dims() != shape {
            return Err(Error::input(format!(
                "{}: tensor {name} has the shape {:?}, config.json asks for {shape:?}",
                self.place,
                tensor.dims()
            ))
            .hint("config.json and the weights do not belong together; fetch the checkpoint again"));
        }
        if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) {
            return Err(
                Error::input(format!("{}: tensor {name} holds {:?}", self.place, tensor.dtype()))
                    .hint("f32, f16 and bf16 checkpoints are supported; quantised ones come as GGUF"),
            );
        }
        self.left.remove(name);
        Ok(tensor)
    }

    /// Checks that every tensor was used, but for those that models carry without need.
    ///
    /// # Errors
    /// Names a tensor that the architecture does not know: the model would compute something else without it.
    pub fn finish(mut self, tied: bool) -> Result<(), Error> {
        let idle = |name: &str| name.ends_with(".rotary_emb.inv_freq") || tied && name == "lm_head.weight";
        self.left.retain(|name| !idle(name));
        match self.left.first() {
            None => Ok(()),
            Some(name) => Err(Error::input(format!(
                "{}: tensor {name} has no place in this architecture",
                self.place
            ))
            .cause(format!("{} tensors are left over", self.left.len()))
            .hint("config.json names another architecture than the weights have")),
        }
    }
}
