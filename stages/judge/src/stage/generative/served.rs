//! A generative judge that others serve. What it is asked, which columns it reads and how its verdicts become a table
//! are those of a judge that runs here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fracture_generate::template::{ChatTemplate, Date};
use fracture_served::identity::{self, Identity};
use fracture_served::model::Lack;
use fracture_served::secret::Secret;
use fracture_served::{Model, Protocol, SCHEME, ServedExecutor, Work as Asked};
use fracture_stage::stage::{Port, RowPlan, RowState, Work};
use fracture_stage::{
    Error, ErrorKind, Executor, FileUse, Files, Inputs, Kind, Manifest, Open, Outputs, ParameterError, Product,
    Request, Role, RowWise, Schema, Schemas, Stage,
};
use serde_json::{Value, json};

use super::watch::WatchedExecutor;
use super::{GenerativeStage, ROW_VERSION, TEMPLATE_LIMIT, TemplateSource, template_of};
use crate::generative::Form;
use crate::generative::prompt::Asking;
use crate::generative::served::{Asks, Prompt, ServedVerdict};
use crate::stage::executor::canaries;
use crate::stage::table::{ValueAt, invalid};

/// A resolved task of kind `judge` whose judge is served.
pub(super) struct ServedJudgeStage {
    inner: GenerativeStage,
    model: Arc<Model>,
    template: OnceLock<Option<ChatTemplate>>,
    memory: OnceLock<Option<PathBuf>>,
}

/// Builds the stage, or says what a served judge lacks.
pub(super) fn build(inner: GenerativeStage) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let model = Model::new(&inner.model)?;
    let mut errors = Vec::new();
    let mut lacks = |name: &str, hint: &str| {
        let message = format!("the served judge `{}` has no `{name}`", model.shown);
        errors.push(ParameterError::at(&[name], message).hint(hint));
    };
    if inner.parameters.max_length.is_some() {
        lacks(
            "max_length",
            "only the server counts tokens; a text that does not fit fails its row",
        );
    }
    let temperature = inner.parameters.temperature.unwrap_or(1.0);
    if inner.parameters.votes.is_some() && model.lacks(Lack::Temperature) && temperature != 1.0 {
        lacks(
            "temperature",
            "the model says that it lacks it: only 1 can be asked for",
        );
    }
    if inner.parameters.votes.is_none() && model.lacks(Lack::Logprobs) {
        let message = format!("the served judge `{}` gives no log-probabilities", model.shown);
        errors.push(ParameterError::at(&["model"], message).hint("ask for `votes: N`: the share of unsafe answers"));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Box::new(ServedJudgeStage {
        inner,
        model: Arc::new(model),
        template: OnceLock::new(),
        memory: OnceLock::new(),
    }))
}

impl ServedJudgeStage {
    fn protocol(&self, asking: &Asking) -> Protocol {
        match (asking.template.form, &self.model.chat_template, self.model.protocol) {
            (Form::Text, ..) | (_, Some(_), _) => Protocol::Completions,
            (_, None, said) => said.unwrap_or(Protocol::Chat),
        }
    }

    /// What can not be asked in the way in which this server is asked.
    fn check(&self, asking: &Asking) -> Result<(), Error> {
        let wrong = |what: &str, hint: &str| {
            Err(Error::pipeline(format!("the served judge `{}`: {what}", self.model.shown)).hint(hint))
        };
        let chat = self.protocol(asking) == Protocol::Chat;
        if asking.template.form == Form::Text && self.model.protocol == Some(Protocol::Chat) {
            return wrong(
                "its template is a text, which a chat can not give",
                "leave out protocol: chat",
            );
        }
        if asking.template.form == Form::Conversation && !chat && self.model.chat_template.is_none() {
            return wrong(
                "its template is a conversation",
                "give the model a `chat_template`, or leave out protocol: completions",
            );
        }
        if chat && !asking.prefix.is_empty() {
            return wrong(
                "a chat can not begin its answer with a `prefix`",
                "give the model a `chat_template` (it is applied here), or leave the prefix out: prefix: ''",
            );
        }
        if chat && asking.after.is_some() && asking.voting.is_none() {
            return wrong(
                "a chat can not be asked for what comes `after` a text",
                "ask for `votes`, or give the model a `chat_template`",
            );
        }
        Ok(())
    }

    /// The chat template that is applied here.
    fn chat_template(&self, files: &dyn Files) -> Result<Option<&ChatTemplate>, Error> {
        if let Some(template) = self.template.get() {
            return Ok(template.as_ref());
        }
        let template = match &self.model.chat_template {
            None => None,
            Some(path) => {
                let bytes = files.head(&files.locate(path), TEMPLATE_LIMIT)?;
                let source = String::from_utf8(bytes)
                    .map_err(|error| Error::input(format!("the chat template `{path}` is not UTF-8")).cause(error))?;
                let template = ChatTemplate::new(&source, std::collections::BTreeMap::new(), Date::default())?;
                Some(template.named(format!("the chat template `{path}`")))
            }
        };
        Ok(self.template.get_or_init(|| template).as_ref())
    }

    fn identity(&self) -> Value {
        let protocol = self
            .inner
            .asking
            .get()
            .map_or(Protocol::Chat, |asking| self.protocol(asking));
        self.model.identity(protocol)
    }
}

impl Stage for ServedJudgeStage {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    fn ports(&self) -> Vec<Port> {
        self.inner.ports()
    }

    fn constants(&self) -> Vec<(String, Value, bool)> {
        let mut constants = self.inner.constants();
        constants.push(("judge_served".to_owned(), json!(true), false));
        constants
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        let asking = self.inner.asking(files)?;
        self.check(asking)?;
        self.inner.check_canaries(files)?;
        self.chat_template(files).map_err(|error| error.parameter(&["model"]))?;
        let mut uses = Vec::new();
        if let Some(path) = &self.model.chat_template {
            uses.push(FileUse::present("chat_template", files.locate(path)));
        }
        if let TemplateSource::File(path) = template_of(self.inner.parameters.template.as_deref()) {
            uses.push(FileUse::present("template", files.locate(path)));
        }
        Ok(uses)
    }

    fn schema(&self, inputs: &Schemas, files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        self.check(self.inner.asking(files)?)?;
        self.inner.schema(inputs, files)
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        self.inner.describe(manifest);
        manifest.part(Role::Parameter, "served", &self.identity());
    }

    fn ready(&self, offline: bool) -> Result<(), Error> {
        if offline {
            let message = format!(
                "the judge `{}` is served at {}, and --offline asks nobody",
                self.model.shown, self.model.address
            );
            return Err(Error::new(ErrorKind::Environment, message).hint("leave out --offline"));
        }
        match &self.model.key_variable {
            Some(variable) => Secret::from_env(variable, &self.model.shown).map(drop),
            None => Ok(()),
        }
    }

    fn unverifiable(&self) -> Option<String> {
        Some(format!("the judge `{}` is served by others", self.model.shown))
    }

    fn work(&self) -> Work<'_> {
        Work::Rows(self)
    }
}

impl RowWise for ServedJudgeStage {
    fn row_version(&self) -> u32 {
        ROW_VERSION
    }

    fn lineage(&self, manifest: &mut dyn Manifest) {
        self.inner.lineage(manifest);
        manifest.part(Role::Parameter, "served", &self.identity());
    }

    fn lineage_file(&self, role: &str) -> bool {
        self.inner.lineage_file(role)
    }

    fn group(&self) -> String {
        let connection = self.model.connection();
        match (self.inner.wants_canaries(), self.inner.asking.get()) {
            // Canaries watch one way of asking, so only stages that ask so share what they found.
            (true, Some(asking)) => {
                let (canaries, least) = (&self.inner.parameters.canaries, self.inner.parameters.agreement);
                let watched = json!([canaries, least, self.inner.canary_settings(asking), self.identity()]);
                format!("judge {SCHEME}{connection} watched {watched}")
            }
            _ => format!("judge {SCHEME}{connection}"),
        }
    }

    fn resource(&self) -> &'static str {
        "network"
    }

    fn unit(&self) -> &'static str {
        "tokens"
    }

    fn plan(&self, inputs: &Inputs, open: &Open<'_>) -> Result<RowPlan, Error> {
        let view = inputs.table("texts")?;
        let asking = self.inner.asking(open.files)?;
        let template = self.chat_template(open.files)?;
        let _ = self.memory.set(open.files.memory());
        let protocol = self.protocol(asking);
        let invalid = invalid(view)?;
        let mut plan = RowPlan::default();
        let mut requests: HashMap<String, u32> = HashMap::new();
        for (row, question) in self.inner.questions(view, asking)?.into_iter().enumerate() {
            let Some(question) = question.filter(|_| invalid.value_at(row).is_none()) else {
                plan.rows.push(None);
                continue;
            };
            let prompt = Prompt::new(&question, protocol, template)
                .map_err(|error| error.context(format!("the judge `{}` fails at row {row}", self.model.shown)))?;
            let next = plan.requests.len() as u32;
            let index = *requests.entry(prompt.key()).or_insert_with_key(|key| {
                let asks = Asks {
                    model: Arc::clone(&self.model),
                    asking: Arc::clone(asking),
                    prompt,
                };
                plan.requests.push(Request {
                    key: key.as_bytes().to_vec(),
                    cost: 1,
                    payload: Arc::new(Asked(Arc::new(asks))),
                });
                next
            });
            plan.rows.push(Some(index));
        }
        plan.notes.extend(self.inner.granularity(asking));
        Ok(plan)
    }

    fn open(&self, open: &Open<'_>) -> Result<Box<dyn Executor>, Error> {
        let executor = ServedExecutor::open(&self.model)?;
        if !self.inner.wants_canaries() {
            return Ok(Box::new(executor));
        }
        let asking = self.inner.asking(open.files)?;
        let template = self.chat_template(open.files)?;
        let protocol = self.protocol(asking);
        let settings = json!([self.inner.canary_settings(asking), self.identity()]);
        let canaries = canaries(
            self.inner.parameters.canaries.as_ref(),
            Path::new(""),
            &self.model.shown,
            &self.resolve(open.files)?,
            &settings.to_string(),
            open.files,
        )?;
        let question = self.inner.canary_question(asking);
        let ask = |text: &str| -> Result<Arc<Asked>, Error> {
            let prompt = Prompt::new(&question.about(text), protocol, template)?;
            Ok(Arc::new(Asked(Arc::new(Asks {
                model: Arc::clone(&self.model),
                asking: Arc::clone(asking),
                prompt,
            }))))
        };
        let Some(canaries) = canaries else {
            return Ok(Box::new(executor));
        };
        let asked = canaries.texts().map(ask).collect::<Result<_, _>>()?;
        let words = asking.words.clone();
        let watched = WatchedExecutor::new(executor, canaries.by_verdict(self.inner.agreement()), asked, words)?;
        Ok(Box::new(watched))
    }

    fn finish(&self, inputs: &Inputs, _: &RowPlan, rows: &[RowState<'_>]) -> Result<Product, Error> {
        let mut product = self
            .inner
            .table(inputs, rows, &|raw| Ok(ServedVerdict::decode(raw)?.verdict))?;
        let memory = self.memory.get().and_then(Option::as_deref);
        let notes = identity::watch(memory, &self.model.shown, &self.identity(), &said(rows));
        product.notes.extend(notes);
        Ok(product)
    }

    fn provenance(&self, rows: &[RowState<'_>]) -> Vec<(String, String)> {
        identity::provenance(&said(rows))
    }
}

/// Who gave the rows.
fn said(rows: &[RowState<'_>]) -> Vec<Identity> {
    let by = rows.iter().filter_map(|state| match state {
        RowState::Raw(raw) => ServedVerdict::decode(raw).ok().map(|row| row.by),
        _ => None,
    });
    by.collect()
}
