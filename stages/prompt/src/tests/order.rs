//! Reordering what a user may reorder changes nothing at all.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Folder, key, run};

fn pool(items: &[(u32, bool)]) -> String {
    let line = |(number, flag): &(u32, bool)| {
        format!(
            "{}\n",
            json!({"id": format!("i{number}"), "prompt": format!("Question {number}"), "flag": flag})
        )
    };
    items.iter().map(line).collect()
}

fn map(entries: Vec<(String, Value)>) -> Value {
    Value::Object(entries.into_iter().collect::<Map<_, _>>())
}

fn regimes() -> Vec<(String, Value)> {
    vec![
        ("train".to_owned(), json!({"cue": "fine-tuning"})),
        ("deploy".to_owned(), json!({})),
        ("deploy-again".to_owned(), json!({"draw": 1})),
        (
            "kind".to_owned(),
            json!({"system": "Be kind to {{ item }}.", "strength": 0.5}),
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn pools_regimes_and_axes_have_no_order(
        (items, shuffled) in prop::collection::btree_map(0u32..500, any::<bool>(), 1..30).prop_flat_map(|items| {
            let items: Vec<_> = items.into_iter().collect();
            (Just(items.clone()), Just(items).prop_shuffle())
        }),
        regimes_shuffled in Just(regimes()).prop_shuffle(),
        sample in 1u64..20,
    ) {
        let folder = Folder::new(&[
            ("a.jsonl", pool(&items).as_bytes()),
            ("b.jsonl", pool(&shuffled).as_bytes()),
        ]);
        let with = |first: &str, second: &str, regimes: Vec<(String, Value)>, swap: bool| {
            let mut pools = vec![
                ("safety".to_owned(), json!({"path": first})),
                ("helpfulness".to_owned(), json!({"path": second, "sample": sample})),
            ];
            if swap { pools.reverse(); }
            json!({"pools": map(pools), "regimes": map(regimes)})
        };
        let before = with("a.jsonl", "a.jsonl", regimes(), false);
        let after = with("b.jsonl", "b.jsonl", regimes_shuffled, true);
        prop_assert_eq!(run(&folder, &before).unwrap(), run(&folder, &after).unwrap());
        prop_assert_eq!(key(&before), key(&after));
    }
}
