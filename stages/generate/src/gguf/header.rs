//! The header of a GGUF file: its metadata and where its tensors lie.
//!
//! Nothing in the header is believed before it was compared with the file's length: a count, a length or an offset that
//! leads outside ends the reading, and no memory is taken for a length that was only claimed. Lists (a vocabulary has
//! hundreds of thousands of texts) are walked over and read when they are asked for, so that planning stays cheap.

use super::format::Format;
use super::reader::{Problem, Reader};
use fracture_stage::Error;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The longest key or tensor name, in bytes.
const NAME_LIMIT: u64 = 4096;
/// The longest text that is a value of its own (a chat template, a licence), in bytes.
const TEXT_LIMIT: u64 = 16 << 20;
/// Where a header has to end at the latest, in bytes.
const HEADER_LIMIT: u64 = 1 << 30;
/// Lists within lists that are walked over.
const DEPTH_LIMIT: u32 = 4;
/// What offsets are multiples of when the file does not say.
const DEFAULT_ALIGNMENT: u64 = 32;

/// What a header says.
#[derive(Debug, Clone)]
pub struct Header {
    path: PathBuf,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
}

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer of any width.
    Integer(i128),
    /// A number of any width.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// Text.
    Text(String),
    /// A list, which is read by [`Header::texts`], [`Header::numbers`] or [`Header::integers`].
    List(List),
}

/// Where a list lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    kind: ValueKind,
    count: u64,
    offset: u64,
}

impl List {
    /// How many items it has.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// It has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Flag(value) => write!(f, "{value}"),
            Self::Text(text) if text.chars().count() > 60 => write!(f, "a text of {} bytes", text.len()),
            Self::Text(text) => write!(f, "`{}`", text.escape_debug()),
            Self::List(list) => write!(f, "a list of {}", list.count),
        }
    }
}

/// Where a tensor lies and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// How its values are stored.
    pub format: Format,
    /// The shape, the outermost dimension first (the file has it the other way round).
    pub shape: Vec<usize>,
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueKind {
    Unsigned(u64),
    Signed(u64),
    Float(u64),
    Flag,
    Text,
    List,
}

impl ValueKind {
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Unsigned(1),
            1 => Self::Signed(1),
            2 => Self::Unsigned(2),
            3 => Self::Signed(2),
            4 => Self::Unsigned(4),
            5 => Self::Signed(4),
            6 => Self::Float(4),
            7 => Self::Flag,
            8 => Self::Text,
            9 => Self::List,
            10 => Self::Unsigned(8),
            11 => Self::Signed(8),
            12 => Self::Float(8),
            _ => return None,
        })
    }

    /// Bytes of one value; `None` where each says so itself.
    fn width(self) -> Option<u64> {
        match self {
            Self::Unsigned(width) | Self::Signed(width) | Self::Float(width) => Some(width),
            Self::Flag => Some(1),
            Self::Text | Self::List => None,
        }
    }
}

impl Header {
    /// Reads the header of the file at `path`. No weight is read.
    ///
    /// # Errors
    /// A file that cannot be read, is no GGUF file, has another version, is cut short or damaged.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let unreadable = |cause: std::io::Error| Error::input(format!("{shown}: cannot be read")).cause(cause);
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut reader = Reader::new(file, length, HEADER_LIMIT);
        let parts = read_parts(&mut reader, length).map_err(|problem| problem.told(path, length))?;
        Ok(Self {
            path: path.to_owned(),
            metadata: parts.0,
            tensors: parts.1,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// A list of texts; `None` when there is none of this name.
    ///
    /// # Errors
    /// A value that is something else, or holds bytes that are no UTF-8.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>, Error> {
        self.items(key, "a list of texts", |kind, reader| match kind {
            ValueKind::Text => Ok(Some(reader.text(TEXT_LIMIT)?)),
            _ => Ok(None),
        })
    }

    /// A list of numbers, integers too; `None` when there is none of this name.
    ///
    /// # Errors
    /// A value that is something else.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>, Error> {
        self.items(key, "a list of numbers", |kind, reader| {
            Ok(match scalar(kind, reader)? {
                Some(Value::Number(value)) => Some(value as f32),
                Some(Value::Integer(value)) => Some(value as f32),
                _ => None,
            })
        })
    }

    /// A list of integers or flags; `None` when there is none of this name.
    ///
    /// # Errors
    /// A value that is something else.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, Error> {
        self.items(key, "a list of integers", |kind, reader| {
            Ok(match scalar(kind, reader)? {
                Some(Value::Integer(value)) => i64::try_from(value).ok(),
                Some(Value::Flag(value)) => Some(i64::from(value)),
                _ => None,
            })
        })
    }

    fn items<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(ValueKind, &mut Reader) -> Result<Option<T>, Problem>,
    ) -> Result<Option<Vec<T>>, Error> {
        let wrong = |what: &str| Error::input(format!("{}: {key} must be {wanted}, not {what}", self.path.display()));
        let list = match self.metadata.get(key) {
            None => return Ok(None),
            Some(Value::List(list)) => *list,
            Some(value) => return Err(wrong(&value.to_string())),
        };
        let unreadable =
            |cause: std::io::Error| Error::input(format!("{}: cannot be read", self.path.display())).cause(cause);
        let file = File::open(&self.path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut reader = Reader::new(file, length, HEADER_LIMIT);
        let told = |problem: Problem| problem.within(key).told(&self.path, length);
        reader.skip(list.offset).map_err(told)?;
        let mut items = Vec::new();
        for _ in 0..list.count {
            match read(list.kind, &mut reader).map_err(told)? {
                Some(item) => items.push(item),
                None => return Err(wrong("a list of something else")),
            }
        }
        Ok(Some(items))
    }
}

type Parts = (BTreeMap<String, Value>, BTreeMap<String, TensorInfo>);

fn read_parts(reader: &mut Reader, length: u64) -> Result<Parts, Problem> {
    let magic = reader.bytes(4).map_err(|_| Problem::NotGguf)?;
    if magic != b"GGUF" {
        return Err(Problem::NotGguf);
    }
    match reader.u32()? {
        2 | 3 => {}
        1 => {
            return Err(Problem::Version(
                "version 1, whose lengths have another width".to_owned(),
            ));
        }
        other if other.swap_bytes() < 1 << 16 => return Err(Problem::Version("a big-endian file".to_owned())),
        other => return Err(Problem::Version(format!("version {other}; 2 and 3 are read"))),
    }
    let (tensors, entries) = (reader.u64()?, reader.u64()?);
    // The least that an entry and a tensor take: counts that cannot be true are told as such.
    if entries.saturating_mul(13).saturating_add(tensors.saturating_mul(24)) > reader.left() {
        return Err(Problem::Damaged(format!(
            "it speaks of {tensors} tensors and {entries} metadata entries, more than the file can hold"
        )));
    }
    let mut metadata = BTreeMap::new();
    for number in 0..entries {
        let place = |problem: Problem| problem.within(&format!("metadata entry {number}"));
        let key = reader.text(NAME_LIMIT).map_err(place)?;
        let value = value(reader).map_err(|problem| problem.within(&key))?;
        if metadata.contains_key(&key) {
            return Err(Problem::Damaged(format!("the key {key} is there twice")));
        }
        metadata.insert(key, value);
    }
    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(Value::Integer(value)) if *value > 0 && *value <= 1 << 20 && (*value as u64).is_power_of_two() => {
            *value as u64
        }
        Some(value) => {
            return Err(Problem::Damaged(format!(
                "general.alignment is {value}, no power of two"
            )));
        }
    };
    let mut found = Vec::new();
    for number in 0..tensors {
        let place = |problem: Problem| problem.within(&format!("tensor {number}"));
        let name = reader.text(NAME_LIMIT).map_err(place)?;
        let tensor = tensor(reader, &name, alignment).map_err(|problem| problem.within(&format!("tensor {name}")))?;
        found.push((name, tensor));
    }
    let start = reader.position().next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for (name, mut tensor) in found {
        let end = start
            .checked_add(tensor.offset)
            .and_then(|from| from.checked_add(tensor.length));
        match end {
            Some(end) if end <= length => tensor.offset += start,
            Some(end) => return Err(Problem::Truncated(end).within(&format!("tensor {name}"))),
            None => return Err(Problem::Damaged(format!("tensor {name} lies beyond any file"))),
        }
        if tensors.contains_key(&name) {
            return Err(Problem::Damaged(format!("the tensor {name} is there twice")));
        }
        tensors.insert(name, tensor);
    }
    Ok((metadata, tensors))
}

fn value(reader: &mut Reader) -> Result<Value, Problem> {
    match kind(reader)? {
        ValueKind::Text => Ok(Value::Text(reader.text(TEXT_LIMIT)?)),
        ValueKind::List => {
            let (kind, count) = (kind(reader)?, reader.u64()?);
            let offset = reader.position();
            walk(reader, kind, count, DEPTH_LIMIT)?;
            Ok(Value::List(List { kind, count, offset }))
        }
        kind => scalar(kind, reader)?.ok_or_else(|| Problem::Damaged("a value without a type".to_owned())),
    }
}

fn kind(reader: &mut Reader) -> Result<ValueKind, Problem> {
    let number = reader.u32()?;
    ValueKind::of(number).ok_or_else(|| Problem::Damaged(format!("a value of the unknown type {number}")))
}

fn scalar(kind: ValueKind, reader: &mut Reader) -> Result<Option<Value>, Problem> {
    Ok(Some(match kind {
        ValueKind::Unsigned(width) => Value::Integer(i128::from(reader.unsigned(width)?)),
        ValueKind::Signed(width) => {
            // The sign is that of the highest bit of `width` bytes.
            let spare = 64 - 8 * width as u32;
            Value::Integer(i128::from((reader.unsigned(width)? << spare) as i64 >> spare))
        }
        ValueKind::Float(4) => Value::Number(f64::from(f32::from_bits(reader.u32()?))),
        ValueKind::Float(_) => Value::Number(f64::from_bits(reader.u64()?)),
        ValueKind::Flag => match reader.unsigned(1)? {
            0 => Value::Flag(false),
            1 => Value::Flag(true),
            other => return Err(Problem::Damaged(format!("{other} is neither true nor false"))),
        },
        ValueKind::Text | ValueKind::List => return Ok(None),
    }))
}

/// Goes over the items of a list.
fn walk(reader: &mut Reader, kind: ValueKind, count: u64, depth: u32) -> Result<(), Problem> {
    if let Some(width) = kind.width() {
        return match count.checked_mul(width) {
            Some(bytes) => reader.skip(bytes),
            None => Err(Problem::Damaged(format!("a list of {count} items"))),
        };
    }
    if count.saturating_mul(8) > reader.left() {
        return Err(Problem::Damaged(format!(
            "a list of {count} items, more than the file can hold"
        )));
    }
    for _ in 0..count {
        if kind == ValueKind::Text {
            let length = reader.u64()?;
            reader.skip(length)?;
        } else if depth == 0 {
            return Err(Problem::Damaged("lists within lists within lists".to_owned()));
        } else {
            let (kind, count) = (self::kind(reader)?, reader.u64()?);
            walk(reader, kind, count, depth - 1)?;
        }
    }
    Ok(())
}

/// One entry of the tensors; its offset counts from where the data begin.
fn tensor(reader: &mut Reader, name: &str, alignment: u64) -> Result<TensorInfo, Problem> {
    let dimensions = reader.u32()?;
    if dimensions > 4 {
        return Err(Problem::Damaged(format!("{dimensions} dimensions")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        match reader.u64()? {
            size @ 1..=0x7FFF_FFFF => shape.push(size as usize),
            size => return Err(Problem::Damaged(format!("a dimension of {size}"))),
        }
    }
    shape.reverse();
    let number = reader.u32()?;
    let offset = reader.u64()?;
    let format = Format::of(number).ok_or_else(|| Problem::Format(name.to_owned(), Format::name_of(number)))?;
    let width = shape.last().copied().unwrap_or(1);
    if !width.is_multiple_of(format.block()) {
        let cause = format!("rows of {width} values do not divide into {} blocks", format.name());
        return Err(Problem::Damaged(cause));
    }
    let elements = shape
        .iter()
        .try_fold(1u64, |product, size| product.checked_mul(*size as u64));
    let length = elements.and_then(|elements| (elements / format.block() as u64).checked_mul(format.bytes() as u64));
    let length = length.ok_or_else(|| Problem::Damaged(format!("the shape {shape:?}")))?;
    if !offset.is_multiple_of(alignment) {
        return Err(Problem::Damaged(format!(
            "the offset {offset} is no multiple of {alignment}"
        )));
    }
    Ok(TensorInfo {
        format,
        shape,
        offset,
        length,
    })
}
