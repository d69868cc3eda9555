//! Bar charts and tables as text.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, LargeStringArray, UInt32Array};
use arrow::record_batch::RecordBatch;
use fracture_stage::{Error, View};
use serde_json::{Value, json};

use super::{files, labels, picture};

/// A row of a table like that of `fracture`: labels, then fracture with its interval.
#[derive(Clone)]
struct Row {
    labels: [String; 4],
    value: Option<[f64; 3]>,
    noise: Option<f64>,
}

/// Every combination, with values that follow from the place.
fn rows(models: &[&str], axes: &[&str], decoders: &[&str], contrasts: &[&str]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (m, model) in models.iter().enumerate() {
        for (a, axis) in axes.iter().enumerate() {
            for (d, decoder) in decoders.iter().enumerate() {
                for (c, contrast) in contrasts.iter().enumerate() {
                    let value = 0.47 / (1.0 + 0.6 * a as f64 + 0.9 * c as f64 + 0.35 * d as f64) - 0.03 * m as f64;
                    let value = value.max(0.0);
                    rows.push(Row {
                        labels: [model, axis, decoder, contrast].map(|label| (*label).to_owned()),
                        value: Some([value, (value - 0.08).max(0.0), value + 0.09]),
                        noise: Some(0.02 + 0.03 * d as f64),
                    });
                }
            }
        }
    }
    rows
}

fn quickstart() -> Vec<Row> {
    rows(
        &["7B", "0.8M"],
        &["helpfulness", "safety", "harmlessness"],
        &["sampling", "greedy"],
        &["train->deploy", "control->deploy", "deploy->deploy_again"],
    )
}

fn batch(rows: &[Row]) -> RecordBatch {
    let text = |index: usize| -> ArrayRef {
        Arc::new(LargeStringArray::from_iter_values(
            rows.iter().map(|row| row.labels[index].as_str()),
        ))
    };
    let number = |number: &dyn Fn(&Row) -> Option<f64>| -> ArrayRef {
        Arc::new(Float64Array::from(rows.iter().map(number).collect::<Vec<_>>()))
    };
    let part = |index: usize| number(&move |row: &Row| row.value.map(|value| value[index]));
    let count = |count: u32| -> ArrayRef { Arc::new(UInt32Array::from(vec![count; rows.len()])) };
    let aggregate: ArrayRef = Arc::new(LargeStringArray::from(vec!["product"; rows.len()]));
    RecordBatch::try_from_iter([
        ("model", text(0)),
        ("axis", text(1)),
        ("decoder", text(2)),
        ("contrast", text(3)),
        ("aggregate", aggregate),
        ("k", count(4)),
        ("tau", number(&|_| Some(0.5))),
        ("n", count(40)),
        ("fracture", part(0)),
        ("fracture_low", part(1)),
        ("fracture_high", part(2)),
        ("anti", number(&|row| row.value.map(|_| 0.05))),
        ("net", number(&|row| row.value.map(|value| value[0] - 0.05))),
        ("noise_floor", number(&|row| row.noise)),
        (
            "p_adjusted",
            number(&|row| row.value.map(|value| 0.0004 + 0.01 * value[0])),
        ),
    ])
    .unwrap()
}

fn view(batch: &RecordBatch) -> View {
    super::view(batch, &["axis", "model", "decoder"])
}

fn figure(with: &Value, views: Vec<View>) -> Result<Vec<(String, Vec<u8>)>, Error> {
    files(with, vec![("table", views)])
}

fn bars(name: &str, rows: &[Row], more: &Value) -> Result<(String, Vec<u8>), Error> {
    let mut with = json!({ "plot": "bars", "x": "axis", "color": "decoder", "panel": "model" });
    for (key, value) in more.as_object().unwrap() {
        with[key] = value.clone();
    }
    let (svg, png, _) = picture(name, &with, vec![("table", vec![view(&batch(rows))])])?;
    Ok((svg, png))
}

#[test]
fn a_chart_says_what_it_shows() {
    let (svg, _) = bars("quickstart", &quickstart(), &json!({})).unwrap();
    let labels = labels(&svg);
    for expected in [
        "model: 0.8M",
        "FRACTURE (share of prompts)",
        "decoder:",
        "greedy",
        "noise floor (A/A pair)",
        "axis",
    ] {
        assert!(labels.contains(&expected), "{expected} is not among {labels:?}");
    }
    let place = |text: &str| labels.iter().position(|label| *label == text).unwrap();
    assert!(place("model: 0.8M") < place("model: 7B") && place("greedy") < place("sampling"));
    assert!(place("safety") < place("harmlessness") && place("harmlessness") < place("helpfulness"));
    let caption = svg.split("<desc>").nth(1).unwrap().split("</desc>").next().unwrap();
    assert_eq!(
        caption,
        "n = 40 prompts per bar, τ = 0.5, K = 4, aggregate product; whiskers: confidence intervals; \
         train→deploy is shown, one of 3 contrasts."
    );
    // Twelve bars, each with an outline and a fill, beside two swatches.
    assert_eq!(svg.matches("stroke=\"#222222\" stroke-width=\"0.4\"").count(), 14);
}

#[test]
fn the_same_rows_in_any_order_give_the_same_bytes() {
    let rows = quickstart();
    let first = bars("order", &rows, &json!({})).unwrap();
    let mut turned = rows.clone();
    turned.reverse();
    assert_eq!(first, bars("order", &turned, &json!({})).unwrap());
    let (one, other) = rows.split_at(17);
    let with = json!({ "plot": "table", "to": ["a.csv", "a.md"] });
    let parts = [view(&batch(one)), view(&batch(other))];
    let ahead = figure(&with, parts.to_vec()).unwrap();
    let back = figure(&with, parts.into_iter().rev().collect()).unwrap();
    assert_eq!(ahead, back);
}

#[test]
fn charts_of_all_sizes_are_drawn() {
    let one = rows(&["7B"], &["safety"], &["greedy"], &["train->deploy"]);
    bars("one_bar", &one, &json!({ "title": "One bar" })).unwrap();
    let axes = ["safety", "harmlessness", "helpfulness"];
    let sizes = [
        "0.8M", "3.4M", "70M", "160M", "410M", "1B", "1.4B", "2.8B", "6.9B", "7B", "12B", "70B",
    ];
    bars(
        "twelve",
        &rows(&sizes, &axes, &["greedy", "sampling"], &["train->deploy"]),
        &json!({}),
    )
    .unwrap();
    let decoders = ["greedy", "sampling", "T=0.3", "T=0.6", "T=0.9", "T=1.2", "T=1.5"];
    bars(
        "many_colors",
        &rows(&["7B"], &axes, &decoders, &["train->deploy"]),
        &json!({}),
    )
    .unwrap();
    let long = [
        "requests that a careful person would refuse to answer at any time",
        "harmlessness under repeated paraphrase",
        "helpfulness on ordinary questions of daily life",
        "tone & <manners>",
        "summaries of news",
        "translations",
        "arithmetic",
        "code review",
        "medical questions",
        "legal questions",
    ];
    let models = [
        "an-organisation/a-model-with-a-very-long-name-13B-instruct-v0.2-finetuned-on-everything",
        "short",
    ];
    let title =
        "A title that is so long that it can not fit into one line of a figure in a paper, and so goes on in a second";
    let decoders = [
        "greedy",
        "temperature 0.8, top-p 0.95, repetition penalty 1.1, with a long name",
    ];
    let (svg, _) = bars(
        "long",
        &rows(&models, &long, &decoders, &["train->deploy"]),
        &json!({ "title": title }),
    )
    .unwrap();
    assert!(svg.contains("tone &amp; &lt;manners&gt;"));
    let single = json!({ "panel": null, "where": { "model": "7B", "axis": ["safety", "helpfulness"] } });
    let (svg, _) = bars("single", &quickstart(), &single).unwrap();
    assert!(!labels(&svg).contains(&"harmlessness"));
}

#[test]
fn what_is_null_is_not_drawn_as_zero() {
    let mut rows = quickstart();
    for row in rows
        .iter_mut()
        .filter(|row| row.labels[1] == "safety" && row.labels[2] == "greedy")
    {
        row.value = None;
        row.noise = None;
    }
    for row in rows.iter_mut().filter(|row| row.labels[1] == "helpfulness") {
        row.value = Some([0.0, 0.0, 0.06]);
        row.noise = None;
    }
    let (svg, _) = bars("null", &rows, &json!({})).unwrap();
    assert!(svg.contains("×: no value"));
    for row in &mut rows {
        row.value = None;
    }
    let (svg, _) = bars("all_null", &rows, &json!({ "y": "net" })).unwrap();
    assert!(!svg.contains("whiskers"));
    let error = bars("empty", &[], &json!({})).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("figure `empty`: there is nothing to draw: the table has no row"),
        "{error}"
    );
}

#[test]
fn key_columns_that_nothing_shows_become_panels() {
    let rows = rows(&["7B", "13B"], &["safety"], &["greedy"], &["train->deploy"]);
    let (svg, _) = bars("panels", &rows, &json!({ "panel": null })).unwrap();
    assert!(labels(&svg).contains(&"model: 7B"));
    let twice: Vec<Row> = rows.iter().chain(&rows).cloned().collect();
    let error = bars("twice", &twice, &json!({})).unwrap_err();
    assert!(error.to_string().contains("several rows belong to one bar"), "{error}");
    let error = bars("where", &rows, &json!({ "where": { "model": "8B" } })).unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("`model` has `7B`, `13B`"));
}

#[test]
fn tables_are_written_as_csv_and_markdown() {
    let mut rows = rows(&["a, \"b\""], &["safety"], &["x|y", "line\nbreak"], &["train->deploy"]);
    rows[0].value = Some([0.1 + 0.2, 0.0, 1e-9]);
    rows[1].value = None;
    let columns = ["model", "decoder", "n", "fracture", "fracture_low", "fracture_high"];
    let with = json!({ "plot": "table", "to": ["t.csv", "t.md", "u.csv"], "columns": columns, "title": "T" });
    let files = figure(&with, vec![view(&batch(&rows))]).unwrap();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["main", "md", "csv"]);
    assert_eq!(
        String::from_utf8_lossy(&files[0].1),
        "model,decoder,n,fracture,fracture_low,fracture_high\r\n\
         \"a, \"\"b\"\"\",x|y,40,0.30000000000000004,0,1e-9\r\n\
         \"a, \"\"b\"\"\",\"line\nbreak\",40,,,\r\n"
    );
    assert_eq!(
        String::from_utf8_lossy(&files[1].1),
        "**T**\n\n| model | decoder | n | fracture | fracture_low | fracture_high |\n\
         | --- | --- | ---: | ---: | ---: | ---: |\n\
         | a, \"b\" | x\\|y | 40 | 0.30000000000000004 | 0 | 1e-9 |\n\
         | a, \"b\" | line<br>break | 40 |  |  |  |\n"
    );
}

#[test]
fn a_terminal_gets_the_headline_columns() {
    let shown = crate::terminal_table(&json!({ "plot": "table" }), &batch(&quickstart())).unwrap();
    let schema = shown.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let expected = [
        "model",
        "axis",
        "decoder",
        "contrast",
        "n",
        "fracture",
        "anti",
        "net",
        "noise_floor",
        "p_adjusted",
    ];
    assert_eq!(names, expected);
    let first: Vec<String> = shown
        .columns()
        .iter()
        .map(|column| crate::rows::cell(column, 0))
        .collect();
    let expected = [
        "7B",
        "helpfulness",
        "sampling",
        "train->deploy",
        "40",
        "0.470 [0.390, 0.560]",
        "0.050",
        "0.420",
        "0.020",
        "0.005",
    ];
    assert_eq!(first, expected);
    let with = json!({ "plot": "table", "columns": ["n", "axis"], "where": { "axis": "safety" } });
    let shown = crate::terminal_table(&with, &batch(&quickstart())).unwrap();
    assert_eq!((shown.num_columns(), shown.num_rows()), (2, 12));
}

#[test]
fn outputs_have_names_and_formats() {
    let wrong = |with: Value| figure(&with, vec![view(&batch(&quickstart()))]).unwrap_err().message;
    assert_eq!(
        wrong(json!({ "plot": "bars", "to": "a" })),
        "no figure format ends like `a`"
    );
    assert_eq!(
        wrong(json!({ "plot": "bars", "to": "a.svg", "width": 2 })),
        "`width` is in centimetres"
    );
    let with = json!({ "to": ["a/x.svg", "a/x.png", "b.svg", "c.svg", "d.png"] });
    let names: Vec<String> = crate::targets(&with).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["main", "png", "svg", "svg_2", "png_2"]);
    assert!(crate::targets(&json!({ "plot": "bars" })).is_empty());
}
