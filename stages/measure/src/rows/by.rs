//! The group columns: which they are, and their types at plan time.

use std::collections::BTreeSet;

use fracture_cache::ColumnType;
use fracture_stage::{Completeness, Error, Field, Schemas, View};

/// Columns that identify a row but are never part of a group by default.
const NEVER: [&str; 4] = ["item", "regime", "draw", "sample"];

/// The key columns of a group by default: the axis, then the others by name.
fn default_by<'a>(keys: impl Iterator<Item = &'a str>) -> Vec<String> {
    let keys: BTreeSet<&str> = keys.filter(|key| !NEVER.contains(key)).collect();
    let axis = keys.contains("axis").then_some("axis");
    axis.into_iter()
        .chain(keys.iter().copied().filter(|key| *key != "axis"))
        .map(str::to_owned)
        .collect()
}

/// The group columns of a run.
pub fn resolve(by: Option<&[String]>, views: &[&View]) -> Vec<String> {
    match by {
        Some(by) => by.to_vec(),
        None => default_by(views.iter().flat_map(|view| view.keys()).map(String::as_str)),
    }
}

/// The group columns at plan time with their types; `None` where only the run will tell which they are.
pub fn by_fields(by: Option<&[String]>, inputs: &Schemas, port: &str) -> Option<Vec<Field>> {
    let schemas = inputs.at(port);
    let exact = schemas.iter().all(|schema| schema.completeness == Completeness::Exact);
    let names = match by {
        Some(by) => by.to_vec(),
        None if exact => {
            let present = schemas.iter().flat_map(|schema| {
                let axis = schema.field("axis").map(|_| "axis");
                let keys = schema.keys.iter().filter(|key| schema.field(key).is_some());
                axis.into_iter().chain(keys.map(String::as_str))
            });
            default_by(present)
        }
        None => return None,
    };
    let field = |name: String| {
        let known: Vec<Option<ColumnType>> = schemas
            .iter()
            .filter_map(|schema| schema.field(&name))
            .map(|field| field.kind)
            .collect();
        // As the run joins them: one type stays, several become text.
        let kind = match known.first() {
            Some(Some(first)) if exact => {
                if known.iter().all(|kind| *kind == Some(*first)) {
                    Some(*first)
                } else if known.iter().all(Option::is_some) {
                    Some(ColumnType::Text)
                } else {
                    None
                }
            }
            _ => None,
        };
        Field { name, kind }
    };
    Some(names.into_iter().map(field).collect())
}

/// Refuses a group column that has the name of a statistic, which would hide it. `tau` may be both: the value is the same.
pub fn check_by<'a>(fields: Option<&[Field]>, own: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let fields = fields.unwrap_or_default();
    for name in own.filter(|name| *name != "tau") {
        if fields.iter().any(|field| field.name == name) {
            return Err(Error::pipeline(format!(
                "the group column `{name}` has the name of a column of the results"
            ))
            .hint(format!(
                "rename the matrix variable or label `{name}`, or list other columns in `by:`"
            )));
        }
    }
    Ok(())
}
