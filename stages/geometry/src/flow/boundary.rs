//! Labelled points from elsewhere that draw the boundary (SCIENCE.md B3, E4): the only Entry that does not depend on the judge
//! whose verdicts make FRACTURE.

use arrow::array::Array;
use fracture_measure::read;
use fracture_science::{Labelled, embed_mean};
use fracture_stage::{Completeness, Error, Schema, View};

use super::embeddings::Vectors;

/// The columns that may hold the label, the first one there wins.
pub const LABELS: [&str; 2] = ["unsafe_human", "unsafe"];

/// Points with labels.
#[derive(Debug)]
pub struct Outside {
    points: Vec<(Vec<f64>, bool)>,
    /// Rows without a vector or a label.
    pub unusable: usize,
}

impl Outside {
    /// Reads the points, scaled to length 1.
    ///
    /// # Errors
    /// When there is no label or no point of one of both classes.
    pub fn read(views: &[&View]) -> Result<Self, Error> {
        let vectors = Vectors::read(views)?;
        let mut labels = None;
        for name in LABELS {
            if labels.is_none() {
                labels = read::flags(views, name)?;
            }
        }
        let labels = labels.ok_or_else(missing)?;
        let point = |row: usize| {
            let vector: Vec<f64> = vectors.row(row)?.iter().map(|x| f64::from(*x)).collect();
            let label = labels.is_valid(row).then(|| labels.value(row))?;
            Some((embed_mean([vector.as_slice()])?, label))
        };
        let points: Vec<(Vec<f64>, bool)> = (0..vectors.len()).filter_map(point).collect();
        for class in [true, false] {
            if points.iter().all(|(_, label)| *label != class) {
                let name = if class { "unsafe" } else { "safe" };
                return Err(Error::task(format!("no point of `boundary` is labelled {name}"))
                    .hint("a boundary needs points on both sides"));
            }
        }
        Ok(Self {
            unusable: vectors.len() - points.len(),
            points,
        })
    }

    /// The points as the numbers take them.
    pub fn labelled(&self) -> Vec<Labelled<'_>> {
        self.points.iter().map(|(x, label)| (x.as_slice(), *label)).collect()
    }
}

/// Checks at plan time that the points will have labels.
pub fn check(schemas: &[Schema]) -> Result<(), Error> {
    let may = |schema: &Schema| {
        schema.completeness != Completeness::Exact || LABELS.iter().any(|name| schema.field(name).is_some())
    };
    match schemas.iter().all(may) {
        true => Ok(()),
        false => Err(missing()),
    }
}

fn missing() -> Error {
    Error::pipeline("the points of `boundary` have no label")
        .hint("give them a column `unsafe_human` (or `unsafe`) of true and false")
}
