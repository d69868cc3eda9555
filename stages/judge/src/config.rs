//! What `config.json` and `tokenizer_config.json` say about a classifier: labels, activation, longest input, padding.

use std::path::Path;

use fracture_stage::Error;
use serde_json::{Map, Value};

use crate::layout::Layout;

/// Lengths above this are sentinels for "no limit" (transformers writes 1e30).
const ABSURD_LENGTH: f64 = 1e6;
/// The length used when nothing says one.
const DEFAULT_LENGTH: usize = 512;
/// A configuration larger than this is not read, bytes.
const SIZE_LIMIT: u64 = 16 << 20;
/// A classifier has no more labels than this.
const MOST_LABELS: usize = 10_000;
/// The values of `problem_type` that `transformers` knows.
const PROBLEM_TYPES: [&str; 3] = [MULTI_LABEL, "regression", "single_label_classification"];
const MULTI_LABEL: &str = "multi_label_classification";
/// Model types whose positions start behind the padding index: 514 positions hold 512 tokens.
const OFFSET_POSITIONS: [&str; 8] = [
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "longformer",
    "mpnet",
    "data2vec-text",
    "roberta-prelayernorm",
];

/// How logits become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// One of several labels.
    Softmax,
    /// Each label by itself (`problem_type: multi_label_classification`), or one single logit.
    Sigmoid,
}

/// The parts of a model's configuration that judging needs.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgeConfig {
    /// `model_type`, empty when it is not said.
    pub model_type: String,
    /// Labels by index: those of the configuration, else a placeholder for each logit of the graph; empty when neither says
    /// how many there are.
    pub labels: Vec<String>,
    /// `problem_type` as written.
    pub problem_type: Option<String>,
    /// Rows of the token embedding.
    pub vocabulary: Option<u64>,
    /// The most tokens the model's positions allow, with special tokens.
    pub positions: Option<usize>,
    /// `model_max_length` of the tokenizer, unless it is a sentinel.
    pub tokenizer_length: Option<usize>,
    /// `pad_token_id`.
    pub pad_id: Option<u32>,
    /// The text of the padding token.
    pub pad_token: Option<String>,
    /// Whether rows are padded at the left.
    pub pad_left: Option<bool>,
    /// The ids and texts of the tokenizer's own tokens, as `tokenizer_config.json` lists them.
    pub added_tokens: Vec<(u32, String)>,
}

impl JudgeConfig {
    /// Reads the configuration of a judge.
    ///
    /// # Errors
    /// When a file can not be read, is not JSON, or its labels are no plain list.
    pub fn read(layout: &Layout) -> Result<Self, Error> {
        let config = read_object(&layout.config)?;
        let tokenizer = layout
            .tokenizer_config
            .as_deref()
            .map(read_object)
            .transpose()?
            .unwrap_or_default();
        let labels = labels(&config, layout.graph.labels).map_err(|cause| {
            Error::input(format!("{} has labels that can not be used", layout.config.display())).cause(cause)
        })?;
        Ok(Self::from_json(&config, &tokenizer, labels))
    }

    fn from_json(config: &Map<String, Value>, tokenizer: &Map<String, Value>, labels: Vec<String>) -> Self {
        let text = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
        let model_type = text(config, "model_type").unwrap_or_default();
        let pad_id = config
            .get("pad_token_id")
            .and_then(Value::as_u64)
            .and_then(|id| u32::try_from(id).ok());
        let positions = length(config.get("max_position_embeddings")).map(|positions| {
            let first = usize::try_from(pad_id.unwrap_or(1)).unwrap_or(1) + 1;
            if OFFSET_POSITIONS.contains(&model_type.as_str()) {
                positions.saturating_sub(first)
            } else {
                positions
            }
        });
        let pad_token = text(tokenizer, "pad_token")
            .or_else(|| tokenizer.get("pad_token")?.get("content")?.as_str().map(str::to_owned));
        Self {
            labels,
            problem_type: text(config, "problem_type"),
            vocabulary: config.get("vocab_size").and_then(Value::as_u64),
            positions,
            tokenizer_length: length(tokenizer.get("model_max_length")),
            pad_id,
            pad_token,
            pad_left: text(tokenizer, "padding_side").map(|side| side == "left"),
            added_tokens: added_tokens(tokenizer),
            model_type,
        }
    }

    /// The longest input in tokens, special tokens included: `asked`, else the smallest of the tokenizer's own truncation,
    /// its `model_max_length` and the model's positions, else 512.
    ///
    /// # Errors
    /// When `asked` is more than the model's positions allow.
    pub fn max_length(&self, asked: Option<usize>, truncation: Option<usize>) -> Result<usize, Error> {
        if let Some(asked) = asked {
            return match self.positions {
                Some(most) if asked > most => Err(Error::pipeline(format!(
                    "max_length: {asked} is more than the judge's {most} positions"
                ))
                .hint(format!(
                    "max_length: {most}, with stride: for windows over longer texts"
                ))
                .parameter(&["max_length"])),
                _ => Ok(asked),
            };
        }
        Ok([truncation, self.tokenizer_length, self.positions]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(DEFAULT_LENGTH))
    }

    /// The labels under the user's names. `names` maps a label of the configuration (or its index) to a name. Where nothing
    /// says how many labels there are, the indices of `names` do.
    ///
    /// # Errors
    /// When `names` speaks of a label that does not exist, or two labels would get one name.
    pub fn named_labels(&self, names: &[(String, String)]) -> Result<Vec<String>, Error> {
        let named = || names.iter().filter_map(|(from, _)| index_of(from));
        let own = match self.labels.is_empty() {
            true => placeholders(named().max().map_or(0, |last| last + 1)),
            false => self.labels.clone(),
        };
        let mut labels = own.clone();
        for (from, to) in names {
            let index = own.iter().position(|label| label == from).or_else(|| from.parse().ok());
            match index.and_then(|index| labels.get_mut(index)) {
                Some(label) => label.clone_from(to),
                None => {
                    let error = Error::pipeline(format!("the judge has no label `{from}` to name `{to}`"));
                    return Err(match own.is_empty() {
                        false => error.cause(format!("its labels are {}", own.join(", "))),
                        true => error
                            .cause("its config.json names no labels, and its graph does not say how many there are")
                            .hint("name them by index: labels: { LABEL_0: safe, LABEL_1: unsafe }"),
                    });
                }
            }
        }
        match duplicate(&labels) {
            Some(twice) => Err(Error::pipeline(format!("two labels of the judge are named `{twice}`"))),
            None => Ok(labels),
        }
    }

    /// Checks that a model gives as many logits as the configuration names labels; one logit may stand for two labels.
    ///
    /// # Errors
    /// When it does not; `shown` is the model's path.
    pub fn check_logits(&self, logits: usize, shown: &str) -> Result<(), Error> {
        let named = self.labels.len();
        match named == 0 || logits == named || (logits == 1 && named == 2) {
            true => Ok(()),
            false => Err(Error::input(format!(
                "{shown} gives {logits} logits and its config.json names {named} labels"
            ))
            .cause(format!("the labels are {}", self.labels.join(", ")))
            .hint("take config.json and the model from one export")),
        }
    }

    /// How logits become probabilities: `problem_type`, else softmax over several labels and a sigmoid for one.
    ///
    /// # Errors
    /// For a regression model, whose output is no probability, and for a `problem_type` that nobody knows.
    pub fn activation(&self, logits: usize) -> Result<Activation, Error> {
        match self.problem_type.as_deref() {
            Some(MULTI_LABEL) => Ok(Activation::Sigmoid),
            Some("regression") => Err(
                Error::pipeline("the judge is a regression model: its output is no probability").hint(
                    "use a model trained to classify, or set problem_type in its config.json if the label is wrong",
                ),
            ),
            Some(other) if !PROBLEM_TYPES.contains(&other) => Err(Error::input(format!(
                "the judge's config.json has the problem_type `{other}`, which is none"
            ))
            .cause(format!("there are {}", PROBLEM_TYPES.join(", ")))
            .hint("correct it, or leave it out: one of several labels then")),
            _ if logits == 1 => Ok(Activation::Sigmoid),
            _ => Ok(Activation::Softmax),
        }
    }
}

/// Whether labels are the placeholders that transformers writes when nobody named them.
pub fn are_generic(labels: &[String]) -> bool {
    labels.is_empty() || labels.iter().all(|label| is_generic(label))
}

/// Whether a label is such a placeholder.
pub fn is_generic(label: &str) -> bool {
    generic_index(label).is_some()
}

fn generic_index(label: &str) -> Option<usize> {
    label.to_ascii_uppercase().strip_prefix("LABEL_")?.parse().ok()
}

/// The index that a placeholder or a number means.
fn index_of(name: &str) -> Option<usize> {
    name.parse()
        .ok()
        .or_else(|| generic_index(name))
        .filter(|index| *index < MOST_LABELS)
}

fn placeholders(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("LABEL_{index}")).collect()
}

fn duplicate(labels: &[String]) -> Option<&String> {
    labels
        .iter()
        .enumerate()
        .find(|(index, label)| labels[..*index].contains(label))
        .map(|(_, label)| label)
}

/// `added_tokens_decoder`: `{ "0": { "content": "[PAD]", … }, … }`.
fn added_tokens(tokenizer: &Map<String, Value>) -> Vec<(u32, String)> {
    let listed = tokenizer.get("added_tokens_decoder").and_then(Value::as_object);
    let token = |(id, token): (&String, &Value)| {
        let text = token.get("content").unwrap_or(token).as_str()?;
        Some((id.parse().ok()?, text.to_owned()))
    };
    let mut tokens: Vec<_> = listed.into_iter().flatten().filter_map(token).collect();
    tokens.sort();
    tokens
}

fn length(value: Option<&Value>) -> Option<usize> {
    let length = value?
        .as_f64()
        .filter(|length| (1.0..=ABSURD_LENGTH).contains(length))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a million"
    )]
    let length = length as usize;
    Some(length)
}

/// `id2label`, keys 0, 1, 2…; else a placeholder for each of `num_labels`, or of the graph's logits: transformers writes
/// neither for two labels without names.
fn labels(config: &Map<String, Value>, logits: Option<u64>) -> Result<Vec<String>, String> {
    let Some(map) = config.get("id2label").and_then(Value::as_object) else {
        let said = config.get("num_labels").and_then(Value::as_u64).or(logits);
        let count = said.and_then(|count| usize::try_from(count).ok());
        return Ok(placeholders(count.unwrap_or(0).min(MOST_LABELS)));
    };
    let mut labels = vec![None; map.len()];
    for (key, value) in map {
        let index: usize = key
            .parse()
            .map_err(|_| format!("id2label has the key `{key}`, which is no index"))?;
        let count = labels.len();
        let slot = labels
            .get_mut(index)
            .ok_or_else(|| format!("id2label has {count} labels and the index {index}"))?;
        *slot = Some(
            value
                .as_str()
                .ok_or_else(|| format!("the label {index} of id2label is no text"))?
                .to_owned(),
        );
    }
    let labels: Option<Vec<String>> = labels.into_iter().collect();
    let labels = labels.ok_or("id2label names an index twice")?;
    match duplicate(&labels) {
        Some(twice) => Err(format!("id2label has two labels `{twice}`")),
        None => Ok(labels),
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>, Error> {
    let failed = |cause: String| Error::input(format!("cannot read {}", path.display())).cause(cause);
    let size = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if size > SIZE_LIMIT {
        return Err(failed(format!("{size} bytes are too many for a configuration")));
    }
    let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))
}

#[cfg(test)]
mod tests;
