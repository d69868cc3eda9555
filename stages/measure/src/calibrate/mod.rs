//! The stage kind `calibrate`: maps a judge's scores to probabilities by people's labels (SCIENCE.md C5).
//!
//! The main table is the fitted map, which `threshold` applies through its port `calibration`: one row per group, or, for an
//! isotonic map, one per corner. Brier score, expected calibration error and log-loss stand beside it, before, and after on
//! folds of whole clusters that the map had not seen. `.reliability` has the bins of both.

mod lines;
mod parameters;
#[cfg(test)]
mod tests;

use fracture_stage::stage::{Keys, Need, Port, Whole, Work};
use fracture_stage::{
    Context, Declaration, Error, Files, Inputs, Kind, Manifest, Open, Outputs, ParameterError, PortName, Product,
    Schema, Schemas, Shape, Stage, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::read;
use crate::rows::{by_fields, check_by, label_needs};
use crate::table;
pub use lines::{MAP, is_own};
use parameters::CalibrateParameters;

/// The kind's semantic version.
const VERSION: u32 = 1;
const PORT: &str = "scores";
const LABELS: &str = "labels";

/// The declaration of `calibrate`.
pub fn declaration() -> Declaration {
    Declaration {
        name: "calibrate",
        version: VERSION,
        summary: "Fits a map from a judge's scores to probabilities by people's labels, and says what it is worth on labels \
                  it has not seen.",
        shape: Shape::Reduce,
        ports: &[
            PortName {
                name: PORT,
                required: true,
            },
            PortName {
                name: LABELS,
                required: true,
            },
        ],
        any_ports: false,
        side: &["reliability"],
        cases: true,
        spread: None,
        parameters: || json!(schemars::schema_for!(CalibrateParameters)),
        build,
    }
}

fn build(with: &Value, _: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: CalibrateParameters = parse_parameters(with)?;
    let errors = parameters.check();
    if errors.is_empty() {
        Ok(Box::new(CalibrateStage { parameters }))
    } else {
        Err(errors)
    }
}

/// A resolved task of kind `calibrate`.
struct CalibrateStage {
    parameters: CalibrateParameters,
}

impl Stage for CalibrateStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "calibrate",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let CalibrateParameters { by, score, cluster, .. } = &self.parameters;
        let mut needs = vec![Need::any("item"), Need::any(score)];
        needs.extend(["axis", "regime", "sample", "draw", "invalid"].map(Need::optional));
        needs.push(cluster.as_deref().map_or_else(|| Need::optional("cluster"), Need::any));
        let new = |needs: &[Need], name: &str| needs.iter().all(|need| need.column != name || !need.required);
        for name in by.iter().filter(|name| new(&needs, name)).collect::<Vec<_>>() {
            needs.retain(|need| need.column != *name);
            needs.push(Need::any(name));
        }
        let port = |name: &str, needs| Port {
            name: name.to_owned(),
            needs,
            keys: Keys::Apart,
            all: false,
        };
        vec![port(PORT, needs), port(LABELS, label_needs())]
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        read::check_number(inputs, PORT, &self.parameters.score)?;
        let by = by_fields(Some(&self.parameters.by), inputs, PORT);
        check_by(by.as_deref(), lines::names())?;
        Ok(Outputs {
            main: table::schema(by.as_deref(), lines::COLUMNS),
            side: vec![(
                "reliability".to_owned(),
                table::schema(by.as_deref(), lines::RELIABILITY),
            )],
        })
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        describe_json(manifest, &self.parameters, &CalibrateParameters::default(), &[]);
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for CalibrateStage {
    fn run(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let found = lines::lines(&self.parameters, &inputs.tables(PORT), &inputs.tables(LABELS), open)?;
        let lead = |of_line: Vec<usize>| {
            let lead = |(name, values): &(String, arrow::array::ArrayRef)| table::Lead {
                name: name.clone(),
                groups: values.clone(),
                of_line: of_line.iter().map(|group| Some(*group as u32)).collect(),
            };
            found.by.iter().map(lead).collect::<Vec<_>>()
        };
        let main = table::batch(
            lead(found.lines.iter().map(|line| line.group).collect()),
            lines::COLUMNS,
            &found.lines,
        )?;
        let reliability = table::batch(
            lead(found.bins.iter().map(|bin| bin.group).collect()),
            lines::RELIABILITY,
            &found.bins,
        )?;
        Ok(Product {
            outputs: Outputs {
                main: table::output(main),
                side: vec![("reliability".to_owned(), table::output(reliability))],
            },
            notes: found.notes,
        })
    }
}
