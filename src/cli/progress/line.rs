//! What a terminal shows of a stage: one line that is never longer than there is room, whatever must go.

use std::time::Duration;

use super::state::{StageState, time_left};
use crate::cli::units::age_text;

/// Columns that stay free: a terminal writes `^C` behind the last line, which must not break then.
const FREE: usize = 3;

/// The columns that names get, of names so long on a terminal so wide.
pub fn name_width(longest: usize, columns: usize) -> usize {
    longest.min((columns * 3 / 10).max(10))
}

/// A stage at work: its name, a bar, and how far it is after so long.
pub fn working(name: &str, width: usize, state: &StageState, took: Duration, columns: usize) -> String {
    let bar = match columns {
        0..30 => String::new(),
        30..60 => bar(state, 6) + " ",
        _ => bar(state, 12) + " ",
    };
    let begin = format!("{:width$} {bar}", cut(name, width));
    let left = state.rows_left().then(|| time_left(state)).flatten();
    let time = match (left, took.as_secs()) {
        (Some(left), _) => Some(format!("{left} left")),
        (None, 0) => None,
        (None, _) => Some(format!("for {}", age_text(took))),
    };
    begin.clone() + &fitting(state, time.as_deref(), room(columns, &begin))
}

/// A stage that is over, or that the run ended before.
pub fn over(name: &str, width: usize, state: &StageState, took: Duration, columns: usize) -> String {
    let begin = format!("{:width$} ", cut(name, width));
    let time = format!("{:.1} s", took.as_secs_f64());
    begin.clone() + &fitting(state, Some(&time), room(columns, &begin))
}

/// A text in so many columns, with an ellipsis where some of it is missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

/// The columns that a line leaves for a text.
pub fn room(columns: usize, begin: &str) -> usize {
    columns.saturating_sub(FREE + begin.chars().count())
}

fn bar(state: &StageState, width: usize) -> String {
    let rows = state.rows_in_all();
    let (done, all) = match state.rows_left() {
        true => (state.rows_done, rows),
        false => (state.done, state.tasks),
    };
    let halves = (2 * width as u64 * done.min(all)) / all.max(1);
    let (full, half) = (halves as usize / 2, halves % 2 == 1);
    let begin = "━".repeat(full) + if half { "╸" } else { "" };
    let rest = width - full - usize::from(half);
    begin + &"─".repeat(rest)
}

/// The longest way to say how far a stage is that there is room for.
fn fitting(state: &StageState, time: Option<&str>, room: usize) -> String {
    let (done, tasks) = (state.done, state.tasks);
    let word = if tasks == 1 { "task" } else { "tasks" };
    let counted = match done == tasks {
        true => format!("{tasks} {word}"),
        false => format!("{done} of {tasks} {word}"),
    };
    let failed = (state.failed > 0).then(|| format!("{} failed", state.failed));
    let rows = (state.rows > 0).then(|| state.rows_text());
    let fewer = (state.rows > 0).then(|| state.rows_short(" of ") + " rows");
    let fewest = (state.rows > 0).then(|| state.rows_short("/"));
    let short = Some(format!("{done}/{tasks}"));
    let time = time.map(str::to_owned);
    let counted = Some(counted);
    let ways = [
        vec![&counted, &failed, &rows, &time],
        vec![&counted, &failed, &fewer, &time],
        vec![&short, &failed, &fewer, &time],
        vec![&short, &failed, &fewest, &time],
        vec![if fewest.is_some() { &fewest } else { &short }, &time],
        vec![if fewest.is_some() { &fewest } else { &short }],
    ];
    let mut said = ways.map(|parts| {
        let parts = parts.into_iter().flatten();
        parts.map(String::as_str).collect::<Vec<_>>().join(", ")
    });
    let found = said.iter_mut().find(|text| text.chars().count() <= room);
    match found {
        Some(text) => std::mem::take(text),
        None => cut(&said[said.len() - 1], room),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> StageState {
        StageState {
            tasks: 6,
            done: 3,
            known: 4,
            rows: 400,
            rows_done: 250,
            reused: 20,
            ..StageState::default()
        }
    }

    #[test]
    fn a_line_says_what_there_is_room_for() {
        let commands = StageState {
            tasks: 6,
            done: 1,
            ..StageState::default()
        };
        let long = "a-stage-with-a-very-long-name-that-goes-on";
        let mut lines = String::new();
        for columns in [20, 40, 60, 80, 200] {
            let width = name_width(long.len(), columns);
            for state in [&commands, &state()] {
                let took = Duration::from_secs(75);
                for line in [
                    working(long, width, state, took, columns),
                    over(long, width, state, took, columns),
                ] {
                    assert!(line.chars().count() + FREE <= columns.max(23), "{columns}: {line}");
                    lines += &format!("{columns:3} |{line}\n");
                }
            }
        }
        insta::assert_snapshot!(lines);
    }

    #[test]
    fn what_is_over_has_one_number() {
        let state = StageState {
            tasks: 1,
            done: 1,
            ..StageState::default()
        };
        let took = Duration::from_millis(1_234);
        assert_eq!(over("s", 5, &state, took, 80), "s     1 task, 1.2 s");
        let failed = StageState {
            tasks: 4,
            done: 3,
            failed: 1,
            ..state
        };
        assert_eq!(over("s", 5, &failed, took, 80), "s     3 of 4 tasks, 1 failed, 1.2 s");
    }
}
