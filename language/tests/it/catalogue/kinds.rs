//! The parameters of the kinds, and what is built from them.

use std::collections::BTreeMap;

use fracture_cache::ColumnType;
use fracture_stage::{
    Context, Error, Keys, Named, Need, Outputs, ParameterError, PathPart, Port, Schema, parse_parameters,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Built, Fake, fake, port};

/// Parameters of `load`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    path: String,
    #[serde(default)]
    #[allow(dead_code)]
    keys: Vec<String>,
    /// NEW: OLD.
    #[serde(default)]
    columns: BTreeMap<String, String>,
}

pub fn load(with: &Value, _: &Context) -> Built {
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
    for (new, old) in &with.columns {
        let mut fields = schema.fields.iter_mut();
        if let Some(field) = fields.find(|field| field.name == *old) {
            field.name.clone_from(new);
        }
    }
    // Nothing lies below `gone`.
    let gone = || Error::input(format!("there is no file `{}`", with.path)).parameter(&["path"]);
    Ok(Box::new(Fake {
        wrong: with.path.starts_with("gone/").then(gone),
        ..fake("load", Vec::new(), schema)
    }))
}

/// Parameters of `prompt`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub struct Prompt {
    pools: BTreeMap<String, Pool>,
    regimes: BTreeMap<String, Regime>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Pool {
    #[serde(default)]
    path: Option<String>,
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

pub fn prompt(with: &Value, _: &Context) -> Built {
    let with: Prompt = parse_parameters(with)?;
    let cues = with
        .regimes
        .iter()
        .filter_map(|(name, regime)| Some((name, regime.cue.as_deref()?)));
    let unknown = cues.filter(|(_, cue)| !["fine-tuning", "neutral-length"].contains(cue));
    let unknown: Vec<ParameterError> = unknown
        .map(|(name, cue)| ParameterError::at(&["regimes", name, "cue"], format!("there is no cue `{cue}`")))
        .collect();
    let pathless = with.pools.iter().filter(|(_, pool)| pool.path.is_none());
    let pathless = pathless.map(|(axis, _)| ParameterError::at(&["pools", axis], "the pool has no `path`"));
    let wrong: Vec<ParameterError> = unknown.into_iter().chain(pathless).collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let path = |pool: &Pool| pool.path.clone().unwrap_or_default();
    let mut gone = with.pools.iter().filter(|(_, pool)| path(pool).starts_with("gone/"));
    let gone = gone.next().map(|(axis, pool)| {
        Error::input(format!("there is no file `{}`", path(pool))).parameter(&["pools", axis, "path"])
    });
    let schema = Schema::exact([
        ("item", ColumnType::Text),
        ("axis", ColumnType::Text),
        ("regime", ColumnType::Text),
        ("draw", ColumnType::U32),
        ("prompt", ColumnType::Text),
        ("messages", ColumnType::Text),
    ]);
    Ok(Box::new(Fake {
        values: vec![
            ("regime", with.regimes.into_keys().collect()),
            ("axis", with.pools.into_keys().collect()),
        ],
        wrong: gone,
        ..fake("prompt", Vec::new(), schema)
    }))
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
pub struct Generate {
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

pub fn generate(with: &Value, context: &Context) -> Built {
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
pub struct Judge {
    model: String,
    #[serde(default)]
    text: Option<String>,
    r#unsafe: Vec<String>,
    #[serde(default)]
    kind: JudgeKind,
    #[serde(default)]
    cases: BTreeMap<String, Value>,
}

#[derive(Deserialize, JsonSchema, Default, PartialEq)]
#[serde(rename_all = "snake_case")]
enum JudgeKind {
    #[default]
    Classifier,
    Scores,
}

pub fn judge(with: &Value, context: &Context) -> Built {
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
    // A table of scores lies in one file.
    if with.kind == JudgeKind::Scores && !with.model.ends_with(".csv") {
        return Err(vec![ParameterError::at(&["model"], "scores come from a table")]);
    }
    let text = with.text.as_deref().unwrap_or("completion");
    let ports = vec![port("texts", vec![Need::column(text, ColumnType::Text)])];
    let schema = Schema::exact([("p_unsafe", ColumnType::F64), ("windows", ColumnType::U32)]);
    let source = context
        .models
        .get(&with.model)
        .map_or(&with.model, |model| &model.source);
    let gone = || Error::input(format!("the judge {source} is no folder")).parameter(&["model"]);
    Ok(Box::new(Fake {
        wrong: source.starts_with("gone/").then(gone),
        ..fake("judge", ports, schema)
    }))
}

/// Parameters of `threshold`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub struct Threshold {
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    tau: Option<f64>,
    #[serde(default)]
    harm: Option<f64>,
    #[serde(default)]
    disagreement: Option<f64>,
    #[serde(default = "p_unsafe")]
    score: String,
}

fn p_unsafe() -> String {
    "p_unsafe".to_owned()
}

pub fn threshold(with: &Value, _: &Context) -> Built {
    let with: Threshold = parse_parameters(with)?;
    if with.disagreement.is_some() && with.harm.is_none() {
        let wrong = ParameterError::at(&["disagreement"], "`disagreement` without `harm`");
        return Err(vec![wrong]);
    }
    let ports = vec![
        port("scores", vec![Need::column(&with.score, ColumnType::F64)]),
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
pub struct Calibrate {
    #[serde(default)]
    method: Option<String>,
}

pub fn calibrate(with: &Value, _: &Context) -> Built {
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
pub struct Fracture {
    #[serde(default)]
    by: Vec<String>,
    #[serde(default)]
    contrasts: Vec<(String, String)>,
    #[serde(default)]
    compare: Vec<Compare>,
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    confidence: Option<f64>,
    #[serde(default)]
    bootstrap: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Compare {
    column: String,
    order: (String, String),
    value: String,
}

pub fn fracture(with: &Value, _: &Context) -> Built {
    let with: Fracture = parse_parameters(with)?;
    let mut wrong = Vec::new();
    if with.bootstrap.is_some_and(|draws| draws < 100) {
        wrong.push(ParameterError::at(&["bootstrap"], "too few draws"));
    }
    for (index, compare) in with.compare.iter().enumerate() {
        if !with.by.is_empty() && !with.by.contains(&compare.column) {
            let path = ["compare".to_owned()].map(PathPart::Key).into_iter();
            let path = path
                .chain([PathPart::Index(index), PathPart::Key("column".to_owned())])
                .collect();
            wrong.push(ParameterError {
                path,
                message: format!("`{}` is no group column", compare.column),
                hint: None,
            });
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
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
        keys: Keys::Values,
        ..port("verdicts", needs)
    }];
    let contrasts = with.contrasts.iter().enumerate().flat_map(|(pair, (first, second))| {
        let named = move |side: usize, regime: &String| {
            let place = vec![key("contrasts"), PathPart::Index(pair), PathPart::Index(side)];
            Named::one("verdicts", "regime", regime, place)
        };
        [named(0, first), named(1, second)]
    });
    let compares = with.compare.iter().enumerate().flat_map(|(index, compare)| {
        let named = move |level: usize, value: &String| {
            let place = vec![
                key("compare"),
                PathPart::Index(index),
                key("order"),
                PathPart::Index(level),
            ];
            Named::one("verdicts", &compare.column, value, place)
        };
        [named(0, &compare.order.0), named(1, &compare.order.1)]
    });
    Ok(Box::new(Fake {
        schema,
        named: contrasts.chain(compares).collect(),
        groups: with.by.clone(),
        ..fake("fracture", ports, Schema::unknown())
    }))
}

fn key(name: &str) -> PathPart {
    PathPart::Key(name.to_owned())
}

/// Parameters of `query`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub struct Query {
    sql: String,
}

pub fn query(with: &Value, _: &Context) -> Built {
    let with: Query = parse_parameters(with)?;
    let words: Vec<&str> = with.sql.split_whitespace().collect();
    let tables = words.windows(2).filter(|pair| ["FROM", "JOIN"].contains(&pair[0]));
    let ports = tables.map(|pair| Port {
        all: true,
        ..port(pair[1], Vec::new())
    });
    Ok(Box::new(fake("query", ports.collect(), Schema::unknown())))
}

/// Parameters of `command`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub struct Command {
    run: Vec<String>,
    #[serde(default)]
    timeout: Option<f64>,
}

pub fn command(with: &Value, _: &Context) -> Built {
    let _: Command = parse_parameters(with)?;
    Ok(Box::new(fake("command", Vec::new(), Schema::unknown())))
}

/// What every figure takes.
#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
#[serde(deny_unknown_fields)]
pub struct Figure {
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
    #[serde(default, rename = "where")]
    filter: BTreeMap<String, Vec<String>>,
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

pub fn figure(with: &Value, _: &Context) -> Built {
    let with: Figure = parse_parameters(with)?;
    let columns = [with.x, with.y, with.color, with.panel];
    let columns = columns.iter().flatten().chain(with.filter.keys());
    let needs = columns.map(|column| Need::any(column)).collect();
    let named = with.filter.iter().map(|(column, values)| {
        let place = |index: usize| vec![key("where"), key(column), PathPart::Index(index)];
        let values = values.iter().cloned().enumerate();
        Named {
            any_of: values.map(|(index, value)| (value, place(index))).collect(),
            ..Named::one("table", column, "", Vec::new())
        }
    });
    Ok(Box::new(Fake {
        named: named.collect(),
        ..fake("figure", vec![port("table", needs)], Schema::exact([]))
    }))
}
