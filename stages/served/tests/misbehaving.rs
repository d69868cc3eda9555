//! The executor against servers that misbehave: each behaviour is a real one on a real socket.

#![allow(clippy::unwrap_used, missing_docs)]

mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use fracture_served::call::{Asked, Input};
use fracture_served::{Call, Client, Job, JobFuture, Model, ServedExecutor, ServedRow, Work};
use fracture_stage::{Error, Executor as _, ModelSpec, Outcome, Request, Ticket, Usage};
use serde_json::{Map, Value, json};
use server::{Reply, Server, answer, error};

struct One(Call);

impl Job for One {
    fn run(&self, client: Arc<Client>, flying: Arc<AtomicU32>) -> JobFuture {
        let call = self.0.clone();
        Box::pin(async move { Ok(ServedRow::new(client.ask(&call, &flying).await?).encode()) })
    }
}

fn model(server: &Server, settings: Value) -> Arc<Model> {
    let mut all = Map::new();
    all.insert("base_url".to_owned(), json!(server.url()));
    all.insert("retries".to_owned(), json!(4));
    all.extend(settings.as_object().cloned().unwrap());
    let spec = ModelSpec {
        name: "far".to_owned(),
        source: "openai://some-model".to_owned(),
        settings: all,
        ..ModelSpec::default()
    };
    Arc::new(Model::new(&spec).unwrap())
}

fn call(model: &Model, row: usize) -> Call {
    let messages = json!([{ "role": "user", "content": format!("Question {row}?") }]);
    let asked = Asked {
        temperature: 0.7,
        top_p: 1.0,
        max_new_tokens: 20,
        stop: Vec::new(),
        seed: Some(row as u32),
        logprobs: None,
    };
    Call::new(model, Input::Messages(&messages), &asked)
}

type Rows = BTreeMap<u64, Outcome>;

/// Asks for so many rows; what landed, and how it ended.
fn ask(model: &Arc<Model>, rows: usize) -> (Rows, Result<Usage, Error>) {
    let mut executor = ServedExecutor::open(model).unwrap();
    let (mut landed, mut next) = (Rows::new(), 0);
    let end = loop {
        while next < rows && executor.room() > 0 {
            let work = Work(Arc::new(One(call(model, next))));
            let request = Request {
                key: Vec::new(),
                cost: 1,
                payload: Arc::new(work),
            };
            if let Err(error) = executor.submit(Ticket(next as u64), request) {
                return (landed, Err(error));
            }
            next += 1;
        }
        let stepped = executor.step(next < rows, &mut |ticket, outcome| {
            drop(landed.insert(ticket.0, outcome))
        });
        match stepped {
            Err(error) => break Err(error),
            Ok(progress) if progress.active == 0 && next == rows => break Ok(executor.usage()),
            Ok(_) => {}
        }
    };
    (landed, end)
}

fn good(rows: &Rows) -> usize {
    rows.values().filter(|row| matches!(row, Outcome::Raw(_))).count()
}

fn reason(rows: &Rows) -> String {
    let failed = rows.values().find_map(|row| match row {
        Outcome::Failed(error) => Some(error.message.clone()),
        Outcome::Raw(_) => None,
    });
    failed.unwrap_or_default()
}

fn told(error: &Error) -> String {
    format!("{error}; {}", error.hint.clone().unwrap_or_default())
}

#[test]
fn a_good_server_is_asked_what_was_said_and_counted() {
    let server = Server::start(|seen, _| {
        std::thread::sleep(Duration::from_millis(20));
        Reply::Json(200, answer(seen))
    });
    let model = model(
        &server,
        json!({ "concurrency": 3, "price": { "input": 2.0, "output": 10.0 } }),
    );
    let (rows, usage) = ask(&model, 12);
    let usage = usage.unwrap();
    assert_eq!((good(&rows), server.count()), (12, 12));
    assert!(
        (2..=3).contains(&server.most_at_once()),
        "{} at once",
        server.most_at_once()
    );
    assert_eq!((usage.requests, usage.retries, usage.prompt_tokens), (12, 0, 120));
    let cost = usage.cost.unwrap();
    assert!(
        (cost - (120.0 * 2.0 + usage.completion_tokens as f64 * 10.0) / 1e6).abs() < 1e-12,
        "{cost}"
    );
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.header("authorization"), None, "no key was named");
    let fields: Vec<&String> = seen.body.as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        ["model", "messages", "max_tokens", "temperature", "seed", "stream"]
    );
    let Some(Outcome::Raw(raw)) = rows.get(&7) else {
        panic!("{rows:?}")
    };
    let row = ServedRow::decode(raw).unwrap();
    assert_eq!((row.text.as_str(), row.prompt_tokens), ("I heard: 11 (7)", Some(10)));
    assert_eq!(row.by.fingerprint.as_deref(), Some("fp_1"));
}

#[test]
fn a_storm_of_429_is_waited_out_as_the_server_asks() {
    let server = Server::start(|seen, number| match number {
        0..6 => Reply::Raw(429, vec![("retry-after", "1".to_owned())], b"{}".to_vec()),
        _ => Reply::Json(200, answer(seen)),
    });
    let start = Instant::now();
    let (rows, usage) = ask(&model(&server, json!({ "concurrency": 4 })), 8);
    assert_eq!(good(&rows), 8, "{}", reason(&rows));
    assert_eq!(usage.unwrap().retries, 6);
    // While the server asked for a pause nothing came: four at once, then nobody for a second.
    assert!(start.elapsed() >= Duration::from_millis(1900), "{:?}", start.elapsed());
}

#[test]
fn a_date_to_come_back_is_understood() {
    let date = Server::start(|seen, number| match number {
        0 => Reply::Raw(
            503,
            vec![("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT".to_owned())],
            Vec::new(),
        ),
        1 => Reply::Raw(429, vec![("retry-after", "86400".to_owned())], Vec::new()),
        _ => Reply::Json(200, answer(seen)),
    });
    let start = Instant::now();
    let (rows, _) = ask(&model(&date, json!({})), 1);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(reason(&rows).contains("asks to wait 86400 s"), "{}", reason(&rows));
    assert_eq!(date.count(), 2, "a day is not waited for");
}

#[test]
fn what_passes_is_tried_again() {
    let server = Server::start(|seen, number| match number {
        0 => Reply::Json(500, json!({ "error": { "message": "out of memory" } })),
        1 => Reply::Cut,
        2 => Reply::Raw(
            200,
            vec![("content-type", "application/json".to_owned())],
            b"{\"choices\": [".to_vec(),
        ),
        3 => Reply::Raw(408, Vec::new(), Vec::new()),
        _ => Reply::Json(200, answer(seen)),
    });
    let (rows, usage) = ask(&model(&server, json!({})), 1);
    assert_eq!(good(&rows), 1, "{}", reason(&rows));
    assert_eq!((usage.unwrap().retries, server.count()), (4, 5));
}

#[test]
fn a_slow_body_meets_the_timeout() {
    let server = Server::start(|_, _| Reply::Drip(Duration::from_millis(20)));
    let start = Instant::now();
    let (rows, _) = ask(&model(&server, json!({ "timeout": 0.2, "retries": 1 })), 1);
    assert!(
        reason(&rows).contains("no whole answer within 0.2 s (tried 2 times)"),
        "{}",
        reason(&rows)
    );
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_body_without_end_is_not_read_to_its_end() {
    let server = Server::start(|_, _| Reply::Endless);
    let (rows, _) = ask(&model(&server, json!({})), 1);
    assert!(reason(&rows).contains("longer than 16 MB"), "{}", reason(&rows));
    assert_eq!(server.count(), 1);
}

#[test]
fn a_page_instead_of_an_answer_is_named() {
    let server = Server::start(|_, _| {
        Reply::Raw(
            200,
            vec![("content-type", "text/html; charset=utf-8".to_owned())],
            b"<html>Sign in</html>".to_vec(),
        )
    });
    let (rows, _) = ask(&model(&server, json!({ "retries": 0 })), 1);
    assert!(
        reason(&rows).contains("no JSON (text/html, 20 bytes)"),
        "{}",
        reason(&rows)
    );
}

#[test]
fn a_wrong_key_an_unknown_model_and_an_empty_account_end_the_run_at_once() {
    for (status, code, expected) in [
        (401, "invalid_api_key", "the server refuses the key"),
        (403, "", "the server refuses the key"),
        (404, "model_not_found", "does not know the model"),
        (429, "insufficient_quota", "nothing left"),
    ] {
        let server = Server::start(move |_, _| error(status, code, "Not so."));
        let (rows, end) = ask(&model(&server, json!({ "concurrency": 1 })), 20);
        let error = end.unwrap_err();
        assert_eq!((rows.len(), server.count()), (0, 1), "{status}");
        let told = told(&error);
        for part in [expected, "`far`", "some-model", &server.url(), "Not so"] {
            assert!(told.contains(part), "{status}: {part}: {told}");
        }
    }
}

#[test]
fn no_redirect_is_followed() {
    let other = Server::good();
    let place = format!("{}/secret-place?token=1", other.url());
    let server = Server::start(move |_, _| Reply::Raw(307, vec![("location", place.clone())], Vec::new()));
    let (_, end) = ask(&model(&server, json!({})), 3);
    let told = told(&end.unwrap_err());
    assert!(
        told.contains(&format!("sends to http://127.0.0.1:{}", other.port())),
        "{told}"
    );
    assert!(!told.contains("secret-place"), "{told}");
    assert_eq!(other.count(), 0);
}

#[test]
fn an_overflow_of_the_context_fails_its_row_alone() {
    let server = Server::start(|seen, _| match seen.body["messages"][0]["content"] == "Question 3?" {
        true => error(
            400,
            "context_length_exceeded",
            "This model's maximum context length is 8 tokens.",
        ),
        false => Reply::Json(200, answer(seen)),
    });
    let (rows, end) = ask(&model(&server, json!({})), 6);
    assert_eq!((good(&rows), end.is_ok()), (5, true));
    assert!(
        reason(&rows).contains("do not fit into the model's context"),
        "{}",
        reason(&rows)
    );
    assert_eq!(server.count(), 6, "asking again would not help");
}

#[test]
fn beyond_the_budget_the_run_stops_with_the_reasons_and_keeps_what_landed() {
    let server = Server::start(|seen, _| {
        let text = seen.body["messages"][0]["content"].as_str().unwrap().to_owned();
        match text.contains('7') {
            true => error(400, "bad", "No sevens."),
            false => Reply::Json(200, answer(seen)),
        }
    });
    let (rows, end) = ask(&model(&server, json!({ "concurrency": 1, "max_error_rate": 0.1 })), 200);
    let error = end.unwrap_err();
    // 7 and 17 are within 2 of 20; with 27 it is 3 of 28.
    assert!(
        error.message.contains("3 of 28") && error.message.contains("max_error_rate is 0.1"),
        "{error}"
    );
    assert!(error.causes[0].contains("3 × refused request"), "{error}");
    assert_eq!((good(&rows), server.count()), (25, 28));
    let (rows, end) = ask(&model(&server, json!({ "max_error_rate": 1 })), 100);
    assert!(end.is_ok() && good(&rows) == 81, "{} {end:?}", good(&rows));
}

#[test]
fn what_a_filter_withholds_is_an_answer_that_is_invalid() {
    let server = Server::start(|_, number| match number {
        0 => error(400, "content_filter", "The response was filtered."),
        _ => Reply::Json(
            200,
            json!({ "choices": [{ "message": { "content": "" }, "finish_reason": "content_filter" }] }),
        ),
    });
    let (rows, _) = ask(&model(&server, json!({ "concurrency": 1 })), 2);
    for row in rows.values() {
        let Outcome::Raw(raw) = row else { panic!("{row:?}") };
        assert!(
            ServedRow::decode(raw)
                .unwrap()
                .invalid()
                .unwrap()
                .contains("content filter")
        );
    }
}

#[test]
fn an_error_that_comes_with_status_200_is_one() {
    let server = Server::start(|seen, number| match number {
        0 => Reply::Json(200, json!({ "error": { "message": "busy", "code": 502 } })),
        1 => {
            let mut cut = answer(seen);
            cut["choices"][0]["finish_reason"] = json!("error");
            cut["choices"][0]["error"] = json!({ "message": "the provider went away", "code": 502 });
            Reply::Json(200, cut)
        }
        _ => Reply::Json(200, answer(seen)),
    });
    let (rows, usage) = ask(&model(&server, json!({})), 1);
    assert_eq!((good(&rows), usage.unwrap().retries), (1, 2));
}

#[test]
fn an_answer_that_is_no_text_is_none() {
    let server = Server::start(|_, number| match number {
        0 => Reply::Raw(
            200,
            vec![("content-type", "application/json".to_owned())],
            b"{\"choices\": [{\"text\": \"\xff\xfe\"}]}".to_vec(),
        ),
        1 => Reply::Json(
            200,
            json!({ "choices": [{ "delta": { "content": "part of a stream" } }] }),
        ),
        _ => Reply::Raw(200, vec![("content-type", "x".repeat(5000))], Vec::new()),
    });
    let asked = model(&server, json!({ "retries": 0, "concurrency": 1, "max_error_rate": 1 }));
    let (rows, _) = ask(&asked, 3);
    let told: Vec<&String> = rows
        .values()
        .map(|row| match row {
            Outcome::Failed(error) => &error.message,
            Outcome::Raw(_) => panic!("{rows:?}"),
        })
        .collect();
    assert!(told[0].contains("not UTF-8"), "{told:?}");
    assert!(told[1].contains("no text and no message"), "{told:?}");
    assert!(told[2].len() < 200, "{told:?}");
}

#[test]
fn nobody_listening_is_told_with_the_address() {
    let server = Server::good();
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{unused}/v1");
    let start = Instant::now();
    let settings = json!({ "base_url": url, "retries": 8, "max_error_rate": 0 });
    let (_, end) = ask(&model(&server, settings), 4);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "a server that is not there is not waited for"
    );
    let told = told(&end.unwrap_err());
    assert!(
        told.contains(&url) && told.contains("no connection") && told.contains("is the server running"),
        "{told}"
    );
}

#[test]
fn an_interruption_gives_back_what_waits_and_lets_land_what_is_on_its_way() {
    let server = Server::start(|seen, number| match number {
        0 => Reply::Late(Duration::from_millis(400), answer(seen)),
        _ => Reply::Raw(429, vec![("retry-after", "30".to_owned())], Vec::new()),
    });
    let model = model(&server, json!({ "concurrency": 2 }));
    let mut executor = ServedExecutor::open(&model).unwrap();
    for row in 0..2 {
        let payload = Arc::new(Work(Arc::new(One(call(&model, row)))));
        let request = Request {
            key: Vec::new(),
            cost: 1,
            payload,
        };
        executor.submit(Ticket(row as u64), request).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let start = Instant::now();
    assert_eq!(executor.withdraw(), [Ticket(1)]);
    let mut landed = Vec::new();
    while executor
        .step(false, &mut |ticket, outcome| landed.push((ticket, outcome)))
        .unwrap()
        .active
        > 0
    {}
    assert!(matches!(landed[..], [(Ticket(0), Outcome::Raw(_))]), "{landed:?}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn the_key_goes_into_its_header_and_an_echo_of_it_nowhere() {
    // The variable of a test of its own: nobody else reads or writes it.
    const KEY: &str = "sk-test-4f1d0c9b8a7e";
    unsafe { std::env::set_var("FRACTURE_TEST_SERVED_KEY", format!("{KEY}\n")) };
    let server = Server::start(|seen, number| match number {
        0 => error(
            400,
            "odd",
            &format!("what is {}?", seen.header("authorization").unwrap()),
        ),
        2 => Reply::Raw(200, vec![("content-type", format!("text/{KEY}"))], b"?".to_vec()),
        3 => error(400, "odd", &format!("{}\u{7}{}", &KEY[..9], &KEY[9..])),
        _ => Reply::Json(
            200,
            server::says(seen, &format!("You sent {}.", seen.header("authorization").unwrap())),
        ),
    });
    let model = model(
        &server,
        json!({
            "api_key_env": "FRACTURE_TEST_SERVED_KEY", "concurrency": 1, "retries": 0, "max_error_rate": 1,
        }),
    );
    let (rows, _) = ask(&model, 4);
    let sent = server.seen();
    assert!(
        sent.iter()
            .all(|seen| seen.header("authorization") == Some(&format!("Bearer {KEY}")))
    );
    assert!(reason(&rows).contains("what is Bearer [key]?"), "{}", reason(&rows));
    let Some(Outcome::Raw(raw)) = rows.get(&1) else {
        panic!("{rows:?}")
    };
    assert_eq!(ServedRow::decode(raw).unwrap().text, "You sent Bearer [key].");
    assert!(!format!("{rows:?} {model:?}").contains(KEY));
}
