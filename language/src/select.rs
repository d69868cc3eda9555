//! Selectors: `scores`, `answers[model=pico-*]`, `+flips` (and what it needs), `answers+` (and what needs it).

// The error is the public type; it is made at most once per command.
#![allow(clippy::result_large_err)]

use petgraph::Direction;
use petgraph::graph::NodeIndex;

use crate::diagnostic::Diagnostic;
use crate::names::suggestion;
use crate::pipeline::{Pipeline, TaskId};
use crate::tree::compact;

/// The tasks that a selector names, in the order of tasks.
///
/// # Errors
/// When it is no selector, or names no stage, no figure or no task.
pub fn select(pipeline: &Pipeline, selector: &str) -> Result<Vec<TaskId>, Diagnostic> {
    let text = selector.trim();
    let (before, text) = text.strip_prefix('+').map_or((false, text), |rest| (true, rest));
    let (after, text) = text.strip_suffix('+').map_or((false, text), |rest| (true, rest));
    let (name, filters) = match text.split_once('[') {
        None => (text, Vec::new()),
        Some((name, filters)) => (name, parse_filters(filters, selector)?),
    };
    let stages = pipeline
        .stages
        .iter()
        .filter(|stage| glob(name, &stage.name) || stage.name.strip_prefix("figures.") == Some(name));
    let mut chosen: Vec<TaskId> = stages.flat_map(|stage| stage.tasks.iter().copied()).collect();
    if chosen.is_empty() {
        let known = pipeline.stages.iter().map(|stage| stage.name.as_str());
        let wrong = Diagnostic::error(format!("`{selector}` selects nothing: there is no stage `{name}`"));
        return Err(wrong.hint(suggestion(name, known, "stages")));
    }
    for (variable, pattern) in &filters {
        let all = chosen.clone();
        chosen.retain(|task| value(pipeline, *task, variable).is_some_and(|value| glob(pattern, &value)));
        if chosen.is_empty() {
            return Err(no_value(pipeline, &all, selector, variable, pattern));
        }
    }
    let mut keep = vec![false; pipeline.tasks.len()];
    chosen.iter().for_each(|task| keep[task.index()] = true);
    for (wanted, direction) in [(before, Direction::Incoming), (after, Direction::Outgoing)] {
        if wanted {
            walk(pipeline, &chosen, direction, &mut keep);
        }
    }
    Ok(pipeline
        .tasks
        .iter()
        .map(|task| task.id)
        .filter(|task| keep[task.index()])
        .collect())
}

fn parse_filters(text: &str, selector: &str) -> Result<Vec<(String, String)>, Diagnostic> {
    let wrong = || {
        let wrong = Diagnostic::error(format!("`{selector}` is no selector"));
        wrong.hint("write STAGE, STAGE[variable=pattern,…], +STAGE or STAGE+")
    };
    let inner = text.strip_suffix(']').ok_or_else(wrong)?;
    let pair = |part: &str| {
        let (name, pattern) = part.split_once('=').ok_or_else(wrong)?;
        let pattern = serde_json::from_str::<String>(pattern).unwrap_or_else(|_| pattern.trim().to_owned());
        Ok((name.trim().to_owned(), pattern))
    };
    parts(inner).into_iter().map(pair).collect()
}

/// Splits at commas that are not quoted.
fn parts(text: &str) -> Vec<&str> {
    let (mut found, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' if !escaped => quoted = !quoted,
            ',' if !quoted => {
                found.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
    }
    found.push(&text[begin..]);
    found
}

fn value(pipeline: &Pipeline, task: TaskId, variable: &str) -> Option<String> {
    let constants = &pipeline.task(task).constants;
    constants
        .iter()
        .find(|constant| constant.name == variable)
        .map(|constant| compact(&constant.value))
}

fn no_value(pipeline: &Pipeline, tasks: &[TaskId], selector: &str, variable: &str, pattern: &str) -> Diagnostic {
    let mut values: Vec<String> = tasks
        .iter()
        .filter_map(|task| value(pipeline, *task, variable))
        .collect();
    values.sort();
    values.dedup();
    let wrong = Diagnostic::error(format!(
        "`{selector}` selects nothing: no task has {variable}={pattern}"
    ));
    if values.is_empty() {
        let mut known: Vec<&str> = tasks
            .iter()
            .flat_map(|task| pipeline.task(*task).constants.iter())
            .map(|one| one.name.as_str())
            .collect();
        known.sort_unstable();
        known.dedup();
        return wrong.hint(suggestion(variable, known, "variables"));
    }
    wrong.hint(suggestion(
        pattern,
        values.iter().map(String::as_str),
        &format!("values of `{variable}`"),
    ))
}

fn walk(pipeline: &Pipeline, from: &[TaskId], direction: Direction, keep: &mut [bool]) {
    let mut seen = vec![false; keep.len()];
    let mut open: Vec<TaskId> = from.to_vec();
    while let Some(task) = open.pop() {
        if std::mem::replace(&mut seen[task.index()], true) {
            continue;
        }
        keep[task.index()] = true;
        open.extend(
            pipeline
                .graph
                .neighbors_directed(NodeIndex::new(task.index()), direction)
                .map(|node| TaskId(node.index() as u32)),
        );
    }
}

/// Whether a text fits a pattern in which `*` stands for anything. Linear in both.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs() {
        assert!(glob("pico-*", "pico-faker") && glob("*", "") && glob("a*b*c", "aXbYc") && glob("a", "a"));
        assert!(!glob("a", "ab") && !glob("a*b", "ac") && !glob("ab*b", "ab"));
    }
}
