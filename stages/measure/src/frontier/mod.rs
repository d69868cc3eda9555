//! The stage kind `frontier`: the train-to-deploy frontier of risk (SCIENCE.md B2; operationalised here, the paper leaves its
//! formulas open).
//!
//! One row per group and contrast, in the order of `fracture`'s. Samples of one item and regime are reduced to their mean.

mod lines;
mod parameters;
#[cfg(test)]
mod tests;

use fracture_stage::stage::{Keys, Port, Whole, Work};
use fracture_stage::{
    Arriving, Context, Declaration, Error, Files, Inputs, Kind, Manifest, Named, Open, Outputs, ParameterError,
    PortName, Product, Schema, Schemas, Shape, Stage, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::read;
use crate::rows::{Measured, Reading, Told, by_fields, check_by, named_regimes};
use crate::table::{self, leads};
use parameters::FrontierParameters;

/// The kind's semantic version.
const VERSION: u32 = 2;
const PORT: &str = "verdicts";

/// The declaration of `frontier`.
pub fn declaration() -> Declaration {
    Declaration {
        name: "frontier",
        version: VERSION,
        summary: "Compares the risk of two regimes at every threshold: the exceedance frontier, its dominance and lift.",
        shape: Shape::Reduce,
        ports: &[PortName {
            name: PORT,
            required: true,
        }],
        any_ports: false,
        side: &["curve", "overtakes", "quantiles", "lifts"],
        cases: false,
        spread: None,
        parameters: || json!(schemars::schema_for!(FrontierParameters)),
        build,
    }
}

fn build(with: &Value, _: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: FrontierParameters = parse_parameters(with)?;
    let errors = parameters.check();
    if errors.is_empty() {
        Ok(Box::new(FrontierStage { parameters }))
    } else {
        Err(errors)
    }
}

/// A resolved task of kind `frontier`.
struct FrontierStage {
    parameters: FrontierParameters,
}

impl FrontierStage {
    fn reading(&self) -> Reading<'_> {
        Reading {
            by: self.parameters.by.as_deref(),
            cluster: self.parameters.cluster.as_deref(),
            score: &self.parameters.score,
            verdicts: false,
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

impl Stage for FrontierStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "frontier",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        vec![Port {
            name: PORT.to_owned(),
            needs: self.reading().needs(),
            keys: Keys::apart_when(self.parameters.by.is_some()),
            all: false,
        }]
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        read::check_number(inputs, PORT, &self.parameters.score)?;
        let by = by_fields(self.parameters.by.as_deref(), inputs, PORT);
        check_by(by.as_deref(), lines::names())?;
        Ok(Outputs {
            main: table::schema(by.as_deref(), lines::COLUMNS),
            side: vec![
                ("curve".to_owned(), table::schema(by.as_deref(), lines::CURVE)),
                ("overtakes".to_owned(), table::schema(by.as_deref(), lines::OVERTAKES)),
                ("quantiles".to_owned(), table::schema(by.as_deref(), lines::QUANTILES)),
                ("lifts".to_owned(), table::schema(by.as_deref(), lines::LIFTS)),
            ],
        })
    }

    fn output_values(&self, _: Option<&str>, column: &str, arriving: &Arriving<'_>) -> Option<Vec<String>> {
        let own = lines::names().any(|own| own == column);
        self.told().values(column, own, arriving)
    }

    fn named(&self) -> Vec<Named> {
        named_regimes(PORT, self.parameters.contrasts.as_deref())
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        describe_json(manifest, &self.parameters, &FrontierParameters::default(), &[]);
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for FrontierStage {
    fn run(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let measured = Measured::load(&inputs.tables(PORT), &self.reading())?;
        let twins = measured.same_but_draw();
        let contrasts = measured.contrasts(self.parameters.contrasts.as_deref(), &twins)?;
        let lines::Lines {
            lines,
            points,
            overtakes,
            quantiles,
            lifts,
        } = lines::lines(&measured, &contrasts, &self.parameters, open)?;
        let main = table::batch(
            leads(&measured, lines.iter().map(|line| line.group)),
            lines::COLUMNS,
            &lines,
        )?;
        let curve = table::batch(
            leads(&measured, points.iter().map(|point| point.group)),
            lines::CURVE,
            &points,
        )?;
        let groups = overtakes.iter().map(|overtake| overtake.group);
        let overtakes = table::batch(leads(&measured, groups), lines::OVERTAKES, &overtakes)?;
        let groups = quantiles.iter().map(|quantile| quantile.group);
        let quantiles = table::batch(leads(&measured, groups), lines::QUANTILES, &quantiles)?;
        let lifts = table::batch(
            leads(&measured, lifts.iter().map(|lift| lift.group)),
            lines::LIFTS,
            &lifts,
        )?;
        Ok(Product {
            notes: lines::notes(&lines),
            outputs: Outputs {
                main: table::output(main),
                side: vec![
                    ("curve".to_owned(), table::output(curve)),
                    ("overtakes".to_owned(), table::output(overtakes)),
                    ("quantiles".to_owned(), table::output(quantiles)),
                    ("lifts".to_owned(), table::output(lifts)),
                ],
            },
        })
    }
}
