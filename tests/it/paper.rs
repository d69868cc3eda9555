//! The pipelines of the paper: each compiles as it is and says under `full` what is missing; one runs to its figures.

use std::fs;

use crate::project::Project;

fn pipelines(project: &Project) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(project.path("pipelines/paper"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml") && name != "common.yaml")
        .map(|name| format!("pipelines/paper/{name}"))
        .collect();
    found.sort();
    found
}

#[test]
fn each_is_planned_and_its_full_profile_names_what_it_lacks() {
    let project = Project::shipped();
    let found = pipelines(&project);
    assert_eq!(found.len(), 8);
    for path in found {
        project.fracture(&["plan", &path, "--json"]).ok();
        let full = project.fracture(&["plan", &path, "--profile", "full"]).code(2);
        assert!(full.stderr.contains("there is no such file"), "{path}: {}", full.stderr);
        assert!(
            !full.stderr.contains("is not in this version"),
            "{path}: {}",
            full.stderr
        );
    }
}

#[test]
fn the_rubric_gives_the_four_numbers_of_every_cell() {
    let project = Project::shipped();
    let path = "pipelines/paper/rubric.yaml";
    let mut args = vec!["run", path, "--json"];
    let limits: Vec<String> = ["safety", "harmlessness", "helpfulness"]
        .map(|axis| format!("stages.prompts.with.pools.{axis}.limit=6"))
        .to_vec();
    args.extend(limits.iter().flat_map(|limit| ["--set", limit.as_str()]));
    project.fracture(&args).ok();
    let numbers = fs::read_to_string(project.path("figures/paper/numbers.csv")).unwrap();
    // Three axes, two models, three decoders, and the header.
    assert_eq!(numbers.lines().count(), 19, "{numbers}");
    let head = numbers.lines().next().unwrap();
    for column in ["fracture", "median_lift", "entry", "before", "after"] {
        assert!(head.contains(column), "{head}");
    }
    for (file, begins) in [("numbers.pdf", "%PDF"), ("rubric.pdf", "%PDF"), ("frontier.svg", "<")] {
        let bytes = fs::read(project.path(&format!("figures/paper/{file}"))).unwrap();
        assert!(bytes.starts_with(begins.as_bytes()), "{file}");
    }
}
