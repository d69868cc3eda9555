//! The types that `yields:` of a `query` or `command` stage gives to columns.

use std::collections::BTreeMap;

use fracture_cache::ColumnType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::schema::{Completeness, Field, Schema};

/// The type of a column that a query or a program yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum YieldType {
    /// Text.
    Text,
    /// True or false.
    Flag,
    /// A whole number.
    Integer,
    /// A whole number from 0 on.
    Count,
    /// A number.
    Number,
}

impl YieldType {
    /// The type of the stored column.
    pub fn column_type(self) -> ColumnType {
        match self {
            Self::Text => ColumnType::Text,
            Self::Flag => ColumnType::Bool,
            Self::Integer => ColumnType::I64,
            Self::Count => ColumnType::U32,
            Self::Number => ColumnType::F64,
        }
    }
}

/// The schema of a table from `yields:` and `keys:`; unknown without `yields`.
///
/// # Errors
/// When `keys` names a column that `yields` does not.
pub fn schema(yields: Option<&BTreeMap<String, YieldType>>, keys: &[String]) -> Result<Schema, Error> {
    let mut schema = Schema::unknown();
    if let Some(yields) = yields {
        if let Some(key) = keys.iter().find(|key| !yields.contains_key(*key)) {
            let message = format!("`keys` names `{key}`, which `yields` does not name");
            return Err(Error::pipeline(message)
                .parameter(&["keys"])
                .hint("add it to `yields` with its type"));
        }
        let field = |(name, kind): (&String, &YieldType)| Field {
            name: name.clone(),
            kind: Some(kind.column_type()),
        };
        schema.fields = yields.iter().map(field).collect();
        schema.completeness = Completeness::Exact;
    }
    schema.keys = keys.to_vec();
    Ok(schema)
}
