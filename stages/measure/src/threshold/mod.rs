//! The stage kind `threshold`: a score of at least τ is unsafe (SCIENCE.md B5).

mod apply;
mod maps;
mod parameters;
#[cfg(test)]
mod tests;

use fracture_cache::ColumnType;
use fracture_stage::stage::{Keys, Need, Port, Work};
use fracture_stage::{
    Completeness, Context, Declaration, Error, Files, Kind, Manifest, Outputs, ParameterError, PortName, Schema,
    Schemas, Shape, Stage, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::calibrate;
use crate::read;
use parameters::{Case, Rule, ThresholdParameters, Wrong};

/// The kind's semantic version.
const VERSION: u32 = 1;
const PORT: &str = "scores";
const CALIBRATION: &str = "calibration";
/// The column of the scores as the judge gave them, where they are calibrated.
const RAW: &str = "p_raw";
const SCORE: &str = "p_unsafe";

/// The declaration of `threshold`.
pub fn declaration() -> Declaration {
    Declaration {
        name: "threshold",
        version: VERSION,
        summary: "Calls a score of at least tau unsafe; tau is given, or follows from the costs of the two mistakes.",
        shape: Shape::Map,
        ports: &[
            PortName {
                name: PORT,
                required: true,
            },
            PortName {
                name: CALIBRATION,
                required: false,
            },
        ],
        any_ports: false,
        side: &[],
        cases: true,
        spread: None,
        parameters: || json!(schemars::schema_for!(ThresholdParameters)),
        build,
    }
}

fn build(with: &Value, _: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: ThresholdParameters = parse_parameters(with)?;
    let explain = |path: &[&str], (name, message): Wrong| {
        let path: Vec<&str> = path.iter().copied().chain(named(with, path, name)).collect();
        let hint = match name {
            "tau" => "give `tau: 0.5`, or `harm: 4` and `disagreement: 1`",
            _ => "costs are finite numbers of at least 0, not both 0",
        };
        ParameterError::at(&path, message).hint(hint)
    };
    let base = Rule::base(&parameters)
        .and_then(|rule| rule.resolve().map(|_| rule))
        .map_err(|wrong| vec![explain(&[], wrong)])?;
    let mut errors = Vec::new();
    for (column, value, case) in cases(&parameters) {
        if let Err(wrong) = base.with(case).and_then(Rule::resolve) {
            errors.push(explain(&["cases", column, value], wrong));
        }
    }
    if errors.is_empty() {
        Ok(Box::new(ThresholdStage { parameters, base }))
    } else {
        Err(errors)
    }
}

/// The key to point at, when it is written.
fn named<'a>(with: &Value, path: &[&str], name: &'a str) -> Option<&'a str> {
    let place = path.iter().try_fold(with, |value, key| value.get(key))?;
    place.get(name).map(|_| name)
}

fn cases(parameters: &ThresholdParameters) -> impl Iterator<Item = (&str, &str, &Case)> {
    let columns = parameters.cases.iter();
    columns.flat_map(|(column, values)| {
        values
            .iter()
            .map(move |(value, case)| (column.as_str(), value.as_str(), case))
    })
}

/// A resolved task of kind `threshold`.
struct ThresholdStage {
    parameters: ThresholdParameters,
    base: Rule,
}

impl ThresholdStage {
    /// The maps and this stage must agree on the columns that choose a map.
    fn check_calibration(&self, inputs: &Schemas) -> Result<(), Error> {
        let by = &self.parameters.by;
        let maps = inputs.at(CALIBRATION);
        if maps.is_empty() && !by.is_empty() {
            return Err(
                Error::pipeline("`by` chooses maps of the port `calibration`, and nothing is connected there")
                    .hint("say `needs: { scores: STAGE, calibration: STAGE }`, or leave `by` out"),
            );
        }
        for map in maps.iter().filter(|map| map.completeness == Completeness::Exact) {
            let columns = map.fields.iter().map(|field| field.name.as_str());
            let groups: Vec<&str> = columns.filter(|name| !calibrate::is_own(name)).collect();
            // Constants of the tasks before it are there too; only what has several maps must be named.
            if let Some(missing) = by.iter().find(|name| !groups.contains(&name.as_str())) {
                return Err(
                    Error::pipeline(format!("the maps at `calibration` have no column `{missing}`"))
                        .hint(format!("say `by: [{missing}]` in the `calibrate` stage too")),
                );
            }
        }
        Ok(())
    }
}

impl Stage for ThresholdStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "threshold",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let mut needs = vec![Need::any(self.parameters.score()), Need::optional("invalid")];
        let by = &self.parameters.by;
        let columns: std::collections::BTreeSet<&String> = self.parameters.cases.keys().chain(by).collect();
        needs.extend(columns.into_iter().map(|column| Need::any(column)));
        let port = |name: &str, needs| Port {
            name: name.to_owned(),
            needs,
            keys: Keys::None,
            all: false,
        };
        let map = calibrate::MAP.iter().copied().chain(by.iter().map(String::as_str));
        vec![port(PORT, needs), port(CALIBRATION, map.map(Need::any).collect())]
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        read::check_number(inputs, PORT, self.parameters.score())?;
        let calibrated = !inputs.at(CALIBRATION).is_empty();
        self.check_calibration(inputs)?;
        let scores = [
            (SCORE, calibrated || self.parameters.score() != SCORE),
            (RAW, calibrated),
        ];
        let scores = scores
            .into_iter()
            .filter_map(|(name, yields)| yields.then_some((name, ColumnType::F64)));
        let verdicts = [
            ("tau", ColumnType::F64),
            ("tau_other", ColumnType::F64),
            ("unsafe", ColumnType::Bool),
        ];
        Ok(Outputs::only(Schema::exact(scores.chain(verdicts))))
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        describe_json(manifest, &self.parameters, &ThresholdParameters::default(), &[]);
    }

    fn warnings(&self) -> Vec<String> {
        let warn = |rule: Rule| rule.resolve().ok().and_then(|resolved| rule.warning(&resolved));
        let mut warnings: Vec<String> = warn(self.base).into_iter().collect();
        for (column, value, case) in cases(&self.parameters) {
            let warning = self.base.with(case).ok().and_then(warn);
            warnings.extend(warning.map(|warning| format!("where {column} is {value}: {warning}")));
        }
        warnings
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}
