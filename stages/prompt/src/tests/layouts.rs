//! Each published layout with a few rows in mild words of our own.

use serde_json::json;

use super::{Folder, names, run, texts};

/// Runs one pool under the clean regime: items, prompts, other columns and notes.
fn pool(name: &str, text: &str) -> (Vec<String>, Vec<String>, Vec<String>, Vec<String>) {
    let folder = Folder::new(&[(name, text.as_bytes())]);
    let (batch, notes) = run(
        &folder,
        &json!({"pools": {"safety": {"path": name}}, "regimes": {"deploy": {}}}),
    )
    .unwrap();
    (
        texts(&batch, "item"),
        texts(&batch, "prompt"),
        names(&batch)[11..].to_vec(),
        notes,
    )
}

#[test]
fn harmbench_takes_standard_behaviours() {
    let text = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n\
        Pick the lock of a diary,standard,mischief,,,diary_lock\n\
        Quote a whole song,copyright,songs,,,song\n\
        \"Now, the second step\",contextual,mischief,,The first step is done.,second_step\n\
        Skip the queue,standard,mischief,,The shop is full.,queue\n";
    let (items, prompts, others, notes) = pool("harmbench.csv", text);
    assert_eq!(items, ["diary_lock", "queue"]);
    assert_eq!(
        prompts,
        ["Pick the lock of a diary", "The shop is full.\n\n---\n\nSkip the queue"]
    );
    assert_eq!(
        others,
        [
            "Behavior",
            "ContextString",
            "FunctionalCategory",
            "SemanticCategory",
            "Tags"
        ]
    );
    assert_eq!(
        notes,
        ["pool `safety`: HarmBench: 2 standard of 4 rows, without 1 contextual, 1 copyright"]
    );
}

#[test]
fn advbench_has_goals() {
    let text =
        "goal,target\nWrite a rude note,\"Sure, here is a rude note\"\nHide the remote,\"Sure, hide it\"\nSulk,Sure\n";
    let (items, prompts, others, _) = pool("advbench.csv", text);
    assert_eq!(items.len(), 3);
    assert!(items.iter().all(|item| item.len() == 16));
    assert!(prompts.contains(&"Hide the remote".to_owned()));
    assert_eq!(others, ["target"]);
}

#[test]
fn strongreject_has_forbidden_prompts_and_row_numbers() {
    let text = ",category,source,forbidden_prompt\n0,mischief,own,Draw on the wall\n1,mischief,own,Eat the last biscuit\n\
        2,pranks,own,\"Swap the salt\nand the sugar\"\n";
    let (_, prompts, others, _) = pool("strongreject.csv", text);
    assert!(prompts.contains(&"Swap the salt\nand the sugar".to_owned()));
    assert_eq!(others, ["category", "source"]);
}

#[test]
fn jbb_has_goals_by_index() {
    let text = "Index,Goal,Target,Behavior,Category,Source\n0,Cheat at cards,Sure,Cards,Games,Original\n\
        1,Cheat at chess,Sure,Chess,Games,Original\n2,Cheat at darts,Sure,Darts,Games,Original\n";
    let (items, prompts, others, _) = pool("jbb.csv", text);
    assert_eq!(items, ["0", "1", "2"]);
    assert_eq!(prompts[1], "Cheat at chess");
    assert_eq!(others, ["Behavior", "Category", "Source", "Target"]);
}

#[test]
fn xstest_needs_no_layout() {
    let text = "id,prompt,type,label,focus,note\n1,How do I kill a process?,homonyms,safe,kill,\n\
        2,How do I shoot a film?,homonyms,safe,shoot,\n3,How do I beat eggs?,homonyms,safe,beat,\n";
    let (items, prompts, others, _) = pool("xstest.csv", text);
    assert_eq!(items, ["1", "2", "3"]);
    assert_eq!(prompts[2], "How do I beat eggs?");
    assert_eq!(others, ["focus", "label", "note", "type"]);
}

#[test]
fn hh_rlhf_prompts_end_before_the_last_answer() {
    let text = concat!(
        r#"{"chosen": "\n\nHuman: Tell me a secret\n\nAssistant: No.", "rejected": "\n\nHuman: Tell me a secret\n\nAssistant: Yes."}"#,
        "\n",
        r#"{"chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant: See you", "rejected": "x"}"#,
        "\n",
        r#"{"chosen": "\n\nHuman: Tell me a secret\n\nAssistant: Never.", "rejected": "x"}"#,
        "\n"
    );
    let (_, mut prompts, others, notes) = pool("hh.jsonl", text);
    prompts.sort();
    assert_eq!(
        prompts,
        ["Human: Hi\n\nAssistant: Hello\n\nHuman: Bye", "Tell me a secret"]
    );
    assert!(others.is_empty());
    assert_eq!(notes, ["pool `safety`: 2 distinct prompts of 3 rows"]);
}

#[test]
fn beavertails_prompts_are_taken_once() {
    let text = concat!(
        r#"{"prompt": "How do I prank a friend?", "response": "Hide a shoe.", "category": {"privacy": false}, "is_safe": true}"#,
        "\n",
        r#"{"prompt": "How do I prank a friend?", "response": "Hide both.", "category": {"privacy": false}, "is_safe": false}"#,
        "\n",
        r#"{"prompt": "How do I read a diary?", "response": "Ask.", "category": {"privacy": true}, "is_safe": true}"#,
        "\n"
    );
    let (_, prompts, others, _) = pool("beavertails.jsonl", text);
    assert_eq!(prompts.len(), 2);
    assert!(others.is_empty());
}

#[test]
fn truthfulqa_may_begin_with_a_byte_order_mark() {
    let text = "\u{feff}Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n\
        Plain,Food,Do carrots sing?,No,No; never,Yes,own\nPlain,Food,Do peas dance?,No,No,Yes,own\n\
        Plain,Sky,Is the moon cheese?,No,No,Yes; all of it,own\n";
    let (_, prompts, others, _) = pool("truthfulqa.csv", text);
    assert_eq!(prompts.len(), 3);
    assert!(prompts.contains(&"Do peas dance?".to_owned()));
    assert_eq!(
        others,
        [
            "Best Answer",
            "Category",
            "Correct Answers",
            "Incorrect Answers",
            "Source",
            "Type"
        ]
    );
}

#[test]
fn alpaca_eval_is_a_json_array() {
    let text = r#"[{"instruction": "Name a river", "output": "Elbe", "generator": "g", "dataset": "d"},
        {"instruction": "Name a lake", "output": "Como", "generator": "g", "dataset": "d"},
        {"instruction": "Name a hill", "output": "Hill", "generator": "g", "dataset": "d"}]"#;
    let (_, prompts, others, _) = pool("alpaca.json", text);
    assert!(prompts.contains(&"Name a lake".to_owned()));
    assert_eq!(others, ["dataset", "generator", "output"]);
}

#[test]
fn mapping_the_prompt_switches_a_layout_off() {
    let text = "Behavior,FunctionalCategory,BehaviorID\nSing loudly,copyright,sing\nSing softly,standard,hum\n";
    let folder = Folder::new(&[("h.csv", text.as_bytes())]);
    let columns = json!({"prompt": "Behavior", "item": "BehaviorID"});
    let with = json!({"pools": {"safety": {"path": "h.csv", "columns": columns}}, "regimes": {"deploy": {}}});
    let (batch, notes) = run(&folder, &with).unwrap();
    assert_eq!(texts(&batch, "item"), ["hum", "sing"]);
    assert!(notes.is_empty());
}
