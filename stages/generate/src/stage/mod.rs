//! The stage kind `generate`.

mod conversations;
mod executor;
mod parameters;
mod rows;
mod served;
mod table;

use std::sync::OnceLock;

use fracture_cache::ColumnType;
use fracture_stage::source::{HUB, last_part};
use fracture_stage::stage::{Keys, Need, Port, Work};
use fracture_stage::{
    Context, Declaration, Error, FileUse, Files, Kind, Manifest, ModelFiles, ModelSpec, Outputs, ParameterError, Part,
    PortName, Role, Schema, Schemas, Shape, Stage, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::text::{Text, TextOptions};
use parameters::{DTYPE_HINT, Generate, Settings};

/// The kind's semantic version.
const VERSION: u32 = 2;

/// The declaration of `generate`.
pub fn declaration() -> Declaration {
    Declaration {
        name: "generate",
        version: VERSION,
        summary: "Generates completions with a language model in this process, bit-reproducibly.",
        shape: Shape::Map,
        ports: &[PortName {
            name: "prompts",
            required: true,
        }],
        any_ports: false,
        side: &[],
        cases: false,
        spread: None,
        parameters: || json!(schemars::schema_for!(Generate)),
        build,
    }
}

fn build(with: &Value, context: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: Generate = parse_parameters(with)?;
    let mut errors = Vec::new();
    let settings = Settings::new(&parameters)
        .map_err(|mut problems| errors.append(&mut problems))
        .ok();
    let model = model(&parameters.model, context)
        .map_err(|error| errors.push(error))
        .ok();
    let (Some(settings), Some(model)) = (settings, model) else {
        return Err(errors);
    };
    let served = model.source.starts_with(fracture_served::SCHEME);
    // The decoder's name is that of the matrix value it came from; without one it is made of its settings.
    let named = context.matrix_name("decoder").map(str::to_owned);
    let decoder = named.unwrap_or_else(|| settings.name());
    if served {
        return served::build(settings, model, decoder);
    }
    Ok(Box::new(GenerateStage {
        settings,
        model,
        decoder,
        known: OnceLock::new(),
        text: OnceLock::new(),
    }))
}

/// The model that a name means: one under `models:`, else a folder.
fn model(name: &str, context: &Context) -> Result<ModelSpec, ParameterError> {
    let model = match context.models.get(name) {
        Some(model) => model.clone(),
        None if name.contains('/') || name.contains("://") => ModelSpec {
            name: last_part(name).to_owned(),
            source: name.to_owned(),
            ..ModelSpec::default()
        },
        None => {
            let names: Vec<&str> = context.models.keys().map(String::as_str).collect();
            let error = ParameterError::at(&["model"], format!("there is no model `{name}`"));
            return Err(error.hint(match names.as_slice() {
                [] => "name it under `models:`, or give the path of a folder".to_owned(),
                names => format!("the models are {}", names.join(", ")),
            }));
        }
    };
    let later = |what: &str| {
        let error = ParameterError::at(&["model"], format!("{what} is not in this version"));
        error.hint("give a folder with config.json, tokenizer.json and model.safetensors, or a GGUF file, as `source`")
    };
    if model.source.starts_with(fracture_served::SCHEME) {
        return Ok(model);
    }
    if model.source.contains("://") && !model.source.starts_with(HUB) {
        return Err(later(&format!("a model from `{}`", model.source)));
    }
    if let Some(setting) = model
        .settings
        .keys()
        .find(|key| !matches!(key.as_str(), "adapter" | "chat_template" | "dtype" | "file"))
    {
        return Err(later(&format!("`{setting}` of the model `{}`", model.name)));
    }
    let dtype = model.settings.get("dtype").and_then(Value::as_str);
    match dtype.and_then(parameters::dtype_problem) {
        Some(problem) => {
            Err(ParameterError::at(&["model"], format!("the model `{}`: {problem}", model.name)).hint(DTYPE_HINT))
        }
        None => Ok(model),
    }
}

/// A resolved task of kind `generate`.
struct GenerateStage {
    settings: Settings,
    model: ModelSpec,
    decoder: String,
    known: OnceLock<Checkpoint>,
    text: OnceLock<Text>,
}

impl GenerateStage {
    fn checkpoint(&self, files: &dyn Files) -> Result<&Checkpoint, Error> {
        if let Some(checkpoint) = self.known.get() {
            return Ok(checkpoint);
        }
        let checkpoint = self
            .open_checkpoint(files)
            .map_err(|error| error.context(format!("the model `{}` can not be used", self.model.name)))?;
        Ok(self.known.get_or_init(|| checkpoint))
    }

    fn files(&self) -> ModelFiles {
        ModelFiles::new(&self.model.source, Part::Weights, self.setting("file"))
    }

    fn adapter_files(&self) -> Option<ModelFiles> {
        self.adapter_path().map(ModelFiles::adapter)
    }

    fn open_checkpoint(&self, files: &dyn Files) -> Result<Checkpoint, Error> {
        let mut checkpoint = Checkpoint::choose(&files.model(&self.files()), self.setting("file"))?;
        for dtype in [self.settings.dtype.as_deref(), self.setting("dtype")]
            .into_iter()
            .flatten()
        {
            checkpoint.keeps(dtype)?;
        }
        if let Some(adapter) = self.adapter_files() {
            checkpoint = checkpoint.with_adapter(&files.model(&adapter))?;
        }
        Ok(checkpoint)
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.model.settings.get(name).and_then(Value::as_str)
    }

    fn adapter_path(&self) -> Option<&str> {
        self.setting("adapter")
    }

    fn config(&self, checkpoint: &Checkpoint) -> Result<Config, Error> {
        checkpoint
            .config()
            .map_err(|error| error.context(format!("the model `{}` can not be run", self.model.name)))
    }

    fn template_path(&self) -> Option<&str> {
        self.model.settings.get("chat_template").and_then(Value::as_str)
    }

    fn text_options(&self, files: &dyn Files) -> Result<TextOptions, Error> {
        let template =
            match self.template_path() {
                Some(path) => {
                    let bytes = files.head(&files.locate(path), 1 << 20)?;
                    Some(String::from_utf8(bytes).map_err(|error| {
                        Error::input(format!("the chat template `{path}` is not UTF-8")).cause(error)
                    })?)
                }
                None => None,
            };
        Ok(TextOptions {
            chat: self.settings.chat,
            template,
            date: self.settings.date,
        })
    }

    /// The model's tokenizer and template; no weight is read.
    fn text(&self, files: &dyn Files) -> Result<&Text, Error> {
        if let Some(text) = self.text.get() {
            return Ok(text);
        }
        let checkpoint = self.checkpoint(files)?;
        let text = Text::open(checkpoint, &self.config(checkpoint)?.eos, &self.text_options(files)?)?;
        Ok(self.text.get_or_init(|| text))
    }
}

impl Stage for GenerateStage {
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
        constants(&self.settings, &self.model, &self.decoder)
    }

    fn models(&self) -> Vec<ModelFiles> {
        std::iter::once(self.files()).chain(self.adapter_files()).collect()
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        let of_model = |error: Error| error.parameter(&["model"]);
        let checkpoint = self.checkpoint(files).map_err(of_model)?;
        // An architecture that can not be run is told before anything runs.
        self.config(checkpoint).map_err(of_model)?;
        let own = checkpoint
            .files()
            .iter()
            .filter(|file| self.template_path().is_none() || file.role != "chat_template");
        let mut uses: Vec<FileUse> = own
            .map(|file| FileUse {
                role: file.role.clone(),
                path: file.path.clone(),
            })
            .collect();
        if let Some(path) = self.template_path() {
            self.text_options(files).map_err(of_model)?;
            uses.push(FileUse::present("chat_template", files.locate(path)));
        }
        Ok(uses)
    }

    fn schema(&self, inputs: &Schemas, _: &dyn Files) -> Result<Outputs<Schema>, Error> {
        schema(&self.settings, inputs)
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        // What the sampling does not use (at temperature 0 nearly everything) is at its default here, so it is in no key.
        describe_json(
            manifest,
            &self.settings.described(),
            &Settings::default().described(),
            &[],
        );
        if self.settings.temperature == 0.0 {
            manifest.part(Role::Parameter, "decoding", &json!("greedy"));
        }
    }

    fn work(&self) -> Work<'_> {
        Work::Rows(self)
    }
}

/// What every sort of model reads.
fn ports() -> Vec<Port> {
    let mut needs = vec![Need::any("item"), Need::optional("axis"), Need::optional("regime")];
    needs.extend([Need::optional("messages"), Need::optional("prompt")]);
    needs.push(Need::optional("draw"));
    vec![Port {
        name: "prompts".to_owned(),
        needs,
        keys: Keys::None,
        all: false,
    }]
}

/// The constants of a task: the model's name and labels, its decoder.
fn constants(settings: &Settings, model: &ModelSpec, decoder: &str) -> Vec<(String, Value, bool)> {
    let mut constants = vec![("model".to_owned(), json!(model.name), true)];
    let labels = model.labels.iter();
    constants.extend(labels.map(|(name, value)| (name.clone(), value.clone(), true)));
    constants.push(("decoder".to_owned(), json!(decoder), true));
    constants.push(("temperature".to_owned(), json!(settings.temperature), false));
    constants.push(("top_p".to_owned(), json!(settings.top_p), false));
    constants
}

/// The columns that every sort of model adds.
fn schema(settings: &Settings, inputs: &Schemas) -> Result<Outputs<Schema>, Error> {
    let prompts = inputs.first("prompts")?;
    if !prompts.may_have("messages") && !prompts.may_have("prompt") {
        return Err(Error::pipeline("`generate` needs a column `messages` or `prompt`")
            .hint("a `prompt` stage makes both; with `load`, rename one: columns: { prompt: OLD_NAME }"));
    }
    let mut fields = vec![
        ("sample", ColumnType::U32),
        ("completion", ColumnType::Text),
        ("reasoning", ColumnType::Text),
        ("tokens", ColumnType::ListU32),
        ("logprob", ColumnType::F64),
        ("entropy", ColumnType::F64),
        ("finish_reason", ColumnType::Text),
        ("prompt_tokens", ColumnType::U32),
        ("completion_tokens", ColumnType::U32),
        ("invalid", ColumnType::Text),
    ];
    if settings.logprobs {
        fields.push(("token_logprobs", ColumnType::ListF32));
    }
    if settings.top_logprobs > 0 {
        fields.push(("top_tokens", ColumnType::ListU32));
        fields.push(("top_logprobs", ColumnType::ListF32));
    }
    Ok(Outputs::only(Schema::exact(fields)))
}
