//! Text to tokens and back, as `transformers` does it: the checkpoint's tokenizer, special tokens and chat template.

mod tokenizer;

use crate::checkpoint::Checkpoint;
use crate::config::ids;
use crate::gguf::{self, Gguf};
use crate::template::{ChatTemplate, Date, Ending, Message};
use fracture_stage::Error;
use serde_json::Value;
use std::collections::BTreeMap;
use tokenizers::Tokenizer;

/// How a checkpoint's text side is used.
#[derive(Debug, Clone)]
pub struct TextOptions {
    /// Use a chat template, the checkpoint's own or the one below. Without, messages are joined by empty lines.
    pub chat: bool,
    /// A template that stands in for the checkpoint's.
    pub template: Option<String>,
    /// What `strftime_now` renders.
    pub date: Date,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            chat: true,
            template: None,
            date: Date::default(),
        }
    }
}

/// Tokenizer, special tokens and chat template of a checkpoint.
#[derive(Debug)]
pub struct Text {
    tokenizer: Tokenizer,
    bos: Option<u32>,
    eos: Vec<u32>,
    clean_up: bool,
    template: Option<ChatTemplate>,
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text that the model is given.
    pub text: String,
    /// The tokenizer adds its special tokens (BOS); a chat template has written them itself.
    pub add_special_tokens: bool,
    /// The model has no system role: that text went before the first user turn.
    pub system_folded: bool,
}

impl Rendered {
    /// A text as it is.
    pub fn plain(text: String) -> Self {
        Self {
            text,
            add_special_tokens: true,
            system_folded: false,
        }
    }

    /// A conversation for a model without a template: the messages' texts, joined by empty lines.
    pub fn joined(messages: &[Message]) -> Self {
        let texts: Vec<&str> = messages
            .iter()
            .map(|message| message.content.as_str())
            .filter(|text| !text.is_empty())
            .collect();
        Self::plain(texts.join("\n\n"))
    }
}

impl Text {
    /// Reads tokenizer and template. `eos` are the ids that `config.json` names as ends of an answer; those of
    /// `generation_config.json` and of the tokenizer are added.
    ///
    /// # Errors
    /// Files that cannot be read or hold something else; a template with a syntax error.
    pub fn open(checkpoint: &Checkpoint, eos: &[u32], options: &TextOptions) -> Result<Self, Error> {
        let place = checkpoint.directory().display();
        if let Some(gguf) = checkpoint.gguf() {
            return Self::of_gguf(gguf, eos, options);
        }
        let text = checkpoint.read("tokenizer")?.unwrap_or_default();
        let config = checkpoint.read_json("tokenizer_config")?;
        let special = special_tokens(&checkpoint.read_json("special_tokens")?, &config);
        let tokenizer = tokenizer::build(&text, &config, &special).map_err(|cause| {
            Error::input(format!("{place}: tokenizer.json cannot be used"))
                .cause(cause)
                .hint("save it anew with a current `transformers`")
        })?;
        let id = |name: &str| special.get(name).and_then(|token| tokenizer.token_to_id(token));
        let mut ends = eos.to_vec();
        let generation = checkpoint.read_json("generation_config")?;
        ends.extend(ids(generation.get("eos_token_id")).ok_or_else(|| {
            Error::input(format!(
                "{place}: generation_config.json: eos_token_id must be a token id or a list of them"
            ))
        })?);
        ends.extend(id("eos_token"));
        ends.sort_unstable();
        ends.dedup();
        let template = match options.wants_own() {
            true => own_template(checkpoint, &config)?,
            false => None,
        };
        let template = compile(template, special.clone(), options)
            .map_err(|error| error.context(format!("{place}: the chat template cannot be used")))?
            .map(|template| template.named(format!("the chat template for {place}")));
        let clean_up = config
            .get("clean_up_tokenization_spaces")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        Ok(Self {
            bos: id("bos_token"),
            tokenizer,
            eos: ends,
            clean_up,
            template,
        })
    }

    /// The text side that a GGUF file carries.
    fn of_gguf(gguf: &Gguf, eos: &[u32], options: &TextOptions) -> Result<Self, Error> {
        let side = gguf::text_side(gguf)?;
        let mut ends = [eos, &side.ends].concat();
        ends.sort_unstable();
        ends.dedup();
        let bos = side.special.get("bos_token");
        let place = gguf.path().display();
        Ok(Self {
            bos: bos.and_then(|token| side.tokenizer.token_to_id(token)),
            tokenizer: side.tokenizer,
            eos: ends,
            clean_up: side.clean_up,
            template: compile(side.template, side.special, options)
                .map_err(|error| error.context(format!("{place}: the chat template cannot be used")))?
                .map(|template| template.named(format!("the chat template for {place}"))),
        })
    }

    /// The ids that end an answer, sorted.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// The chat template in use.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// Renders a conversation. Without a template the messages' texts are joined by empty lines.
    ///
    /// # Errors
    /// What the template raises.
    pub fn render(&self, messages: &[Message], ending: Ending) -> Result<Rendered, Error> {
        match &self.template {
            Some(template) => {
                let (text, system_folded) = template.render(messages, ending)?;
                Ok(Rendered {
                    text,
                    add_special_tokens: false,
                    system_folded,
                })
            }
            None => Ok(Rendered::joined(messages)),
        }
    }

    /// Token ids of a text. A BOS that the text holds already is not doubled.
    ///
    /// # Errors
    /// The tokenizer's.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Error> {
        let encoding = self
            .tokenizer
            .encode_fast(text, add_special_tokens)
            .map_err(|cause| Error::input("a text could not be tokenized").cause(cause))?;
        let mut ids = encoding.get_ids().to_vec();
        if add_special_tokens && ids.len() > 1 && self.bos == Some(ids[0]) && ids[0] == ids[1] {
            ids.remove(0);
        }
        Ok(ids)
    }

    /// Text of tokens.
    ///
    /// # Errors
    /// The tokenizer's.
    pub fn decode(&self, tokens: &[u32], skip_special_tokens: bool) -> Result<String, Error> {
        let text = self
            .tokenizer
            .decode(tokens, skip_special_tokens)
            .map_err(|cause| Error::input("tokens could not be decoded").cause(cause))?;
        Ok(if self.clean_up { clean_up(&text) } else { text })
    }

    /// The completion that `tokens` spell: special tokens left out, cut before the first of the `stop` strings.
    ///
    /// # Errors
    /// The tokenizer's.
    pub fn completion(&self, tokens: &[u32], stop: &[String]) -> Result<String, Error> {
        let mut text = self.decode(tokens, true)?;
        if let Some(at) = stop.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            text.truncate(at);
        }
        Ok(text)
    }
}

impl TextOptions {
    /// The checkpoint's own template is used.
    fn wants_own(&self) -> bool {
        self.chat && self.template.is_none()
    }
}

/// The template in use: none, the one given, or the checkpoint's `own`.
fn compile(
    own: Option<String>,
    special: BTreeMap<String, String>,
    options: &TextOptions,
) -> Result<Option<ChatTemplate>, Error> {
    let source = match options.chat {
        false => None,
        true => options.template.clone().or(own),
    };
    source
        .map(|source| ChatTemplate::new(&source, special, options.date))
        .transpose()
}

/// Special tokens by name (`bos_token`, ..): those of `tokenizer_config.json` win over `special_tokens_map.json`.
fn special_tokens(map: &Value, config: &Value) -> BTreeMap<String, String> {
    const NAMES: [&str; 7] = [
        "bos_token",
        "eos_token",
        "unk_token",
        "sep_token",
        "pad_token",
        "cls_token",
        "mask_token",
    ];
    let find = |name: &str| {
        [config, map].into_iter().find_map(|file| match file.get(name)? {
            Value::String(token) => Some(token.clone()),
            Value::Object(token) => token.get("content")?.as_str().map(str::to_owned),
            _ => None,
        })
    };
    NAMES
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), find(name)?)))
        .collect()
}

/// The checkpoint's template: the file of its own before the one in `tokenizer_config.json`.
fn own_template(checkpoint: &Checkpoint, config: &Value) -> Result<Option<String>, Error> {
    if let Some(text) = checkpoint.read("chat_template")? {
        return Ok(Some(text));
    }
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(named)) => {
            let default = named
                .iter()
                .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
            match default.and_then(|entry| entry.get("template")).and_then(Value::as_str) {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(
                    Error::input("tokenizer_config.json: no template named default in chat_template")
                        .hint("give the model's `chat_template:` in the pipeline"),
                ),
            }
        }
        Some(_) => Err(Error::input(
            "tokenizer_config.json: chat_template must be text or a list",
        )),
    }
}

/// Takes back the spaces that some tokenizers put before punctuation and contractions.
fn clean_up(text: &str) -> String {
    [" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"]
        .iter()
        .fold(text.to_owned(), |text, spaced| text.replace(spaced, spaced.trim()))
}
