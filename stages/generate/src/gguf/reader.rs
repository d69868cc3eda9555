//! Reading a header piece by piece, never beyond what the file has, and telling what is wrong with it.

use fracture_stage::Error;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// What is wrong with a file.
#[derive(Debug)]
pub enum Problem {
    /// It does not begin like one.
    NotGguf,
    /// It is of a version that is not read.
    Version(String),
    /// It should be this long at least, in bytes.
    Truncated(u64),
    /// The header would not end before the limit.
    Endless(u64),
    /// It says something that cannot be.
    Damaged(String),
    /// A tensor is stored in a way that is not read.
    Format(String, String),
    /// The file could not be read.
    Io(std::io::Error),
    /// Where in the header.
    Within(String, Box<Problem>),
}

impl Problem {
    /// Says where it happened.
    pub fn within(self, place: &str) -> Self {
        match self {
            Self::Truncated(_) | Self::Damaged(_) => Self::Within(place.to_owned(), Box::new(self)),
            other => other,
        }
    }

    /// The error for the user.
    pub fn told(self, path: &Path, length: u64) -> Error {
        const AGAIN: &str = "fetch the file again";
        let shown = path.display();
        match self {
            Self::NotGguf => Error::input(format!("{shown}: no GGUF file"))
                .cause("it does not begin with the letters GGUF")
                .hint("name a model in the GGUF format, or fetch the file again"),
            Self::Version(what) => Error::input(format!("{shown}: a GGUF file that this version cannot read"))
                .cause(what)
                .hint("convert the model with a llama.cpp of 2024 or later, to little-endian"),
            Self::Truncated(needed) => Error::input(format!("{shown}: truncated GGUF file"))
                .cause(format!("its header speaks of {needed} bytes, the file has {length}"))
                .hint("fetch the file again; the download was cut short"),
            Self::Endless(limit) => Error::input(format!("{shown}: damaged GGUF header"))
                .cause(format!("it is longer than {} MB", limit >> 20))
                .hint(AGAIN),
            Self::Damaged(cause) => Error::input(format!("{shown}: damaged GGUF header"))
                .cause(cause)
                .hint(AGAIN),
            Self::Format(tensor, format) => Error::input(format!(
                "{shown}: tensor {tensor} is stored as {format}, which is not supported"
            ))
            .hint("F32, F16, BF16, Q8_0, Q4_0, Q5_0, Q4_K, Q5_K and Q6_K are; quantise the model to one of these"),
            Self::Io(cause) => Error::input(format!("{shown}: cannot be read")).cause(cause),
            Self::Within(place, inner) => {
                let mut error = inner.told(path, length);
                if let Some(cause) = error.causes.first_mut() {
                    *cause = format!("{place}: {cause}");
                }
                error
            }
        }
    }
}

/// A file from its start, with what is left of it.
#[derive(Debug)]
pub struct Reader {
    input: BufReader<File>,
    position: u64,
    length: u64,
    limit: u64,
}

impl Reader {
    /// From the start of a file of `length` bytes; reading beyond `limit` is an error.
    pub fn new(file: File, length: u64, limit: u64) -> Self {
        Self {
            input: BufReader::with_capacity(1 << 16, file),
            position: 0,
            length,
            limit,
        }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes that may still be read.
    pub fn left(&self) -> u64 {
        self.length.min(self.limit) - self.position
    }

    fn advance(&mut self, count: u64) -> Result<(), Problem> {
        match self.position.checked_add(count) {
            Some(end) if end <= self.length.min(self.limit) => {
                self.position = end;
                Ok(())
            }
            Some(end) if end > self.length => Err(Problem::Truncated(end)),
            Some(_) => Err(Problem::Endless(self.limit)),
            None => Err(Problem::Damaged(format!("a length of {count}"))),
        }
    }

    /// Goes over `count` bytes.
    pub fn skip(&mut self, count: u64) -> Result<(), Problem> {
        self.advance(count)?;
        // A file has less than i64::MAX bytes, and `count` is within it.
        self.input.seek_relative(count as i64).map_err(Problem::Io)
    }

    /// `count` bytes, which the file has.
    pub fn bytes(&mut self, count: u64) -> Result<Vec<u8>, Problem> {
        self.advance(count)?;
        let mut bytes = vec![0; count as usize];
        self.input.read_exact(&mut bytes).map_err(Problem::Io)?;
        Ok(bytes)
    }

    /// An integer of `width` bytes, at most 8.
    pub fn unsigned(&mut self, width: u64) -> Result<u64, Problem> {
        self.advance(width)?;
        let mut bytes = [0; 8];
        self.input
            .read_exact(&mut bytes[..width as usize])
            .map_err(Problem::Io)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// An integer of four bytes.
    pub fn u32(&mut self) -> Result<u32, Problem> {
        Ok(self.unsigned(4)? as u32)
    }

    /// An integer of eight bytes.
    pub fn u64(&mut self) -> Result<u64, Problem> {
        self.unsigned(8)
    }

    /// A text with its length before it.
    pub fn text(&mut self, limit: u64) -> Result<String, Problem> {
        let length = self.u64()?;
        if length > self.left() {
            return Err(match self.position.checked_add(length) {
                Some(end) if end > self.length => Problem::Truncated(end),
                _ => Problem::Damaged(format!("a text of {length} bytes")),
            });
        }
        if length > limit {
            return Err(Problem::Damaged(format!("a text of {length} bytes")));
        }
        String::from_utf8(self.bytes(length)?).map_err(|_| Problem::Damaged("a text that is no UTF-8".to_owned()))
    }
}
