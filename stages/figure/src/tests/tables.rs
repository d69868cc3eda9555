//! Made-up tables like those of the stages, for the plots.

use std::f64::consts::PI;

use fracture_stage::View;
use serde_json::{Value, json};

use super::{Made, noise};

const MODELS: [&str; 5] = [
    "pico-faker",
    "pico-honest",
    "llama-2-7B",
    "qwen-2.5-14B",
    "mistral-7B-instruct-v0.3",
];
const ALGORITHMS: [&str; 4] = ["DPO", "KTO", "GRPO", "BCO"];
const AXES: [&str; 3] = ["safety", "harmlessness", "helpfulness"];

/// A number, or null where it is not finite.
fn number(value: f64) -> Value {
    json!((value * 1e4).round() / 1e4)
}

/// `fracture` over models × algorithms × axes, two cells missing, two null.
pub fn rubric(models: usize) -> View {
    let mut made = Made::default();
    for (m, model) in MODELS[..models].iter().enumerate() {
        for (g, algorithm) in ALGORITHMS.iter().enumerate() {
            for (a, axis) in AXES.iter().enumerate() {
                if (m, g) == (2, 1) && a == 0 || (m, g) == (1, 3) && a == 2 {
                    continue;
                }
                let value = 0.05 + 0.09 * (3 - a) as f64 * (0.4 + 0.25 * g as f64) / (1.0 + 0.3 * m as f64);
                let value = value + 0.05 * noise(m * 31 + g * 7 + a);
                let null = (m, g, a) == (3, 2, 1);
                let of = |value: f64| if null { Value::Null } else { number(value) };
                made.push(&[
                    ("model", json!(model)),
                    ("family", json!(model.split('-').next())),
                    ("algorithm", json!(algorithm)),
                    ("axis", json!(axis)),
                    ("decoder", json!("sampling")),
                    ("contrast", json!("train->deploy")),
                    ("aggregate", json!("product")),
                    ("k", json!(4)),
                    ("n", json!(200)),
                    ("tau", json!(0.8)),
                    ("tau_other", json!(0.2)),
                    ("judge", json!("refusal")),
                    ("confidence", json!(0.95)),
                    ("fracture", of(value)),
                    ("fracture_low", of((value - 0.06).max(0.0))),
                    ("fracture_high", of(value + 0.07)),
                    ("net", of(value - 0.2)),
                    ("noise_floor", of(0.03)),
                ]);
            }
        }
    }
    made.view(&["axis", "model", "family", "algorithm", "decoder"])
}

/// `landscape` over T × top-p for some models; with holes where asked for.
pub fn landscape(models: usize, holes: bool) -> View {
    let mut made = Made::default();
    for (m, model) in MODELS[..models].iter().enumerate() {
        for (t, temperature) in [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2].into_iter().enumerate() {
            for (p, mass) in [0.5, 0.7, 0.8, 0.9, 0.95, 1.0].into_iter().enumerate() {
                if (t == 0 && p != 5) || (holes && t == 4 && p == 2) {
                    continue;
                }
                let rise = 1.0 / (1.0 + (-7.0 * (temperature - 0.75 + 0.1 * m as f64)).exp());
                let bump = (-((temperature - 0.8) / 0.16_f64).powi(2) - ((mass - 0.9) / 0.06_f64).powi(2)).exp();
                let value =
                    0.03 + 0.42 * rise * (mass - 0.25) + 0.13 * bump * f64::from(t != 0) + 0.015 * noise(t * 9 + p + m);
                made.push(&[
                    ("model", json!(model)),
                    ("contrast", json!("train->deploy")),
                    ("temperature", number(temperature)),
                    ("top_p", number(mass)),
                    ("n", json!(120)),
                    ("k", json!(8)),
                    ("tau", json!(0.5)),
                    ("judge", json!("refusal")),
                    ("fracture", number(value)),
                    ("net", number(value - 0.2)),
                    ("ridge", json!(t == 4 && (2..=4).contains(&p))),
                ]);
            }
        }
    }
    made.view(&["model"])
}

/// `landscape.caps`.
pub fn caps(models: usize) -> View {
    let mut made = Made::default();
    let stairs = [
        [0.2, 1.0, 0.49, 0.05],
        [0.4, 0.95, 0.49, 0.07],
        [0.6, 0.8, 0.49, 0.11],
        [1.0, 0.5, 0.49, 0.12],
    ];
    for model in &MODELS[..models] {
        for (index, [temperature, mass, before, after]) in stairs.into_iter().chain(stairs).enumerate() {
            made.push(&[
                ("model", json!(model)),
                ("contrast", json!("train->deploy")),
                ("budget", json!(0.15)),
                ("temperature", json!(temperature)),
                ("top_p", json!(mass)),
                ("before", json!(before)),
                ("before_low", json!(before - 0.08)),
                ("before_high", json!(before + 0.08)),
                ("after", json!(after)),
                ("after_low", json!(after - 0.04)),
                ("after_high", json!(after + 0.06)),
                ("half", json!(if index < 4 { "choosing" } else { "reporting" })),
                ("chosen", json!(index % 4 == 2)),
            ]);
        }
    }
    made.view(&["model"])
}

/// The scores of made-up items under both regimes.
pub fn scores(items: usize, seed: usize) -> Vec<[f64; 2]> {
    let item = |index: usize| {
        let (a, b, c) = (
            noise(index * 3 + seed),
            noise(index * 5 + seed + 1),
            noise(index * 7 + seed + 2),
        );
        let train = (a * a * 0.9).min(1.0);
        let deploy = if c < 0.45 {
            0.4 + 0.6 * b
        } else {
            (train + 0.2 * (b - 0.5)).clamp(0.0, 1.0)
        };
        [train, deploy]
    };
    (0..items).map(item).collect()
}

/// `fracture.curve`, `fracture` beside it, for models × decoders.
pub fn curve(models: usize, decoders: &[&'static str]) -> (View, View) {
    let (mut curve, mut main) = (Made::default(), Made::default());
    for (m, model) in MODELS[..models].iter().enumerate() {
        for (d, decoder) in decoders.iter().enumerate() {
            let scores = scores(120, 10 * m + 100 * d);
            let share = |tau: f64, flip: bool| {
                let hits = scores.iter().filter(|[u, v]| {
                    if flip {
                        *u < tau && *v >= tau
                    } else {
                        *v < tau && *u >= tau
                    }
                });
                hits.count() as f64 / scores.len() as f64
            };
            let label = [
                ("model", json!(model)),
                ("decoder", json!(decoder)),
                ("contrast", json!("train->deploy")),
            ];
            let mut taus: Vec<f64> = scores.iter().flatten().copied().collect();
            taus.sort_by(f64::total_cmp);
            for tau in taus {
                let mut row = label.to_vec();
                row.extend([("k", json!(4)), ("tau", json!(tau))]);
                row.extend([
                    ("fracture", json!(share(tau, true))),
                    ("anti", json!(share(tau, false))),
                ]);
                curve.push(&row);
            }
            let value = share(0.8, true);
            let mut row = label.to_vec();
            row.extend([
                ("n", json!(120)),
                ("tau", json!(0.8)),
                ("tau_other", json!(0.2)),
                ("confidence", json!(0.95)),
            ]);
            row.extend([
                ("fracture", json!(value)),
                ("fracture_low", json!(value - 0.07)),
                ("fracture_high", json!(value + 0.08)),
            ]);
            main.push(&row);
        }
    }
    (curve.view(&["model", "decoder"]), main.view(&["model", "decoder"]))
}

/// `frontier.curve`, `.overtakes`, the lifts and the summary.
pub fn frontier(models: usize, items: usize) -> [View; 4] {
    let [mut curve, mut overtakes, mut lifts, mut main] = std::array::from_fn(|_| Made::default());
    for (m, model) in MODELS[..models].iter().enumerate() {
        let scores = scores(items, 10 * m);
        let above = |tau: f64, place: usize| {
            scores.iter().filter(|pair| pair[place] >= tau).count() as f64 / scores.len() as f64
        };
        let mut taus: Vec<f64> = scores.iter().flatten().copied().collect();
        taus.sort_by(f64::total_cmp);
        let label = [("model", json!(model)), ("contrast", json!("train->deploy"))];
        let mut before = 1.0;
        for tau in taus {
            let (train, deploy) = (above(tau, 0), above(tau, 1));
            let mut row = label.to_vec();
            row.extend([
                ("threshold", json!(tau)),
                ("train", json!(train)),
                ("deploy", json!(deploy)),
            ]);
            let gap = deploy - train;
            row.extend([
                ("gap", json!(gap)),
                ("gap_low", json!(gap - 0.09)),
                ("gap_high", json!(gap + 0.09)),
            ]);
            curve.push(&row);
            if before <= 0.0 && gap > 0.0 {
                overtakes.push(&[label[0].clone(), label[1].clone(), ("threshold", json!(tau))]);
            }
            before = gap;
        }
        let mut all: Vec<f64> = scores.iter().map(|[u, v]| v - u).collect();
        for lift in &all {
            lifts.push(&[label[0].clone(), label[1].clone(), ("lift", json!(lift))]);
        }
        all.sort_by(f64::total_cmp);
        let median = all[all.len() / 2];
        let mut row = label.to_vec();
        row.extend([("n", json!(items)), ("k", json!(4)), ("median_lift", json!(median))]);
        row.extend([
            ("median_lift_low", json!(median - 0.05)),
            ("median_lift_high", json!(median + 0.06)),
        ]);
        main.push(&row);
    }
    [curve, overtakes, lifts, main].map(|made| made.view(&["model"]))
}

/// `flow.arrows` and `flow`.
pub fn flow(models: usize, items: usize) -> (View, View) {
    let (mut arrows, mut main) = (Made::default(), Made::default());
    for (m, model) in MODELS[..models].iter().enumerate() {
        for item in 0..items {
            let [a, b, c, d] = std::array::from_fn(|part| noise(item * 11 + part + m * 1000));
            let turn = |share: f64| 2.0 * PI * share;
            let [x, y] = [-0.35 + 0.3 * a * turn(b).cos(), 0.1 + 0.3 * a * turn(b).sin()];
            let far = if d < 0.3 { 0.75 } else { 0.12 };
            let [to_x, to_y] = [x + far * (0.6 + 0.5 * c), y + far * (c - 0.6)];
            let side = |x: f64, y: f64| 3.0 * x - y - 0.2;
            arrows.push(&[
                ("model", json!(model)),
                ("contrast", json!("train->deploy")),
                ("item", json!(format!("i{item}"))),
                ("x_train", json!(x)),
                ("y_train", json!(y)),
                ("x_deploy", json!(to_x)),
                ("y_deploy", json!(to_y)),
                ("crossed", json!(side(x, y) < 0.0 && side(to_x, to_y) >= 0.0)),
                (
                    "exited",
                    json!(side(x, y) >= 0.0 && side(to_x, to_y) < 0.0 || item == 7),
                ),
                ("share_x", json!(0.41)),
                ("share_y", json!(0.173)),
                ("boundary_x", json!(3.0)),
                ("boundary_y", json!(-1.0)),
                ("boundary_offset", json!(-0.2)),
            ]);
        }
        main.push(&[
            ("model", json!(model)),
            ("contrast", json!("train->deploy")),
            ("n", json!(items)),
            ("med_drift", json!(0.18)),
            ("relative_med_drift", json!(2.4)),
            ("entry", json!(0.24)),
            ("entry_low", json!(0.17)),
            ("entry_high", json!(0.32)),
            ("exit", json!(0.03)),
            ("headline", if m == 1 { Value::Null } else { json!(0.24) }),
            ("boundary_auc", json!(0.91)),
        ]);
    }
    (arrows.view(&["item", "model"]), main.view(&["model"]))
}

/// `calibrate.reliability`.
pub fn reliability(judges: &[&'static str]) -> View {
    let mut made = Made::default();
    for (j, judge) in judges.iter().enumerate() {
        for bin in 0..10 {
            let predicted = (bin as f64 + 0.5) / 10.0;
            for stage in ["before", "after"] {
                let bent = predicted.powf(if stage == "before" { 2.2 } else { 1.05 });
                let observed = (bent + 0.04 * (noise(bin * 3 + j) - 0.5)).clamp(0.0, 1.0);
                made.push(&[
                    ("axis", json!(judge)),
                    ("stage", json!(stage)),
                    ("bin", json!(bin)),
                    ("predicted", json!(predicted)),
                    ("observed", json!(observed)),
                    ("observed_low", json!((observed - 0.08).max(0.0))),
                    ("observed_high", json!((observed + 0.08).min(1.0))),
                    ("n", json!(20.0 + (30.0 * noise(bin + j)).round())),
                    ("method", json!("platt")),
                    ("ece", json!(if stage == "before" { 0.17 } else { 0.03 })),
                ]);
            }
        }
    }
    made.view(&["axis"])
}

/// `stackelberg` and its summary.
pub fn mix(actions: usize) -> (View, View) {
    let mut made = Made::default();
    for action in 0..actions {
        let share: f64 = [0.46, 0.31, 0.23].get(action).copied().unwrap_or(0.0);
        let name = match action {
            0 => "placebo × sampling × τ=0.5".to_owned(),
            1 => "train × greedy × τ=0.8".to_owned(),
            2 => "none".to_owned(),
            more => format!("train × sampling × τ=0.{more:02}"),
        };
        made.push(&[
            ("action", json!(name)),
            ("probability", json!(share)),
            ("probability_low", json!((share - 0.12).max(0.0))),
            ("probability_high", json!(if share > 0.0 { share + 0.15 } else { 0.0 })),
            ("current", if action == 1 { json!(1.0) } else { json!(0.0) }),
        ]);
    }
    let mut summary = Made::default();
    summary.push(&[
        ("value", json!(-0.31)),
        ("value_adverse_ties", json!(-0.36)),
        ("best_pure", json!(-0.44)),
        ("current", json!(-0.58)),
    ]);
    (made.view(&[]), summary.view(&[]))
}
