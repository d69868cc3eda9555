#![allow(clippy::unwrap_used)]
use super::*;

fn template(source: &str) -> ChatTemplate {
    let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    ChatTemplate::new(source, special, Date::default()).unwrap()
}

fn user(text: &str) -> Vec<Message> {
    vec![Message::new("user", text)]
}

const PLAIN: &str = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}\
                     {% if add_generation_prompt %}[assistant]{% endif %}";

#[test]
fn values_print_as_in_python() {
    let template = template("{{ none }} {{ true }} {{ nothing }}|{{ 1.5 }} {{ messages[0] | tojson }}");
    let (text, _) = template.render(&user("a \"b\" <é>"), Ending::Nothing).unwrap();
    assert_eq!(
        text,
        "None True |1.5 {\"role\": \"user\", \"content\": \"a \\\"b\\\" <é>\"}"
    );
}

#[test]
fn the_date_is_the_parameter() {
    let template = template("{{ strftime_now('%d %b %Y, %A, %-d.%-m., %j') }}");
    assert!(template.uses_date());
    let (text, _) = template.render(&user("x"), Ending::Nothing).unwrap();
    assert_eq!(text, "26 Jul 2024, Friday, 26.7., 208");
    assert_eq!(
        Date::parse("2026-11-21").unwrap().format("%a %F").unwrap(),
        "Sat 2026-11-21"
    );
    assert_eq!(Date::parse("2023-02-29"), None);
}

#[test]
fn a_prefill_is_continued() {
    let template = template(PLAIN);
    let mut messages = user("Hi");
    messages.push(Message::new("assistant", "Sure, "));
    let (text, _) = template.render(&messages, Ending::Answer).unwrap();
    assert_eq!(text, "<s>[user]Hi\n[assistant]Sure, ");
    messages[1].content = String::new();
    assert_eq!(
        template.render(&messages, Ending::Answer).unwrap().0,
        "<s>[user]Hi\n[assistant]"
    );
}

/// The end of a prefill is found though the template writes the same text behind it, and cuts spaces off.
#[test]
fn a_prefill_ends_where_it_ends() {
    let template = template("{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}</s>{% endfor %}");
    let mut messages = user("Hi");
    for (prefill, wanted) in [("s", "s"), ("</s>", "</s>"), (" a ", "a"), ("a\n\n", "a")] {
        messages.push(Message::new("assistant", prefill));
        let (text, _) = template.render(&messages, Ending::Answer).unwrap();
        assert_eq!(text, format!("[user]Hi</s>[assistant]{wanted}"));
        messages.pop();
    }
}

#[test]
fn without_a_system_role_its_text_goes_before_the_first_user_turn() {
    let refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}";
    let ignoring = "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    for source in [format!("{refusing}{PLAIN}"), ignoring.to_owned()] {
        let template = template(&source);
        assert!(!template.has_system());
        let mut messages = vec![Message::new("system", "Be kind.")];
        messages.extend(user("Hi"));
        let (text, folded) = template.render(&messages, Ending::Nothing).unwrap();
        assert!(folded && text.contains("[user]Be kind.\n\nHi"), "{text}");
        assert!(!template.render(&user("Hi"), Ending::Nothing).unwrap().1);
    }
    assert!(template(PLAIN).has_system());
}

#[test]
fn a_template_cannot_run_away() {
    let endless = template("{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}");
    assert!(endless.render(&user("x"), Ending::Nothing).is_err());
    let long = template("{% for a in range(9000) %}{{ messages[0].content * 9000 }}{% endfor %}");
    let error = long.render(&user("xxxxxxxx"), Ending::Nothing).unwrap_err();
    assert!(error.to_string().contains("it gives more than 16 MB"), "{error}");
}

#[test]
fn a_template_cannot_take_all_memory() {
    let within = |set: &str| format!("{{% set ns = namespace(x='aaaaaaaaaaaaaaaa', y=[1, 2]) %}}{set}ok");
    let times = |set: &str| within(&format!("{{% for i in range(40) %}}{set}{{% endfor %}}"));
    for source in [
        times("{% set ns.x = ns.x ~ ns.x %}"),
        times("{% set ns.x = ns.x + ns.x %}"),
        times("{% set ns.x = ns.x.replace('a', ns.x) %}"),
        times("{% set ns.x = ns.x.join(ns.x|list) %}"),
        times("{% set ns.x = ns.x|list|join(ns.x) %}"),
        times("{% set ns.x = ns.x|indent(90000000) ~ ns.x %}"),
        times("{% set q %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = q %}"),
        times("{% set ns.y = (ns.y + ns.y)|list %}"),
        within("{% set ns.y = ['a'] * 90000000 %}{% set y = ns.y|list %}"),
        within("{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('a') }}"),
        within(&format!("{{% set y = [{}] %}}", "'a' * 90000000, ".repeat(4))),
    ] {
        let made = ChatTemplate::new(&source, BTreeMap::new(), Date::default());
        let error = made
            .and_then(|template| template.render(&user("x"), Ending::Nothing))
            .unwrap_err();
        let told = error.to_string();
        assert!(told.contains("the chat template takes too much"), "{source}: {told}");
        assert!(told.contains("it needs more than 256 MB of memory"), "{source}: {told}");
    }
}

#[test]
fn what_a_template_raises_reaches_the_user() {
    let template = template("{{ raise_exception('roles must alternate') }}");
    let error = template.render(&user("x"), Ending::Nothing).unwrap_err();
    assert!(error.to_string().contains("roles must alternate"), "{error}");
}

#[test]
fn a_value_that_is_written_as_json_without_end_is_stopped() {
    let source = "{% set ns = namespace(x={'a': 1}) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}\
                  {% endfor %}{% set y = ns.x|tojson %}ok";
    let error = template(source).render(&user("x"), Ending::Nothing).unwrap_err();
    assert!(error.to_string().contains("tojson: more than 16 MB"), "{error}");
}

#[test]
fn generation_tags_render_what_they_hold() {
    let template = template("a {%- generation %} b {% endgeneration -%} c");
    assert_eq!(template.render(&user("x"), Ending::Nothing).unwrap().0, "a b c");
}

/// What Python's engine renders and this one refuses, by what a line has of it. Nothing may be rendered in another way.
const REFUSED: [&str; 7] = [
    "'%s",
    "varargs",
    "wordcount",
    "dict([",
    "joiner",
    "autoescape",
    "{{ +1 }}",
];

#[test]
fn chats_are_rendered_as_transformers_renders_them() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../../tests/families/chats.json")).unwrap();
    let list = |name: &str| golden[name].as_array().unwrap().clone();
    let chat = |name: &str| -> Vec<Message> { serde_json::from_value(golden["chats"][name].clone()).unwrap() };
    let special = || {
        let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
        tokens.map(|(name, token)| (name.to_owned(), token.to_owned())).into()
    };
    let mut differ = Vec::new();
    let mut compared = 0;
    let mut compare = |what: String, source: &str, messages: &[Message], ask: bool, wanted: &serde_json::Value| {
        let made = ChatTemplate::new(source, special(), Date::default());
        let made = made.and_then(|template| template.fill(messages, ask));
        match (made, wanted["rendered"].as_str()) {
            (Ok(text), Some(wanted)) if text == wanted => compared += 1,
            (Err(_), None) => compared += 1,
            (Err(_), Some(_)) if REFUSED.iter().any(|part| source.contains(part)) => {}
            (made, _) => differ.push(format!("{what}: {made:?}, not {wanted}")),
        }
    };
    for row in list("rendered") {
        let (template, name) = (row["template"].as_str().unwrap(), row["chat"].as_str().unwrap());
        let (source, ask) = (
            golden["templates"][template].as_str().unwrap(),
            row["ask"].as_bool().unwrap(),
        );
        compare(format!("{template} of {name}, {ask}"), source, &chat(name), ask, &row);
    }
    for row in list("lines") {
        let source = row["template"].as_str().unwrap();
        compare(source.to_owned(), source, &chat("talk"), true, &row);
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(compared > 350, "{compared} compared");
}
