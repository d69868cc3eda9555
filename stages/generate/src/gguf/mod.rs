//! Models in GGUF files: one file (or its numbered parts) holds weights, architecture, tokenizer and chat template.
//!
//! The format is that of `ggml/docs/gguf.md`. A header is read by code of our own: what a hostile file may cost is
//! bounded, and every error names the file, the key or the tensor. What llama.cpp's converter changes on the way from
//! a Hugging Face checkpoint (names, the order of rotated rows, norms, merged experts) is undone in [`names`].

mod config;
mod format;
mod header;
mod keys;
mod names;
mod reader;
mod rope;
mod tokenizer;
mod vocabulary;
mod weights;

pub(crate) use config::read as config;
pub use format::Format;
pub use header::{Header, TensorInfo, Value};
pub(crate) use tokenizer::read as text_side;
pub(crate) use weights::GgufWeights;
pub use weights::PackedRows;

use fracture_stage::Error;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The most parts that a model may come in.
const PARTS_LIMIT: i128 = 4096;

/// A model whose headers were read.
#[derive(Debug)]
pub struct Gguf {
    /// One file, or all parts in order; the metadata are those of the first.
    parts: Vec<Header>,
    /// Where each tensor lies: the number of its part.
    tensors: BTreeMap<String, usize>,
}

impl Gguf {
    /// Reads the header of the file at `path` and, where it is the first of several parts, of the others.
    ///
    /// # Errors
    /// A file that is missing, cut short, damaged or of another version; a part that is missing or of another model.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let first = Header::read(path)?;
        let mut parts = vec![first];
        if let Some(count) = split_count(&parts[0])? {
            check_number(&parts[0], 0, count)?;
            for number in 1..count {
                let path = part_path(path, number, count)?;
                if !path.is_file() {
                    return Err(Error::input(format!("{}: is missing", path.display()))
                        .cause(format!("the model comes in {count} parts"))
                        .hint("fetch all parts into one folder"));
                }
                parts.push(Header::read(&path)?);
            }
        }
        let mut tensors = BTreeMap::new();
        for (number, part) in parts.iter().enumerate() {
            check_number(part, number, parts.len())?;
            for name in part.tensors().keys() {
                if tensors.insert(name.clone(), number).is_some() {
                    let place = part.path().display();
                    return Err(Error::input(format!("{place}: tensor {name} is in two parts"))
                        .hint("fetch the files again; they are parts of different models"));
                }
            }
        }
        if let Some(Value::Integer(told)) = parts[0].metadata().get("split.tensors.count") {
            if *told != tensors.len() as i128 {
                return Err(Error::input(format!("{}: parts of different models", path.display()))
                    .cause(format!("{told} tensors are announced, {} are there", tensors.len()))
                    .hint("fetch all parts again"));
            }
        }
        if tensors.is_empty() {
            return Err(Error::input(format!("{}: holds no tensors", path.display()))
                .cause("it is a vocabulary without a model")
                .hint("name the file that holds the weights"));
        }
        Ok(Self { parts, tensors })
    }

    /// The file, or the first of its parts.
    pub fn path(&self) -> &Path {
        self.parts[0].path()
    }

    /// The file, or all its parts in order.
    pub fn parts(&self) -> &[Header] {
        &self.parts
    }

    /// The header that the metadata are in.
    pub fn header(&self) -> &Header {
        &self.parts[0]
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor and the number of its part.
    pub fn tensor(&self, name: &str) -> Option<(usize, &TensorInfo)> {
        let part = *self.tensors.get(name)?;
        Some((part, self.parts[part].tensors().get(name)?))
    }

    /// The values of a small tensor of one dimension in `F32`, read from the file; `None` when there is none.
    ///
    /// # Errors
    /// Another shape or format, a file that cannot be read.
    pub(crate) fn small(&self, name: &str, length: usize) -> Result<Option<Vec<f32>>, Error> {
        use std::io::{Read, Seek, SeekFrom};
        let Some((part, info)) = self.tensor(name) else {
            return Ok(None);
        };
        let path = self.parts[part].path();
        if info.format != Format::F32 || info.shape != [length] {
            let message = format!(
                "{}: tensor {name} is {} {:?}",
                path.display(),
                info.format.name(),
                info.shape
            );
            return Err(Error::input(message).cause(format!("F32 [{length}] belongs to this architecture")));
        }
        let unreadable = |cause| Error::input(format!("{}: cannot be read", path.display())).cause(cause);
        let mut bytes = vec![0; 4 * length];
        std::fs::File::open(path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(info.offset))?;
                file.read_exact(&mut bytes)
            })
            .map_err(unreadable)?;
        let (values, _) = bytes.as_chunks::<4>();
        Ok(Some(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }
}

/// How many parts the model comes in; `None` for one file.
fn split_count(header: &Header) -> Result<Option<usize>, Error> {
    match header.metadata().get("split.count") {
        None | Some(Value::Integer(0 | 1)) => Ok(None),
        Some(Value::Integer(count)) if (2..=PARTS_LIMIT).contains(count) => Ok(Some(*count as usize)),
        Some(value) => Err(
            Error::input(format!("{}: split.count is {value}", header.path().display())).hint("fetch the file again"),
        ),
    }
}

fn check_number(part: &Header, number: usize, count: usize) -> Result<(), Error> {
    let told = part.metadata().get("split.no");
    let right = match told {
        None => count == 1,
        Some(value) => *value == Value::Integer(number as i128),
    };
    if right {
        return Ok(());
    }
    let told = told.map_or_else(
        || "no part of a model".to_owned(),
        |value| format!("part {value}, counted from 0"),
    );
    let place = part.path().display();
    Err(match number {
        0 => Error::input(format!("{place}: is not the first part of its model"))
            .cause(format!("it is {told}"))
            .hint("name the file that ends in -00001-of-.."),
        _ => Error::input(format!("{place}: is another part than its name says")).cause(format!("it is {told}")),
    })
}

/// The path of part `number` (from 0) beside the first, `NAME-00001-of-00003.gguf`.
fn part_path(first: &Path, number: usize, count: usize) -> Result<PathBuf, Error> {
    let name = first.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name.strip_suffix(&format!("-00001-of-{count:05}.gguf")) {
        Some(stem) => Ok(first.with_file_name(format!("{stem}-{:05}-of-{count:05}.gguf", number + 1))),
        None => Err(
            Error::input(format!("{}: the other parts cannot be found", first.display()))
                .cause(format!(
                    "it is a part of {count}, and its name does not end in -00001-of-{count:05}.gguf"
                ))
                .hint("name the first part, and keep the names that llama.cpp gave"),
        ),
    }
}

/// The GGUF file that `source` means: itself, or the one in a folder (`file` chooses among several).
///
/// `None` where `source` is a folder of another kind.
///
/// # Errors
/// A file that is not there, a folder with several and no choice.
pub fn find(source: &Path, file: Option<&str>) -> Result<Option<PathBuf>, Error> {
    let is_gguf = |path: &Path| {
        path.extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
    };
    if let Some(file) = file {
        let inside = Path::new(file)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        let path = source.join(file);
        return match is_gguf(&path) {
            false => Ok(None),
            true if !inside => Err(Error::input(format!("`file: {file}` leads out of the model's folder"))),
            true if !path.is_file() => Err(Error::input(format!("{}: no such file", path.display()))),
            true => Ok(Some(path)),
        };
    }
    if is_gguf(source) && !source.is_dir() {
        return match source.is_file() {
            true => Ok(Some(source.to_owned())),
            false => Err(Error::input(format!("{}: no such file", source.display()))
                .hint("`source` names a folder with a checkpoint, or a GGUF file")),
        };
    }
    if !source.is_dir() || source.join("config.json").is_file() {
        return Ok(None);
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(source)
        .map_err(|cause| Error::input(format!("{}: cannot be read", source.display())).cause(cause))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| is_gguf(path) && !is_later_part(path))
        .collect();
    found.sort();
    match found.len() {
        0 => Ok(None),
        1 => Ok(found.pop()),
        count => {
            let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
            let names: Vec<String> = found.iter().filter_map(name).take(8).collect();
            Err(Error::input(format!("{}: holds {count} GGUF files", source.display()))
                .cause(names.join(", "))
                .hint("choose one: give the file itself as `source`, or its name as `file`"))
        }
    }
}

/// A part of a model that is not the first.
fn is_later_part(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let mut pieces = stem.rsplit('-');
    let (count, of, number) = (pieces.next(), pieces.next(), pieces.next());
    let digits =
        |text: Option<&str>| text.is_some_and(|text| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()));
    of == Some("of") && digits(count) && digits(number) && number != Some("00001")
}

#[cfg(test)]
mod tests;
