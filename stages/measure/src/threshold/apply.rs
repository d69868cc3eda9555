//! How `threshold` does its work: a threshold for every row, and the verdict.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, LargeStringArray};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use fracture_stage::stage::Whole;
use fracture_stage::{Error, Inputs, Open, Product, View};

use super::maps::Maps;
use super::parameters::{Resolved, Wrong};
use super::{CALIBRATION, PORT, RAW, SCORE, ThresholdStage, cases};
use crate::read;

impl Whole for ThresholdStage {
    fn run(&self, inputs: &Inputs, _: &Open<'_>) -> Result<Product, Error> {
        let view = inputs.table(PORT)?;
        let name = self.parameters.score();
        let raw = read::required(read::numbers(&[view], name)?, name, &[view])?;
        probabilities(view, name, &raw)?;
        let maps = Maps::read(&inputs.tables(CALIBRATION), &self.parameters.by)?;
        let scores = match &maps {
            Some(maps) => maps.apply(view, &raw)?,
            None => raw.clone(),
        };
        let invalid = read::text(&[view], "invalid")?;
        let (thresholds, mut notes) = self.thresholds(view)?;
        let score = |row: usize| {
            let known = invalid.as_ref().is_none_or(|reasons| reasons.is_null(row));
            Some(read::number_at(&scores, row)).filter(|score| known && !score.is_nan())
        };
        // A score exactly at tau is unsafe; without a score there is no verdict, never a safe one.
        let verdicts: BooleanArray = thresholds
            .iter()
            .enumerate()
            .map(|(row, at)| score(row).map(|score| score >= at.tau))
            .collect();
        notes.extend(without_verdict(&verdicts));
        let tau = Float64Array::from_iter_values(thresholds.iter().map(|at| at.tau));
        let tau_other: Float64Array = thresholds.iter().map(|at| at.tau_other).collect();
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        // Readers after this stage see the score, calibrated or not, under the name of the score.
        if maps.is_some() || name != SCORE {
            columns.push((SCORE, Arc::new(scores.clone())));
        }
        if maps.is_some() {
            columns.push((RAW, Arc::new(raw)));
        }
        columns.push(("tau", Arc::new(tau)));
        columns.push(("tau_other", Arc::new(tau_other)));
        columns.push(("unsafe", Arc::new(verdicts)));
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
            .collect();
        let batch = RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            columns.into_iter().map(|(_, column)| column).collect(),
        )
        .map_err(|error| Error::internal("the verdicts do not make a table").cause(error))?;
        Ok(Product {
            notes,
            ..Product::table(batch)
        })
    }
}

/// Refuses scores that are no probabilities: a logit or a grade would be cut at a threshold that means nothing for it.
/// NaN and null are no scores, and no error.
fn probabilities(view: &View, name: &str, scores: &Float64Array) -> Result<(), Error> {
    let wrong = |row: &usize| {
        let score = read::number_at(scores, *row);
        !score.is_nan() && !(0.0..=1.0).contains(&score)
    };
    let mut all = (0..scores.len()).filter(wrong);
    let Some(row) = all.next() else { return Ok(()) };
    let place = |column: &&str| {
        let values = view.has(column).then(|| view.text(column).ok()).flatten()?;
        Some(format!("{column} {}", read::at(&values, row)?))
    };
    let place: Vec<String> = ["item", "regime"].iter().filter_map(place).collect();
    Err(Error::task(format!(
        "column `{name}` holds {}, which is no probability ({})",
        scores.value(row),
        match place.is_empty() {
            true => format!("row {}", row + 1),
            false => place.join(", "),
        }
    ))
    .cause(format!(
        "{} of {} scores are not between 0 and 1",
        1 + all.count(),
        scores.len()
    ))
    .hint("bring scores into 0..1 first, for instance by a `query`; 1 is unsafe"))
}

/// How many rows have no verdict, which is never a safe one.
fn without_verdict(verdicts: &BooleanArray) -> Option<String> {
    let (missing, all) = (verdicts.null_count(), verdicts.len());
    (missing > 0)
        .then(|| format!("{missing} of {all} rows have no score and so no verdict; they are counted as `invalid`"))
}

impl ThresholdStage {
    /// The threshold of every row, and a note for every case that no row falls under.
    fn thresholds(&self, view: &View) -> Result<(Vec<Resolved>, Vec<String>), Error> {
        let wrong =
            |(_, message): Wrong| Error::pipeline(format!("the cases of some rows give no threshold: {message}"));
        let all: Vec<_> = cases(&self.parameters).collect();
        let mut columns: HashMap<&str, LargeStringArray> = HashMap::new();
        for column in self.parameters.cases.keys() {
            columns.insert(column, view.text(column)?);
        }
        let mut met = vec![false; all.len()];
        let mut known: HashMap<Vec<usize>, Resolved> = HashMap::new();
        let mut thresholds = Vec::with_capacity(view.rows());
        for row in 0..view.rows() {
            let applies = |case: &usize| read::at(&columns[all[*case].0], row) == Some(all[*case].1);
            let matching: Vec<usize> = (0..all.len()).filter(applies).collect();
            matching.iter().for_each(|case| met[*case] = true);
            let resolved = match known.get(&matching) {
                Some(resolved) => *resolved,
                None => {
                    // Cases of several columns add up; of two that say the same thing the later column wins.
                    let rule = matching
                        .iter()
                        .try_fold(self.base, |rule, case| rule.with(all[*case].2))
                        .map_err(wrong)?;
                    let resolved = rule.resolve().map_err(wrong)?;
                    known.insert(matching, resolved);
                    resolved
                }
            };
            thresholds.push(resolved);
        }
        let unmet = all.iter().zip(met).filter(|(_, met)| !met && view.rows() > 0);
        let notes = unmet.map(|((column, value, _), _)| format!("no row falls under the case {column}: {value}"));
        Ok((thresholds, notes.collect()))
    }
}
