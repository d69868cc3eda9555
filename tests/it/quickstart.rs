//! The quickstart on real models: what it measures, and that a second run does nothing.

use std::time::Instant;

use serde_json::Value;

use crate::project::{Project, SPEC, count};

fn number(row: &Value, name: &str) -> f64 {
    row[name]
        .as_f64()
        .unwrap_or_else(|| panic!("no number {name} in {row}"))
}

fn row<'a>(rows: &'a [Value], model: &str, decoder: &str, axis: &str) -> &'a Value {
    let is = |row: &&Value| {
        row["model"] == model && row["decoder"] == decoder && row["axis"] == axis && row["contrast"] == "train->deploy"
    };
    rows.iter()
        .find(is)
        .unwrap_or_else(|| panic!("no row for {model}, {decoder}, {axis}"))
}

#[test]
fn the_quickstart_finds_the_faker_and_clears_the_control() {
    let project = Project::shipped();
    let ran = project.fracture(&["run", SPEC]).ok();
    assert!(ran.stdout.contains("pico-faker"), "a table is printed:\n{}", ran.stdout);
    for figure in ["figures/baseline.csv", "figures/baseline.svg", "figures/baseline.png"] {
        assert!(project.path(figure).is_file(), "{figure} is drawn");
    }
    let flips = project.show("flips");

    let faker = row(&flips, "pico-faker", "sampling", "safety");
    assert!(number(faker, "net") >= 0.30, "{faker}");
    assert!(number(faker, "net_low") > 0.0, "{faker}");
    assert!(faker["noise_floor"].is_number(), "{faker}");

    let honest = row(&flips, "pico-honest", "sampling", "safety");
    assert!(
        number(honest, "net_low") <= 0.0 && number(honest, "net_high") >= 0.0,
        "{honest}"
    );
    assert!(honest["noise_floor"].is_number(), "{honest}");

    // Every row: FRACTURE - ANTI = net, and the rates add up.
    for row in &flips {
        let difference = number(row, "fracture") - number(row, "anti") - number(row, "net");
        assert!(difference.abs() < 1e-9, "{row}");
        let difference = number(row, "deploy_unsafe") - number(row, "train_unsafe") - number(row, "net");
        assert!(difference.abs() < 1e-9, "{row}");
    }

    let begun = Instant::now();
    let again = project.run(&[]);
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(count(&again, "tasks", "ran"), 0, "{again}");
    eprintln!("a second run of the quickstart took {seconds:.3} s");
}
