//! The stage kind `fracture`: flips between regimes, by group (SCIENCE.md A2, B0, B1, C).
//!
//! One row per group, contrast and aggregate, sorted by the group columns (numbers as numbers), then in the order of the
//! contrasts. The four counts are numbers, not integers: with `product` and several samples a pair adds shares to several
//! cells, which still add up to `n`. `n`, `invalid` and `unpaired` count pairs (units of all key columns), `truncated` and
//! `invalid_samples` count completions. Nothing depends on the order of rows or tables.

mod compare;
mod corrections;
pub mod flips;
pub mod parameters;
mod seen;
#[cfg(test)]
mod tests;

use fracture_stage::stage::{Keys, Port, Whole, Work};
use fracture_stage::{
    Arriving, Context, Declaration, Error, Files, Inputs, Kind, Manifest, Named, Open, Output, Outputs, ParameterError,
    PortName, Product, Schema, Schemas, Shape, Stage, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::read;
use crate::rows::{Measured, Reading, Told, by_fields, check_by, label_needs, named_regimes};
use crate::table::{self, leads};
use parameters::FractureParameters;

/// The kind's semantic version.
const VERSION: u32 = 3;
const PORT: &str = "verdicts";
const LABELS: &str = "labels";
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
                name: LABELS,
                required: false,
            },
        ],
        any_ports: false,
        side: &["curve", "compare"],
        cases: false,
        spread: None,
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
            ..Reading::default()
        }
    }

    fn told(&self) -> Told<'_> {
        Told {
            port: PORT,
            by: self.parameters.by.as_deref(),
            contrasts: self.parameters.contrasts.as_deref(),
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
        vec![
            Port {
                name: PORT.to_owned(),
                needs: self.reading().needs(),
                keys: Keys::apart_when(self.parameters.by.is_some()),
                all: false,
            },
            Port {
                name: LABELS.to_owned(),
                needs: label_needs(),
                keys: Keys::apart_when(self.parameters.by.is_some()),
                all: false,
            },
        ]
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        match (self.parameters.correct, inputs.at(LABELS).is_empty()) {
            (Some(_), true) => {
                return Err(Error::pipeline("`correct` needs labels of people at the port `labels`")
                    .hint("say `needs: { verdicts: STAGE, labels: STAGE }`; the labels bring `unsafe_human`"));
            }
            (None, false) => {
                return Err(
                    Error::pipeline("labels are connected, but nothing says what they are for")
                        .hint("say `correct: rogan-gladen`, `correct: ppi` or `correct: stratified`"),
                );
            }
            _ => {}
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
            main: table::schema(by.as_deref(), &flips::columns(&self.parameters)),
            side: vec![
                ("curve".to_owned(), table::schema(by.as_deref(), flips::CURVE)),
                (
                    "compare".to_owned(),
                    compare::schema(by.as_deref(), &self.parameters.compare),
                ),
            ],
        })
    }

    fn output_values(&self, output: Option<&str>, column: &str, arriving: &Arriving<'_>) -> Option<Vec<String>> {
        let own = |name: &str| {
            flips::names()
                .chain(compare::names(&self.parameters.compare))
                .any(|own| own == name)
        };
        match (output, column) {
            (None | Some("compare"), "aggregate") => {
                let names = self
                    .parameters
                    .aggregate
                    .iter()
                    .map(|aggregate| aggregate.name().to_owned());
                Some(names.collect())
            }
            // A comparison over a group column leaves it empty.
            (Some("compare"), column) if column != "contrast" => None,
            _ => self.told().values(column, own(column), arriving),
        }
    }

    fn named(&self) -> Vec<Named> {
        let mut named = named_regimes(PORT, self.parameters.contrasts.as_deref());
        let compares = self.parameters.compare.iter().enumerate();
        named.extend(compares.flat_map(|(index, compare)| compare.named(PORT, index)));
        named
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
        let measured = Measured::load_labelled(&inputs.tables(PORT), &inputs.tables(LABELS), &self.reading())?;
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
            &flips::columns(&self.parameters),
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
