//! The tokens of a GGUF file: their texts, what they are for, and which of them begin and end a text.

use super::{Gguf, Value};
use fracture_stage::Error;

/// Special tokens that end an answer wherever a model has them. The files say too little: llama.cpp knows them by their
/// text, and so does this.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<EOT>",
];

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The tokens and their roles.
#[derive(Debug)]
pub(super) struct Vocabulary<'a> {
    gguf: &'a Gguf,
    /// `tokenizer.ggml.model`.
    pub model: String,
    /// The texts, by id.
    pub tokens: Vec<String>,
    /// What they are for, by id.
    pub kinds: Vec<TokenKind>,
}

impl<'a> Vocabulary<'a> {
    /// Reads the tokens.
    ///
    /// # Errors
    /// Missing or unusable keys, each named.
    pub fn read(gguf: &'a Gguf) -> Result<Self, Error> {
        let place = gguf.path().display();
        let header = gguf.header();
        let model = match header.metadata().get("tokenizer.ggml.model") {
            Some(Value::Text(model)) => model.clone(),
            Some(value) => {
                return Err(Error::input(format!(
                    "{place}: tokenizer.ggml.model is {value}, no text"
                )));
            }
            None => {
                return Err(Error::input(format!("{place}: tokenizer.ggml.model is missing"))
                    .hint("the file carries no tokenizer; convert the model again with a current llama.cpp"));
            }
        };
        let missing = || {
            Error::input(format!("{place}: tokenizer.ggml.tokens is missing"))
                .hint("the file carries no tokenizer; convert the model again with a current llama.cpp")
        };
        let mut tokens = header.texts("tokenizer.ggml.tokens")?.ok_or_else(missing)?;
        let mut seen = std::collections::HashSet::with_capacity(tokens.len());
        for (id, token) in tokens.iter_mut().enumerate() {
            if token.is_empty() {
                *token = format!("[EMPTY_{id}]");
            }
            if !seen.insert(token.clone()) {
                let text = token.escape_debug();
                return Err(
                    Error::input(format!("{place}: tokenizer.ggml.tokens holds `{text}` twice"))
                        .hint("convert the model again with a current llama.cpp"),
                );
            }
        }
        let kinds = match header.integers("tokenizer.ggml.token_type")? {
            None => vec![TokenKind::Normal; tokens.len()],
            Some(kinds) if kinds.len() != tokens.len() => {
                let message = format!("{place}: {} types for {} tokens", kinds.len(), tokens.len());
                return Err(Error::input(message)
                    .cause("tokenizer.ggml.token_type")
                    .hint("fetch the file again"));
            }
            Some(kinds) => kinds
                .into_iter()
                .map(|kind| match kind {
                    2 => TokenKind::Unknown,
                    3 => TokenKind::Control,
                    4 => TokenKind::UserDefined,
                    5 => TokenKind::Unused,
                    6 => TokenKind::Byte,
                    _ => TokenKind::Normal,
                })
                .collect(),
        };
        Ok(Self {
            gguf,
            model,
            tokens,
            kinds,
        })
    }

    /// The id under `tokenizer.ggml.NAME_token_id`; `None` where the file names none that there is.
    pub fn id(&self, name: &str) -> Option<u32> {
        named_id(self.gguf, name)
    }

    /// A flag under `tokenizer.ggml.NAME`.
    ///
    /// # Errors
    /// A value that is no flag.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        let key = format!("tokenizer.ggml.{name}");
        match self.gguf.header().metadata().get(&key) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(*flag)),
            Some(value) => {
                let place = self.gguf.path().display();
                Err(Error::input(format!(
                    "{place}: {key} must be true or false, not {value}"
                )))
            }
        }
    }

    /// The control tokens that are known to end an answer.
    pub fn ends(&self) -> impl Iterator<Item = u32> {
        let known = |token: &str, kind| kind == TokenKind::Control && ENDS.contains(&token);
        let tokens = (0..).zip(self.tokens.iter().zip(&self.kinds));
        tokens.filter_map(move |(id, (token, kind))| known(token, *kind).then_some(id))
    }
}

/// The id under `tokenizer.ggml.NAME_token_id`; `None` where the file names none that there is.
pub(super) fn named_id(gguf: &Gguf, name: &str) -> Option<u32> {
    let metadata = gguf.header().metadata();
    let default = match metadata.get("tokenizer.ggml.model") {
        Some(Value::Text(model)) if model == "llama" => match name {
            "unknown" => Some(0),
            "bos" => Some(1),
            "eos" => Some(2),
            _ => None,
        },
        _ => None,
    };
    let told = match metadata.get(&format!("tokenizer.ggml.{name}_token_id")) {
        Some(Value::Integer(id)) => u32::try_from(*id).ok(),
        _ => default,
    };
    let count = match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::List(list)) => list.len(),
        _ => 0,
    };
    told.filter(|id| u64::from(*id) < count)
}

/// The ids that the file names as ends of an answer.
pub(super) fn named_ends(gguf: &Gguf) -> Vec<u32> {
    ["eos", "eot", "eom"]
        .iter()
        .filter_map(|name| named_id(gguf, name))
        .collect()
}
