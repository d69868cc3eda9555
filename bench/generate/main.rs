//! The engine of the `generate` stage, timed: our half of `compare.py`.
//!
//! `bench-generate speed MODEL THREADS PROMPT NEW ROUNDS BATCH..`: tokens a second of greedy completions, `BATCH` different
//! prompts of `PROMPT` tokens at once, `NEW` tokens each, prompts included in the time.
//! `bench-generate grid MODEL THREADS PROMPTS PROMPT NEW SAMPLES`: a 4 × 4 grid of temperature and top-p.
//! `bench-generate load MODEL THREADS`: from nothing to the first token, and the memory that it took.
//!
//! Each prints one JSON object.

mod grid;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fracture_generate::checkpoint::Checkpoint;
use fracture_generate::engine::{Engine, Options, Request};
use fracture_generate::sampler::{Sampling, Stream};
use fracture_generate::text::TextOptions;
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| -> Result<usize, Failure> {
        let text = arguments.get(at).ok_or("too few arguments; see the head of main.rs")?;
        Ok(text.parse()?)
    };
    let model = Path::new(arguments.get(1).ok_or("which model?")?);
    let found = match arguments[0].as_str() {
        "speed" => {
            let batches = (6..arguments.len()).map(number).collect::<Result<Vec<_>, _>>()?;
            speed(model, number(2)?, number(3)?, number(4)? as u32, number(5)?, &batches)?
        }
        "grid" => grid::grid(
            &mut load(model, number(2)?)?,
            number(3)?,
            number(4)?,
            number(5)? as u32,
            number(6)?,
        )?,
        "load" => start(model, number(2)?)?,
        other => return Err(format!("`{other}` is none of speed, grid, load").into()),
    };
    std::io::Write::write_all(&mut std::io::stdout(), found.to_string().as_bytes())?;
    Ok(())
}

fn load(model: &Path, threads: usize) -> Result<Engine, Failure> {
    let options = Options {
        threads: Some(threads),
        ..Options::default()
    };
    let checkpoint = Checkpoint::open(model)?;
    Ok(Engine::load(&checkpoint, &TextOptions::default(), options)?)
}

/// Prompts that have no beginning in common, the same ones as `compare.py` makes.
fn prompt(number: usize, length: usize) -> Arc<[u32]> {
    (0..length)
        .map(|at| (300 + (number * 7919 + at * 104_729 + number * at * 31) % 7000) as u32)
        .collect()
}

fn request(prompt: Arc<[u32]>, sampling: Sampling, sample: u32, new: u32) -> Request {
    Request {
        prompt,
        sampling,
        stream: Stream::new(17, "bench", "row", sample, 0),
        max_new_tokens: new,
        stop: Vec::new(),
        ignore_eos: true,
    }
}

/// Runs requests to their end: seconds, and the tokens of all of them.
fn run(engine: &mut Engine, requests: Vec<Request>) -> Result<(f64, Vec<Vec<u32>>), Failure> {
    let mut tokens = vec![Vec::new(); requests.len()];
    let begin = Instant::now();
    for (ticket, request) in requests.into_iter().enumerate() {
        engine.submit(ticket as u64, request)?;
    }
    let mut failed = None;
    engine.run(&mut |ticket, finished| match finished {
        Ok(finished) => tokens[ticket as usize] = finished.row.tokens,
        Err(error) => failed = Some(error),
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok((begin.elapsed().as_secs_f64(), tokens)),
    }
}

fn speed(
    model: &Path,
    threads: usize,
    length: usize,
    new: u32,
    rounds: usize,
    batches: &[usize],
) -> Result<Value, Failure> {
    let mut engine = load(model, threads)?;
    let mut first = Value::Null;
    let mut found = Vec::new();
    let mut known = 0;
    for &batch in batches {
        let mut seconds = Vec::new();
        for round in 0..=rounds {
            // Prompts that were not seen yet: nothing is cached.
            let rows = (0..batch).map(|row| request(prompt(known + row, length), Sampling::default(), 0, new));
            let (took, tokens) = run(&mut engine, rows.collect())?;
            if first.is_null() {
                first = json!(tokens[0]);
            }
            known += batch;
            if round > 0 {
                seconds.push(took);
            }
        }
        seconds.sort_by(f64::total_cmp);
        let rate = |seconds: f64| (batch * new as usize) as f64 / seconds;
        found.push(json!({"batch": batch, "median": rate(seconds[seconds.len() / 2]), "best": rate(seconds[0])}));
    }
    Ok(json!({"speed": found, "tokens": first}))
}

/// Kilobytes of a line of `/proc/self/status`.
fn kilobytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The largest anonymous memory seen while `work` runs: what is given back before the end counts too.
fn watched<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = None;
            while !done.load(Ordering::Acquire) {
                most = most.max(kilobytes("RssAnon:"));
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        let value = work();
        done.store(true, Ordering::Release);
        (value, watch.join().ok().flatten())
    })
}

fn start(model: &Path, threads: usize) -> Result<Value, Failure> {
    let before = kilobytes("RssAnon:");
    let (measured, most) = watched(|| first_tokens(model, threads));
    let mut measured = measured?;
    measured["anonymous_kb"] = json!(most);
    measured["anonymous_before_kb"] = json!(before);
    Ok(measured)
}

fn first_tokens(model: &Path, threads: usize) -> Result<Value, Failure> {
    let begin = Instant::now();
    let mut engine = load(model, threads)?;
    let loaded = begin.elapsed().as_secs_f64();
    run(&mut engine, vec![request(prompt(0, 8), Sampling::default(), 0, 1)])?;
    let first = begin.elapsed().as_secs_f64();
    run(&mut engine, vec![request(prompt(0, 8), Sampling::default(), 0, 64)])?;
    let bytes = match model.is_file() {
        true => model.metadata()?.len(),
        false => std::fs::read_dir(model)?
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .sum(),
    };
    Ok(json!({
        "loaded_s": loaded, "first_token_s": first, "checkpoint_bytes": bytes,
        "cache_bytes": 72 * engine.decoder().cache_shape().bytes_per_token(),
        "file_kb": kilobytes("RssFile:"),
    }))
}
