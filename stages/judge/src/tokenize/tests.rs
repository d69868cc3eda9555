#![allow(clippy::unwrap_used)]
use super::*;
use crate::testing::{CONFIG, Graph, folder, oracle, tokenizer};

fn encoder(path: &Path, max_length: Option<usize>, stride: Option<usize>) -> Result<TextEncoder, Error> {
    let layout = Layout::resolve(path, None)?;
    let config = JudgeConfig::read(&layout)?;
    TextEncoder::load(&layout, &config, max_length, stride)
}

fn one(text: &str) -> Text {
    Text::One(text.to_owned())
}

/// The ids of the windows under the tests' tokenizer, as digits: good 1, bad 2, odd 3.
fn windows(max_length: usize, stride: Option<usize>, text: &Text) -> (Vec<String>, bool) {
    let judge = folder(&Graph::default(), CONFIG);
    let encoded = encoder(judge.path(), Some(max_length), stride)
        .unwrap()
        .encode(text)
        .unwrap();
    let digits = |window: &Window| window.ids.iter().map(u32::to_string).collect();
    (encoded.windows.iter().map(digits).collect(), encoded.truncated)
}

#[test]
fn long_texts_are_truncated_or_windowed() {
    let text = one("good bad odd good bad odd good");
    assert_eq!(windows(7, None, &text), (vec!["1231231".to_owned()], false));
    assert_eq!(windows(4, None, &text), (vec!["1231".to_owned()], true));
    assert_eq!(
        windows(4, Some(0), &text),
        (vec!["1231".to_owned(), "231".to_owned()], false)
    );
    assert_eq!(
        windows(4, Some(2), &text),
        (vec!["1231".into(), "3123".into(), "231".into()], false)
    );
}

#[test]
fn of_a_pair_the_prompt_is_cut_first() {
    let pair = |prompt: &str, response: &str| Text::Pair {
        prompt: prompt.into(),
        response: response.into(),
    };
    assert_eq!(
        windows(5, None, &pair("good good", "bad bad bad")),
        (vec!["11222".to_owned()], false)
    );
    assert_eq!(
        windows(4, None, &pair("good good good", "bad bad bad")),
        (vec!["1222".to_owned()], true)
    );
    assert_eq!(
        windows(2, None, &pair("good", "bad bad odd")),
        (vec!["22".to_owned()], true)
    );
    assert_eq!(
        windows(2, Some(1), &pair("good", "bad bad odd")),
        (vec!["22".to_owned(), "23".to_owned()], true)
    );
}

#[test]
fn special_tokens_and_segments_of_pairs_are_the_tokenizers_own() {
    let Some(path) = oracle("judge/distilbert_safe_unsafe") else {
        return;
    };
    let encoder = encoder(&path, Some(12), Some(2)).unwrap();
    let pair = Text::Pair {
        prompt: "tell me".into(),
        response: "no".into(),
    };
    let window = encoder.encode(&pair).unwrap().windows.remove(0);
    assert_eq!(
        (window.ids[0], window.ids.iter().filter(|id| **id == 3).count()),
        (2, 2),
        "[CLS] prompt [SEP] response [SEP]"
    );
    assert!(
        window.types.is_sorted() && window.types[0] == 0 && window.types.last() == Some(&1),
        "{window:?}"
    );
    let long = Text::One("x ".repeat(50));
    for window in encoder.encode(&long).unwrap().windows {
        assert!(
            window.ids.len() <= 12 && window.ids[0] == 2 && window.ids.last() == Some(&3),
            "{window:?}"
        );
    }
}

#[test]
fn no_token_is_an_error_and_no_room_too() {
    let judge = folder(&Graph::default(), CONFIG);
    let error = encoder(judge.path(), None, None).unwrap().encode(&one("")).unwrap_err();
    assert!(error.to_string().contains("no token"), "{error}");
    assert!(
        encoder(judge.path(), Some(8), Some(8))
            .unwrap_err()
            .message
            .contains("stride: 8 does not fit")
    );
    let Some(path) = oracle("judge/distilbert_safe_unsafe") else {
        return;
    };
    assert!(
        encoder(&path, Some(2), None)
            .unwrap_err()
            .message
            .contains("leaves no room")
    );
    assert!(
        encoder(&path, Some(513), None)
            .unwrap_err()
            .message
            .contains("512 positions")
    );
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let judge = folder(&Graph::default(), CONFIG);
    std::fs::write(
        judge.path().join("tokenizer.json"),
        tokenizer(&["[PAD]", "good", "bad", "odd", "new"]),
    )
    .unwrap();
    let error = encoder(judge.path(), None, None).unwrap_err();
    assert!(error.message.contains("does not fit the model"), "{error}");
    assert!(
        error.causes[0].contains("`new` has the id 4") && error.causes[0].contains("4 rows"),
        "{error}"
    );
}

/// All ids of the smaller tokenizer happen to be rows of the model.
#[test]
fn a_tokenizer_that_is_too_small_is_refused_and_a_padded_embedding_is_not() {
    let words = |count: usize| -> Vec<String> { (0..count).map(|n| format!("w{n}")).collect() };
    let with = |rows: usize, tokens: usize| {
        let graph = Graph {
            table: vec![vec![0.0, 1.0]; rows],
            ..Graph::default()
        };
        let judge = folder(&graph, CONFIG);
        let mut words = words(tokens - 1);
        words.push("odd".to_owned());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        std::fs::write(judge.path().join("tokenizer.json"), tokenizer(&words)).unwrap();
        encoder(judge.path(), None, None).map(drop)
    };
    assert!(
        with(300, 300).is_ok() && with(320, 300).is_ok(),
        "padded to a multiple of 64"
    );
    let error = with(400, 300).unwrap_err();
    assert!(
        error.message.contains("tokenizer.json does not fit the model"),
        "{error}"
    );
    assert!(
        error.causes[0].contains("300 tokens") && error.causes[0].contains("400 rows"),
        "{error}"
    );
}

/// A tokenizer of another model whose ids fit: its own list of tokens contradicts it, and other padding is told.
#[test]
fn a_tokenizer_of_another_model_is_noticed() {
    let judge = folder(&Graph::default(), CONFIG);
    let listed = |id: u32, text: &str| {
        let beside = format!(r#"{{"added_tokens_decoder": {{"{id}": {{"content": "{text}"}}}}, "pad_token": "odd"}}"#);
        std::fs::write(judge.path().join("tokenizer_config.json"), beside).unwrap();
        encoder(judge.path(), None, None)
    };
    let fitting = listed(0, "[PAD]").unwrap();
    let doubt = fitting.doubt().unwrap();
    assert!(doubt.contains("id 0 (`[PAD]`)") && doubt.contains("id 3"), "{doubt}");
    let error = listed(1, "<s>").unwrap_err();
    assert!(error.message.contains("is not the tokenizer of this judge"), "{error}");
    assert!(
        error.to_string().contains("its id 1 is `good`") && error.to_string().contains("`<s>`"),
        "{error}"
    );
    // A token that a program adds when it loads the tokenizer is no contradiction.
    assert!(listed(99, "<extra>").is_ok());
}
