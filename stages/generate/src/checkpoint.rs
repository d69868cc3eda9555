//! A Hugging Face checkpoint directory or a GGUF file, opened by its headers and indexes: no weight is read here.

use crate::adapter::Adapter;
use crate::config::Config;
use crate::gguf::{self, Gguf};
use fracture_stage::Error;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest safetensors header that is read, in bytes.
const HEADER_LIMIT: u64 = 64 << 20;
/// The longest small file (configuration, tokenizer, template, index) that is read, in bytes.
const FILE_LIMIT: u64 = 128 << 20;

/// A checkpoint whose files are all there and whole.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    directory: PathBuf,
    files: Vec<CheckpointFile>,
    shards: Vec<PathBuf>,
    tensors: BTreeMap<String, TensorEntry>,
    gguf: Option<Arc<Gguf>>,
    adapter: Option<Adapter>,
}

/// A file that a result depends on, or its absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// What the file is for: `config`, `tokenizer`, `tokenizer_config`, `special_tokens`, `generation_config`,
    /// `chat_template`, `weights_index`, `weights` or `weights/NUMBER`; `adapter_config` and `adapter` of an adapter.
    pub role: String,
    /// Where it lies; `None` for a file that was looked for and is not there.
    pub path: Option<PathBuf>,
}

/// Where a tensor lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Index into [`Checkpoint::shards`].
    pub shard: usize,
    /// The element type's name in the header, as `F32`, `F16` or `BF16`.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<usize>,
}

impl Checkpoint {
    /// Looks at a checkpoint directory, or at a GGUF file: which files matter, and whether the weights are as long as
    /// their headers say.
    ///
    /// # Errors
    /// A missing directory or file, a damaged header, a truncated weight file.
    pub fn open(source: &Path) -> Result<Self, Error> {
        Self::choose(source, None)
    }

    /// [`Checkpoint::open`], where `file` names a GGUF file in the directory.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn choose(source: &Path, file: Option<&str>) -> Result<Self, Error> {
        match gguf::find(source, file)? {
            Some(path) => Self::of_gguf(source, Gguf::open(&path)?),
            None => match file {
                Some(file) => Err(Error::input(format!("`file: {file}` is no GGUF file"))
                    .hint("`file` chooses among the GGUF files of a folder; leave it out for safetensors")),
                None => Self::of_directory(source),
            },
        }
    }

    fn of_gguf(source: &Path, gguf: Gguf) -> Result<Self, Error> {
        let mut files = Vec::new();
        if source.is_dir() {
            // Had it been there, the folder would have been another kind of checkpoint.
            files.push(CheckpointFile {
                role: "config".to_owned(),
                path: None,
            });
        }
        for (number, part) in gguf.parts().iter().enumerate() {
            files.push(CheckpointFile {
                role: match gguf.parts().len() {
                    1 => "weights".to_owned(),
                    _ => format!("weights/{number}"),
                },
                path: Some(part.path().to_owned()),
            });
        }
        Ok(Self {
            directory: gguf.path().to_owned(),
            files,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            adapter: None,
            gguf: Some(Arc::new(gguf)),
        })
    }

    fn of_directory(directory: &Path) -> Result<Self, Error> {
        if !directory.is_dir() {
            return Err(
                Error::input(format!("{}: no such model directory", directory.display()))
                    .hint("`source` names a folder with config.json, tokenizer.json and model.safetensors"),
            );
        }
        let mut checkpoint = Self {
            directory: directory.to_owned(),
            files: Vec::new(),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            gguf: None,
            adapter: None,
        };
        checkpoint.require("config", "config.json")?;
        checkpoint.require("tokenizer", "tokenizer.json")?;
        for (role, name) in [
            ("tokenizer_config", "tokenizer_config.json"),
            ("special_tokens", "special_tokens_map.json"),
            ("generation_config", "generation_config.json"),
            ("chat_template", "chat_template.jinja"),
        ] {
            let path = directory.join(name);
            let path = path.is_file().then_some(path);
            checkpoint.files.push(CheckpointFile {
                role: role.to_owned(),
                path,
            });
        }
        checkpoint.find_weights()?;
        Ok(checkpoint)
    }

    /// Checks that weights can be kept in memory as `dtype` (`f32`, `f16`, `bf16`) without another value: all are stored
    /// in it, or it is `f32`, which holds every value of the others.
    ///
    /// # Errors
    /// A type in which some would be rounded: that would be another model under the same name.
    pub fn keeps(&self, dtype: &str) -> Result<(), Error> {
        if self.gguf.is_some() && dtype != "f32" {
            return Err(
                Error::pipeline(format!("the weights of a GGUF file can not be kept as {dtype}"))
                    .hint("leave `dtype` out: they stay as they are stored, and computing is in f32"),
            );
        }
        let other = |entry: &&TensorEntry| dtype != "f32" && !entry.dtype.eq_ignore_ascii_case(dtype);
        match self.tensors.iter().find(|(_, entry)| other(entry)) {
            None => Ok(()),
            Some((name, entry)) => Err(Error::pipeline(format!(
                "weights can not be kept as {dtype}: the tensor {name} is stored as {}",
                entry.dtype
            ))
            .cause("rounding them would make another model of it")
            .hint("leave `dtype` out, or save the checkpoint in that type and name the copy")),
        }
    }

    /// The same checkpoint with a LoRA adapter that is merged into its weights. The adapter's files join those that a
    /// result depends on.
    ///
    /// # Errors
    /// An adapter that is not whole, of a kind that is not supported, or made for another model.
    pub fn with_adapter(mut self, directory: &Path) -> Result<Self, Error> {
        if self.gguf.is_some() {
            return Err(Error::pipeline("an adapter can not be merged into a GGUF file")
                .cause("its weights stay packed as they lie there")
                .hint("merge the adapter into the checkpoint, and convert what comes out"));
        }
        let (adapter, files) = Adapter::open(directory, &self.tensors)?;
        self.files.extend(files);
        self.adapter = Some(adapter);
        Ok(self)
    }

    /// The adapter.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The GGUF file, where it is one.
    pub fn gguf(&self) -> Option<&Arc<Gguf>> {
        self.gguf.as_ref()
    }

    /// The architecture, from `config.json` or from the metadata of a GGUF file.
    ///
    /// # Errors
    /// An architecture or a field that is not supported; each named.
    pub fn config(&self) -> Result<Config, Error> {
        match &self.gguf {
            Some(gguf) => gguf::config(gguf),
            None => Config::parse(&self.read("config")?.unwrap_or_default()),
        }
    }

    /// The directory, or the GGUF file.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Every file that matters, with those that were looked for and are absent.
    pub fn files(&self) -> &[CheckpointFile] {
        &self.files
    }

    /// The weight files in order.
    pub fn shards(&self) -> &[PathBuf] {
        &self.shards
    }

    /// The tensors by name, from the headers.
    pub fn tensors(&self) -> &BTreeMap<String, TensorEntry> {
        &self.tensors
    }

    /// The text of a small file by role; `None` when it is absent.
    ///
    /// # Errors
    /// A file that cannot be read, is no text or is unreasonably long.
    pub fn read(&self, role: &str) -> Result<Option<String>, Error> {
        match self
            .files
            .iter()
            .find(|file| file.role == role)
            .and_then(|file| file.path.as_ref())
        {
            Some(path) => read_text(path).map(Some),
            None => Ok(None),
        }
    }

    /// [`Checkpoint::read`] as JSON; an absent file is an empty object.
    ///
    /// # Errors
    /// As [`Checkpoint::read`], or a file that is no JSON.
    pub fn read_json(&self, role: &str) -> Result<Value, Error> {
        match self.read(role)? {
            None => Ok(Value::Object(serde_json::Map::new())),
            Some(text) => serde_json::from_str(&text).map_err(|cause| {
                Error::input(format!("{}: {role} is not JSON", self.directory.display()))
                    .cause(cause)
                    .hint("fetch the checkpoint again")
            }),
        }
    }

    fn require(&mut self, role: &str, name: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        if !path.is_file() {
            let hint = match name {
                "tokenizer.json" => "save it with transformers: AutoTokenizer.from_pretrained(..).save_pretrained(..)",
                _ => "`source` names a folder with config.json, tokenizer.json and model.safetensors",
            };
            return Err(Error::input(format!("{}: {name} is missing", self.directory.display())).hint(hint));
        }
        self.files.push(CheckpointFile {
            role: role.to_owned(),
            path: Some(path),
        });
        Ok(())
    }

    fn find_weights(&mut self) -> Result<(), Error> {
        let (single, index) = (
            self.directory.join("model.safetensors"),
            self.directory.join("model.safetensors.index.json"),
        );
        let absent = |role: &str| CheckpointFile {
            role: role.to_owned(),
            path: None,
        };
        if single.is_file() {
            self.files.push(CheckpointFile {
                role: "weights".to_owned(),
                path: Some(single.clone()),
            });
            return self.add_shard(single);
        }
        self.files.push(absent("weights"));
        if !index.is_file() {
            return Err(
                Error::input(format!("{}: model.safetensors is missing", self.directory.display()))
                    .cause("there is no model.safetensors.index.json either")
                    .hint("convert the weights: model.save_pretrained(.., safe_serialization=True) in transformers"),
            );
        }
        self.files.push(CheckpointFile {
            role: "weights_index".to_owned(),
            path: Some(index.clone()),
        });
        for (number, name) in shard_names(&index)?.into_iter().enumerate() {
            let path = self.directory.join(&name);
            if !path.is_file() {
                return Err(Error::input(format!("{}: {name} is missing", self.directory.display()))
                    .cause("model.safetensors.index.json names it")
                    .hint("fetch the checkpoint again; every shard is needed"));
            }
            self.files.push(CheckpointFile {
                role: format!("weights/{number}"),
                path: Some(path.clone()),
            });
            self.add_shard(path)?;
        }
        Ok(())
    }

    fn add_shard(&mut self, path: PathBuf) -> Result<(), Error> {
        let shard = self.shards.len();
        for (name, dtype, shape) in read_header(&path)? {
            let entry = TensorEntry { shard, dtype, shape };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(
                    Error::input(format!("{}: tensor {name} is in two shards", path.display()))
                        .hint("fetch the checkpoint again"),
                );
            }
        }
        self.shards.push(path);
        Ok(())
    }
}

pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    let failed = |cause: std::io::Error| Error::input(format!("{}: cannot be read", path.display())).cause(cause);
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_LIMIT + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(Error::input(format!(
            "{}: longer than {} MB",
            path.display(),
            FILE_LIMIT >> 20
        )));
    }
    Ok(text)
}

/// The files that an index names, sorted, each inside the directory.
fn shard_names(index: &Path) -> Result<Vec<String>, Error> {
    let broken = |cause: String| {
        Error::input(format!("{}: not an index of shards", index.display()))
            .cause(cause)
            .hint("fetch the checkpoint again")
    };
    let value: Value = serde_json::from_str(&read_text(index)?).map_err(|cause| broken(cause.to_string()))?;
    let map = value
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| broken("no weight_map".to_owned()))?;
    let mut names = std::collections::BTreeSet::new();
    for name in map.values() {
        match name.as_str() {
            Some(name) if !name.contains(['/', '\\']) && name.ends_with(".safetensors") => {
                names.insert(name.to_owned());
            }
            _ => return Err(broken(format!("{name} is no file name beside the index"))),
        }
    }
    match names.is_empty() {
        true => Err(broken("weight_map is empty".to_owned())),
        false => Ok(names.into_iter().collect()),
    }
}

/// Names, types and shapes from a safetensors header, checked against the file's length.
pub(crate) fn read_header(path: &Path) -> Result<Vec<(String, String, Vec<usize>)>, Error> {
    const AGAIN: &str = "fetch the file again; it was cut short or is no safetensors file";
    let shown = path.display();
    let broken = |cause: String| {
        Error::input(format!("{shown}: damaged safetensors header"))
            .cause(cause)
            .hint(AGAIN)
    };
    let mut file = File::open(path).map_err(|cause| Error::input(format!("{shown}: cannot be read")).cause(cause))?;
    let length = file.metadata().map_err(|cause| broken(cause.to_string()))?.len();
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix)
        .map_err(|_| broken(format!("the file has {length} bytes")))?;
    let header_length = u64::from_le_bytes(prefix);
    if header_length > HEADER_LIMIT {
        return Err(broken(format!("a header of {header_length} bytes")));
    }
    if header_length > length - 8 {
        return Err(truncated(path, 8 + header_length, length));
    }
    let mut header = vec![0; header_length as usize];
    file.read_exact(&mut header)
        .map_err(|cause| broken(cause.to_string()))?;
    let header: Value = serde_json::from_slice(&header).map_err(|cause| broken(cause.to_string()))?;
    let header = header.as_object().ok_or_else(|| broken("no object".to_owned()))?;
    let mut tensors = Vec::new();
    let mut end = 0;
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let wrong = || broken(format!("the entry of {name}"));
        let numbers =
            |key: &str| -> Option<Vec<u64>> { entry.get(key)?.as_array()?.iter().map(Value::as_u64).collect() };
        let dtype = entry.get("dtype").and_then(Value::as_str).ok_or_else(wrong)?;
        let shape = numbers("shape").ok_or_else(wrong)?;
        let offsets = numbers("data_offsets")
            .filter(|o| o.len() == 2 && o[0] <= o[1])
            .ok_or_else(wrong)?;
        let elements = shape
            .iter()
            .try_fold(1u64, |product, size| product.checked_mul(*size))
            .ok_or_else(wrong)?;
        let span = offsets[1] - offsets[0];
        if width(dtype).is_some_and(|width| elements.checked_mul(width) != Some(span)) {
            return Err(wrong());
        }
        end = end.max(offsets[1]);
        tensors.push((
            name.clone(),
            dtype.to_owned(),
            shape.into_iter().map(|size| size as usize).collect(),
        ));
    }
    match end.checked_add(8 + header_length) {
        Some(needed) if needed <= length => Ok(tensors),
        Some(needed) => Err(truncated(path, needed, length)),
        None => Err(broken("offsets beyond any file".to_owned())),
    }
}

fn truncated(path: &Path, needed: u64, length: u64) -> Error {
    Error::input(format!("{}: truncated safetensors file", path.display()))
        .cause(format!("its header speaks of {needed} bytes, the file has {length}"))
        .hint("fetch the file again; the download was cut short")
}

/// Bytes of an element; `None` for types that are not read.
fn width(dtype: &str) -> Option<u64> {
    match dtype {
        "F32" | "I32" | "U32" => Some(4),
        "F16" | "BF16" => Some(2),
        "F64" | "I64" | "U64" => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
