//! How a stage kind declares itself, once: parameters, ports, shape. Parsing, JSON Schema and documentation come from it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::stage::Stage;

/// How often a stage runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Needs nothing; once per combination of its own matrix.
    Source,
    /// Once per task of what it needs times its own matrix; keeps the columns of its first port's table and adds its own.
    Map,
    /// Once over all tasks of what it needs, or once per value of `per`.
    Reduce,
    /// `Map` or `Reduce`, as the parameter `shape` of each stage says; `Reduce` where it says nothing.
    Either,
}

impl Shape {
    /// The shape of a stage whose parameter `shape` is this text.
    #[must_use]
    pub fn chosen(self, text: Option<&str>) -> Self {
        match (self, text) {
            (Self::Either, Some("map")) => Self::Map,
            (Self::Either, _) => Self::Reduce,
            (fixed, _) => fixed,
        }
    }
}

/// A port of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortName {
    /// Its name, the key in `needs: { NAME: stage }`.
    pub name: &'static str,
    /// Whether something must be connected.
    pub required: bool,
}

/// Builds a resolved task from `with:` after substitution, or says all that is wrong with it.
pub type Build = fn(&Value, &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>>;

/// A stage kind.
#[derive(Clone, Copy)]
pub struct Declaration {
    /// The name in `uses:`.
    pub name: &'static str,
    /// The semantic version: raised whenever results change for the same inputs.
    pub version: u32,
    /// One sentence for the documentation.
    pub summary: &'static str,
    /// How often it runs.
    pub shape: Shape,
    /// Its ports, the first one filled by a bare `needs: NAME`.
    pub ports: &'static [PortName],
    /// Whether ports of any other name are welcome (`query`, `command`, figures).
    pub any_ports: bool,
    /// Names of its side outputs.
    pub side: &'static [&'static str],
    /// Whether rows may get other parameters by `cases`.
    pub cases: bool,
    /// Which of its parameters multiply tasks by themselves, as a variable of the matrix would.
    pub spread: Option<SpreadOf>,
    /// The JSON Schema of `with:` (generated from the parameter type).
    pub parameters: fn() -> Value,
    /// Builds a resolved task from `with:` after substitution.
    pub build: Build,
}

/// Finds the parameters that multiply tasks, in `with:` before substitution.
pub type SpreadOf = fn(&Value) -> Result<Option<Spread>, ParameterError>;

/// Parameters that stand for every value of a variable of the matrix: one task each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// The variable's name.
    pub variable: &'static str,
    /// Its values are 0, 1, .. `count - 1`.
    pub count: usize,
    /// The parameters that take the value, from `with:` down.
    pub places: Vec<Vec<PathPart>>,
}

impl fmt::Debug for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Declaration({})", self.name)
    }
}

/// A model of the pipeline's `models:`, as stages see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// The name under `models:`.
    pub name: String,
    /// Where it comes from: a directory, a `.gguf` file, `hf://org/name@revision`, `openai://model`.
    pub source: String,
    /// Labels, columns for every reader.
    pub labels: BTreeMap<String, Value>,
    /// Everything else that was said about it (adapter, file, chat_template, dtype, base_url, api_key_env, …).
    pub settings: Map<String, Value>,
}

/// What a task's stage may look up while it is built. It travels with the task, so that the task can be built and run by
/// another process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The project's root: paths in parameters are relative to it. A hint for finding files, never part of a key.
    pub root: Arc<PathBuf>,
    /// The pipeline's models by name, shared by all its tasks.
    pub models: Arc<BTreeMap<String, ModelSpec>>,
    /// The pipeline's `vars`, shared by all its tasks.
    pub vars: Arc<Map<String, Value>>,
    /// The values of this stage's own matrix variables for this task. Every task of a large pipeline has some: no map is
    /// made of them before one is asked for.
    pub matrix: Vec<MatrixValue>,
}

/// The value of a matrix variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatrixValue {
    /// The variable's name.
    pub name: Arc<str>,
    /// What the value is called: for a named map the name, else the value as text.
    pub text: Arc<str>,
    /// What `${matrix.NAME}` gives.
    pub value: Value,
}

impl Context {
    /// The values of the matrix by the names of its variables.
    pub fn matrix_values(&self) -> Map<String, Value> {
        let value = |one: &MatrixValue| (one.name.to_string(), one.value.clone());
        self.matrix.iter().map(value).collect()
    }

    /// What the value of a variable is called.
    pub fn matrix_name(&self, variable: &str) -> Option<&str> {
        let value = self.matrix.iter().find(|one| &*one.name == variable)?;
        Some(&value.text)
    }
}

/// A step of a path into parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPart {
    /// A key of a map.
    Key(String),
    /// An index of a list.
    Index(usize),
}

/// Something wrong with a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterError {
    /// Where, from the stage's `with:` down.
    pub path: Vec<PathPart>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl ParameterError {
    /// An error at a path of keys.
    pub fn at(path: &[&str], message: impl Into<String>) -> Self {
        let path = path.iter().map(|key| PathPart::Key((*key).to_owned())).collect();
        Self {
            path,
            message: message.into(),
            hint: None,
        }
    }

    /// Says what would be right.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Parses `with:` into a kind's parameter type. The type should `deny_unknown_fields` and have defaults for what may be
/// left out. Unknown keys, types and ranges are also checked against the JSON Schema by the compiler, all at once; this
/// reports the first error that is left.
///
/// # Errors
/// One error with the path of the value that does not fit.
pub fn parse_parameters<P: DeserializeOwned>(with: &Value) -> Result<P, Vec<ParameterError>> {
    let empty = Value::Object(Map::new());
    let value = if with.is_null() { &empty } else { with };
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                serde_path_to_error::Segment::Map { key } => Some(PathPart::Key(key.clone())),
                serde_path_to_error::Segment::Seq { index } => Some(PathPart::Index(*index)),
                _ => None,
            })
            .collect();
        vec![ParameterError {
            path,
            message: error.inner().to_string(),
            hint: None,
        }]
    })
}
