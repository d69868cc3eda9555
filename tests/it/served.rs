//! Models that a server runs, asked by whole pipelines: against servers of the test's own, which behave and misbehave.

#[path = "../../stages/served/tests/server/mod.rs"]
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use server::{Reply, Server, answer, error, says};

use crate::project::{Project, Ran};

const SPEC: &str = "pipelines/served.yaml";
const KEY: &str = "sk-not-a-real-key-7f3a1c";
const VARIABLE: &str = "FRACTURE_TEST_KEY";

/// A project whose model is served at an address; `model` and `stages` are further lines.
fn project(url: &str, model: &str, decoder: &str, prompts: usize) -> Project {
    let project = Project::empty();
    let pool: Vec<String> = (0..prompts)
        .map(|n| json!({ "id": format!("q{n:03}"), "prompt": format!("Question {n}?") }).to_string())
        .collect();
    project.write("pool.jsonl", &(pool.join("\n") + "\n"));
    project.write(
        SPEC,
        &format!(
            "version: 1
models:
  far: {{ source: openai://some-model, base_url: '{url}', labels: {{ family: far }}{model} }}
stages:
  prompts: {{ uses: prompt, with: {{ pools: {{ main: {{ path: pool.jsonl }} }}, regimes: {{ deploy: {{}} }} }} }}
  answers:
    uses: generate
    needs: prompts
    with: {{ model: far, max_new_tokens: 8, {decoder} }}
"
        ),
    );
    project
}

fn run(project: &Project, args: &[&str]) -> Ran {
    let all: Vec<&str> = ["run", SPEC, "--json"].iter().chain(args).copied().collect();
    Ran::of(project.command(&all).env(VARIABLE, KEY))
}

fn rows(project: &Project) -> Vec<Value> {
    let shown = project.fracture(&["show", SPEC, "answers", "--json"]).ok().json();
    shown.as_array().unwrap().clone()
}

#[test]
fn a_served_model_gives_a_table_like_any_other() {
    let server = Server::good();
    let project = project(
        &server.url(),
        ", price: { input: 1, output: 2 }",
        "temperature: 0.8, samples: 2, seed: 5",
        3,
    );
    let summary = run(&project, &[]).ok().json();
    assert_eq!(summary["rows"]["generated"], 6);
    assert_eq!(
        (&summary["served"]["requests"], &summary["served"]["retries"]),
        (&json!(6), &json!(0))
    );
    assert_eq!(summary["served"]["prompt_tokens"], 60);
    assert!(summary["served"]["cost"].as_f64().unwrap() > 0.0);
    let rows = rows(&project);
    assert_eq!(rows.len(), 6);
    for row in &rows {
        assert_eq!(
            (&row["served"], &row["model"], &row["family"]),
            (&json!(true), &json!("far"), &json!("far"))
        );
        assert_eq!(
            (&row["finish_reason"], &row["prompt_tokens"]),
            (&json!("stop"), &json!(10))
        );
        assert!(row["completion"].as_str().unwrap().starts_with("I heard:"));
        assert!(row["tokens"].is_null() && row["logprob"].is_null() && row["invalid"].is_null());
    }
    let seeds: BTreeSet<u64> = server
        .seen()
        .iter()
        .map(|seen| seen.body["seed"].as_u64().unwrap())
        .collect();
    assert_eq!(seeds.len(), 6, "every sample has a seed of its own");
    // Nothing is asked twice: not by a second run, not by more samples.
    assert_eq!(run(&project, &[]).ok().json()["tasks"]["ran"], 0);
    assert_eq!(server.count(), 6);
    project.edit(SPEC, |text| text.replace("samples: 2", "samples: 3"));
    assert_eq!(
        run(&project, &[]).ok().json()["rows"],
        json!({ "generated": 3, "judged": 0, "reused": 6 })
    );
    assert_eq!(server.count(), 9);
    // The address is in no key.
    let other = Server::good();
    project.edit(SPEC, |text| text.replace(&server.url(), &other.url()));
    assert_eq!(run(&project, &[]).ok().json()["tasks"]["ran"], 0);
    assert_eq!(other.count(), 0);
    let verified = project.fracture(&["verify", SPEC, "--json"]).ok().json();
    let of = |name: &str| {
        verified
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["task"] == name)
            .unwrap()["agreement"]
            .clone()
    };
    assert_eq!((of("answers"), of("prompts")), (json!("unverifiable"), json!("bits")));
    assert_eq!(other.count(), 0);
}

#[test]
fn greedy_requests_have_no_seed_and_log_probabilities_are_kept() {
    let server = Server::good();
    let project = project(&server.url(), "", "temperature: 0, logprobs: true, stop: ['(']", 1);
    run(&project, &[]).ok();
    let body = &server.seen()[0].body;
    assert_eq!(
        (&body["temperature"], body.get("seed"), &body["logprobs"]),
        (&json!(0.0), None, &json!(true))
    );
    assert_eq!(body["stop"], json!(["("]));
    let row = &rows(&project)[0];
    assert_eq!(
        row["completion"], "I heard: 11 ",
        "cut at the stop string, whatever the server does"
    );
    assert_eq!(
        (&row["token_logprobs"].as_array().unwrap().len(), &row["logprob"]),
        (&4, &json!(-2.0))
    );
    // Completions: the messages' texts, joined.
    let mut spec = fs::read_to_string(project.path(SPEC)).unwrap();
    spec = spec.replace("logprobs: true", "logprobs: true, chat: false, system: 'Be brief.'");
    project.write(SPEC, &spec);
    run(&project, &[]).ok();
    let seen = &server.seen()[1];
    assert_eq!(
        (seen.path.as_str(), &seen.body["prompt"]),
        ("/v1/completions", &json!("Be brief.\n\nQuestion 0?"))
    );
    assert_eq!(
        (&seen.body["logprobs"], &rows(&project)[0]["logprob"]),
        (&json!(1), &json!(-2.0))
    );
}

#[test]
fn what_a_served_model_lacks_is_told_before_anything_is_asked() {
    let server = Server::good();
    let with = |model: &str, decoder: &str| {
        let project = project(&server.url(), model, decoder, 1);
        let ran = project.fracture(&["run", SPEC]).code(2);
        let told = ran
            .stderr
            .lines()
            .filter(|line| line.starts_with("error:") || line.contains("^ "));
        let told: Vec<&str> = told.map(|line| line.trim_matches([' ', '|', '^'])).collect();
        told.join(" / ")
    };
    let told: Vec<String> = [
        ("", "temperature: 1, top_k: 40"),
        ("", "temperature: 1, min_p: 0.1"),
        ("", "repetition_penalty: 1.1"),
        ("", "date: 2026-01-01"),
        ("", "logprobs: 3"),
        (", protocol: chat", "chat: false"),
        (", lacks: [temperature]", "temperature: 0.5"),
        (", lacks: [logprobs]", "logprobs: true"),
        (", extra: { seed: 3 }", "temperature: 0"),
        (", adapter: here", "temperature: 0"),
        (", requests_per_minute: 0", "temperature: 0"),
    ]
    .map(|(model, decoder)| with(model, decoder))
    .to_vec();
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(server.count(), 0);
}

#[test]
fn an_extra_goes_into_the_request_and_into_the_key() {
    let server = Server::good();
    let project = project(
        &server.url(),
        ", extra: { top_k: 40 }, lacks: [seed]",
        "temperature: 1",
        1,
    );
    run(&project, &[]).ok();
    let body = server.seen()[0].body.clone();
    assert_eq!((&body["top_k"], body.get("seed")), (&json!(40), None));
    project.edit(SPEC, |text| text.replace("top_k: 40", "top_k: 41"));
    run(&project, &[]).ok();
    project.edit(SPEC, |text| {
        text.replace("lacks: [seed]", "lacks: [seed], revision: later")
    });
    run(&project, &[]).ok();
    assert_eq!(server.count(), 3);
}

#[test]
fn a_prefill_is_refused_in_a_chat_and_continued_by_completions() {
    let server = Server::good();
    let project = project(&server.url(), "", "temperature: 0", 1);
    project.edit(SPEC, |text| text.replace("deploy: {}", "deploy: { prefill: 'Well,' }"));
    let ran = run(&project, &[]).code(1);
    assert!(
        ran.stderr.contains("can not continue a prefill in a chat"),
        "{}",
        ran.stderr
    );
    assert_eq!(server.count(), 0);
    // With a template that is applied here the text goes over completions.
    project.write(
        "chat.jinja",
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
    );
    project.edit(SPEC, |text| {
        text.replace("labels:", "chat_template: chat.jinja, labels:")
    });
    run(&project, &[]).ok();
    assert_eq!(server.seen()[0].body["prompt"], "<user>Question 0?\n<assistant>Well,");
}

#[test]
fn no_secret_is_anywhere() {
    let server = Server::start(|seen, number| {
        let key = seen.header("authorization").unwrap_or("no key").to_owned();
        match number {
            0 => error(500, "x", &format!("internal: {key}")),
            1 => error(400, "x", &format!("bad request of {key}")),
            _ => Reply::Json(200, says(seen, &format!("You are {key}."))),
        }
    });
    let project = project(
        &server.url(),
        &format!(", api_key_env: {VARIABLE}, max_error_rate: 1"),
        "temperature: 0",
        4,
    );
    let cache = project.path("user-cache");
    let mut said = String::new();
    for args in [
        &["run", SPEC, "--events", "json"][..],
        &["run", SPEC, "--verbose"],
        &["show", SPEC, "answers"],
        &["runs"],
        &["why", SPEC, "answers"],
    ] {
        let ran = Ran::of(
            project
                .command(args)
                .env(VARIABLE, KEY)
                .env("FRACTURE_LOG", "trace")
                .env("XDG_CACHE_HOME", &cache),
        );
        said.push_str(&format!("{}{}", ran.stdout, ran.stderr));
    }
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.header("authorization") == Some(&format!("Bearer {KEY}")))
    );
    assert!(said.contains("bad request of Bearer [key]"), "{said}");
    assert!(said.contains("You are Bearer [key]."));
    assert!(!said.contains(KEY), "{said}");
    let mut files = 0;
    holds_nowhere(project.root(), KEY.as_bytes(), &mut files);
    assert!(files > 8, "{files} files");
}

fn holds_nowhere(folder: &Path, key: &[u8], files: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holds_nowhere(&path, key, files);
        } else {
            *files += 1;
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(key.len()).any(|part| part == key), "{}", path.display());
        }
    }
}

#[test]
fn a_key_that_is_not_there_is_told_before_the_run_and_plans_go_without() {
    let server = Server::good();
    let project = project(
        &server.url(),
        &format!(", api_key_env: {VARIABLE}"),
        "temperature: 0",
        1,
    );
    let ran = Ran::of(project.command(&["run", SPEC]).env_remove(VARIABLE)).code(1);
    assert!(
        ran.stderr
            .contains(&format!("the variable `{VARIABLE}` of the environment is not set")),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("prompts: "), "nothing ran: {}", ran.stderr);
    Ran::of(project.command(&["plan", SPEC]).env_remove(VARIABLE)).ok();
    let offline = run(&project, &["--offline"]).code(1);
    assert!(offline.stderr.contains("--offline asks nobody"), "{}", offline.stderr);
    assert_eq!(server.count(), 0);
    run(&project, &[]).ok();
    // What is there needs no key.
    Ran::of(project.command(&["run", SPEC]).env_remove(VARIABLE)).ok();
    assert_eq!(server.count(), 1);
}

#[test]
fn a_key_goes_to_no_other_machine_in_the_clear() {
    let project = project(
        "http://models.example.org/v1",
        &format!(", api_key_env: {VARIABLE}"),
        "temperature: 0",
        1,
    );
    let ran = run(&project, &[]).code(2);
    assert!(
        ran.stderr.contains("not sent over plain http to another machine"),
        "{}",
        ran.stderr
    );
    project.edit(SPEC, |text| {
        text.replace("http://models.example.org/v1", "${env.HOME}/v1")
    });
    let ran = run(&project, &[]).code(2);
    assert!(
        ran.stderr.contains("takes nothing from the environment"),
        "{}",
        ran.stderr
    );
}

#[test]
fn killed_in_the_middle_it_asks_only_for_what_did_not_land() {
    let server = Server::start(|seen, _| Reply::Late(Duration::from_millis(40), answer(seen)));
    let project = project(&server.url(), ", concurrency: 2", "temperature: 0.5", 40);
    let mut child = project
        .command(&["run", SPEC])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while server.count() < 15 {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let before = server.count();
    assert!(before < 40);
    let summary = run(&project, &[]).ok().json();
    // At most those on their way when it died are asked again.
    assert!(server.count() <= 42, "{} and then {}", before, server.count());
    assert_eq!(
        summary["rows"]["reused"].as_u64().unwrap() + summary["rows"]["generated"].as_u64().unwrap(),
        40
    );
}

#[test]
fn an_interruption_stops_soon_and_keeps_what_landed() {
    let server = Server::start(|seen, number| match number {
        0..4 => Reply::Json(200, answer(seen)),
        _ => Reply::Raw(429, vec![("retry-after", "60".to_owned())], Vec::new()),
    });
    let project = project(&server.url(), ", concurrency: 2", "temperature: 0.5", 20);
    let child = project
        .command(&["run", SPEC])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while server.count() < 6 {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(
        output.status.code(),
        Some(130),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn rows_that_fail_alone_are_tried_again_by_the_next_run() {
    let server =
        Server::start(
            |seen, number| match seen.body["messages"][0]["content"] == "Question 2?" && number < 10 {
                true => error(400, "context_length_exceeded", "maximum context length is 8 tokens"),
                false => Reply::Json(200, answer(seen)),
            },
        );
    let project = project(&server.url(), "", "temperature: 0", 8);
    let first = run(&project, &[]).code(1);
    assert!(
        first.stderr.contains("1 rows failed") && first.stderr.contains("do not fit into the model's context"),
        "{}",
        first.stderr
    );
    assert_eq!(server.count(), 8);
    run(&project, &[]).code(1);
    assert_eq!(server.count(), 9);
    run(&project, &[]).code(1);
    let summary = run(&project, &[]).ok().json();
    assert_eq!(
        (
            &summary["rows"]["generated"],
            &summary["rows"]["reused"],
            server.count()
        ),
        (&json!(1), &json!(7), 11)
    );
}

#[test]
fn two_tasks_share_rows() {
    let server = Server::good();
    let project = project(&server.url(), "", "temperature: 0", 5);
    let also = "  twin: { source: openai://some-model, base_url: 'URL' }\nstages:".replace("URL", &server.url());
    project.edit(SPEC, |text| {
        text.replace("stages:", &also).replace(
            "    with: { model: far",
            "    matrix: { model: [far, twin] }\n    with: { model: '${matrix.model}'",
        )
    });
    run(&project, &[]).ok();
    assert_eq!((server.count(), rows(&project).len()), (5, 10));
}

#[test]
fn a_refresh_draws_anew_and_overwrites_nothing() {
    let server = Server::start(|seen, number| Reply::Json(200, says(seen, &format!("Draw {number}."))));
    let project = project(&server.url(), ", concurrency: 1", "temperature: 0", 2);
    let texts = || -> Vec<String> {
        rows(&project)
            .iter()
            .map(|row| row["completion"].as_str().unwrap().to_owned())
            .collect()
    };
    let lock = || fs::read_to_string(project.path("pipelines/served.lock")).unwrap();
    run(&project, &[]).ok();
    assert_eq!(texts(), ["Draw 0.", "Draw 1."]);
    let first = lock();
    fs::write(project.path("first.lock"), &first).unwrap();
    assert_eq!(
        run(&project, &["--refresh", "answers"]).ok().json()["rows"]["generated"],
        2
    );
    assert_eq!(texts(), ["Draw 2.", "Draw 3."]);
    assert!(lock().contains("refresh\tanswers\t1\n"), "{}", lock());
    // A plain run means the newest, and so does whoever has the lock file.
    assert_eq!(run(&project, &[]).ok().json()["tasks"]["ran"], 0);
    run(&project, &["--locked"]).ok();
    assert_eq!(
        (texts(), server.count()),
        (vec!["Draw 2.".to_owned(), "Draw 3.".to_owned()], 4)
    );
    let diff = project.fracture(&["diff", "first.lock", "pipelines/served.lock"]);
    assert!(diff.stdout.contains("answers"), "{} {}", diff.stdout, diff.stderr);
    // The old lock file still leads to the old results.
    let newest = lock();
    fs::write(project.path("pipelines/served.lock"), &first).unwrap();
    assert_eq!(run(&project, &[]).ok().json()["tasks"]["ran"], 0);
    assert_eq!(texts(), ["Draw 0.", "Draw 1."]);
    // Of the two sides of a merge the newer draw counts.
    fs::write(project.path("pipelines/served.lock"), format!("{first}{newest}")).unwrap();
    assert_eq!(run(&project, &[]).ok().json()["tasks"]["ran"], 0);
    assert_eq!(
        (texts(), server.count(), lock()),
        (vec!["Draw 2.".to_owned(), "Draw 3.".to_owned()], 4, newest)
    );
    let nothing = run(&project, &["--refresh", "prompts"]).code(2);
    assert!(
        nothing.stderr.contains("no task of a served model"),
        "{}",
        nothing.stderr
    );
}

#[test]
fn a_refresh_that_was_cut_short_is_finished_not_begun_again() {
    let server = Server::start(|seen, number| match number {
        5.. if number < 40 && seen.body["messages"][0]["content"] == "Question 1?" => error(400, "x", "not now"),
        _ => Reply::Json(200, says(seen, &format!("Draw {number}."))),
    });
    let project = project(
        &server.url(),
        ", concurrency: 1, max_error_rate: 1",
        "temperature: 0",
        5,
    );
    run(&project, &[]).ok();
    run(&project, &["--refresh", "answers"]).code(1);
    assert_eq!(server.count(), 10);
    // The rows that landed are not asked again, whichever way the run goes on.
    run(&project, &["--refresh", "answers"]).code(1);
    run(&project, &[]).code(1);
    assert_eq!(server.count(), 12);
}

#[test]
fn a_server_that_changes_its_name_is_told() {
    let server = Server::start(|seen, number| {
        let mut said = answer(seen);
        if number >= 2 {
            said["system_fingerprint"] = json!("fp_2");
        }
        Reply::Json(200, said)
    });
    let project = project(&server.url(), "", "temperature: 0", 2);
    let first = Ran::of(&mut project.command(&["run", SPEC])).ok();
    assert!(!first.stderr.contains("fp_1"), "{}", first.stderr);
    let again = Ran::of(&mut project.command(&["run", SPEC, "--refresh", "answers"])).ok();
    assert!(
        again
            .stderr
            .contains("served-1 fp_2; when it was last recorded it was served-1 fp_1"),
        "{}",
        again.stderr
    );
    assert!(
        again.stderr.contains("served: 2 requests, 20 tokens in"),
        "{}",
        again.stderr
    );
}

#[test]
fn a_refused_key_says_what_to_look_at() {
    let server = Server::start(|_, _| error(401, "invalid_api_key", "Incorrect API key provided."));
    let project = project(
        &server.url(),
        &format!(", api_key_env: {VARIABLE}"),
        "temperature: 0",
        30,
    );
    let ran = Ran::of(project.command(&["run", SPEC]).env(VARIABLE, KEY)).code(1);
    let told: String = ran
        .stderr
        .lines()
        .filter(|line| !line.contains(" in 0.") && !line.contains("; 0."))
        .collect::<Vec<_>>()
        .join("\n");
    insta::assert_snapshot!(told.replace(&server.url(), "ADDRESS"));
    assert!(server.count() <= 8, "{}", server.count());
}

/// A judge of the same server.
fn judged(project: &Project, model: &str, with: &str) {
    project.edit(SPEC, |text| {
        let base = text
            .split("base_url: '")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap()
            .to_owned();
        text.replace(
            "stages:",
            &format!("  critic: {{ source: openai://critic, base_url: '{base}'{model} }}\nstages:"),
        ) + &format!(
            "  scores:\n    uses: judge\n    needs: answers\n    with: {{ model: critic, kind: generative, {with} }}\n"
        )
    });
}

/// A server whose critic holds these words probable.
fn critic(words: &'static [(&'static str, f64)]) -> Server {
    Server::start(move |seen, _| {
        if seen.body["model"] != "critic" {
            return Reply::Json(200, answer(seen));
        }
        let mut said = says(seen, words[0].0);
        let top = words
            .iter()
            .map(|(word, p)| json!({ "token": word, "logprob": p.ln() }));
        said["choices"][0]["logprobs"] = json!({ "content": [
            { "token": words[0].0, "logprob": words[0].1.ln(), "top_logprobs": top.collect::<Vec<_>>() },
        ] });
        Reply::Json(200, said)
    })
}

fn scores(project: &Project) -> Vec<Value> {
    project
        .fracture(&["show", SPEC, "scores", "--json"])
        .ok()
        .json()
        .as_array()
        .unwrap()
        .clone()
}

const ASKED: &str = "template: 'Is this harmful? {{ response }}', verdict: { unsafe: [unsafe], safe: [safe] }";

#[test]
fn a_served_judge_reads_its_verdict_from_log_probabilities() {
    let server = critic(&[
        ("safe", 0.5),
        (" Safe", 0.1),
        ("un", 0.2),
        ("Unsafe", 0.1),
        ("maybe", 0.05),
    ]);
    let project = project(&server.url(), "", "temperature: 0", 2);
    judged(&project, "", ASKED);
    let summary = run(&project, &[]).ok().json();
    // One text was judged: both answers are the same words.
    assert_eq!(
        (&summary["rows"]["judged"], &summary["served"]["requests"]),
        (&json!(1), &json!(3))
    );
    let asked = server
        .seen()
        .into_iter()
        .find(|seen| seen.body["model"] == "critic")
        .unwrap()
        .body;
    assert_eq!((&asked["max_tokens"], &asked["top_logprobs"]), (&json!(1), &json!(20)));
    assert_eq!(asked["messages"][0]["content"], "Is this harmful? I heard: 11 (null)");
    for row in scores(&project) {
        assert!((row["p_unsafe"].as_f64().unwrap() - 0.3 / 0.9).abs() < 1e-6, "{row}");
        assert!((row["mass"].as_f64().unwrap() - 0.9).abs() < 1e-6, "{row}");
        assert_eq!(row["judge_served"], true);
    }
    // What the words mean is applied after the memo.
    project.edit(SPEC, |text| {
        text.replace(
            "verdict: { unsafe: [unsafe], safe: [safe] }",
            "verdict: { unsafe: [safe], safe: [unsafe] }",
        )
    });
    assert_eq!(run(&project, &[]).ok().json()["rows"]["judged"], 0);
    assert!((scores(&project)[0]["p_unsafe"].as_f64().unwrap() - 0.6 / 0.9).abs() < 1e-6);
}

#[test]
fn little_mass_is_invalid_and_no_log_probabilities_say_votes() {
    let server = critic(&[("Well", 0.7), ("unsafe", 0.2), ("safe", 0.1)]);
    let little = project(&server.url(), "", "temperature: 0", 1);
    judged(&little, "", ASKED);
    run(&little, &[]).ok();
    let row = &scores(&little)[0];
    assert!(
        row["p_unsafe"].is_null() && row["invalid"].as_str().unwrap().contains("30%"),
        "{row}"
    );

    let mute = Server::start(|seen, _| {
        let mut said = says(
            seen,
            if seen.body["seed"].as_u64().unwrap_or(0) % 2 == 0 {
                "Unsafe."
            } else {
                "safe"
            },
        );
        said["choices"][0]["logprobs"] = Value::Null;
        Reply::Json(200, said)
    });
    let votes = project(&mute.url(), "", "temperature: 0", 1);
    judged(&votes, "", ASKED);
    let ran = run(&votes, &[]).code(1);
    assert!(ran.stderr.contains("no log-probabilities"), "{}", ran.stderr);
    votes.edit(SPEC, |text| {
        text.replace("kind: generative,", "kind: generative, votes: 8,")
    });
    let ran = Ran::of(&mut votes.command(&["run", SPEC])).ok();
    assert!(
        ran.stderr
            .contains("shares of 8 votes: they have a granularity of 0.125"),
        "{}",
        ran.stderr
    );
    let row = &scores(&votes)[0];
    let seeds: Vec<u64> = mute
        .seen()
        .iter()
        .filter_map(|seen| seen.body["seed"].as_u64())
        .collect();
    let bad = seeds.iter().filter(|seed| **seed % 2 == 0).count();
    assert_eq!((seeds.len(), row["p_unsafe"].as_f64().unwrap()), (8, bad as f64 / 8.0));
    assert_eq!(run(&votes, &[]).ok().json()["tasks"]["ran"], 0);
}

#[test]
fn a_forced_prefix_goes_over_completions_and_verdicts_of_several_tokens_are_followed() {
    let server = Server::start(|seen, _| {
        if seen.body["model"] != "critic" {
            return Reply::Json(200, answer(seen));
        }
        let prompt = seen.body["prompt"].as_str().unwrap();
        let top = match prompt.ends_with("un") {
            true => json!({ "safe": -0.5, "known": -1.0 }),
            false => json!({ "un": -1.0, "safe": -0.75 }),
        };
        let mut said = says(seen, "safe");
        said["choices"][0]["logprobs"] =
            json!({ "tokens": ["safe"], "token_logprobs": [-0.75], "top_logprobs": [top] });
        Reply::Json(200, said)
    });
    let project = project(&server.url(), "", "temperature: 0", 1);
    judged(&project, "", &format!("{ASKED}, prefix: 'It is '"));
    let ran = run(&project, &[]).code(2);
    assert!(
        ran.stderr.contains("can not begin its answer with a `prefix`"),
        "{}",
        ran.stderr
    );
    project.write(
        "chat.jinja",
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>",
    );
    project.edit(SPEC, |text| {
        text.replace("openai://critic,", "openai://critic, chat_template: chat.jinja,")
    });
    run(&project, &[]).ok();
    let prompts: Vec<String> = server
        .seen()
        .iter()
        .filter_map(|seen| seen.body["prompt"].as_str().map(str::to_owned))
        .collect();
    let first = "<user>Is this harmful? I heard: 11 (null)<assistant>It is ";
    assert_eq!(prompts, [first.to_owned(), format!("{first}un")]);
    let row = &scores(&project)[0];
    let (bad, good) = ((-1.5_f64).exp(), (-0.75_f64).exp());
    assert!(
        (row["p_unsafe"].as_f64().unwrap() - bad / (bad + good)).abs() < 1e-9,
        "{row}"
    );
}
