//! The stage kind `numbers`: the four numbers of the paper as one table, a row per cell of the grid.

use fracture_cache::ColumnType;
use fracture_stage::numbers::{PORTS, columns, four_numbers};
use fracture_stage::stage::{Keys, Port, Whole, Work};
use fracture_stage::{
    Completeness, Context, Declaration, Error, Field, Files, Inputs, Kind, Manifest, Open, Outputs, ParameterError,
    PortName, Product, Schema, Schemas, Shape, Stage, View, describe_json, parse_parameters,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The kind's semantic version.
const VERSION: u32 = 1;

const fn port(name: &'static str, required: bool) -> PortName {
    PortName { name, required }
}

/// The tables that are joined.
const CONNECTED: [PortName; 4] = [
    port(PORTS[0], true),
    port(PORTS[1], false),
    port(PORTS[2], false),
    port(PORTS[3], false),
];

/// The declaration of `numbers`.
pub fn declaration() -> Declaration {
    Declaration {
        name: "numbers",
        version: VERSION,
        summary: "Joins the paper's four numbers: FRACTURE, SRF median lift, manifold entry, FRACTURE before and after caps.",
        shape: Shape::Reduce,
        ports: &CONNECTED,
        any_ports: false,
        side: &[],
        cases: false,
        spread: None,
        parameters: || json!(schemars::schema_for!(NumbersParameters)),
        build,
    }
}

/// Parameters of `numbers`: there are none. Connect `needs: { fracture: STAGE, frontier: STAGE, flow: STAGE, caps:
/// STAGE.caps }`, each but the first optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NumbersParameters {}

fn build(with: &Value, _: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: NumbersParameters = parse_parameters(with)?;
    Ok(Box::new(NumbersStage { parameters }))
}

/// A resolved task of kind `numbers`.
struct NumbersStage {
    parameters: NumbersParameters,
}

impl Stage for NumbersStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "numbers",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        // The group columns are those before `contrast`: all columns are looked at.
        let port = |name: &str| Port {
            name: name.to_owned(),
            needs: Vec::new(),
            keys: Keys::Values,
            all: true,
        };
        PORTS.map(port).into()
    }

    fn schema(&self, _: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let text = |name: &str| ["contrast", "reason"].contains(&name);
        let field = |name: String| Field {
            kind: Some(if text(&name) { ColumnType::Text } else { ColumnType::F64 }),
            name,
        };
        let names = ["contrast".to_owned()].into_iter().chain(columns());
        Ok(Outputs::only(Schema {
            fields: names.map(field).collect(),
            completeness: Completeness::AtLeast,
            keys: Vec::new(),
        }))
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        describe_json(manifest, &self.parameters, &NumbersParameters::default(), &[]);
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for NumbersStage {
    fn run(&self, inputs: &Inputs, _: &Open<'_>) -> Result<Product, Error> {
        let tables: Vec<(&str, Vec<&View>)> = PORTS.iter().map(|port| (*port, inputs.tables(port))).collect();
        four_numbers(&tables).map(Product::table)
    }
}

#[cfg(test)]
mod tests;
