//! Texts that pipelines come from and places in them.

use std::fmt;
use std::sync::{Arc, OnceLock};

/// A text with the name that people know it by: a path, or `--set vars.harm=9`.
#[derive(Debug)]
pub struct Source {
    /// The name shown before `line:column`.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// Where it is included, when it is.
    pub included: Option<Mark>,
    /// Where its lines begin, once that was asked.
    lines: OnceLock<Vec<usize>>,
}

impl Source {
    /// A text with its name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            included: None,
            lines: OnceLock::new(),
        }
    }

    /// The same text, included at a place.
    #[must_use]
    pub fn included_at(self, place: Option<&Mark>) -> Self {
        Self {
            included: place.cloned(),
            ..self
        }
    }

    /// Where its lines begin, the first at 0.
    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let ends = self.text.match_indices('\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(ends).collect()
        })
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.text == other.text
    }
}

impl Eq for Source {}

/// A place as people and programs write it; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A range of bytes of a source, and for a value that came through a substitution the place where it was defined.
#[derive(Clone)]
pub struct Mark {
    /// The text.
    pub source: Arc<Source>,
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
    /// Where the value was defined, when it was used elsewhere.
    pub origin: Option<Arc<Mark>>,
}

impl Mark {
    /// A range of a source.
    pub fn new(source: &Arc<Source>, start: usize, end: usize) -> Self {
        Self {
            source: Arc::clone(source),
            start,
            end,
            origin: None,
        }
    }

    /// This place as the place of use of what was defined at `definition`.
    #[must_use]
    pub fn defined_at(&self, definition: &Mark) -> Self {
        Self {
            origin: Some(Arc::new(definition.clone())),
            ..self.clone()
        }
    }

    /// The marked text.
    pub fn text(&self) -> &str {
        self.source.text.get(self.start..self.end).unwrap_or_default()
    }

    /// The part of this mark that holds `needle`, or all of it when that can not be told (escapes, folded lines).
    #[must_use]
    pub fn narrow(&self, needle: &str) -> Self {
        match self.text().find(needle) {
            Some(offset) => {
                let start = self.start + offset;
                Self {
                    start,
                    end: start + needle.len(),
                    ..self.clone()
                }
            }
            None => self.clone(),
        }
    }

    /// Where it begins.
    pub fn location(&self) -> Location {
        let before = self.source.text.get(..self.start).unwrap_or_default();
        let line = self
            .source
            .lines()
            .partition_point(|begin| *begin <= before.len())
            .max(1);
        let begin = self.source.lines()[line - 1];
        Location {
            file: self.source.name.clone(),
            line,
            column: before.get(begin..).unwrap_or_default().chars().count() + 1,
        }
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.location())
    }
}
