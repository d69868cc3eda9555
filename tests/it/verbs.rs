//! What the command line says beside running: locked runs, pictures of the graph, what comes later.

use std::fs;

use crate::project::{Project, SPEC, count};

const LOCK: &str = "pipelines/quickstart.lock";

#[test]
fn a_locked_run_compares_recipes_before_and_outputs_after() {
    let project = Project::small();
    let none = project.fracture(&["run", SPEC, "--locked"]).code(2);
    assert!(none.stderr.contains("which is not there"), "{}", none.stderr);
    project.run(&[]);
    let lock = fs::read_to_string(project.path(LOCK)).unwrap();
    project.fracture(&["run", SPEC, "--locked"]).ok();

    // Another recipe is told before anything runs.
    let ran = project
        .fracture(&["run", SPEC, "--locked", "--set", "vars.harm=9"])
        .code(3);
    assert!(
        ran.stderr.contains("differs from its lock file") && ran.stderr.contains("verdicts["),
        "{}",
        ran.stderr
    );
    let runs = project.fracture(&["runs", "--json"]).ok().json();
    assert_eq!(
        runs.as_array().unwrap().len(),
        2,
        "the refused run left no record: {runs}"
    );

    // Another output is told after it: the lock file of a machine that computes otherwise.
    let tampered: String = lock
        .lines()
        .map(|line| {
            let mut fields: Vec<&str> = line.split('\t').collect();
            let other = "0".repeat(64);
            if fields.get(1) == Some(&"flips") {
                fields[4] = &other;
            }
            format!("{}\n", fields.join("\t"))
        })
        .collect();
    assert_ne!(tampered, lock);
    fs::write(project.path(LOCK), &tampered).unwrap();
    let ran = project.fracture(&["run", SPEC, "--locked"]).code(3);
    assert!(
        ran.stderr.contains("results differ from the lock file") && ran.stderr.contains("flips"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        fs::read_to_string(project.path(LOCK)).unwrap(),
        tampered,
        "a locked run writes no lock file"
    );
}

#[test]
fn a_file_of_the_project_has_no_revision() {
    let project = Project::small();
    project.run(&[]);
    let lock = fs::read_to_string(project.path(LOCK)).unwrap();
    project.edit(LOCK, |text| {
        let lines = text.lines().map(|line| match line.contains("pico-faker/config.json") {
            true => line.replacen("\t-\t", "\tabc1234\t", 1),
            false => line.to_owned(),
        });
        lines.map(|line| format!("{line}\n")).collect()
    });
    let updated = project.fracture(&["run", SPEC, "--update"]).ok();
    assert!(
        updated.stderr.contains("--update looks nothing up"),
        "{}",
        updated.stderr
    );
    assert_eq!(fs::read_to_string(project.path(LOCK)).unwrap(), lock);
    project.fracture(&["run", SPEC, "--update", "--locked"]).code(2);
}

#[test]
fn the_graph_is_a_picture() {
    let project = Project::small();
    let draw = |args: &[&str]| {
        let all: Vec<&str> = ["graph", SPEC, "--format", "svg"].iter().chain(args).copied().collect();
        project.fracture(&all).ok().stdout
    };
    let before = draw(&[]);
    assert!(before.starts_with("<svg ") && before.trim_end().ends_with("</svg>"));
    assert!(!project.path(".fracture").exists(), "a picture makes no store");
    for name in ["prompts", "answers", "scores", "verdicts", "flips", "figures.bars"] {
        assert!(before.contains(&format!(">{name}</text>")), "no {name}");
    }
    assert_eq!(before, draw(&[]), "the same bytes");
    project.run(&["--only", "+answers"]);
    let after = draw(&[]);
    for told in ["cached", "to run", "pending", "a run computes it"] {
        assert!(after.contains(told), "no {told}");
    }
    assert!(draw(&["--tasks"]).contains("model=pico-faker"));
    let values: Vec<String> = (0..500).map(|one| one.to_string()).collect();
    let set = format!("stages.answers.matrix.seed=[{}]", values.join(","));
    let ran = project
        .fracture(&["graph", SPEC, "--format", "svg", "--tasks", "--set", &set])
        .code(2);
    assert!(ran.stderr.contains("can not be read"), "{}", ran.stderr);
}

#[test]
fn what_comes_later_says_so() {
    let project = Project::small();
    for verb in ["report", "view", "new", "watch", "push", "pull", "worker"] {
        let ran = project.fracture(&[verb, SPEC, "--anything"]).code(2);
        assert!(
            ran.stderr
                .contains(&format!("`fracture {verb}` is not in this version")),
            "{}",
            ran.stderr
        );
    }
    let typo = project.fracture(&["rn", SPEC]).code(2);
    assert!(typo.stderr.contains("run"), "{}", typo.stderr);
}

#[test]
fn export_says_which_folder_it_makes() {
    let project = Project::small();
    project.run(&["--only", "prompts"]);
    let to = "new/folder/prompts.csv";
    let ran = project.fracture(&["export", SPEC, "prompts", "--to", to]).ok();
    assert!(ran.stderr.contains("made the folder new/folder"), "{}", ran.stderr);
    let again = project.fracture(&["export", SPEC, "prompts", "--to", to]).ok();
    assert!(!again.stderr.contains("made the folder"), "{}", again.stderr);
}

#[test]
fn without_home_everything_looks_at_one_place() {
    let project = Project::small();
    let output = |cache: Option<&str>| {
        let mut command = project.command(&["doctor", "--offline", "--json"]);
        command.env_remove("HOME").env_remove("XDG_CACHE_HOME");
        if let Some(cache) = cache {
            command.env("XDG_CACHE_HOME", cache);
        }
        let output = command.output().unwrap();
        let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        checks.as_array().unwrap().clone()
    };
    let folder = project.path("cache");
    let named = output(folder.to_str());
    let detail = |checks: &[serde_json::Value], name: &str| {
        let check = checks.iter().find(|check| check["check"] == name);
        check.unwrap_or_else(|| panic!("no {name}"))["detail"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        detail(&named, "cache folder"),
        folder.join("fracture").display().to_string()
    );
    // A relative path is none, as the XDG rules say: what is used then is the same for all.
    let cache = detail(&output(Some("relative")), "cache folder");
    assert_eq!(cache, detail(&output(None), "cache folder"));
}

#[test]
fn a_misspelt_regime_is_told_by_plan() {
    let project = Project::small();
    let set = "stages.flips.with.contrasts=[[trian, deploy]]";
    let ran = project.fracture(&["plan", SPEC, "--set", set]).code(2);
    assert!(ran.stderr.contains("there is no regime `trian`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("did you mean `train`?"), "{}", ran.stderr);
    let right = "stages.flips.with.contrasts=[[train, deploy]]";
    let run = project.fracture(&["run", SPEC, "--set", right, "--json"]).ok().json();
    assert!(count(&run, "tasks", "ran") > 0);
}

#[test]
fn the_graph_is_told_in_every_format() {
    let project = Project::small();
    let told = |args: &[&str]| {
        let all: Vec<&str> = ["graph", SPEC].iter().chain(args).copied().collect();
        project.fracture(&all).ok()
    };
    for (tasks, nodes, edges) in [(false, 7, 6), (true, 16, 18)] {
        let with = |format: &str| {
            let mut args = vec!["--format", format];
            args.extend(tasks.then_some("--tasks"));
            told(&args).stdout
        };
        let json: serde_json::Value = serde_json::from_str(&with("json")).unwrap();
        assert_eq!(json["nodes"].as_array().unwrap().len(), nodes, "{json}");
        assert_eq!(json["edges"].as_array().unwrap().len(), edges, "{json}");
        let mermaid = with("mermaid");
        assert!(mermaid.starts_with("flowchart LR\n"), "{mermaid}");
        assert_eq!(mermaid.matches(" -->").count(), edges, "{mermaid}");
        let dot = with("dot");
        assert!(dot.starts_with("digraph ") && dot.trim_end().ends_with('}'), "{dot}");
        assert_eq!(
            (dot.matches(" -> ").count(), dot.matches("label=").count()),
            (edges, nodes + edges),
            "{dot}"
        );
        let svg = with("svg");
        for node in json["nodes"].as_array().unwrap() {
            let name = node["name"].as_str().unwrap();
            assert!(mermaid.contains(name) && dot.contains(name), "no {name}");
            assert!(tasks || svg.contains(&format!(">{name}</text>")), "no {name}");
        }
    }
    assert_eq!(
        told(&[]).stdout,
        told(&["--format", "mermaid"]).stdout,
        "for Markdown unless told otherwise"
    );
}

#[test]
fn what_is_selected_without_what_it_needs_is_told() {
    let project = Project::small();
    let ran = project.fracture(&["run", SPEC, "--only", "flips"]).code(1);
    for told in ["`flips` did not run", "`flips` needs `verdicts[", "--only '+flips'"] {
        assert!(ran.stderr.contains(told), "no {told} in {}", ran.stderr);
    }
    let ran = project.fracture(&["run", SPEC, "--only", "flips", "--json"]).code(1);
    let events = ran.stdout.lines().chain(ran.stderr.lines());
    let mut errors = events.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let error = errors.find(|one| one.get("error").is_some()).expect("an error in JSON");
    assert!(error["error"]["hint"].to_string().contains("+flips"), "{error}");
    project.run(&["--only", "+flips"]);
    project.fracture(&["run", SPEC, "--only", "flips"]).ok();
}
