//! The stage kind `embed`.

use std::sync::OnceLock;

use fracture_cache::ColumnType;
use fracture_judge::stage::texts::TextSource;
use fracture_stage::source::{HUB, last_part};
use fracture_stage::stage::{Keys, Need, Port, Work};
use fracture_stage::{
    Context, Declaration, Error, FileUse, Files, Kind, Manifest, ModelFiles, Outputs, ParameterError, Part, PortName,
    Schema, Schemas, Shape, Stage, describe_json, parse_parameters,
};
use serde_json::{Value, json};

use crate::parameters::EmbedParameters;
use crate::source::Source;

/// The kind's semantic version.
const VERSION: u32 = 1;
/// The port.
pub(crate) const PORT: &str = "texts";

/// The declaration of `embed`.
pub(crate) fn declaration() -> Declaration {
    Declaration {
        name: "embed",
        version: VERSION,
        summary: "Turns texts into vectors with a sentence encoder through ONNX Runtime, or with the hidden states of a \
                  language model.",
        shape: Shape::Map,
        ports: &[PortName {
            name: PORT,
            required: true,
        }],
        any_ports: false,
        side: &[],
        cases: false,
        spread: None,
        parameters: || json!(schemars::schema_for!(EmbedParameters)),
        build,
    }
}

fn build(with: &Value, context: &Context) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let parameters: EmbedParameters = parse_parameters(with)?;
    let mut errors = Vec::new();
    let text = TextSource::parse(&parameters.text)
        .map_err(|message| errors.push(ParameterError::at(&["text"], message)))
        .ok();
    if parameters.max_length == Some(0) {
        errors.push(ParameterError::at(&["max_length"], "no token is no text").hint("at least 1"));
    }
    let model = model(&parameters.model, context)
        .map_err(|error| errors.push(error))
        .ok();
    match (text, model) {
        (Some(text), Some(named)) if errors.is_empty() => Ok(Box::new(EmbedStage {
            file: parameters.file.clone().or(named.file),
            parameters,
            source: named.source,
            adapter: named.adapter,
            name: named.name,
            text,
            known: OnceLock::new(),
        })),
        _ => Err(errors),
    }
}

/// A model by its name, with the folder that it lies in and that of its adapter.
struct Named {
    name: String,
    source: String,
    adapter: Option<String>,
    file: Option<String>,
}

/// What `model:` means: one under `models:`, else a folder.
fn model(asked: &str, context: &Context) -> Result<Named, ParameterError> {
    let named = match context.models.get(asked) {
        Some(model) => {
            if let Some(setting) = model
                .settings
                .keys()
                .find(|key| !matches!(key.as_str(), "adapter" | "chat_template" | "dtype" | "file"))
            {
                let message = format!("`{setting}` of the model `{asked}` has no effect on embeddings");
                return Err(ParameterError::at(&["model"], message).hint("name the model's folder instead"));
            }
            let setting = |name: &str| model.settings.get(name).and_then(Value::as_str).map(str::to_owned);
            Named {
                name: model.name.clone(),
                source: model.source.clone(),
                adapter: setting("adapter"),
                file: setting("file"),
            }
        }
        None if asked.contains('/') => Named {
            name: last_part(asked).to_owned(),
            source: asked.to_owned(),
            adapter: None,
            file: None,
        },
        None => {
            let names: Vec<&str> = context.models.keys().map(String::as_str).collect();
            let error = ParameterError::at(&["model"], format!("there is no model `{asked}`"));
            return Err(error.hint(match names.as_slice() {
                [] => "give the path of an encoder's folder, or name a model under `models:`".to_owned(),
                names => format!("the models are {}; an encoder is named by its folder", names.join(", ")),
            }));
        }
    };
    let source = &named.source;
    if source.starts_with(HUB) || !source.contains("://") {
        return Ok(named);
    }
    let error = ParameterError::at(&["model"], format!("`{source}` gives no hidden states"));
    Err(error.hint(
        "name a folder with an exported encoder, one with config.json, tokenizer.json and model.safetensors, or a GGUF \
         file",
    ))
}

/// A resolved task of kind `embed`.
pub(crate) struct EmbedStage {
    pub(crate) parameters: EmbedParameters,
    pub(crate) source: String,
    /// The folder of a LoRA adapter that is merged into a language model.
    pub(crate) adapter: Option<String>,
    /// The file among several in the folder.
    pub(crate) file: Option<String>,
    name: String,
    pub(crate) text: TextSource,
    known: OnceLock<Source>,
}

impl EmbedStage {
    fn files(&self) -> ModelFiles {
        ModelFiles::new(&self.source, Part::Vectors, self.file.as_deref())
    }

    /// What the model's headers say.
    pub(crate) fn known(&self, files: &dyn Files) -> Result<&Source, Error> {
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let folder = files.model(&self.files());
        let resolved = Source::resolve(&folder, self.file.as_deref(), files)
            .and_then(|source| match &self.adapter {
                Some(adapter) => source.with_adapter(&files.model(&ModelFiles::adapter(adapter))),
                None => Ok(source),
            })
            .and_then(|source| match source.pooling(self.parameters.pooling) {
                Ok(_) => Ok(source),
                Err(error) if self.parameters.pooling.is_some() => Err(error.parameter(&["pooling"])),
                Err(error) => Err(error),
            })
            .map_err(|error| {
                let error = error.context(format!("the encoder `{}` can not be used", self.name));
                match error.parameter.is_empty() {
                    true => error.parameter(&["model"]),
                    false => error,
                }
            })?;
        Ok(self.known.get_or_init(|| resolved))
    }

    /// The length of the vectors; the model must have been looked at.
    pub(crate) fn dimension(&self) -> Result<usize, Error> {
        self.known
            .get()
            .map(Source::dimension)
            .ok_or_else(|| Error::internal("the encoder was not resolved before it ran"))
    }
}

impl Stage for EmbedStage {
    fn kind(&self) -> Kind {
        Kind {
            name: "embed",
            version: VERSION,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let columns = self.text.columns();
        let mut needs: Vec<Need> = columns.into_iter().map(|column| Need::any(&column)).collect();
        needs.push(Need::optional("invalid"));
        vec![Port {
            name: PORT.to_owned(),
            needs,
            keys: Keys::None,
            all: false,
        }]
    }

    fn constants(&self) -> Vec<(String, Value, bool)> {
        vec![("encoder".to_owned(), json!(self.name), true)]
    }

    fn models(&self) -> Vec<ModelFiles> {
        let adapter = self.adapter.as_deref().map(ModelFiles::adapter);
        std::iter::once(self.files()).chain(adapter).collect()
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        Ok(self.known(files)?.files())
    }

    fn schema(&self, _: &Schemas, files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        let dimension = u32::try_from(self.known(files)?.dimension())
            .map_err(|cause| Error::input("vectors that no table can hold").cause(cause))?;
        Ok(Outputs::only(Schema::exact([
            ("embedding", ColumnType::Vector(dimension)),
            ("invalid", ColumnType::Text),
        ])))
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        // The model itself counts by its files; where it lies and what it is called do not matter.
        describe_json(manifest, &self.parameters, &EmbedParameters::default(), &["model"]);
    }

    fn work(&self) -> Work<'_> {
        Work::Rows(self)
    }
}
