//! Rows of one table that belong to rows of another: labels and scores from elsewhere.
//!
//! Two rows belong together when they agree in `item` and in `axis`, `regime`, `sample` and every key column that both
//! tables have. Columns that tell apart what is the same text (`judge`, `draw`) never join.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, ArrayRef, LargeStringArray};
use arrow::compute::{cast, concat};
use arrow::datatypes::DataType;

use crate::error::Error;
use crate::view::{View, concat_column};

/// Columns that join besides the key columns.
const JOINING: [&str; 4] = ["item", "axis", "regime", "sample"];
/// Columns that tell rows of one text apart.
pub const SAME_TEXT: [&str; 2] = ["judge", "draw"];
/// The axis of a table that names none.
const ALL: &str = "all";

fn has(views: &[&View], name: &str) -> bool {
    views.iter().any(|view| view.has(name))
}

/// The columns by which the rows of `others` belong to those of `views`; `never` are left out.
///
/// # Errors
/// When one of the tables has no `item`, or the store can not deliver a column.
pub fn joining(views: &[&View], others: &[&View], never: &[&str]) -> Result<Vec<String>, Error> {
    let keys = views
        .iter()
        .chain(others)
        .flat_map(|view| view.keys())
        .map(String::as_str);
    let mut names: Vec<&str> = JOINING.iter().copied().chain(keys).collect();
    let mut seen = BTreeSet::new();
    names.retain(|name| {
        !SAME_TEXT.contains(name)
            && !never.contains(name)
            && has(views, name)
            && has(others, name)
            && seen.insert(*name)
    });
    // `load` calls the axis of a table without one `all`.
    if names.contains(&"axis") {
        let (ours, theirs) = (axes(views)?, axes(others)?);
        if theirs.iter().all(|axis| axis == ALL) && !ours.contains(ALL) {
            names.retain(|name| *name != "axis");
        }
    }
    if !names.contains(&"item") {
        return Err(Error::pipeline("rows join by `item`, which one of the tables lacks"));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn axes(views: &[&View]) -> Result<BTreeSet<String>, Error> {
    let mut found = BTreeSet::new();
    for view in views.iter().filter(|view| view.has("axis")) {
        found.extend(view.text("axis")?.iter().flatten().map(str::to_owned));
    }
    Ok(found)
}

/// One number per row of both, first those of `views`: rows of equal numbers agree in all `columns`.
///
/// # Errors
/// When a column is missing or can not be compared.
pub fn codes(views: &[&View], others: &[&View], columns: &[String]) -> Result<Vec<u32>, Error> {
    let rows: usize = views.iter().chain(others).map(|view| view.rows()).sum();
    let mut codes = vec![0; rows];
    for name in columns {
        let texts = texts(views, others, name)?;
        let mut known: HashMap<(u32, Option<&str>), u32> = HashMap::new();
        for (row, code) in codes.iter_mut().enumerate() {
            let value = texts.is_valid(row).then(|| texts.value(row));
            let next = known.len() as u32;
            *code = *known.entry((*code, value)).or_insert(next);
        }
    }
    Ok(codes)
}

/// A column of both as text, so that it can be compared.
fn texts(views: &[&View], others: &[&View], name: &str) -> Result<LargeStringArray, Error> {
    let failed = |error| Error::task(format!("column `{name}` can not be compared")).cause(error);
    let sides = [concat_column(views, name)?, concat_column(others, name)?];
    // `1` and `1.0` are one number.
    let numeric = sides.iter().all(|side| side.data_type().is_numeric());
    let text = |side: &ArrayRef| -> Result<ArrayRef, Error> {
        let side = match numeric {
            true => cast(side, &DataType::Float64).map_err(failed)?,
            false => side.clone(),
        };
        cast(&side, &DataType::LargeUtf8).map_err(failed)
    };
    let [left, right] = [text(&sides[0])?, text(&sides[1])?];
    let both = concat(&[&left, &right]).map_err(failed)?;
    let both = both.as_any().downcast_ref::<LargeStringArray>().cloned();
    both.ok_or_else(|| Error::internal(format!("column `{name}` is no text")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array};
    use arrow::record_batch::RecordBatch;
    use fracture_cache::{column_digest, column_type};
    use serde_json::{Value, json};

    use super::*;
    use crate::view::ColumnReader;

    struct Memory(RecordBatch);

    impl ColumnReader for Memory {
        fn read(&self, column: &str) -> Result<ArrayRef, Error> {
            Ok(self.0.column_by_name(column).unwrap().clone())
        }
    }

    fn view(columns: Vec<(&str, ArrayRef)>, keys: &[&str], constants: &[(&str, Value)]) -> View {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let reader: Arc<dyn ColumnReader> = Arc::new(Memory(batch.clone()));
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
            let kind = column_type(field.data_type()).unwrap();
            (
                field.name().as_str(),
                kind,
                column_digest(kind, &[Arc::clone(column)]).unwrap(),
            )
        });
        View::stored(batch.num_rows(), &reader, columns)
            .with_constants(
                constants
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone())),
            )
            .with_keys(keys.iter().map(|key| (*key).to_owned()))
    }

    fn text(values: &[&str]) -> ArrayRef {
        Arc::new(LargeStringArray::from(values.to_vec()))
    }

    #[test]
    fn rows_belong_together_by_what_both_tables_have() {
        let ours = view(
            vec![
                ("item", text(&["a", "a", "b"])),
                ("axis", text(&["safety"; 3])),
                ("sample", Arc::new(Int64Array::from(vec![0, 1, 0]))),
                ("judge", text(&["j"; 3])),
            ],
            &["item", "axis", "judge", "decoder"],
            &[("decoder", json!("greedy"))],
        );
        let theirs = view(
            vec![
                ("item", text(&["b", "a"])),
                ("axis", text(&["all"; 2])),
                ("sample", Arc::new(Float64Array::from(vec![0.0, 1.0]))),
                ("judge", text(&["k"; 2])),
                ("decoder", text(&["greedy"; 2])),
            ],
            &["item", "axis", "judge"],
            &[],
        );
        let columns = joining(&[&ours], &[&theirs], &[]).unwrap();
        assert_eq!(
            columns,
            ["item", "sample", "decoder"],
            "no judge, and `all` joins every axis"
        );
        let codes = codes(&[&ours], &[&theirs], &columns).unwrap();
        assert_eq!((codes[1], codes[2]), (codes[4], codes[3]), "0 and 0.0 are one sample");
        assert!(codes[0] != codes[1] && codes[0] != codes[2]);
        assert_eq!(joining(&[&ours], &[&theirs], &["sample"]).unwrap(), ["item", "decoder"]);
        let nameless = view(vec![("axis", text(&["all"]))], &[], &[]);
        assert!(joining(&[&ours], &[&nameless], &[]).is_err());
    }
}
