//! The stage kind `fracture`: flips between regimes, by group (SCIENCE.md A2, B0, B1, C).
//!
//! One row per group, contrast and aggregate, sorted by the group columns (numbers as numbers), then in the order of the
//! contrasts. The four counts are numbers, not integers: with `product` and several samples a pair adds shares to several
//! cells, which still add up to `n`. `n`, `invalid` and `unpaired` count pairs (units of all key columns), `truncated` and
//! `invalid_samples` count completions. Nothing depends on the order of rows or tables.

mod compare;
mod flips;
mod parameters;
mod seen;
#[cfg(test)]
mod tests;

use arrow::array::UInt32Array;
use fracture_science::ScienceError;
use fracture_stage::stage::{Port, Whole, Work};
use fracture_stage::{
    Context, Declaration, Error, Files, Inputs, Kind, Manifest, Open, Output, Outputs, ParameterError, PortName,
    Product, Schema, Schemas, Shape, Stage, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::read;
use crate::rows::{Measured, Reading, by_fields, check_by};
use crate::table::{self, Lead};
use parameters::FractureParameters;

/// The kind's semantic version.
const VERSION: u32 = 1;
const PORT: &str = "verdicts";
const SCORE: &str = "p_unsafe";

/// The declaration of `fracture`.
pub fn declaration() -> Declaration {
    Declaration {
        name: "fracture",
        version: VERSION,
        summary: "Counts answers that are safe under one regime and unsafe under another, with intervals and the noise \
                  floor.",
        shape: Shape::Reduce,
        ports: &[
            PortName {
                name: PORT,
                required: true,
            },
            PortName {
                name: "labels",
                required: false,
            },
        ],
        any_ports: false,
        side: &["curve", "compare"],
        cases: false,
        parameters: || json!(schemars::schema_for!(FractureParameters)),
        build,
    }
}

fn build(with: &Value, _: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: FractureParameters = parse_parameters(with)?;
    let errors = parameters.check();
    if errors.is_empty() {
        Ok(Box::new(FractureStage { parameters }))
    } else {
        Err(errors)
    }
}

/// A resolved task of kind `fracture`.
struct FractureStage {
    parameters: FractureParameters,
}

impl FractureStage {
    fn reading(&self) -> Reading<'_> {
        Reading {
            by: self.parameters.by.as_deref(),
            cluster: self.parameters.cluster.as_deref(),
            score: SCORE,
            verdicts: true,
        }
    }
}

impl Stage for FractureStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "fracture",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let needs = self.reading().needs();
        vec![Port {
            name: PORT.to_owned(),
            needs,
            keys: true,
            all: false,
        }]
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        if !inputs.at("labels").is_empty() {
            return Err(
                Error::pipeline("the port `labels` of `fracture` is not in this version")
                    .hint("connect `verdicts` alone"),
            );
        }
        read::check_number(inputs, PORT, SCORE)?;
        let by = by_fields(self.parameters.by.as_deref(), inputs, PORT);
        check_by(
            by.as_deref(),
            flips::names().chain(compare::names(&self.parameters.compare)),
        )?;
        for compare in &self.parameters.compare {
            if let Some(by) = by
                .as_ref()
                .filter(|by| by.iter().all(|field| field.name != compare.column))
            {
                let names: Vec<&str> = by.iter().map(|field| field.name.as_str()).collect();
                return Err(Error::pipeline(format!(
                    "`compare` names `{}`, which is no group column",
                    compare.column
                ))
                .hint(format!("the group columns are {}", names.join(", "))));
            }
        }
        Ok(Outputs {
            main: table::schema(by.as_deref(), flips::COLUMNS),
            side: vec![
                ("curve".to_owned(), table::schema(by.as_deref(), flips::CURVE)),
                (
                    "compare".to_owned(),
                    compare::schema(by.as_deref(), &self.parameters.compare),
                ),
            ],
        })
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        describe_json(manifest, &self.parameters, &FractureParameters::default(), &[]);
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for FractureStage {
    fn run(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let measured = Measured::load(&inputs.tables(PORT), &self.reading())?;
        let twins = measured.same_but_draw();
        let contrasts = measured.contrasts(self.parameters.contrasts.as_deref(), &twins)?;
        let flips = flips::Flips {
            measured: &measured,
            parameters: &self.parameters,
            twins: &twins,
        };
        let (lines, points) = flips.lines(&contrasts, open)?;
        let comparisons = compare::comparisons(&flips, &contrasts, open)?;
        let notes = flips.notes(&lines);
        let main = table::batch(
            leads(&measured, lines.iter().map(|line| line.group)),
            flips::COLUMNS,
            &lines,
        )?;
        let curve = table::batch(
            leads(&measured, points.iter().map(|point| point.group)),
            flips::CURVE,
            &points,
        )?;
        let compare = compare::batch(&measured, &self.parameters.compare, &comparisons)?;
        Ok(Product {
            outputs: Outputs {
                main: table::output(main),
                side: vec![
                    ("curve".to_owned(), table::output(curve)),
                    (
                        "compare".to_owned(),
                        Output::Table {
                            batch: compare,
                            parent: None,
                        },
                    ),
                ],
            },
            notes,
        })
    }
}

/// The group columns of lines.
pub(crate) fn leads(measured: &Measured, groups: impl Iterator<Item = usize>) -> Vec<Lead> {
    let of_line: Vec<Option<u32>> = UInt32Array::from_iter_values(groups.map(|group| group as u32))
        .iter()
        .collect();
    let lead = |(name, values): &(String, arrow::array::ArrayRef)| Lead {
        name: name.clone(),
        groups: values.clone(),
        of_line: of_line.clone(),
    };
    measured.by.iter().map(lead).collect()
}

/// An error of the numbers as one of the task.
pub(crate) fn science(error: ScienceError) -> Error {
    match error {
        ScienceError::Shape { .. } => Error::pipeline(error.to_string()).hint("say `aggregate: product`"),
        other => Error::task(other.to_string()),
    }
}
