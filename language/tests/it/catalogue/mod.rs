//! A small catalogue of stage kinds that do nothing, shaped like the real ones.

mod disk;
mod kinds;

use fracture_stage::{
    Arriving, Context, Declaration, Error, Files, Inputs, Keys, Kind, Manifest, Named, Need, Open, Outputs,
    ParameterError, Port, PortName, Product, Schema, Schemas, Shape, Stage, Whole, Work,
};
use schemars::JsonSchema;
use serde_json::Value;

pub use disk::Disk;
use kinds::{
    Calibrate, Command, Figure, Fracture, Generate, Judge, Load, Prompt, Query, Threshold, calibrate, command, figure,
    fracture, generate, judge, load, prompt, query, threshold,
};

/// A stage that can be typed and not be run.
struct Fake {
    kind: Kind,
    ports: Vec<Port>,
    constants: Vec<(String, Value, bool)>,
    schema: Outputs<Schema>,
    warnings: Vec<String>,
    /// All values of text columns.
    values: Vec<(&'static str, Vec<String>)>,
    /// Columns whose values are those that arrive.
    groups: Vec<String>,
    /// What its parameters name.
    named: Vec<Named>,
    /// What is wrong with a file.
    wrong: Option<Error>,
}

impl Stage for Fake {
    fn kind(&self) -> Kind {
        self.kind
    }
    fn ports(&self) -> Vec<Port> {
        self.ports.clone()
    }
    fn constants(&self) -> Vec<(String, Value, bool)> {
        self.constants.clone()
    }
    fn schema(&self, _: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        match &self.wrong {
            Some(wrong) => Err(wrong.clone()),
            None => Ok(self.schema.clone()),
        }
    }
    fn values(&self, column: &str) -> Option<Vec<String>> {
        let known = self.values.iter().find(|(name, _)| *name == column)?;
        Some(known.1.clone())
    }
    fn output_values(&self, output: Option<&str>, column: &str, arriving: &Arriving<'_>) -> Option<Vec<String>> {
        let grouped = self.groups.iter().any(|group| group == column);
        match grouped {
            true => arriving("verdicts", column),
            false => output.map_or_else(|| self.values(column), |_| None),
        }
    }
    fn named(&self) -> Vec<Named> {
        self.named.clone()
    }
    fn describe(&self, _: &mut dyn Manifest) {}
    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for Fake {
    fn run(&self, _: &Inputs, _: &Open<'_>) -> Result<Product, Error> {
        Err(Error::internal("a fake stage does not run"))
    }
}

type Built = Result<Box<dyn Stage>, Vec<ParameterError>>;

fn fake(name: &'static str, ports: Vec<Port>, schema: Schema) -> Fake {
    Fake {
        kind: Kind { name, version: 1 },
        ports,
        constants: Vec::new(),
        schema: Outputs::only(schema),
        warnings: Vec::new(),
        values: Vec::new(),
        groups: Vec::new(),
        named: Vec::new(),
        wrong: None,
    }
}

fn port(name: &str, needs: Vec<Need>) -> Port {
    Port {
        name: name.to_owned(),
        needs,
        keys: Keys::None,
        all: false,
    }
}

fn schema_of<P: JsonSchema>() -> Value {
    schemars::schema_for!(P).to_value()
}

const fn kind(
    name: &'static str,
    shape: Shape,
    ports: &'static [PortName],
    parameters: fn() -> Value,
    build: fn(&Value, &Context) -> Built,
) -> Declaration {
    Declaration {
        name,
        version: 1,
        summary: "A fake.",
        shape,
        ports,
        any_ports: false,
        side: &[],
        cases: false,
        spread: None,
        parameters,
        build,
    }
}

/// All kinds.
pub fn catalogue() -> Vec<Declaration> {
    const fn needed(name: &'static str) -> PortName {
        PortName { name, required: true }
    }
    const PROMPTS: &[PortName] = &[needed("prompts")];
    const TEXTS: &[PortName] = &[needed("texts")];
    const SCORES: &[PortName] = &[
        needed("scores"),
        PortName {
            name: "calibration",
            required: false,
        },
    ];
    const LABELLED: &[PortName] = &[needed("scores"), needed("labels")];
    const VERDICTS: &[PortName] = &[needed("verdicts")];
    const TABLE: &[PortName] = &[needed("table")];
    vec![
        kind("load", Shape::Source, &[], schema_of::<Load>, load),
        kind("prompt", Shape::Source, &[], schema_of::<Prompt>, prompt),
        kind("generate", Shape::Map, PROMPTS, schema_of::<Generate>, generate),
        Declaration {
            cases: true,
            spread: None,
            ..kind("judge", Shape::Map, TEXTS, schema_of::<Judge>, judge)
        },
        kind("threshold", Shape::Map, SCORES, schema_of::<Threshold>, threshold),
        kind("calibrate", Shape::Reduce, LABELLED, schema_of::<Calibrate>, calibrate),
        Declaration {
            side: &["curve", "compare"],
            ..kind("fracture", Shape::Reduce, VERDICTS, schema_of::<Fracture>, fracture)
        },
        Declaration {
            any_ports: true,
            ..kind("query", Shape::Reduce, &[], schema_of::<Query>, query)
        },
        Declaration {
            any_ports: true,
            ..kind("command", Shape::Reduce, &[], schema_of::<Command>, command)
        },
        Declaration {
            any_ports: true,
            ..kind("figure", Shape::Reduce, TABLE, schema_of::<Figure>, figure)
        },
    ]
}
