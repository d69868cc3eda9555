//! The stage kind `judge`.

mod check;
mod executor;
mod generative;
mod parameters;
mod rows;
mod scores;
mod table;
pub mod texts;

use std::sync::OnceLock;

use fracture_cache::ColumnType;
use fracture_stage::source::HUB;
use fracture_stage::stage::{Keys, Need, Port, RowWise, Work};
use fracture_stage::{
    Completeness, Context, Declaration, Error, FileUse, Files, Kind, Manifest, ModelFiles, Outputs, ParameterError,
    Part, PortName, Schema, Schemas, Shape, Stage, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::canaries::check_labels;
use crate::config::JudgeConfig;
use crate::layout::Layout;
use crate::runtime::{Runtime, RuntimeOptions};
use crate::score::Scoring;
use parameters::{JudgeKind, JudgeParameters, Verdict};

pub use parameters::TextParameter;
use texts::TextSource;

/// The kind's semantic version.
const VERSION: u32 = 2;

/// The declaration of `judge`.
pub fn declaration() -> Declaration {
    Declaration {
        name: "judge",
        version: VERSION,
        summary: "Scores texts with a sequence classifier through ONNX Runtime, with a language model that gives a \
                  verdict, or with scores from elsewhere: the probability that a text is unsafe.",
        shape: Shape::Map,
        ports: &[
            PortName {
                name: "texts",
                required: true,
            },
            PortName {
                name: scores::SCORES,
                required: false,
            },
        ],
        any_ports: false,
        side: &[],
        cases: true,
        spread: None,
        parameters: || json!(schemars::schema_for!(JudgeParameters)),
        build,
    }
}

fn build(with: &Value, context: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: JudgeParameters = parse_parameters(with)?;
    match parameters.kind {
        JudgeKind::Generative => return generative::build(parameters, context),
        JudgeKind::Scores => return scores::build(parameters, context),
        JudgeKind::Classifier => {}
    }
    let mut errors = only_with_scores(&parameters);
    let generative = parameters.generative().into_iter().map(|name| {
        ParameterError::at(&[name], format!("a classifier has no `{name}`"))
            .hint("kind: generative makes the judge a language model that is asked")
    });
    errors.extend(generative);
    if let Err(error) = parameters.provider.check() {
        let refused = ParameterError::at(&["provider"], error.message);
        errors.push(refused.hint(error.hint.unwrap_or_default()));
    }
    let text = TextSource::parse(&parameters.text).map_err(|message| ParameterError::at(&["text"], message));
    let text = match text {
        Ok(text) => Some(text),
        Err(error) => {
            errors.push(error);
            None
        }
    };
    // A judge is a folder, or a model of the pipeline by its name.
    let model = context.models.get(&parameters.model);
    let source = model.map_or_else(|| parameters.model.clone(), |model| model.source.clone());
    if source.contains("://") && !source.starts_with(HUB) {
        errors.push(
            ParameterError::at(&["model"], format!("a judge from `{source}` is not in this version"))
                .hint("name the folder of an exported classifier"),
        );
    }
    let name = model.map_or_else(|| last_part(&source), |model| model.name.clone());
    match text {
        Some(text) if errors.is_empty() => Ok(Box::new(JudgeStage {
            parameters,
            source,
            name,
            text,
            known: OnceLock::new(),
        })),
        _ => Err(errors),
    }
}

/// What a judge that runs has no use for.
fn only_with_scores(parameters: &JudgeParameters) -> Vec<ParameterError> {
    let told = |name| ParameterError::at(&[name], format!("`{name}` has a meaning only with `kind: scores`"));
    parameters.joining().into_iter().map(told).collect()
}

/// A judge that runs takes no scores from elsewhere.
fn no_scores(inputs: &Schemas) -> Result<(), Error> {
    match inputs.at(scores::SCORES).is_empty() {
        true => Ok(()),
        false => Err(Error::pipeline("scores are connected, and this judge runs by itself")
            .hint("say `kind: scores` to take the scores, or leave the port `scores` out of `needs`")),
    }
}

fn last_part(path: &str) -> String {
    fracture_stage::source::last_part(path).to_owned()
}

/// A resolved task of kind `judge`.
struct JudgeStage {
    parameters: JudgeParameters,
    source: String,
    name: String,
    text: TextSource,
    known: OnceLock<Known>,
}

/// What the judge's headers say.
#[derive(Debug, Clone)]
struct Known {
    layout: Layout,
    config: JudgeConfig,
    labels: Vec<String>,
}

impl Known {
    /// What its labels are called: by the pipeline, and by its configuration.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.labels.iter().map(String::as_str).collect();
        for name in &self.config.labels {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
}

impl JudgeStage {
    fn files(&self) -> ModelFiles {
        ModelFiles::new(&self.source, Part::Graph, self.parameters.file.as_deref())
    }

    fn known(&self, files: &dyn Files) -> Result<&Known, Error> {
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let layout = Layout::resolve(&files.model(&self.files()), self.parameters.file.as_deref())?;
        let config = JudgeConfig::read(&layout)?;
        let names: Vec<(String, String)> = self.parameters.labels.clone().into_iter().collect();
        let labels = config.named_labels(&names)?;
        Ok(self.known.get_or_init(|| Known { layout, config, labels }))
    }

    /// How the rows of a case are scored.
    fn scoring(&self, known: &Known, verdict: &Verdict) -> Result<Scoring, Error> {
        let logits = known
            .layout
            .graph
            .labels
            .and_then(|logits| usize::try_from(logits).ok());
        let activation = known.config.activation(logits.unwrap_or(known.labels.len()))?;
        let named = verdict.unsafe_labels.as_ref().unwrap_or(&self.parameters.unsafe_labels);
        let orientation = verdict.orientation.unwrap_or(self.parameters.orientation);
        let reduce = verdict.reduce.unwrap_or(self.parameters.reduce);
        Scoring::new(
            known.labels.clone(),
            activation,
            named,
            orientation.into(),
            reduce.into(),
        )
        .map_err(|error| error.context(format!("the judge `{}` does not fit `unsafe:`", self.source)))
    }

    /// A label that the judge does not have would be watched by nobody.
    fn check_canaries(&self, known: &Known, files: &dyn Files) -> Result<(), Error> {
        let canaries = executor::texts(self.parameters.canaries.as_ref(), &known.layout.folder, files);
        let checked = canaries.and_then(|canaries| check_labels(&canaries.unwrap_or_default(), &known.names()));
        checked.map_err(|error| error.parameter(&["canaries"]))
    }

    fn cases(&self) -> impl Iterator<Item = (&str, &str, &Verdict)> {
        self.parameters.all_cases()
    }
}

impl Stage for JudgeStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "judge",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let mut needs: Vec<Need> = self
            .text
            .columns()
            .into_iter()
            .map(|column| Need::any(&column))
            .collect();
        needs.push(Need::optional("invalid"));
        needs.extend(self.parameters.cases.keys().map(|column| Need::any(column)));
        vec![Port {
            name: "texts".to_owned(),
            needs,
            keys: Keys::None,
            all: false,
        }]
    }

    fn constants(&self) -> Vec<(String, Value, bool)> {
        vec![("judge".to_owned(), json!(self.name), true)]
    }

    fn models(&self) -> Vec<ModelFiles> {
        vec![self.files()]
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        let known = self.known(files).map_err(|error| error.parameter(&["model"]))?;
        Ok(known.layout.files())
    }

    fn schema(&self, inputs: &Schemas, files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let known = self.known(files).map_err(|error| error.parameter(&["model"]))?;
        self.scoring(known, &Verdict::default())
            .map_err(|error| error.parameter(&["unsafe"]))?;
        for (column, value, verdict) in self.cases() {
            self.scoring(known, verdict)
                .map_err(|error| error.parameter(&["cases", column, value, "unsafe"]))?;
        }
        check::at_plan(known, &self.parameters)?;
        self.check_canaries(known, files)?;
        no_scores(inputs)?;
        let scores: Vec<String> = known.labels.iter().map(|label| format!("score_{label}")).collect();
        let mut fields = vec![("p_unsafe", ColumnType::F64)];
        fields.extend(scores.iter().map(|name| (name.as_str(), ColumnType::F64)));
        fields.extend([
            ("invalid", ColumnType::Text),
            ("windows", ColumnType::U32),
            ("truncated", ColumnType::Bool),
        ]);
        let schema = Schema::exact(fields);
        debug_assert_eq!(schema.completeness, Completeness::Exact);
        Ok(Outputs::only(schema))
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        // The judge itself counts by its files; where it lies and what it is called do not matter, nor what watches it.
        describe_json(
            manifest,
            &self.parameters,
            &JudgeParameters::default(),
            &["model", "canaries"],
        );
    }

    fn ready(&self, _: bool) -> Result<(), Error> {
        match self.known.get() {
            Some(known) => check::at_start(known, &self.parameters),
            None => Ok(()),
        }
    }

    fn work(&self) -> Work<'_> {
        Work::Rows(self as &dyn RowWise)
    }
}

/// Finds ONNX Runtime and says which one it is; fetches it unless `offline`.
///
/// # Errors
/// When none can be had; the error says what was tried and what to type.
pub fn check_runtime(offline: bool) -> Result<String, Error> {
    let mut notes = Vec::new();
    let runtime = Runtime::load(&RuntimeOptions::from_env(offline), &mut |note| {
        notes.push(note.to_string())
    })?;
    Ok(format!(
        "ONNX Runtime {} at {}",
        runtime.version(),
        runtime.resolved().path.display()
    ))
}
