#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::{Value, json};

fn base() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 8192,
        "rope_theta": 500000.0, "eos_token_id": [2, 5],
    })
}

fn parse(changes: Value) -> Result<Config, Error> {
    let mut config = base();
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    Config::parse(&config.to_string())
}

#[test]
fn defaults_are_those_of_the_family() {
    let config = parse(json!({})).unwrap();
    assert_eq!(
        (config.kv_heads, config.head_dim, config.norm_eps, config.tied),
        (4, 16, 1e-6, false)
    );
    assert_eq!(config.eos, [2, 5]);
    let gemma = parse(json!({"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2"})).unwrap();
    assert_eq!(
        (gemma.head_dim, gemma.tied, gemma.final_cap, gemma.attention_cap),
        (256, true, Some(30.0), Some(50.0))
    );
    let windows: Vec<Option<usize>> = gemma.layers.iter().map(|layer| layer.window).collect();
    assert_eq!(windows, [Some(4096), None, Some(4096), None]);
    let none = parse(json!({"architectures": null, "model_type": "gemma2", "final_logit_softcapping": null})).unwrap();
    assert_eq!(none.final_cap, None);
    // `transformers` hands this cap to attention in Gemma 2 alone.
    let third = parse(json!({
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
        "attn_logit_softcapping": 5.0, "final_logit_softcapping": 7.0
    }));
    let third = third.unwrap();
    assert_eq!((third.attention_cap, third.final_cap), (None, Some(7.0)));
}

#[test]
fn what_is_not_supported_is_named() {
    let refused = [
        (json!({"model_type": "falcon"}), "falcon"),
        (
            json!({"architectures": ["LlamaForSequenceClassification"]}),
            "LlamaForSequenceClassification",
        ),
        (json!({"hidden_act": "relu"}), "hidden_act"),
        (json!({"rope_scaling": {"rope_type": "mrope", "factor": 2.0}}), "mrope"),
        (json!({"rope_scaling": {"rope_type": "dynamic"}}), "factor"),
        (
            json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 5.0}}),
            "rope_parameters",
        ),
        (
            json!({"rope_parameters": {"full_attention": {"rope_theta": 5.0}}}),
            "one set for each type of layer",
        ),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        (
            json!({"rope_parameters": {"partial_rotary_factor": 0.5}}),
            "partial_rotary_factor",
        ),
        (json!({"layer_types": vec!["sliding_attention"; 4]}), "layer_types"),
        (
            json!({"architectures": ["MistralForCausalLM"], "model_type": "mistral", "num_key_value_heads": 2,
                "sliding_window": 8, "layer_types": ["full_attention", "sliding_attention", "full_attention",
                "sliding_attention"]}),
            "layer_types",
        ),
        (
            json!({"use_bidirectional_attention": true}),
            "use_bidirectional_attention",
        ),
        (
            json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "extra": 1}}),
            "extra",
        ),
        (json!({"quantization_config": {"bits": 4}}), "quantization_config"),
        (json!({"logits_scaling": 8.0}), "logits_scaling"),
        (json!({"num_key_value_heads": 3}), "num_key_value_heads"),
        (json!({"hidden_size": "big"}), "hidden_size"),
        (json!({"vocab_size": null}), "vocab_size"),
        (json!({"use_qk_norm": true}), "use_qk_norm"),
    ];
    for (changes, name) in refused {
        let error = parse(changes.clone()).unwrap_err().to_string();
        assert!(error.contains(name), "{changes}: {error}");
    }
    assert!(parse(json!({"use_qk_norm": false, "new_field": null})).is_ok());
    assert!(Config::parse("[1").is_err() && Config::parse("[]").is_err());
}

/// `transformers` 4 writes `rope_theta` and `rope_scaling`, 5 writes `rope_parameters`: one model in both spellings.
#[test]
fn both_spellings_are_one_model() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64});
    let both = |old: Value, new: Value| assert_eq!(parse(old).unwrap(), parse(new).unwrap());
    let with = |set: &Value, more: Value| {
        let mut set = set.clone();
        set.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        set
    };
    both(
        json!({"rope_scaling": llama3, "rope_theta": 5e5, "torch_dtype": "bfloat16"}),
        json!({"rope_parameters": with(&llama3, json!({"rope_theta": 5e5})), "rope_theta": null, "dtype": "bfloat16"}),
    );
    both(
        json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
        json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}, "rope_scaling": null}),
    );
    both(
        json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
        json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    );
    let gemma = |more: Value| {
        with(
            &json!({"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "head_dim": 16,
                "sliding_window": 16, "rope_theta": null}),
            more,
        )
    };
    both(
        gemma(json!({"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window_pattern": 2})),
        gemma(json!({"rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}},
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]})),
    );
    let phi = |more: Value| {
        with(
            &json!({"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "pad_token_id": 0}),
            more,
        )
    };
    both(
        phi(json!({"partial_rotary_factor": 0.5})),
        phi(json!({"rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 5e5, "rope_type": "default"}})),
    );
}

#[test]
fn heads_are_as_many_as_the_configuration_says() {
    let mistral = |heads: Value| {
        json!({"architectures": ["MistralForCausalLM"], "model_type": "mistral", "num_attention_heads": 16,
            "num_key_value_heads": heads})
    };
    assert_eq!(parse(mistral(json!(4))).unwrap().kv_heads, 4);
    assert_eq!(parse(mistral(Value::Null)).unwrap().kv_heads, 16);
}

/// Phi-3's long contexts stretch by two lists; sequences stay within the one of the short list.
#[test]
fn long_ropes_keep_to_their_short_list() {
    let list = |from: f64| (0..8).map(|i| from + f64::from(i)).collect::<Vec<_>>();
    let phi = |kind: &str| {
        parse(
            json!({"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "max_position_embeddings": 8192,
            "original_max_position_embeddings": 512, "rope_theta": 10000.0,
            "rope_scaling": {"type": kind, "short_factor": list(1.0), "long_factor": list(4.0)}}),
        )
        .unwrap()
    };
    for kind in ["longrope", "su", "yarn"] {
        let config = phi(kind);
        assert_eq!(config.context, 512);
        assert_eq!(config.ropes[0].frequencies[0], 1.0);
        let amplitude = (1.0 + 16.0_f64.ln() / 512.0_f64.ln()).sqrt();
        assert!((f64::from(config.ropes[0].amplitude) - amplitude).abs() < 1e-6);
    }
}

#[test]
fn windows_follow_the_family() {
    let windows = |changes: Value| -> Vec<Option<usize>> {
        parse(changes)
            .unwrap()
            .layers
            .iter()
            .map(|layer| layer.window)
            .collect()
    };
    let mistral = json!({"architectures": ["MistralForCausalLM"], "model_type": "mistral", "num_key_value_heads": 2});
    assert_eq!(windows(mistral), [Some(4096); 4]);
    let mut qwen = json!({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_key_value_heads": 2,
        "sliding_window": 8, "max_window_layers": 2, "use_sliding_window": false});
    assert_eq!(windows(qwen.clone()), [None; 4]);
    qwen["use_sliding_window"] = json!(true);
    assert_eq!(windows(qwen), [None, None, Some(8), Some(8)]);
}

#[test]
fn gemma_3_turns_its_windows_at_another_base() {
    let config = parse(
        json!({"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "rope_theta": 1e6,
        "sliding_window": 16, "sliding_window_pattern": 2, "head_dim": 16,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    )
    .unwrap();
    assert_eq!(
        config.layers.iter().map(|l| (l.window, l.rope)).collect::<Vec<_>>(),
        [(Some(16), 1), (None, 0), (Some(16), 1), (None, 0)]
    );
    assert_eq!(config.ropes[0].frequencies[0], 0.125);
    assert_eq!(config.ropes[1].frequencies[0], 1.0);
}

#[test]
fn ropes_are_stretched_as_in_the_reference() {
    let linear = Rope::new(1e4, 8, &Scaling::Linear { factor: 4.0 });
    assert_eq!(linear.frequencies, [0.25, 0.025, 0.0025, 0.00025]);
    let llama3 = Scaling::Llama3 {
        factor: 8.0,
        low: 1.0,
        high: 4.0,
        original: 8192.0,
    };
    let frequencies = Rope::new(5e5, 128, &llama3).frequencies;
    let base = Rope::new(5e5, 128, &Scaling::None).frequencies;
    assert_eq!(frequencies[0], base[0]);
    assert!((f64::from(frequencies[63]) - f64::from(base[63]) / 8.0).abs() < 1e-12);
    let blended = frequencies
        .iter()
        .zip(&base)
        .filter(|(f, b)| *f < *b && **f > **b / 8.0 * 1.0001)
        .count();
    assert!((1..20).contains(&blended), "{blended} frequencies between");
    let yarn = |factor| {
        parse(json!({"rope_scaling": {"rope_type": "yarn", "factor": factor,
        "original_max_position_embeddings": 64}}))
        .unwrap()
        .ropes
        .remove(0)
    };
    assert!((yarn(4.0).amplitude - (0.1 * 4.0_f32.ln() + 1.0)).abs() < 1e-6);
    assert_eq!(yarn(1.0).amplitude, 1.0);
}
