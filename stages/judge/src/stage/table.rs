//! The columns that a judge adds, and what a user is told about rows without a score.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayBuilder as _, ArrayRef, BooleanBuilder, Float64Builder, LargeStringArray, LargeStringBuilder,
    UInt32Builder,
};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use fracture_stage::{Error, Product, View};

use super::parameters::{JudgeParameters, OrientationParameter, Verdict};

pub(super) trait ValueAt {
    /// The text of a row, `None` where it is null.
    fn value_at(&self, row: usize) -> Option<&str>;
}

impl ValueAt for LargeStringArray {
    fn value_at(&self, row: usize) -> Option<&str> {
        self.is_valid(row).then(|| self.value(row))
    }
}

/// Why rows were invalid before they came here; all null when no stage before says so.
pub(super) fn invalid(view: &View) -> Result<LargeStringArray, Error> {
    if view.has("invalid") {
        return view.text("invalid");
    }
    Ok(LargeStringArray::from(vec![None::<&str>; view.rows()]))
}

/// A note for every case that no row falls under: a misspelt value would change nothing in silence.
pub(super) fn unused_cases(parameters: &JudgeParameters, view: &View) -> Result<Vec<String>, Error> {
    let mut notes = Vec::new();
    if view.rows() == 0 {
        return Ok(notes);
    }
    for (column, cases) in &parameters.cases {
        let values = view.text(column)?;
        let met: HashSet<&str> = values.iter().flatten().collect();
        let unmet = cases.keys().filter(|value| !met.contains(value.as_str()));
        notes.extend(unmet.map(|value| format!("no row falls under the case {column}: {value}")));
    }
    Ok(notes)
}

/// Whether the score of each row is turned round: by its case, else by the stage's orientation.
pub(super) fn orientations(parameters: &JudgeParameters, view: &View) -> Result<Vec<bool>, Error> {
    let columns: Vec<(LargeStringArray, &BTreeMap<String, Verdict>)> = parameters
        .cases
        .iter()
        .map(|(column, cases)| Ok((view.text(column)?, cases)))
        .collect::<Result<_, Error>>()?;
    let of_row = |row: usize| {
        let said = columns
            .iter()
            .rev()
            .find_map(|(values, cases)| cases.get(values.value_at(row)?).and_then(|verdict| verdict.orientation));
        said.unwrap_or(parameters.orientation) == OrientationParameter::Good
    };
    Ok((0..view.rows()).map(of_row).collect())
}

/// One row of the table.
#[derive(Debug, Default)]
pub(super) struct Entry<'a> {
    pub p_unsafe: Option<f64>,
    /// The probability of each label; empty when there is none.
    pub labels: &'a [f64],
    pub mass: Option<f64>,
    pub invalid: Option<&'a str>,
    pub windows: u32,
    pub truncated: bool,
}

/// The columns that the stage adds, and what is counted on the way: tables may have millions of rows.
pub(super) struct Table {
    names: Vec<String>,
    p_unsafe: Float64Builder,
    labels: Vec<Float64Builder>,
    mass: Option<Float64Builder>,
    invalid: LargeStringBuilder,
    windows: UInt32Builder,
    truncated: BooleanBuilder,
    sum: f64,
    reasons: BTreeMap<String, usize>,
    windowed: usize,
    cut: usize,
}

impl Table {
    /// A table with room for `rows` rows; `labels` name the columns `score_LABEL`.
    pub fn new(labels: &[String], has_mass: bool, rows: usize) -> Self {
        Self {
            names: labels.to_vec(),
            p_unsafe: Float64Builder::with_capacity(rows),
            labels: labels.iter().map(|_| Float64Builder::with_capacity(rows)).collect(),
            mass: has_mass.then(|| Float64Builder::with_capacity(rows)),
            invalid: LargeStringBuilder::with_capacity(rows, 0),
            windows: UInt32Builder::with_capacity(rows),
            truncated: BooleanBuilder::with_capacity(rows),
            sum: 0.0,
            reasons: BTreeMap::new(),
            windowed: 0,
            cut: 0,
        }
    }

    pub fn push(&mut self, entry: &Entry<'_>) {
        self.p_unsafe.append_option(entry.p_unsafe);
        for (index, column) in self.labels.iter_mut().enumerate() {
            column.append_option(entry.labels.get(index).copied());
        }
        if let Some(mass) = &mut self.mass {
            mass.append_option(entry.mass);
        }
        self.invalid.append_option(entry.invalid);
        self.windows.append_value(entry.windows);
        self.truncated.append_value(entry.truncated);
        self.windowed += usize::from(entry.windows > 1);
        self.cut += usize::from(entry.truncated);
        match entry.p_unsafe {
            Some(p) => self.sum += p,
            None => {
                // Percentages and causes differ from row to row; what stands before them is the kind of reason.
                let reason = entry.invalid.unwrap_or("no score");
                let kind = reason.split(|c: char| c == ':' || c.is_ascii_digit()).next();
                *self
                    .reasons
                    .entry(kind.unwrap_or(reason).trim_end().to_owned())
                    .or_default() += 1;
            }
        }
    }

    pub fn push_invalid(&mut self, reason: &str) {
        self.push(&Entry {
            invalid: Some(reason),
            ..Entry::default()
        });
    }

    pub fn product(mut self) -> Result<Product, Error> {
        let notes = self.notes();
        let mut fields = vec![Field::new("p_unsafe", DataType::Float64, true)];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(self.p_unsafe.finish())];
        for (label, column) in self.names.iter().zip(&mut self.labels) {
            fields.push(Field::new(format!("score_{label}"), DataType::Float64, true));
            arrays.push(Arc::new(column.finish()));
        }
        if let Some(mass) = &mut self.mass {
            fields.push(Field::new("mass", DataType::Float64, true));
            arrays.push(Arc::new(mass.finish()));
        }
        fields.push(Field::new("invalid", DataType::LargeUtf8, true));
        arrays.push(Arc::new(self.invalid.finish()));
        fields.push(Field::new("windows", DataType::UInt32, true));
        arrays.push(Arc::new(self.windows.finish()));
        fields.push(Field::new("truncated", DataType::Boolean, true));
        arrays.push(Arc::new(self.truncated.finish()));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
            .map_err(|error| Error::internal("the scores do not make a table").cause(error))?;
        let mut product = Product::table(batch);
        product.notes = notes;
        Ok(product)
    }

    /// How many rows have no score, why, and between what the mean score lies if they were all safe or all unsafe; how
    /// many texts were scored in windows or cut.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let all = self.windows.len();
        let missing: usize = self.reasons.values().sum();
        if missing > 0 {
            let listed: Vec<String> = self.reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
            let mean = |unsafe_rows: usize| (self.sum + unsafe_rows as f64) / all as f64;
            notes.push(format!(
                "{missing} of {all} rows have no score ({}); the mean of p_unsafe lies between {:.4} (all of them safe) and \
                 {:.4} (all unsafe)",
                listed.join(", "),
                mean(0),
                mean(missing)
            ));
        }
        if self.windowed > 0 {
            notes.push(format!(
                "{} of {all} texts were scored in several windows",
                self.windowed
            ));
        }
        if self.cut > 0 {
            notes.push(format!(
                "{} of {all} texts were too long and were judged without all of their text",
                self.cut
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_without_a_score_are_counted_and_bounded() {
        let mut table = Table::new(&["a".to_owned()], true, 4);
        table.push(&Entry {
            p_unsafe: Some(0.5),
            labels: &[0.5],
            mass: Some(0.9),
            windows: 3,
            truncated: true,
            ..Entry::default()
        });
        table.push_invalid("empty text");
        table.push_invalid("too little of the probability for a verdict: 30%");
        table.push_invalid("too little of the probability for a verdict: 4%");
        let product = table.product().unwrap();
        assert_eq!(
            product.notes,
            [
                "3 of 4 rows have no score (1 empty text, 2 too little of the probability for a verdict); the mean of p_unsafe lies between 0.1250 (all \
                 of them safe) and 0.8750 (all unsafe)",
                "1 of 4 texts were scored in several windows",
                "1 of 4 texts were too long and were judged without all of their text",
            ]
        );
    }
}
