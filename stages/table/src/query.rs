//! The stage kind `query`: SQL over the tables at its ports, and SQL conditions for `load`.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::ArrayRef;
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch};
use arrow::datatypes::Schema as ArrowSchema;
use arrow::record_batch::RecordBatch;
use fracture_stage::view::concat_column;
use fracture_stage::{
    Context, Declaration, Error, Files, Inputs, Keys, Kind, Manifest, Open, Outputs, ParameterError, Port, Product,
    Role, Schema, Schemas, Shape, Stage, View, Whole, Work, YieldType, parse_parameters,
};
use polars::prelude::IntoLazy;
use polars::sql::{SQLContext, extract_table_identifiers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bridge::{from_polars, restore_vectors, to_polars};
use crate::normal;

const KIND: Kind = Kind {
    name: "query",
    version: 1,
};

/// A table from SQL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// One SELECT statement; the tables are the names of the ports (`needs: { NAME: stage }`). Without ORDER BY the rows are
    /// sorted by all columns, first to last.
    pub sql: String,
    /// The columns of the result with their types; without it, checks of what follows wait for the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yields: Option<BTreeMap<String, YieldType>>,
    /// Columns that, beside `item` and `axis`, tell which rows belong together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

/// How the kind declares itself.
pub fn declaration() -> Declaration {
    Declaration {
        name: KIND.name,
        version: KIND.version,
        summary: "Makes a table from others by SQL; the tables are the names of the ports.",
        shape: Shape::Reduce,
        ports: &[],
        any_ports: true,
        side: &[],
        cases: false,
        spread: None,
        parameters: || schemars::schema_for!(Parameters).to_value(),
        build: |with, _context: &Context| Ok(Box::new(Query::new(with)?)),
    }
}

/// A resolved `query` task.
#[derive(Debug, Clone)]
struct Query {
    parameters: Parameters,
    /// The tables that the statement names.
    tables: Vec<String>,
}

impl Query {
    fn new(with: &Value) -> Result<Self, Vec<ParameterError>> {
        let parameters: Parameters = parse_parameters(with)?;
        let wrong = |message: String| vec![ParameterError::at(&["sql"], message)];
        let mut tables =
            extract_table_identifiers(&parameters.sql, false, true).map_err(|error| wrong(plain(&error)))?;
        tables.sort();
        if tables.is_empty() {
            return Err(wrong("the statement reads no table".to_owned()));
        }
        Ok(Self { parameters, tables })
    }

    fn ordered(&self) -> bool {
        let words = self.parameters.sql.to_ascii_lowercase();
        words
            .split_whitespace()
            .zip(words.split_whitespace().skip(1))
            .any(|pair| pair == ("order", "by"))
    }
}

/// An error of polars in one line.
fn plain(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

impl Stage for Query {
    fn kind(&self) -> Kind {
        KIND
    }

    fn ports(&self) -> Vec<Port> {
        let port = |name: &String| Port {
            name: name.clone(),
            needs: Vec::new(),
            keys: Keys::Values,
            all: true,
        };
        self.tables.iter().map(port).collect()
    }

    fn schema(&self, inputs: &Schemas, _files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let connected: BTreeSet<&str> = inputs.ports.iter().map(|(name, _)| name.as_str()).collect();
        if !connected.is_empty() && !self.tables.iter().any(|table| connected.contains(table.as_str())) {
            let names = connected.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::pipeline(format!(
                "the statement reads {}, but the ports are {names}",
                self.tables.join(", ")
            ))
            .hint("name the ports in `needs: { NAME: stage }` as the statement names its tables"));
        }
        let Parameters { yields, keys, .. } = &self.parameters;
        let schema = fracture_stage::yields::schema(yields.as_ref(), keys)?;
        Ok(Outputs::only(schema))
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        let Parameters { sql, yields, keys } = &self.parameters;
        manifest.part(Role::Parameter, "sql", &json!(sql));
        if let Some(yields) = yields {
            manifest.part(Role::Parameter, "yields", &json!(yields));
        }
        if !keys.is_empty() {
            manifest.part(Role::Parameter, "keys", &json!(keys));
        }
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for Query {
    fn run(&self, inputs: &Inputs, _open: &Open<'_>) -> Result<Product, Error> {
        let mut tables = Vec::new();
        for (name, _) in inputs.ports.iter().filter(|(name, _)| self.tables.contains(name)) {
            tables.push((name.as_str(), joined(&inputs.tables(name))?));
        }
        let result = select(&tables, &self.parameters.sql)?;
        let result = match &self.parameters.yields {
            Some(yields) => as_declared(&result, yields)?,
            None => result,
        };
        if let Some(key) = self
            .parameters
            .keys
            .iter()
            .find(|key| result.column_by_name(key).is_none())
        {
            return Err(Error::task(format!(
                "`keys` names `{key}`, which the query does not yield"
            )));
        }
        let result = if self.ordered() { result } else { sorted(&result, &[])? };
        Ok(Product::table(result))
    }
}

/// The rows of all tables at a port, in an order that does not depend on the order in which they arrive.
pub(crate) fn joined(views: &[&View]) -> Result<RecordBatch, Error> {
    let mut names: Vec<&str> = Vec::new();
    for name in views.iter().flat_map(|view| view.names()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // Which table comes first may change with the order of a matrix list.
    if views.len() > 1 {
        names.sort_unstable();
    }
    let column = |name: &str| Ok((name.to_owned(), concat_column(views, name)?));
    let columns: Vec<(String, ArrayRef)> = names.iter().map(|name| column(name)).collect::<Result<_, Error>>()?;
    let rows = views.iter().map(|view| view.rows()).sum();
    let mut keys: Vec<&str> = views.iter().flat_map(|view| view.keys()).map(String::as_str).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.extend(["regime", "draw", "sample"]);
    sorted(&normal::table(columns, rows)?, &keys)
}

/// A table sorted by some columns and then by all others, lists left out.
fn sorted(table: &RecordBatch, first: &[&str]) -> Result<RecordBatch, Error> {
    let schema = table.schema();
    let others = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .filter(|name| !first.contains(name));
    let column = |name: &str| {
        table
            .column_by_name(name)
            .filter(|column| !column.data_type().is_nested())
            .cloned()
    };
    let options = Some(SortOptions {
        descending: false,
        nulls_first: true,
    });
    let by: Vec<SortColumn> = first
        .iter()
        .copied()
        .chain(others)
        .filter_map(column)
        .map(|values| SortColumn { values, options })
        .collect();
    if by.is_empty() || table.num_rows() < 2 {
        return Ok(table.clone());
    }
    let failed = |error| Error::internal("the table can not be sorted").cause(error);
    let order = lexsort_to_indices(&by, None).map_err(failed)?;
    take_record_batch(table, &order).map_err(failed)
}

/// Runs one statement over named tables.
fn select(tables: &[(&str, RecordBatch)], sql: &str) -> Result<RecordBatch, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        let have: Vec<String> = tables
            .iter()
            .map(|(name, table)| format!("{name} ({})", columns(table)))
            .collect();
        Error::task("the SQL can not be run")
            .cause(plain(error))
            .hint(format!("the tables are {}", have.join("; ")))
    };
    let mut context = SQLContext::new();
    for (name, table) in tables {
        context.register(name, to_polars(std::slice::from_ref(table))?.lazy());
    }
    let frame = context
        .execute(sql)
        .and_then(|lazy| lazy.collect())
        .map_err(|error| failed(&error))?;
    let result = from_polars(frame)?;
    let vectors = tables
        .iter()
        .flat_map(|(_, table)| table.schema().fields().iter().cloned().collect::<Vec<_>>());
    let vectors: Vec<_> = vectors.filter(|field| field.data_type().is_nested()).collect();
    Ok(restore_vectors(&result, &ArrowSchema::new(vectors)))
}

fn columns(table: &RecordBatch) -> String {
    table
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect::<Vec<_>>()
        .join(", ")
}

/// The declared columns in their types.
fn as_declared(table: &RecordBatch, yields: &BTreeMap<String, YieldType>) -> Result<RecordBatch, Error> {
    let undeclared = table
        .schema()
        .fields()
        .iter()
        .find(|field| !yields.contains_key(field.name()))
        .cloned();
    if let Some(field) = undeclared {
        return Err(Error::task(format!(
            "the query yields `{}`, which `yields` does not name",
            field.name()
        ))
        .hint("add it to `yields`, or leave it out of SELECT"));
    }
    let column = |(name, kind): (&String, &YieldType)| {
        let column = table.column_by_name(name).ok_or_else(|| {
            Error::task(format!("the query does not yield `{name}`, which `yields` names"))
                .hint(format!("it yields {}", columns(table)))
        })?;
        Ok((name.clone(), normal::cast(name, column, kind.column_type())?))
    };
    let columns = yields.iter().map(column).collect::<Result<Vec<_>, Error>>()?;
    normal::table(columns, table.num_rows())
}

/// The rows of a table for which a SQL condition holds, in their order.
///
/// # Errors
/// When the condition is no SQL, or names a column that is not there.
pub fn filter(table: &RecordBatch, condition: &str) -> Result<RecordBatch, Error> {
    select(
        &[("self", table.clone())],
        &format!("SELECT * FROM self WHERE ({condition})"),
    )
    .map_err(|error| error.context(format!("`where: {condition}` can not be applied")))
}

/// Checks that a condition is one.
///
/// # Errors
/// The parser's message.
pub fn check_condition(condition: &str) -> Result<(), String> {
    let sql = format!("SELECT * FROM self WHERE ({condition})");
    extract_table_identifiers(&sql, false, true)
        .map(drop)
        .map_err(|error| plain(&error))
}
