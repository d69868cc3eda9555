#![allow(clippy::unwrap_used)]

use fracture_stage::{Declaration, Product, View};
use serde_json::{Value, json};

use super::declaration;
use crate::memory;
use crate::testing::{Row, numbers, result, run, run_ports, table, texts, uniform};

/// Two models under greedy and a 2 x 1 grid; `n` flips more the hotter it is.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for model in ["m", "n"] {
        for at in [(0.0, 1.0), (0.5, 0.9), (1.0, 0.9)] {
            for item in 0..200 {
                let share = if model == "n" { 0.6 * at.0 } else { 0.0 };
                let deploy = if uniform("flip", item) < share { 0.9 } else { 0.1 };
                let row = |regime, score| Row::new(item, regime, at, score).with(|row| row.model = model);
                rows.extend([row("train", 0.1), row("deploy", deploy)]);
            }
        }
    }
    rows
}

fn output(declaration: &Declaration, with: &Value, name: &str, rows: &[Row]) -> View {
    let product: Product = run(declaration, with, &[table(rows)]).unwrap();
    memory::view(result(&product, name), ["axis".to_owned()]).unwrap()
}

#[test]
fn the_numbers_of_real_stages_are_joined() {
    let rows = rows();
    let quick = json!({"bootstrap": 200});
    let flips = output(&fracture_measure::fracture::declaration(), &quick, "main", &rows);
    let srf = output(&fracture_measure::frontier::declaration(), &quick, "main", &rows);
    let with = json!({"bootstrap": 200, "budget": 0.2});
    let caps = output(&crate::landscape::declaration(), &with, "caps", &rows);
    let ports: [(&str, &[View]); 3] = [("fracture", &[flips]), ("frontier", &[srf]), ("caps", &[caps])];
    let product = run_ports(&declaration(), &json!({}), &ports).unwrap();
    let main = result(&product, "main");
    assert_eq!(texts(main, "model"), ["m", "m", "m", "n", "n", "n"]);
    assert_eq!(texts(main, "decoder"), ["T=0.5,p=0.9", "T=1,p=0.9", "greedy"].repeat(2));
    let (fracture, low) = (numbers(main, "fracture"), numbers(main, "fracture_low"));
    assert_eq!((fracture[0], fracture[5]), (Some(0.0), Some(0.0)));
    assert!(low[4] < fracture[4] && fracture[4] > fracture[3]);
    assert_eq!(numbers(main, "srf_median_lift")[0], Some(0.0));
    // The caps of a model stand beside each of its decoders: 0 flips need no cap, 60 % at T = 1 do.
    assert_eq!(numbers(main, "cap_temperature")[..3], [Some(1.0); 3]);
    let before = numbers(main, "before_caps");
    assert!(before[3] == before[5] && (before[3].unwrap() - 0.6).abs() < 0.15);
    assert_eq!(numbers(main, "cap_temperature")[3..], [Some(0.0); 3]);
    assert_eq!(numbers(main, "after_caps")[3..], [Some(0.0); 3]);
    assert!(numbers(main, "before_caps_low")[3].is_some() && numbers(main, "after_caps_high")[3].is_some());
    assert_eq!(texts(main, "reason"), ["manifold_entry: no table `flow`"; 6]);
}
