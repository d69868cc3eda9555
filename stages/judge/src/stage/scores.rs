//! The stage kind `judge` with `kind: scores`: somebody else judged, and their scores arrive as a table.
//!
//! A score belongs to the text with which it agrees in the columns of `on`, by default in what both tables have of `item`,
//! `axis`, `regime`, `decoder`, `sample` and other key columns ([`fracture_stage::join`]). A text without a score is counted
//! and bounded like one that a judge could not score.

mod run;

use fracture_cache::ColumnType;
use fracture_stage::stage::{Keys, Need, Port, Whole, Work};
use fracture_stage::{
    Context, Error, Files, Inputs, Kind, Manifest, Open, Outputs, ParameterError, Product, Schema, Schemas, Stage,
    describe_json,
};
use serde_json::{Value, json};

use super::parameters::JudgeParameters;
use super::texts::TextSource;
use super::{VERSION, last_part};

const TEXTS: &str = "texts";
pub(super) const SCORES: &str = "scores";
/// Where the score is looked for, the first that is there.
const USUAL: [&str; 2] = ["p_unsafe", "score"];
/// Columns that join when both tables have them, beside their key columns.
const JOINING: [&str; 5] = ["axis", "regime", "decoder", "model", "sample"];

/// A resolved task of kind `judge` whose scores come from elsewhere.
struct ScoresStage {
    parameters: JudgeParameters,
    name: String,
    source: TextSource,
    /// Whether the pipeline has several models, so that a score must say of which it is.
    several_models: bool,
}

/// Builds the stage, or says all that is wrong with its parameters.
pub(super) fn build(parameters: JudgeParameters, context: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let foreign = parameters
        .generative()
        .into_iter()
        .chain(parameters.classifying())
        .chain(parameters.running());
    let mut errors: Vec<ParameterError> = foreign
        .map(|name| {
            ParameterError::at(&[name], format!("scores from elsewhere have no `{name}`"))
                .hint("nothing is judged here: the table at the port `scores` says what each text scores")
        })
        .collect();
    for (column, value, verdict) in parameters.all_cases() {
        if verdict.unsafe_labels.is_some() || verdict.reduce.is_some() {
            let message = "rows of scores from elsewhere differ in `orientation` only";
            errors.push(ParameterError::at(&["cases", column, value], message));
        }
    }
    for (index, name) in parameters.on.iter().enumerate() {
        if parameters.on[..index].contains(name) {
            errors.push(ParameterError::at(&["on"], format!("`{name}` is named twice")));
        }
    }
    if !parameters.on.is_empty() && !parameters.on.iter().any(|name| name == "item") {
        errors.push(ParameterError::at(&["on"], "scores join by `item` at least").hint("on: [item, regime]"));
    }
    let source = TextSource::parse(&parameters.text)
        .map_err(|message| errors.push(ParameterError::at(&["text"], message)))
        .ok();
    let Some(source) = source.filter(|_| errors.is_empty()) else {
        return Err(errors);
    };
    let model = context.models.get(&parameters.model);
    Ok(Box::new(ScoresStage {
        name: model.map_or_else(|| last_part(&parameters.model), |model| model.name.clone()),
        several_models: context.models.len() > 1,
        source,
        parameters,
    }))
}

impl ScoresStage {
    /// The column of what was judged: the text, the answer of a pair or in a template.
    fn text(&self) -> Option<&str> {
        self.source.response()
    }

    /// What joins, and what is read at both ports beside.
    fn needs(&self) -> Vec<Need> {
        let mut needs = vec![Need::any("item")];
        match &self.parameters.on[..] {
            [] => needs.extend(JOINING.iter().map(|name| Need::optional(name))),
            on => needs.extend(on.iter().filter(|name| *name != "item").map(|name| Need::any(name))),
        }
        needs.push(Need::optional("invalid"));
        needs.extend(self.text().map(Need::optional));
        needs
    }
}

impl Stage for ScoresStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "judge",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let keys = if self.parameters.on.is_empty() {
            Keys::Values
        } else {
            Keys::None
        };
        let port = |name: &str, needs| Port {
            name: name.to_owned(),
            needs,
            keys,
            all: false,
        };
        let mut texts = self.needs();
        texts.extend(self.parameters.cases.keys().map(|column| Need::any(column)));
        let mut scores = self.needs();
        match &self.parameters.score {
            Some(score) => scores.push(Need::any(score)),
            None => scores.extend(USUAL.iter().map(|name| Need::optional(name))),
        }
        vec![port(TEXTS, texts), port(SCORES, scores)]
    }

    fn constants(&self) -> Vec<(String, Value, bool)> {
        vec![("judge".to_owned(), json!(self.name), true)]
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        if inputs.at(SCORES).is_empty() {
            return Err(Error::pipeline("nothing is connected to the port `scores`").hint(
                "say `needs: { texts: STAGE, scores: STAGE }`, with the table of scores loaded by a `load` stage",
            ));
        }
        Ok(Outputs::only(Schema::exact([
            ("p_unsafe", ColumnType::F64),
            ("invalid", ColumnType::Text),
            ("windows", ColumnType::U32),
            ("truncated", ColumnType::Bool),
        ])))
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        describe_json(manifest, &self.parameters, &JudgeParameters::default(), &["model"]);
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for ScoresStage {
    fn run(&self, inputs: &Inputs, _: &Open<'_>) -> Result<Product, Error> {
        run::scores(self, inputs.table(TEXTS)?, &inputs.tables(SCORES))
    }
}

#[cfg(test)]
mod tests;
