//! What the readers of events know of a stage.

use std::collections::BTreeMap;
use std::time::Instant;

use fracture_language::Pipeline;

/// What is known of a stage.
#[derive(Debug, Clone, Default)]
pub struct StageState {
    /// Tasks without a result when the run began.
    pub tasks: u64,
    /// Those that are done.
    pub done: u64,
    /// Those that failed.
    pub failed: u64,
    /// Of these the ones whose result turned out to be there, which bring no rows.
    pub adopted: u64,
    /// Tasks whose rows are known.
    pub known: u64,
    /// Their rows.
    pub rows: u64,
    /// Rows that are there.
    pub rows_done: u64,
    /// Of these the ones that the memo had.
    pub reused: u64,
    /// Units of work done, tokens say.
    pub units: u64,
    /// What they are called.
    pub unit: &'static str,
    /// When the first of them was done.
    pub since: Option<Instant>,
    /// When was told last how far it is.
    pub told: Option<Instant>,
}

impl StageState {
    fn rate(&self) -> Option<f64> {
        let seconds = self.since?.elapsed().as_secs_f64();
        (self.units > 0 && seconds > 0.2).then(|| self.units as f64 / seconds)
    }

    /// A task starts. A task whose result was lost meanwhile is done twice.
    pub fn begin(&mut self) {
        self.tasks += u64::from(self.is_over());
    }

    /// Whether nothing of it is left to do.
    pub fn is_over(&self) -> bool {
        self.done + self.failed >= self.tasks
    }

    /// Whether rows are not there that are counted on.
    pub fn rows_left(&self) -> bool {
        self.rows_in_all() > self.rows_done
    }

    /// Its rows, and what is between their numbers: `50 of ~400`.
    pub fn rows_short(&self, between: &str) -> String {
        let about = if self.known + self.adopted < self.tasks {
            "~"
        } else {
            ""
        };
        format!("{}{between}{about}{}", self.rows_done, self.rows_in_all())
    }

    /// How far its rows are.
    pub fn rows_text(&self) -> String {
        let mut text = self.rows_short(" of ") + " rows";
        if self.reused > 0 {
            text.push_str(&format!(", {} reused", self.reused));
        }
        if let Some(rate) = self.rate() {
            text.push_str(&format!(", {rate:.0} {}/s", self.unit));
        }
        text
    }

    /// The rows of all tasks: those whose rows are not known yet are taken to have as many as the others.
    pub fn rows_in_all(&self) -> u64 {
        let tasks = self.tasks.saturating_sub(self.adopted);
        match self.known {
            known if known == 0 || known >= tasks => self.rows,
            known => (self.rows as f64 / known as f64 * tasks as f64).round() as u64,
        }
    }

    /// The rows of one more task are known.
    pub fn rows_arrive(&mut self, rows: u64, reused: u64, unit: &'static str) {
        self.known += 1;
        self.rows += rows;
        self.rows_done += reused;
        self.reused += reused;
        self.unit = unit;
    }

    /// So many rows are done, in so many units.
    pub fn progress(&mut self, rows: u64, units: u64) {
        self.since.get_or_insert_with(Instant::now);
        self.rows_done += rows;
        self.units += units;
    }
}

/// The stages of a pipeline by name.
pub fn stages(pipeline: &Pipeline) -> BTreeMap<String, StageState> {
    let stages = pipeline.stages.iter().map(|stage| {
        (
            stage.name.clone(),
            StageState {
                tasks: stage.tasks.len() as u64,
                ..StageState::default()
            },
        )
    });
    stages.collect()
}

/// The time that the rows which are not there will take, when it can be told.
pub fn time_left(state: &StageState) -> Option<String> {
    let seconds = state.since?.elapsed().as_secs_f64();
    let computed = state.rows_done.saturating_sub(state.reused);
    if computed == 0 || seconds < 1.0 {
        return None;
    }
    let left = state.rows_in_all().saturating_sub(state.rows_done) as f64 * seconds / computed as f64;
    Some(if left < 90.0 {
        format!("{left:.0} s")
    } else {
        format!("{:.0} min", left / 60.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_known_yet_are_counted_like_those_of_their_siblings() {
        let mut state = StageState {
            tasks: 4,
            ..StageState::default()
        };
        assert_eq!(state.rows_in_all(), 0);
        state.rows_arrive(100, 20, "tokens");
        state.progress(30, 300);
        assert_eq!(state.rows_in_all(), 400);
        assert_eq!(state.rows_text(), "50 of ~400 rows, 20 reused");
        // The total does not grow as tasks come that are like the others.
        for _ in 0..3 {
            state.rows_arrive(100, 0, "tokens");
            assert_eq!(state.rows_in_all(), 400);
        }
        assert_eq!(state.rows_text(), "50 of 400 rows, 20 reused");
    }
}
