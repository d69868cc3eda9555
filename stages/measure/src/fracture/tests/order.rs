//! No result depends on the order of rows, nor on how they come as tables.

use fracture_stage::View;
use proptest::prelude::*;
use serde_json::json;

use super::fracture;
use crate::testing::{Row, batch, result, table, view};

/// One row per model, regime, item and sample, with scores from a coarse grid (ties and flips), some invalid.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let score = prop_oneof![9 => (0..=10u8).prop_map(|step| Some(f64::from(step) / 10.0)), 1 => Just(None)];
    prop::collection::vec(score, 2 * 3 * 4 * 2).prop_map(|scores| {
        let mut rows = Vec::new();
        for (index, score) in scores.into_iter().enumerate() {
            let (model, rest) = (index % 2, index / 2);
            let (regime, rest) = (rest % 3, rest / 3);
            let (item, sample) = (rest % 4, rest / 4);
            let row = Row::new(item, ["train", "deploy", "deploy-again"][regime], 0.0);
            rows.push(row.with(|row| {
                (row.model, row.sample, row.score) = (["a", "b"][model], sample as u32, score);
                row.axis = ["safety", "helpfulness"][item % 2];
            }));
        }
        rows
    })
}

/// The rows of each model as a table of its own, in which the model is a constant.
fn by_model(rows: &[Row]) -> Vec<View> {
    let of = |model: &str| -> View {
        let rows: Vec<Row> = rows.iter().filter(|row| row.model == model).cloned().collect();
        let batch = batch(&rows);
        let keep: Vec<usize> = (0..batch.num_columns())
            .filter(|column| batch.schema().field(*column).name() != "model")
            .collect();
        view(&batch.project(&keep).unwrap(), &["model"], &[("model", json!(model))])
    };
    vec![of("b"), of("a")]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn neither_order_nor_tables_matter((sorted, shuffled) in rows().prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle()))) {
        let with = json!({"by": ["axis", "model"], "bootstrap": 150, "aggregate": ["product", "mean"], "compare": [
            {"column": "model", "order": ["a", "b"], "value": "net"}
        ]});
        let one = fracture(&with, &[table(&sorted)]);
        let (left, right) = shuffled.split_at(shuffled.len() / 3);
        for other in [
            fracture(&with, &[table(&shuffled)]),
            fracture(&with, &[table(right), table(left)]),
            fracture(&with, &by_model(&shuffled)),
        ] {
            for name in ["main", "curve", "compare"] {
                prop_assert_eq!(result(&one, name), result(&other, name));
            }
            prop_assert_eq!(&one.notes, &other.notes);
        }
    }
}
