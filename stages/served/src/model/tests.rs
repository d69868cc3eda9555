#![allow(clippy::unwrap_used)]

use super::*;

fn spec(settings: Value) -> ModelSpec {
    let Value::Object(settings) = settings else { panic!() };
    ModelSpec {
        name: "m".to_owned(),
        source: "openai://some/model".to_owned(),
        settings,
        ..ModelSpec::default()
    }
}

fn problems(settings: Value) -> Vec<String> {
    let errors = Model::new(&spec(settings)).unwrap_err();
    errors.into_iter().map(|error| error.message).collect()
}

#[test]
fn the_address_is_in_no_identity_and_the_rest_is() {
    let local = json!({ "base_url": "http://localhost:1/v1" });
    let one = Model::new(&spec(local.clone())).unwrap();
    let moved = Model::new(&spec(
        json!({ "base_url": "https://example.org/v1", "concurrency": 3, "timeout": "5m" }),
    ))
    .unwrap();
    assert_eq!(one.identity(Protocol::Chat), moved.identity(Protocol::Chat));
    assert_ne!(one.connection(), moved.connection());
    assert_ne!(one.identity(Protocol::Chat), one.identity(Protocol::Completions));
    for other in [
        json!({ "revision": "2026-01" }),
        json!({ "extra": { "top_k": 40 } }),
        json!({ "lacks": ["seed"] }),
    ] {
        let Value::Object(mut settings) = other.clone() else {
            panic!()
        };
        settings.extend(local.as_object().cloned().unwrap());
        let other = Model::new(&spec(Value::Object(settings))).unwrap();
        assert_ne!(one.identity(Protocol::Chat), other.identity(Protocol::Chat));
    }
}

#[test]
fn settings_that_make_no_sense_are_named() {
    for (settings, told) in [
        (json!({}), "the public API needs a key"),
        (
            json!({ "base_url": "http://example.org/v1", "api_key_env": "K" }),
            "not sent over plain http",
        ),
        (json!({ "base_url": "localhost:8000" }), "must begin with"),
        (json!({ "api_key_env": "sk-hunter2" }), "no name of a variable"),
        (
            json!({ "api_key_env": "K", "extra": { "seed": 1 } }),
            "`seed` is not an extra",
        ),
        (
            json!({ "api_key_env": "K", "extra": { "my_api_key": 1 } }),
            "looks like a secret",
        ),
        (
            json!({ "api_key_env": "K", "extra": { "a": [{ "headers": { "Authorization": "x" } }] } }),
            "looks like a secret",
        ),
        (json!({ "api_key_env": "K", "timeout": "soon" }), "no duration"),
        (json!({ "api_key_env": "K", "timeout": 0 }), "no duration"),
        (json!({ "api_key_env": "K", "concurrency": 0 }), "no count"),
        (json!({ "api_key_env": "K", "max_error_rate": 5 }), "between 0 and 1"),
        (json!({ "api_key_env": "K", "lacks": ["sed"] }), "there is no \"sed\""),
        (json!({ "api_key_env": "K", "price": { "input": 1 } }), "no price"),
        (json!({ "api_key_env": "K", "dtype": "f32" }), "no such setting"),
        (json!({ "api_key_env": "K", "protocol": "grpc" }), "there is no `grpc`"),
    ] {
        let problems = problems(settings.clone());
        assert!(
            problems.iter().any(|problem| problem.contains(told)),
            "{settings}: {problems:?}"
        );
        assert!(
            problems.iter().all(|problem| !problem.contains("hunter2")),
            "{problems:?}"
        );
    }
}

#[test]
fn the_bound_of_a_completion_has_two_names() {
    let public = Model::new(&spec(json!({ "api_key_env": "K" }))).unwrap();
    assert_eq!(public.limit_field(Protocol::Chat), "max_completion_tokens");
    assert_eq!(public.limit_field(Protocol::Completions), "max_tokens");
    let other = Model::new(&spec(json!({ "base_url": "http://localhost:1" }))).unwrap();
    assert_eq!(other.limit_field(Protocol::Chat), "max_tokens");
}
