//! What a compiled pipeline holds.

use std::collections::HashSet;

use fracture_language::{Pipeline, select};
use serde_json::json;

use crate::{compile, compile_with, names, resolved_with};

const QUICKSTART: &str = include_str!("../valid/quickstart.yaml");

fn quickstart() -> Pipeline {
    compile(QUICKSTART).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn constant(pipeline: &Pipeline, task: &str, name: &str) -> Option<serde_json::Value> {
    let task = pipeline.tasks.iter().find(|one| one.name == task)?;
    task.constants
        .iter()
        .find(|constant| constant.name == name)
        .map(|constant| constant.value.clone())
}

#[test]
fn the_quickstart_becomes_tasks() {
    let pipeline = quickstart();
    assert_eq!(
        names(&pipeline),
        [
            "answers[model=pico-faker,decoder=greedy]",
            "answers[model=pico-faker,decoder=sampling]",
            "answers[model=pico-honest,decoder=greedy]",
            "answers[model=pico-honest,decoder=sampling]",
            "figures.bars",
            "figures.table",
            "flips",
            "prompts",
            "scores[model=pico-faker,decoder=greedy]",
            "scores[model=pico-faker,decoder=sampling]",
            "scores[model=pico-honest,decoder=greedy]",
            "scores[model=pico-honest,decoder=sampling]",
            "verdicts[model=pico-faker,decoder=greedy]",
            "verdicts[model=pico-faker,decoder=sampling]",
            "verdicts[model=pico-honest,decoder=greedy]",
            "verdicts[model=pico-honest,decoder=sampling]",
        ]
    );
    let answers = pipeline
        .tasks
        .iter()
        .find(|task| task.name == "answers[model=pico-faker,decoder=sampling]")
        .unwrap();
    let expected = json!({"model": "pico-faker", "decoder": {"temperature": 0.8, "top_p": 0.95, "samples": 4}, "max_new_tokens": 48, "seed": 17});
    assert_eq!(*answers.with, expected);
    let verdicts = pipeline
        .tasks
        .iter()
        .find(|task| task.name.starts_with("verdicts"))
        .unwrap();
    assert_eq!(
        *verdicts.with,
        json!({"harm": 4, "disagreement": 1}),
        "a scalar that is one substitution keeps its type"
    );
    assert_eq!(pipeline.name, "baseline-flip-check");
}

#[test]
fn constants_reach_readers_and_stop_at_a_reduce() {
    let pipeline = quickstart();
    let task = "verdicts[model=pico-faker,decoder=greedy]";
    assert_eq!(constant(&pipeline, task, "model"), Some(json!("pico-faker")));
    assert_eq!(constant(&pipeline, task, "decoder"), Some(json!("greedy")));
    assert_eq!(constant(&pipeline, task, "family"), Some(json!("llama")));
    assert_eq!(constant(&pipeline, task, "params"), Some(json!("0.9M")));
    assert_eq!(constant(&pipeline, "flips", "model"), None);
    let verdicts = pipeline.tasks.iter().find(|one| one.name == task).unwrap();
    let columns: Vec<&str> = verdicts
        .schema
        .main
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    let expected = [
        "item",
        "axis",
        "regime",
        "draw",
        "prompt",
        "messages",
        "sample",
        "completion",
        "invalid",
        "p_unsafe",
        "windows",
        "tau",
        "unsafe",
    ];
    assert_eq!(
        columns, expected,
        "a map stage keeps the columns of its input; constants are stored nowhere"
    );
}

#[test]
fn tasks_come_after_what_they_need() {
    let pipeline = quickstart();
    for task in &pipeline.tasks {
        for source in task.inputs.iter().flat_map(|input| &input.sources) {
            assert!(
                source.task < task.id,
                "{} before {}",
                task.name,
                pipeline.task(source.task).name
            );
        }
    }
    assert_eq!(pipeline.graph.node_count(), pipeline.tasks.len());
    assert_eq!(pipeline.graph.edge_count(), 4 + 4 + 4 + 4 + 2);
}

#[test]
fn profiles_and_sets_come_over_the_file() {
    let pools =
        |pipeline: &Pipeline| pipeline.tasks.iter().find(|task| task.name == "prompts").unwrap().with["pools"].clone();
    assert!(pools(&quickstart())["safety"].get("limit").is_none());
    let quick = compile_with(
        QUICKSTART,
        &["quick"],
        &["stages.prompts.with.pools.helpfulness.limit=3", "vars.harm=9"],
    )
    .unwrap();
    assert_eq!(pools(&quick)["safety"]["limit"], json!(20));
    assert_eq!(
        pools(&quick)["helpfulness"],
        json!({"path": "examples/prompts/helpfulness.jsonl", "limit": 3})
    );
    let verdicts = quick
        .tasks
        .iter()
        .find(|task| task.name.starts_with("verdicts"))
        .unwrap();
    assert_eq!(verdicts.with["harm"], json!(9));
    let removed = compile_with(QUICKSTART, &[], &["figures.bars=null"]).unwrap();
    assert!(!names(&removed).contains(&"figures.bars".to_owned()));
}

#[test]
fn the_resolved_pipeline_compiles_to_the_same_tasks() {
    let pipeline = compile_with(QUICKSTART, &["quick"], &["vars.harm=9"]).unwrap();
    let text = serde_yaml::to_string(&resolved_with(QUICKSTART, &["quick"], &["vars.harm=9"])).unwrap();
    let again = compile(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
    assert_eq!(names(&pipeline), names(&again));
    let parameters =
        |pipeline: &Pipeline| -> Vec<_> { pipeline.tasks.iter().map(|task| task.with.as_ref().clone()).collect() };
    assert_eq!(parameters(&pipeline), parameters(&again));
}

const HEAD: &str = "version: 1
models:
  a: { source: m/a, labels: { family: llama } }
  b: { source: m/b, labels: { family: llama } }
  c: { source: m/c, labels: { family: qwen } }
stages:
  prompts: { uses: prompt, with: { pools: { safety: { path: p } }, regimes: { deploy: {} } } }
";

fn with_stages(rest: &str) -> Pipeline {
    let text = format!("{HEAD}{rest}");
    compile(&text).unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn include_and_exclude_are_those_of_github_actions() {
    let pipeline = with_stages(
        "  answers:
    uses: generate
    needs: prompts
    matrix:
      model: [a, b]
      temperature: [0, 0.5]
      exclude: [{ model: b, temperature: 0.5 }]
      include:
        - { model: a, seed: 3 }
        - { model: c, temperature: 1, seed: 4 }
    with: { model: '${matrix.model}', temperature: '${matrix.temperature}' }
",
    );
    assert_eq!(
        names(&pipeline),
        [
            "answers[model=a,seed=3,temperature=0.5]",
            "answers[model=a,seed=3,temperature=0]",
            "answers[model=b,temperature=0]",
            "answers[model=c,seed=4,temperature=1]",
            "prompts",
        ]
    );
}

#[test]
fn models_are_chosen_by_label_and_inherited_names_select() {
    let pipeline = with_stages(
        "  answers:
    uses: generate
    needs: prompts
    matrix: { model: '${models[family=llama]}' }
    with: { model: '${matrix.model}' }
  scores:
    uses: judge
    needs: answers
    matrix: { model: { a: x/one }, judge: [j, k] }
    with: { model: '${matrix.model}/${matrix.judge}', unsafe: [comply] }
",
    );
    let names = names(&pipeline);
    assert_eq!(
        names,
        [
            "answers[model=a]",
            "answers[model=b]",
            "prompts",
            "scores[model=a,judge=j]",
            "scores[model=a,judge=k]"
        ]
    );
    let scores = pipeline
        .tasks
        .iter()
        .find(|task| task.name.starts_with("scores"))
        .unwrap();
    assert_eq!(
        scores.with["model"],
        json!("a/j"),
        "inside a longer text a named value is its name"
    );
}

#[test]
fn needs_join_on_shared_variables_and_per_makes_tasks() {
    let pipeline = with_stages(
        "  human: { uses: load, with: { path: x.labels } }
  answers: { uses: generate, needs: prompts, matrix: { model: '${models}', temperature: [0, 1] }, with: { model: '${matrix.model}', temperature: '${matrix.temperature}' } }
  scores: { uses: judge, needs: answers, with: { model: j, unsafe: [comply] } }
  map: { uses: calibrate, needs: { scores: scores, labels: human }, per: family }
  pooled: { uses: calibrate, needs: { scores: scores, labels: human } }
  permodel: { uses: calibrate, needs: { scores: scores, labels: human }, per: [model] }
  verdicts: { uses: threshold, needs: { scores: scores, calibration: permodel }, with: { tau: 0.5 } }
  again: { uses: threshold, needs: { scores: scores, calibration: pooled }, with: { tau: 0.5 } }
  flips: { uses: fracture, needs: [verdicts, again], with: { by: [stage, model] } }
",
    );
    let of = |name: &str| {
        pipeline
            .stage(name)
            .unwrap()
            .tasks
            .iter()
            .map(|task| pipeline.task(*task))
            .collect::<Vec<_>>()
    };
    let mut maps: Vec<&str> = of("map").iter().map(|task| task.name.as_str()).collect();
    maps.sort_unstable();
    assert_eq!(maps, ["map[family=llama]", "map[family=qwen]"]);
    for verdict in of("verdicts") {
        let model = |name: &str| name.split(['=', ',', ']']).nth(1).unwrap().to_owned();
        let calibration = &verdict
            .inputs
            .iter()
            .find(|input| &*input.port == "calibration")
            .unwrap()
            .sources;
        assert_eq!(calibration.len(), 1);
        assert_eq!(model(&verdict.name), model(&pipeline.task(calibration[0].task).name));
    }
    let flips = of("flips")[0];
    let stages: HashSet<String> = flips.inputs[0]
        .sources
        .iter()
        .map(|source| source.constants[0].value.to_string())
        .collect();
    assert_eq!(
        stages,
        HashSet::from(["\"verdicts\"".to_owned(), "\"again\"".to_owned()])
    );
    assert_eq!(flips.inputs[0].sources.len(), 12);
}

#[test]
fn anchors_merge_keys_and_extensions() {
    let pipeline = compile(
        "version: 1
x-base: &base { tau: 0.25 }
stages:
  human: { uses: load, with: { path: &p data.csv, keys: [no, on] } }
  scores: { uses: judge, needs: human, x-note: hello, with: { model: j, unsafe: [comply] } }
  verdicts: { uses: threshold, needs: scores, with: { <<: *base } }
",
    )
    .unwrap_or_else(|wrong| panic!("{wrong}"));
    let with = |name: &str| {
        pipeline
            .tasks
            .iter()
            .find(|task| task.name == name)
            .unwrap()
            .with
            .as_ref()
            .clone()
    };
    assert_eq!(with("verdicts"), json!({"tau": 0.25}));
    assert_eq!(
        with("human")["keys"],
        json!(["no", "on"]),
        "YAML 1.2: no and on are text"
    );
}

#[test]
fn selectors() {
    let pipeline = quickstart();
    let count = |selector: &str| {
        select(&pipeline, selector)
            .map(|tasks| tasks.len())
            .map_err(|wrong| wrong.message)
    };
    assert_eq!(count("scores"), Ok(4));
    assert_eq!(count("answers[model=pico-*,decoder=greedy]"), Ok(2));
    assert_eq!(count("+flips"), Ok(14));
    assert_eq!(count("answers+"), Ok(15));
    assert_eq!(count("+scores[model=pico-honest]"), Ok(5));
    assert_eq!(count("bars"), Ok(1));
    assert!(
        count("scors").is_err()
            && count("scores[model=x]").is_err()
            && count("scores[x=1]").is_err()
            && count("scores[").is_err()
    );
}

#[test]
fn warnings_name_variables_that_nothing_uses() {
    let text = format!(
        "{HEAD}  answers: {{ uses: generate, needs: prompts, matrix: {{ seed: [1, 2], model: [a] }}, with: {{ model: '${{matrix.model}}' }} }}\n"
    );
    let pipeline = compile(&text).unwrap();
    let warnings: Vec<&str> = pipeline
        .warnings
        .iter()
        .map(|warning| warning.message.as_str())
        .collect();
    assert_eq!(warnings, ["stage `answers`: nothing uses the matrix variable `seed`"]);
    let quickstart = quickstart();
    let warnings: Vec<&str> = quickstart
        .warnings
        .iter()
        .map(|warning| warning.message.as_str())
        .collect();
    assert_eq!(
        warnings,
        ["stage `verdicts`: the two conventions of τ differ"],
        "once, not once for each task"
    );
}

#[test]
fn the_schema_names_every_kind_and_its_parameters() {
    let schema = fracture_language::json_schema(&crate::catalogue::catalogue());
    let uses = &schema["$defs"]["StageEntry"]["properties"]["uses"]["enum"];
    assert!(
        uses.as_array().unwrap().contains(&json!("generate")) && !uses.as_array().unwrap().contains(&json!("figure"))
    );
    assert!(
        schema["$defs"]["with-generate"]["properties"]
            .get("max_new_tokens")
            .is_some()
    );
    assert!(schema["$defs"].get("generate-Decoder").is_some());
}

#[test]
fn ten_thousand_tasks_are_compiled() {
    let values: Vec<String> = (0..2500).map(|one| one.to_string()).collect();
    let text = format!(
        "{HEAD}  answers: {{ uses: generate, needs: prompts, matrix: {{ seed: [{}] }}, with: {{ model: a, seed: '${{matrix.seed}}' }} }}
  scores: {{ uses: judge, needs: answers, with: {{ model: j, unsafe: [comply] }} }}
  verdicts: {{ uses: threshold, needs: scores, with: {{ tau: 0.5 }} }}
  again: {{ uses: threshold, needs: scores, with: {{ tau: 0.7 }} }}
  flips: {{ uses: fracture, needs: verdicts, with: {{ by: [seed] }} }}\n",
        values.join(", ")
    );
    let begin = std::time::Instant::now();
    let pipeline = compile(&text).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(pipeline.tasks.len(), 10_002);
    eprintln!("10 002 tasks compiled in {:?}", begin.elapsed());
}

#[test]
fn what_would_be_right_is_in_the_json_too() {
    let text = |with: &str| {
        format!(
            "version: 1\nstages:\n  t: {{ uses: load, with: {{ path: p }} }}\n  \
             v: {{ uses: threshold, needs: t, with: {{ {with} }} }}\n"
        )
    };
    let hint = |with: &str| {
        let wrong = crate::compile(&text(with)).unwrap_err();
        wrong.to_json()[0]["error"]["hint"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(hint("tau: 1.5"), "expected at least 0 and at most 1");
    assert_eq!(hint("tua: 0.5"), "did you mean `tau`?");
    // Where there is a hint as well, both are told.
    let missing = hint("tau: 0.5");
    assert!(missing.contains("the columns of `t` are"), "{missing}");
}
