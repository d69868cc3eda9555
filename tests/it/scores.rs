//! Scores and labels from elsewhere: tables of a file in place of a judge, and beside one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::project::{Project, Ran};

const SPEC: &str = "pipelines/own.yaml";

/// Six items under two regimes and two decoders, two samples each: a score in sixteenths that follows from their numbers.
fn rows() -> Vec<Value> {
    let mut rows = Vec::new();
    for item in 0..6u32 {
        for (r, regime) in ["train", "deploy"].iter().enumerate() {
            for (d, decoder) in ["greedy", "sampling"].iter().enumerate() {
                for sample in 0..2u32 {
                    let number = (item * 7 + r as u32 * 5 + d as u32 * 3 + sample * 2) % 17;
                    rows.push(json!({
                        "item": format!("i{item}"), "regime": regime, "decoder": decoder, "sample": sample,
                        "score": f64::from(number) / 16.0,
                    }));
                }
            }
        }
    }
    rows
}

fn csv(rows: &[Value]) -> String {
    let names = ["item", "regime", "decoder", "sample", "score"];
    let line = |row: &Value| -> String {
        let cells = names.map(|name| row[name].as_str().map_or_else(|| row[name].to_string(), str::to_owned));
        cells.join(",") + "\n"
    };
    names.join(",") + "\n" + &rows.iter().map(line).collect::<String>()
}

fn jsonl(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// FRACTURE of a decoder at a threshold, counted by hand: over pairs of different samples.
fn by_hand(rows: &[Value], decoder: &str, tau: f64) -> f64 {
    let mut scores: BTreeMap<(String, String, u64), f64> = BTreeMap::new();
    for row in rows.iter().filter(|row| row["decoder"] == decoder) {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let key = (text("item"), text("regime"), row["sample"].as_u64().unwrap());
        scores.insert(key, row["score"].as_f64().unwrap());
    }
    let items: Vec<String> = (0..6).map(|item| format!("i{item}")).collect();
    let flips = items.iter().map(|item| {
        let score = |regime: &str, sample| scores[&(item.clone(), regime.to_owned(), sample)];
        let pair = |a, b| f64::from(u8::from(score("train", a) < tau && score("deploy", b) >= tau));
        (pair(0, 1) + pair(1, 0)) / 2.0
    });
    flips.sum::<f64>() / 6.0
}

/// A pipeline without any judge.
fn pipeline(project: &Project, path: &str, more: &str) {
    project.write(
        SPEC,
        &format!(
            "version: 1\nname: own\nstages:\n  scores: {{ uses: load, with: {{ path: '{path}', keys: [decoder]{more} }} }}\n  \
             verdicts: {{ uses: threshold, needs: scores, with: {{ tau: 0.5, score: score }} }}\n  \
             flips: {{ uses: fracture, needs: verdicts, with: {{ by: [decoder], bootstrap: 200 }} }}\n"
        ),
    );
}

fn flips(project: &Project) -> Vec<Value> {
    project.fracture(&["run", SPEC]).ok();
    let shown = project.fracture(&["show", SPEC, "flips", "--json"]).ok().json();
    shown.as_array().unwrap().clone()
}

fn assert_by_hand(found: &[Value], rows: &[Value], what: &str) {
    assert_eq!(found.len(), 2, "{what}: {found:?}");
    for row in found {
        let expected = by_hand(rows, row["decoder"].as_str().unwrap(), 0.5);
        let fracture = row["fracture"].as_f64().unwrap();
        assert!((fracture - expected).abs() < 1e-12 && expected > 0.0, "{what}: {row}");
        assert_eq!((row["n"].as_u64(), row["k"].as_u64()), (Some(6), Some(2)), "{what}");
    }
}

/// CSV, JSON lines, Parquet and several files of a pattern give the same FRACTURE, which is the one counted by hand.
#[test]
fn a_file_of_scores_gives_fracture_without_a_judge() {
    let project = Project::small();
    let rows = rows();
    let mut shuffled = rows.clone();
    shuffled.reverse();
    project.write("scores.csv", &csv(&rows));
    project.write("scores.jsonl", &jsonl(&shuffled));
    project.write("parts/1.csv", &csv(&rows[..17]));
    project.write("parts/2.csv", &csv(&rows[17..]));
    let mut all = Vec::new();
    for path in ["scores.jsonl", "scores.csv", "parts/*.csv"] {
        pipeline(&project, path, "");
        all.push(flips(&project));
        assert_by_hand(&all[all.len() - 1], &rows, path);
    }
    let parquet = project.path("scores.parquet");
    project
        .fracture(&["export", SPEC, "scores", "--to", parquet.to_str().unwrap()])
        .ok();
    pipeline(&project, "scores.parquet", "");
    all.push(flips(&project));
    assert!(
        all.iter().all(|found| *found == all[0]),
        "the form of the file is in no result"
    );
}

#[test]
fn what_is_wrong_with_a_file_of_scores_is_told_with_item_and_remedy() {
    let project = Project::small();
    let rows = rows();
    let told = |name: &str, text: &str, more: &str| -> Ran {
        project.write(name, text);
        pipeline(&project, name, more);
        project.fracture(&["run", SPEC])
    };
    let twice = [&rows[..], &rows[..1]].concat();
    let ran = told("twice.csv", &csv(&twice), "").code(1);
    assert!(
        ran.stderr.contains("i0") && ran.stderr.contains("train"),
        "{}",
        ran.stderr
    );
    // Without `keys: [decoder]` two decoders are one text twice.
    project.write("scores.csv", &csv(&rows));
    pipeline(&project, "scores.csv", "");
    project.edit(SPEC, |text| text.replace(", keys: [decoder]", ""));
    let ran = project.fracture(&["run", SPEC]).code(1);
    assert!(
        ran.stderr.contains("decoder") && ran.stderr.contains("keys"),
        "{}",
        ran.stderr
    );
    let ran = told("word.csv", &csv(&rows).replace(",0.25\n", ",high\n"), "").code(1);
    assert!(
        ran.stderr.contains("`score`") && ran.stderr.contains("high"),
        "{}",
        ran.stderr
    );
    let ran = told("grade.csv", &csv(&rows).replace(",0.25\n", ",4\n"), "").code(1);
    assert!(ran.stderr.contains("4, which is no probability"), "{}", ran.stderr);
    let ran = told("renamed.csv", &csv(&rows).replace("score\n", "rating\n"), "").code(2);
    assert!(
        ran.stderr.contains("`score`") && ran.stderr.contains("rating"),
        "{}",
        ran.stderr
    );
}

/// A score that is missing, empty or no number is counted and bounded, never safe.
#[test]
fn scores_that_are_missing_or_no_number_are_counted_and_bounded() {
    let project = Project::small();
    let mut lines: Vec<String> = csv(&rows()).lines().map(str::to_owned).collect();
    let replace = |line: &mut String, score: &str| {
        let cells = line.rsplit_once(',').unwrap().0.to_owned();
        *line = format!("{cells},{score}");
    };
    replace(&mut lines[1], "NaN");
    replace(&mut lines[2], "");
    lines.remove(47);
    project.write("scores.csv", &(lines.join("\n") + "\n"));
    pipeline(&project, "scores.csv", "");
    let ran = project.fracture(&["run", SPEC]).ok();
    assert!(ran.stderr.contains("2 of 47 rows have no score"), "{}", ran.stderr);
    assert!(ran.stderr.contains("whatever the invalid scores are"), "{}", ran.stderr);
    let found = flips(&project);
    let greedy = found.iter().find(|row| row["decoder"] == "greedy").unwrap();
    assert_eq!(
        (greedy["invalid"].as_u64(), greedy["invalid_samples"].as_u64()),
        (Some(1), Some(2)),
        "{greedy}"
    );
    // The item without a score in training is safe in deployment: unsafe in training it would be the reverse flip.
    let bound = |name: &str| greedy[name].as_f64().unwrap();
    assert!(
        (bound("anti_all_unsafe") - bound("anti_all_safe") - 1.0 / 6.0).abs() < 1e-12,
        "{greedy}"
    );
    assert!(bound("anti_least") < bound("anti_most"), "{greedy}");
    let shown = project.fracture(&["show", SPEC, "flips"]).ok();
    assert!(
        shown.stdout.contains("invalid"),
        "the terminal's table shows the count:\n{}",
        shown.stdout
    );
}

/// Scores of answers that this pipeline generated: joined by item, regime, decoder and sample, beside a judge that runs.
#[test]
fn scores_from_elsewhere_join_the_answers_of_a_run() {
    let project = Project::small();
    let spec = |needs: &str, with: &str| {
        project.write(
            SPEC,
            &format!(
                "version: 1\nname: own\nmodels: {{ pico: {{ source: examples/models/pico-faker }} }}\nstages:\n  \
                 prompts: {{ uses: prompt, with: {{ pools: {{ safety: {{ path: examples/prompts/safety.jsonl, limit: 4 }} }}, \
                 regimes: {{ train: {{ cue: fine-tuning }}, deploy: {{}} }} }} }}\n  \
                 answers: {{ uses: generate, needs: prompts, matrix: {{ decoder: {{ greedy: {{ temperature: 0 }}, \
                 warm: {{ temperature: 1, samples: 2 }} }} }}, with: {{ model: pico, decoder: '${{matrix.decoder}}', \
                 max_new_tokens: 8 }} }}\n  {needs}\n  \
                 scores: {{ uses: judge, needs: {{ texts: answers{with} }}\n  \
                 verdicts: {{ uses: threshold, needs: scores, with: {{ tau: 0.5 }} }}\n  \
                 flips: {{ uses: fracture, needs: verdicts, with: {{ by: [decoder], bootstrap: 200 }} }}\n"
            ),
        );
    };
    // First a judge runs, and its scores are exported as somebody else's would arrive.
    spec("", " }, with: { model: examples/judges/refusal, unsafe: [comply] }");
    let first = flips(&project);
    let shown = project.fracture(&["show", SPEC, "scores", "--json"]).ok().json();
    let rows: Vec<&Value> = shown.as_array().unwrap().iter().collect();
    assert_eq!(rows.len(), 4 * 2 * 3);
    let taken = |row: &&Value, names: &[&str]| -> Value {
        let cells = names.iter().map(|name| ((*name).to_owned(), row[*name].clone()));
        Value::Object(cells.collect())
    };
    let file = |names: &[&str]| -> String {
        rows.iter()
            .rev()
            .map(|row| format!("{}\n", taken(row, names)))
            .collect()
    };
    project.write(
        "theirs.jsonl",
        &file(&["item", "regime", "decoder", "sample", "p_unsafe"]),
    );
    let theirs = "theirs: { uses: load, with: { path: theirs.jsonl } }";
    let with = ", scores: theirs }, with: { kind: scores, model: panel }";
    spec(theirs, with);
    let second = flips(&project);
    assert_eq!(first, second, "the same scores give the same flips");
    let shown = project.fracture(&["show", SPEC, "scores", "--json"]).ok().json();
    assert!(shown.as_array().unwrap().iter().all(|row| row["judge"] == "panel"));
    // Without the decoder a score could be that of another text.
    project.write("theirs.jsonl", &file(&["item", "regime", "sample", "p_unsafe"]));
    let ran = project.fracture(&["run", SPEC]).code(1);
    assert!(ran.stderr.contains("no column `decoder`"), "{}", ran.stderr);
    // What is missing is counted and bounded.
    let few: String = file(&["item", "regime", "decoder", "sample", "p_unsafe"])
        .lines()
        .skip(3)
        .map(|l| format!("{l}\n"))
        .collect();
    project.write("theirs.jsonl", &few);
    let ran = project.fracture(&["run", SPEC]).ok();
    assert!(
        ran.stderr.contains("rows have no score") && ran.stderr.contains("all unsafe"),
        "{}",
        ran.stderr
    );
    spec("", with.replace(", scores: theirs", "").as_str());
    let ran = project.fracture(&["run", SPEC]).code(2);
    assert!(
        ran.stderr.contains("nothing is connected to the port `scores`"),
        "{}",
        ran.stderr
    );
}
