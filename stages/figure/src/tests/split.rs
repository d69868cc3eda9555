//! One file for each value.

use fracture_stage::stage::Output;
use serde_json::json;

use super::{figure, tables};

#[test]
fn a_split_figure_is_a_tree_of_files() {
    let with = json!({
        "plot": "grid", "name": "grid", "split": ["axis", "model"], "x": "algorithm", "y": "decoder",
        "title": "FRACTURE of {model}", "to": ["figures/{axis}-{model}.svg", "figures/{model}/{axis}.pdf"],
    });
    let made = figure(&with, vec![("table", vec![tables::rubric(2)])]).unwrap();
    let Output::Tree(svgs) = &made[0].1 else {
        panic!("a tree")
    };
    let names: Vec<&str> = svgs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 6);
    assert_eq!(names[0], "safety/pico-faker.svg");
    let text = String::from_utf8_lossy(&svgs[0].1);
    assert!(text.contains("<title>FRACTURE of pico-faker</title>"));
    let pattern = "figures/{model}/{axis}.pdf";
    let Output::Tree(pdfs) = &made[1].1 else {
        panic!("a tree")
    };
    assert_eq!(
        crate::split_path(&with, pattern, &pdfs[0].0),
        "figures/pico-faker/safety.pdf"
    );
}

#[test]
fn paths_and_columns_must_agree() {
    let wrong = |to: &str, split: &[&str]| {
        let with = json!({ "plot": "grid", "split": split, "to": to });
        figure(&with, vec![("table", vec![tables::rubric(1)])]).unwrap_err()
    };
    let error = wrong("a.svg", &["model"]);
    assert_eq!(error.message, "`split` writes one file per model, `a.svg` has one name");
    assert_eq!(error.hint.as_deref(), Some("put `{model}` into the path"));
    let error = wrong("{model}.svg", &[]);
    assert_eq!(error.hint.as_deref(), Some("add `split: [model]`"));
}
