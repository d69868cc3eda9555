//! The texts that a judge sees: a column, a pair of columns, or a template over columns.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, LargeStringArray};
use fracture_stage::{Error, View};
use minijinja::{Environment, UndefinedBehavior, Value};

use super::parameters::TextParameter;
use crate::tokenize::Text;

/// Steps that rendering one text may take.
const FUEL: u64 = 100_000;

/// Where the texts come from.
#[derive(Debug)]
pub enum TextSource {
    /// A column.
    Column(String),
    /// A prompt and the response to it.
    Pair(String, String),
    /// A Jinja template over columns.
    Template {
        /// Holds the template.
        environment: Box<Environment<'static>>,
        /// The columns that it names.
        columns: BTreeSet<String>,
    },
}

const TEMPLATE: &str = "text";

impl TextSource {
    /// The source that a parameter names.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub fn parse(parameter: &TextParameter) -> Result<Self, String> {
        match parameter {
            TextParameter::Column(text) if text.contains("{{") || text.contains("{%") => {
                let mut environment = Environment::new();
                environment.set_undefined_behavior(UndefinedBehavior::Strict);
                environment.set_fuel(Some(FUEL));
                environment
                    .add_template_owned(TEMPLATE, text.clone())
                    .map_err(|error| format!("the template can not be parsed: {error}"))?;
                let template = environment.get_template(TEMPLATE).map_err(|error| error.to_string())?;
                let columns = template.undeclared_variables(false).into_iter().collect();
                Ok(Self::Template {
                    environment: Box::new(environment),
                    columns,
                })
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

    /// The texts of all rows; `None` where a column is null.
    ///
    /// # Errors
    /// When a column can not be read as text, or the template fails for a row.
    pub fn texts(&self, view: &View) -> Result<Vec<Option<Text>>, Error> {
        match self {
            Self::Column(column) => {
                let values = view.text(column)?;
                Ok(values
                    .iter()
                    .map(|value| value.map(|text| Text::One(text.to_owned())))
                    .collect())
            }
            Self::Pair(prompt, response) => {
                let (prompts, responses) = (view.text(prompt)?, view.text(response)?);
                let pair = |(prompt, response): (Option<&str>, Option<&str>)| {
                    Some(Text::Pair {
                        prompt: prompt?.to_owned(),
                        response: response?.to_owned(),
                    })
                };
                Ok(prompts.iter().zip(responses.iter()).map(pair).collect())
            }
            Self::Template { environment, columns } => {
                let values: BTreeMap<&str, LargeStringArray> = columns
                    .iter()
                    .map(|name| Ok((name.as_str(), view.text(name)?)))
                    .collect::<Result<_, Error>>()?;
                (0..view.rows()).map(|row| render(environment, &values, row)).collect()
            }
        }
    }
}

fn render(
    environment: &Environment<'_>,
    columns: &BTreeMap<&str, LargeStringArray>,
    row: usize,
) -> Result<Option<Text>, Error> {
    if columns.values().any(|values| values.is_null(row)) {
        return Ok(None);
    }
    let told =
        |error: minijinja::Error| Error::task(format!("the template of `text:` fails for row {row}")).cause(error);
    let values = Value::from_pairs(
        columns
            .iter()
            .map(|(name, values)| (*name, Value::from(values.value(row)))),
    );
    let template = environment.get_template(TEMPLATE).map_err(told)?;
    Ok(Some(Text::One(template.render(values).map_err(told)?)))
}

/// The bytes by which the row memo knows a text: a kind, then each part with its length.
pub fn key(text: &Text) -> Vec<u8> {
    let mut key = Vec::new();
    let mut part = |text: &str| {
        key.extend((text.len() as u64).to_le_bytes());
        key.extend(text.as_bytes());
    };
    match text {
        Text::One(text) => part(text),
        Text::Pair { prompt, response } => {
            part(prompt);
            part(response);
        }
    }
    key
}
