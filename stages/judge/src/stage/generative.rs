//! The stage kind `judge` with `kind: generative`: a language model is asked, and its verdict is read from probabilities.

mod build;
mod served;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use arrow::array::LargeStringArray;
use fracture_cache::ColumnType;
use fracture_generate::checkpoint::Checkpoint;
use fracture_generate::config::Config;
use fracture_generate::engine::{Engine, Options};
use fracture_generate::text::{Text as ModelText, TextOptions};
use fracture_stage::stage::{Keys, Need, Port, RowPlan, RowState, Work};
use fracture_stage::{
    Error, Executor, FileUse, Files, Inputs, Kind, Manifest, ModelFiles, ModelSpec, Open, Outputs, Part, Product,
    Request, Role, RowWise, Schema, Schemas, Stage, View, describe_json,
};
use serde_json::{Value, json};

use super::executor::{GenerativeExecutor, canaries};
use super::parameters::{EmptyParameter, JudgeParameters, TextParameter};
use super::table::{Entry, Table, ValueAt, invalid, orientations, unused_cases};
use super::texts::TextSource;
use super::{VERSION, no_scores};
use crate::generative::{Asking, GenerativeJudge, Question, RawVerdict, Renderer, Template, VerdictScores};
use crate::tokenize::Text;

pub(super) use build::build;
use build::{TemplateSource, asking, template_of};

/// The version of what a raw row means; apart from that of classifiers by its first byte.
const ROW_VERSION: u32 = 1;
/// A template file may be this long, bytes.
const TEMPLATE_LIMIT: usize = 1 << 20;

/// A resolved task of kind `judge` whose judge is a language model.
struct GenerativeStage {
    parameters: JudgeParameters,
    model: ModelSpec,
    source: TextSource,
    asking: OnceLock<Arc<Asking>>,
    checkpoint: OnceLock<Checkpoint>,
    text: OnceLock<Arc<ModelText>>,
}

impl GenerativeStage {
    fn asking(&self, files: &dyn Files) -> Result<&Arc<Asking>, Error> {
        if let Some(asking) = self.asking.get() {
            return Ok(asking);
        }
        let TemplateSource::File(path) = template_of(self.parameters.template.as_deref()) else {
            return Err(Error::internal("a template of the pipeline was not parsed"));
        };
        let bytes = files.head(&files.locate(path), TEMPLATE_LIMIT).map_err(|error| {
            let shipped: Vec<&str> = Template::shipped().collect();
            error.hint(format!("shipped templates are {}", shipped.join(", ")))
        })?;
        let told = |cause: String| Error::pipeline(format!("the template `{path}` can not be used")).cause(cause);
        let source = String::from_utf8(bytes).map_err(|error| told(error.to_string()))?;
        let template = Template::parse(&source).map_err(told)?;
        let asking = asking(&self.parameters, template).map_err(told)?;
        Ok(self.asking.get_or_init(|| Arc::new(asking)))
    }

    /// How it is asked, after the stage was resolved.
    fn resolved(&self) -> Result<&Arc<Asking>, Error> {
        self.asking
            .get()
            .ok_or_else(|| Error::internal("the judge was not resolved before it ran"))
    }

    fn adapter_files(&self) -> Option<ModelFiles> {
        self.adapter().map(ModelFiles::adapter)
    }

    fn files(&self) -> ModelFiles {
        let file = self.model.settings.get("file").and_then(Value::as_str);
        ModelFiles::new(&self.model.source, Part::Weights, file)
    }

    fn checkpoint(&self, files: &dyn Files) -> Result<&Checkpoint, Error> {
        if let Some(checkpoint) = self.checkpoint.get() {
            return Ok(checkpoint);
        }
        let folder = files.model(&self.files());
        let opened = Checkpoint::open(&folder).and_then(|checkpoint| match self.adapter_files() {
            Some(adapter) => checkpoint.with_adapter(&files.model(&adapter)),
            None => Ok(checkpoint),
        });
        let checkpoint = opened.map_err(|error| {
            let error = error.context(format!("the judge `{}` can not be used", self.model.name));
            let error = error.parameter(&["model"]);
            match folder.join("model.onnx").is_file() || folder.join("onnx").is_dir() {
                true => error.hint("this is a classifier: leave out kind: generative"),
                false => error,
            }
        })?;
        Ok(self.checkpoint.get_or_init(|| checkpoint))
    }

    fn config(&self, checkpoint: &Checkpoint) -> Result<Config, Error> {
        checkpoint
            .config()
            .map_err(|error| error.context(format!("the judge `{}` can not be run", self.model.name)))
    }

    /// The folder of a LoRA adapter that is merged into the model.
    fn adapter(&self) -> Option<&str> {
        self.model.settings.get("adapter").and_then(Value::as_str)
    }

    fn chat_template(&self) -> Option<&str> {
        self.model.settings.get("chat_template").and_then(Value::as_str)
    }

    fn text_options(&self, files: &dyn Files) -> Result<TextOptions, Error> {
        let Some(path) = self.chat_template() else {
            return Ok(TextOptions::default());
        };
        let bytes = files.head(&files.locate(path), TEMPLATE_LIMIT)?;
        let template = String::from_utf8(bytes)
            .map_err(|error| Error::input(format!("the chat template `{path}` is not UTF-8")).cause(error))?;
        Ok(TextOptions {
            template: Some(template),
            ..TextOptions::default()
        })
    }

    /// The model's tokenizer and chat template; no weight is read.
    fn text(&self, files: &dyn Files) -> Result<&Arc<ModelText>, Error> {
        if let Some(text) = self.text.get() {
            return Ok(text);
        }
        let checkpoint = self.checkpoint(files)?;
        let text = ModelText::open(checkpoint, &self.config(checkpoint)?.eos, &self.text_options(files)?)?;
        Ok(self.text.get_or_init(|| Arc::new(text)))
    }

    /// The columns that the template reads beside the judged text, sorted.
    fn columns(&self, asking: &Asking) -> BTreeSet<String> {
        let pair = matches!(self.parameters.text, TextParameter::Pair(_));
        let given = |name: &str| name == "response" || name == "policy" || (pair && name == "prompt");
        let named = asking.template.variables().iter().filter(|name| !given(name));
        named.cloned().collect()
    }

    /// The values of the template's variables, row by row, without those that are null; `None` where there is nothing to
    /// judge.
    fn questions(&self, view: &View, asking: &Arc<Asking>) -> Result<Vec<Option<Question>>, Error> {
        let columns: BTreeMap<String, LargeStringArray> = self
            .columns(asking)
            .into_iter()
            .map(|name| view.text(&name).map(|values| (name, values)))
            .collect::<Result<_, Error>>()?;
        let policy = self
            .parameters
            .policy
            .clone()
            .or_else(|| asking.template.policy.clone());
        let blank = self.parameters.empty == EmptyParameter::Score;
        let question = |(row, text): (usize, Option<Text>)| {
            let said =
                |(name, column): (&String, &LargeStringArray)| Some((name.clone(), column.value_at(row)?.to_owned()));
            let mut values: BTreeMap<String, String> = columns.iter().filter_map(said).collect();
            match text? {
                Text::One(response) => values.insert("response".to_owned(), response),
                Text::Pair { prompt, response } => {
                    values.insert("prompt".to_owned(), prompt);
                    values.insert("response".to_owned(), response)
                }
            };
            if asking.template.variables().contains("policy") {
                values.extend(policy.clone().map(|policy| ("policy".to_owned(), policy)));
            }
            let asking = Arc::clone(asking);
            Some(Question { asking, values })
        };
        let texts = self.source.texts_that(view, |text| blank || !text.is_empty())?;
        Ok(texts.into_iter().enumerate().map(question).collect())
    }
}

impl Stage for GenerativeStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "judge",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let mut columns = self.source.columns();
        if let Some(asking) = self.asking.get() {
            columns.extend(self.columns(asking));
        }
        columns.extend(self.parameters.cases.keys().cloned());
        let mut needs: Vec<Need> = columns.iter().map(|column| Need::any(column)).collect();
        needs.push(Need::optional("invalid"));
        vec![Port {
            name: "texts".to_owned(),
            needs,
            keys: Keys::None,
            all: false,
        }]
    }

    fn constants(&self) -> Vec<(String, Value, bool)> {
        vec![("judge".to_owned(), json!(self.model.name), true)]
    }

    fn models(&self) -> Vec<ModelFiles> {
        std::iter::once(self.files()).chain(self.adapter_files()).collect()
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        let asking = self.asking(files)?;
        let checkpoint = self.checkpoint(files)?;
        // An architecture that can not be run is told before anything runs, and so is a length that it does not have. How
        // many tokens the verdicts have is known when the judge is open; one is the least.
        let context = self.config(checkpoint)?.context;
        if let Some((parameter, message)) = asking.excess(context, 1) {
            return Err(Error::pipeline(message).parameter(&[parameter]));
        }
        self.check_canaries(files)?;
        let own = checkpoint
            .files()
            .iter()
            .filter(|file| self.chat_template().is_none() || file.role != "chat_template");
        let mut uses: Vec<FileUse> = own
            .map(|file| FileUse {
                role: file.role.clone(),
                path: file.path.clone(),
            })
            .collect();
        if let Some(path) = self.chat_template() {
            self.text_options(files).map_err(|error| error.parameter(&["model"]))?;
            uses.push(FileUse::present("chat_template", files.locate(path)));
        }
        if let TemplateSource::File(path) = template_of(self.parameters.template.as_deref()) {
            uses.push(FileUse::present("template", files.locate(path)));
        }
        Ok(uses)
    }

    fn schema(&self, inputs: &Schemas, files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        no_scores(inputs)?;
        self.asking(files)?;
        Ok(Outputs::only(Schema::exact([
            ("p_unsafe", ColumnType::F64),
            ("score_unsafe", ColumnType::F64),
            ("score_safe", ColumnType::F64),
            ("mass", ColumnType::F64),
            ("invalid", ColumnType::Text),
            ("windows", ColumnType::U32),
            ("truncated", ColumnType::Bool),
        ])))
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        // The model and a template file count by content, wherever they lie; a shipped template by its own.
        let file = matches!(
            template_of(self.parameters.template.as_deref()),
            TemplateSource::File(_)
        );
        let except: &[&str] = if file {
            &["model", "canaries", "agreement", "template"]
        } else {
            &["model", "canaries", "agreement"]
        };
        describe_json(manifest, &self.parameters, &JudgeParameters::default(), except);
        if let (false, Some(asking)) = (file, self.asking.get()) {
            manifest.digest(Role::Parameter, "template_text", asking.template.digest());
        }
    }

    fn work(&self) -> Work<'_> {
        Work::Rows(self)
    }
}

impl RowWise for GenerativeStage {
    fn row_version(&self) -> u32 {
        ROW_VERSION
    }

    fn lineage(&self, manifest: &mut dyn Manifest) {
        let mut part = |name: &str, value: Value| manifest.part(Role::Parameter, name, &value);
        let Some(asking) = self.asking.get() else {
            return part("template", Value::Null);
        };
        part("judge", json!("generative"));
        // Which words mean what is applied after the memo.
        part("words", json!(asking.words.all()));
        part("after", json!(asking.after));
        part("max_length", json!(asking.max_length));
        if asking.after.is_some() || asking.voting.is_some() {
            part("max_new_tokens", json!(asking.max_new_tokens));
        }
        if let Some(voting) = asking.voting {
            part("votes", json!([voting.count, voting.temperature, voting.seed]));
        }
        // Template and prefix are in the rendered text, which is part of every row's key; they also say what is cut
        // from a text that is too long.
        part("template", json!(asking.template.digest()));
    }

    fn lineage_file(&self, role: &str) -> bool {
        role != "template" && role != "chat_template"
    }

    fn group(&self) -> String {
        // However it is asked: stages of one model share it and its running batch.
        format!(
            "judge generative {} {} {}",
            self.model.source,
            self.adapter().unwrap_or_default(),
            self.chat_template().unwrap_or_default()
        )
    }

    fn unit(&self) -> &'static str {
        "texts"
    }

    fn plan(&self, inputs: &Inputs, open: &Open<'_>) -> Result<RowPlan, Error> {
        let view = inputs.table("texts")?;
        let asking = self.asking(open.files)?;
        let renderer = Renderer {
            asking,
            text: self.text(open.files)?,
        };
        let invalid = invalid(view)?;
        let mut plan = RowPlan::default();
        let mut requests: HashMap<Vec<u8>, u32> = HashMap::new();
        for (row, question) in self.questions(view, asking)?.into_iter().enumerate() {
            // A row that was invalid before is not judged: an empty completion must not count as safe.
            let Some(question) = question.filter(|_| invalid.value_at(row).is_none()) else {
                plan.rows.push(None);
                continue;
            };
            let rendered = renderer
                .render(&question.values)
                .map_err(|error| error.context(format!("the judge `{}` fails at row {row}", self.model.name)))?;
            let mut key = vec![u8::from(rendered.add_special_tokens)];
            key.extend(rendered.text.as_bytes());
            let next = plan.requests.len() as u32;
            let index = *requests.entry(key).or_insert_with_key(|key| {
                plan.requests.push(Request {
                    key: key.clone(),
                    cost: 1,
                    payload: Arc::new(question),
                });
                next
            });
            plan.rows.push(Some(index));
        }
        plan.notes.extend(self.granularity(asking));
        Ok(plan)
    }

    fn open(&self, open: &Open<'_>) -> Result<Box<dyn Executor>, Error> {
        let options = Options {
            threads: Some(open.threads.max(1)),
            ..Options::default()
        };
        let asking = self.asking(open.files)?;
        let uses = self.resolve(open.files)?;
        let engine = Engine::load(self.checkpoint(open.files)?, &self.text_options(open.files)?, options)?;
        let text = Arc::clone(self.text(open.files)?);
        let judge = GenerativeJudge::new(engine, text, &self.model.name);
        let canaries = canaries(
            self.parameters.canaries.as_ref(),
            &open.files.model(&self.files()),
            &self.model.name,
            &uses,
            &self.canary_settings(asking).to_string(),
            open.files,
        )?;
        let question = self.canary_question(asking);
        Ok(Box::new(GenerativeExecutor::new(judge, canaries, question)?))
    }

    fn finish(&self, inputs: &Inputs, _: &RowPlan, rows: &[RowState<'_>]) -> Result<Product, Error> {
        self.table(inputs, rows, &RawVerdict::decode)
    }
}

impl GenerativeStage {
    /// What scores are that come from votes.
    fn granularity(&self, asking: &Asking) -> Option<String> {
        let voting = asking.voting?;
        Some(format!(
            "scores of the judge `{}` are shares of {} votes: they have a granularity of {:.3}",
            self.model.name,
            voting.count,
            1.0 / f64::from(voting.count)
        ))
    }

    /// The table of raw rows.
    fn table(
        &self,
        inputs: &Inputs,
        rows: &[RowState<'_>],
        decode: &dyn Fn(&[u8]) -> Result<RawVerdict, Error>,
    ) -> Result<Product, Error> {
        let view = inputs.table("texts")?;
        let asking = self.resolved()?;
        let orientations = orientations(&self.parameters, view)?;
        let invalid = invalid(view)?;
        let mut table = Table::new(&["unsafe".to_owned(), "safe".to_owned()], true, rows.len());
        let mut cut = 0;
        for (row, state) in rows.iter().enumerate() {
            match state {
                RowState::Raw(raw) => {
                    let raw = decode(raw)?;
                    let scores = VerdictScores::new(&raw, &asking.words, orientations[row]);
                    let p = scores.p_unsafe.map(|p| if orientations[row] { 1.0 - p } else { p });
                    cut += raw.cut();
                    let labels = p.map(|p| [p, 1.0 - p]);
                    table.push(&Entry {
                        p_unsafe: scores.p_unsafe,
                        labels: labels.as_ref().map_or(&[], |labels| &labels[..]),
                        mass: scores.mass,
                        invalid: scores.invalid.as_deref(),
                        windows: 1,
                        truncated: raw.truncated(),
                    });
                }
                RowState::Failed(error) => table.push_invalid(&format!("judge failed: {}", error.message)),
                RowState::Absent => table.push_invalid(invalid.value_at(row).unwrap_or("empty text")),
            }
        }
        let mut product = table.product()?;
        product.notes.extend(unused_cases(&self.parameters, view)?);
        if asking.after.is_some() && cut > 0 {
            product.notes.push(format!(
                "{cut} answers of the judge `{}` were cut off at {} tokens before their verdict; raise max_new_tokens",
                self.model.name, asking.max_new_tokens
            ));
        }
        Ok(product)
    }
}
