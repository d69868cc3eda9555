//! Ways to mend parameters.

use serde_json::json;

use super::*;

fn place(keys: &[&str]) -> Place {
    keys.iter().map(|key| PathPart::Key((*key).to_owned())).collect()
}

#[test]
fn a_wrong_parameter_is_mended_in_several_ways() {
    let schema = json!({"properties": {
        "limit": {"type": "integer", "minimum": 1},
        "plot": {"enum": ["bars", "table"]},
        "by": {"type": ["array", "null"], "items": {"type": "string"}},
    }});
    let shape = Shape {
        schema: &schema,
        cases: false,
    };
    let with = |with: Value, wrong: Wrong| {
        let (made, _) = mended(&with, &[wrong], shape);
        let removed: Vec<bool> = made.iter().map(|(_, removed)| *removed).collect();
        assert_eq!(removed.iter().position(|one| *one), Some(removed.len() - 1));
        made.into_iter().map(|(made, _)| made).collect::<Vec<_>>()
    };
    let key = Wrong {
        place: place(&["limti"]),
        sort: Sort::Key,
    };
    assert_eq!(with(json!({"limti": 3}), key), [json!({"limit": 3}), json!({})]);
    let low = Wrong::value(&place(&["limit"]));
    assert_eq!(with(json!({"limit": 0}), low), [json!({"limit": 1}), json!({})]);
    let near = Wrong::value(&place(&["plot"]));
    assert_eq!(with(json!({"plot": "brs"}), near)[0], json!({"plot": "bars"}));
    let list = Wrong::value(&place(&["by"]));
    let lists = with(json!({"by": "axis"}), list);
    assert_eq!(lists, [json!({"by": ["axis"]}), json!({"by": []}), json!({})]);
}

#[test]
fn items_are_left_out_from_the_last_to_the_first() {
    let item = |index| Wrong::value(&[place(&["by"]), vec![PathPart::Index(index)]].concat());
    let shape = Shape {
        schema: &json!({}),
        cases: false,
    };
    let (made, touched) = mended(&json!({"by": [1, "a", 2]}), &[item(0), item(2)], shape);
    assert_eq!(made, [(json!({"by": ["a"]}), true)]);
    assert!(touched.iter().all(|one| *one == place(&["by"])));
}

#[test]
fn what_is_not_there_is_left_out_with_what_is_around_it() {
    let with = json!({"pools": {"a": {"path": "p"}, "b": {}}});
    let (made, gone) = without(&with, &place(&["pools", "a", "path"])).unwrap_or_default();
    assert_eq!((made, gone.len()), (json!({"pools": {"a": {}, "b": {}}}), 3));
    let (made, gone) = without(&with, &place(&["pools", "b", "path"])).unwrap_or_default();
    assert_eq!((made, gone.len()), (json!({"pools": {"a": {"path": "p"}}}), 2));
    assert!(without(&with, &[]).is_none());
}
