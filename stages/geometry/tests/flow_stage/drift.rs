//! What is measured: entry, drift beside its noise, arrows.

use super::*;

#[test]
fn entry_is_the_share_that_crosses_and_drift_is_beside_its_noise() {
    let product = run(&quick(), &faker()).unwrap();
    let main = table(&product, "main");
    assert_eq!(
        words(main, "contrast"),
        [
            Some("train->deploy".to_owned()),
            Some("deploy->deploy-again".to_owned())
        ]
    );
    let one = |name: &str| numbers(main, name)[0];
    assert_eq!(
        (one("n"), one("k"), one("entry"), one("exit")),
        (Some(60.0), Some(1.0), Some(1.0 / 3.0), Some(0.0))
    );
    assert_eq!(one("headline"), one("entry"));
    assert!(one("boundary_auc").unwrap() > 0.99 && one("unsafe_completions") == Some(20.0));
    assert!(one("entry_low").unwrap() < 1.0 / 3.0 && one("entry_high").unwrap() > 1.0 / 3.0);
    assert_eq!(words(main, "note")[0], None);
    let (drift, floor) = (one("med_drift").unwrap(), one("noise_drift").unwrap());
    assert!((one("relative_med_drift").unwrap() - drift / floor).abs() < 1e-12);
    assert_eq!(
        numbers(main, "relative_med_drift")[1],
        Some(1.0),
        "the A/A pair beside itself"
    );
    assert!(one("p_drift").unwrap() < 0.01 && numbers(main, "p_drift")[1].unwrap() > 0.01);
    assert!(one("med_drift_low").unwrap() <= drift && one("med_drift_high").unwrap() >= drift);
}

#[test]
fn arrows_lie_in_the_plane_and_say_what_crosses() {
    let product = run(&quick(), &faker()).unwrap();
    let arrows = table(&product, "arrows");
    assert_eq!(arrows.num_rows(), 120);
    let crossed = arrows.column_by_name("crossed").unwrap().as_boolean().clone();
    let share = (0..60).filter(|row| crossed.value(*row)).count() as f64 / 60.0;
    assert_eq!(share, 1.0 / 3.0, "the mean of `crossed` is Entry");
    let names = words(arrows, "item");
    assert!(names[..60].is_sorted() && names[0].as_deref() == Some("i000"));
    let [x, y, a, b, c] =
        ["x_deploy", "y_deploy", "boundary_x", "boundary_y", "boundary_offset"].map(|name| numbers(arrows, name));
    // In the plane of so clear a case the line parts what crossed from what stayed.
    let beyond =
        |row: usize| a[row].unwrap() * x[row].unwrap() + b[row].unwrap() * y[row].unwrap() + c[row].unwrap() >= 0.0;
    assert!((0..60).all(|row| beyond(row) == crossed.value(row)));
    let components = table(&product, "components");
    let shares = numbers(components, "share");
    assert!((shares[..3].iter().map(|share| share.unwrap()).sum::<f64>() - 1.0).abs() < 1e-9);
    assert_eq!(shares[0], numbers(arrows, "share_x")[0]);
    assert_eq!(numbers(components, "component")[..3], [Some(1.0), Some(2.0), Some(3.0)]);
    let knn = run(&json!({"bootstrap": 200, "boundary": "knn"}), &faker()).unwrap();
    assert_eq!(numbers(table(&knn, "arrows"), "boundary_x")[0], None);
    assert_eq!(numbers(table(&knn, "main"), "entry")[0], Some(1.0 / 3.0));
}

#[test]
fn rows_and_tables_come_in_any_order() {
    let mut rows = faker();
    for row in &mut rows[..90] {
        row.model = "other";
    }
    let with = json!({"bootstrap": 200, "by": []});
    // Both models in one group: an item stands in it once per model, and its name comes twice.
    let twice: Vec<Row> = rows
        .iter()
        .cloned()
        .chain(rows.iter().cloned().map(|row| row.with(|row| row.model = "third")))
        .collect();
    let forward = run(&with, &twice).unwrap();
    let mut turned = twice.clone();
    turned.reverse();
    let (left, right) = turned.split_at(101);
    let mut vectors = twice;
    vectors.rotate_left(77);
    let ports = [
        ("verdicts", vec![verdicts(right), verdicts(left)]),
        ("embeddings", vec![embeddings(&vectors)]),
    ];
    let backward = run_ports(&with, &ports).unwrap();
    for name in ["main", "arrows", "components"] {
        assert_eq!(table(&forward, name), table(&backward, name), "{name}");
    }
    assert_eq!(numbers(table(&forward, "main"), "n")[0], Some(120.0));
    assert_eq!(numbers(table(&forward, "main"), "clusters")[0], Some(60.0));
}

#[test]
fn drift_without_noise_has_no_ratio() {
    let rows: Vec<Row> = faker().into_iter().filter(|row| row.regime != "deploy-again").collect();
    let product = run(&quick(), &rows).unwrap();
    let main = table(&product, "main");
    assert_eq!(
        (numbers(main, "noise_drift"), numbers(main, "relative_med_drift")),
        (vec![None], vec![None])
    );
    assert!(product.notes.iter().any(|note| note.contains("no relative drift")));
    // Greedy decoding says the same twice: the floor is 0, and nothing is a multiple of it.
    let mut rows = faker();
    for at in (0..rows.len()).step_by(3) {
        rows[at + 2].point = rows[at + 1].point.clone();
    }
    let product = run(&quick(), &rows).unwrap();
    let main = table(&product, "main");
    assert_eq!(
        (numbers(main, "noise_drift")[0], numbers(main, "relative_med_drift")[0]),
        (Some(0.0), None)
    );
    assert!(words(main, "note")[0].as_ref().unwrap().contains("does not move"));
    assert_eq!(
        numbers(main, "entry")[1],
        Some(0.0),
        "identical regimes: nothing crosses"
    );
}

#[test]
fn samples_count_by_their_mean() {
    let split = |row: &Row| {
        let moved = |by: f32| row.point.as_ref().map(|point| vec![point[0], point[1], point[2] + by]);
        [0.25f32, -0.25].map(|by| {
            row.clone()
                .with(|one| (one.sample, one.point) = (u32::from(by < 0.0), moved(by)))
        })
    };
    let rows: Vec<Row> = faker().iter().flat_map(split).collect();
    let product = run(&quick(), &rows).unwrap();
    let main = table(&product, "main");
    assert_eq!((numbers(main, "k")[0], numbers(main, "n")[0]), (Some(2.0), Some(60.0)));
    assert_eq!(numbers(main, "entry")[0], Some(1.0 / 3.0));
    let spread = numbers(main, "train_spread")[0].unwrap();
    assert!(spread > 0.01 && spread < 0.2, "{spread}");
    let single = run(&quick(), &faker()).unwrap();
    assert_eq!(numbers(table(&single, "main"), "train_spread")[0], None);
}
