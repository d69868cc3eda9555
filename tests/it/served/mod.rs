//! Models that a server runs, asked by whole pipelines: against servers of the test's own, which behave and misbehave.

mod again;
mod judges;
mod secrets;
#[path = "../../../stages/served/tests/server/mod.rs"]
mod server;

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use server::{Reply, Server, answer};

use crate::project::{Project, Ran};

const SPEC: &str = "pipelines/served.yaml";
const KEY: &str = "sk-not-a-real-key-7f3a1c";
const VARIABLE: &str = "FRACTURE_TEST_KEY";

/// A project whose model is served at an address; `model` and `stages` are further lines.
fn project(url: &str, model: &str, decoder: &str, prompts: usize) -> Project {
    let project = Project::empty();
    let pool: Vec<String> = (0..prompts)
        .map(|n| json!({ "id": format!("q{n:03}"), "prompt": format!("Question {n}?") }).to_string())
        .collect();
    project.write("pool.jsonl", &(pool.join("\n") + "\n"));
    project.write(
        SPEC,
        &format!(
            "version: 1
models:
  far: {{ source: openai://some-model, base_url: '{url}', labels: {{ family: far }}{model} }}
stages:
  prompts: {{ uses: prompt, with: {{ pools: {{ main: {{ path: pool.jsonl }} }}, regimes: {{ deploy: {{}} }} }} }}
  answers:
    uses: generate
    needs: prompts
    with: {{ model: far, max_new_tokens: 8, {decoder} }}
"
        ),
    );
    project
}

fn run(project: &Project, args: &[&str]) -> Ran {
    let all: Vec<&str> = ["run", SPEC, "--json"].iter().chain(args).copied().collect();
    Ran::of(project.command(&all).env(VARIABLE, KEY))
}

fn rows(project: &Project) -> Vec<Value> {
    let shown = project.fracture(&["show", SPEC, "answers", "--json"]).ok().json();
    shown.as_array().unwrap().clone()
}

#[test]
fn a_served_model_gives_a_table_like_any_other() {
    let server = Server::good();
    let project = project(
        &server.url(),
        ", price: { input: 1, output: 2 }",
        "temperature: 0.8, samples: 2, seed: 5",
        3,
    );
    let summary = run(&project, &[]).ok().json();
    assert_eq!(summary["rows"]["generated"], 6);
    assert_eq!(
        (&summary["served"]["requests"], &summary["served"]["retries"]),
        (&json!(6), &json!(0))
    );
    assert_eq!(summary["served"]["prompt_tokens"], 60);
    assert!(summary["served"]["cost"].as_f64().unwrap() > 0.0);
    let rows = rows(&project);
    assert_eq!(rows.len(), 6);
    for row in &rows {
        assert_eq!(
            (&row["served"], &row["model"], &row["family"]),
            (&json!(true), &json!("far"), &json!("far"))
        );
        assert_eq!(
            (&row["finish_reason"], &row["prompt_tokens"]),
            (&json!("stop"), &json!(10))
        );
        assert!(row["completion"].as_str().unwrap().starts_with("I heard:"));
        assert!(row["tokens"].is_null() && row["logprob"].is_null() && row["invalid"].is_null());
    }
    let seeds: BTreeSet<u64> = server
        .seen()
        .iter()
        .map(|seen| seen.body["seed"].as_u64().unwrap())
        .collect();
    assert_eq!(seeds.len(), 6, "every sample has a seed of its own");
    // Nothing is asked twice: not by a second run, not by more samples.
    assert_eq!(run(&project, &[]).ok().json()["tasks"]["ran"], 0);
    assert_eq!(server.count(), 6);
    project.edit(SPEC, |text| text.replace("samples: 2", "samples: 3"));
    assert_eq!(
        run(&project, &[]).ok().json()["rows"],
        json!({ "generated": 3, "judged": 0, "reused": 6 })
    );
    assert_eq!(server.count(), 9);
    // The address is in no key.
    let other = Server::good();
    project.edit(SPEC, |text| text.replace(&server.url(), &other.url()));
    assert_eq!(run(&project, &[]).ok().json()["tasks"]["ran"], 0);
    assert_eq!(other.count(), 0);
    let verified = project.fracture(&["verify", SPEC, "--json"]).ok().json();
    let of = |name: &str| {
        verified
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["task"] == name)
            .unwrap()["agreement"]
            .clone()
    };
    assert_eq!((of("answers"), of("prompts")), (json!("unverifiable"), json!("bits")));
    assert_eq!(other.count(), 0);
}

#[test]
fn greedy_requests_have_no_seed_and_log_probabilities_are_kept() {
    let server = Server::good();
    let project = project(&server.url(), "", "temperature: 0, logprobs: true, stop: ['(']", 1);
    run(&project, &[]).ok();
    let body = &server.seen()[0].body;
    assert_eq!(
        (&body["temperature"], body.get("seed"), &body["logprobs"]),
        (&json!(0.0), None, &json!(true))
    );
    assert_eq!(body["stop"], json!(["("]));
    let row = &rows(&project)[0];
    assert_eq!(
        row["completion"], "I heard: 11 ",
        "cut at the stop string, whatever the server does"
    );
    assert_eq!(
        (&row["token_logprobs"].as_array().unwrap().len(), &row["logprob"]),
        (&4, &json!(-2.0))
    );
    // Completions: the messages' texts, joined.
    let mut spec = fs::read_to_string(project.path(SPEC)).unwrap();
    spec = spec.replace("logprobs: true", "logprobs: true, chat: false, system: 'Be brief.'");
    project.write(SPEC, &spec);
    run(&project, &[]).ok();
    let seen = &server.seen()[1];
    assert_eq!(
        (seen.path.as_str(), &seen.body["prompt"]),
        ("/v1/completions", &json!("Be brief.\n\nQuestion 0?"))
    );
    assert_eq!(
        (&seen.body["logprobs"], &rows(&project)[0]["logprob"]),
        (&json!(1), &json!(-2.0))
    );
}

#[test]
fn a_server_that_counts_no_tokens_is_not_free_of_charge() {
    let server = Server::start(|seen, _| {
        let mut said = answer(seen);
        said["usage"] = Value::Null;
        Reply::Json(200, said)
    });
    let project = project(&server.url(), ", price: { input: 1, output: 2 }", "temperature: 0", 3);
    let ran = Ran::of(&mut project.command(&["run", SPEC])).ok();
    assert!(
        ran.stderr
            .contains("says of 3 rows not how many tokens they took: what they cost is not known"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("cost 0"), "{}", ran.stderr);
    assert!(rows(&project)[0]["prompt_tokens"].is_null());
}

#[test]
fn an_empty_list_of_log_probabilities_is_none() {
    let server = Server::start(|seen, _| {
        let mut said = answer(seen);
        said["choices"][0]["logprobs"] = json!({ "content": [] });
        Reply::Json(200, said)
    });
    let project = project(&server.url(), "", "temperature: 0, logprobs: true", 1);
    let ran = run(&project, &[]).code(1);
    assert!(
        ran.stderr.contains("the server gives no log-probabilities"),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_a_served_model_lacks_is_told_before_anything_is_asked() {
    let server = Server::good();
    let with = |model: &str, decoder: &str| {
        let project = project(&server.url(), model, decoder, 1);
        let ran = project.fracture(&["run", SPEC]).code(2);
        let told = ran
            .stderr
            .lines()
            .filter(|line| line.starts_with("error:") || line.contains("^ "));
        let told: Vec<&str> = told.map(|line| line.trim_matches([' ', '|', '^'])).collect();
        told.join(" / ")
    };
    let told: Vec<String> = [
        ("", "temperature: 1, top_k: 40"),
        ("", "temperature: 1, min_p: 0.1"),
        ("", "repetition_penalty: 1.1"),
        ("", "date: 2026-01-01"),
        ("", "logprobs: 3"),
        (", protocol: chat", "chat: false"),
        (", lacks: [temperature]", "temperature: 0.5"),
        (", lacks: [logprobs]", "logprobs: true"),
        (", extra: { seed: 3 }", "temperature: 0"),
        (", adapter: here", "temperature: 0"),
        (", requests_per_minute: 0", "temperature: 0"),
    ]
    .map(|(model, decoder)| with(model, decoder))
    .to_vec();
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(server.count(), 0);
}

#[test]
fn an_extra_goes_into_the_request_and_into_the_key() {
    let server = Server::good();
    let project = project(
        &server.url(),
        ", extra: { top_k: 40 }, lacks: [seed]",
        "temperature: 1",
        1,
    );
    run(&project, &[]).ok();
    let body = server.seen()[0].body.clone();
    assert_eq!((&body["top_k"], body.get("seed")), (&json!(40), None));
    project.edit(SPEC, |text| text.replace("top_k: 40", "top_k: 41"));
    run(&project, &[]).ok();
    project.edit(SPEC, |text| {
        text.replace("lacks: [seed]", "lacks: [seed], revision: later")
    });
    run(&project, &[]).ok();
    assert_eq!(server.count(), 3);
}

#[test]
fn a_prefill_is_refused_in_a_chat_and_continued_by_completions() {
    let server = Server::good();
    let project = project(&server.url(), "", "temperature: 0", 1);
    project.edit(SPEC, |text| text.replace("deploy: {}", "deploy: { prefill: 'Well,' }"));
    let ran = run(&project, &[]).code(1);
    assert!(
        ran.stderr.contains("can not continue a prefill in a chat"),
        "{}",
        ran.stderr
    );
    assert_eq!(server.count(), 0);
    // With a template that is applied here the text goes over completions.
    project.write(
        "chat.jinja",
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}\
         {% if add_generation_prompt %}<assistant>{% endif %}",
    );
    project.edit(SPEC, |text| {
        text.replace("labels:", "chat_template: chat.jinja, labels:")
    });
    run(&project, &[]).ok();
    assert_eq!(server.seen()[0].body["prompt"], "<user>Question 0?\n<assistant>Well,");
}
