//! The tokenizer and the chat template that a GGUF file carries, as the `tokenizers` crate's types.
//!
//! Two kinds of models are read: byte-level BPE (`gpt2`), whose pre-tokenizer the file names by `tokenizer.ggml.pre`,
//! and SentencePiece's BPE (`llama`), whose merges follow from the scores of its pieces.

mod bpe;
mod sentencepiece;

use super::vocabulary::{TokenKind, Vocabulary};
use super::{Gguf, Value};
use fracture_stage::Error;
use std::collections::BTreeMap;
use std::fmt::Display;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// What the text side of a model is made of.
pub(crate) struct TextSide {
    /// The tokenizer, without padding or truncation.
    pub tokenizer: Tokenizer,
    /// Special tokens by name: `bos_token`, `eos_token`, ..
    pub special: BTreeMap<String, String>,
    /// Control tokens that are known to end an answer.
    pub ends: Vec<u32>,
    /// Spaces before punctuation are taken back in decoded text.
    pub clean_up: bool,
    /// The chat template.
    pub template: Option<String>,
}

/// A tokenizer without special tokens, and what its kind does where the file says nothing.
struct Model {
    tokenizer: Tokenizer,
    add_bos: bool,
    clean_up: bool,
}

/// Reads tokenizer and chat template.
///
/// # Errors
/// A kind of tokenizer or a pre-tokenizer that is not known, missing or unusable keys; each named.
pub(crate) fn read(gguf: &Gguf) -> Result<TextSide, Error> {
    let place = gguf.path().display();
    let vocabulary = Vocabulary::read(gguf)?;
    let mut model = match vocabulary.model.as_str() {
        "gpt2" => bpe::build(gguf, &vocabulary)?,
        "llama" => sentencepiece::build(gguf, &vocabulary)?,
        other => {
            return Err(
                Error::input(format!("{place}: tokenizer.ggml.model: `{other}` is not supported"))
                    .hint("gpt2 (byte-level BPE) and llama (SentencePiece) are"),
            );
        }
    };
    let failed = |cause: &dyn Display| Error::input(format!("{place}: its tokenizer cannot be used")).cause(cause);
    let strips = strips_right(gguf, &vocabulary);
    for (token, kind) in vocabulary.tokens.iter().zip(&vocabulary.kinds) {
        let special = match kind {
            TokenKind::Control | TokenKind::Unknown => true,
            TokenKind::UserDefined => false,
            TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => continue,
        };
        let strip = strips && special && !["<unk>", "<s>", "<|endoftext|>"].contains(&token.as_str());
        let added = AddedToken::from(token.clone(), special).normalized(false).rstrip(strip);
        let tokenizer = &mut model.tokenizer;
        match special {
            true => tokenizer.add_special_tokens([added]),
            false => tokenizer.add_tokens([added]),
        }
        .map_err(|cause| failed(&cause))?;
    }
    let named = |name: &str| {
        vocabulary
            .id(name)
            .map(|id| (vocabulary.tokens[id as usize].clone(), id))
    };
    let mut around = vec!["$A".to_owned()];
    let mut used = Vec::new();
    for (name, wanted) in [
        ("bos", vocabulary.flag("add_bos_token")?.unwrap_or(model.add_bos)),
        ("eos", vocabulary.flag("add_eos_token")?.unwrap_or(false)),
    ] {
        if !wanted {
            continue;
        }
        let Some((token, id)) = named(name) else {
            return Err(
                Error::input(format!("{place}: tokenizer.ggml.{name}_token_id is missing"))
                    .cause(format!("tokenizer.ggml.add_{name}_token asks for it")),
            );
        };
        let at = if name == "bos" { 0 } else { around.len() };
        around.insert(at, token.clone());
        used.push((token, id));
    }
    if !used.is_empty() {
        used.dedup();
        let processor = TemplateProcessing::builder()
            .try_single(around)
            .map_err(|cause| failed(&cause))?
            .special_tokens(used)
            .build()
            .map_err(|cause| failed(&cause))?;
        model.tokenizer.with_post_processor(Some(processor));
    }
    let special = [
        ("bos_token", "bos"),
        ("eos_token", "eos"),
        ("unk_token", "unknown"),
        ("sep_token", "seperator"),
        ("pad_token", "padding"),
        ("mask_token", "mask"),
    ];
    Ok(TextSide {
        tokenizer: model.tokenizer,
        special: special
            .into_iter()
            .filter_map(|(role, name)| Some((role.to_owned(), named(name)?.0)))
            .collect(),
        ends: vocabulary.ends().collect(),
        clean_up: model.clean_up,
        template: template(gguf)?,
    })
}

/// Phi-3's special tokens swallow the white space after them; no key says so.
fn strips_right(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> bool {
    let phi3 = Value::Text("phi3".to_owned());
    vocabulary.model == "llama" && gguf.header().metadata().get("general.architecture") == Some(&phi3)
}

fn template(gguf: &Gguf) -> Result<Option<String>, Error> {
    match gguf.header().metadata().get("tokenizer.chat_template") {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.clone())),
        Some(value) => {
            let place = gguf.path().display();
            Err(Error::input(format!(
                "{place}: tokenizer.chat_template must be text, not {value}"
            )))
        }
    }
}
