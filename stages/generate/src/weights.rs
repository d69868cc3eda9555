//! Tensors of a checkpoint, memory-mapped: matrices are used where they lie, vectors are converted to the compute type.

use crate::adapter::{Adapter, Merger};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::gguf::GgufWeights;
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
    merger: Option<Merger>,
}

enum Source {
    Mapped(Arc<MmapedSafetensors>),
    Memory(HashMap<String, Tensor>),
    Gguf(GgufWeights),
}

impl Weights {
    /// Maps the weight files of a checkpoint, or opens its GGUF file as that of the model that `config` describes.
    /// Tensors come out as `dtype` on `device`.
    ///
    /// # Errors
    /// Files that cannot be mapped.
    pub fn of(checkpoint: &Checkpoint, config: &Config, dtype: DType, device: &Device) -> Result<Self, Error> {
        let Some(gguf) = checkpoint.gguf() else {
            return Self::open(checkpoint, dtype, device);
        };
        let weights = GgufWeights::open(gguf.clone(), config)?;
        Ok(Self {
            left: weights.names().collect(),
            source: Source::Gguf(weights),
            dtype,
            device: device.clone(),
            place: gguf.path().display().to_string(),
            merger: None,
        })
    }

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
            Source::Gguf(weights) => weights.has(name),
        }
    }

    /// Norm weights are whole, even where the family's checkpoints store their difference from one.
    pub fn has_whole_norms(&self) -> bool {
        matches!(self.source, Source::Gguf(_))
    }

    /// The matrix `name` of exactly `[rows, columns]`, in its own type and where it lies if it can be used there.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Weight, Error> {
        let changed = self.merger.as_ref().is_some_and(|merger| merger.changes(name));
        let weight = match &self.source {
            Source::Mapped(mapped) if !changed => Weight::mapped(mapped, name, rows, columns),
            Source::Gguf(weights) => weights
                .packed(name)
                .filter(|packed| packed.shape() == (rows, columns))
                .map(Weight::Packed),
            _ => None,
        };
        if let Some(weight) = weight {
            self.taken(name);
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

    /// A tensor with what an adapter adds to it, in f32 if that is anything, else in its own type.
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        if !self.has(name) {
            return Err(
                Error::input(format!("{}: tensor {} is missing", self.place, self.shown(name))).hint(self.hint()),
            );
        }
        let saved = self.merger.as_ref().map_or(Ok(None), |merger| merger.saved(name))?;
        let tensor = match (&self.source, saved) {
            (_, Some(saved)) => Ok(saved),
            (Source::Mapped(mapped), None) => mapped.load(name, &self.device),
            (Source::Memory(tensors), None) => tensors[name].to_device(&self.device),
            (Source::Gguf(weights), None) => weights.load(name, &self.device),
        };
        let tensor = tensor.map_err(|cause| self.unreadable(name, cause))?;
        if tensor.dims() != shape {
            return Err(Error::input(format!(
                "{}: tensor {} has the shape {:?}, its architecture asks for {shape:?}",
                self.place,
                self.shown(name),
                tensor.dims()
            ))
            .hint(self.hint()));
        }
        if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) {
            return Err(
                Error::input(format!("{}: tensor {name} holds {:?}", self.place, tensor.dtype()))
                    .hint("f32, f16 and bf16 checkpoints are supported; quantised ones come as GGUF"),
            );
        }
        self.taken(name);
        let merged = match &mut self.merger {
            Some(merger) if merger.changes(name) => merger.merged(name, &tensor)?,
            _ => None,
        };
        merged
            .unwrap_or(tensor)
            .to_device(&self.device)
            .map_err(|cause| self.unreadable(name, cause))
    }

    /// Notes that a tensor has its place.
    fn taken(&mut self, name: &str) {
        match &self.source {
            Source::Gguf(weights) => self.left.remove(&weights.name(name)),
            _ => self.left.remove(name),
        };
    }

    fn unreadable(&self, name: &str, cause: candle_core::Error) -> Error {
        Error::input(format!("{}: tensor {name} cannot be read", self.place)).cause(cause)
    }

    /// What the files call a tensor.
    fn shown(&self, name: &str) -> String {
        match &self.source {
            Source::Gguf(weights) => weights.name(name),
            _ => name.to_owned(),
        }
    }

    fn hint(&self) -> &'static str {
        match &self.source {
            Source::Gguf(_) => "the file's metadata and tensors do not belong together; fetch or convert it again",
            _ => "config.json and the weights do not belong together; fetch the checkpoint again",
        }
    }

    /// The output projection of a model whose embedding serves as one, where it is not the embedding: an adapter may have
    /// trained either on its own, which parts them. What it adds to one it adds to both, so it is to be told first, by
    /// [`Weights::tie`].
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn parted_head(&mut self, vocabulary: usize, hidden: usize) -> Result<Option<Tensor>, Error> {
        const HEAD: &str = "lm_head.weight";
        let Some(merger) = self.merger.take_if(|merger| merger.parts_head()) else {
            return Ok(None);
        };
        let head = match merger.saved(HEAD)? {
            Some(head) => head
                .to_device(&self.device)
                .and_then(|head| head.to_dtype(self.dtype)?.contiguous())
                .map_err(|cause| Error::input(format!("{}: {HEAD} cannot be read", self.place)).cause(cause))?,
            // The embedding as the base has it.
            None => self.take("model.embed_tokens.weight", &[vocabulary, hidden])?,
        };
        self.merger = Some(merger);
        Ok(Some(head))
    }

    /// [`Weights::parted_head`] as a weight, or the embedding.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn tied_head(&mut self, embedding: &Weight, config: &Config) -> Result<Weight, Error> {
        match self.parted_head(config.vocabulary, config.hidden)? {
            Some(head) => Weight::new(&head)
                .map_err(|cause| Error::input(format!("{}: the output projection", self.place)).cause(cause)),
            None => Ok(embedding.clone()),
        }
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
            .hint(self.hint())),
        }
    }
}
