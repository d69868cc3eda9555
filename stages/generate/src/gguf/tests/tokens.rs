//! Texts are split as the models' own tokenizers split them (sentencepiece; transformers' byte-level BPE).

use super::*;
use crate::checkpoint::Checkpoint;
use crate::template::{Ending, Message};
use crate::text::{Text, TextOptions};

fn text(name: &str) -> Text {
    let checkpoint = Checkpoint::open(&path(name)).unwrap();
    let config = checkpoint.config().unwrap();
    Text::open(&checkpoint, &config.eos, &TextOptions::default()).unwrap()
}

#[test]
fn awkward_texts_become_the_same_tokens() {
    let texts = reference()["texts"].take();
    for (name, told) in models() {
        let text = text(&name);
        let cases = texts.as_array().unwrap().iter().zip(told["tokens"].as_array().unwrap());
        assert_eq!(cases.len(), 33);
        for (case, tokens) in cases {
            let case = case.as_str().unwrap();
            assert_eq!(text.encode(case, false).unwrap(), ids(tokens), "{name}: {case:?}");
        }
    }
}

#[test]
fn llama_cpp_agrees_but_for_composed_texts() {
    // Qwen's own tokenizer composes texts (NFC) first, and so do we; llama.cpp does not.
    for (name, told) in models() {
        let different = told["llama_cpp_tokens"].as_object().unwrap().len();
        assert_eq!(different, usize::from(name.starts_with("qwen")), "{name}");
    }
}

#[test]
fn tokens_become_the_text_again() {
    let texts = reference()["texts"].take();
    for (name, _) in models() {
        let text = text(&name);
        for case in texts.as_array().unwrap().iter().map(|case| case.as_str().unwrap()) {
            let special = ["<", "\u{2581}", "[INST]", " .", " ?", " !", " ,", "' ", "n't"]
                .iter()
                .any(|part| case.contains(part));
            if special || name.starts_with("qwen") && case.contains('\u{301}') {
                continue;
            }
            let tokens = text.encode(case, false).unwrap();
            assert_eq!(text.decode(&tokens, true).unwrap(), case, "{name}");
        }
    }
}

#[test]
fn special_tokens_begin_and_end_texts_as_the_file_says() {
    let cases = [
        ("llama3", "<|begin_of_text|>", &["<|end_of_text|>", "<|eot_id|>"][..]),
        ("llama2", "<s>", &["</s>"]),
        ("phi3", "<s>", &["</s>", "<|endoftext|>", "<|end|>"]),
        ("qwen2", "", &["<|endoftext|>", "<|im_end|>"]),
        ("smollm", "", &["<|im_end|>"]),
    ];
    for (name, bos, ends) in cases {
        let text = text(name);
        let id = |token: &str| text.encode(token, false).unwrap();
        let plain = text.encode("a b", false).unwrap();
        let begun = if bos.is_empty() { Vec::new() } else { id(bos) };
        assert!(begun.len() <= 1, "{name}");
        assert_eq!(text.encode("a b", true).unwrap(), [begun, plain].concat(), "{name}");
        let mut told: Vec<u32> = ends.iter().flat_map(|end| id(end)).collect();
        told.sort_unstable();
        assert_eq!(text.eos(), told, "{name}");
    }
    // What is special is left out of a completion.
    let phi3 = text("phi3");
    let tokens = phi3.encode("fine<|end|><|endoftext|>", false).unwrap();
    assert_eq!(phi3.completion(&tokens, &[]).unwrap(), "fine");
}

#[test]
fn the_chat_template_is_that_of_the_file() {
    let messages = [Message::new("user", "Hello")];
    let render = |name: &str| text(name).render(&messages, Ending::Answer).unwrap().text;
    assert_eq!(
        render("qwen2"),
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(render("llama2"), "<s>[INST] Hello [/INST]");
    assert!(text("llama3").template().is_none());
}
