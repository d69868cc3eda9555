//! The stage kind `agreement`: several judges on the same texts (SCIENCE.md C7).
//!
//! One row per group, contrast and pair of judges, and one for all of them where there are more than two: raw agreement,
//! kappa (Cohen's of two, Fleiss' of more), Krippendorff's alpha, and how far the judges find the same flips. `.judges` has
//! FRACTURE under each judge. Labels at the port `labels` make people one more judge, or one for each `rater`.

mod lines;
mod parameters;
mod people;
#[cfg(test)]
mod tests;

use fracture_stage::stage::{Keys, Need, Port, Whole, Work};
use fracture_stage::{
    Arriving, Context, Declaration, Error, Field, Files, Inputs, Kind, Manifest, Named, Open, Outputs, ParameterError,
    PortName, Product, Schema, Schemas, Shape, Stage, View, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::read;
use crate::rows::{Measured, Reading, Told, by_fields, check_by, label_needs, named_regimes, resolve};
use crate::table::{self, Lead};
use parameters::AgreementParameters;

/// The kind's semantic version.
const VERSION: u32 = 2;
const PORT: &str = "verdicts";
const LABELS: &str = "labels";
const SCORE: &str = "p_unsafe";

/// The declaration of `agreement`.
pub fn declaration() -> Declaration {
    Declaration {
        name: "agreement",
        version: VERSION,
        summary: "Compares judges, and people, on the same texts: kappa, alpha, and the flips that each of them finds.",
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
        side: &["judges"],
        cases: false,
        spread: None,
        parameters: || json!(schemars::schema_for!(AgreementParameters)),
        build,
    }
}

fn build(with: &Value, _: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: AgreementParameters = parse_parameters(with)?;
    let errors = parameters.check();
    if errors.is_empty() {
        Ok(Box::new(AgreementStage { parameters }))
    } else {
        Err(errors)
    }
}

/// A resolved task of kind `agreement`.
struct AgreementStage {
    parameters: AgreementParameters,
}

impl AgreementStage {
    /// How rows are read: the judge is the last group column.
    fn reading<'a>(&'a self, by: &'a [String]) -> Reading<'a> {
        Reading {
            by: Some(by),
            cluster: self.parameters.cluster.as_deref(),
            score: SCORE,
            apart: Some(&self.parameters.judge),
            ..Reading::default()
        }
    }

    fn needs(&self) -> Vec<Need> {
        let mut by = self.parameters.by.clone().unwrap_or_default();
        by.push(self.parameters.judge.clone());
        self.reading(&by).needs()
    }

    /// The group columns of a run, the judge last.
    fn columns(&self, views: &[&View]) -> Vec<String> {
        let mut by = resolve(self.parameters.by.as_deref(), views);
        by.retain(|name| *name != self.parameters.judge);
        by.push(self.parameters.judge.clone());
        by
    }
}

impl Stage for AgreementStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "agreement",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let port = |name: &str, needs| Port {
            name: name.to_owned(),
            needs,
            keys: Keys::apart_when(self.parameters.by.is_some()),
            all: false,
        };
        vec![port(PORT, self.needs()), port(LABELS, label_needs())]
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        read::check_number(inputs, PORT, SCORE)?;
        let by = by_fields(self.parameters.by.as_deref(), inputs, PORT);
        let by: Option<Vec<Field>> = by.map(|mut by| {
            by.retain(|field| field.name != self.parameters.judge);
            by
        });
        check_by(by.as_deref(), lines::names())?;
        Ok(Outputs {
            main: table::schema(by.as_deref(), lines::COLUMNS),
            side: vec![("judges".to_owned(), table::schema(by.as_deref(), lines::JUDGES))],
        })
    }

    fn output_values(&self, _: Option<&str>, column: &str, arriving: &Arriving<'_>) -> Option<Vec<String>> {
        let own = column == self.parameters.judge || lines::names().any(|own| own == column);
        let told = Told {
            port: PORT,
            by: self.parameters.by.as_deref(),
            contrasts: self.parameters.contrasts.as_deref(),
        };
        told.values(column, own, arriving)
    }

    fn named(&self) -> Vec<Named> {
        named_regimes(PORT, self.parameters.contrasts.as_deref())
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        describe_json(manifest, &self.parameters, &AgreementParameters::default(), &[]);
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for AgreementStage {
    fn run(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let (judges, labels) = (inputs.tables(PORT), inputs.tables(LABELS));
        let by = self.columns(&judges);
        let reading = self.reading(&by);
        let (made, raters) = if labels.is_empty() {
            (Vec::new(), Vec::new())
        } else {
            let wanted: Vec<String> = reading.needs().into_iter().map(|need| need.column).collect();
            people::people(&judges, &labels, &self.parameters.judge, &wanted)?
        };
        let mut views = judges;
        views.extend(&made);
        let measured = Measured::load_labelled(&views, &labels, &reading)?;
        let twins = measured.same_but_draw();
        let contrasts = measured.contrasts(self.parameters.contrasts.as_deref(), &twins)?;
        let found = lines::lines(&measured, &contrasts, &self.parameters, &raters, open)?;
        let lead = |groups: Vec<usize>| -> Vec<Lead> {
            let mut leads = table::leads(&measured, groups.into_iter());
            leads.retain(|lead| lead.name != self.parameters.judge);
            leads
        };
        let main = table::batch(
            lead(found.pairs.iter().map(|line| line.group).collect()),
            lines::COLUMNS,
            &found.pairs,
        )?;
        let judges = table::batch(
            lead(found.judges.iter().map(|line| line.group).collect()),
            lines::JUDGES,
            &found.judges,
        )?;
        let mut notes = found.notes;
        notes.extend(measured.labelling.iter().cloned());
        Ok(Product {
            outputs: Outputs {
                main: table::output(main),
                side: vec![("judges".to_owned(), table::output(judges))],
            },
            notes,
        })
    }
}
