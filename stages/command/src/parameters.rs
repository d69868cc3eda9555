//! What `with:` of a `command` stage may say.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::time::Duration;

use fracture_stage::declaration::PathPart;
use fracture_stage::{ParameterError, YieldType, parse_parameters};
use fracture_table::Format;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Variables that every program gets; none of them can be listed.
pub const GIVEN: [&str; 4] = ["IN", "OUT", "PATH", "TMPDIR"];

/// A user's own program as a stage.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The program and its arguments; no shell reads them. A program without `/` is looked up on PATH, one with `/` is a
    /// file that `files` lists. Which version of it PATH finds is not part of what makes the result the same.
    #[schemars(length(min = 1))]
    pub run: Vec<Argument>,
    /// Files and folders, relative to the project's root, that the program may read: they lie under the same relative path
    /// in the folder in which it runs, and count by content.
    #[serde(default)]
    pub files: Vec<String>,
    /// How often it runs: `reduce`, once over all tasks of what it needs (or once per value of `per`), and gives a table of
    /// its own; `map`, once per task of what it needs, and gives the columns that it adds to that task's table, a row for
    /// each row in the same order, or with a column `_parent` that says which row (from 0) each comes from.
    #[serde(default)]
    pub shape: CommandShape,
    /// The format of the tables in `$IN`, one file per port: `$IN/PORT.arrow`, `$IN/PORT.csv` and so on. Their columns come
    /// in the order of the names, constants of the tasks included.
    #[serde(default)]
    pub reads: TableFormat,
    /// The columns of the result (with `shape: map` those that it adds) with their types; without it, checks of what
    /// follows wait for the result.
    #[serde(default)]
    pub yields: Option<BTreeMap<String, YieldType>>,
    /// Columns that, beside `item` and `axis`, tell which rows belong together.
    #[serde(default)]
    pub keys: Vec<String>,
    /// After this time the program and what it started are killed: seconds, or a text such as `90s`, `2m`, `1h`.
    #[serde(default)]
    pub timeout: Option<Timeout>,
    /// Names of environment variables that are passed on; all others but PATH are cleared. The names count, the values do
    /// not, and no message shows a value.
    #[serde(default)]
    pub env: Vec<String>,
}

/// One argument: a text, or a number or flag, which is written out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub struct Argument(pub String);

impl TryFrom<Value> for Argument {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) if text.contains('\0') => Err("an argument can not hold a zero byte".to_owned()),
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::Bool(flag) => Ok(Self(flag.to_string())),
            other => Err(format!("found {other}, expected a text, a number or a flag")),
        }
    }
}

impl JsonSchema for Argument {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Argument".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// How long a program may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub struct Timeout(pub Duration);

impl TryFrom<Value> for Timeout {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let seconds = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => seconds(text),
            _ => None,
        };
        seconds
            .filter(|seconds| *seconds > 0.0)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(Self)
            .ok_or_else(|| format!("found {value}, expected seconds, or a text such as `90s`, `2m`, `1h`"))
    }
}

fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let (digits, scale) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(digits) if text.ends_with('m') => (digits, 60.0),
        Some(digits) if text.ends_with('h') => (digits, 3600.0),
        Some(digits) => (digits, 1.0),
        None => (text, 1.0),
    };
    digits.trim().parse::<f64>().ok().map(|number| number * scale)
}

impl JsonSchema for Timeout {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timeout".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "string"] })
    }
}

/// How often a command runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CommandShape {
    /// Once over all tasks of what it needs.
    #[default]
    Reduce,
    /// Once per task of what it needs, to whose table it adds columns.
    Map,
}

/// The format of the tables that a program reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    /// Arrow IPC files, uncompressed.
    #[default]
    Arrow,
    /// Parquet.
    Parquet,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

impl TableFormat {
    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }

    /// The format in which such a file is written.
    pub fn written(self) -> Format {
        match self {
            Self::Arrow => Format::Arrow,
            Self::Parquet => Format::Parquet,
            Self::Csv => Format::Csv,
            Self::Jsonl => Format::Jsonl,
        }
    }
}

impl Parameters {
    /// Reads `with:` and brings lists whose order says nothing into one order.
    ///
    /// # Errors
    /// All that is wrong, each with its place.
    pub fn read(with: &Value) -> Result<Self, Vec<ParameterError>> {
        let mut parameters: Self = parse_parameters(with)?;
        let mut errors = Vec::new();
        if parameters.run.first().is_none_or(|program| program.0.is_empty()) {
            errors.push(ParameterError::at(&["run"], "`run` names no program").hint("say `run: [python3, filter.py]`"));
        }
        for (index, path) in parameters.files.iter_mut().enumerate() {
            match relative(path) {
                Ok(plain) => *path = plain,
                Err((message, hint)) => errors.push(at("files", index, message).hint(hint)),
            }
        }
        for (index, name) in parameters.env.iter().enumerate() {
            if GIVEN.contains(&name.as_str()) {
                let message = format!("every program gets `{name}`");
                errors.push(at("env", index, message).hint("remove it from the list"));
            } else if name.is_empty() || name.contains(['=', '\0']) {
                let message = format!(
                    "`{}` is no name of a variable",
                    name.split('=').next().unwrap_or_default()
                );
                errors.push(at("env", index, message).hint("list names alone; values come from your own environment"));
            }
        }
        parameters.files.sort();
        parameters.files.dedup();
        errors.extend(parameters.unlisted());
        parameters.env.sort();
        parameters.env.dedup();
        if errors.is_empty() { Ok(parameters) } else { Err(errors) }
    }

    /// A program of the project that no path of `files` brings to where it runs.
    fn unlisted(&self) -> Option<ParameterError> {
        let Argument(program) = self.run.first()?;
        let plain = relative(program).ok().filter(|_| program.contains('/'))?;
        if self.files.iter().any(|path| Path::new(&plain).starts_with(path)) {
            return None;
        }
        let error = at("run", 0, format!("`{program}` is no file that `files` lists"));
        Some(error.hint(format!("a program of the project is listed: `files: [{plain}]`")))
    }

    /// The command line as people read it, cut where it is long.
    pub fn shown(&self) -> String {
        const LONGEST: usize = 100;
        let words: Vec<&str> = self.run.iter().map(|word| word.0.as_str()).collect();
        let line = words.join(" ").replace(['\n', '\r'], " ");
        match line.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{} …", &line[..end]),
            None => line,
        }
    }
}

fn at(list: &str, index: usize, message: String) -> ParameterError {
    let mut error = ParameterError::at(&[list], message);
    error.path.push(PathPart::Index(index));
    error
}

/// A path that stays inside the folder it is put into, without `./`; else what is wrong and what to do.
fn relative(path: &str) -> Result<String, (String, &'static str)> {
    if path.contains(['*', '?']) {
        return Err((
            format!("`{path}`: patterns are not in this version"),
            "name the folder: all of it is taken",
        ));
    }
    let mut parts = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::CurDir => {}
            _ => parts.clear(),
        }
    }
    let leads_outside = Path::new(path)
        .components()
        .any(|component| !matches!(component, Component::Normal(_) | Component::CurDir));
    if leads_outside || path.starts_with('~') || parts.is_empty() || path.contains('\0') {
        let hint = "paths are relative to the project's root and stay below it";
        return Err((format!("`{path}` is no path inside the project"), hint));
    }
    Ok(parts.join("/"))
}
