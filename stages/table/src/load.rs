//! The stage kind `load`: a file, or several of one form, as a table.

mod columns;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, LargeStringArray, UInt32Array};
use arrow::record_batch::RecordBatch;
use fracture_cache::ColumnType;
use fracture_stage::schema::Completeness;
use fracture_stage::{
    Context, Declaration, Error, Field, FileUse, Files, Inputs, Kind, Manifest, Open, Outputs, ParameterError, Port,
    Product, Role, Schema, Schemas, Shape, Stage, Whole, Work, parse_parameters,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::columns::{Column, matching, stacked};
use crate::normal;
use crate::query::{Condition, filter};
use crate::read::FileFormat;

const KIND: Kind = Kind {
    name: "load",
    version: 1,
};

/// Of the file, this much is read to plan.
const HEAD: usize = 64 * 1024;

/// Columns that every table has; a file without them gets these.
const GIVEN: [(&str, ColumnType); 3] = [
    ("axis", ColumnType::Text),
    ("sample", ColumnType::U32),
    ("draw", ColumnType::U32),
];

/// Identity columns are text whatever they look like, so that two tables agree on them.
const NAMES: [&str; 3] = ["item", "axis", "regime"];

/// A table from a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The file, relative to the project's root; `*` and `?` in its name take all files of the folder that fit, sorted.
    pub path: String,
    /// Its format; by default its ending tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// Columns to rename, `NEW: OLD`, or to read in their own way, `NEW: { from: OLD, type: flag, map: { VALUE: ... } }`;
    /// the others stay as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, Column>,
    /// Columns that, beside `item` and `axis`, tell which rows belong together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Takes the first rows only, of those that `where` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub limit: Option<u64>,
    /// A condition in SQL over the renamed columns: takes the rows for which it holds.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// How the kind declares itself.
pub fn declaration() -> Declaration {
    Declaration {
        name: KIND.name,
        version: KIND.version,
        summary: "Loads a table from a file (CSV, JSON lines, Parquet, Arrow).",
        shape: Shape::Source,
        ports: &[],
        any_ports: false,
        side: &[],
        cases: false,
        spread: None,
        parameters: || schemars::schema_for!(Parameters).to_value(),
        build: |with, _context: &Context| Ok(Box::new(Load::new(with)?)),
    }
}

/// A resolved `load` task.
#[derive(Debug, Clone)]
struct Load {
    parameters: Parameters,
    format: FileFormat,
    condition: Option<Condition>,
}

impl Load {
    fn new(with: &Value) -> Result<Self, Vec<ParameterError>> {
        let parameters: Parameters = parse_parameters(with)?;
        let mut errors = Vec::new();
        let format = parameters.format.or_else(|| FileFormat::of(&parameters.path));
        if format.is_none() {
            let message = format!("the ending of `{}` does not tell its format", parameters.path);
            errors.push(
                ParameterError::at(&["path"], message).hint("say `format: csv`, `tsv`, `jsonl`, `parquet` or `arrow`"),
            );
        }
        let (folder, _) = split(&parameters.path);
        if folder.contains(['*', '?']) {
            errors.push(
                ParameterError::at(&["path"], "a pattern may stand for the names of files, not of folders")
                    .hint("for example `scores/*.csv`"),
            );
        }
        for (name, column) in &parameters.columns {
            if let Some(problem) = column.problem() {
                errors.push(ParameterError::at(&["columns", name, "map"], problem));
            }
        }
        if parameters.limit == Some(0) {
            errors.push(ParameterError::at(&["limit"], "`limit` must be at least 1"));
        }
        let condition = parameters.filter.as_deref().map(Condition::read).transpose();
        let condition = condition.map_err(|error| errors.push(ParameterError::at(&["where"], error)));
        match (format, condition) {
            (Some(format), Ok(condition)) if errors.is_empty() => Ok(Self {
                parameters,
                format,
                condition,
            }),
            _ => Err(errors),
        }
    }

    fn blame(&self, error: Error) -> Error {
        let error = error.context(format!("`{}` can not be loaded", self.parameters.path));
        // What is wrong with a file's content is shown at its path, unless another parameter is to blame.
        if error.parameter.is_empty() {
            error.parameter(&["path"])
        } else {
            error
        }
    }

    /// The files by what they are to the stage: one, or all that fit the pattern.
    fn files(&self, files: &dyn Files) -> Result<Vec<(String, PathBuf)>, Error> {
        let (folder, name) = split(&self.parameters.path);
        if !name.contains(['*', '?']) {
            let path = files.locate(&self.parameters.path);
            files.size(&path).ok_or_else(|| {
                self.blame(Error::input("there is no such file"))
                    .hint("paths are relative to the project's root")
            })?;
            return Ok(vec![("file".to_owned(), path)]);
        }
        let place = files.locate(if folder.is_empty() { "." } else { folder });
        let names = files.list(&place).unwrap_or_default();
        let found: Vec<(String, PathBuf)> = matching(name, names)
            .into_iter()
            .map(|name| (format!("file/{name}"), place.join(name)))
            .filter(|(_, path)| files.size(path).is_some())
            .collect();
        match found.is_empty() {
            true => Err(self
                .blame(Error::input("no file fits the pattern"))
                .hint("paths are relative to the project's root; `*` stands for any part of a name")),
            false => Ok(found),
        }
    }

    /// The name that a column of the file gets.
    fn renamed(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let mut renamed = names.to_vec();
        for (new, column) in &self.parameters.columns {
            let old = column.source(new);
            let at = names.iter().position(|name| name == old).ok_or_else(|| {
                Error::input(format!("`columns` names `{old}`, which the file does not have"))
                    .parameter(&["columns", new])
                    .hint(format!("its columns are {}", names.join(", ")))
            })?;
            if renamed[at] != names[at] {
                let message = format!("`{}` and `{new}` are both made from `{old}`", renamed[at]);
                return Err(Error::input(message).parameter(&["columns", new]));
            }
            renamed[at].clone_from(new);
        }
        match renamed
            .iter()
            .enumerate()
            .find(|(at, name)| renamed[..*at].contains(name))
        {
            Some((_, twice)) => Err(Error::input(format!("two columns would have the name `{twice}`"))
                .hint("give the file's own one another name by `columns`")),
            None => Ok(renamed),
        }
    }

    /// The columns of one file, renamed.
    fn columns_of(&self, bytes: &[u8]) -> Result<Vec<(String, ArrayRef)>, Error> {
        let read = self.format.read(bytes)?;
        let schema = read.schema();
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let columns = self.renamed(&names)?.into_iter().zip(read.columns().iter().cloned());
        Ok(columns.collect())
    }

    fn table(&self, mut columns: Vec<(String, ArrayRef)>) -> Result<RecordBatch, Error> {
        for (name, column) in &mut columns {
            if let Some(parameter) = self.parameters.columns.get(name) {
                *column = parameter.make(name, column)?;
            }
        }
        let rows = columns.first().map_or(0, |(_, column)| column.len());
        let mut table = normal::table(columns, rows)?;
        if let Some(condition) = &self.parameters.filter {
            table = filter(&table, condition)?;
        }
        if let Some(limit) = self.parameters.limit {
            table = table.slice(0, table.num_rows().min(usize::try_from(limit).unwrap_or(usize::MAX)));
        }
        if table.num_rows() == 0 {
            return Err(Error::input("no row is left").hint("look at `where` and at the file"));
        }
        if let Some(key) = self
            .parameters
            .keys
            .iter()
            .find(|key| table.column_by_name(key).is_none())
        {
            return Err(Error::input(format!(
                "`keys` names `{key}`, which the table does not have"
            )));
        }
        completed(&table)
    }
}

/// Identity columns in their types, and those that every table has.
fn completed(table: &RecordBatch) -> Result<RecordBatch, Error> {
    let rows = table.num_rows();
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (field, column) in table.schema().fields().iter().zip(table.columns()) {
        let kind = identity(field.name());
        let column = kind.map_or_else(
            || Ok(Arc::clone(column)),
            |kind| normal::cast(field.name(), column, kind),
        )?;
        columns.push((field.name().clone(), column));
    }
    for (name, kind) in GIVEN {
        if table.column_by_name(name).is_none() {
            let column: ArrayRef = match kind {
                ColumnType::Text => Arc::new(LargeStringArray::from(vec!["all"; rows])),
                _ => Arc::new(UInt32Array::from(vec![0; rows])),
            };
            columns.push((name.to_owned(), column));
        }
    }
    normal::table(columns, rows)
}

/// The type of an identity column.
fn identity(name: &str) -> Option<ColumnType> {
    let given = GIVEN.iter().find(|(given, _)| *given == name).map(|(_, kind)| *kind);
    given.or_else(|| NAMES.contains(&name).then_some(ColumnType::Text))
}

/// The folder and the name of a path.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Load {
    /// The columns that the beginning of a file shows, renamed, and whether these are all.
    fn fields(&self, path: &Path, files: &dyn Files) -> Result<(Vec<Field>, bool), Error> {
        let head = files.head(path, HEAD)?;
        let whole = files.size(path).is_some_and(|size| size <= head.len() as u64);
        let (mut fields, exact) = self.format.columns(&head, whole);
        let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
        match self.renamed(&names) {
            Ok(renamed) => fields
                .iter_mut()
                .zip(renamed)
                .for_each(|(field, name)| field.name = name),
            Err(error) if exact => return Err(self.blame(error)),
            // What is renamed may come further down.
            Err(_) => fields.clear(),
        }
        Ok((fields, exact))
    }
}

impl Stage for Load {
    fn kind(&self) -> Kind {
        KIND
    }

    fn ports(&self) -> Vec<Port> {
        Vec::new()
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        let found = self.files(files)?.into_iter();
        Ok(found.map(|(role, path)| FileUse::present(role, path)).collect())
    }

    fn schema(&self, _inputs: &Schemas, files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let mut exact = true;
        let mut fields: Vec<Field> = Vec::new();
        for (_, path) in self.files(files)? {
            let (more, all) = self.fields(&path, files)?;
            exact &= all;
            for field in more {
                match fields.iter_mut().find(|known| known.name == field.name) {
                    // Files that differ in a type are joined when they are read.
                    Some(known) if known.kind != field.kind => known.kind = None,
                    Some(_) => {}
                    None => fields.push(field),
                }
            }
        }
        // Rows are chosen before the columns that every table has are added.
        if let Some(condition) = self.condition.as_ref().filter(|_| exact) {
            let names = fields.iter().map(|field| field.name.as_str());
            condition.check(names).map_err(|error| self.blame(error))?;
        }
        for field in &mut fields {
            field.kind = match self.parameters.columns.get(&field.name) {
                Some(column) if column.changes() => column.kind(),
                _ => field.kind,
            };
            field.kind = identity(&field.name).or(field.kind);
        }
        for (name, kind) in GIVEN {
            if !fields.iter().any(|field| field.name == name) {
                fields.push(Field {
                    name: name.to_owned(),
                    kind: Some(kind),
                });
            }
        }
        let missing = self
            .parameters
            .keys
            .iter()
            .find(|key| !fields.iter().any(|field| field.name == **key));
        if let (Some(key), true) = (missing, exact) {
            let error = Error::input(format!("`keys` names `{key}`, which the table does not have"));
            return Err(self.blame(error.parameter(&["keys"])));
        }
        let completeness = if exact {
            Completeness::Exact
        } else {
            Completeness::AtLeast
        };
        Ok(Outputs::only(Schema {
            fields,
            completeness,
            keys: self.parameters.keys.clone(),
        }))
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        let Parameters {
            path: _,
            format: _,
            columns,
            keys,
            limit,
            filter,
        } = &self.parameters;
        manifest.part(Role::Parameter, "format", &json!(self.format));
        let parts = [
            ("columns", json!(columns), columns.is_empty()),
            ("keys", json!(keys), keys.is_empty()),
        ];
        let options = [
            ("limit", json!(limit), limit.is_none()),
            ("where", json!(filter), filter.is_none()),
        ];
        for (name, value, default) in parts.into_iter().chain(options) {
            if !default {
                manifest.part(Role::Parameter, name, &value);
            }
        }
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for Load {
    fn run(&self, _inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let tables = self.files(open.files)?.into_iter().map(|(_, path)| {
            let bytes = std::fs::read(&path).map_err(|error| Error::input("the file can not be read").cause(error))?;
            self.columns_of(&bytes).map_err(|error| match path.file_name() {
                Some(name) if split(&self.parameters.path).1.contains(['*', '?']) => {
                    error.context(format!("in {}", name.display()))
                }
                _ => error,
            })
        });
        let table = tables.collect::<Result<Vec<_>, Error>>().and_then(|mut tables| {
            self.table(match tables.len() {
                1 => tables.remove(0),
                _ => stacked(&tables)?,
            })
        });
        table.map(Product::table).map_err(|error| self.blame(error))
    }
}
