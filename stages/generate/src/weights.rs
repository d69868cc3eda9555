//! Tensors of a checkpoint, memory-mapped and converted to the compute type.

use crate::adapter::{Adapter, Merger};
use crate::checkpoint::Checkpoint;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use fracture_stage::Error;
use std::collections::{BTreeSet, HashMap};

/// The tensors of a model, taken one by one; what is left at the end was not understood.
pub struct Weights {
    source: Source,
    dtype: DType,
    device: Device,
    left: BTreeSet<String>,
    place: String,
    merger: Option<Merger>,
}

enum Source {
    Mapped(MmapedSafetensors),
    Memory(HashMap<String, Tensor>),
}

impl Weights {
    /// Maps the weight files of a checkpoint. Tensors come out as `dtype` on `device`.
    ///
    /// # Errors
    /// Files that cannot be mapped.
    pub fn open(checkpoint: &Checkpoint, dtype: DType, device: &Device) -> Result<Self, Error> {
        let place = checkpoint.directory().display().to_string();
        // SAFETY: the maps are read while tensors are copied out of them. A file that another process cuts short in
        // that moment ends this one with SIGBUS; lengths were checked when the checkpoint was opened.
        let mapped = unsafe { MmapedSafetensors::multi(checkpoint.shards()) };
        let mapped = mapped.map_err(|cause| {
            Error::input(format!("{place}: weights cannot be mapped"))
                .cause(cause)
                .hint("fetch the checkpoint again")
        })?;
        let left = checkpoint.tensors().keys().cloned().collect();
        Ok(Self {
            source: Source::Mapped(mapped),
            dtype,
            device: device.clone(),
            left,
            place,
            merger: checkpoint.adapter().map(Adapter::map).transpose()?,
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
            merger: None,
        }
    }

    /// Is there a tensor of this name?
    pub fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Mapped(mapped) => mapped.get(name).is_ok(),
            Source::Memory(tensors) => tensors.contains_key(name),
        }
    }

    /// The tensor `name` of exactly `shape`, contiguous.
    ///
    /// # Errors
    /// A missing tensor, another shape, an element type that is not f32, f16 or bf16.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        if !self.has(name) {
            return Err(Error::input(format!("{}: tensor {name} is missing", self.place))
                .hint("config.json and the weights do not belong together; fetch the checkpoint again"));
        }
        let failed = |cause: candle_core::Error| {
            Error::input(format!("{}: tensor {name} cannot be read", self.place)).cause(cause)
        };
        let saved = self.merger.as_ref().map_or(Ok(None), |merger| merger.saved(name))?;
        let tensor = match (&self.source, saved) {
            (_, Some(saved)) => saved,
            (Source::Mapped(mapped), None) => mapped.load(name, &self.device).map_err(failed)?,
            (Source::Memory(tensors), None) => tensors[name].to_device(&self.device).map_err(failed)?,
        };
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
        let merged = self
            .merger
            .as_mut()
            .map_or(Ok(None), |merger| merger.merged(name, &tensor))?;
        merged
            .unwrap_or(tensor)
            .to_device(&self.device)
            .map_err(failed)?
            .to_dtype(self.dtype)
            .and_then(|tensor| tensor.contiguous())
            .map_err(failed)
    }

    /// The output projection of a model whose embedding serves as one. An adapter may have trained either on its own,
    /// which parts them; what it adds to one it adds to both, so it is to be told first, by [`Weights::tie`].
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn tied_head(&mut self, embedding: &Tensor) -> Result<Tensor, Error> {
        const HEAD: &str = "lm_head.weight";
        let Some(merger) = self.merger.take_if(|merger| merger.parts_head()) else {
            return Ok(embedding.clone());
        };
        let head = match merger.saved(HEAD)? {
            Some(head) => head
                .to_device(&self.device)
                .and_then(|head| head.to_dtype(self.dtype)?.contiguous())
                .map_err(|cause| Error::input(format!("{}: {HEAD} cannot be read", self.place)).cause(cause))?,
            // The embedding as the base has it.
            None => self.take("model.embed_tokens.weight", embedding.dims())?,
        };
        self.merger = Some(merger);
        Ok(head)
    }

    /// Says that output projection and embedding are one tensor, before either is taken.
    pub fn tie(&mut self) {
        if let Some(merger) = &mut self.merger {
            merger.tie();
        }
    }

    /// Checks that every tensor was used, but for those that models carry without need.
    ///
    /// # Errors
    /// Names a tensor that the architecture does not know: the model would compute something else without it.
    pub fn finish(mut self, tied: bool) -> Result<(), Error> {
        if let Some(merger) = &self.merger {
            merger.finish(tied)?;
        }
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
