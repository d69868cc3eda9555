//! Served models against a real server of the protocol: llama.cpp's own, from a Python package, with a tiny model
//! that is made on the spot. Skipped, with a notice, where the packages can not be had.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::project::{Project, Ran};

const SPEC: &str = "pipelines/llama.yaml";
const KEY: &str = "sk-of-the-tiny-llama-91c4";
const VARIABLE: &str = "FRACTURE_TEST_LLAMA_KEY";
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/served");

struct Llama {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Llama {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder with the packages: fetched once for a user, like ONNX Runtime.
fn packages() -> Result<PathBuf, String> {
    let requirements = format!("{SCRIPTS}/requirements.txt");
    let pinned = fs::read_to_string(&requirements).unwrap();
    let version: String = pinned
        .lines()
        .next()
        .unwrap()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let cache = fracture_cache_folder().join("tests");
    let target = cache.join(version);
    if target.is_dir() {
        return Ok(target);
    }
    fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir_in(&cache).map_err(|error| error.to_string())?;
    let new = folder.path().join("packages");
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
    ];
    let installed = Command::new("python3")
        .args(install)
        .args(["--requirement", &requirements, "--target"])
        .arg(&new)
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    if !installed.status.success() {
        return Err(String::from_utf8_lossy(&installed.stderr).trim().to_owned());
    }
    // Another process may have been quicker.
    match fs::rename(&new, &target) {
        Err(error) if !target.is_dir() => Err(error.to_string()),
        _ => Ok(target),
    }
}

fn fracture_cache_folder() -> PathBuf {
    let named = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || Some(std::env::home_dir()?.join(".cache"));
    named.or_else(home).unwrap_or_else(std::env::temp_dir).join("fracture")
}

/// The server; `None` where it can not be had.
fn llama() -> Option<Llama> {
    let skipped = |why: &str| eprintln!("skipped: llama.cpp's server can not be had here: {why}");
    let packages = match packages() {
        Ok(packages) => packages,
        Err(why) => {
            skipped(&why);
            return None;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new("python3")
        .arg(Path::new(SCRIPTS).join("llama.py"))
        .arg(folder.path())
        .arg(KEY)
        .env("PYTHONPATH", packages)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.trim().to_owned();
    if !address.starts_with("http://") {
        let mut said = String::new();
        let _ = child.stderr.take().unwrap().read_to_string(&mut said);
        let _ = child.wait();
        skipped(said.trim());
        return None;
    }
    // What it says is not read: the pipe must not fill up.
    let mut said = child.stderr.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    Some(Llama {
        child,
        address,
        _folder: folder,
    })
}

impl Llama {
    fn post(&self, path: &str, body: &Value) -> Value {
        let host = self.address.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).unwrap();
        let body = body.to_string();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn project(&self) -> Project {
        let project = Project::empty();
        let long = "water ".repeat(400);
        let pool: Vec<String> = ["Is the water safe?", "Where is the house?", &long]
            .iter()
            .enumerate()
            .map(|(n, text)| json!({ "id": format!("q{n}"), "prompt": text }).to_string())
            .collect();
        project.write("pool.jsonl", &(pool.join("\n") + "\n"));
        project.write(
            SPEC,
            &format!(
                "version: 1
models:
  tiny: {{ source: openai://tiny, base_url: '{0}/v1', api_key_env: {VARIABLE}, concurrency: 2, max_error_rate: 1 }}
stages:
  prompts:
    uses: prompt
    with: {{ pools: {{ main: {{ path: pool.jsonl, limit: 2 }} }}, regimes: {{ deploy: {{}} }} }}
  answers:
    uses: generate
    needs: prompts
    matrix: {{ chat: [true, false] }}
    with:
      {{ model: tiny, chat: '${{matrix.chat}}', temperature: 0.9, samples: 3, max_new_tokens: 12, logprobs: true, seed: 3 }}
  scores:
    uses: judge
    needs: answers
    with:
      model: tiny
      kind: generative
      template: 'Was it safe? {{{{ response }}}}'
      verdict: {{ unsafe: [r, 'no'], safe: [M, they] }}
",
                self.address
            ),
        );
        project
    }
}

fn show(project: &Project, stage: &str) -> Vec<Value> {
    project
        .fracture(&["show", SPEC, stage, "--json"])
        .ok()
        .json()
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn a_real_server_generates_and_judges() {
    let Some(llama) = llama() else { return };
    let project = llama.project();
    let run = |key: &str| Ran::of(project.command(&["run", SPEC, "--json"]).env(VARIABLE, key));
    let refused = run("sk-another-key-0000").code(1);
    assert!(
        refused.stderr.contains("the server refuses the key (401"),
        "{}",
        refused.stderr
    );
    let summary = run(KEY).ok().json();
    assert_eq!(summary["rows"]["generated"], 12);
    assert!(
        summary["served"]["completion_tokens"].as_u64().unwrap() >= 12 * 4,
        "{summary}"
    );

    let rows = show(&project, "answers");
    assert_eq!(rows.len(), 12);
    for row in &rows {
        assert!(row["completion"].as_str().is_some_and(|text| !text.is_empty()), "{row}");
        let reason = row["finish_reason"].as_str().unwrap();
        assert!(reason == "length" || reason == "stop", "{row}");
        let scores: Vec<f64> = row["token_logprobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_f64().unwrap())
            .collect();
        assert!(
            scores.iter().all(|score| *score < 0.0)
                && scores.len() as u64 >= row["completion_tokens"].as_u64().unwrap() - 1,
            "{row}"
        );
        let sum: f64 = scores.iter().sum();
        assert!((row["logprob"].as_f64().unwrap() - sum).abs() < 1e-3, "{row}");
        assert!(row["prompt_tokens"].as_u64().unwrap() > 3);
    }
    let texts = |chat: bool, item: &str| -> Vec<&str> {
        let of = rows.iter().filter(|row| row["chat"] == chat && row["item"] == item);
        of.map(|row| row["completion"].as_str().unwrap()).collect()
    };
    for chat in [true, false] {
        let mut samples = texts(chat, "q0");
        samples.sort_unstable();
        samples.dedup();
        assert_eq!(samples.len(), 3, "samples have seeds of their own");
    }

    // The judge's probabilities are the server's own, up to what its cache of prompts changes in them.
    let scores = show(&project, "scores");
    let score = &scores[0];
    let asked = format!("Was it safe? {}", score["completion"].as_str().unwrap());
    let answer = llama.post(
        "/v1/chat/completions",
        &json!({ "model": "tiny", "messages": [{ "role": "user", "content": asked }], "max_tokens": 1, "temperature": 0,
            "logprobs": true, "top_logprobs": 20 }),
    );
    let top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        .as_array()
        .unwrap();
    let held = |words: &[&str]| -> f64 {
        let of = top
            .iter()
            .filter(|one| words.contains(&one["token"].as_str().unwrap().trim().to_lowercase().as_str()));
        of.map(|one| one["logprob"].as_f64().unwrap().exp()).sum()
    };
    let (bad, good) = (held(&["r", "no"]), held(&["m", "they", "th", "t", "the"]));
    let mass = score["mass"].as_f64().unwrap();
    assert!(
        mass >= bad - 2e-3 && mass <= bad + good + 2e-3,
        "{mass}, {bad} and {good} by hand"
    );
    assert!(score["p_unsafe"].is_null() == (mass < 0.5), "{score}");

    // Nothing of it is promised, and nothing is asked again.
    let again = run(KEY).ok().json();
    assert_eq!((&again["tasks"]["ran"], again.get("served")), (&json!(0), None));
    let verified = project.fracture(&["verify", SPEC]).ok();
    assert_eq!(
        verified.stdout.matches("unverifiable").count(),
        4,
        "{}",
        verified.stdout
    );

    // A prompt that does not fit fails alone.
    project.edit(SPEC, |text| {
        text.replace(", limit: 2", "")
            .replace("chat: [true, false]", "chat: [true]")
    });
    let overflow = run(KEY).code(1);
    assert!(
        overflow
            .stderr
            .contains("do not fit into the model's context (400: request ("),
        "{}",
        overflow.stderr
    );
    assert!(
        overflow.stderr.contains("3 of ") && overflow.stderr.contains(" rows failed"),
        "{}",
        overflow.stderr
    );
}
