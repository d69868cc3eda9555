//! How `threshold` does its work: a threshold for every row, and the verdict.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Float64Array, LargeStringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use fracture_stage::stage::Whole;
use fracture_stage::{Error, Inputs, Open, Product, View};

use super::parameters::{Resolved, Wrong};
use super::{PORT, SCORE, ThresholdStage, cases};
use crate::read;

impl Whole for ThresholdStage {
    fn run(&self, inputs: &Inputs, _: &Open<'_>) -> Result<Product, Error> {
        let view = inputs.table(PORT)?;
        let scores = read::required(read::numbers(&[view], SCORE)?, SCORE, &[view])?;
        let invalid = read::text(&[view], "invalid")?;
        let (thresholds, notes) = self.thresholds(view)?;
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
        let tau = Float64Array::from_iter_values(thresholds.iter().map(|at| at.tau));
        let tau_other: Float64Array = thresholds.iter().map(|at| at.tau_other).collect();
        let schema = Schema::new(vec![
            Field::new("tau", DataType::Float64, true),
            Field::new("tau_other", DataType::Float64, true),
            Field::new("unsafe", DataType::Boolean, true),
        ]);
        let batch = RecordBatch::try_new(
            Arc::new(schema),
            vec![Arc::new(tau), Arc::new(tau_other), Arc::new(verdicts)],
        )
        .map_err(|error| Error::internal("the verdicts do not make a table").cause(error))?;
        Ok(Product {
            notes,
            ..Product::table(batch)
        })
    }
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
