//! How a result that was computed again compares with the recorded one.
//!
//! Texts, tokens, counts and flags agree or they do not. Numbers may differ in their last digits where the processor is of
//! another class or the runtime of another version: those of a table are held to [`TOLERANCE`]; those beside generated tokens,
//! which are sums over a hundred layers of products, to [`BESIDE_TOKENS`], because that every token came out the same is told.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use fracture_cache::{Artifact, ColumnType, Digest, Record, Table, column_digest, column_type};
use fracture_stage::{Error, Output, Product};

use super::store_error;
use super::workspace::Workspace;

/// From best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agreement {
    /// Every value is the same, bit for bit.
    Bits,
    /// Every generated token is the same, and so are texts, counts and flags; numbers beside them differ a little.
    Tokens,
    /// Texts, counts and flags are the same; numbers differ by at most [`TOLERANCE`].
    Tolerance,
    /// Something differs.
    Different,
}

impl Agreement {
    /// The word that people read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bits => "bits",
            Self::Tokens => "tokens",
            Self::Tolerance => "tolerance",
            Self::Different => "DIFFERENT",
        }
    }
}

/// How far numbers may be apart that still agree.
pub const TOLERANCE: f64 = 1e-5;

/// How far log-probabilities and entropies of the same tokens may be apart.
pub const BESIDE_TOKENS: f64 = 1e-2;

/// Compares what a task gave now with its record; says what differs first.
///
/// # Errors
/// When the recorded tables can not be read.
pub fn compare(
    record: &Record,
    product: &Product,
    workspace: &Workspace,
) -> Result<(Agreement, Option<String>), Error> {
    let mut worst = (Agreement::Bits, None);
    let mut note = |agreement: Agreement, what: String| {
        if agreement > worst.0 {
            worst = (agreement, Some(what));
        }
    };
    for output in &record.outputs {
        let Some(now) = product.outputs.get(Some(&output.name)) else {
            note(Agreement::Different, format!("output `{}` is gone", output.name));
            continue;
        };
        match (&output.artifact, now) {
            (Artifact::Table(table), Output::Table { batch, .. }) => {
                let schema = batch.schema();
                for column in &table.columns {
                    let Some((index, _)) = schema.column_with_name(&column.name) else {
                        note(Agreement::Different, format!("column `{}` is gone", column.name));
                        continue;
                    };
                    let array = batch.column(index);
                    let kind = column_type(array.data_type()).unwrap_or(column.kind);
                    let digest = column_digest(kind, &[Arc::clone(array)]).map_err(store_error)?;
                    if digest != column.content {
                        let (agreement, what) = near(table, &column.name, kind, array, workspace)?;
                        note(agreement, what);
                    }
                }
                if table.rows != batch.num_rows() as u64 || table.columns.len() != schema.fields().len() {
                    note(Agreement::Different, format!("the shape of `{}`", output.name));
                }
            }
            (Artifact::Blob(digest, _), Output::Blob(bytes)) => {
                if *digest != Digest::of(bytes) {
                    note(Agreement::Different, format!("the bytes of `{}`", output.name));
                }
            }
            _ => note(Agreement::Different, format!("the sort of output `{}`", output.name)),
        }
    }
    Ok(worst)
}

/// How near a column is that is not the same bit for bit.
fn near(
    table: &Table,
    name: &str,
    kind: ColumnType,
    now: &ArrayRef,
    workspace: &Workspace,
) -> Result<(Agreement, String), Error> {
    let different = || (Agreement::Different, format!("column `{name}`"));
    if !matches!(
        kind,
        ColumnType::F32 | ColumnType::F64 | ColumnType::ListF32 | ColumnType::Vector(_)
    ) {
        return Ok(different());
    }
    let was = workspace.store.read_column(table, name).map_err(store_error)?;
    let Some(apart) = apart(&was, now) else {
        return Ok(different());
    };
    let what = format!("column `{name}`, by {apart:.1e} at most");
    let tokens = table.columns.iter().any(|column| column.kind == ColumnType::ListU32);
    Ok(match tokens {
        true if apart <= BESIDE_TOKENS => (Agreement::Tokens, what),
        false if apart <= TOLERANCE => (Agreement::Tolerance, what),
        _ => (Agreement::Different, what),
    })
}

/// The largest difference between two columns of numbers, or of lists of them; `None` where they differ in anything else.
fn apart(was: &ArrayRef, now: &ArrayRef) -> Option<f64> {
    let (was_rows, now_rows) = (was.logical_nulls(), now.logical_nulls());
    if was.len() != now.len() || was_rows != now_rows {
        return None;
    }
    let (was, now) = match (was.data_type(), now.data_type()) {
        (DataType::LargeList(_), DataType::LargeList(_)) => {
            let (was, now) = (was.as_list::<i64>(), now.as_list::<i64>());
            let length = |list: &arrow::array::LargeListArray, row| list.value_length(row);
            if (0..was.len()).any(|row| length(was, row) != length(now, row)) {
                return None;
            }
            let parts = |list: &arrow::array::LargeListArray| {
                let offsets = list.value_offsets();
                let (begin, end) = (*offsets.first()? as usize, *offsets.last()? as usize);
                Some(list.values().slice(begin, end - begin))
            };
            (parts(was)?, parts(now)?)
        }
        (DataType::FixedSizeList(_, one), DataType::FixedSizeList(_, other)) if one == other => {
            let parts = |list: &ArrayRef| {
                let list = list.as_fixed_size_list();
                let width = list.value_length() as usize;
                list.values().slice(list.value_offset_at(0), list.len() * width)
            };
            (parts(was), parts(now))
        }
        _ => (Arc::clone(was), Arc::clone(now)),
    };
    let number = |array: &ArrayRef| cast(array, &DataType::Float64).ok();
    let (was, now) = (number(&was)?, number(&now)?);
    let (was, now) = (was.as_primitive::<Float64Type>(), now.as_primitive::<Float64Type>());
    if was.len() != now.len() {
        return None;
    }
    let mut most = 0.0_f64;
    for pair in was.iter().zip(now.iter()) {
        match pair {
            (Some(was), Some(now)) if was == now || (was.is_nan() && now.is_nan()) => {}
            (Some(was), Some(now)) if (was - now).is_finite() => most = most.max((was - now).abs()),
            (None, None) => {}
            _ => return None,
        }
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{FixedSizeListArray, Float32Array, Float64Array, LargeListArray};
    use arrow::datatypes::Float32Type;

    fn numbers(values: Vec<Option<f64>>) -> ArrayRef {
        Arc::new(Float64Array::from(values))
    }

    #[test]
    fn numbers_are_as_far_apart_as_the_farthest() {
        let was = numbers(vec![Some(1.0), None, Some(f64::NAN), Some(f64::INFINITY)]);
        let near = numbers(vec![Some(1.5), None, Some(f64::NAN), Some(f64::INFINITY)]);
        assert_eq!(apart(&was, &was), Some(0.0));
        assert_eq!(apart(&was, &near), Some(0.5));
        let other = numbers(vec![Some(1.0), Some(0.0), Some(f64::NAN), Some(f64::INFINITY)]);
        assert_eq!(apart(&was, &other), None, "a null is no number");
        let infinite = numbers(vec![Some(1.0), None, Some(0.0), Some(f64::INFINITY)]);
        assert_eq!(apart(&was, &infinite), None, "NaN is no number either");
        assert_eq!(apart(&was, &was.slice(0, 2)), None);
    }

    #[test]
    fn lists_are_as_far_apart_as_their_items() {
        let list = |rows: &[&[f32]]| -> ArrayRef {
            let rows = rows
                .iter()
                .map(|row| Some(row.iter().map(|one| Some(*one)).collect::<Vec<_>>()));
            Arc::new(LargeListArray::from_iter_primitive::<Float32Type, _, _>(rows))
        };
        let was = list(&[&[1.0, 2.0], &[], &[3.0]]);
        assert_eq!(apart(&was, &list(&[&[1.0, 2.25], &[], &[3.0]])), Some(0.25));
        assert_eq!(
            apart(&was, &list(&[&[1.0], &[2.0], &[3.0]])),
            None,
            "as many items, cut otherwise"
        );
        assert_eq!(
            apart(&was.slice(2, 1), &list(&[&[3.5]])),
            Some(0.5),
            "slices keep to their rows"
        );

        let vectors = |values: Vec<f32>| -> ArrayRef {
            let item = Arc::new(arrow::datatypes::Field::new("item", DataType::Float32, true));
            Arc::new(FixedSizeListArray::try_new(item, 2, Arc::new(Float32Array::from(values)), None).unwrap())
        };
        let was = vectors(vec![1.0, 2.0, 3.0, 4.0]);
        assert_eq!(apart(&was, &vectors(vec![1.0, 2.0, 3.0, 4.5])), Some(0.5));
        assert_eq!(apart(&was.slice(1, 1), &vectors(vec![3.0, 4.0])), Some(0.0));
    }
}
