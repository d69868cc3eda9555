//! Where vectors come from: which of both sorts of model a folder holds, how long its vectors are, how states are pooled.

use std::path::Path;

use fracture_generate::checkpoint::Checkpoint;
use fracture_generate::config::Config;
use fracture_generate::gguf;
use fracture_judge::{JudgeConfig, Layout};
use fracture_stage::{Error, FileUse, Files};
use serde_json::Value;

use crate::pooling::Pooling;

/// The longest `config.json` that is read, bytes.
const LIMIT: usize = 1 << 20;
/// Where sentence encoders say how they are pooled.
const POOLING: &str = "1_Pooling/config.json";
/// The names under which configurations state the width of their states.
const WIDTHS: [&str; 4] = ["hidden_size", "dim", "d_model", "n_embd"];

/// A model that gives vectors.
#[derive(Debug, Clone)]
pub enum Source {
    /// An encoder exported to ONNX.
    Encoder(Box<EncoderSource>),
    /// A language model, whose last hidden states are taken.
    Decoder(Box<DecoderSource>),
}

/// An encoder's files and what they say.
#[derive(Debug, Clone)]
pub struct EncoderSource {
    /// The files.
    pub layout: Layout,
    /// The configuration.
    pub config: JudgeConfig,
    /// The length of its vectors.
    pub dimension: usize,
    /// Its own way of pooling, where it says one; the name of one that is not known.
    pooling: Result<Option<Pooling>, String>,
    /// The file that says so.
    pooling_file: FileUse,
}

/// A language model's files and what they say.
#[derive(Debug, Clone)]
pub struct DecoderSource {
    /// The files.
    pub checkpoint: Checkpoint,
    /// The architecture.
    pub config: Config,
}

impl Source {
    /// Looks at a model folder. One that holds an `.onnx` file (at its root or in `onnx/`) is an encoder, else one with
    /// safetensors a language model; so is a GGUF file, `folder` itself or `file` in it.
    ///
    /// # Errors
    /// When files are missing or damaged, the architecture is not known, or an encoder does not say how long its vectors are.
    pub fn resolve(folder: &Path, file: Option<&str>, files: &dyn Files) -> Result<Self, Error> {
        let names = |path: &Path| files.list(path).unwrap_or_default();
        let ends = |path: &Path, ending: &str| names(path).iter().any(|name| name.ends_with(ending));
        let named = file.is_some_and(|file| file.ends_with(".gguf")) || folder.is_file();
        if (named || ends(folder, ".gguf") && !ends(folder, ".onnx")) && gguf::find(folder, file)?.is_some() {
            let checkpoint = Checkpoint::choose(folder, file)?;
            let config = checkpoint.config()?;
            return Ok(Self::Decoder(Box::new(DecoderSource { checkpoint, config })));
        }
        let graph = file.is_some() || ends(folder, ".onnx") || ends(&folder.join("onnx"), ".onnx");
        if graph || !ends(folder, ".safetensors") {
            return EncoderSource::resolve(folder, file, files).map(|source| Self::Encoder(Box::new(source)));
        }
        let checkpoint = Checkpoint::open(folder)?;
        let config = checkpoint.config().map_err(|error| Error {
            hint: Some(
                "an encoder is run from its ONNX export: `optimum-cli export onnx --task feature-extraction`"
                    .to_owned(),
            ),
            ..error
        })?;
        Ok(Self::Decoder(Box::new(DecoderSource { checkpoint, config })))
    }

    /// The same model with a LoRA adapter merged into it.
    ///
    /// # Errors
    /// An encoder, which takes none; an adapter that does not fit.
    pub fn with_adapter(self, folder: &Path) -> Result<Self, Error> {
        match self {
            Self::Decoder(source) => Ok(Self::Decoder(Box::new(DecoderSource {
                checkpoint: source.checkpoint.with_adapter(folder)?,
                config: source.config,
            }))),
            Self::Encoder(_) => Err(Error::pipeline("an exported encoder takes no `adapter`")
                .hint("merge it before the export, or name the language model's folder")),
        }
    }

    /// The length of its vectors.
    pub fn dimension(&self) -> usize {
        match self {
            Self::Encoder(source) => source.dimension,
            Self::Decoder(source) => source.config.hidden,
        }
    }

    /// How states are pooled: as `asked`, else as the encoder says, else by their mean.
    ///
    /// # Errors
    /// When nothing is asked and the encoder says something that is not known here.
    pub fn pooling(&self, asked: Option<Pooling>) -> Result<Pooling, Error> {
        match (asked, self) {
            (Some(pooling), _) => Ok(pooling),
            (None, Self::Decoder(_)) => Ok(Pooling::default()),
            (None, Self::Encoder(source)) => match &source.pooling {
                Ok(pooling) => Ok(pooling.unwrap_or_default()),
                Err(mode) => Err(Error::input(format!(
                    "{} pools by `{mode}`, which is not known here",
                    source.layout.folder.join(POOLING).display()
                ))
                .hint("say `pooling: mean`, `cls`, `max` or `last`")),
            },
        }
    }

    /// The files that a raw row depends on.
    pub fn files(&self) -> Vec<FileUse> {
        match self {
            Self::Encoder(source) => {
                let mut files = source.layout.files();
                files.push(source.pooling_file.clone());
                files
            }
            Self::Decoder(source) => {
                // Templates and settings of generation have no part in states.
                let own = source.checkpoint.files().iter();
                own.filter(|file| !matches!(file.role.as_str(), "chat_template" | "generation_config"))
                    .map(|file| FileUse {
                        role: file.role.clone(),
                        path: file.path.clone(),
                    })
                    .collect()
            }
        }
    }
}

impl EncoderSource {
    fn resolve(folder: &Path, file: Option<&str>, files: &dyn Files) -> Result<Self, Error> {
        let layout = Layout::resolve(folder, file)?;
        let config = JudgeConfig::read(&layout)?;
        let path = layout.folder.join(POOLING);
        let known = files.size(&path).is_some();
        let said = if known { json(&path, files)? } else { Value::Null };
        let width = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).filter(|width| *width > 0);
        let own = json(&layout.config, files)?;
        let dimension = WIDTHS
            .iter()
            .find_map(|name| width(&own, name))
            .or_else(|| width(&said, "word_embedding_dimension"))
            .and_then(|width| usize::try_from(width).ok());
        let dimension = dimension.ok_or_else(|| {
            Error::input(format!(
                "{} does not say how long the model's vectors are",
                layout.config.display()
            ))
            .cause(format!("none of {} is in it", WIDTHS.join(", ")))
            .hint("copy config.json from the model that was exported")
        })?;
        Ok(Self {
            config,
            dimension,
            pooling: pooling(&said),
            pooling_file: if known {
                FileUse::present("pooling", path)
            } else {
                FileUse::absent("pooling")
            },
            layout,
        })
    }
}

/// What `1_Pooling/config.json` says: one of its flags, or the name that newer versions write. Several flags at once, or one
/// that is not known, is an error that names it.
fn pooling(said: &Value) -> Result<Option<Pooling>, String> {
    let named = |mode: &str| match mode {
        "mean" | "mean_tokens" => Ok(Pooling::Mean),
        "cls" | "cls_token" => Ok(Pooling::Cls),
        "max" | "max_tokens" => Ok(Pooling::Max),
        "lasttoken" => Ok(Pooling::Last),
        other => Err(other.to_owned()),
    };
    if let Some(mode) = said.get("pooling_mode").and_then(Value::as_str) {
        return named(mode).map(Some);
    }
    let flags = said.as_object().into_iter().flatten();
    let set: Vec<&str> = flags
        .filter(|(_, value)| value.as_bool() == Some(true))
        .filter_map(|(name, _)| name.strip_prefix("pooling_mode_"))
        .collect();
    match set.as_slice() {
        [] => Ok(None),
        [one] => named(one).map(Some),
        several => Err(several.join(" + ")),
    }
}

fn json(path: &Path, files: &dyn Files) -> Result<Value, Error> {
    let bytes = files.head(path, LIMIT)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::input(format!("{} is not JSON", path.display())).cause(e))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pooling_is_what_the_encoder_says() {
        let flags = |mean: bool, cls: bool| {
            pooling(
                &json!({"word_embedding_dimension": 4, "pooling_mode_mean_tokens": mean, "pooling_mode_cls_token": cls}),
            )
        };
        assert_eq!(flags(true, false), Ok(Some(Pooling::Mean)));
        assert_eq!(flags(false, true), Ok(Some(Pooling::Cls)));
        assert_eq!(flags(false, false), Ok(None));
        assert!(flags(true, true).is_err(), "two at once give vectors twice as long");
        assert_eq!(pooling(&json!({"pooling_mode": "lasttoken"})), Ok(Some(Pooling::Last)));
        let weighted = pooling(&json!({"pooling_mode_weightedmean_tokens": true}));
        assert_eq!(weighted, Err("weightedmean_tokens".to_owned()));
        assert_eq!(pooling(&Value::Null), Ok(None));
    }
}
