//! A row's bits do not depend on what shares its batch, on threads, on sharing or on the vector unit.

use super::*;

/// Rows of several lengths, prompts with common beginnings, greedy and sampled.
fn requests(count: usize) -> Vec<Request> {
    let cue: Vec<u32> = (0..70).map(|i| (i * 37 + 5) % 128).collect();
    (0..count)
        .map(|row| {
            let own = 1 + (row * 7) % 23;
            let prompt: Vec<u32> = match row % 3 {
                0 => cue
                    .iter()
                    .copied()
                    .chain((0..own).map(|i| ((i * 11 + row) % 128) as u32))
                    .collect(),
                1 => (0..own).map(|i| ((i * 13 + row) % 128) as u32).collect(),
                _ => cue.clone(),
            };
            let sampling = match row % 4 {
                0 => Sampling::default(),
                1 => Sampling {
                    temperature: 0.8,
                    top_p: 0.95,
                    ..Sampling::default()
                },
                2 => Sampling {
                    temperature: 1.2,
                    top_k: 20,
                    min_p: 0.02,
                    ..Sampling::default()
                },
                _ => Sampling {
                    temperature: 1.0,
                    repetition_penalty: 1.3,
                    ..Sampling::default()
                },
            };
            request(&prompt, sampling, &format!("item {row}"), 5 + (row as u32 * 5) % 20)
        })
        .collect()
}

fn options(threads: usize) -> Options {
    Options {
        threads: Some(threads),
        ..Options::default()
    }
}

fn bits(finished: &Finished) -> (Vec<u32>, Vec<u32>, u32, String) {
    let logprobs = finished.row.logprobs.iter().map(|logprob| logprob.to_bits()).collect();
    (
        finished.row.tokens.clone(),
        logprobs,
        finished.row.entropy.to_bits(),
        finished.text.clone(),
    )
}

fn assert_same(reference: &[Finished], other: &[Finished], what: &str) {
    for (row, (reference, other)) in reference.iter().zip(other).enumerate() {
        assert_eq!(bits(reference), bits(other), "row {row}: {what}");
    }
}

#[test]
fn a_row_alone_in_seven_and_in_sixty_four() {
    let families = [
        serde_json::json!({}),
        serde_json::json!({"model_type": "mistral", "sliding_window": 9}),
        serde_json::json!({"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}),
        serde_json::json!({"model_type": "gemma2", "sliding_window": 9, "query_pre_attn_scalar": 16}),
        serde_json::json!({"model_type": "phi3", "pad_token_id": 0}),
    ];
    for family in families {
        let rows = requests(64);
        let mut engine = Engine::new(random_model(family.clone()), byte_text(), options(1)).unwrap();
        let alone: Vec<Finished> = rows
            .iter()
            .flat_map(|row| run_all(&mut engine, std::slice::from_ref(row)))
            .collect();
        assert!(
            alone.iter().any(|row| row.row.tokens != alone[0].row.tokens),
            "a test that cannot fail"
        );
        let settings = [
            (7, options(1)),
            (64, options(1)),
            (64, options(2)),
            (64, options(3)),
            (
                64,
                Options {
                    share_prefixes: false,
                    ..options(2)
                },
            ),
            (
                64,
                Options {
                    max_batch_tokens: 300,
                    ..options(2)
                },
            ),
        ];
        for (batch, options) in settings {
            let what = format!("{family} batch {batch} {options:?}");
            let mut engine = Engine::new(random_model(family.clone()), byte_text(), options).unwrap();
            let together: Vec<Finished> = rows.chunks(batch).flat_map(|rows| run_all(&mut engine, rows)).collect();
            assert_same(&alone, &together, &what);
        }
    }
}

/// What was killed on the way is done anew by an engine that has only the rest to do.
#[test]
fn cut_off_and_resumed_gives_the_same_bits() {
    let rows = requests(30);
    let model = || random_model(serde_json::json!({}));
    let whole = run_all(&mut Engine::new(model(), byte_text(), options(2)).unwrap(), &rows);
    for steps in [1, 6, 14] {
        let mut results: Vec<Option<Finished>> = vec![None; rows.len()];
        let mut engine = Engine::new(model(), byte_text(), options(2)).unwrap();
        for (ticket, row) in rows.iter().enumerate() {
            engine.submit(ticket as u64, row.clone()).unwrap();
        }
        for _ in 0..steps {
            engine
                .step(&mut |ticket, row| results[ticket as usize] = Some(row.unwrap()))
                .unwrap();
        }
        drop(engine);
        let left: Vec<usize> = (0..rows.len()).filter(|row| results[*row].is_none()).collect();
        assert!(!left.is_empty() && (steps == 1 || left.len() < rows.len()));
        let again: Vec<Request> = left.iter().map(|row| rows[*row].clone()).collect();
        let mut engine = Engine::new(model(), byte_text(), options(1)).unwrap();
        for (row, finished) in left.iter().zip(run_all(&mut engine, &again)) {
            results[*row] = Some(finished);
        }
        let resumed: Vec<Finished> = results.into_iter().map(Option::unwrap).collect();
        assert_same(&whole, &resumed, &format!("cut off after {steps} steps"));
    }
}

/// A checkpoint in half precision gives what the same numbers in f32 give.
#[test]
fn weights_in_half_precision_give_the_bits_of_converted_ones() {
    let rows = requests(8);
    for dtype in [DType::BF16, DType::F16] {
        let own = random_model_of(serde_json::json!({}), |tensor| tensor.to_dtype(dtype).unwrap());
        let wide = random_model_of(serde_json::json!({}), |tensor| {
            tensor.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap()
        });
        let [own, wide] =
            [own, wide].map(|model| run_all(&mut Engine::new(model, byte_text(), options(2)).unwrap(), &rows));
        assert_same(&wide, &own, &format!("{dtype:?}"));
    }
}

/// A prompt of several blocks, cut wherever others share its beginning.
#[test]
fn long_prompts_give_the_same_bits_however_they_are_cut() {
    let long: Vec<u32> = (0..1300).map(|i| (i * i + 7 * i) % 128).collect();
    let rows: Vec<Request> = [1300, 40, 700, 1300, 1297]
        .into_iter()
        .map(|length| request(&long[..length], Sampling::default(), &length.to_string(), 4))
        .collect();
    let run = |rows: &[Request], options| {
        let model = random_model(serde_json::json!({"max_position_embeddings": 2048}));
        run_all(&mut Engine::new(model, byte_text(), options).unwrap(), rows)
    };
    let alone: Vec<Finished> = rows
        .iter()
        .flat_map(|row| run(std::slice::from_ref(row), options(1)))
        .collect();
    assert_same(&alone, &run(&rows, options(2)), "shared");
    let apart = Options {
        share_prefixes: false,
        ..options(2)
    };
    assert_same(&alone, &run(&rows, apart), "not shared");
}

#[test]
fn narrower_units_give_the_same_bits() {
    let rows = requests(9);
    let run = |unit| {
        let options = Options { unit, ..options(1) };
        run_all(
            &mut Engine::new(random_model(serde_json::json!({})), byte_text(), options).unwrap(),
            &rows,
        )
    };
    let units = Unit::all();
    let reference = run(units[0]);
    for unit in &units[1..] {
        assert_same(&reference, &run(*unit), unit.name());
    }
}

#[test]
fn the_budget_holds_and_what_is_idle_makes_room() {
    let rows = requests(40);
    let options = Options {
        max_batch_tokens: 200,
        ..options(1)
    };
    let mut engine = Engine::new(random_model(serde_json::json!({})), byte_text(), options).unwrap();
    for (ticket, row) in rows.iter().enumerate() {
        engine.submit(ticket as u64, row.clone()).unwrap();
    }
    assert_eq!(engine.room(), 0);
    let (mut ended, mut steps) = (0, 0);
    while ended < rows.len() && steps < 10_000 {
        engine.step(&mut |_, row| ended += usize::from(row.is_ok())).unwrap();
        assert!(
            engine.meter.tokens() <= 200,
            "{} positions are held",
            engine.meter.tokens()
        );
        steps += 1;
    }
    assert_eq!(ended, rows.len());
    assert_eq!(engine.room(), 200);
}

#[test]
fn the_budget_is_the_users() {
    use std::ffi::OsStr;
    let of = |text: Option<&str>| Options::with_budget(2, text.map(OsStr::new));
    assert_eq!(of(None).unwrap().max_batch_tokens, Options::default().max_batch_tokens);
    let options = of(Some("200")).unwrap();
    assert_eq!((options.max_batch_tokens, options.threads), (200, Some(2)));
    for wrong in ["", "0", "-1", "many", "99999999999"] {
        let error = of(Some(wrong)).unwrap_err();
        assert!(error.to_string().contains("FRACTURE_MAX_BATCH_TOKENS"), "{error}");
    }
    let mut engine = Engine::new(random_model(serde_json::json!({})), byte_text(), options).unwrap();
    let error = engine
        .submit(0, request(&[1; 190], Sampling::default(), "x", 11))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("190 tokens and its answer of 11 exceed the 200"),
        "{error}"
    );
}

#[test]
fn equal_prompts_are_computed_once() {
    let prompt: Vec<u32> = (0..50).collect();
    let rows: Vec<Request> = (0..6)
        .map(|row| {
            request(
                &prompt,
                Sampling {
                    temperature: 1.0,
                    ..Sampling::default()
                },
                &row.to_string(),
                4,
            )
        })
        .collect();
    let mut engine = Engine::new(random_model(serde_json::json!({})), byte_text(), options(1)).unwrap();
    for (ticket, row) in rows.iter().enumerate() {
        engine.submit(ticket as u64, row.clone()).unwrap();
    }
    let progress = engine.run(&mut |_, _| ()).unwrap();
    assert_eq!((progress.prefill_tokens, progress.decoded_tokens), (50, 24));
    let longer: Vec<u32> = (0..60).collect();
    engine
        .submit(0, request(&longer, Sampling::default(), "longer", 1))
        .unwrap();
    assert_eq!(engine.run(&mut |_, _| ()).unwrap().prefill_tokens, 10);
}

#[test]
fn a_stop_string_cuts_the_text_and_ends_the_row() {
    let mut engine = Engine::new(random_model(serde_json::json!({})), byte_text(), options(1)).unwrap();
    let free = request(
        &[5, 6, 7],
        Sampling {
            temperature: 1.0,
            ..Sampling::default()
        },
        "stop",
        30,
    );
    let whole = run_all(&mut engine, std::slice::from_ref(&free)).remove(0);
    let third = whole.text.chars().nth(2).unwrap().to_string();
    let stopped = run_all(
        &mut engine,
        &[Request {
            stop: vec![third.clone()],
            ..free
        }],
    )
    .remove(0);
    assert_eq!(stopped.row.reason, crate::raw::FinishReason::Stop);
    assert!(whole.text.starts_with(&stopped.text) && !stopped.text.contains(&third));
    assert_eq!(stopped.row.tokens, whole.row.tokens[..stopped.row.tokens.len()]);
    assert_eq!(
        engine.text().completion(&stopped.row.tokens, &[third]).unwrap(),
        stopped.text
    );
}

#[test]
fn what_cannot_run_is_refused() {
    let mut engine = Engine::new(random_model(serde_json::json!({})), byte_text(), options(1)).unwrap();
    let long: Vec<u32> = vec![1; 256];
    assert!(
        engine
            .submit(0, request(&long, Sampling::default(), "x", 1))
            .unwrap_err()
            .to_string()
            .contains("context")
    );
    assert!(engine.submit(0, request(&[], Sampling::default(), "x", 1)).is_err());
    let hot = Sampling {
        temperature: f32::NAN,
        ..Sampling::default()
    };
    assert!(
        engine
            .submit(0, request(&[1], hot, "x", 1))
            .unwrap_err()
            .to_string()
            .contains("temperature")
    );
    engine
        .submit(0, request(&long[..250], Sampling::default(), "x", 50))
        .unwrap();
    let mut reasons = Vec::new();
    engine.run(&mut |_, row| reasons.push(row.unwrap().row)).unwrap();
    assert_eq!(
        (reasons[0].tokens.len(), reasons[0].reason),
        (6, crate::raw::FinishReason::Length)
    );
}
