//! The maps of a `calibrate` stage, as rows look them up.

use std::collections::BTreeMap;

use arrow::array::{Array, Float64Array, LargeStringArray};
use fracture_science::CalibrationMap;
use fracture_stage::{Error, View};

use crate::read;

/// A value of every column of `by`.
type Key = Vec<Option<String>>;

/// The maps by the values of their group columns.
pub struct Maps<'a> {
    by: &'a [String],
    maps: BTreeMap<Key, CalibrationMap>,
}

impl<'a> Maps<'a> {
    /// Reads the maps; `None` when nothing is connected.
    ///
    /// # Errors
    /// When two maps are for the same rows, or one is damaged.
    pub fn read(views: &[&View], by: &'a [String]) -> Result<Option<Self>, Error> {
        if views.is_empty() {
            return Ok(None);
        }
        let numbers = |name: &str| read::required(read::numbers(views, name)?, name, views);
        let [slope, intercept, score, probability] = [
            numbers("slope")?,
            numbers("intercept")?,
            numbers("score")?,
            numbers("probability")?,
        ];
        let keys = keys(views, by)?;
        let mut maps: BTreeMap<Key, CalibrationMap> = BTreeMap::new();
        for (row, key) in keys.into_iter().enumerate() {
            let value = |column: &Float64Array| column.is_valid(row).then(|| column.value(row));
            let twice = || {
                let places: Vec<String> = by.iter().zip(&key).map(|(name, value)| said(name, value)).collect();
                Error::pipeline(format!(
                    "there are several maps for the same rows ({})",
                    places.join(", ")
                ))
                .hint("name the columns that tell the maps apart: `by: [...]` here, as in the `calibrate` stage")
            };
            match (
                value(&slope).zip(value(&intercept)),
                value(&score).zip(value(&probability)),
            ) {
                (Some((slope, intercept)), None) => {
                    if maps.contains_key(&key) {
                        return Err(twice());
                    }
                    maps.insert(key, CalibrationMap::Logistic { slope, intercept });
                }
                (None, Some((score, probability))) => {
                    let empty = || CalibrationMap::Corners {
                        scores: Vec::new(),
                        probabilities: Vec::new(),
                    };
                    match maps.entry(key.clone()).or_insert_with(empty) {
                        CalibrationMap::Corners { scores, probabilities }
                            if scores.last().is_none_or(|last| *last < score) =>
                        {
                            scores.push(score);
                            probabilities.push(probability);
                        }
                        _ => return Err(twice()),
                    }
                }
                _ => {
                    return Err(Error::task("a row of the calibration is neither a curve nor a corner")
                        .hint("connect the main table of a `calibrate` stage to `calibration`"));
                }
            }
        }
        Ok(Some(Self { by, maps }))
    }

    /// The calibrated scores; null stays null.
    ///
    /// # Errors
    /// When a scored row has no map.
    pub fn apply(&self, view: &View, scores: &Float64Array) -> Result<Float64Array, Error> {
        let keys = keys(&[view], self.by)?;
        let mut calibrated = Vec::with_capacity(scores.len());
        for (row, key) in keys.iter().enumerate() {
            if scores.is_null(row) {
                calibrated.push(None);
                continue;
            }
            let map = self.maps.get(key).ok_or_else(|| {
                let places: Vec<String> = self.by.iter().zip(key).map(|(name, value)| said(name, value)).collect();
                Error::task(format!("the calibration has no map for {}", places.join(", ")))
                    .hint("label some of these rows, or calibrate with fewer columns in `by:`")
            })?;
            calibrated.push(Some(map.apply(scores.value(row))));
        }
        Ok(calibrated.into())
    }
}

fn said(name: &str, value: &Option<String>) -> String {
    format!("{name} {}", value.as_deref().unwrap_or("null"))
}

/// The key of every row.
fn keys(views: &[&View], by: &[String]) -> Result<Vec<Key>, Error> {
    let rows: usize = views.iter().map(|view| view.rows()).sum();
    let columns: Vec<LargeStringArray> = by
        .iter()
        .map(|name| read::required(read::text(views, name)?, name, views))
        .collect::<Result<_, _>>()?;
    let key = |row: usize| {
        columns
            .iter()
            .map(|column| read::at(column, row).map(str::to_owned))
            .collect()
    };
    Ok((0..rows).map(key).collect())
}
