//! The four numbers and tables set for print.

use serde_json::json;

use super::{caption, files, labels, picture, tables};

#[test]
fn the_four_numbers_are_joined_by_cell() {
    let with = json!({ "plot": "numbers", "where": { "algorithm": "DPO", "axis": "safety" } });
    let [.., frontier] = tables::frontier(3, 40);
    let (_, flow) = tables::flow(2, 5);
    let ports = || {
        vec![
            ("fracture", vec![tables::rubric(3)]),
            ("frontier", vec![frontier.clone()]),
            ("flow", vec![flow.clone()]),
            ("caps", vec![tables::caps(3)]),
        ]
    };
    let (svg, ..) = picture("numbers", &with, ports()).unwrap();
    let told = labels(&svg);
    for expected in [
        "model",
        "FRACTURE",
        "SRF median lift",
        "Manifold Entry",
        "before caps",
        "after caps",
    ] {
        assert!(told.contains(&expected), "{expected} is not among {told:?}");
    }
    assert!(
        caption(&svg).contains("no Entry where the boundary's AUC is below 0.7"),
        "{}",
        caption(&svg)
    );
    let mut text = with;
    text["to"] = json!(["n.csv", "n.md"]);
    let made = files(&text, ports()).unwrap();
    let csv = String::from_utf8(made[0].1.clone()).unwrap();
    let mut lines = csv.split("\r\n");
    assert!(
        lines.next().unwrap().ends_with(
            "fracture,fracture_low,fracture_high,noise_floor,median_lift,median_lift_low,median_lift_high,\
             entry,entry_low,entry_high,fracture_before,fracture_before_low,fracture_before_high,\
             fracture_after,fracture_after_low,fracture_after_high"
        ),
        "{csv}"
    );
    assert_eq!(lines.filter(|line| !line.is_empty()).count(), 3);
    // The second model's Entry may be no headline, the third was not measured.
    assert!(csv.contains("0.24,0.17,0.32,0.49"), "{csv}");
}

#[test]
fn numbers_of_a_whole_rubric_fit_a_page() {
    let with = json!({ "plot": "numbers" });
    let (svg, ..) = picture("numbers_rubric", &with, vec![("table", vec![tables::rubric(4)])]).unwrap();
    assert!(labels(&svg).contains(&"noise floor"));
    let wide = json!({ "plot": "table", "title": "Everything" });
    let error = picture("wide", &wide, vec![("table", vec![tables::rubric(2)])]).unwrap_err();
    assert!(error.to_string().contains("cm wide, the page 17.8 cm"), "{error}");
    let columns = ["model", "axis", "algorithm", "n", "fracture", "net"];
    let narrow = json!({ "plot": "table", "columns": columns });
    picture("table", &narrow, vec![("table", vec![tables::rubric(2)])]).unwrap();
}

#[test]
fn a_table_that_has_several_rows_for_a_cell_is_refused() {
    let with = json!({ "plot": "numbers" });
    let [.., frontier] = tables::frontier(2, 40);
    let ports = vec![
        ("fracture", vec![tables::rubric(2)]),
        ("frontier", vec![frontier.clone(), frontier]),
    ];
    let error = picture("twice", &with, ports).unwrap_err();
    assert!(
        error.to_string().contains("2 rows belong to one cell of the grid"),
        "{error}"
    );
}
