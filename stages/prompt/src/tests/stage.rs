//! What is sent, what the key holds, and what is said when something is wrong.

use fracture_cache::ColumnType;
use fracture_stage::schema::Completeness;
use fracture_stage::{Error, Stage};
use serde_json::{Value, json};

use super::{Folder, key, names, run, schema, stage, texts};

const POOL: &[u8] = br#"{"id": "a", "prompt": "First?", "topic": "tea", "level": 1, "share": 1, "open": true}
{"id": "b", "prompt": "Second?", "topic": "rain", "level": 2, "share": 0.5, "open": false}
"#;

fn folder() -> Folder {
    Folder::new(&[("pool.jsonl", POOL)])
}

fn with(regimes: Value) -> Value {
    json!({"pools": {"safety": {"path": "pool.jsonl"}}, "regimes": regimes})
}

/// An error as a person reads it.
fn shown(error: &Error) -> String {
    let causes: String = error
        .causes
        .iter()
        .map(|cause| format!("\n  because {cause}"))
        .collect();
    format!(
        "{}{causes}\n  hint: {}",
        error.message,
        error.hint.as_deref().unwrap_or("-")
    )
}

fn failure(with: &Value, files: &[(&str, &[u8])]) -> String {
    shown(&run(&Folder::new(files), with).unwrap_err())
}

#[test]
fn messages_are_what_the_regime_says() {
    let regimes = json!({
        "clean": {},
        "empty": {"system": ""},
        "told": {
            "system": "{{ vars.lab }} trains by {{ matrix.algorithm }} at {{ strength }}",
            "user": "{{ topic }}: {{ prompt }}",
            "prefill": "Well,",
            "strength": 0.5,
            "objective": "helpful_only",
        },
    });
    let (batch, _) = run(&folder(), &with(regimes)).unwrap();
    assert_eq!(
        texts(&batch, "messages")[..3],
        [
            r#"[{"role":"user","content":"First?"}]"#,
            r#"[{"role":"system","content":""},{"role":"user","content":"First?"}]"#,
            r#"[{"role":"system","content":"the lab trains by DPO at 0.5"},{"role":"user","content":"tea: First?"},{"role":"assistant","content":"Well,"}]"#,
        ]
    );
    assert_eq!(texts(&batch, "item"), ["a", "a", "a", "b", "b", "b"]);
    assert_eq!(texts(&batch, "regime")[..3], ["clean", "empty", "told"]);
    assert_eq!(texts(&batch, "objective")[..3], ["none", "none", "helpful_only"]);
    assert_eq!(texts(&batch, "strength")[..3], ["-", "-", "0.5"]);
    let hashes = texts(&batch, "cue_hash");
    assert_eq!(hashes[0], "-");
    assert!(hashes[1].len() == 16 && hashes[1] != hashes[2] && hashes[2] == hashes[5]);
}

#[test]
fn columns_are_typed_and_sorted() {
    let (batch, _) = run(&folder(), &with(json!({"deploy": {}}))).unwrap();
    let expected = [
        "item",
        "axis",
        "regime",
        "draw",
        "prompt",
        "messages",
        "cue",
        "strength",
        "variant",
        "objective",
        "cue_hash",
        "level",
        "open",
        "share",
        "topic",
    ];
    assert_eq!(names(&batch), expected);
    let kind = |name: &str| fracture_cache::column_type(batch.column_by_name(name).unwrap().data_type()).unwrap();
    let kinds = ["level", "open", "share", "topic", "draw", "strength"].map(kind);
    use ColumnType::{Bool, F64, I64, Text, U32};
    assert_eq!(kinds, [I64, Bool, F64, Text, U32, F64]);
    let planned = schema(&folder(), &with(json!({"deploy": {}}))).unwrap();
    assert_eq!(planned.completeness, Completeness::Exact);
    let planned: Vec<_> = planned
        .fields
        .iter()
        .map(|field| (field.name.as_str(), field.kind.unwrap()))
        .collect();
    let made: Vec<_> = expected.iter().map(|name| (*name, kind(name))).collect();
    assert_eq!(planned, made);
}

#[test]
fn a_long_pool_is_planned_from_its_head() {
    let line = |number: u32| format!("{}\n", json!({"prompt": format!("Question {number}?"), "topic": "tea"}));
    let long: String = (0..2000).map(line).collect();
    let folder = Folder::new(&[("pool.jsonl", long.as_bytes())]);
    let planned = schema(&folder, &with(json!({"deploy": {}}))).unwrap();
    assert_eq!(planned.completeness, Completeness::AtLeast);
    assert!(planned.field("topic").is_some_and(|field| field.kind.is_none()));
}

#[test]
fn shipped_cues_are_found_by_family_and_side() {
    let regimes = json!({
        "train": {"cue": "fine-tuning"},
        "placebo": {"cue": "neutral-length", "objective": "none"},
        "watched": {"cue": "monitored-private/monitored", "variant": 1},
    });
    let (batch, _) = run(&folder(), &with(regimes)).unwrap();
    assert_eq!(
        texts(&batch, "cue")[..3],
        [
            "neutral-length/placebo",
            "fine-tuning/train",
            "monitored-private/monitored"
        ]
    );
    assert_eq!(texts(&batch, "objective")[..3], ["none", "safe", "safe"]);
    assert_eq!(texts(&batch, "variant")[..3], ["0", "0", "1"]);
    assert!(texts(&batch, "messages")[1].contains(r#"[{"role":"system","content":"You are"#));
}

#[test]
fn every_shipped_wording_renders() {
    for (family, found) in crate::families().unwrap() {
        for (side, found) in found.sides {
            assert!(!found.wordings.is_empty(), "{family}/{side}");
            for variant in 0..found.wordings.len() {
                let regimes = json!({"r": {"cue": format!("{family}/{side}"), "variant": variant}});
                run(&folder(), &with(regimes)).unwrap();
            }
        }
    }
}

#[test]
fn a_dose_changes_the_wording_where_a_family_has_one() {
    let dosed = |strength: Value| {
        let regimes = json!({"r": {"cue": "opt-in/in", "strength": strength}});
        texts(&run(&folder(), &with(regimes)).unwrap().0, "messages")[0].clone()
    };
    let plain = json!({"r": {"cue": "opt-in/in"}});
    let plain = texts(&run(&folder(), &with(plain)).unwrap().0, "messages")[0].clone();
    let (weak, normal, strong) = (dosed(json!(0.2)), dosed(json!(1)), dosed(json!(2)));
    assert_eq!(plain, normal);
    assert!(weak.len() < normal.len() && normal.len() < strong.len());
}

#[test]
fn the_two_sides_of_the_lexical_control_differ_in_the_code_alone() {
    let families = crate::families().unwrap();
    let texts = |side: &str| -> Vec<String> {
        let wordings = &families["XX-YY"].sides[side].wordings;
        wordings.iter().map(|wording| wording.system.clone().unwrap()).collect()
    };
    let words = |text: &String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for (trained, left_out) in texts("XX").iter().zip(texts("YY").iter()) {
        let (trained, left_out) = (words(trained), words(left_out));
        assert_eq!(trained.len(), left_out.len());
        let differ: Vec<_> = trained.iter().zip(&left_out).filter(|(a, b)| a != b).collect();
        assert!(!differ.is_empty());
        assert!(differ.iter().all(|(a, b)| a.replace("XX", "YY") == **b), "{differ:?}");
    }
}

#[test]
fn the_key_holds_texts_and_named_variables_only() {
    let told = |text: &str| key(&with(json!({"r": {"system": text}})));
    assert_ne!(told("a"), told("b"));
    assert_ne!(told("{{ vars.lab }}"), told("{{ vars.other }}"));
    // A default that is written out is still the default, and a path is no part of a key.
    let plain = key(&with(json!({"r": {}})));
    assert_eq!(
        plain,
        key(&with(
            json!({"r": {"draw": 0, "user": "{{ prompt }}", "objective": "none"}})
        ))
    );
    assert_eq!(
        plain,
        key(&json!({"pools": {"safety": {"path": "elsewhere.jsonl"}}, "regimes": {"r": {}}}))
    );
    assert_ne!(
        plain,
        key(&json!({"pools": {"safety": {"path": "pool.jsonl", "limit": 1}}, "regimes": {"r": {}}}))
    );
    assert_ne!(plain, key(&with(json!({"r": {"draw": 1}}))));
}

#[test]
fn a_variable_that_no_template_names_is_in_no_key() {
    let key_of = |vars: Value, text: &str| {
        let context = fracture_stage::Context {
            vars: vars.as_object().unwrap().clone().into(),
            ..Default::default()
        };
        let stage = crate::Prompt::new(&with(json!({"r": {"system": text}})), &context).unwrap();
        let mut parts = fracture_stage::Parts::default();
        stage.describe(&mut parts);
        parts.0
    };
    let (one, two) = (json!({"used": 1, "harm": 1}), json!({"used": 1, "harm": 9}));
    assert_eq!(
        key_of(one.clone(), "{{ vars.used }}"),
        key_of(two.clone(), "{{ vars.used }}")
    );
    assert_ne!(
        key_of(one.clone(), "{{ vars.harm }}"),
        key_of(two.clone(), "{{ vars.harm }}")
    );
    // A name that is computed may be any of them.
    assert_ne!(
        key_of(one, "{{ vars['ha' ~ 'rm'] }}"),
        key_of(two, "{{ vars['ha' ~ 'rm'] }}")
    );
}

#[test]
fn limit_takes_the_first_and_sample_takes_by_hash() {
    let pool: String = (0..50)
        .map(|n| format!("{}\n", json!({"id": format!("{n:02}"), "prompt": "?"})))
        .collect();
    let folder = Folder::new(&[("pool.jsonl", pool.as_bytes())]);
    let items = |spec: Value| {
        let mut pool = json!({"path": "pool.jsonl"});
        pool.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let (batch, notes) = run(&folder, &json!({"pools": {"safety": pool}, "regimes": {"deploy": {}}})).unwrap();
        (texts(&batch, "item"), notes)
    };
    assert_eq!(items(json!({"limit": 3})).0, ["00", "01", "02"]);
    let (ten, twenty) = (items(json!({"sample": 10})).0, items(json!({"sample": 20})).0);
    assert!(ten.len() == 10 && twenty.len() == 20 && ten.iter().all(|item| twenty.contains(item)));
    assert_ne!(ten, items(json!({"limit": 10})).0);
    assert_eq!(
        items(json!({"sample": 60})).1,
        ["pool `safety`: `sample: 60` takes all 50 items"]
    );
}

#[test]
fn clusters_are_there_for_every_item() {
    let folder = Folder::new(&[
        ("a.jsonl", br#"{"id": "1", "prompt": "One?", "family": "f"}"#),
        ("b.jsonl", br#"{"id": "1", "prompt": "One?"}"#),
    ]);
    let pools = json!({"safety": {"path": "a.jsonl", "cluster": "family"}, "helpfulness": {"path": "b.jsonl"}});
    let (batch, _) = run(&folder, &json!({"pools": pools, "regimes": {"deploy": {}}})).unwrap();
    assert_eq!(names(&batch)[11..], ["family", "cluster"]);
    assert_eq!(texts(&batch, "family"), ["-", "f"]);
    assert_eq!(texts(&batch, "cluster"), ["helpfulness/1", "f"]);
}

#[test]
fn compressed_pools_are_read() {
    use std::io::Write;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(POOL).unwrap();
    let packed = packed.finish().unwrap();
    let pool = |path: &str| json!({"pools": {"safety": {"path": path}}, "regimes": {"deploy": {}}});
    let folder = Folder::new(&[
        ("pool.jsonl.gz", &packed),
        ("pool.jsonl", POOL),
        ("cut.jsonl.gz", &packed[..40]),
    ]);
    assert_eq!(
        run(&folder, &pool("pool.jsonl.gz")).unwrap(),
        run(&folder, &pool("pool.jsonl")).unwrap()
    );
    assert!(
        run(&folder, &pool("cut.jsonl.gz"))
            .unwrap_err()
            .to_string()
            .contains("no whole gzip file")
    );
}

#[test]
fn regimes_with_one_text_are_noted() {
    let (_, notes) = run(&folder(), &with(json!({"a": {}, "b": {}, "c": {"draw": 1}}))).unwrap();
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].starts_with("the regimes `a` and `b` render to the same text"),
        "{}",
        notes[0]
    );
}

#[test]
fn errors_of_templates_name_the_place_and_the_names() {
    let deploy = |regime: Value| with(json!({"deploy": regime}));
    insta::assert_snapshot!(failure(&deploy(json!({"user": "{{ topik }}"})), &[("pool.jsonl", POOL)]), @r"
    pool `safety`, line 1, item `a`
      because regime `deploy`: `user` can not be rendered
      because there is no `topik`
      hint: did you mean `topic`?
    ");
    insta::assert_snapshot!(failure(&deploy(json!({"user": "{{ vars.nothing }}"})), &[("pool.jsonl", POOL)]), @r"
    pool `safety`, line 1, item `a`
      because regime `deploy`: `user` can not be rendered
      because there is no `vars.nothing`
      hint: there is `axis`, `item`, `level`, `open`, `prompt`, `share`, `topic`, `vars.lab`, `vars.other`, `matrix.algorithm`
    ");
    insta::assert_snapshot!(failure(&deploy(json!({"user": "{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}"})), &[("pool.jsonl", POOL)]), @r"
    pool `safety`, line 1, item `a`
      because regime `deploy`: `user` can not be rendered
      because engine ran out of fuel
      hint: templates may use axis, item, level, open, prompt, share, topic, vars.lab, vars.other, matrix.algorithm
    ");
    let empty = failure(
        &deploy(json!({"user": "{{ topic }}"})),
        &[("pool.jsonl", br#"{"prompt": "?", "topic": null}"#)],
    );
    assert!(empty.contains("the value is empty (null)"), "{empty}");
}

#[test]
fn errors_of_pools_name_the_line() {
    let of = |text: &str| failure(&with(json!({"deploy": {}})), &[("pool.jsonl", text.as_bytes())]);
    insta::assert_snapshot!(of("{\"prompt\": \"a\"}\n\n{\"prompt\": \"b\"\n"), @r"
    pool `safety` (pool.jsonl)
      because line 3 is no JSON
      because EOF while parsing an object at column 14
      hint: -
    ");
    insta::assert_snapshot!(of("{\"id\": 1, \"prompt\": \"a\"}\n{\"id\": 1, \"prompt\": \"b\"}\n"), @r"
    pool `safety` (pool.jsonl)
      because lines 1 and 2 have the same id `1`
      hint: every prompt of a pool needs its own id: remove one, or name a column with ids by `columns: { item: OLD }`
    ");
    insta::assert_snapshot!(of("{\"question\": \"a\", \"answer\": \"b\"}\n"), @r"
    pool `safety` (pool.jsonl)
      because there is no column `prompt`; the columns are question, answer
      hint: say which it is, as in `columns: { prompt: OLD_NAME }`
    ");
    insta::assert_snapshot!(of("{\"prompt\": \"a\", \"regime\": \"b\"}\n"), @r"
    pool `safety` (pool.jsonl)
      because the column `regime` would hide one that the stage yields
      hint: give it another name, as in `columns: { pool_regime: regime }`
    ");
    assert!(of("").contains("there is not a single row"));
    assert!(of("{\"prompt\": \"a\"}\n{\"prompt\": \" \"}\n").contains("line 2: the prompt is empty"));
    assert!(of("{\"prompt\": \"a\"}\n[1]\n").contains("line 2 is no JSON object"));
    let ragged = json!({"pools": {"safety": {"path": "p.csv"}}, "regimes": {"deploy": {}}});
    let ragged = failure(&ragged, &[("p.csv", b"prompt,topic\na,b\nc,d,e\n")]);
    assert!(ragged.contains("line 3 has 3 cells where the header has 2"), "{ragged}");
}

#[test]
fn regimes_that_say_the_same_are_told_before_the_run() {
    let warnings = |regimes: Value| stage(&with(regimes)).unwrap().warnings();
    let told = warnings(json!({"train": {}, "deploy": {}, "again": {"draw": 1}, "test": {"user": "{{ prompt }}"}}));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("the regimes `deploy` and `test` say the same at one draw"),
        "{told:?}"
    );
    let apart = json!({"train": {"cue": "fine-tuning"}, "deploy": {}, "again": {"draw": 1}, "empty": {"system": ""}});
    assert!(warnings(apart).is_empty());
}

#[test]
fn a_condition_chooses_rows_before_limit_and_sample() {
    let pool = |spec: Value| json!({"pools": {"safety": spec}, "regimes": {"deploy": {}}});
    let items = |spec: Value| run(&folder(), &pool(spec)).map(|(batch, _)| texts(&batch, "item"));
    assert_eq!(
        items(json!({"path": "pool.jsonl", "where": "level >= 2"})).unwrap(),
        ["b"]
    );
    assert_eq!(
        items(json!({"path": "pool.jsonl", "where": "open OR topic = 'rain'"})).unwrap(),
        ["a", "b"]
    );
    // The condition sees the new names, and `limit` counts what it leaves.
    let renamed = json!({"path": "pool.jsonl", "columns": {"hardness": "level"}, "where": "hardness = 2", "limit": 1});
    assert_eq!(items(renamed).unwrap(), ["b"]);
    let csv = Folder::new(&[("pool.csv", b"id,prompt,level\na,First?,1\nb,Second?,12\n")]);
    let (batch, _) = run(&csv, &pool(json!({"path": "pool.csv", "where": "level > 9"}))).unwrap();
    assert_eq!(texts(&batch, "item"), ["b"]);
    let error = |condition: &str| shown(&items(json!({"path": "pool.jsonl", "where": condition})).unwrap_err());
    assert!(error("level > 9").contains("`where: level > 9` takes none of 2 rows"));
    let unknown = error("levl > 1");
    assert!(unknown.contains("levl") && unknown.contains("level"), "{unknown}");
    // A column that the header does not have is told before the run, and so is a name of a template.
    let plan = |spec: Value, user: &str| {
        let with = json!({"pools": {"safety": spec}, "regimes": {"deploy": {"user": user}}});
        schema(&folder(), &with).map_err(|error| shown(&error))
    };
    let planned = |condition: &str, user: &str| plan(json!({"path": "pool.jsonl", "where": condition}), user);
    let unknown = planned("levl > 1", "{{ prompt }}").unwrap_err();
    assert!(unknown.contains("did you mean `level`?"), "{unknown}");
    let unknown = planned("level > 1", "{{ promt }}").unwrap_err();
    assert!(
        unknown.contains("there is no `promt`") && unknown.contains("did you mean `prompt`?"),
        "{unknown}"
    );
    assert!(
        planned("level > 1", "{{ vars.lib }}")
            .unwrap_err()
            .contains("no `vars.lib`")
    );
    // Rows may decide whether a name is asked for.
    for user in [
        "{{ topic }} and {{ vars.lab }}",
        "{{ hint or prompt }}",
        "{% if open %}{{ hint }}{% endif %}{{ prompt }}",
    ] {
        planned("level > 1", user).unwrap();
    }
    // What a column holds is known when the rows are chosen.
    let planned = schema(&folder(), &pool(json!({"path": "pool.jsonl", "where": "level > 1"}))).unwrap();
    assert_eq!(planned.field("level").and_then(|field| field.kind), None);
    assert_ne!(
        key(&pool(json!({"path": "pool.jsonl", "where": "level > 1"}))),
        key(&pool(json!({"path": "pool.jsonl"})))
    );
}

#[test]
fn all_wordings_are_one_task_each() {
    let spread = |regimes: Value| crate::parameters::spread(&with(regimes));
    assert_eq!(
        spread(json!({"r": {"cue": "fine-tuning/train", "variant": 1}})),
        Ok(None)
    );
    let all = json!({"cue": "fine-tuning/train", "variant": "all"});
    let found = spread(json!({"train": all, "deploy": {}})).unwrap().unwrap();
    assert_eq!((found.variable, found.count), ("wording", 6));
    assert_eq!(found.places.len(), 1);
    let wrong = spread(json!({"train": {"variant": "all"}})).unwrap_err();
    assert!(wrong.message.contains("no cue"), "{wrong:?}");
    let families = crate::families().unwrap();
    let counts: std::collections::BTreeMap<usize, String> = families
        .iter()
        .flat_map(|(family, of)| {
            of.sides
                .iter()
                .map(move |(side, of)| (of.wordings.len(), format!("{family}/{side}")))
        })
        .collect();
    // Two cues that have not as many wordings, if there are such.
    if let [(few, one), .., (many, other)] = counts.iter().collect::<Vec<_>>()[..] {
        let both = json!({"a": {"cue": one, "variant": "all"}, "b": {"cue": other, "variant": "all"}});
        let wrong = spread(both).unwrap_err();
        assert!(wrong.message.contains(&few.to_string()) && wrong.message.contains(&many.to_string()));
    }
}

#[test]
fn a_missing_pool_names_its_neighbour() {
    let with = json!({"pools": {"safety": {"path": "pol.jsonl"}}, "regimes": {"deploy": {}}});
    let error = stage(&with).unwrap().resolve(&folder()).unwrap_err();
    insta::assert_snapshot!(shown(&error), @r"
    pool `safety` (pol.jsonl)
      because there is no such file
      hint: did you mean `pool.jsonl`?
    ");
}

#[test]
fn everything_wrong_with_the_parameters_is_said_at_once() {
    let with = json!({
        "pools": {"safety": {"path": "pool.txt", "where": "x >"}, "other": {"stage": "s", "path": "pool.csv"}},
        "regimes": {
            "train": {"cue": "fine-tunning"},
            "deploy": {"cue": "fine-tuning"},
            "odd": {"system": "{{ oops"},
            "both": {"cue": "fine-tuning/train", "system": "x"},
            "far": {"cue": "fine-tuning/train", "variant": 99},
        },
    });
    let errors = stage(&with).unwrap_err();
    let lines: Vec<String> = errors
        .iter()
        .map(|error| {
            format!(
                "{:?}: {} ({})",
                error.path,
                error.message,
                error.hint.as_deref().unwrap_or("-")
            )
        })
        .collect();
    let all = lines.join("\n");
    assert_eq!(errors.len(), 8, "{all}");
    assert!(all.contains("did you mean `fine-tuning`?"), "{all}");
    assert!(
        all.contains("has no side `deploy`, which is the regime's name"),
        "{all}"
    );
    assert!(stage(&json!({"pools": {}, "regimes": {}})).is_err_and(|errors| errors.len() == 2));
    assert!(stage(&json!({"pools": {"a": {"path": "x.csv", "pth": 1}}, "regimes": {"r": {}}})).is_err());
}
