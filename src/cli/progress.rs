//! Readers of the event stream: progress bars on a terminal, plain lines on a pipe, JSON lines for programs.

mod bars;
mod line;
mod state;
mod terminal;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fracture_language::{Location, Pipeline};
use fracture_stage::{Error, ErrorKind, Usage};

use super::failure::{error_json, printable};
use crate::engine::event::{Event, Sink, Summary};
use bars::Bars;
use state::{StageState, stages};

/// How often a plain line tells how far a stage is.
const EVERY: Duration = Duration::from_secs(5);

/// The reader that suits stderr.
pub fn reader(pipeline: &Pipeline, json_events: bool, json: bool) -> Box<dyn Sink> {
    if json_events {
        Box::new(JsonLines)
    } else if json {
        Box::new(JsonErrors::new(pipeline))
    } else if std::io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb") {
        Box::new(Bars::new(pipeline))
    } else {
        Box::new(Lines::new(pipeline))
    }
}

/// One JSON object a line on stderr.
struct JsonLines;

impl Sink for JsonLines {
    fn event(&self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }
}

/// Only what failed, as JSON errors, one a line: stderr of a program that asked for JSON.
struct JsonErrors {
    /// Where each stage is said.
    places: BTreeMap<String, Location>,
}

impl JsonErrors {
    fn new(pipeline: &Pipeline) -> Self {
        let places = pipeline
            .stages
            .iter()
            .map(|stage| (stage.name.clone(), stage.at.clone()));
        Self {
            places: places.collect(),
        }
    }
}

impl Sink for JsonErrors {
    fn event(&self, event: &Event) {
        if let Event::Failed {
            stage,
            message,
            causes,
            hint,
            ..
        } = event
        {
            let error = Error {
                causes: causes.clone(),
                hint: hint.clone(),
                ..Error::new(ErrorKind::Task, message.clone())
            };
            let told = error_json(&error, self.places.get(stage));
            let _ = writeln!(std::io::stderr().lock(), "{told}");
        }
    }
}

/// Bytes for people.
fn size_text(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// How far a file from a hub is.
fn fetch_text(source: &str, file: &str, done: u64, total: u64) -> String {
    let (source, file) = (printable(source), printable(file));
    match done < total {
        true => format!(
            "fetching {file} of {source}: {} of {}",
            size_text(done),
            size_text(total)
        ),
        false => format!("fetched {file} of {source} ({})", size_text(total)),
    }
}

/// The end of a run in one line.
pub fn summary_text(summary: &Summary) -> String {
    let tasks = &summary.tasks;
    let rows = &summary.rows;
    let word = if tasks.total == 1 { "task" } else { "tasks" };
    let mut text = format!("{} {word}: {} ran, {} cached", tasks.total, tasks.ran, tasks.cached);
    for (count, word) in [(tasks.failed, "failed"), (tasks.skipped, "skipped")] {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    let mut row_words = Vec::new();
    for (count, word) in [
        (rows.generated, "generated"),
        (rows.judged, "judged"),
        (rows.reused, "reused"),
    ] {
        if count > 0 {
            row_words.push(format!("{count} {word}"));
        }
    }
    if !row_words.is_empty() {
        text.push_str(&format!("; rows: {}", row_words.join(", ")));
    }
    if let Some(served) = &summary.served {
        text.push_str(&format!("; served: {}", served_text(served)));
    }
    text.push_str(&format!("; {:.1} s", summary.seconds));
    text
}

/// `120 requests (3 again), 5300 tokens in, 2100 out, cost 0.0123`.
fn served_text(served: &Usage) -> String {
    let mut text = format!("{} requests", served.requests);
    if served.retries > 0 {
        text.push_str(&format!(" ({} again)", served.retries));
    }
    let tokens = [(served.prompt_tokens, "in"), (served.completion_tokens, "out")];
    let told = tokens.iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> = told.map(|(count, way)| format!("{count} tokens {way}")).collect();
    if !told.is_empty() {
        text.push_str(&format!(", {}", told.join(", ")));
    }
    if let Some(cost) = served.cost {
        text.push_str(&format!(", cost {cost:.4}"));
    }
    text
}

/// What is said in any case, bars or not.
fn said(event: &Event) -> Option<String> {
    match event {
        Event::Failed {
            task,
            message,
            causes,
            hint,
            ..
        } => {
            let _ = task;
            let mut text = format!("failed: {}", printable(message));
            for cause in causes.iter().filter(|cause| !cause.is_empty()) {
                text.push_str(&format!("\n  caused by: {}", printable(cause)));
            }
            if let Some(hint) = hint {
                text.push_str(&format!("\n  hint: {}", printable(hint)));
            }
            Some(text)
        }
        Event::Note {
            task: Some(task),
            message,
        } => Some(format!("{}: {}", printable(task), printable(message))),
        Event::Note { task: None, message } => Some(printable(message)),
        Event::Figure { path, changed } => Some(format!(
            "figure {}{}",
            printable(path),
            if *changed { "" } else { " (unchanged)" }
        )),
        _ => None,
    }
}

/// Plain lines for a pipe.
struct Lines {
    stages: Mutex<BTreeMap<String, StageState>>,
    /// When was told last how far a file is.
    fetching: Mutex<Option<Instant>>,
}

impl Lines {
    fn new(pipeline: &Pipeline) -> Self {
        Self {
            stages: Mutex::new(stages(pipeline)),
            fetching: Mutex::default(),
        }
    }
}

impl Sink for Lines {
    fn event(&self, event: &Event) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = |stage: &str| stages.entry(stage.to_owned()).or_default().clone();
        let line = match event {
            Event::Planned { total, cached, left } => {
                for (stage, tasks) in left {
                    stages.entry(stage.clone()).or_default().tasks = *tasks;
                }
                let word = if *total == 1 { "task" } else { "tasks" };
                Some(format!("{total} {word}, {cached} cached"))
            }
            Event::Finished {
                task, rows, seconds, ..
            } => {
                // A figure has no rows.
                let rows = if *rows > 0 {
                    format!("{rows} rows")
                } else {
                    "done".to_owned()
                };
                Some(format!("{}: {rows} in {seconds:.1} s", printable(task)))
            }
            Event::Rows {
                stage,
                rows,
                reused,
                unit,
                ..
            } => {
                if let Some(state) = stages.get_mut(stage) {
                    state.rows_arrive(*rows, *reused, unit);
                }
                None
            }
            Event::Progress { stage, rows, units } => {
                let mut now = state(stage);
                now.progress(*rows, *units);
                let due = now.told.or(now.since).is_some_and(|told| told.elapsed() >= EVERY);
                if due {
                    now.told = Some(Instant::now());
                }
                let line = due.then(|| format!("{}: {}", printable(stage), now.rows_text()));
                stages.insert(stage.clone(), now);
                line
            }
            Event::Fetch {
                source,
                file,
                done,
                total,
            } => {
                let mut told = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
                let due = done == total || told.is_some_and(|told| told.elapsed() >= EVERY);
                if due || told.is_none() {
                    *told = Some(Instant::now());
                }
                due.then(|| fetch_text(source, file, *done, *total))
            }
            Event::Done { summary } => Some(summary_text(summary)),
            other => said(other),
        };
        if let Some(line) = line {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }
}
