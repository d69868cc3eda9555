//! One request, before it is sent.

use serde_json::{Map, Value, json};

use crate::model::{Lack, Model};

/// Which of the two endpoints is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `chat/completions`: the server applies its chat template to messages.
    Chat,
    /// `completions`: the server continues a text.
    Completions,
}

impl Protocol {
    /// Its name in pipelines and keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
        }
    }
}

/// How a completion is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// 0 is greedy.
    pub temperature: f64,
    /// 1 keeps all.
    pub top_p: f64,
    /// Tokens at most.
    pub max_new_tokens: u32,
    /// Strings that end it.
    pub stop: Vec<String>,
    /// The seed, where something is sampled.
    pub seed: Option<u32>,
    /// Ask for log-probabilities, and for so many alternatives at each token.
    pub logprobs: Option<u32>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which endpoint.
    pub protocol: Protocol,
    /// The body.
    pub body: Value,
    /// About how many tokens it takes, prompt and completion, for the limit of tokens in a minute.
    pub tokens: u32,
}

/// What is given to the model: messages as JSON, or a text.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A list of `{ role, content }`.
    Messages(&'a Value),
    /// A text to continue.
    Text(&'a str),
}

impl Call {
    /// The request for a completion.
    pub fn new(model: &Model, input: Input<'_>, asked: &Asked) -> Self {
        let protocol = match input {
            Input::Messages(_) => Protocol::Chat,
            Input::Text(_) => Protocol::Completions,
        };
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(model.name));
        let length = match input {
            Input::Messages(messages) => {
                body.insert("messages".to_owned(), messages.clone());
                messages.to_string().len()
            }
            Input::Text(text) => {
                body.insert("prompt".to_owned(), json!(text));
                text.len()
            }
        };
        body.insert(model.limit_field(protocol).to_owned(), json!(asked.max_new_tokens));
        if !model.lacks(Lack::Temperature) {
            body.insert("temperature".to_owned(), json!(asked.temperature));
        }
        if asked.temperature > 0.0 && asked.top_p < 1.0 {
            body.insert("top_p".to_owned(), json!(asked.top_p));
        }
        if let Some(seed) = asked.seed.filter(|_| !model.lacks(Lack::Seed)) {
            body.insert("seed".to_owned(), json!(seed));
        }
        if !asked.stop.is_empty() {
            body.insert("stop".to_owned(), json!(asked.stop));
        }
        match (asked.logprobs, protocol) {
            (Some(0), Protocol::Chat) => drop(body.insert("logprobs".to_owned(), json!(true))),
            (Some(top), Protocol::Chat) => {
                body.insert("logprobs".to_owned(), json!(true));
                body.insert("top_logprobs".to_owned(), json!(top));
            }
            // 0 means none to some servers.
            (Some(top), Protocol::Completions) => drop(body.insert("logprobs".to_owned(), json!(top.max(1)))),
            (None, _) => {}
        }
        body.insert("stream".to_owned(), json!(false));
        body.extend(model.extra.clone());
        Self {
            protocol,
            body: Value::Object(body),
            // Four bytes a token is what tokenizers come to on English text.
            tokens: u32::try_from(length / 4)
                .unwrap_or(u32::MAX)
                .saturating_add(asked.max_new_tokens),
        }
    }
}
