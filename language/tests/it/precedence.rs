//! What wins over what: include < file < profiles from left to right < `--set`; `defaults` < a stage's own parameters.

use fracture_language::{Diagnostics, Pipeline};
use serde_json::{Value, json};

use crate::{compile, compile_with};

fn with<'a>(pipeline: &'a Pipeline, task: &str) -> &'a Value {
    let found = pipeline.tasks.iter().find(|one| one.name == task);
    &found.unwrap_or_else(|| panic!("no task {task}")).with
}

fn sound(result: Result<Pipeline, Diagnostics>) -> Pipeline {
    result.unwrap_or_else(|wrong| panic!("{wrong}"))
}

const DEFAULTS: &str = "version: 1
models: { a: { source: m } }
defaults:
  generate: { max_new_tokens: 64, seed: 3, decoder: { temperature: 0.7, top_p: 0.9 }, stop: [x, y] }
  judge: { unsafe: [comply], text: prompt }
stages:
  prompts: { uses: prompt, with: { pools: { s: { path: p } }, regimes: { deploy: {} } } }
  plain: { uses: generate, needs: prompts, with: { model: a } }
  own: { uses: generate, needs: prompts, with: { model: a, seed: 4, decoder: { temperature: 0.2 }, stop: [z] } }
  without: { uses: generate, needs: prompts, with: { model: a, seed: null, decoder: { top_p: null } } }
  judged: { uses: judge, needs: plain, with: { model: j, text: completion } }
";

#[test]
fn defaults_fill_what_a_stage_does_not_say() {
    let pipeline = sound(compile(DEFAULTS));
    let decoder = json!({ "temperature": 0.7, "top_p": 0.9 });
    assert_eq!(
        *with(&pipeline, "plain"),
        json!({ "max_new_tokens": 64, "seed": 3, "decoder": decoder, "stop": ["x", "y"], "model": "a" })
    );
}

#[test]
fn a_stage_wins_over_defaults_maps_merge_lists_replace_and_null_removes() {
    let pipeline = sound(compile(DEFAULTS));
    assert_eq!(
        *with(&pipeline, "own"),
        json!({
            "max_new_tokens": 64, "seed": 4, "decoder": { "temperature": 0.2, "top_p": 0.9 }, "stop": ["z"], "model": "a"
        })
    );
    assert_eq!(
        *with(&pipeline, "without"),
        json!({ "max_new_tokens": 64, "decoder": { "temperature": 0.7 }, "stop": ["x", "y"], "model": "a" })
    );
    let judged = json!({ "unsafe": ["comply"], "text": "completion", "model": "j" });
    assert_eq!(
        *with(&pipeline, "judged"),
        judged,
        "defaults are those of the stage's own kind"
    );
}

#[test]
fn defaults_take_vars_and_matrix_variables_and_are_checked() {
    let text = DEFAULTS
        .replace("seed: 3", "seed: '${vars.seed}'")
        .replace("models:", "vars: { seed: 11 }\nmodels:")
        .replace("max_new_tokens: 64", "max_new_tokens: '${matrix.tokens}'")
        .replace(
            "plain: { uses: generate,",
            "plain: { uses: generate, matrix: { tokens: [5] },",
        )
        .replace("  own: ", "  x-own: ")
        .replace("  without: ", "  x-without: ");
    let pipeline = sound(compile(&text));
    let plain = with(&pipeline, "plain[tokens=5]");
    assert_eq!((&plain["seed"], &plain["max_new_tokens"]), (&json!(11), &json!(5)));

    let told = |text: &str| compile(text).map(|_| ()).unwrap_err().to_string();
    let wrong = told(&DEFAULTS.replace("seed: 3", "sed: 3"));
    assert!(
        wrong.contains("unknown key `sed`") && wrong.contains("defaults") || wrong.contains("sed: 3"),
        "{wrong}"
    );
    assert!(told(&DEFAULTS.replace("  judge: {", "  juge: {")).contains("unknown stage kind `juge`"));
}

#[test]
fn profiles_and_sets_change_defaults() {
    let text = format!(
        "{DEFAULTS}profiles:\n  one: {{ defaults: {{ generate: {{ seed: 21, max_new_tokens: 1 }} }} }}\n  \
         two: {{ defaults: {{ generate: {{ seed: 22 }} }} }}\n"
    );
    let seed = |profiles: &[&str], sets: &[&str], task: &str| {
        let pipeline = sound(compile_with(&text, profiles, sets));
        (
            with(&pipeline, task)["seed"].clone(),
            with(&pipeline, task)["max_new_tokens"].clone(),
        )
    };
    assert_eq!(seed(&[], &[], "plain"), (json!(3), json!(64)));
    assert_eq!(
        seed(&["one", "two"], &[], "plain"),
        (json!(22), json!(1)),
        "the right one wins"
    );
    assert_eq!(seed(&["two", "one"], &[], "plain"), (json!(21), json!(1)));
    let set = ["defaults.generate.seed=31"];
    assert_eq!(
        seed(&["one", "two"], &set, "plain"),
        (json!(31), json!(1)),
        "--set wins over profiles"
    );
    assert_eq!(
        seed(&["one"], &set, "own"),
        (json!(4), json!(1)),
        "a stage wins over defaults, wherever they come from"
    );
    let sets = ["vars.x=1", "vars.x=2"];
    let text = "version: 1\nvars: { x: 0 }\nstages:\n  a: { uses: query, with: { sql: 'select ${vars.x}' } }\n";
    let pipeline = sound(compile_with(text, &[], &sets));
    assert_eq!(with(&pipeline, "a")["sql"], json!("select 2"), "the last --set wins");
}

/// The included files say: `base.yml` x 1, y 1, list [1]; `over.yml`, which is included after it, y 2, z 2.
const INCLUDING: &str = "version: 1
include: [parts/base.yml, parts/over.yml]
vars: { z: 3 }
stages:
  a: { uses: query, with: { sql: '${vars.x} ${vars.y} ${vars.z} ${vars.w}' } }
profiles:
  p: { vars: { x: 4, w: null } }
";

#[test]
fn an_include_lies_below_the_file_and_a_later_one_over_an_earlier_one() {
    let sql = |profiles: &[&str], sets: &[&str]| {
        compile_with(INCLUDING, profiles, sets).map(|pipeline| with(&pipeline, "a")["sql"].clone())
    };
    assert_eq!(sql(&[], &[]).unwrap(), json!("1 2 3 1"));
    let removed = sql(&["p"], &[]).unwrap_err().to_string();
    assert!(
        removed.contains("`${vars.w}` is not defined"),
        "a profile's null removes: {removed}"
    );
    assert_eq!(
        sql(&["p"], &["vars={\"x\": 5, \"y\": 5, \"z\": 5, \"w\": 5}"]).unwrap(),
        json!("5 5 5 5")
    );
    let pipeline = sound(compile(INCLUDING));
    let included = with(&pipeline, "included");
    assert_eq!(included["path"], json!("over.csv"), "stages of includes merge, too");
    assert_eq!(included["keys"], json!(["b"]), "and lists replace");
}

#[test]
fn the_timeout_of_a_stage_is_the_parameter_of_its_kind() {
    let text = |stage: &str, defaults: &str| {
        format!("version: 1\ndefaults: {{ command: {{ {defaults} }} }}\nstages:\n  a: {{ uses: command, {stage} }}\n")
    };
    let timeout = |stage: &str, defaults: &str| with(&sound(compile(&text(stage, defaults))), "a")["timeout"].clone();
    assert_eq!(timeout("timeout: 2m, with: { run: [x] }", ""), json!(120.0));
    assert_eq!(timeout("timeout: 5, with: { run: [x] }", "timeout: 60"), json!(5.0));
    assert_eq!(timeout("with: { run: [x] }", "timeout: 60"), json!(60));
}
