//! A small catalogue of stage kinds that do nothing, shaped like the real ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fracture_cache::ColumnType;
use fracture_stage::{
    Context, Declaration, Error, Files, Inputs, Kind, Manifest, Need, Open, Outputs, ParameterError, PathPart, Port,
    PortName, Product, Schema, Schemas, Shape, Stage, Whole, Work, parse_parameters,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A stage that can be typed and not be run.
struct Fake {
    kind: Kind,
    ports: Vec<Port>,
    constants: Vec<(String, Value, bool)>,
    schema: Outputs<Schema>,
    warnings: Vec<String>,
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
        Ok(self.schema.clone())
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
    }
}

fn port(name: &str, needs: Vec<Need>) -> Port {
    Port {
        name: name.to_owned(),
        needs,
        keys: false,
        all: false,
    }
}

fn schema_of<P: JsonSchema>() -> Value {
    schemars::schema_for!(P).to_value()
}

/// Parameters of `load`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Load {
    path: String,
    #[serde(default)]
    #[allow(dead_code)]
    keys: Vec<String>,
}

fn load(with: &Value, _: &Context) -> Built {
    let with: Load = parse_parameters(with)?;
    let mut schema = if with.path.ends_with(".labels") {
        Schema::exact([
            ("item", ColumnType::Text),
            ("axis", ColumnType::Text),
            ("unsafe_human", ColumnType::Bool),
        ])
    } else {
        Schema::exact([
            ("item", ColumnType::Text),
            ("axis", ColumnType::Text),
            ("completion", ColumnType::Text),
        ])
    };
    schema.keys = with.keys;
    Ok(Box::new(fake("load", Vec::new(), schema)))
}

/// Parameters of `prompt`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Prompt {
    pools: BTreeMap<String, Pool>,
    regimes: BTreeMap<String, Regime>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Pool {
    path: String,
    #[serde(default)]
    limit: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Regime {
    #[serde(default)]
    cue: Option<String>,
    #[serde(default)]
    objective: Option<Objective>,
    #[serde(default)]
    draw: u32,
    #[serde(default)]
    system: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Objective {
    Safe,
    HelpfulOnly,
    None,
}

fn prompt(with: &Value, _: &Context) -> Built {
    let _: Prompt = parse_parameters(with)?;
    let schema = Schema::exact([
        ("item", ColumnType::Text),
        ("axis", ColumnType::Text),
        ("regime", ColumnType::Text),
        ("draw", ColumnType::U32),
        ("prompt", ColumnType::Text),
        ("messages", ColumnType::Text),
    ]);
    Ok(Box::new(fake("prompt", Vec::new(), schema)))
}

/// How completions are drawn.
#[derive(Deserialize, Serialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct Decoder {
    #[schemars(range(min = 0.0))]
    temperature: Option<f64>,
    #[schemars(range(min = 0.0, max = 1.0))]
    top_p: Option<f64>,
    #[schemars(range(min = 1))]
    samples: Option<u32>,
}

/// Parameters of `generate`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Generate {
    model: String,
    #[serde(default)]
    decoder: Decoder,
    #[serde(default)]
    max_new_tokens: Option<u32>,
    #[serde(default)]
    seed: Option<u64>,
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    temperature: Option<f64>,
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    top_p: Option<f64>,
    #[serde(default)]
    stop: Vec<String>,
}

fn generate(with: &Value, context: &Context) -> Built {
    let with: Generate = parse_parameters(with)?;
    let Some(model) = context.models.get(&with.model) else {
        let known = context.models.keys().map(String::as_str);
        let wrong = ParameterError::at(&["model"], format!("there is no model `{}`", with.model));
        return Err(vec![wrong.hint(fracture_language::suggestion(
            &with.model,
            known,
            "models",
        ))]);
    };
    let schema = Schema::exact([
        ("sample", ColumnType::U32),
        ("completion", ColumnType::Text),
        ("invalid", ColumnType::Text),
    ]);
    let needs = vec![
        Need::column("item", ColumnType::Text),
        Need::column("prompt", ColumnType::Text),
        Need::optional("messages"),
    ];
    let mut constants = vec![("model".to_owned(), Value::String(model.name.clone()), true)];
    constants.extend(
        model
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), value.clone(), true)),
    );
    Ok(Box::new(Fake {
        constants,
        ..fake("generate", vec![port("prompts", needs)], schema)
    }))
}

/// Parameters of `judge`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Judge {
    model: String,
    #[serde(default)]
    text: Option<String>,
    r#unsafe: Vec<String>,
    #[serde(default)]
    cases: BTreeMap<String, Value>,
}

fn judge(with: &Value, _: &Context) -> Built {
    let with: Judge = parse_parameters(with)?;
    if with.r#unsafe.iter().any(|label| label == "nonsense") {
        let path = vec![PathPart::Key("unsafe".to_owned()), PathPart::Index(0)];
        let message = "the judge has no label `nonsense`".to_owned();
        return Err(vec![ParameterError {
            path,
            message,
            hint: Some("its labels are `comply` and `refuse`".to_owned()),
        }]);
    }
    let text = with.text.as_deref().unwrap_or("completion");
    let ports = vec![port("texts", vec![Need::column(text, ColumnType::Text)])];
    let schema = Schema::exact([("p_unsafe", ColumnType::F64), ("windows", ColumnType::U32)]);
    Ok(Box::new(fake("judge", ports, schema)))
}

/// Parameters of `threshold`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Threshold {
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    tau: Option<f64>,
    #[serde(default)]
    harm: Option<f64>,
    #[serde(default)]
    disagreement: Option<f64>,
}

fn threshold(with: &Value, _: &Context) -> Built {
    let with: Threshold = parse_parameters(with)?;
    let ports = vec![
        port("scores", vec![Need::column("p_unsafe", ColumnType::F64)]),
        port("calibration", Vec::new()),
    ];
    let schema = Schema::exact([("tau", ColumnType::F64), ("unsafe", ColumnType::Bool)]);
    let warnings = match (with.harm, with.disagreement) {
        (Some(harm), Some(disagreement)) if harm != disagreement => vec!["the two conventions of τ differ".to_owned()],
        _ => Vec::new(),
    };
    Ok(Box::new(Fake {
        warnings,
        ..fake("threshold", ports, schema)
    }))
}

/// Parameters of `calibrate`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Calibrate {
    #[serde(default)]
    method: Option<String>,
}

fn calibrate(with: &Value, _: &Context) -> Built {
    let _: Calibrate = parse_parameters(with)?;
    let ports = vec![
        port("scores", vec![Need::column("p_unsafe", ColumnType::F64)]),
        port("labels", vec![Need::column("unsafe_human", ColumnType::Bool)]),
    ];
    Ok(Box::new(fake(
        "calibrate",
        ports,
        Schema::exact([("slope", ColumnType::F64)]),
    )))
}

/// Parameters of `fracture`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Fracture {
    #[serde(default)]
    by: Vec<String>,
    #[serde(default)]
    compare: Vec<Compare>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Compare {
    column: String,
    order: (String, String),
    value: String,
}

fn fracture(with: &Value, _: &Context) -> Built {
    let with: Fracture = parse_parameters(with)?;
    let mut needs = vec![
        Need::column("unsafe", ColumnType::Bool),
        Need::column("regime", ColumnType::Text),
    ];
    needs.extend(with.by.iter().map(|column| Need::any(column)));
    let groups = with.by.iter().map(|column| (column.as_str(), ColumnType::Text));
    let numbers = [
        ("n", ColumnType::U32),
        ("net", ColumnType::F64),
        ("fracture", ColumnType::F64),
    ];
    let schema = Schema::exact(groups.chain(numbers));
    let side = |name: &str| {
        (
            name.to_owned(),
            Schema::exact([("tau", ColumnType::F64), ("fracture", ColumnType::F64)]),
        )
    };
    let schema = Outputs {
        main: schema,
        side: vec![side("curve"), side("compare")],
    };
    let ports = vec![Port {
        keys: true,
        ..port("verdicts", needs)
    }];
    Ok(Box::new(Fake {
        schema,
        ..fake("fracture", ports, Schema::unknown())
    }))
}

/// Parameters of `query`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Query {
    sql: String,
}

fn query(with: &Value, _: &Context) -> Built {
    let _: Query = parse_parameters(with)?;
    Ok(Box::new(fake("query", Vec::new(), Schema::unknown())))
}

/// What every figure takes.
#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
#[serde(deny_unknown_fields)]
struct Figure {
    plot: Plot,
    name: String,
    #[schemars(with = "Paths")]
    to: Value,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    color: Option<String>,
    #[serde(default)]
    panel: Option<String>,
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum Paths {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Plot {
    Table,
    Bars,
}

fn figure(with: &Value, _: &Context) -> Built {
    let with: Figure = parse_parameters(with)?;
    let columns = [with.x, with.y, with.color, with.panel];
    let needs = columns.iter().flatten().map(|column| Need::any(column)).collect();
    Ok(Box::new(fake("figure", vec![port("table", needs)], Schema::exact([]))))
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
            ..kind("figure", Shape::Reduce, TABLE, schema_of::<Figure>, figure)
        },
    ]
}

/// Reads real files; stages here read none.
pub struct Disk(pub PathBuf);

impl Files for Disk {
    fn locate(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
    fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let read =
            std::fs::File::open(self.0.join(path)).and_then(|file| file.take(limit as u64).read_to_end(&mut bytes));
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        read.map(|_| bytes)
            .map_err(|_| Error::input(format!("there is no file `{name}`")))
    }
    fn size(&self, path: &Path) -> Option<u64> {
        std::fs::metadata(self.0.join(path)).ok().map(|data| data.len())
    }
    fn list(&self, _: &Path) -> Option<Vec<String>> {
        None
    }
}
