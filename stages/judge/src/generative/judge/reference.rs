#![allow(clippy::unwrap_used)]
//! Verdicts beside those of transformers: every shipped template that writes its own prompt, on a tiny model that answers
//! them (`tests/fixtures/make_verdicts.py`).

use std::path::Path;

use fracture_generate::checkpoint::Checkpoint;
use fracture_generate::engine::Options;
use fracture_generate::text::TextOptions;
use serde::Deserialize;

use super::*;
use crate::generative::{Form, Template, VerdictScores, Words};

#[derive(Deserialize)]
struct Case {
    /// A shipped template by its name, or a template's text.
    template: String,
    words: Option<Words>,
    prompt: String,
    response: String,
    verdict: Verdict,
}

#[derive(Deserialize)]
struct Verdict {
    p_unsafe: f64,
    mass: f64,
    /// Word and log-probability of every spelling.
    logprobs: Vec<(String, f64)>,
}

fn question(case: &Case) -> Arc<Question> {
    let template = match Template::named(&case.template) {
        Some(template) => template.unwrap(),
        None => Template::inline(&case.template, Form::Message).unwrap(),
    };
    let mut values = BTreeMap::from([
        ("prompt".to_owned(), case.prompt.clone()),
        ("response".to_owned(), case.response.clone()),
    ]);
    if let Some(policy) = &template.policy {
        values.insert("policy".to_owned(), policy.clone());
    }
    let asking = Arc::new(Asking {
        words: case.words.clone().or_else(|| template.verdict.clone()).unwrap(),
        prefix: template.prefix.clone().unwrap_or_default(),
        after: template.after.clone(),
        voting: None,
        max_new_tokens: template.max_new_tokens.unwrap_or(16),
        max_length: None,
        template,
    });
    Arc::new(Question { asking, values })
}

#[test]
fn verdicts_are_those_of_transformers() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(fixtures.join("verdicts.json")).unwrap()).unwrap();
    let checkpoint = Checkpoint::open(&fixtures.join("tiny_llm")).unwrap();
    let options = Options {
        threads: Some(2),
        ..Options::default()
    };
    let engine = Engine::load(&checkpoint, &TextOptions::default(), options).unwrap();
    let text = Arc::new(Text::open(&checkpoint, &[], &TextOptions::default()).unwrap());
    let mut judge = GenerativeJudge::new(engine, text, "tiny");
    let questions: Vec<Arc<Question>> = cases.iter().map(question).collect();
    for (ticket, question) in questions.iter().enumerate() {
        judge.submit(Ticket(ticket as u64), Arc::clone(question)).unwrap();
    }
    let mut rows: Vec<Option<RawVerdict>> = vec![None; cases.len()];
    let mut done = |ticket: Ticket, outcome| match outcome {
        Outcome::Raw(bytes) => rows[ticket.0 as usize] = Some(RawVerdict::decode(&bytes).unwrap()),
        Outcome::Failed(error) => panic!("{}", error.message),
    };
    while judge.step(&mut done).unwrap().active > 0 {}
    let mut templates = std::collections::BTreeSet::new();
    for ((case, question), row) in cases.iter().zip(&questions).zip(rows) {
        let (words, what) = (&question.asking.words, format!("{}: {}", case.template, case.response));
        let row = row.unwrap();
        let RawVerdict::Weighed {
            candidates,
            truncated: false,
        } = &row
        else {
            panic!("{what}: {row:?}")
        };
        let order = words.all();
        let mut found: Vec<(&str, f64)> = candidates
            .iter()
            .map(|(word, logprob)| (order[usize::from(*word)].as_str(), *logprob))
            .collect();
        found.sort_by(|a, b| a.0.cmp(b.0).then(a.1.total_cmp(&b.1)));
        let expected = &case.verdict.logprobs;
        assert_eq!(found.len(), expected.len(), "{what}: as many spellings");
        for ((word, logprob), (other, plain)) in found.iter().zip(expected) {
            assert!(
                word == other && (logprob - plain).abs() < 2e-4,
                "{what}: {word} {logprob}, {other} {plain}"
            );
        }
        let scores = VerdictScores::new(&row, words, false);
        assert!((scores.mass.unwrap() - case.verdict.mass).abs() < 1e-5, "{what}");
        match scores.p_unsafe {
            Some(p) => assert!(
                (p - case.verdict.p_unsafe).abs() < 1e-5,
                "{what}: {p} {}",
                case.verdict.p_unsafe
            ),
            None => assert!(case.verdict.mass < 0.5, "{what}"),
        }
        templates.insert(&case.template);
    }
    // The sixth shipped template asks with the checkpoint's own chat template.
    assert_eq!(
        templates.len(),
        Template::shipped().count(),
        "five of ours and one in the pipeline's own words"
    );
}
