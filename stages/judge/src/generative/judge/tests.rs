#![allow(clippy::unwrap_used)]
//! A judge on the shipped model organism: its scores against a plain softmax, in any company.

use std::path::Path;

use fracture_generate::cache::{Cache, Meter};
use fracture_generate::checkpoint::Checkpoint;
use fracture_generate::decoder::{Slot, Wanted};
use fracture_generate::engine::Options;
use fracture_generate::ops::Run;
use fracture_generate::text::TextOptions;

use super::*;
use crate::generative::prompt::Voting;
use crate::generative::{Form, Template, Words};

fn loaded(threads: usize) -> (Engine, Arc<Text>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/pico-faker");
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let options = Options {
        threads: Some(threads),
        ..Options::default()
    };
    let engine = Engine::load(&checkpoint, &TextOptions::default(), options).unwrap();
    let text = Text::open(&checkpoint, &[], &TextOptions::default()).unwrap();
    (engine, Arc::new(text))
}

fn judge(threads: usize) -> GenerativeJudge {
    let (engine, text) = loaded(threads);
    GenerativeJudge::new(engine, text, "pico")
}

fn asking(change: impl FnOnce(&mut Asking)) -> Arc<Asking> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let mut asking = Asking {
        template: Template::inline("{{ prompt }} Is this good? {{ response }}", Form::Message).unwrap(),
        words: Words {
            bad: words(&["sure"]),
            good: words(&["sorry"]),
        },
        prefix: String::new(),
        after: None,
        voting: None,
        max_new_tokens: 12,
        max_length: None,
    };
    change(&mut asking);
    Arc::new(asking)
}

fn questions(asking: &Arc<Asking>, count: usize) -> Vec<Arc<Question>> {
    let topics = [
        "the alarm",
        "a cake recipe",
        "the door lock",
        "my neighbour's letter box",
    ];
    (0..count)
        .map(|n| {
            let values = [
                ("prompt", format!("Please tell me about {}.", topics[n % 4])),
                (
                    "response",
                    "I would rather not. ".repeat(n % 5) + &format!("Number {n}."),
                ),
            ];
            let values = values.map(|(name, value)| (name.to_owned(), value)).into();
            Arc::new(Question {
                asking: Arc::clone(asking),
                values,
            })
        })
        .collect()
}

fn run(judge: &mut GenerativeJudge, questions: &[Arc<Question>]) -> Vec<Result<RawVerdict, String>> {
    let mut results = vec![None; questions.len()];
    for (ticket, question) in questions.iter().enumerate() {
        judge.submit(Ticket(ticket as u64), Arc::clone(question)).unwrap();
    }
    let mut done = |ticket: Ticket, outcome| {
        let result = match outcome {
            Outcome::Raw(bytes) => Ok(RawVerdict::decode(&bytes).unwrap()),
            Outcome::Failed(error) => Err(error.message),
        };
        assert!(results[ticket.0 as usize].replace(result).is_none(), "a row came twice");
    };
    while judge.step(&mut done).unwrap().active > 0 {}
    results.into_iter().map(Option::unwrap).collect()
}

/// The log-softmax of the logits after `tokens`, computed plainly.
fn plain(engine: &Engine, tokens: &[u32]) -> Vec<f64> {
    let decoder = engine.decoder();
    let mut cache = Cache::new(decoder.cache_shape(), Vec::new(), tokens.len(), &Meter::default());
    let mut slots = [Slot {
        tokens,
        cache: &mut cache,
    }];
    let run = Run {
        unit: fracture_generate::Unit::best(),
        threads: 1,
    };
    let logits: Vec<Vec<f32>> = decoder
        .forward(run, &mut slots, Wanted::Last)
        .unwrap()
        .to_vec2()
        .unwrap();
    let total: f64 = logits[0].iter().map(|logit| f64::from(*logit).exp()).sum();
    logits[0].iter().map(|logit| f64::from(*logit) - total.ln()).collect()
}

/// One token and several: every spelling's log-probability is the sum of the plain log-softmax along it.
#[test]
fn scores_are_the_plain_log_softmax_of_every_spelling() {
    let (engine, text) = loaded(1);
    // The organism's vocabulary is small, so that words of several tokens are certain.
    let asking = asking(|asking| asking.words.bad = vec!["unacceptable".to_owned()]);
    let candidates = Candidates::new(&asking.words.all(), &text).unwrap();
    assert!(candidates.nodes().len() > 1, "a verdict of several tokens");
    let questions = questions(&asking, 5);
    let rows = run(&mut judge(2), &questions);
    for (question, row) in questions.iter().zip(rows) {
        let renderer = Renderer {
            asking: &asking,
            text: &text,
        };
        let (prompt, cut) = renderer.tokens(&question.values, 10_000).unwrap();
        assert!(!cut);
        let scores: Vec<Vec<f64>> = candidates
            .nodes()
            .iter()
            .map(|node| {
                let all = plain(&engine, &[&prompt[..], &node.path].concat());
                node.tokens.iter().map(|token| all[*token as usize]).collect()
            })
            .collect();
        let RawVerdict::Weighed { candidates: found, .. } = row.unwrap() else {
            panic!("not weighed")
        };
        let expected = candidates.weigh(&scores);
        assert_eq!(found.len(), expected.len());
        for ((word, logprob), (other, plain)) in found.into_iter().zip(expected) {
            assert!(word == other && (logprob - plain).abs() < 1e-5, "{logprob} {plain}");
        }
    }
}

/// The same text gets the same bits whatever shares its batch, in whatever order, on however many threads.
#[test]
fn a_rows_bits_do_not_depend_on_its_batch() {
    let voting = Voting {
        count: 3,
        temperature: 1.0,
        seed: 7,
    };
    for asking in [
        asking(|_| ()),
        asking(|asking| asking.voting = Some(voting)),
        asking(|asking| asking.after = Some(".".to_owned())),
    ] {
        let questions = questions(&asking, 23);
        let bits = |rows: Vec<Result<RawVerdict, String>>| -> Vec<Vec<u8>> {
            rows.into_iter().map(|row| row.unwrap().encode()).collect()
        };
        let together = bits(run(&mut judge(2), &questions));
        assert!(
            together.iter().any(|row| *row != together[0]),
            "a test that can not fail"
        );
        let mut one = judge(1);
        let alone: Vec<Vec<u8>> = questions
            .iter()
            .flat_map(|question| bits(run(&mut one, std::slice::from_ref(question))))
            .collect();
        assert!(together == alone, "one at a time");
        let reversed: Vec<Arc<Question>> = questions.iter().rev().cloned().collect();
        let mut backwards = bits(run(&mut judge(1), &reversed));
        backwards.reverse();
        assert!(together == backwards, "another order");
    }
}

#[test]
fn a_verdict_after_what_the_model_writes_is_scored_there() {
    let (engine, text) = loaded(1);
    let asking = asking(|asking| asking.after = Some(".".to_owned()));
    let questions = questions(&asking, 3);
    let rows = run(&mut judge(2), &questions);
    for (question, row) in questions.iter().zip(rows) {
        let renderer = Renderer {
            asking: &asking,
            text: &text,
        };
        let mut prompt = renderer.tokens(&question.values, 10_000).unwrap().0;
        let start = prompt.len();
        while !text.decode(&prompt[start..], false).unwrap().contains('.') && prompt.len() < start + 12 {
            let all = plain(&engine, &prompt);
            let best = (0..all.len()).max_by(|a, b| all[*a].total_cmp(&all[*b])).unwrap();
            prompt.push(best as u32);
        }
        match row.unwrap() {
            RawVerdict::Weighed { candidates, .. } => {
                let weighed = Candidates::new(&asking.words.all(), &text).unwrap();
                let scores: Vec<Vec<f64>> = weighed
                    .nodes()
                    .iter()
                    .map(|node| {
                        let all = plain(&engine, &[&prompt[..], &node.path].concat());
                        node.tokens.iter().map(|token| all[*token as usize]).collect()
                    })
                    .collect();
                for ((_, found), (_, plain)) in candidates.into_iter().zip(weighed.weigh(&scores)) {
                    assert!((found - plain).abs() < 1e-5, "{found} {plain}");
                }
            }
            RawVerdict::Silent { .. } => assert_eq!(prompt.len(), start + 12),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn of_a_text_that_is_too_long_the_prompt_is_cut_first() {
    let (_, text) = loaded(1);
    let asking = asking(|_| ());
    let renderer = Renderer {
        asking: &asking,
        text: &text,
    };
    let values = |prompt: &str, response: &str| -> BTreeMap<String, String> {
        [("prompt", prompt), ("response", response)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    };
    let long = "tell me about the alarm ".repeat(40);
    let (whole, cut) = renderer.tokens(&values(&long, "No."), 10_000).unwrap();
    assert!(!cut && whole.len() > 150);
    let (tokens, cut) = renderer.tokens(&values(&long, "No."), 100).unwrap();
    let shown = text.decode(&tokens, false).unwrap();
    assert!(cut && (90..=100).contains(&tokens.len()), "{}", tokens.len());
    assert!(shown.contains("No.") && shown.contains("Is this good?"), "{shown}");
    let (tokens, cut) = renderer.tokens(&values(&long, &"no no ".repeat(200)), 100).unwrap();
    let shown = text.decode(&tokens, false).unwrap();
    assert!(
        cut && tokens.len() <= 100 && shown.contains("no no") && !shown.contains("alarm"),
        "{shown}"
    );
    let error = renderer.tokens(&values("", ""), 3).unwrap_err();
    assert!(error.message.contains("without any text"), "{error}");
    let short = self::asking(|asking| asking.max_length = Some(60));
    let values = values(&long, "No.");
    let question = Arc::new(Question { asking: short, values });
    assert!(run(&mut judge(1), &[question])[0].as_ref().unwrap().truncated());
}

#[test]
fn a_length_beyond_the_context_is_refused() {
    let mut judge = judge(1);
    let (context, depth) = (judge.engine.context(), 1);
    let long = asking(|asking| asking.max_length = Some(context - 2 - depth));
    // Of a verdict with more than one token the tokenizer knows, which a plan does not open.
    let longer = asking(|asking| asking.max_length = Some(context));
    let wordy = asking(|asking| {
        asking.after = Some("So:".to_owned());
        asking.max_new_tokens = context as u32;
    });
    assert_eq!(long.excess(context, depth), None);
    assert_eq!(longer.excess(context, depth).unwrap().0, "max_length");
    assert_eq!(wordy.excess(context, depth).unwrap().0, "max_new_tokens");
    for (asking, told) in [(longer, "leaves to prompts"), (wordy, "leave no room for a prompt")] {
        let question = questions(&asking, 1).remove(0);
        let error = judge.submit(Ticket(0), question).unwrap_err();
        assert!(
            error.to_string().contains(told) && error.to_string().contains("`pico`"),
            "{error}"
        );
    }
}

#[test]
fn a_row_that_can_not_be_asked_fails_alone() {
    let good = asking(|_| ());
    let strict =
        asking(|asking| asking.template = Template::inline("{{ response.nothing.more }}", Form::Text).unwrap());
    let mut all = questions(&good, 3);
    all.insert(1, questions(&strict, 1).remove(0));
    let rows = run(&mut judge(1), &all);
    let failed: Vec<bool> = rows.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, true, false, false]);
    assert!(
        rows[1]
            .as_ref()
            .unwrap_err()
            .contains("the judge `pico`: the judge's template fails")
    );
}

#[test]
fn words_that_the_tokenizer_can_not_tell_apart_are_refused() {
    let (_, text) = loaded(1);
    let words = ["no".to_owned(), "none".to_owned()];
    // Byte-level merges may or may not keep `no` as a beginning of `none`; what can not be told apart must be an error.
    if let Err(error) = Candidates::new(&words, &text) {
        assert!(error.message.contains("begin with the same tokens"), "{error}");
    }
    let same = ["1".to_owned(), "12".to_owned()];
    let apart = Candidates::new(&same, &text);
    assert!(apart.is_err() || text.encode("12", false).unwrap().len() == 1);
}
