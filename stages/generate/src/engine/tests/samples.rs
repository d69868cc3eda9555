//! Random streams of rows.

use super::*;

#[test]
fn a_stream_is_a_function_of_what_identifies_the_row() {
    let base = Stream::new(17, "safety", "item", 0, 0);
    assert_eq!(base, Stream::new(17, "safety", "item", 0, 0));
    let others = [
        Stream::new(18, "safety", "item", 0, 0),
        Stream::new(17, "safetyi", "tem", 0, 0),
        Stream::new(17, "safety", "item", 1, 0),
        Stream::new(17, "safety", "item", 0, 1),
    ];
    assert!(others.iter().all(|other| *other != base));
    // Golden: a change of the streams changes every sampled result and needs a new version of the stage.
    assert_eq!(
        format!("{:.12} {:.12}", base.uniform(0), base.uniform(1)),
        "0.980321284962 0.467828436502"
    );
}

#[test]
fn sampled_rows_of_two_samples_differ_and_of_two_regimes_share_numbers() {
    let mut engine = Engine::new(random_model(serde_json::json!({})), byte_text(), Options::default()).unwrap();
    let hot = Sampling {
        temperature: 1.5,
        ..Sampling::default()
    };
    let one = request(&[1, 2, 3], hot, "a", 12);
    let other = Request {
        stream: Stream::new(17, "safety", "a", 1, 0),
        ..one.clone()
    };
    let rows = run_all(&mut engine, &[one.clone(), one, other]);
    assert_eq!(rows[0], rows[1]);
    assert_ne!(rows[0].row.tokens, rows[2].row.tokens);
}
