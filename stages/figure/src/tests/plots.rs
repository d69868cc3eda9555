//! Every plot of made-up tables: what it says, that its bytes do not depend on the order of rows, and what it refuses.

use fracture_cache::digest::{Bytes, Digest};
use fracture_stage::View;
use serde_json::{Value, json};

use super::{Made, caption, labels, picture, tables};

/// The texts of a picture, joined.
fn told(svg: &str) -> String {
    labels(svg).join(" | ")
}

fn has(svg: &str, expected: &[&str]) {
    let labels = labels(svg);
    for text in expected {
        assert!(labels.contains(text), "{text} is not among {labels:?}");
    }
}

fn refused(name: &str, with: &Value, ports: Vec<(&str, Vec<View>)>) -> String {
    let error = picture(name, with, ports).unwrap_err();
    format!("{error} ({})", error.hint.as_deref().unwrap_or_default())
}

#[test]
fn a_grid_names_what_is_missing() {
    let with = json!({ "plot": "grid", "title": "FRACTURE by model and algorithm" });
    let (svg, ..) = picture("grid", &with, vec![("table", vec![tables::rubric(5)])]).unwrap();
    has(
        &svg,
        &[
            "axis: safety",
            "pico-faker",
            "KTO",
            "algorithm",
            "model",
            "no result",
            "FRACTURE",
        ],
    );
    let caption = caption(&svg);
    assert!(
        caption.starts_with("decoder sampling, train→deploy, n = 200 prompts per cell, τ = 0.8, K = 4"),
        "{caption}"
    );
    for cell in [
        "llama-2-7B × KTO × safety",
        "pico-honest × BCO × helpfulness",
        "qwen-2.5-14B × GRPO × harmlessness",
    ] {
        assert!(caption.contains(cell), "{caption}");
    }
    let one = json!({ "plot": "grid", "where": { "axis": "safety" }, "color": "net" });
    let (svg, ..) = picture("grid_net", &one, vec![("table", vec![tables::rubric(5)])]).unwrap();
    assert!(told(&svg).contains('−') && svg.contains("judge refusal"));
    let twice = json!({ "plot": "grid", "x": "axis", "y": "fracture", "color": "model", "panel": "decoder", "where": { "family": "pico" } });
    let (svg, ..) = picture("grid_panels", &twice, vec![("table", vec![tables::rubric(2)])]).unwrap();
    has(&svg, &["decoder: sampling, algorithm: BCO"]);
}

#[test]
fn landscapes_and_contours_show_ridge_and_caps() {
    for (name, plot, models, holes) in [
        ("landscape", "landscape", 1, false),
        ("landscape_holes", "landscape", 1, true),
        ("landscape_three", "landscape", 3, false),
        ("contour", "contour", 1, false),
        ("contour_holes", "contour", 1, true),
        ("contour_four", "contour", 4, false),
    ] {
        let with = json!({ "plot": plot });
        let mut ports = vec![("landscape", vec![tables::landscape(models, holes)])];
        if plot == "contour" {
            ports.push(("caps", vec![tables::caps(models)]));
        }
        let (svg, ..) = picture(name, &with, ports).unwrap();
        has(&svg, &["temperature", "top-p", "ridge", "FRACTURE"]);
        assert_eq!(
            caption(&svg).contains("no result: T = 0.8, top-p = 0.8"),
            holes,
            "{name}"
        );
        if plot == "contour" {
            has(&svg, &["caps that keep the budget 0.15", "chosen cap"]);
            assert!(caption(&svg).contains("T ≤ 0.6, top-p ≤ 0.8: worst cell 0.49 → 0.11 on the held-out half"));
        }
    }
    let net = json!({ "plot": "landscape", "y": "net" });
    picture(
        "landscape_net",
        &net,
        vec![("table", vec![tables::landscape(1, false)])],
    )
    .unwrap();
    let mut line = Made::default();
    for temperature in [0.2, 0.4] {
        line.push(&[
            ("temperature", json!(temperature)),
            ("top_p", json!(0.9)),
            ("fracture", json!(0.1)),
        ]);
    }
    let error = refused(
        "line",
        &json!({ "plot": "contour" }),
        vec![("table", vec![line.view(&[])])],
    );
    assert!(
        error.contains("there are 2 temperatures and 1 values of top-p"),
        "{error}"
    );
}

#[test]
fn curves_mark_both_thresholds() {
    let (curve, main) = tables::curve(1, &["sampling"]);
    let with = json!({ "plot": "curve" });
    let (svg, ..) = picture(
        "curve",
        &with,
        vec![("curve", vec![curve.clone()]), ("fracture", vec![main.clone()])],
    )
    .unwrap();
    has(
        &svg,
        &["FRACTURE", "anti-FRACTURE", "τ = 0.8", "τ = 0.2", "threshold τ"],
    );
    assert!(caption(&svg).contains("n = 120 prompts") && caption(&svg).contains("other convention τ = 0.2"));
    picture("curve_bare", &with, vec![("table", vec![curve])]).unwrap();
    let (curve, ours) = tables::curve(4, &["greedy", "sampling"]);
    let with = json!({ "plot": "curve", "color": "decoder" });
    let (svg, ..) = picture(
        "curve_models",
        &with,
        vec![("curve", vec![curve]), ("fracture", vec![ours])],
    )
    .unwrap();
    has(&svg, &["model: pico-faker", "greedy", "sampling"]);
    let error = refused(
        "curve_wrong",
        &json!({ "plot": "curve", "where": { "axis": "safety" } }),
        vec![("table", vec![tables::rubric(1)])],
    );
    assert!(
        error.contains("no column `anti`") || error.contains("draws `STAGE.curve`"),
        "{error}"
    );
}

#[test]
fn frontiers_have_gap_and_lift() {
    let with = json!({ "plot": "frontier" });
    let named = |views: [View; 4]| {
        let names = ["curve", "overtakes", "lifts", "frontier"];
        names
            .into_iter()
            .zip(views)
            .map(|(name, view)| (name, vec![view]))
            .collect::<Vec<_>>()
    };
    let (svg, ..) = picture("frontier", &with, named(tables::frontier(1, 80))).unwrap();
    has(
        &svg,
        &[
            "train",
            "deploy",
            "more risk under deploy",
            "threshold t",
            "gap",
            "lift of a prompt (deploy − train)",
        ],
    );
    assert!(caption(&svg).contains("median lift"));
    picture("frontier_many", &with, named(tables::frontier(5, 400))).unwrap();
    let [curve, ..] = tables::frontier(1, 5);
    let (svg, ..) = picture("frontier_bare", &with, vec![("table", vec![curve])]).unwrap();
    assert!(!told(&svg).contains("lift"));
}

#[test]
fn flows_stress_what_crosses() {
    let with = json!({ "plot": "flow" });
    let (arrows, main) = tables::flow(1, 60);
    let (svg, ..) = picture("flow", &with, vec![("arrows", vec![arrows]), ("flow", vec![main])]).unwrap();
    has(
        &svg,
        &[
            "enters the unsafe side",
            "boundary",
            "PC 1 (41% of variance)",
            "PC 2 (17% of variance)",
        ],
    );
    assert!(caption(&svg).contains("n = 60 prompts") && caption(&svg).contains("Entry 0.24, Exit 0.03, AUC 0.91"));
    let (arrows, _) = tables::flow(3, 900);
    let (svg, ..) = picture("flow_many", &with, vec![("table", vec![arrows])]).unwrap();
    assert!(caption(&svg).contains("each arrow is the mean of the prompts that start beside each other"));
}

#[test]
fn reliability_and_mix() {
    let with = json!({ "plot": "reliability" });
    let (svg, ..) = picture(
        "reliability",
        &with,
        vec![("table", vec![tables::reliability(&["safety"])])],
    )
    .unwrap();
    has(
        &svg,
        &[
            "before calibration",
            "after calibration",
            "perfect",
            "observed share of unsafe",
        ],
    );
    assert!(caption(&svg).contains("ECE 0.17 → 0.03"));
    let three = tables::reliability(&["safety", "harmlessness", "helpfulness"]);
    picture("reliability_axes", &with, vec![("table", vec![three])]).unwrap();
    let with = json!({ "plot": "mix" });
    let (actions, summary) = tables::mix(5);
    let (svg, ..) = picture("mix", &with, vec![("mix", vec![actions]), ("summary", vec![summary])]).unwrap();
    has(
        &svg,
        &[
            "placebo × sampling × τ=0.5",
            "0.46",
            "present mix",
            "share of the audit budget",
        ],
    );
    assert!(
        caption(&svg).contains("value −0.31, −0.36 under adverse ties"),
        "{}",
        caption(&svg)
    );
    let (actions, _) = tables::mix(40);
    let (svg, ..) = picture("mix_forty", &with, vec![("table", vec![actions])]).unwrap();
    assert!(caption(&svg).contains("37 more actions have no share"));
}

#[test]
fn bytes_do_not_move() {
    // Moves with every change of a picture: raise the kind's version, look at the pictures, then put the new numbers here.
    let digest = |bytes: &[u8]| Digest::<Bytes>::of(bytes).hex()[..12].to_owned();
    let (svg, png, pdf) = picture(
        "bytes",
        &json!({ "plot": "grid" }),
        vec![("table", vec![tables::rubric(3)])],
    )
    .unwrap();
    let again = picture(
        "bytes",
        &json!({ "plot": "grid" }),
        vec![("table", vec![tables::rubric(3)])],
    )
    .unwrap();
    assert_eq!((&svg, &png, &pdf), (&again.0, &again.1, &again.2));
    let found = [digest(svg.as_bytes()), digest(&png), digest(&pdf)];
    assert_eq!(found, ["992667bfd81f", "b66611fa042b", "fc7f3237dbb8"]);
}

#[test]
fn what_can_not_be_drawn_is_refused() {
    let empty = || tables::rubric(0);
    for plot in [
        "grid",
        "landscape",
        "curve",
        "frontier",
        "flow",
        "reliability",
        "mix",
        "numbers",
    ] {
        let error = refused("empty", &json!({ "plot": plot }), vec![("table", vec![empty()])]);
        assert!(error.contains("the table has no row"), "{plot}: {error}");
    }
    let with = json!({ "plot": "contour" });
    let error = refused(
        "port",
        &with,
        vec![
            ("table", vec![tables::landscape(1, false)]),
            ("cap", vec![tables::caps(1)]),
        ],
    );
    assert!(
        error.contains("`plot: contour` reads no table `cap`") && error.contains("`caps`"),
        "{error}"
    );
    let error = refused("none", &with, vec![("caps", vec![tables::caps(1)])]);
    assert!(error.contains("lacks the table that is drawn"), "{error}");
    let mut many = Made::default();
    for model in 0..30 {
        for tau in [0.1, 0.5] {
            many.push(&[
                ("model", json!(format!("m{model}"))),
                ("tau", json!(tau)),
                ("fracture", json!(0.1)),
                ("anti", json!(0.0)),
            ]);
        }
    }
    let error = refused(
        "many",
        &json!({ "plot": "curve" }),
        vec![("table", vec![many.view(&["model"])])],
    );
    assert!(
        error.contains("30 panels do not fit on a page, 24 do") && error.contains("split: [model]"),
        "{error}"
    );
}
