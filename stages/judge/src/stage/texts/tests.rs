#![allow(clippy::unwrap_used)]
use super::*;

fn source(text: &str) -> TextSource {
    TextSource::parse(&TextParameter::Column(text.to_owned())).unwrap()
}

/// What a judge sees of columns given by name: the text, and whether it is empty; `None` where there is none.
fn seen(source: &TextSource, values: &[(&str, Option<&str>)]) -> Option<(String, bool)> {
    let columns: Vec<LargeStringArray> = source
        .columns()
        .iter()
        .map(|name| {
            let (_, value) = values.iter().find(|(known, _)| known == name).unwrap();
            LargeStringArray::from(vec![*value])
        })
        .collect();
    let seen = source.at(&columns, 0, 0).unwrap()?;
    let empty = seen.is_empty();
    match seen.to_text() {
        Text::One(text) => Some((text, empty)),
        Text::Pair { .. } => panic!("no pair"),
    }
}

#[test]
fn a_null_in_a_template_is_none_and_no_reason_to_drop_the_row() {
    let source = source("{% if context %}[{{ context }}] {% endif %}{{ note }}{{ completion }}");
    let of = |context, completion| {
        seen(
            &source,
            &[("context", context), ("note", None), ("completion", completion)],
        )
    };
    assert_eq!(of(None, Some("yes")), Some(("yes".to_owned(), false)));
    assert_eq!(of(Some("a"), Some("yes")), Some(("[a] yes".to_owned(), false)));
    assert_eq!(of(Some("a"), None), None);
    assert!(of(Some("a"), Some(" \n")).unwrap().1);
}

#[test]
fn an_empty_answer_in_a_template_is_an_empty_text() {
    let asked = source("Q {{ prompt }} A {{ completion }}");
    let of = |source: &TextSource, name, answer| seen(source, &[("prompt", Some("p")), (name, answer)]);
    assert_eq!(of(&asked, "completion", Some("")), Some(("Q p A ".to_owned(), true)));
    assert_eq!(of(&asked, "completion", Some("a")), Some(("Q p A a".to_owned(), false)));
    assert_eq!(of(&asked, "completion", None), None);
    let other = source("{{ prompt }}: {{ response }}");
    assert!(of(&other, "response", Some("\t")).unwrap().1);
    // Without an answer the whole text counts.
    let plain = source("{{ text }}");
    assert_eq!(seen(&plain, &[("text", Some(" "))]), Some((" ".to_owned(), true)));
    assert_eq!(seen(&plain, &[("text", None)]), Some((String::new(), true)));
}

#[test]
fn a_final_newline_is_kept() {
    let kept = source("{{ completion }}\n");
    assert_eq!(
        seen(&kept, &[("completion", Some("a"))]),
        Some(("a\n".to_owned(), false))
    );
}
