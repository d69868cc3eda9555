//! The groups that units fall in, sorted by their columns.

use arrow::array::{ArrayRef, LargeStringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use fracture_stage::view::concat_column;
use fracture_stage::{Error, View};

use super::codes::Codes;
use super::{Reading, by};
use crate::{order, read};

/// The groups that the units fall in.
pub struct Groups {
    /// The group columns, one value per group, groups in order.
    pub by: Vec<(String, ArrayRef)>,
    /// The same as text.
    pub by_text: Vec<Vec<Option<String>>>,
    /// The group of each unit.
    pub of_unit: Vec<usize>,
    /// How many groups there are.
    pub count: usize,
}

impl Groups {
    /// Groups the units, each given by one of its rows.
    ///
    /// # Errors
    /// When a group column is not there or differs within one unit.
    pub fn new(views: &[&View], reading: &Reading<'_>, units: &[usize], unit_of_row: &[u32]) -> Result<Self, Error> {
        let names = by::resolve(reading.by, views);
        let (mut columns, mut texts) = (Vec::new(), Vec::new());
        for name in &names {
            if !read::has(views, name) {
                return Err(Error::pipeline(format!("there is no column `{name}` to group by")));
            }
            let column = concat_column(views, name)?;
            texts.push(read::cast::<LargeStringArray>(&column, name, &DataType::LargeUtf8)?);
            columns.push(column);
        }
        let codes = Codes::all(&texts, unit_of_row.len());
        for (row, unit) in unit_of_row.iter().enumerate() {
            let example = units[*unit as usize];
            if codes.of_row[row] != codes.of_row[example] {
                return Err(differs(&names, &texts, [example, row]));
            }
        }
        let mut sorted: Vec<usize> = (0..codes.example.len()).collect();
        let value = |code: usize, column: usize| read::at(&texts[column], codes.example[code]);
        sorted.sort_by(|&a, &b| {
            let by_column = (0..texts.len()).map(|column| order::compare(value(a, column), value(b, column)));
            by_column.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        });
        let mut rank = vec![0; sorted.len()];
        sorted.iter().enumerate().for_each(|(place, &code)| rank[code] = place);
        let examples = UInt32Array::from_iter_values(sorted.iter().map(|&code| codes.example[code] as u32));
        let gathered = names.iter().cloned().zip(&columns).map(|(name, column)| {
            let values = take(column, &examples, None)
                .map_err(|error| Error::internal(format!("column `{name}` can not be gathered")).cause(error))?;
            Ok((name, values))
        });
        let text = |column: usize| {
            sorted
                .iter()
                .map(|&code| value(code, column).map(str::to_owned))
                .collect()
        };
        Ok(Self {
            by: gathered.collect::<Result<_, Error>>()?,
            by_text: (0..texts.len()).map(text).collect(),
            of_unit: units.iter().map(|&row| rank[codes.of_row[row] as usize]).collect(),
            count: sorted.len(),
        })
    }
}

/// A group column that differs between the regimes or samples of one unit.
fn differs(names: &[String], texts: &[LargeStringArray], [a, b]: [usize; 2]) -> Error {
    let column = (0..names.len()).find(|&column| read::at(&texts[column], a) != read::at(&texts[column], b));
    let (name, said) = match column {
        Some(column) => {
            let value = |row| read::at(&texts[column], row).unwrap_or("null").to_owned();
            (names[column].as_str(), format!("{} and {}", value(a), value(b)))
        }
        None => ("by", "several values".to_owned()),
    };
    Error::pipeline(format!(
        "the group column `{name}` differs between the rows of one pair ({said})"
    ))
    .hint("a group holds whole pairs: leave it out of `by:`, or make it a key column (`keys:`)")
}
