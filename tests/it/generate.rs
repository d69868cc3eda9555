//! Generation from the outside: adapters, log-probabilities, and what is said of a checkpoint that cannot be run.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::project::{Project, count};

const SPEC: &str = "pipelines/own.yaml";

/// A project with the checkpoints of families that belong to the repository, and a pipeline over a base and an adapted
/// model. `tuned` is what is said of the adapted one.
fn project(tuned: &str) -> Project {
    let project = Project::shipped();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/generate/tests/families");
    for folder in ["mistral_windowed", "phi3_fused", "gemma2_capped", "adapters/patterns"] {
        let to = project.path("examples").join(folder);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    let lines = ["Hi", "How do I water roses?", "Count to 254."].map(|prompt| {
        let row = serde_json::json!({ "item": prompt, "prompt": prompt });
        format!("{row}\n")
    });
    project.write("prompts.jsonl", &lines.concat());
    pipeline(&project, tuned, "");
    project
}

fn pipeline(project: &Project, tuned: &str, with: &str) {
    project.write(
        SPEC,
        &format!(
            "version: 1\nname: own\nmodels:\n  base: {{ source: examples/mistral_windowed }}\n  tuned: {{ {tuned} }}\n\
             stages:\n  texts: {{ uses: load, with: {{ path: prompts.jsonl }} }}\n  \
             answers: {{ uses: generate, needs: texts, matrix: {{ model: [base, tuned] }}, \
             with: {{ model: '${{matrix.model}}', max_new_tokens: 8{with} }} }}\n  \
             vectors: {{ uses: embed, needs: texts, matrix: {{ model: [base, tuned] }}, \
             with: {{ model: '${{matrix.model}}', text: prompt }} }}\n"
        ),
    );
}

const TUNED: &str = "source: examples/mistral_windowed, adapter: examples/adapters/patterns";

fn shown(project: &Project, stage: &str) -> Vec<Value> {
    let shown = project.fracture(&["show", SPEC, stage, "--json"]).ok().json();
    shown.as_array().unwrap().clone()
}

#[test]
fn an_adapter_is_part_of_its_model_and_of_its_key() {
    let project = project(TUNED);
    let first = project.fracture(&["run", SPEC, "--json"]).ok().json();
    assert_eq!(count(&first, "rows", "generated"), 6, "{first}");
    for (stage, column) in [("answers", "tokens"), ("vectors", "embedding")] {
        let rows = shown(&project, stage);
        let (base, tuned): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| row["model"] == "base");
        assert_eq!((base.len(), tuned.len()), (3, 3), "{stage}");
        for (base, tuned) in base.iter().zip(tuned) {
            assert_ne!(base[column], tuned[column], "{stage}");
        }
    }
    let why = project.fracture(&["why", SPEC, "answers[model=tuned]"]).ok();
    assert!(why.stdout.contains("adapter_config"), "{}", why.stdout);
    project.edit("examples/adapters/patterns/adapter_config.json", |text| {
        text.replace("\"lora_alpha\": 12", "\"lora_alpha\": 24")
    });
    let again = project.fracture(&["run", SPEC, "--json"]).ok().json();
    assert_eq!(count(&again, "rows", "generated"), 3, "the base is as it was: {again}");
}

#[test]
fn the_most_probable_tokens_are_kept_for_every_reader() {
    let project = project(TUNED);
    pipeline(&project, TUNED, ", logprobs: 3");
    project.fracture(&["run", SPEC]).ok();
    for row in shown(&project, "answers") {
        let list = |name: &str| row[name].as_array().unwrap().clone();
        let (tokens, chosen) = (list("tokens"), list("token_logprobs"));
        let (ids, logprobs) = (list("top_tokens"), list("top_logprobs"));
        assert_eq!((ids.len(), logprobs.len()), (3 * tokens.len(), 3 * tokens.len()));
        for (place, (token, chosen)) in tokens.iter().zip(chosen).enumerate() {
            // Greedy: what was chosen is the most probable one.
            assert_eq!((&ids[3 * place], &logprobs[3 * place]), (token, &chosen));
            let number = |at: usize| logprobs[3 * place + at].as_f64().unwrap();
            assert!(number(0) >= number(1) && number(1) >= number(2));
        }
    }
    project
        .fracture(&["export", SPEC, "answers", "--to", "out.parquet"])
        .ok();
    for wrong in ["0", "many", "-1"] {
        pipeline(&project, TUNED, &format!(", logprobs: {wrong}"));
        let refused = project.fracture(&["run", SPEC]).code(2);
        let wanted = "expected `true` or `false` or a whole number";
        assert!(refused.stderr.contains(wanted), "{wrong}: {}", refused.stderr);
    }
}

#[test]
fn what_a_model_cannot_be_is_told_before_anything_runs() {
    let project = project(TUNED);
    let cases = [
        (
            "source: examples/phi3_fused, adapter: examples/adapters/patterns",
            "it was made for `mistral_windowed`",
        ),
        (
            "source: examples/mistral_windowed, adapter: examples/prompts",
            "adapter_config.json is missing",
        ),
        (
            "source: examples/mistral_windowed, dtype: int8",
            "dtype is f32, f16 or bf16",
        ),
        ("source: examples/mistral_windowed, dtype: bf16", "is stored as F16"),
    ];
    for (tuned, wanted) in cases {
        pipeline(&project, tuned, "");
        let plan = project.fracture(&["plan", SPEC]);
        assert_ne!(plan.code, 0, "{tuned}");
        assert!(plan.stderr.contains(wanted), "{tuned}: {}", plan.stderr);
    }
    pipeline(&project, "source: examples/mistral_windowed, dtype: f16", "");
    project.fracture(&["plan", SPEC]).ok();
    project.edit("examples/gemma2_capped/config.json", |text| {
        text.replacen('{', "{\"logits_scaling\": 8.0,", 1)
    });
    pipeline(&project, "source: examples/gemma2_capped", "");
    let plan = project.fracture(&["plan", SPEC]);
    assert!(plan.stderr.contains("logits_scaling"), "{}", plan.stderr);
}
