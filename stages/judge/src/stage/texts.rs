//! The texts that a judge sees: a column, a pair of columns, or a template over columns.

use std::borrow::Cow;
use std::collections::BTreeSet;

use arrow::array::{Array, LargeStringArray};
use fracture_generate::jinja::{Failure, Jinja};
use fracture_stage::{Error, View};
use minijinja::Value;

use super::parameters::TextParameter;
use crate::jinja;
use crate::tokenize::Text;

/// Where the texts come from.
#[derive(Debug)]
pub enum TextSource {
    /// A column.
    Column(String),
    /// A prompt and the response to it.
    Pair(String, String),
    /// A Jinja template over columns.
    Template {
        /// The template.
        jinja: Box<Jinja>,
        /// The columns that it names.
        columns: BTreeSet<String>,
    },
}

const TEMPLATE: &str = "text";
/// The columns that hold what a model answered, the first that a template names: where that is empty, so is the text.
const RESPONSES: [&str; 2] = ["completion", "response"];

impl TextSource {
    /// The source that a parameter names.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub fn parse(parameter: &TextParameter) -> Result<Self, String> {
        match parameter {
            TextParameter::Column(text) if text.contains("{{") || text.contains("{%") => {
                let jinja = Box::new(jinja::template(TEMPLATE, text)?);
                let columns = jinja.variables(false).map_err(|failure| failure.to_string())?;
                Ok(Self::Template { jinja, columns })
            }
            TextParameter::Column(column) => Ok(Self::Column(column.clone())),
            TextParameter::Pair([prompt, response]) => Ok(Self::Pair(prompt.clone(), response.clone())),
        }
    }

    /// The columns that are read, sorted.
    pub fn columns(&self) -> BTreeSet<String> {
        match self {
            Self::Column(column) => [column.clone()].into(),
            Self::Pair(prompt, response) => [prompt.clone(), response.clone()].into(),
            Self::Template { columns, .. } => columns.clone(),
        }
    }

    /// The column of what a model answered: that of the text, the second of a pair, `completion` or `response` in a
    /// template.
    pub fn response(&self) -> Option<&str> {
        match self {
            Self::Column(column) => Some(column),
            Self::Pair(_, response) => Some(response),
            Self::Template { columns, .. } => RESPONSES.into_iter().find(|name| columns.contains(*name)),
        }
    }

    /// The text of a row of a stretch of the columns [`Self::columns`]; `None` where there is none: a null column or part of
    /// a pair, or a template over an answer that is null. Other nulls are a template's own affair (`none`). `first` is the
    /// number of the stretch's first row.
    ///
    /// # Errors
    /// When the template fails for that row.
    pub fn at<'a>(&self, columns: &'a [LargeStringArray], row: usize, first: usize) -> Result<Option<Seen<'a>>, Error> {
        let null = |values: &LargeStringArray| values.is_null(row);
        let answer = match self {
            Self::Template { columns: names, .. } => self
                .response()
                .and_then(|response| names.iter().position(|name| name == response)),
            Self::Column(_) | Self::Pair(..) if columns.iter().any(null) => return Ok(None),
            Self::Column(_) | Self::Pair(..) => None,
        };
        let answer = answer.and_then(|place| columns.get(place));
        if answer.is_some_and(null) {
            return Ok(None);
        }
        Ok(Some(match self {
            Self::Column(_) => Seen::One(Cow::Borrowed(columns[0].value(row))),
            // The columns are sorted by name and each is there once.
            Self::Pair(prompt, response) => {
                let last = columns.len() - 1;
                let (first, second) = if prompt <= response { (0, last) } else { (last, 0) };
                Seen::Pair(columns[first].value(row), columns[second].value(row))
            }
            Self::Template { jinja, columns: names } => Seen::Rendered {
                text: render(jinja, names, columns, row, first)?,
                blank: answer.is_some_and(|values| values.value(row).trim().is_empty()),
            },
        }))
    }

    /// The texts of all rows of a table, `None` where there is none ([`Self::at`]).
    ///
    /// # Errors
    /// When a column can not be read or the template fails for a row.
    pub fn texts(&self, view: &View) -> Result<Vec<Option<Text>>, Error> {
        self.texts_that(view, |_| true)
    }

    /// The texts of all rows of a table, `None` where there is none or it is not wanted.
    ///
    /// # Errors
    /// As [`Self::texts`].
    pub fn texts_that(&self, view: &View, wanted: impl Fn(&Seen<'_>) -> bool) -> Result<Vec<Option<Text>>, Error> {
        let names = self.columns();
        let columns = names
            .iter()
            .map(|name| view.text(name))
            .collect::<Result<Vec<_>, _>>()?;
        (0..view.rows())
            .map(|row| Ok(self.at(&columns, row, 0)?.filter(&wanted).map(|seen| seen.to_text())))
            .collect()
    }
}

/// The bytes by which the row memo knows a text.
pub fn key(text: &Text) -> Vec<u8> {
    let mut key = Vec::new();
    Seen::of(text).write_key(&mut key);
    key
}

/// A text as it lies in the columns.
#[derive(Debug)]
pub enum Seen<'a> {
    /// One text.
    One(Cow<'a, str>),
    /// A prompt and the response to it.
    Pair(&'a str, &'a str),
    /// What a template made of its columns.
    Rendered {
        /// The text.
        text: String,
        /// Whether the answer in it is empty or blank.
        blank: bool,
    },
}

impl<'a> Seen<'a> {
    /// A text that was copied before.
    pub fn of(text: &'a Text) -> Self {
        match text {
            Text::One(text) => Self::One(Cow::Borrowed(text)),
            Text::Pair { prompt, response } => Self::Pair(prompt, response),
        }
    }

    /// Whether there is nothing to judge.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::One(text) => text.trim().is_empty(),
            Self::Pair(_, response) => response.trim().is_empty(),
            Self::Rendered { text, blank } => *blank || text.trim().is_empty(),
        }
    }

    /// Appends the bytes by which the row memo knows the text: each part with its length.
    pub fn write_key(&self, key: &mut Vec<u8>) {
        match self {
            Self::One(text) => part(key, text),
            Self::Rendered { text, .. } => part(key, text),
            Self::Pair(prompt, response) => {
                part(key, prompt);
                part(key, response);
            }
        }
    }

    /// The text for the judge.
    pub fn to_text(&self) -> Text {
        match self {
            Self::One(text) => Text::One(text.to_string()),
            Self::Rendered { text, .. } => Text::One(text.clone()),
            Self::Pair(prompt, response) => Text::Pair {
                prompt: (*prompt).to_owned(),
                response: (*response).to_owned(),
            },
        }
    }
}

fn render(
    jinja: &Jinja,
    names: &BTreeSet<String>,
    columns: &[LargeStringArray],
    row: usize,
    first: usize,
) -> Result<String, Error> {
    let values = Value::from_pairs(names.iter().zip(columns).map(|(name, values)| {
        let value = values.is_valid(row).then(|| values.value(row));
        (name.as_str(), Value::from(value))
    }));
    jinja.render(values).map_err(|failure| {
        let error = Error::task(format!("the template of `text:` fails for row {}", first + row));
        match failure {
            Failure::Template(cause) => error.cause(cause),
            Failure::Exceeded(limit) => error.cause(limit),
        }
    })
}

/// A part of the bytes by which the row memo knows a text: its length and itself.
fn part(key: &mut Vec<u8>, text: &str) {
    key.extend((text.len() as u64).to_le_bytes());
    key.extend(text.as_bytes());
}

#[cfg(test)]
mod tests;
