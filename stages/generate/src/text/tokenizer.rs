//! The tokenizer of a checkpoint as `transformers` builds it: `tokenizer.json`, and what `tokenizer_config.json` changes.

use serde_json::Value;
use std::collections::BTreeMap;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};
use tokenizers::{AddedToken, Result, Tokenizer};

/// Classes that put BOS and EOS by `add_bos_token` and `add_eos_token`, whatever `tokenizer.json` says.
const BY_FLAGS: [&str; 6] = [
    "CodeLlamaTokenizer",
    "CodeLlamaTokenizerFast",
    "GemmaTokenizer",
    "GemmaTokenizerFast",
    "LlamaTokenizer",
    "LlamaTokenizerFast",
];

/// Builds the tokenizer of the text of a `tokenizer.json`, a `tokenizer_config.json` and special tokens by name.
///
/// # Errors
/// A text that is no tokenizer.
pub(super) fn build(text: &str, config: &Value, special: &BTreeMap<String, String>) -> Result<Tokenizer> {
    let mut tokenizer: Tokenizer = text.parse()?;
    set_prefix_space(&mut tokenizer, config);
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None)?;
    add_missing(&mut tokenizer, config, special)?;
    let class = config.get("tokenizer_class").and_then(Value::as_str);
    if class.is_some_and(|class| BY_FLAGS.contains(&class)) {
        let flag = |name: &str, default| config.get(name).and_then(Value::as_bool).unwrap_or(default);
        let part = |name: &str| {
            let token = special.get(name)?;
            Some((token.clone(), tokenizer.token_to_id(token)?))
        };
        let first = part("bos_token").filter(|_| flag("add_bos_token", true));
        let last = part("eos_token").filter(|_| flag("add_eos_token", false));
        let single = [
            first.as_ref().map(|_| "bos:0"),
            Some("$A:0"),
            last.as_ref().map(|_| "eos:0"),
        ];
        let tokens = [("bos", first), ("eos", last)]
            .into_iter()
            .filter_map(|(name, token)| token.map(|(token, id)| (name, token, id)))
            .map(|(name, token, id)| SpecialToken::new(name.to_owned(), vec![id], vec![token]))
            .collect::<Result<Vec<_>>>()?;
        let template = TemplateProcessing::builder()
            .try_single(single.into_iter().flatten().collect::<Vec<_>>())?
            .special_tokens(tokens)
            .build()?;
        tokenizer.with_post_processor(Some(template));
    }
    Ok(tokenizer)
}

/// Puts the leading space as the configuration asks for it, where the tokenizer is byte-level. What the configuration
/// does not say is no.
fn set_prefix_space(tokenizer: &mut Tokenizer, config: &Value) {
    let wanted = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    if let Some(PreTokenizerWrapper::ByteLevel(split)) = tokenizer.get_pre_tokenizer() {
        let split = ByteLevel::new(wanted, split.trim_offsets, split.use_regex);
        tokenizer.with_pre_tokenizer(Some(split));
    }
}

/// Adds the special tokens that only the configuration knows of, so that a text's `<s>` is that token.
fn add_missing(tokenizer: &mut Tokenizer, config: &Value, special: &BTreeMap<String, String>) -> Result<()> {
    let known = |tokenizer: &Tokenizer, token: &str| {
        let added = tokenizer.get_added_tokens_decoder();
        added.values().any(|added| added.content == token)
    };
    let listed = config.get("added_tokens_decoder").and_then(Value::as_object);
    let mut listed: Vec<(u32, &Value)> = listed
        .into_iter()
        .flatten()
        .filter_map(|(id, token)| Some((id.parse().ok()?, token)))
        .collect();
    listed.sort_by_key(|(id, _)| *id);
    for (_, token) in listed {
        let Some(content) = token.get("content").and_then(Value::as_str) else {
            continue;
        };
        if !known(tokenizer, content) {
            let flag = |name: &str| token.get(name).and_then(Value::as_bool).unwrap_or(false);
            let added = AddedToken::from(content, flag("special"))
                .lstrip(flag("lstrip"))
                .rstrip(flag("rstrip"))
                .single_word(flag("single_word"))
                .normalized(flag("normalized"));
            tokenizer.add_tokens([added])?;
        }
    }
    let more = config.get("additional_special_tokens").and_then(Value::as_array);
    let more = more.into_iter().flatten().filter_map(|token| {
        let content = token.get("content").unwrap_or(token);
        content.as_str().map(str::to_owned)
    });
    for token in special.values().cloned().chain(more) {
        if !known(tokenizer, &token) {
            tokenizer.add_special_tokens([AddedToken::from(token, true)])?;
        }
    }
    Ok(())
}
