//! Values that a parameter names and that a column must hold, so that they can be looked up before anything runs.

use crate::declaration::PathPart;

/// Tells all values that a column at a port can hold, by the names of both; `None` where that is not known.
pub type Arriving<'a> = dyn Fn(&str, &str) -> Option<Vec<String>> + 'a;

/// A value that a parameter names: the run fails when no row at the port has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The port; where nothing is connected, nothing is looked up.
    pub port: String,
    /// The column.
    pub column: String,
    /// One of these must be there. Each with where it is said, from the stage's `with:` down; nowhere for a default.
    pub any_of: Vec<(String, Vec<PathPart>)>,
    /// Whether the places are keys of a map, not its values.
    pub is_key: bool,
    /// What to do when none is there, beside what the values are.
    pub hint: Option<String>,
}

impl Named {
    /// A value that must be there.
    pub fn one(port: &str, column: &str, value: impl Into<String>, path: Vec<PathPart>) -> Self {
        Self {
            port: port.to_owned(),
            column: column.to_owned(),
            any_of: vec![(value.into(), path)],
            is_key: false,
            hint: None,
        }
    }
}
