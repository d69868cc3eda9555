//! Schemas at plan time: which columns a table will have, before it exists.

use fracture_cache::ColumnType;

use crate::error::Error;

/// A column that a table will have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type; `None` when only the run will tell.
    pub kind: Option<ColumnType>,
}

/// How much of a table is known at plan time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Completeness {
    /// These columns and no others.
    Exact,
    /// These columns and perhaps others.
    AtLeast,
    /// Nothing is known: checks wait for the result.
    Unknown,
}

/// The columns of a table, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Schema {
    /// The known columns in order.
    pub fields: Vec<Field>,
    /// Whether there may be others.
    pub completeness: Completeness,
    /// The columns (beside `item` and `axis`) that tell one row's pair from another's: what `keys:` lists.
    pub keys: Vec<String>,
}

impl Schema {
    /// Exactly these columns.
    pub fn exact<'a>(fields: impl IntoIterator<Item = (&'a str, ColumnType)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, kind)| Field {
                name: name.to_owned(),
                kind: Some(kind),
            })
            .collect();
        Self {
            fields,
            completeness: Completeness::Exact,
            keys: Vec::new(),
        }
    }

    /// Nothing is known.
    pub fn unknown() -> Self {
        Self {
            fields: Vec::new(),
            completeness: Completeness::Unknown,
            keys: Vec::new(),
        }
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Whether a column of that name may be there.
    pub fn may_have(&self, name: &str) -> bool {
        self.completeness != Completeness::Exact || self.field(name).is_some()
    }
}

/// The outputs of a task: the main one and named side outputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outputs<T> {
    /// What `STAGE` means.
    pub main: T,
    /// What `STAGE.NAME` means.
    pub side: Vec<(String, T)>,
}

impl<T> Outputs<T> {
    /// One output.
    pub fn only(main: T) -> Self {
        Self { main, side: Vec::new() }
    }

    /// The output of that name; `None` and `main` mean the main one.
    pub fn get(&self, name: Option<&str>) -> Option<&T> {
        match name {
            None | Some("main") => Some(&self.main),
            Some(name) => self.side.iter().find(|(side, _)| side == name).map(|(_, value)| value),
        }
    }

    /// All outputs with their names, the main one first as `main`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        std::iter::once(("main", &self.main)).chain(self.side.iter().map(|(name, value)| (name.as_str(), value)))
    }
}

/// The schemas that arrive at a stage's ports, constants of the tasks included as columns. Every port has at least one.
#[derive(Debug, Clone, Default)]
pub struct Schemas {
    /// Port name and schema of each table that arrives there.
    pub ports: Vec<(String, Vec<Schema>)>,
}

impl Schemas {
    /// The schemas at a port, empty when nothing is connected.
    pub fn at(&self, port: &str) -> &[Schema] {
        self.ports
            .iter()
            .find(|(name, _)| name == port)
            .map_or(&[], |(_, schemas)| schemas)
    }

    /// The first schema at a port.
    ///
    /// # Errors
    /// An internal error when nothing is connected: the compiler checks ports before it asks for schemas.
    pub fn first(&self, port: &str) -> Result<&Schema, Error> {
        self.at(port)
            .first()
            .ok_or_else(|| Error::internal(format!("nothing is connected to port `{port}`")))
    }
}
