//! The stage kind `query`: SQL over the tables at its ports, and SQL conditions for `load`.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::ArrayRef;
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch};
use arrow::datatypes::Schema as ArrowSchema;
use arrow::record_batch::RecordBatch;
use fracture_stage::names::suggestion;
use fracture_stage::view::concat_column;
use fracture_stage::{
    Context, Declaration, Error, Field, Files, Inputs, Keys, Kind, Manifest, Open, Outputs, ParameterError, Port,
    Product, Role, Schema, Schemas, Shape, Stage, View, Whole, Work, YieldType, parse_parameters,
};
use polars::prelude::IntoLazy;
use polars::sql::SQLContext;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bridge::{from_polars, restore_vectors, to_polars};
use crate::normal;
use crate::sql::Statement;

const KIND: Kind = Kind {
    name: "query",
    version: 1,
};

/// The name of a condition's table.
pub(crate) const SELF: &str = "self";

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
    statement: Statement,
}

impl Query {
    fn new(with: &Value) -> Result<Self, Vec<ParameterError>> {
        let parameters: Parameters = parse_parameters(with)?;
        let wrong = |message: String| vec![ParameterError::at(&["sql"], message)];
        let statement = Statement::read(&parameters.sql).map_err(wrong)?;
        if statement.tables.is_empty() {
            return Err(wrong("the statement reads no table".to_owned()));
        }
        Ok(Self { parameters, statement })
    }

    /// Looks up the tables and columns that the statement names, as far as they are known.
    fn check_names(&self, inputs: &Schemas) -> Result<(), Error> {
        let tables = &self.statement.tables;
        let connected: BTreeSet<&str> = inputs.ports.iter().map(|(name, _)| name.as_str()).collect();
        let ports = connected.iter().copied().collect::<Vec<_>>().join(", ");
        if !connected.is_empty() && !tables.iter().any(|table| connected.contains(table.as_str())) {
            let message = format!("the statement reads {}, but the ports are {ports}", tables.join(", "));
            return Err(Error::pipeline(message)
                .parameter(&["sql"])
                .hint("name the ports in `needs: { NAME: stage }` as the statement names its tables"));
        }
        if let Some(table) = self.statement.unknown_table(&|name| connected.contains(name)) {
            let error = Error::pipeline(format!(
                "the statement reads the table `{table}`, which is none of its ports"
            ));
            let near = suggestion(table, connected.iter().copied(), "ports");
            return Err(error.parameter(&["sql"]).hint(format!(
                "{near}; the tables are the names in `needs: {{ NAME: stage }}`"
            )));
        }
        match self.statement.unknown_column(&|table| inputs.at(table)) {
            Some(unknown) => Err(unknown.error("the statement").parameter(&["sql"])),
            None => self.check_result(),
        }
    }

    /// Compares `yields` and `keys` with the names that the statement gives to the columns of its result.
    fn check_result(&self) -> Result<(), Error> {
        let Some(result) = &self.statement.result else {
            return Ok(());
        };
        let has = |name: &String| result.contains(name);
        let names = || result.iter().map(String::as_str);
        if let Some(yields) = &self.parameters.yields {
            if let Some(name) = yields.keys().find(|name| !has(name)) {
                let error = Error::pipeline(format!("the query does not yield `{name}`, which `yields` names"));
                return Err(error.parameter(&["yields", name]).hint(suggestion(
                    name,
                    names(),
                    "columns that it yields",
                )));
            }
            if let Some(name) = result.iter().find(|name| !yields.contains_key(*name)) {
                let error = Error::pipeline(format!("the query yields `{name}`, which `yields` does not name"));
                return Err(error
                    .parameter(&["yields"])
                    .hint("add it to `yields`, or leave it out of SELECT"));
            }
        }
        match self.parameters.keys.iter().find(|key| !has(key)) {
            Some(key) => Err(
                Error::pipeline(format!("`keys` names `{key}`, which the query does not yield"))
                    .parameter(&["keys"])
                    .hint(suggestion(key, names(), "columns that it yields")),
            ),
            None => Ok(()),
        }
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
        self.statement.tables.iter().map(port).collect()
    }

    fn schema(&self, inputs: &Schemas, _files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        self.check_names(inputs)?;
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
        for (name, _) in inputs
            .ports
            .iter()
            .filter(|(name, _)| self.statement.tables.contains(name))
        {
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
pub(crate) fn select(tables: &[(&str, RecordBatch)], sql: &str) -> Result<RecordBatch, Error> {
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
    select(&[(SELF, table.clone())], &selection(condition))
        .map_err(|error| error.context(format!("`where: {condition}` can not be applied")))
}

/// A SQL condition over the columns of one table.
#[derive(Debug, Clone)]
pub struct Condition {
    statement: Statement,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// The parser's message.
    pub fn read(condition: &str) -> Result<Self, String> {
        let statement = Statement::read(&selection(condition))?;
        Ok(Self { statement })
    }

    /// Looks up its columns in those of a table, where these are all.
    ///
    /// # Errors
    /// When it names another column.
    pub fn check<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<(), Error> {
        let field = |name: &str| Field {
            name: name.to_owned(),
            kind: None,
        };
        let table = [Schema {
            fields: names.into_iter().map(field).collect(),
            ..Schema::exact([])
        }];
        match self.statement.unknown_column(&|_| &table) {
            Some(unknown) => Err(unknown.error("`where`").parameter(&["where"])),
            None => Ok(()),
        }
    }
}

fn selection(condition: &str) -> String {
    format!("SELECT * FROM {SELF} WHERE ({condition})")
}
