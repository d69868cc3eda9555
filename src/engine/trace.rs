//! The trace of a run, for Perfetto and `chrome://tracing`: a slice a task, a counter of done rows a stage. A reader of the
//! event stream. Tasks that overlap lie in lanes of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use fracture_stage::{Error, ErrorKind};
use serde_json::{Value, json};

use super::event::{Event, Sink};
use super::lock::replace;

/// A trace that is being made.
pub struct Trace {
    /// Seconds since the run began.
    clock: Box<dyn Fn() -> f64 + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    events: Vec<Value>,
    /// The lane, stage and start of each task that runs.
    open: BTreeMap<String, (usize, String, f64)>,
    rows: BTreeMap<String, u64>,
    /// How many lanes there are.
    lanes: usize,
}

impl Trace {
    /// Begins a trace; `clock` gives the seconds since the run began.
    pub fn begin(clock: Box<dyn Fn() -> f64 + Send + Sync>) -> Self {
        Self {
            clock,
            state: Mutex::default(),
        }
    }

    /// The trace so far, in the trace event format: times in microseconds.
    pub fn json(&self) -> Value {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |what: &str, lane: usize, name: String| json!({ "name": what, "ph": "M", "pid": 1, "tid": lane, "args": { "name": name } });
        let lanes = (1..=state.lanes).map(|lane| name("thread_name", lane, format!("lane {lane}")));
        let named = std::iter::once(name("process_name", 0, "fracture".to_owned())).chain(lanes);
        let events: Vec<Value> = named.chain(state.events.iter().cloned()).collect();
        json!({ "traceEvents": events, "displayTimeUnit": "ms" })
    }

    /// Writes the trace.
    ///
    /// # Errors
    /// When the file can not be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        replace(path, self.json().to_string().as_bytes()).map_err(|error| {
            Error::new(
                ErrorKind::Environment,
                format!("can not write the trace `{}`", path.display()),
            )
            .cause(error)
            .hint("the run is done and its results are kept; choose another file for --trace")
        })
    }
}

impl Sink for Trace {
    fn event(&self, event: &Event) {
        let now = (self.clock)() * 1e6;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { task, stage } => {
                let lane = (0..)
                    .find(|lane| state.open.values().all(|(taken, ..)| taken != lane))
                    .unwrap_or(0);
                state.lanes = state.lanes.max(lane + 1);
                state.open.insert(task.clone(), (lane, stage.clone(), now));
            }
            Event::Finished { task, rows, .. } => state.close(task, now, json!({ "rows": rows })),
            // It waited, and another process was quicker.
            Event::Cached { task, .. } => state.close(task, now, json!({ "cached": true })),
            Event::Failed { task, message, .. } => state.close(task, now, json!({ "failed": message })),
            Event::Progress { stage, rows, .. } => {
                let done = state.rows.entry(stage.clone()).or_default();
                *done += rows;
                let counter = json!({ "name": format!("{stage} rows"), "ph": "C", "ts": now, "pid": 1, "args": { "rows": *done } });
                state.events.push(counter);
            }
            Event::Note { message, .. } => {
                state
                    .events
                    .push(json!({ "name": message, "ph": "i", "s": "g", "ts": now, "pid": 1, "tid": 0 }));
            }
            _ => {}
        }
    }
}

impl State {
    fn close(&mut self, task: &str, now: f64, args: Value) {
        // A table with failed rows is told as finished and then as failed.
        let Some((lane, stage, start)) = self.open.remove(task) else {
            return;
        };
        self.events.push(json!({
            "name": task, "cat": stage, "ph": "X", "ts": start, "dur": now - start, "pid": 1, "tid": lane + 1, "args": args,
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn overlapping_tasks_lie_in_lanes_of_their_own() {
        let ticks = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&ticks);
        let trace = Trace::begin(Box::new(move || clock.load(Ordering::Relaxed) as f64));
        let at = |tick: u64, event: Event| {
            ticks.store(tick, Ordering::Relaxed);
            trace.event(&event);
        };
        let (stage, rows, seconds) = (|| "s".to_owned(), 1, 0.0);
        let started = |task: &str| Event::Started {
            task: task.to_owned(),
            stage: stage(),
        };
        let finished = |task: &str| Event::Finished {
            task: task.to_owned(),
            stage: stage(),
            rows,
            seconds,
        };
        at(1, started("a"));
        at(2, started("b"));
        at(4, finished("a"));
        at(5, started("c"));
        at(6, finished("b"));
        at(7, finished("c"));
        let json = trace.json();
        let slice = |event: &Value| json!([event["name"], event["ts"], event["dur"], event["tid"]]);
        let slices: Vec<Value> = json["traceEvents"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|event| event["ph"] == "X")
            .map(slice)
            .collect();
        let expected = [
            json!(["a", 1e6, 3e6, 1]),
            json!(["b", 2e6, 4e6, 2]),
            json!(["c", 5e6, 2e6, 1]),
        ];
        assert_eq!(slices, expected);
    }
}
