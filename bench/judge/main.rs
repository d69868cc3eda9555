//! Scores texts with the classifier of the `judge` stage and prints, as JSON, texts a second and the peak of memory.
//!
//!     judge FOLDER TEXTS.jsonl [--threads N] [--texts N] [--length N] [--largest]
//!
//! `--largest` scores nothing but one batch of the longest texts, for the peak of memory that one batch needs. `run.py` calls
//! this beside the same model in Python.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::Instant;

use fracture_judge::{Classifier, Layout, Options, Runtime, RuntimeOptions, Text};
use fracture_stage::{Error, Outcome, Ticket};
use serde_json::json;

struct Arguments {
    folder: PathBuf,
    texts: PathBuf,
    threads: usize,
    count: usize,
    length: Option<usize>,
    largest: bool,
}

fn arguments() -> Result<Arguments, Error> {
    let usage =
        || Error::pipeline("usage: judge FOLDER TEXTS.jsonl [--threads N] [--texts N] [--length N] [--largest]");
    let mut given = std::env::args().skip(1);
    let mut arguments = Arguments {
        folder: given.next().ok_or_else(usage)?.into(),
        texts: given.next().ok_or_else(usage)?.into(),
        threads: 2,
        count: 3000,
        length: None,
        largest: false,
    };
    while let Some(name) = given.next() {
        let mut number = || given.next().and_then(|n| n.parse().ok()).ok_or_else(usage);
        match name.as_str() {
            "--threads" => arguments.threads = number()?,
            "--texts" => arguments.count = number()?,
            "--length" => arguments.length = Some(number()?),
            "--largest" => arguments.largest = true,
            _ => return Err(usage()),
        }
    }
    Ok(arguments)
}

/// The field `text` of every line.
fn read(path: &PathBuf) -> Result<Vec<String>, Error> {
    let told = |cause: String| Error::input(format!("cannot read {}", path.display())).cause(cause);
    let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    text.lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).map_err(|error| told(error.to_string()))?;
            let text = value["text"].as_str().map(str::to_owned);
            text.ok_or_else(|| told("a line without `text`".to_owned()))
        })
        .collect()
}

/// Drives the executor as the engine does: submits what fits, steps, takes what is finished. Returns how many rows came.
fn score(classifier: &mut Classifier, texts: &[String]) -> Result<usize, Error> {
    let (mut next, mut scored) = (0, 0);
    let mut done = |_: Ticket, outcome: Outcome| scored += usize::from(matches!(outcome, Outcome::Raw(_)));
    loop {
        while next < texts.len() && classifier.room() > 0 {
            classifier.submit(Ticket(next as u64), Text::One(texts[next].clone()));
            next += 1;
        }
        if classifier.step(next < texts.len(), &mut done)?.active == 0 && next == texts.len() {
            return Ok(scored);
        }
    }
}

/// The most memory that the process ever had, KiB; 0 where the system does not tell.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = arguments()?;
    let mut texts = read(&arguments.texts)?;
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    if arguments.largest {
        texts.truncate(1);
    } else {
        // The file's own order is one of lengths in places; a hash mixes it the same way every time.
        texts.sort_by_key(|text| blake3::hash(text.as_bytes()).as_bytes().to_owned());
        texts = texts.iter().cycle().take(arguments.count).cloned().collect();
    }
    let options = Options {
        threads: arguments.threads,
        max_length: arguments.length,
        ..Options::default()
    };
    let runtime = Runtime::load(&RuntimeOptions::from_env(false), &mut |_| ())?;
    let layout = Layout::resolve(&arguments.folder, None)?;
    let mut classifier = Classifier::load(&layout, &runtime, &options)?;
    let loaded = peak();
    if !arguments.largest {
        score(&mut classifier, &texts[..texts.len().min(200)])?;
    }
    let start = Instant::now();
    let scored = score(&mut classifier, &texts)?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({ "texts": scored, "seconds": seconds, "per_second": scored as f64 / seconds, "loaded_kib": loaded, "peak_kib": peak() })
    );
    Ok(())
}
