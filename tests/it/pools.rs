//! Pools that are chosen by a condition or come from a stage, and cues in all their wordings, through the program.

use crate::project::{Project, Ran};

const SPEC: &str = "pipelines/own.yaml";

const DRAFTS: &str = "item,text,level\nd1,How do magnets work?,1\nd2,Why is the sky blue?,2\nd3,What is rust?,3\n";

fn project(stages: &str) -> Project {
    let project = Project::empty();
    project.write("drafts.csv", DRAFTS);
    project.write(SPEC, &format!("version: 1\nstages:\n{stages}"));
    project
}

fn texts(rows: &[serde_json::Value], name: &str) -> Vec<String> {
    rows.iter().map(|row| row[name].as_str().unwrap().to_owned()).collect()
}

fn prompts(project: &Project) -> Vec<serde_json::Value> {
    let shown = project.fracture(&["show", SPEC, "prompts", "--json"]).ok();
    serde_json::from_str(&shown.stdout).unwrap()
}

#[test]
fn a_stage_gives_a_pool() {
    let project = project(
        "  drafts: { uses: load, with: { path: drafts.csv } }
  prompts:
    uses: prompt
    needs: drafts
    with:
      pools: { safety: { stage: drafts, columns: { prompt: text }, where: level >= 2 } }
      regimes: { train: { cue: fine-tuning }, deploy: {} }
",
    );
    project.fracture(&["run", SPEC]).ok();
    let rows = prompts(&project);
    assert_eq!(texts(&rows, "item"), ["d2", "d2", "d3", "d3"]);
    assert_eq!(texts(&rows, "prompt")[2], "What is rust?");
    assert_eq!(rows[0]["level"], 2);
    // Reordering the stage's rows reorders nothing here; another row is another table.
    project.write(
        "drafts.csv",
        "item,text,level\nd3,What is rust?,3\nd1,How do magnets work?,1\nd2,Why is the sky blue?,2\n",
    );
    let lock = std::fs::read_to_string(project.path("pipelines/own.lock")).unwrap();
    project.fracture(&["run", SPEC]).ok();
    let again = std::fs::read_to_string(project.path("pipelines/own.lock")).unwrap();
    let output = |lock: &str| -> String {
        let line = lock.lines().find(|line| line.starts_with("task\tprompts\t")).unwrap();
        line.split('\t').nth(4).unwrap().to_owned()
    };
    assert_eq!(output(&lock), output(&again));
}

#[test]
fn what_is_wrong_with_a_pool_from_a_stage_is_said_before_anything_runs() {
    let said = |needs: &str, pool: &str| -> String {
        let project = project(&format!(
            "  drafts: {{ uses: load, with: {{ path: drafts.csv }} }}
  prompts:
    uses: prompt
{needs}    with: {{ pools: {{ safety: {pool} }}, regimes: {{ deploy: {{}} }} }}
"
        ));
        let Ran { stderr, .. } = project.fracture(&["plan", SPEC]).code(2);
        stderr
    };
    let unnamed = said("", "{ stage: drafts }");
    assert!(
        unnamed.contains("`needs` does not name `drafts`") && unnamed.contains("needs: drafts"),
        "{unnamed}"
    );
    let unread = said("    needs: drafts\n", "{ path: drafts.csv, columns: { prompt: text } }");
    assert!(
        unread.contains("`needs` names `drafts`, which no pool reads"),
        "{unread}"
    );
    let nameless = said("    needs: drafts\n", "{ stage: drafts }");
    assert!(nameless.contains("there is no column `prompt`"), "{nameless}");
}

#[test]
fn all_wordings_of_a_cue_are_tasks() {
    let project = project(
        "  prompts:
    uses: prompt
    with:
      pools: { safety: { path: drafts.csv, columns: { prompt: text } } }
      regimes: { train: { cue: fine-tuning, variant: all }, deploy: {} }
",
    );
    project.fracture(&["run", SPEC]).ok();
    let plan = project.fracture(&["plan", SPEC, "--json"]).ok().json();
    let mut tasks = texts(plan.as_array().unwrap(), "task");
    tasks.sort();
    assert_eq!(tasks.len(), 6, "{tasks:?}");
    assert_eq!(tasks[5], "prompts[wording=5]");
    let rows = prompts(&project);
    let hashes: std::collections::BTreeSet<String> = rows
        .iter()
        .filter(|row| row["regime"] == "train")
        .map(|row| row["cue_hash"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((rows.len(), hashes.len()), (36, 6));
    // A matrix that has the variable already.
    project.edit(SPEC, |text| {
        text.replace("    with:", "    matrix: { wording: [0, 1] }\n    with:")
    });
    let Ran { stderr, .. } = project.fracture(&["plan", SPEC]).code(2);
    assert!(stderr.contains("the variable `wording` is there twice"), "{stderr}");
}
