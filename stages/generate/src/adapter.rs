//! LoRA adapters in the layout of PEFT, merged into the weights as they are read: `W + s·B·A` in f32, as
//! `merge_and_unload` gives it, in an order that depends on neither threads nor machine.
//!
//! Whether an adapter fits its base is seen from the headers, before a weight is read.

mod settings;

use crate::checkpoint::{CheckpointFile, TensorEntry, read_header, read_text};
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use fracture_stage::Error;
use rayon::prelude::*;
use settings::Settings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file of an adapter's settings, and that of its tensors.
const FILES: [(&str, &str); 2] = [
    ("adapter_config", "adapter_config.json"),
    ("adapter", "adapter_model.safetensors"),
];
/// What PEFT puts before the name of a tensor.
const PREFIX: &str = "base_model.model.";
/// The embedding, and the output projection that may be the same tensor.
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// An adapter whose files are there and fit a base.
#[derive(Debug, Clone)]
pub struct Adapter {
    place: String,
    tensors: PathBuf,
    /// What is added, by the base's tensor.
    low_rank: BTreeMap<String, Vec<LowRank>>,
    /// What stands in for a tensor of the base.
    saved: BTreeMap<String, Saved>,
    ties: bool,
}

/// Two factors and what their product is multiplied by.
#[derive(Debug, Clone, PartialEq)]
struct LowRank {
    down: String,
    up: String,
    scale: f64,
    /// Of an embedding, whose product is transposed.
    embedding: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Saved {
    tensor: String,
    /// It is the base's own tensor, kept beside its factors, and not a copy that was trained on its own.
    of_base: bool,
}

impl Adapter {
    /// Reads the settings and the header of an adapter and holds them against its base's tensors. Returns its files as
    /// well.
    ///
    /// # Errors
    /// Missing or damaged files, a kind of adapter that is not supported, tensors that do not fit the base.
    pub(crate) fn open(
        directory: &Path,
        base: &BTreeMap<String, TensorEntry>,
    ) -> Result<(Self, Vec<CheckpointFile>), Error> {
        let place = directory.display().to_string();
        let mut files = Vec::new();
        for (role, name) in FILES {
            let path = directory.join(name);
            if !path.is_file() {
                let hint = match directory.join("adapter_model.bin").is_file() {
                    true => "it has its tensors in adapter_model.bin; save it anew with `safe_serialization=True`",
                    false => "`adapter` names a folder with adapter_config.json and adapter_model.safetensors",
                };
                return Err(Error::input(format!("the adapter {place}: {name} is missing")).hint(hint));
            }
            files.push(CheckpointFile {
                role: role.to_owned(),
                path: Some(path),
            });
        }
        let of_adapter = |error: Error| error.context(format!("the adapter {place} can not be used"));
        let settings = Settings::parse(&read_text(&directory.join(FILES[0].1))?).map_err(of_adapter)?;
        let tensors = directory.join(FILES[1].1);
        let header = read_header(&tensors).map_err(of_adapter)?;
        let mut adapter = Self {
            place,
            tensors,
            low_rank: BTreeMap::new(),
            saved: BTreeMap::new(),
            ties: settings.ties,
        };
        adapter.place_all(&header, base, &settings).map_err(|error| {
            let error = error.context(format!("the adapter {} does not fit the model", adapter.place));
            match &settings.base {
                Some(base) => error.hint(format!("it was made for `{base}`: give that model as `source`")),
                None => error.hint("give the model that it was made for as `source`"),
            }
        })?;
        Ok((adapter, files))
    }

    /// Finds for each tensor of the adapter the base's tensor that it is for, and checks their shapes.
    fn place_all(
        &mut self,
        header: &[(String, String, Vec<usize>)],
        base: &BTreeMap<String, TensorEntry>,
        settings: &Settings,
    ) -> Result<(), Error> {
        let shapes: BTreeMap<&str, &[usize]> = header.iter().map(|(name, _, shape)| (&**name, &**shape)).collect();
        // A head that is the embedding is not stored.
        let of_base = |name: &str| {
            let entry = base.get(name).or_else(|| base.get(EMBEDDING).filter(|_| name == HEAD));
            entry.map(|entry| entry.shape.as_slice())
        };
        for (tensor, dtype, shape) in header {
            let unplaced = || Error::input(format!("its tensor {tensor} has no place in this model"));
            if !matches!(dtype.as_str(), "F32" | "F16" | "BF16") {
                return Err(Error::input(format!("its tensor {tensor} holds {dtype}")));
            }
            let name = tensor.strip_prefix(PREFIX).ok_or_else(unplaced)?;
            let factors = [
                (".lora_A.weight", ".lora_B.weight", false),
                (".lora_embedding_A", ".lora_embedding_B", true),
            ];
            let found = factors
                .into_iter()
                .find_map(|(down, up, embedding)| Some((name.strip_suffix(down)?, up, embedding)));
            let Some((module, up, embedding)) = found else {
                let factor = factors.iter().find_map(|(down, up, _)| {
                    let module = name.strip_suffix(up)?;
                    Some(format!("{PREFIX}{module}{down}"))
                });
                match factor {
                    Some(down) if shapes.contains_key(&*down) => continue,
                    Some(_) => return Err(unplaced()),
                    None => {}
                }
                let target = name.replace(".base_layer.", ".");
                match of_base(&target) {
                    Some(wanted) if wanted == shape => {
                        let saved = Saved {
                            tensor: tensor.clone(),
                            of_base: target != name,
                        };
                        self.saved.insert(target, saved);
                        continue;
                    }
                    Some(wanted) => return Err(misfit(tensor, shape, wanted)),
                    None => return Err(unplaced()),
                }
            };
            let target = format!("{module}.weight");
            let up = format!("{PREFIX}{module}{up}");
            let wanted = of_base(&target).ok_or_else(unplaced)?;
            let up_shape = *shapes.get(&*up).ok_or_else(unplaced)?;
            let product = match (shape.as_slice(), up_shape) {
                (&[rank, inner], &[out, other]) if rank == other && rank > 0 => match embedding {
                    true => [inner, out],
                    false => [out, inner],
                },
                _ => return Err(misfit(tensor, shape, up_shape)),
            };
            if product != wanted {
                return Err(misfit(tensor, &product, wanted));
            }
            let low_rank = LowRank {
                down: tensor.clone(),
                up,
                scale: settings.scale(module, shape[0])?,
                embedding,
            };
            self.low_rank.entry(target).or_default().push(low_rank);
        }
        match self.low_rank.is_empty() && self.saved.is_empty() {
            true => Err(Error::input("it has no tensors")),
            false => Ok(()),
        }
    }

    /// Opens the tensors.
    ///
    /// # Errors
    /// A file that cannot be mapped.
    pub(crate) fn map(&self) -> Result<Merger, Error> {
        // SAFETY: as for weights: the map is read while tensors are copied out of it.
        let mapped = unsafe { MmapedSafetensors::new(&self.tensors) };
        let mapped = mapped.map_err(|cause| self.unreadable(&self.tensors.display().to_string(), cause))?;
        Ok(Merger {
            adapter: self.clone(),
            mapped,
        })
    }

    fn unreadable(&self, what: &str, cause: impl ToString) -> Error {
        Error::input(format!("the adapter {}: {what} cannot be read", self.place)).cause(cause.to_string())
    }
}

fn misfit(tensor: &str, shape: &[usize], wanted: &[usize]) -> Error {
    Error::input(format!(
        "its tensor {tensor} is of the shape {shape:?}, the model's {wanted:?}"
    ))
}

/// An adapter at work.
pub(crate) struct Merger {
    adapter: Adapter,
    mapped: MmapedSafetensors,
}

impl Merger {
    /// The head is the embedding: what is added to one is added to both.
    pub fn tie(&mut self) {
        let adapter = &mut self.adapter;
        if let Some(parts) = adapter.low_rank.remove(HEAD) {
            adapter.low_rank.entry(EMBEDDING.to_owned()).or_default().extend(parts);
        }
        adapter.saved.retain(|name, saved| name != HEAD || !saved.of_base);
    }

    /// Of a head that is the embedding: whether both were trained on their own, so that they part.
    pub fn parts_head(&self) -> bool {
        let own = |name: &str| self.adapter.saved.get(name).is_some_and(|saved| !saved.of_base);
        own(HEAD) || own(EMBEDDING) && !self.adapter.ties
    }

    /// The tensor that stands in for one of the base, as it is stored.
    ///
    /// # Errors
    /// Candle's.
    pub fn saved(&self, name: &str) -> Result<Option<Tensor>, Error> {
        let saved = self.adapter.saved.get(name);
        saved.map(|saved| self.load(&saved.tensor)).transpose()
    }

    /// The adapter has something for this tensor of the base.
    pub fn changes(&self, name: &str) -> bool {
        self.adapter.low_rank.contains_key(name) || self.adapter.saved.contains_key(name)
    }

    /// What was merged into nothing.
    ///
    /// # Errors
    /// Names a tensor of the base that the adapter changes and that the model did not take.
    pub fn finish(&self, tied: bool) -> Result<(), Error> {
        let left = self.adapter.low_rank.keys().find(|name| !(tied && *name == HEAD));
        match left {
            None => Ok(()),
            Some(name) => Err(Error::input(format!(
                "the adapter {} changes the tensor {name}, which this architecture does not take",
                self.adapter.place
            ))),
        }
    }

    /// A tensor of the base in f32 with what the adapter adds to it, once; `None` when it adds nothing.
    ///
    /// # Errors
    /// Candle's.
    pub fn merged(&mut self, name: &str, base: &Tensor) -> Result<Option<Tensor>, Error> {
        let Some(parts) = self.adapter.low_rank.remove(name) else {
            return Ok(None);
        };
        let mut sum = base.clone();
        for part in parts {
            let (down, up) = (self.load(&part.down)?, self.load(&part.up)?);
            let merged = added(&sum, &down, &up, &part);
            sum = merged.map_err(|cause| self.adapter.unreadable(name, cause))?;
        }
        Ok(Some(sum))
    }

    fn load(&self, tensor: &str) -> Result<Tensor, Error> {
        self.mapped
            .load(tensor, &Device::Cpu)
            .map_err(|cause| self.adapter.unreadable(tensor, cause))
    }
}

/// `base + s·B·A`, or `base + s·(B·A)ᵀ` of an embedding, which is `base + s·Aᵀ·Bᵀ`.
fn added(base: &Tensor, down: &Tensor, up: &Tensor, part: &LowRank) -> candle_core::Result<Tensor> {
    let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (rows, columns) = base.dims2()?;
    let rank = down.dim(0)?;
    let (left, right) = match part.embedding {
        true => (wide(&down.t()?)?, wide(&up.t()?)?),
        false => (wide(up)?, wide(down)?),
    };
    let mut out = wide(base)?;
    let scale = part.scale as f32;
    let factors = left.par_chunks_exact(rank);
    out.par_chunks_exact_mut(columns).zip(factors).for_each_init(
        || vec![0.0f32; columns],
        |sum, (out, factors)| {
            sum.fill(0.0);
            for (factor, row) in factors.iter().zip(right.chunks_exact(columns)) {
                for (sum, value) in sum.iter_mut().zip(row) {
                    *sum += factor * value;
                }
            }
            for (out, sum) in out.iter_mut().zip(&*sum) {
                *out += sum * scale;
            }
        },
    );
    Tensor::from_vec(out, (rows, columns), &Device::Cpu)
}

#[cfg(test)]
mod tests;
