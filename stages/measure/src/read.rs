//! Reads columns over all tables of a port.

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use fracture_cache::ColumnType;
use fracture_science::ScienceError;
use fracture_stage::manifest::type_name;
use fracture_stage::view::concat_column;
use fracture_stage::{Error, Schemas, View};

/// Whether any of the tables has the column.
pub fn has(views: &[&View], name: &str) -> bool {
    views.iter().any(|view| view.has(name))
}

/// A column as text; `None` when no table has it.
///
/// # Errors
/// When the store can not deliver the column or a value can not be read so.
pub fn text(views: &[&View], name: &str) -> Result<Option<LargeStringArray>, Error> {
    read(views, name, &DataType::LargeUtf8)
}

/// A column as numbers; `None` when no table has it.
///
/// # Errors
/// When the store can not deliver the column or a value can not be read so.
pub fn numbers(views: &[&View], name: &str) -> Result<Option<Float64Array>, Error> {
    read(views, name, &DataType::Float64)
}

/// A column as whole numbers; `None` when no table has it.
///
/// # Errors
/// When the store can not deliver the column or a value can not be read so.
pub fn integers(views: &[&View], name: &str) -> Result<Option<Int64Array>, Error> {
    read(views, name, &DataType::Int64)
}

/// A column of flags; `None` when no table has it. Flags are booleans, the numbers 0 and 1, or the texts `0`, `1`, `true`
/// and `false`: Arrow's own cast takes every other number for true.
///
/// # Errors
/// When the store can not deliver the column, or a value is none of these; the error names value and row.
pub fn flags(views: &[&View], name: &str) -> Result<Option<BooleanArray>, Error> {
    if !has(views, name) {
        return Ok(None);
    }
    let column = concat_column(views, name)?;
    let wrong = |row: usize, value: String| no_flag(views, name, row, &value);
    let kind = column.data_type();
    let flags = if matches!(kind, DataType::LargeUtf8 | DataType::Utf8) {
        let words: LargeStringArray = cast(&column, name, &DataType::LargeUtf8)?;
        let flag = |row: usize| match at(&words, row).map(str::trim) {
            None => Ok(None),
            Some("0") => Ok(Some(false)),
            Some("1") => Ok(Some(true)),
            Some(word) if word.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(word) if word.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(_) => Err(wrong(row, format!("`{}`", words.value(row)))),
        };
        (0..words.len()).map(flag).collect::<Result<_, Error>>()?
    } else if kind.is_numeric() {
        let numbers: Float64Array = cast(&column, name, &DataType::Float64)?;
        let flag = |row: usize| match numbers.is_valid(row).then(|| numbers.value(row)) {
            None => Ok(None),
            Some(0.0) => Ok(Some(false)),
            Some(1.0) => Ok(Some(true)),
            Some(number) => Err(wrong(row, number.to_string())),
        };
        (0..numbers.len()).map(flag).collect::<Result<_, Error>>()?
    } else {
        cast(&column, name, &DataType::Boolean)?
    };
    Ok(Some(flags))
}

/// The error for a value that is no flag. `row` counts over all tables.
fn no_flag(views: &[&View], name: &str, row: usize, value: &str) -> Error {
    let place = |column: &&str| {
        let values = text(views, column).ok()??;
        Some(format!("{column} {}", at(&values, row)?))
    };
    let mut said: Vec<String> = ["item", "axis", "regime", "sample", "rater"]
        .iter()
        .filter_map(place)
        .collect();
    let (mut table, mut within) = (0, row);
    while views.get(table).is_some_and(|view| within >= view.rows()) {
        within -= views[table].rows();
        table += 1;
    }
    said.push(match views.len() {
        1 => format!("row {} of its table", within + 1),
        _ => format!("row {} of table {}", within + 1, table + 1),
    });
    Error::task(format!(
        "column `{name}` holds {value}, which is neither true nor false ({})",
        said.join(", ")
    ))
    .hint(format!(
        "write true or false, or 1 or 0; where the table is loaded other words are mapped by `columns: {{ {name}: {{ from: \
         {name}, map: {{ WORD: true, OTHER: false }} }} }}`, and a row without an answer is left empty"
    ))
}

/// A column that must be there.
///
/// # Errors
/// When it is not; the error lists the columns that are.
pub fn required<A>(column: Option<A>, name: &str, views: &[&View]) -> Result<A, Error> {
    let names = || {
        views
            .first()
            .map_or_else(String::new, |view| view.names().collect::<Vec<_>>().join(", "))
    };
    column
        .ok_or_else(|| Error::task(format!("there is no column `{name}`")).hint(format!("the columns are {}", names())))
}

fn read<A: Array + Clone + 'static>(views: &[&View], name: &str, to: &DataType) -> Result<Option<A>, Error> {
    if !has(views, name) {
        return Ok(None);
    }
    let column = concat_column(views, name)?;
    cast(&column, name, to).map(Some)
}

/// A strict cast: what can not be read is an error, never null.
///
/// # Errors
/// When a value can not be read so; the error names the column.
pub fn cast<A: Array + Clone + 'static>(column: &ArrayRef, name: &str, to: &DataType) -> Result<A, Error> {
    let wrong = || {
        Error::task(format!(
            "column `{name}` is of type {}, which can not be read as {to}",
            column.data_type()
        ))
    };
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let cast = cast_with_options(column, to, &options).map_err(|error| wrong().cause(error))?;
    cast.as_any().downcast_ref::<A>().cloned().ok_or_else(wrong)
}

/// The value in a row, `None` for null.
pub fn at(column: &LargeStringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

/// The number in a row, NaN for null.
pub fn number_at(column: &Float64Array, row: usize) -> f64 {
    if column.is_valid(row) {
        column.value(row)
    } else {
        f64::NAN
    }
}

/// Checks at plan time that a column can be read as numbers.
///
/// # Errors
/// When it is text or a list.
pub fn check_number(schemas: &Schemas, port: &str, column: &str) -> Result<(), Error> {
    for schema in schemas.at(port) {
        let kind = schema.field(column).and_then(|field| field.kind);
        let is_number = !matches!(
            kind,
            Some(
                ColumnType::Text | ColumnType::Time | ColumnType::ListU32 | ColumnType::ListF32 | ColumnType::Vector(_)
            )
        );
        if !is_number {
            let kind = kind.map(type_name).unwrap_or_default();
            return Err(
                Error::pipeline(format!("column `{column}` is a {kind}, and a number is needed"))
                    .hint("where the table is loaded, say `columns: { NAME: { from: NAME, type: number } }`"),
            );
        }
    }
    Ok(())
}

/// An error of the numbers as one of the task.
pub fn science(error: ScienceError) -> Error {
    match error {
        ScienceError::Shape { .. } => Error::pipeline(error.to_string()).hint("say `aggregate: product`"),
        other => Error::task(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
