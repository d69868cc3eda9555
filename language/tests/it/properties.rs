//! What must hold for any pipeline.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{compile, compile_with, names};

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from)
    ]
}

fn pipeline(lists: &[(String, Vec<u32>)], stages: &[usize]) -> String {
    let matrix: Vec<String> = lists
        .iter()
        .map(|(name, values)| format!("{name}: {values:?}"))
        .collect();
    let mut blocks = vec![
        "  prompts: { uses: prompt, with: { pools: { s: { path: p } }, regimes: { deploy: {} } } }".to_owned(),
        format!(
            "  answers: {{ uses: generate, needs: prompts, matrix: {{ {} }}, with: {{ model: a }} }}",
            matrix.join(", ")
        ),
        "  scores: { uses: judge, needs: answers, with: { model: j, unsafe: [comply] } }".to_owned(),
        "  verdicts: { uses: threshold, needs: scores, with: { tau: 0.5 } }".to_owned(),
    ];
    blocks = stages.iter().map(|stage| blocks[*stage].clone()).collect();
    format!(
        "version: 1\nmodels: {{ a: {{ source: m }} }}\nstages:\n{}\n",
        blocks.join("\n")
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_variable_keeps_its_value_and_type(value in scalar()) {
        let escaped = match &value {
            Value::String(text) => Value::String(text.replace("${", "$${")),
            other => other.clone(),
        };
        prop_assume!(!value.as_str().is_some_and(|text| text.contains("$${")));
        let text = format!("version: 1\nvars: {{ x: {{ y: {escaped} }} }}\nstages:\n  a: {{ uses: query, with: {{ sql: '${{vars.x.y}}' }} }}\n");
        match (compile(&text), &value) {
            (Ok(pipeline), Value::String(_)) => prop_assert_eq!(&pipeline.tasks[0].with["sql"], &value),
            (Err(wrong), other) if !other.is_string() => prop_assert!(wrong.0[0].message.contains("expected a text"), "{}", wrong),
            (result, _) => prop_assert!(false, "{:?}", result.map(|_| ())),
        }
    }

    #[test]
    fn reordering_changes_no_name(
        lists in prop::collection::btree_map("[a-d]{1,2}", prop::collection::btree_set(0_u32..9, 1..4), 1..4),
        reversed in any::<bool>(),
        order in Just(vec![0_usize, 1, 2, 3]).prop_shuffle(),
    ) {
        let sorted: Vec<(String, Vec<u32>)> = lists.iter().map(|(name, values)| (name.clone(), values.iter().copied().collect())).collect();
        let mut other: Vec<(String, Vec<u32>)> = sorted.iter().rev().cloned().collect();
        if reversed {
            other.iter_mut().for_each(|(_, values)| values.reverse());
        }
        let one = compile(&pipeline(&sorted, &[0, 1, 2, 3])).map_err(|wrong| TestCaseError::fail(wrong.to_string()))?;
        let two = compile(&pipeline(&other, &order)).map_err(|wrong| TestCaseError::fail(wrong.to_string()))?;
        prop_assert_eq!(names(&one), names(&two));
        let product: usize = lists.values().map(|values| values.len()).product();
        prop_assert_eq!(one.stage("answers").map(|stage| stage.tasks.len()), Some(product));
        let with = |pipeline: &fracture_language::Pipeline| -> BTreeMap<String, Value> {
            pipeline.tasks.iter().map(|task| (task.name.clone(), json!(*task.with))).collect()
        };
        prop_assert_eq!(with(&one), with(&two));
    }

    #[test]
    fn mutated_files_never_panic(at in 0_usize..3000, with in "[ -~\\n]{0,3}", remove in 0_usize..40) {
        let text = include_str!("../valid/quickstart.yaml");
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let end = (at + remove..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
        let mutated = format!("{}{with}{}", &text[..at], &text[end.max(at)..]);
        if let Err(wrong) = compile_with(&mutated, &[], &[]) {
            prop_assert!(!wrong.0.is_empty());
            prop_assert!(!wrong.render(false).is_empty());
        }
    }
}
