//! The stage kind `load`: a file as a table.

use std::collections::BTreeMap;
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

use crate::normal;
use crate::query::filter;
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
    /// The file, relative to the project's root.
    pub path: String,
    /// Its format; by default its ending tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// Columns to rename, `NEW: OLD`; the others keep their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
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
        parameters: || schemars::schema_for!(Parameters).to_value(),
        build: |with, _context: &Context| Ok(Box::new(Load::new(with)?)),
    }
}

/// A resolved `load` task.
#[derive(Debug, Clone)]
struct Load {
    parameters: Parameters,
    format: FileFormat,
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
        if parameters.path.contains(['*', '?']) {
            errors
                .push(ParameterError::at(&["path"], "patterns are not in this version").hint("load one file a stage"));
        }
        if parameters.limit == Some(0) {
            errors.push(ParameterError::at(&["limit"], "`limit` must be at least 1"));
        }
        if let Some(condition) = &parameters.filter
            && let Err(error) = crate::query::check_condition(condition)
        {
            errors.push(ParameterError::at(&["where"], error.to_string()));
        }
        match format {
            Some(format) if errors.is_empty() => Ok(Self { parameters, format }),
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

    /// The name that a column of the file gets.
    fn renamed(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let mut renamed = names.to_vec();
        for (new, old) in &self.parameters.columns {
            let at = names.iter().position(|name| name == old).ok_or_else(|| {
                Error::input(format!("`columns` names `{old}`, which the file does not have"))
                    .parameter(&["columns", new])
                    .hint(format!("its columns are {}", names.join(", ")))
            })?;
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

    fn table(&self, bytes: &[u8]) -> Result<RecordBatch, Error> {
        let read = self.format.read(bytes)?;
        let names: Vec<String> = read
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let columns = self
            .renamed(&names)?
            .into_iter()
            .zip(read.columns().iter().cloned())
            .collect();
        let mut table = normal::table(columns, read.num_rows())?;
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

impl Stage for Load {
    fn kind(&self) -> Kind {
        KIND
    }

    fn ports(&self) -> Vec<Port> {
        Vec::new()
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        let path = files.locate(&self.parameters.path);
        files.size(&path).ok_or_else(|| {
            self.blame(Error::input("there is no such file"))
                .hint("paths are relative to the project's root")
        })?;
        Ok(vec![FileUse::present("file", path)])
    }

    fn schema(&self, _inputs: &Schemas, files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let path = files.locate(&self.parameters.path);
        let head = files.head(&path, HEAD)?;
        let whole = files.size(&path).is_some_and(|size| size <= head.len() as u64);
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
        for field in &mut fields {
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
        let bytes = std::fs::read(open.files.locate(&self.parameters.path))
            .map_err(|error| self.blame(Error::input("the file can not be read").cause(error)))?;
        self.table(&bytes)
            .map(Product::table)
            .map_err(|error| self.blame(error))
    }
}
