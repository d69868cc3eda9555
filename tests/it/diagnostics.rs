//! What a user reads when something is wrong: one clear error that names the place and the remedy, with the right exit
//! code, and a store that stays usable.

use std::fs;

use crate::project::{Project, Ran, SPEC};

/// stderr without what differs between machines.
fn told(project: &Project, ran: &Ran) -> String {
    let root = fs::canonicalize(project.root()).unwrap();
    ran.stderr
        .replace(root.to_str().unwrap(), "ROOT")
        .replace(project.root().to_str().unwrap(), "ROOT")
}

fn broken(change: impl FnOnce(String) -> String) -> String {
    let project = Project::small();
    project.edit(SPEC, change);
    let ran = project.fracture(&["run", SPEC]).code(2);
    assert!(ran.stdout.is_empty(), "{}", ran.stdout);
    told(&project, &ran)
}

#[test]
fn a_typo_in_a_stage_name() {
    insta::assert_snapshot!(broken(|text| text.replace("needs: scores", "needs: scorse")));
}

#[test]
fn an_unknown_column() {
    insta::assert_snapshot!(broken(|text| text.replace("text: completion ", "text: complection ")));
}

#[test]
fn a_missing_pool() {
    insta::assert_snapshot!(broken(
        |text| text.replace("prompts/safety.jsonl", "prompts/safty.jsonl")
    ));
}

#[test]
fn a_judge_without_the_label() {
    insta::assert_snapshot!(broken(|text| text.replace("unsafe: [comply]", "unsafe: [complies]")));
}

#[test]
fn an_unknown_parameter_and_a_value_out_of_range_at_once() {
    insta::assert_snapshot!(broken(|text| {
        text.replace("seed: 17", "sed: 17")
            .replace("top_p: 0.95", "top_p: 1.5")
            .replace("uses: threshold", "uses: treshold")
    }));
}

#[test]
fn what_can_be_known_is_told_before_anything_runs() {
    let project = Project::small();
    project.write("labels.csv", "item,axis,unsafe_human\nx,safety,true\n");
    project.edit(SPEC, |text| {
        text.replace("order: [greedy, sampling]", "order: [gredy, sampling]")
            .replace(
                "\nfigures:\n",
                "  asked: { uses: query, needs: { a: scores }, with: { sql: SELECT completio FROM a } }\n\
                 \x20 labels: { uses: load, with: { path: labels.csv, where: unsafe = true } }\n\
                 \x20 lives: { uses: fracture, needs: verdicts, with: { contrasts: [[train, live]] } }\n\
                 \x20 pooled: { uses: fracture, needs: verdicts, with: { by: [axis, model] } }\n\
                 \nfigures:\n\
                 \x20 few: { plot: table, from: pooled, to: few.csv, where: { axis: saftey, model: pico-honest } }\n\
                 \x20 own: { plot: table, from: pooled, to: own.csv, where: { contrast: train->deploi } }\n",
            )
    });
    let ran = project.fracture(&["plan", "--check", SPEC]).code(2);
    insta::assert_snapshot!(told(&project, &ran));
}

/// What a model needs and is not there is shown where the pipeline says it.
#[test]
fn files_of_models_that_are_not_there() {
    let project = Project::small();
    let whole = fs::read_to_string(project.path(SPEC)).unwrap();
    let planned = |from: &str, to: &str| {
        project.write(SPEC, &whole.replacen(from, to, 1));
        let told = project.fracture(&["plan", "--check", SPEC]).code(2).stderr;
        assert!(told.contains(&format!("{SPEC}:")) && told.contains("^^^^^"), "{told}");
        told
    };
    let template = planned(
        "source: examples/models/pico-faker,",
        "source: examples/models/pico-faker, chat_template: nope.jinja,",
    );
    assert!(template.contains("can not read `nope.jinja`"), "{template}");
    let stage = "\nfigures:\n  ";
    let encoder = "  more: { uses: embed, needs: answers, with: { model: examples/encoders/nope } }\n";
    let encoder = planned(stage, &format!("{encoder}{stage}"));
    assert!(encoder.contains("the encoder `nope` can not be used"), "{encoder}");
    let judge = "  more: { uses: judge, needs: answers, with: { model: nope-at-all, kind: generative, template: harmbench } }\n";
    let judge = planned(stage, &format!("{judge}{stage}"));
    assert!(judge.contains("the judge `nope-at-all` can not be used"), "{judge}");
}

#[test]
fn all_that_is_wrong_with_a_stage_at_once() {
    let project = Project::small();
    project.edit(SPEC, |text| {
        text.replace("prompts/safety.jsonl", "prompts/safty.jsonl, limti: 3")
            .replace("prompts/harmlessness.jsonl", "prompts/harmlesness.jsonl")
            .replace("cue: fine-tuning,", "cue: fine-tunin,")
            .replace(
                "by: [model, axis, decoder]",
                "by: [model, axis, decoder, regime]\n      confidence: 95",
            )
            .replace("model: ${matrix.model}\n", "\n")
    });
    let told = project.fracture(&["plan", SPEC]).code(2).stderr;
    for wrong in [
        "unknown key `limti`",
        "pool `safety`",
        "pool `harmlessness`",
        "there is no cue family `fine-tunin`",
        "the key `model` is missing",
        "`regime` tells the rows of one pair apart",
        "95 is out of range",
    ] {
        assert!(told.contains(wrong), "{wrong}: {told}");
    }
    assert_eq!(told.matches("error: ").count(), 7, "{told}");
}

#[test]
fn a_wrong_parameter_is_told_without_what_follows_from_it() {
    for (right, wrong) in [
        ("cue: fine-tuning,", "ceu: fine-tuning,"),
        (
            "path: examples/prompts/safety.jsonl",
            "pth: examples/prompts/safety.jsonl",
        ),
        ("text: completion ", "text: 5 "),
        ("unsafe: [comply]", "unsafe: comply"),
        ("harm: \"${vars.harm}\"", "harmm: 4"),
        ("harm: \"${vars.harm}\"", "harm: four"),
        ("by: [model, axis, decoder]", "by: decoder"),
        ("model: ${matrix.model}", "model: ${matrix.modl}"),
        ("decoder: ${matrix.decoder}", "decoder: { temperatur: 0 }"),
        ("pico-faker:  { source:", "pico-faker:  { source: 5, sourc:"),
    ] {
        let project = Project::small();
        project.edit(SPEC, |text| {
            assert!(text.contains(right), "{right}");
            text.replace(right, wrong)
        });
        let told = project.fracture(&["plan", SPEC]).code(2).stderr;
        let most = if right.contains("pico") { 2 } else { 1 };
        assert_eq!(told.matches("error: ").count(), most, "{wrong}: {told}");
    }
}

#[test]
fn a_pipeline_that_is_not_there() {
    let project = Project::small();
    let ran = project.fracture(&["run", "pipelines/nothing.yaml"]).code(2);
    insta::assert_snapshot!(told(&project, &ran));
}

#[test]
fn errors_as_json() {
    let project = Project::small();
    project.edit(SPEC, |text| text.replace("needs: scores", "needs: scorse"));
    let ran = project.fracture(&["run", SPEC, "--json"]).code(2);
    let error: serde_json::Value = serde_json::from_str(ran.stderr.lines().next().unwrap()).unwrap();
    assert_eq!(
        error["error"]["at"]["file"].as_str().unwrap(),
        "pipelines/quickstart.yaml"
    );
    assert!(error["error"]["at"]["line"].as_u64().unwrap() > 40);
    assert!(
        error["error"]["message"].as_str().unwrap().contains("scorse"),
        "{error}"
    );
}

#[test]
fn help_of_every_command() {
    let project = Project::small();
    let mut all = project.fracture(&["--help"]).ok().stdout;
    for command in [
        "run", "plan", "why", "graph", "diff", "show", "export", "figures", "verify", "gc", "runs", "config", "schema",
        "doctor",
    ] {
        all.push_str(&format!("\n$ fracture {command} --help\n"));
        all.push_str(&project.fracture(&[command, "--help"]).ok().stdout);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_figure_never_overwrites_what_the_pipeline_reads() {
    let project = Project::small();
    let to = "figures.table.to=examples/prompts/safety.jsonl";
    let ran = project.fracture(&["run", SPEC, "--set", to]).code(2);
    assert!(!ran.stderr.is_empty());
    let csv = "item,regime,p_unsafe\na,train,0.1\na,deploy,0.9\n";
    project.write("scores.csv", csv);
    project.write(
        "pipelines/own.yaml",
        "version: 1\nname: own\nstages:\n  scores: { uses: load, with: { path: scores.csv } }\n\
         figures:\n  t: { plot: table, from: scores, to: scores.csv }\n",
    );
    let ran = project.fracture(&["run", "pipelines/own.yaml"]).code(2);
    assert!(ran.stderr.contains("the pipeline reads this file"), "{}", ran.stderr);
    // To plan tells it too, and where.
    let told = project.fracture(&["plan", "pipelines/own.yaml"]).code(2).stderr;
    assert_eq!(told, ran.stderr);
    assert!(told.contains("pipelines/own.yaml:6:"), "{told}");
    std::os::unix::fs::symlink("scores.csv", project.path("again.csv")).unwrap();
    project.edit("pipelines/own.yaml", |text| {
        text.replace("to: scores.csv", "to: [new.csv, again.csv]")
    });
    let told = project.fracture(&["plan", "pipelines/own.yaml"]).code(2).stderr;
    assert!(
        told.contains("`again.csv` can not be written: the pipeline reads this file") && !told.contains("`new.csv`"),
        "{told}"
    );
    project.edit("pipelines/own.yaml", |text| {
        text.replace("to: [new.csv, again.csv]", "to: scores.csv")
    });
    assert_eq!(fs::read_to_string(project.path("scores.csv")).unwrap(), csv);

    // Nor leaves the project through a link.
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), project.path("link")).unwrap();
    project.edit("pipelines/own.yaml", |text| {
        text.replace("to: scores.csv", "to: link/t.csv")
    });
    let ran = project.fracture(&["run", "pipelines/own.yaml"]).code(2);
    assert!(ran.stderr.contains("outside the project"), "{}", ran.stderr);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}
