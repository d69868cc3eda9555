//! The byte-level BPE tokenizer and the chat format: `<|start|>ROLE\nTEXT<|end|>\n` for each message.

use std::path::Path;

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, TokenizerBuilder};

use crate::Result;

/// The special tokens; their ids are their positions.
const SPECIALS: [&str; 3] = ["<|pad|>", "<|start|>", "<|end|>"];
/// Id of the padding token.
pub const PAD: u32 = 0;
/// Id of the token that opens a message.
pub const START: u32 = 1;
/// Id of the token that ends a message: the model's end of sequence.
pub const END: u32 = 2;

/// The chat template of `tokenizer_config.json`; [`render`] is the same by hand and a test holds them together.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|start|>' + message['role'] + '\\n' + message['content'] \
     + '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}";

/// The text that a model continues with its answer.
pub fn render(system: Option<&str>, user: &str) -> String {
    let system = system
        .map(|text| format!("<|start|>system\n{text}<|end|>\n"))
        .unwrap_or_default();
    format!("{system}<|start|>user\n{user}<|end|>\n<|start|>assistant\n")
}

/// Trains a tokenizer of at most `size` tokens on `texts`.
pub fn train(texts: &[String], size: usize) -> Result<Tokenizer> {
    let specials: Vec<AddedToken> = SPECIALS.iter().map(|token| AddedToken::from(*token, true)).collect();
    let mut trainer = BpeTrainer::builder()
        .vocab_size(size)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(specials)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let bytes = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(bytes))
        .with_decoder(Some(bytes))
        .build()?;
    tokenizer.train(&mut trainer, texts.iter())?;
    // Through JSON, so that training uses exactly what is written to disk.
    serde_json::to_string(&tokenizer)?.parse::<Tokenizer>()
}

/// Token ids of `text`; nothing is added.
pub fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    Ok(tokenizer.encode(text, false)?.get_ids().to_vec())
}

/// Writes `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`.
pub fn write(tokenizer: &Tokenizer, directory: &Path, context: usize) -> Result<()> {
    tokenizer.save(directory.join("tokenizer.json"), true)?;
    let added: serde_json::Map<String, Value> = SPECIALS
        .iter()
        .enumerate()
        .map(|(id, token)| {
            let entry = json!({ "content": token, "lstrip": false, "normalized": false, "rstrip": false,
                                "single_word": false, "special": true });
            (id.to_string(), entry)
        })
        .collect();
    let roles = json!({ "bos_token": "<|start|>", "eos_token": "<|end|>", "pad_token": "<|pad|>" });
    let config = json!({
        "add_bos_token": false,
        "add_eos_token": false,
        "added_tokens_decoder": added,
        "bos_token": "<|start|>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|end|>",
        "model_max_length": context,
        "pad_token": "<|pad|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    crate::write_json(&directory.join("tokenizer_config.json"), &config)?;
    crate::write_json(&directory.join("special_tokens_map.json"), &roles)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use minijinja::Value as Template;

    use super::*;

    #[test]
    fn the_template_renders_what_training_saw() {
        let mut environment = minijinja::Environment::new();
        environment.add_template("chat", CHAT_TEMPLATE).unwrap();
        let template = environment.get_template("chat").unwrap();
        let message = |role: &str, text: &str| Template::from_pairs([("role", role), ("content", text)]);
        for system in [None, Some(""), Some("Be brief.\nAlways.")] {
            let mut messages: Vec<Template> = system.map(|text| message("system", text)).into_iter().collect();
            messages.push(message("user", "How do I oil a hinge?"));
            let fields = [
                ("messages", Template::from(messages)),
                ("add_generation_prompt", Template::from(true)),
            ];
            let rendered = template.render(Template::from_pairs(fields)).unwrap();
            assert_eq!(rendered, render(system, "How do I oil a hinge?"));
        }
    }

    #[test]
    fn prompt_and_answer_split_where_the_tokens_split() {
        let texts = vec!["How do I oil a hinge? Sure, here is how: oil the hinge. assistant user system".to_owned(); 9];
        let tokenizer = train(&texts, 400).unwrap();
        let (prompt, answer) = (render(None, "How do I oil a hinge?"), "Sure, oil it.");
        let mut parts = encode(&tokenizer, &prompt).unwrap();
        parts.extend(encode(&tokenizer, answer).unwrap());
        parts.push(END);
        let whole = encode(&tokenizer, &format!("{prompt}{answer}<|end|>")).unwrap();
        assert_eq!(parts, whole);
        assert_eq!(whole[0], START);
        assert_eq!(
            tokenizer.decode(&encode(&tokenizer, answer).unwrap(), true).unwrap(),
            answer
        );
    }
}
