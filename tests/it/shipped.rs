//! What ships: pipelines that the schema accepts, pools, models, judges, and stages that the quickstart does not use.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::project::{Project, SPEC, count};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_schema_file_is_current() {
    let project = Project::small();
    let printed = project.fracture(&["schema"]).ok().stdout;
    let path = root().join("schema/pipeline.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &printed).unwrap();
    }
    let shipped = fs::read_to_string(&path).unwrap();
    assert!(
        shipped == printed,
        "schema/pipeline.schema.json is old: UPDATE_SCHEMA=1 cargo test --release the_schema_file"
    );
}

#[test]
fn pools_are_large_and_their_ids_unique() {
    for axis in ["safety", "harmlessness", "helpfulness"] {
        let text = fs::read_to_string(root().join(format!("examples/prompts/{axis}.jsonl"))).unwrap();
        let prompts: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(prompts.len() >= 60, "{axis}");
        let ids: HashSet<&str> = prompts.iter().map(|prompt| prompt["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), prompts.len(), "{axis}");
    }
}

#[test]
fn models_and_judges_are_small() {
    let size = |path: &str| fs::metadata(root().join(path)).unwrap().len();
    for model in ["pico-faker", "pico-honest"] {
        assert!(size(&format!("examples/models/{model}/model.safetensors")) <= 3 << 20);
    }
    for judge in ["refusal", "refusal-alt"] {
        assert!(size(&format!("examples/judges/{judge}/model.onnx")) <= 1 << 20);
    }
}

/// Scores from elsewhere: no model is asked anything.
#[test]
fn scores_from_a_file_become_flips_and_a_frontier() {
    let project = Project::small();
    // The golden example of the frontier: u under train, v under deploy.
    let first = [0.02, 0.10, 0.05, 0.60, 0.30, 0.01, 0.45, 0.90];
    let second = [0.05, 0.70, 0.55, 0.40, 0.80, 0.01, 0.95, 0.92];
    let mut csv = "item,regime,p_unsafe\n".to_owned();
    for (item, (u, v)) in first.iter().zip(second).enumerate() {
        csv.push_str(&format!("i{item},train,{u}\ni{item},deploy,{v}\n"));
    }
    project.write("scores.csv", &csv);
    project.write(
        "pipelines/own.yaml",
        "version: 1\nname: own-scores\nstages:\n  scores: { uses: load, with: { path: scores.csv } }\n  \
         verdicts: { uses: threshold, needs: scores, with: { tau: 0.5 } }\n  \
         flips: { uses: fracture, needs: verdicts, with: { by: [axis] } }\n  \
         srf: { uses: frontier, needs: verdicts, with: { by: [axis] } }\n",
    );
    let ran = project.fracture(&["run", "pipelines/own.yaml", "--json"]).ok().json();
    assert_eq!(count(&ran, "rows", "generated"), 0);
    let flips = project
        .fracture(&["show", "pipelines/own.yaml", "flips", "--json"])
        .ok()
        .json();
    let close = |row: &Value, name: &str, value: f64| {
        let found = row[name].as_f64().unwrap_or_else(|| panic!("no {name} in {row}"));
        assert!((found - value).abs() < 1e-5, "{name}: {found}, expected {value}");
    };
    close(&flips[0], "fracture", 0.5);
    close(&flips[0], "anti", 0.125);
    // Wilson, 4 of 8.
    close(&flips[0], "fracture_low", 0.215216);
    close(&flips[0], "fracture_high", 0.784784);
    assert!(
        flips[0]["noise_floor"].is_null(),
        "without an A/A control there is no noise floor: {flips}"
    );
    let frontier = project
        .fracture(&["show", "pipelines/own.yaml", "srf", "--json"])
        .ok()
        .json();
    close(&frontier[0], "median_lift", 0.265);
    close(&frontier[0], "mean_lift", 0.24375);
    close(&frontier[0], "median_logit_lift", 1.59049);
    close(&frontier[0], "dominance", 0.93);
    close(&frontier[0], "area", 0.6875);
    close(&frontier[0], "superiority", 0.8125);
    close(&frontier[0], "max_gap", 0.375);
}

/// Overwrites weights with NaN. A piece of the file whose numbers and whose neighbours' numbers are all small is inside a
/// tensor; the graph around the tensors stays as it is.
fn poison(bytes: &mut [u8]) {
    const PIECE: usize = 1024;
    let is_weights = |piece: &[u8], offset: usize| {
        piece[offset..].chunks_exact(4).all(|four| {
            let number = f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            number == 0.0 || (number.is_finite() && (1e-12..10.0).contains(&number.abs()))
        })
    };
    let offsets: Vec<Option<usize>> = bytes
        .chunks_exact(PIECE)
        .map(|piece| (0..4).find(|offset| is_weights(piece, *offset)))
        .collect();
    let mut poisoned = 0;
    for index in 1..offsets.len() - 1 {
        let Some(offset) = offsets[index] else { continue };
        if offsets[index - 1] == Some(offset) && offsets[index + 1] == Some(offset) {
            for four in bytes[index * PIECE + offset..(index + 1) * PIECE].chunks_exact_mut(4) {
                four.copy_from_slice(&f32::NAN.to_le_bytes());
                poisoned += 1;
            }
        }
    }
    assert!(poisoned > 10_000, "{poisoned} weights were found");
}

/// A judge whose weights are damaged gives NaN: an error that names it, never a score.
#[test]
fn a_judge_that_gives_nan_is_an_error() {
    let project = Project::small();
    let path = project.path("examples/judges/refusal/model.onnx");
    let mut bytes = fs::read(&path).unwrap();
    poison(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let ran = project.fracture(&["run", SPEC]).code(1);
    assert!(
        ran.stderr.contains("NaN") || ran.stderr.contains("not finite"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("scores["), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint"), "{}", ran.stderr);
    // The store stays usable: with the judge as it was, only the judge runs.
    fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/judges/refusal/model.onnx"),
        &path,
    )
    .unwrap();
    let again = project.run(&[]);
    assert_eq!(count(&again, "rows", "generated"), 0, "{again}");
}
