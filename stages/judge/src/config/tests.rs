#![allow(clippy::unwrap_used)]
use super::*;

fn parse(config: &str, tokenizer: &str) -> JudgeConfig {
    let config: Map<String, Value> = serde_json::from_str(config).unwrap();
    let labels = labels(&config, None).unwrap();
    JudgeConfig::from_json(&config, &serde_json::from_str(tokenizer).unwrap(), labels)
}

#[test]
fn lengths_are_bounded_by_positions_and_sentinels_are_ignored() {
    let roberta = parse(
        r#"{"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}"#,
        "{}",
    );
    assert_eq!(roberta.positions, Some(512));
    assert_eq!(roberta.max_length(None, None).unwrap(), 512);
    assert_eq!(roberta.max_length(Some(128), Some(64)).unwrap(), 128);
    assert!(roberta.max_length(Some(514), None).is_err());
    let absurd = parse(
        r#"{"max_position_embeddings": 512}"#,
        r#"{"model_max_length": 1000000000000000019884624838656}"#,
    );
    assert_eq!(
        (absurd.tokenizer_length, absurd.max_length(None, None).unwrap()),
        (None, 512)
    );
    assert_eq!(absurd.max_length(None, Some(256)).unwrap(), 256);
    assert_eq!(parse("{}", "{}").max_length(None, None).unwrap(), DEFAULT_LENGTH);
}

#[test]
fn labels_come_in_index_order_and_damage_is_refused() {
    assert_eq!(
        parse(r#"{"id2label": {"1": "unsafe", "0": "safe"}}"#, "{}").labels,
        ["safe", "unsafe"]
    );
    assert_eq!(parse(r#"{"num_labels": 2}"#, "{}").labels, ["LABEL_0", "LABEL_1"]);
    for bad in [
        r#"{"0": "a", "2": "b"}"#,
        r#"{"0": "a", "1": "a"}"#,
        r#"{"x": "a"}"#,
        r#"{"0": 1}"#,
        r#"{"0": "a", "00": "b"}"#,
    ] {
        let config: Map<String, Value> = serde_json::from_str(&format!(r#"{{"id2label": {bad}}}"#)).unwrap();
        assert!(labels(&config, None).is_err(), "{bad}");
    }
}

#[test]
fn placeholders_are_known_and_can_be_named() {
    let config = parse(r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}"#, "{}");
    assert!(are_generic(&config.labels) && are_generic(&[]) && !are_generic(&["LABEL_A".into()]));
    let name = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let named = config
        .named_labels(&[name("LABEL_1", "unsafe"), name("0", "safe")])
        .unwrap();
    assert_eq!(named, ["safe", "unsafe"]);
    assert!(config.named_labels(&[name("LABEL_2", "x")]).is_err());
    assert!(
        config
            .named_labels(&[name("LABEL_0", "x"), name("LABEL_1", "x")])
            .is_err()
    );
}

#[test]
fn the_problem_type_chooses_the_activation() {
    let of = |problem: &str, logits| parse(&format!(r#"{{"problem_type": {problem}}}"#), "{}").activation(logits);
    assert_eq!(of("null", 2).unwrap(), Activation::Softmax);
    assert_eq!(of("null", 1).unwrap(), Activation::Sigmoid);
    assert_eq!(of("\"multi_label_classification\"", 6).unwrap(), Activation::Sigmoid);
    assert_eq!(of("\"single_label_classification\"", 2).unwrap(), Activation::Softmax);
    assert!(of("\"regression\"", 1).is_err());
    let error = of("\"multi_label_clasification\"", 2).unwrap_err();
    assert!(error.message.contains("`multi_label_clasification`"), "{error}");
    assert!(error.causes[0].contains("multi_label_classification, regression, single_label_classification"));
}

/// transformers writes no `id2label` for two labels that nobody named.
#[test]
fn labels_that_nobody_names_are_counted_by_the_graph_or_the_map() {
    let config: Map<String, Value> = serde_json::from_str(r#"{"model_type": "bert"}"#).unwrap();
    assert_eq!(labels(&config, Some(2)).unwrap(), ["LABEL_0", "LABEL_1"]);
    let unsaid = parse(r#"{"model_type": "bert"}"#, "{}");
    assert!(unsaid.labels.is_empty());
    let name = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    for names in [
        [name("LABEL_0", "ok"), name("LABEL_1", "bad")],
        [name("0", "ok"), name("1", "bad")],
    ] {
        assert_eq!(unsaid.named_labels(&names).unwrap(), ["ok", "bad"]);
    }
    // What is not named keeps its placeholder.
    assert_eq!(
        unsaid.named_labels(&[name("LABEL_1", "bad")]).unwrap(),
        ["LABEL_0", "bad"]
    );
    let error = unsaid.named_labels(&[name("safe", "ok")]).unwrap_err();
    assert!(error.causes[0].contains("names no labels"), "{error}");
    assert!(unsaid.named_labels(&[name("LABEL_4000000000", "x")]).is_err());
}
