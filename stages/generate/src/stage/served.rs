//! `generate` with a model that others serve: `source: openai://MODEL`.
//!
//! Rows are asked for with a seed that is derived from their random stream, so that samples differ and a rerun asks the
//! same. What comes is remembered like any raw row, and nobody promises that it would come again.

use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

use fracture_served::call::{Asked, Input};
use fracture_served::model::Lack;
use fracture_served::{
    Call, Client, Failure, Job, JobFuture, Model, Protocol, ServedExecutor, ServedRow, Sort, Work as Asking, identity,
};
use fracture_stage::stage::{Port, RowPlan, RowState, Work};
use fracture_stage::{
    Error, ErrorKind, Executor, FileUse, Files, Inputs, Kind, Manifest, ModelSpec, Open, Outputs, ParameterError,
    Product, Request, Role, RowWise, Schema, Schemas, Stage, describe_json,
};
use serde_json::{Value, json};

use super::conversations::{Prompt, Rendering, render_all};
use super::parameters::Settings;
use super::table::Table;
use super::{VERSION, constants, ports, schema};
use crate::sampler::Stream;
use crate::template::{ChatTemplate, Ending, Message};
use crate::text::Rendered;

/// The version of what a raw row means. Apart from that of models that run here by what the lineage says.
const ROW_VERSION: u32 = 1;
/// A template file may be this long, bytes.
const TEMPLATE_LIMIT: usize = 1 << 20;

/// Builds the stage, or says what a served model lacks.
pub fn build(settings: Settings, spec: ModelSpec, decoder: String) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let model = Model::new(&spec)?;
    let protocol = match (settings.chat, &model.chat_template, model.protocol) {
        // The template is applied here, so the server is given a text.
        (false, ..) | (_, Some(_), _) => Protocol::Completions,
        (true, None, said) => said.unwrap_or(Protocol::Chat),
    };
    let errors = lacking(&settings, &model);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Box::new(ServedStage {
        settings,
        spec,
        decoder,
        protocol,
        model: Arc::new(model),
        template: OnceLock::new(),
        memory: OnceLock::new(),
    }))
}

/// Settings that a served model lacks are errors, never dropped.
fn lacking(settings: &Settings, model: &Model) -> Vec<ParameterError> {
    let mut errors = Vec::new();
    let mut lacks = |setting: &str, hint: String| {
        let message = format!("the served model `{}` has no `{setting}`", model.shown);
        errors.push(ParameterError::at(&[setting], message).hint(hint));
    };
    let extra = |setting: &str, value: Value| {
        format!("leave it out; a server that takes it gets it by `extra: {{ {setting}: {value} }}` of the model")
    };
    if settings.samples_tokens() {
        if settings.top_k > 0 {
            lacks("top_k", extra("top_k", json!(settings.top_k)));
        }
        if settings.min_p > 0.0 {
            lacks("min_p", extra("min_p", json!(settings.min_p)));
        }
    }
    if settings.repetition_penalty != 1.0 {
        lacks(
            "repetition_penalty",
            extra("repetition_penalty", json!(settings.repetition_penalty)),
        );
    }
    if settings.date_text.is_some() && model.chat_template.is_none() {
        lacks(
            "date",
            "only a `chat_template` that is applied here renders a date".to_owned(),
        );
    }
    if settings.top_logprobs > 0 {
        let hint = "servers tell no ids of tokens, which the column `top_tokens` holds; say logprobs: true".to_owned();
        lacks("logprobs", hint);
    }
    let said = |what: Lack| model.lacks(what);
    let own = |setting: &str| format!("the model says that it lacks `{setting}`");
    if said(Lack::Temperature) && settings.temperature != 1.0 {
        lacks(
            "temperature",
            format!("{}: only temperature: 1 can be asked for", own("temperature")),
        );
    }
    if said(Lack::TopP) && settings.samples_tokens() && settings.top_p < 1.0 {
        lacks("top_p", own("top_p"));
    }
    if said(Lack::Stop) && !settings.stop.is_empty() {
        lacks("stop", own("stop"));
    }
    if said(Lack::Logprobs) && settings.logprobs {
        lacks("logprobs", own("logprobs"));
    }
    if !settings.chat && model.protocol == Some(Protocol::Chat) {
        let message = format!(
            "chat: false asks for completions, and the model `{}` says protocol: chat",
            model.shown
        );
        errors.push(ParameterError::at(&["chat"], message).hint("leave out one of the two"));
    }
    errors
}

/// A resolved task of kind `generate` whose model is served.
struct ServedStage {
    settings: Settings,
    spec: ModelSpec,
    decoder: String,
    protocol: Protocol,
    model: Arc<Model>,
    template: OnceLock<Option<ChatTemplate>>,
    /// Where the store remembers what servers said of themselves.
    memory: OnceLock<Option<PathBuf>>,
}

impl ServedStage {
    /// The template that is applied here.
    fn template(&self, files: &dyn Files) -> Result<Option<&ChatTemplate>, Error> {
        if let Some(template) = self.template.get() {
            return Ok(template.as_ref());
        }
        let template = match self.model.chat_template.as_deref().filter(|_| self.settings.chat) {
            None => None,
            Some(path) => {
                let bytes = files.head(&files.locate(path), TEMPLATE_LIMIT)?;
                let source = String::from_utf8(bytes)
                    .map_err(|error| Error::input(format!("the chat template `{path}` is not UTF-8")).cause(error))?;
                // A server puts the first token there itself.
                let special = std::collections::BTreeMap::new();
                let template = ChatTemplate::new(&source, special, self.settings.date)?;
                Some(template.named(format!("the chat template `{path}`")))
            }
        };
        Ok(self.template.get_or_init(|| template).as_ref())
    }

    fn conversation(&self, messages: &[Message], template: Option<&ChatTemplate>) -> Result<Rendered, Error> {
        match (self.protocol, template) {
            (Protocol::Chat, _) => {
                if messages.last().is_some_and(|message| message.role == "assistant") {
                    let message = format!(
                        "the served model `{}` can not continue a prefill in a chat",
                        self.model.shown
                    );
                    return Err(Error::pipeline(message).hint(
                        "leave out `prefill`, or give the model a `chat_template`, or say chat: false: completions go \
                         on where a text ends",
                    ));
                }
                Ok(Rendered::plain(as_json(messages).to_string()))
            }
            (Protocol::Completions, None) => Ok(Rendered::joined(messages)),
            (Protocol::Completions, Some(template)) => {
                let (text, system_folded) = template.render(messages, Ending::Answer)?;
                Ok(Rendered {
                    text,
                    add_special_tokens: false,
                    system_folded,
                })
            }
        }
    }

    /// A prompt of a table without messages: as it is, which in a chat is one turn of the user.
    fn plain(&self, prompt: String) -> Rendered {
        match self.protocol {
            Protocol::Chat => Rendered::plain(as_json(&[Message::new("user", prompt)]).to_string()),
            Protocol::Completions => Rendered::plain(prompt),
        }
    }

    fn request(&self, prompt: &Prompt, sample: u32) -> Result<Request, Error> {
        let settings = &self.settings;
        let stream = Stream::new(settings.seed, &prompt.axis, &prompt.item, sample, prompt.draw);
        let text = prompt.rendered.text.as_str();
        let mut key = text.as_bytes().to_vec();
        if settings.samples_tokens() {
            key.extend(stream.0);
        }
        let [a, b, c, d, ..] = stream.0;
        let asked = Asked {
            temperature: settings.temperature,
            top_p: settings.top_p,
            max_new_tokens: settings.max_new_tokens,
            stop: settings.stop.clone(),
            // 31 bits: what every server's integers hold.
            seed: settings.samples_tokens().then(|| u32::from_le_bytes([a, b, c, d]) >> 1),
            logprobs: settings.logprobs.then_some(0),
        };
        let call = match self.protocol {
            Protocol::Completions => Call::new(&self.model, Input::Text(text), &asked),
            Protocol::Chat => {
                let messages: Value = serde_json::from_str(text)
                    .map_err(|error| Error::internal("a conversation is no JSON").cause(error))?;
                Call::new(&self.model, Input::Messages(&messages), &asked)
            }
        };
        Ok(Request {
            key,
            cost: 1,
            payload: Arc::new(Asking(Arc::new(Completion {
                call,
                logprobs: settings.logprobs,
            }))),
        })
    }

    /// What the server's model is known by.
    fn identity(&self) -> Value {
        self.model.identity(self.protocol)
    }
}

fn as_json(messages: &[Message]) -> Value {
    messages
        .iter()
        .map(|turn| json!({ "role": turn.role, "content": turn.content }))
        .collect()
}

/// One completion.
struct Completion {
    call: Call,
    /// Log-probabilities must come back.
    logprobs: bool,
}

impl Job for Completion {
    fn run(&self, client: Arc<Client>, flying: Arc<AtomicU32>) -> JobFuture {
        let (call, asked) = (self.call.clone(), self.logprobs);
        Box::pin(async move {
            let answer = client.ask(&call, &flying).await?;
            // A list of none would sum up to certainty.
            let none = answer.tokens.as_ref().is_none_or(Vec::is_empty);
            if asked && none && !answer.text.is_empty() {
                let message = "the server gives no log-probabilities; leave out `logprobs`";
                return Err(Failure::new(Sort::Request, message));
            }
            Ok(ServedRow::new(answer).encode())
        })
    }
}

impl Stage for ServedStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "generate",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        ports()
    }

    fn constants(&self) -> Vec<(String, Value, bool)> {
        let mut constants = constants(&self.settings, &self.spec, &self.decoder);
        constants.push(("served".to_owned(), json!(true), false));
        constants
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        let Some(path) = self.model.chat_template.as_deref().filter(|_| self.settings.chat) else {
            return Ok(Vec::new());
        };
        self.template(files).map_err(|error| error.parameter(&["model"]))?;
        Ok(vec![FileUse::present("chat_template", files.locate(path))])
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        schema(&self.settings, inputs)
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        describe_json(
            manifest,
            &self.settings.described(),
            &Settings::default().described(),
            &[],
        );
        if self.settings.temperature == 0.0 {
            manifest.part(Role::Parameter, "decoding", &json!("greedy"));
        }
        manifest.part(Role::Parameter, "served", &self.identity());
    }

    fn ready(&self, offline: bool) -> Result<(), Error> {
        if offline {
            let message = format!(
                "the model `{}` is served at {}, and --offline asks nobody",
                self.model.shown, self.model.address
            );
            return Err(Error::new(ErrorKind::Environment, message).hint("leave out --offline"));
        }
        match &self.model.key_variable {
            Some(variable) => fracture_served::secret::Secret::from_env(variable, &self.model.shown).map(drop),
            None => Ok(()),
        }
    }

    fn unverifiable(&self) -> Option<String> {
        Some(format!("the model `{}` is served by others", self.model.shown))
    }

    fn work(&self) -> Work<'_> {
        Work::Rows(self)
    }
}

impl RowWise for ServedStage {
    fn row_version(&self) -> u32 {
        ROW_VERSION
    }

    fn lineage(&self, manifest: &mut dyn Manifest) {
        let settings = &self.settings;
        let mut part = |name: &str, value: Value| manifest.part(Role::Parameter, name, &value);
        part("served", self.identity());
        part("temperature", json!(settings.temperature));
        if settings.samples_tokens() {
            part("top_p", json!(settings.top_p));
        }
        part("max_new_tokens", json!(settings.max_new_tokens));
        part("stop", json!(settings.stop));
        if settings.logprobs {
            part("logprobs", json!(true));
        }
    }

    fn lineage_file(&self, _: &str) -> bool {
        // The template's work is in the rendered text, which is part of every row's key.
        false
    }

    fn group(&self) -> String {
        format!("generate {}{}", fracture_served::SCHEME, self.model.connection())
    }

    fn resource(&self) -> &'static str {
        "network"
    }

    fn unit(&self) -> &'static str {
        "tokens"
    }

    fn plan(&self, inputs: &Inputs, open: &Open<'_>) -> Result<RowPlan, Error> {
        let view = inputs.table("prompts")?;
        let template = self.template(open.files)?;
        let _ = self.memory.set(open.files.memory());
        let prompts = render_all(
            view,
            &Rendering {
                system: self.settings.system.as_deref(),
                conversation: &|messages| self.conversation(messages, template),
                prompt: &|prompt| Ok(self.plain(prompt)),
            },
        )?;
        let samples = self.settings.sample_count();
        let mut plan = RowPlan::default();
        let folded = prompts.iter().filter(|prompt| prompt.rendered.system_folded).count();
        if folded > 0 {
            plan.notes.push(format!(
                "the chat template of `{}` has no system role: in {folded} rows that text went before the first user \
                 turn",
                self.model.shown
            ));
        }
        let mut parent = Vec::with_capacity(prompts.len() * samples as usize);
        for (row, prompt) in prompts.iter().enumerate() {
            for sample in 0..samples {
                plan.rows.push(Some(plan.requests.len() as u32));
                parent.push(row as u32);
                plan.requests.push(self.request(prompt, sample)?);
            }
        }
        plan.parent = Some(parent);
        Ok(plan)
    }

    fn open(&self, _: &Open<'_>) -> Result<Box<dyn Executor>, Error> {
        Ok(Box::new(ServedExecutor::open(&self.model)?))
    }

    fn finish(&self, _: &Inputs, plan: &RowPlan, rows: &[RowState<'_>]) -> Result<Product, Error> {
        let mut table = Table::new(rows.len());
        let samples = self.settings.sample_count();
        let mut by = Vec::with_capacity(rows.len());
        let mut uncounted = 0;
        for (index, state) in rows.iter().enumerate() {
            let sample = index as u32 % samples;
            match state {
                RowState::Raw(raw) => {
                    let row = ServedRow::decode(raw)?;
                    table.push_served(sample, &row, &self.settings.stop, &self.settings.strip);
                    uncounted += usize::from(row.prompt_tokens.is_none() && row.completion_tokens.is_none());
                    by.push(row.by);
                }
                RowState::Failed(error) => table.push_failed(sample, &error.message),
                RowState::Absent => return Err(Error::internal("a completion was not asked for")),
            }
        }
        let mut product = table.product(plan.parent.clone(), self.settings.logprobs)?;
        if self.model.price.is_some() && uncounted > 0 {
            product.notes.push(format!(
                "the server of the model `{}` says of {uncounted} rows not how many tokens they took: what they cost \
                 is not known",
                self.model.shown
            ));
        }
        let memory = self.memory.get().and_then(Option::as_deref);
        product
            .notes
            .extend(identity::watch(memory, &self.model.shown, &self.identity(), &by));
        Ok(product)
    }

    fn provenance(&self, rows: &[RowState<'_>]) -> Vec<(String, String)> {
        let by: Vec<_> = rows
            .iter()
            .filter_map(|state| match state {
                RowState::Raw(raw) => ServedRow::decode(raw).ok().map(|row| row.by),
                _ => None,
            })
            .collect();
        identity::provenance(&by)
    }
}
