//! Which files of a repository a stage needs. The twins of the weights in other formats are left where they are.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use fracture_stage::{Error, Part};
use serde_json::Value;

use crate::listing::{Listing, stays_inside};
use crate::reference::Reference;

/// The longest index of shards that is read, bytes.
const INDEX_LIMIT: u64 = 128 << 20;

/// Where a judge has texts of which it says how they score.
const CANARIES: &str = "canaries.jsonl";

/// The small files of a language model: those that `stages/generate` looks for, and no others.
const SMALL: [&str; 7] = [
    CANARIES,
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];
/// The small files of a graph, at the root or in `onnx/`: those that `stages/judge` looks for.
const BESIDE: [&str; 3] = ["config.json", "tokenizer.json", "tokenizer_config.json"];
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Where sentence encoders say how they are pooled.
const POOLING: &str = "1_Pooling/config.json";

/// The files that a graph takes its weights from, as its header names them.
pub type External = fn(&Path) -> Result<Vec<String>, Error>;

/// The files that are needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Their names, sorted.
    pub names: BTreeSet<String>,
    /// One of them names further files, and is not here yet.
    pub open: bool,
}

/// How a selection is made.
pub(crate) struct Chooser<'a> {
    /// The model, for errors.
    pub reference: &'a Reference,
    /// All its files.
    pub listing: &'a Listing,
    /// Where a file lies, when it is here.
    pub here: &'a dyn Fn(&str) -> Option<PathBuf>,
    /// Looks into a graph.
    pub external: External,
}

impl Chooser<'_> {
    /// The files of a part.
    ///
    /// # Errors
    /// When the model lacks what the part needs; the error names what there is instead.
    pub fn choose(&self, part: Part, file: Option<&str>) -> Result<Selection, Error> {
        if let Some(file) = file
            && !(stays_inside(file) && self.listing.has(file))
        {
            return Err(self.no_such_file(file));
        }
        let graph = file.map_or_else(
            || !self.listing.ending(".onnx").is_empty(),
            |file| file.ends_with(".onnx"),
        );
        match part {
            Part::Weights => self.weights(file),
            Part::Graph => self.graph(file),
            Part::Vectors if graph => {
                let mut selection = self.graph(file)?;
                self.add(&mut selection, &[POOLING]);
                Ok(selection)
            }
            Part::Vectors => self.weights(file),
            Part::Adapter => {
                let mut selection = Selection::default();
                for name in ["adapter_config.json", "adapter_model.safetensors"] {
                    self.require(
                        &mut selection,
                        name,
                        "an adapter is saved by `peft`: model.save_pretrained(..)",
                    )?;
                }
                Ok(selection)
            }
        }
    }

    fn weights(&self, file: Option<&str>) -> Result<Selection, Error> {
        let mut selection = Selection::default();
        if let Some(file) = file {
            if file.ends_with(".gguf") {
                selection.names.extend(self.parts_of(file));
                return Ok(selection);
            }
            selection.names.insert(file.to_owned());
        }
        if file.is_none()
            && let Some(only) = self.only_gguf()
        {
            selection.names.extend(self.parts_of(only));
            return Ok(selection);
        }
        self.add(&mut selection, &SMALL);
        self.require(&mut selection, "config.json", &self.other_formats())?;
        if file.is_none() && self.listing.has(WEIGHTS) {
            selection.names.insert(WEIGHTS.to_owned());
        } else if file.is_none() {
            self.require(&mut selection, INDEX, &self.other_formats())?;
            match (self.here)(INDEX) {
                Some(path) => selection.names.extend(self.shards(&path)?),
                None => selection.open = true,
            }
        }
        let hint =
            "save it with transformers: AutoTokenizer.from_pretrained(..).save_pretrained(..), and name that folder";
        self.require(&mut selection, "tokenizer.json", hint)?;
        Ok(selection)
    }

    fn graph(&self, file: Option<&str>) -> Result<Selection, Error> {
        let found = self.listing.ending(".onnx");
        let usual = ["model.onnx", "onnx/model.onnx"];
        let model = match (file, found.as_slice()) {
            (Some(file), _) => file,
            (None, [only]) => only,
            (None, []) => {
                return Err(self
                    .lacks("an .onnx file")
                    .hint("export it with `optimum-cli export onnx`, and name that folder"));
            }
            (None, several) => usual
                .into_iter()
                .find(|name| self.listing.has(name))
                .ok_or_else(|| self.several(several))?,
        };
        let mut selection = Selection::default();
        selection.names.insert(model.to_owned());
        let folder = model.rsplit_once('/').map_or("", |(folder, _)| folder);
        let beside = |name: &str| match folder {
            "" => name.to_owned(),
            folder => format!("{folder}/{name}"),
        };
        for name in BESIDE {
            let candidates = [beside(name), name.to_owned()];
            selection
                .names
                .extend(candidates.into_iter().filter(|name| self.listing.has(name)));
        }
        self.add(&mut selection, &[CANARIES]);
        match (self.here)(model) {
            Some(path) => {
                for location in (self.external)(&path)? {
                    let name = beside(&location);
                    if !stays_inside(&location) || !self.listing.has(&name) {
                        let what = format!("`{location}`, from which `{model}` takes its weights");
                        return Err(self.lacks(&what));
                    }
                    selection.names.insert(name);
                }
            }
            None => selection.open = true,
        }
        Ok(selection)
    }

    fn add(&self, selection: &mut Selection, names: &[&str]) {
        let there = names.iter().filter(|name| self.listing.has(name));
        selection.names.extend(there.map(|name| (*name).to_owned()));
    }

    fn require(&self, selection: &mut Selection, name: &str, hint: &str) -> Result<(), Error> {
        if !self.listing.has(name) {
            return Err(self.lacks(&format!("`{name}`")).hint(hint));
        }
        selection.names.insert(name.to_owned());
        Ok(())
    }

    /// The one GGUF of a model that has nothing else: it needs no choice.
    fn only_gguf(&self) -> Option<&str> {
        if ["config.json", WEIGHTS, INDEX]
            .iter()
            .any(|name| self.listing.has(name))
        {
            return None;
        }
        let first = |name: &&str| !name.contains('/') && self.parts_of(name).first().is_some_and(|part| part == name);
        let mut found = self.listing.ending(".gguf").into_iter().filter(first);
        let only = found.next()?;
        found.next().is_none().then_some(only)
    }

    /// All parts of a GGUF that is split: `NAME-00001-of-00003.gguf`.
    fn parts_of(&self, file: &str) -> Vec<String> {
        let split = |name: &str| {
            let stem = name.strip_suffix(".gguf")?;
            let (rest, count) = stem.rsplit_once("-of-")?;
            let (prefix, number) = rest.rsplit_once('-')?;
            let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            (digits(count) && digits(number)).then(|| (prefix.to_owned(), count.to_owned()))
        };
        let Some(of) = split(file) else {
            return vec![file.to_owned()];
        };
        let names = self.listing.files.iter().map(|entry| &entry.name);
        names
            .filter(|name| split(name).as_ref() == Some(&of))
            .cloned()
            .collect()
    }

    /// The shards that an index names.
    fn shards(&self, index: &Path) -> Result<BTreeSet<String>, Error> {
        let broken = |cause: String| {
            Error::input(format!("`{}` is no index of shards", self.reference.file(INDEX)))
                .cause(cause)
                .hint(format!("remove `{}`: the next run fetches it again", index.display()))
        };
        let mut bytes = Vec::new();
        let file = File::open(index).map_err(|error| broken(error.to_string()))?;
        file.take(INDEX_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(|error| broken(error.to_string()))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
        let map = value.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| broken("it has no `weight_map`".to_owned()))?;
        let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
        for name in &names {
            if name.contains('/') || !stays_inside(name) {
                return Err(broken(format!("`{name}` is no file beside it")));
            }
            if !self.listing.has(name) {
                return Err(self.lacks(&format!("the shard `{name}`, which its index names")));
            }
        }
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn lacks(&self, what: &str) -> Error {
        Error::input(format!("`{}` has no {what}", self.reference))
    }

    fn no_such_file(&self, file: &str) -> Error {
        let mut found = self.listing.ending(".gguf");
        found.extend(self.listing.ending(".onnx"));
        let error = self.lacks(&format!("file `{file}`"));
        match found.as_slice() {
            [] => error,
            names => error.hint(format!("there are {}", some(names))),
        }
    }

    fn several(&self, found: &[&str]) -> Error {
        Error::input(format!(
            "`{}` has several graphs and none is model.onnx",
            self.reference
        ))
        .cause(format!("it could be any of {}", some(found)))
        .hint(format!("choose one: file: {}", found[0]))
    }

    /// What to do about a model without safetensors.
    fn other_formats(&self) -> String {
        match self.listing.ending(".gguf").as_slice() {
            [] if self.listing.has("pytorch_model.bin") || self.listing.has("pytorch_model.bin.index.json") => {
                "it has PyTorch's weights only; convert them: model.save_pretrained(.., safe_serialization=True) in \
                 transformers, and name that folder"
                    .to_owned()
            }
            [] => "a language model has config.json, tokenizer.json and model.safetensors".to_owned(),
            names => format!("choose a GGUF by `file:`; there are {}", some(names)),
        }
    }
}

/// Some names for people.
pub(crate) fn some<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        rest => format!("{} and {rest} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
