//! What a SQL statement says of its tables and columns, told from its text alone: polars is not asked before a query runs.
//!
//! The parser, its dialect and its options are those of polars, so that what is no SQL here is none there. Of names only
//! what is certain is said: a statement with a subquery, a common table expression, a table function or a lambda may bring
//! names of its own, and nothing is said of the columns of such a one. The names of the projection are taken for known
//! everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use fracture_stage::names::suggestion;
use fracture_stage::{Completeness, Error, Schema};
use sqlparser::ast::{
    Expr, ObjectName, Query, Select, SelectItem, SetExpr, Statement as Ast, TableFactor, Visit, Visitor,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserOptions};

use crate::query::SELF;

/// A statement, as far as its names go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The tables that it names, sorted; names that it gives itself among them.
    pub tables: Vec<String>,
    /// Tables that it reads and does not define.
    relations: BTreeSet<String>,
    /// `None` where its names may come from elsewhere.
    columns: Option<Columns>,
    /// The columns of its result, where each has a name of its own.
    pub result: Option<Vec<String>>,
}

/// The columns that a statement names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Columns {
    /// `column`, in the order of the text.
    plain: Vec<String>,
    /// `table.column`.
    qualified: Vec<(String, String)>,
    /// Names that the projection gives.
    given: BTreeSet<String>,
    /// The table behind each name that a table goes by.
    named: BTreeMap<String, String>,
}

/// A name that is not there.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The column.
    pub column: String,
    /// The table that it was looked for in, where there is only one.
    pub table: Option<String>,
    /// The columns that are there.
    pub known: Vec<String>,
}

impl Unknown {
    /// The error of what names it.
    pub fn error(&self, what: &str) -> Error {
        let column = &self.column;
        let message = match self.table.as_deref().filter(|table| *table != SELF) {
            Some(table) => format!("{what} names the column `{column}`, which `{table}` does not have"),
            None => format!("{what} names the column `{column}`, which is not there"),
        };
        let known = self.known.iter().map(String::as_str);
        Error::pipeline(message).hint(suggestion(column, known, "columns"))
    }
}

impl Statement {
    /// Reads a statement.
    ///
    /// # Errors
    /// The parser's message, or that it is no single statement of a kind that can be run.
    pub fn read(sql: &str) -> Result<Self, String> {
        let options = ParserOptions {
            trailing_commas: true,
            ..ParserOptions::default()
        };
        let parser = Parser::new(&GenericDialect).with_options(options);
        let parsed = parser
            .try_with_sql(sql)
            .and_then(|mut parser| parser.parse_statements());
        let parsed = parsed.map_err(|error| error.to_string().replacen("sql parser error: ", "no SQL: ", 1))?;
        let [one] = parsed.as_slice() else {
            return Err(format!("found {} statements, expected one SELECT", parsed.len()));
        };
        if !matches!(one, Ast::Query(_) | Ast::Explain { .. } | Ast::Delete(_)) {
            return Err("expected a SELECT statement".to_owned());
        }
        let mut names = Names::default();
        let _ = one.visit(&mut names);
        if !matches!(one, Ast::Query(_)) {
            names.result = None;
        }
        let defined: BTreeSet<&str> = names.defined.iter().map(String::as_str).collect();
        let relations = names.relations.iter().filter(|name| !defined.contains(name.as_str()));
        let relations = relations.cloned().collect();
        let mut tables = std::mem::take(&mut names.tables);
        tables.sort();
        tables.dedup();
        Ok(Self {
            tables,
            relations,
            result: names.result()?,
            columns: names.columns(),
        })
    }

    /// A table that it reads and that is none of these.
    pub fn unknown_table(&self, known: &dyn Fn(&str) -> bool) -> Option<&str> {
        self.relations.iter().map(String::as_str).find(|name| !known(name))
    }

    /// A column that none of its tables can have, `schemas` being those of a table.
    pub fn unknown_column<'s>(&self, schemas: &dyn Fn(&str) -> &'s [Schema]) -> Option<Unknown> {
        let columns = self.columns.as_ref()?;
        let of_table = |table: &str| Table::new(schemas(table));
        let qualified = columns.qualified.iter().find_map(|(owner, column)| {
            // The name of a table comes before an alias.
            let table = match schemas(owner) {
                [] => columns.named.get(owner)?,
                _ => owner,
            };
            let found = of_table(table);
            (!found.may_have(column)).then(|| Unknown {
                column: column.clone(),
                table: Some(table.clone()),
                known: found.names,
            })
        });
        if qualified.is_some() {
            return qualified;
        }
        let tables: BTreeSet<&String> = columns.named.values().collect();
        let found: Vec<Table> = tables.iter().map(|table| of_table(table)).collect();
        let is_known = |column: &String| {
            columns.given.contains(column)
                || columns.named.contains_key(column)
                || found.iter().any(|table| table.may_have(column))
        };
        let column = columns.plain.iter().find(|column| !is_known(column))?;
        let mut known: Vec<String> = Vec::new();
        for name in found.into_iter().flat_map(|table| table.names) {
            if !known.contains(&name) {
                known.push(name);
            }
        }
        let table = match tables.iter().collect::<Vec<_>>().as_slice() {
            [only] => Some((**only).clone()),
            _ => None,
        };
        Some(Unknown {
            column: column.clone(),
            table,
            known,
        })
    }
}

/// The columns of all tables at a port together.
struct Table {
    names: Vec<String>,
    exact: bool,
}

impl Table {
    fn new(schemas: &[Schema]) -> Self {
        let exact = !schemas.is_empty() && schemas.iter().all(|one| one.completeness == Completeness::Exact);
        let mut names: Vec<String> = Vec::new();
        for field in schemas.iter().flat_map(|schema| &schema.fields) {
            if !names.contains(&field.name) {
                names.push(field.name.clone());
            }
        }
        Self { names, exact }
    }

    fn may_have(&self, column: &str) -> bool {
        !self.exact || self.names.iter().any(|name| name == column)
    }
}

/// Collects names.
#[derive(Default)]
struct Names {
    /// As polars lists the tables of a statement: the last part of each name, and `TABLE x`.
    tables: Vec<String>,
    relations: Vec<String>,
    /// What the statement itself names a table.
    defined: Vec<String>,
    columns: Columns,
    result: Option<Vec<String>>,
    queries: usize,
    /// Something may bring names of its own.
    foreign: bool,
    /// The projection has values without a name, to which polars gives one.
    unnamed: bool,
    /// What is named before there are values of the projection.
    early: References,
    /// What is named behind them: `ORDER BY` may mean such a value.
    late: References,
}

impl Names {
    /// The columns of the result, where it is certain what they are called.
    ///
    /// # Errors
    /// When two have one name.
    fn result(&mut self) -> Result<Option<Vec<String>>, String> {
        let sure = self.queries == 1 && !self.foreign && !self.early.lambda;
        let result = self
            .result
            .take()
            .filter(|names| sure && names.iter().all(|name| is_plain(name)));
        let twice = result
            .iter()
            .flat_map(|names| (1..names.len()).map(|place| names.split_at(place)));
        let twice = twice
            .filter_map(|(before, rest)| rest.first().filter(|name| before.contains(name)))
            .next();
        match twice {
            Some(name) => Err(format!("two columns of the result are called `{name}`")),
            None => Ok(result),
        }
    }

    /// The columns, where it is certain whose they are.
    fn columns(self) -> Option<Columns> {
        let Self { early, late, .. } = self;
        if self.queries != 1 || self.foreign || early.lambda || late.lambda {
            return None;
        }
        let late = if self.unnamed { References::default() } else { late };
        Some(Columns {
            plain: early.plain.into_iter().chain(late.plain).collect(),
            qualified: early.qualified.into_iter().chain(late.qualified).collect(),
            ..self.columns
        })
    }

    fn set(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Select(_) => {}
            SetExpr::Table(table) => {
                self.tables.extend(table.table_name.clone());
                self.foreign = true;
            }
            SetExpr::SetOperation { left, right, .. } => {
                self.foreign = true;
                self.set(left);
                self.set(right);
            }
            SetExpr::Query(query) => {
                self.foreign = true;
                self.set(&query.body);
            }
            _ => self.foreign = true,
        }
    }
}

/// What a value of a projection is called, where it says so.
fn output_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => match parts.as_slice() {
            [_, name] => Some(name.value.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a name is that of one column.
fn is_plain(name: &str) -> bool {
    name != "*" && !name.starts_with('^') && !name.contains(':')
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.queries += 1;
        self.set(&query.body);
        self.late = std::mem::take(&mut self.late).of(&query.order_by);
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.defined.extend(with.map(|table| table.alias.name.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let mut unnamed = false;
        self.result = select.projection.iter().map(output_name).collect();
        self.foreign |= select.exclude.is_some() || select.into.is_some();
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => {
                    self.columns.given.insert(alias.value.clone());
                }
                SelectItem::UnnamedExpr(expr) => {
                    unnamed |= !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                }
                SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
                    self.foreign |= options.opt_rename.is_some();
                }
                SelectItem::ExprWithAliases { .. } => self.foreign = true,
            }
        }
        self.unnamed |= unnamed;
        self.foreign |= !select.lateral_views.is_empty() || !select.connect_by.is_empty();
        let before = std::mem::take(&mut self.early);
        self.early = before.of(&select.projection).of(&select.from).of(&select.selection);
        let before = std::mem::take(&mut self.late);
        let after = before.of(&select.group_by).of(&select.having);
        self.late = after.of(&select.qualify).of(&select.named_window);
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let last = relation.0.last().and_then(|part| part.as_ident());
        self.tables.extend(last.map(|name| name.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, args, .. } = factor else {
            // Parentheses around joins hide nothing.
            self.foreign |= !matches!(factor, TableFactor::NestedJoin { alias: None, .. });
            return ControlFlow::Continue(());
        };
        let table = match name.0.as_slice() {
            [part] => part.as_ident().filter(|name| name.quote_style != Some('\'')),
            _ => None,
        };
        let Some(table) = table.filter(|_| args.is_none()) else {
            self.foreign = true;
            return ControlFlow::Continue(());
        };
        self.relations.push(table.value.clone());
        let alias = alias.as_ref();
        self.foreign |= alias.is_some_and(|alias| !alias.columns.is_empty());
        let other = alias.filter(|alias| alias.name.value != table.value);
        self.defined.extend(other.map(|alias| alias.name.value.clone()));
        for name in std::iter::once(table).chain(alias.map(|alias| &alias.name)) {
            let before = self.columns.named.insert(name.value.clone(), table.value.clone());
            // One name for two tables: which is meant is not said here.
            self.foreign |= before.is_some_and(|before| before != table.value);
        }
        ControlFlow::Continue(())
    }
}

/// Collects the columns that expressions name.
#[derive(Default)]
struct References {
    plain: Vec<String>,
    qualified: Vec<(String, String)>,
    /// A lambda has names of its own.
    lambda: bool,
}

impl References {
    fn of(mut self, part: &impl Visit) -> Self {
        let _ = part.visit(&mut self);
        self
    }
}

impl Visitor for References {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => {
                // These words are no columns everywhere.
                let word = name.value.to_ascii_uppercase();
                let special = ["ALL", "NFC", "NFD", "NFKC", "NFKD"].contains(&word.as_str());
                if !special && is_plain(&name.value) {
                    self.plain.push(name.value.clone());
                }
            }
            Expr::CompoundIdentifier(parts) => {
                if let [table, column] = parts.as_slice()
                    && is_plain(&column.value)
                {
                    let named = (table.value.clone(), column.value.clone());
                    self.qualified.push(named);
                }
            }
            Expr::Lambda(_) => self.lambda = true,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
