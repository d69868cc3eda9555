//! The stage kind `flow`: where completions move in embedding space from one regime to another (SCIENCE.md B3; operationalised
//! here, the paper leaves its formulas open).
//!
//! One row per group and contrast, in the order of `fracture`'s. Embeddings are scaled to length 1; the samples of one item and
//! regime are reduced to their mean, scaled again, and their verdict is that of their mean score. `.arrows` holds each item's
//! move in the plane of the first two principal components of the group's points, `.components` their shares of the variance.

mod arrows;
mod boundary;
mod embeddings;
mod items;
mod lines;
mod parameters;

use fracture_cache::ColumnType;
use fracture_measure::rows::{Measured, Reading, Told, by_fields, check_by, named_regimes};
use fracture_measure::{read, table};
use fracture_stage::manifest::type_name;
use fracture_stage::stage::{Keys, Need, Port, Whole, Work};
use fracture_stage::{
    Arriving, Context, Declaration, Error, Files, Inputs, Kind, Manifest, Named, Open, Outputs, ParameterError,
    PortName, Product, Schema, Schemas, Shape, Stage, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use boundary::Outside;
use embeddings::Embeddings;
use parameters::FlowParameters;

/// The kind's semantic version.
const VERSION: u32 = 1;
const VERDICTS: &str = "verdicts";
const EMBEDDINGS: &str = "embeddings";
const BOUNDARY: &str = "boundary";
/// The column of vectors.
const EMBEDDING: &str = "embedding";

/// The declaration of `flow`.
pub fn declaration() -> Declaration {
    Declaration {
        name: "flow",
        version: VERSION,
        summary: "Measures how far and where completions move in embedding space between two regimes, and which share \
                  crosses to the unsafe side.",
        shape: Shape::Reduce,
        ports: &[
            PortName {
                name: VERDICTS,
                required: true,
            },
            PortName {
                name: EMBEDDINGS,
                required: true,
            },
            PortName {
                name: BOUNDARY,
                required: false,
            },
        ],
        any_ports: false,
        side: &["arrows", "components"],
        cases: false,
        spread: None,
        parameters: || json!(schemars::schema_for!(FlowParameters)),
        build,
    }
}

fn build(with: &Value, _: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: FlowParameters = parse_parameters(with)?;
    let errors = parameters.check();
    if errors.is_empty() {
        Ok(Box::new(FlowStage { parameters }))
    } else {
        Err(errors)
    }
}

/// A resolved task of kind `flow`.
struct FlowStage {
    parameters: FlowParameters,
}

impl FlowStage {
    fn reading(&self) -> Reading<'_> {
        Reading {
            by: self.parameters.by.as_deref(),
            cluster: self.parameters.cluster.as_deref(),
            ..Reading::default()
        }
    }

    fn told(&self) -> Told<'_> {
        Told {
            port: VERDICTS,
            by: self.parameters.by.as_deref(),
            contrasts: self.parameters.contrasts.as_deref(),
        }
    }
}

impl Stage for FlowStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "flow",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let port = |name: &str, needs: Vec<Need>, keys: Keys| Port {
            name: name.to_owned(),
            needs,
            keys,
            all: false,
        };
        let mut vectors = vec![Need::any("item"), Need::any("regime"), Need::any(EMBEDDING)];
        vectors.extend(["axis", "draw", "sample"].map(Need::optional));
        let mut outside = vec![Need::any(EMBEDDING)];
        outside.extend(boundary::LABELS.map(Need::optional));
        let keys = Keys::apart_when(self.parameters.by.is_some());
        vec![
            port(VERDICTS, self.reading().needs(), keys),
            port(EMBEDDINGS, vectors, keys),
            port(BOUNDARY, outside, Keys::None),
        ]
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        read::check_number(inputs, VERDICTS, "p_unsafe")?;
        check_vectors(inputs, EMBEDDINGS)?;
        check_vectors(inputs, BOUNDARY)?;
        boundary::check(inputs.at(BOUNDARY))?;
        let by = by_fields(self.parameters.by.as_deref(), inputs, VERDICTS);
        check_by(by.as_deref(), lines::names().chain(arrows::names()))?;
        Ok(Outputs {
            main: table::schema(by.as_deref(), lines::COLUMNS),
            side: vec![
                ("arrows".to_owned(), arrows::schema(by.as_deref())),
                (
                    "components".to_owned(),
                    table::schema(by.as_deref(), arrows::COMPONENTS),
                ),
            ],
        })
    }

    fn output_values(&self, _: Option<&str>, column: &str, arriving: &Arriving<'_>) -> Option<Vec<String>> {
        let own = lines::names().chain(arrows::names()).any(|own| own == column);
        self.told().values(column, own, arriving)
    }

    fn named(&self) -> Vec<Named> {
        named_regimes(VERDICTS, self.parameters.contrasts.as_deref())
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        describe_json(manifest, &self.parameters, &FlowParameters::default(), &[]);
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

/// Checks at plan time that a port's embeddings are vectors.
fn check_vectors(inputs: &Schemas, port: &str) -> Result<(), Error> {
    for schema in inputs.at(port) {
        let kind = schema.field(EMBEDDING).and_then(|field| field.kind);
        if !matches!(kind, None | Some(ColumnType::Vector(_) | ColumnType::ListF32)) {
            let kind = kind.map(type_name).unwrap_or_default();
            return Err(
                Error::pipeline(format!("column `{EMBEDDING}` is a {kind}, and a vector is needed"))
                    .hint("put an `embed` stage between the texts and this one"),
            );
        }
    }
    Ok(())
}

impl Whole for FlowStage {
    fn run(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let verdicts = inputs.tables(VERDICTS);
        let measured = Measured::load(&verdicts, &self.reading())?;
        let embeddings = Embeddings::read(&inputs.tables(EMBEDDINGS), &verdicts)?;
        let outside = match inputs.tables(BOUNDARY).as_slice() {
            [] => None,
            tables => Some(Outside::read(tables)?),
        };
        let flow = lines::Flow {
            measured: &measured,
            embeddings: &embeddings,
            outside: outside.as_ref(),
            names: items::names(&verdicts)?,
            parameters: &self.parameters,
        };
        let found = flow.run(open)?;
        let leads = |groups: &mut dyn Iterator<Item = usize>| table::leads(&measured, groups);
        let main = leads(&mut found.lines.iter().map(|line| line.group));
        let arrows = leads(&mut found.arrows.iter().map(|arrow| arrow.group));
        let components = leads(&mut found.components.iter().map(|component| component.group));
        let batch = table::batch(components, arrows::COMPONENTS, &found.components)?;
        Ok(Product {
            outputs: Outputs {
                main: table::output(table::batch(main, lines::COLUMNS, &found.lines)?),
                side: vec![
                    (
                        "arrows".to_owned(),
                        table::output(arrows::batch(arrows, &found.arrows)?),
                    ),
                    ("components".to_owned(), table::output(batch)),
                ],
            },
            notes: flow.notes(&found),
        })
    }
}
