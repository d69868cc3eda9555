//! The line below a bar chart: what a reader needs to know beside the axes.

use super::Bars;
use crate::order;
use crate::rows::Rows;

/// The caption: contrast, n, τ, K, aggregate, judge, what whiskers and ticks are, and what was chosen.
pub fn caption(rows: &Rows, bars: &Bars, notes: &[String]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let contrasts = rows.distinct("contrast");
    // What was chosen among several says itself.
    if contrasts.len() == 1 && !notes.iter().any(|note| note.starts_with(&contrasts[0])) {
        parts.push(contrasts[0].clone());
    }
    parts.extend(span(rows, "n").map(|n| format!("n = {n} prompts per bar")));
    parts.extend(values(rows, "tau").map(|tau| format!("τ = {tau}")));
    parts.extend(values(rows, "k").map(|k| format!("K = {k}")));
    parts.extend(values(rows, "aggregate").map(|name| format!("aggregate {name}")));
    parts.extend(values(rows, "judge").map(|name| format!("judge {name}")));
    let mut sentences = vec![parts.join(", ")];
    if bars.all().any(|bar| bar.interval.is_some() && bar.value.is_some()) {
        let level = rows.distinct("confidence");
        let level = match level.as_slice() {
            [one] => one.parse::<f64>().map_or_else(
                |_| "confidence".to_owned(),
                |level| format!("{}%", short(level * 100.0)),
            ),
            _ => "confidence".to_owned(),
        };
        sentences.push(format!("whiskers: {level} intervals"));
    }
    if bars.all().any(|bar| bar.value.is_none()) {
        sentences.push("×: no value".to_owned());
    }
    sentences.extend(notes.iter().cloned());
    sentences.retain(|sentence| !sentence.is_empty());
    let text = sentences.join("; ").replace("->", "→");
    if text.is_empty() { text } else { format!("{text}.") }
}

/// The distinct values of a column, the first few.
fn values(rows: &Rows, name: &str) -> Option<String> {
    const SHOWN: usize = 4;
    let mut all = match rows.numbers(name) {
        Some(numbers) => {
            let texts: Vec<String> = numbers.into_iter().flatten().map(short).collect();
            order::distinct(name, texts.iter().map(String::as_str))
        }
        None => rows.distinct(name),
    };
    if all.is_empty() {
        return None;
    }
    if all.len() > SHOWN {
        all.truncate(SHOWN);
        all.push("…".to_owned());
    }
    Some(all.join(", "))
}

/// The smallest and the largest value of a column.
fn span(rows: &Rows, name: &str) -> Option<String> {
    let numbers: Vec<f64> = rows.numbers(name)?.into_iter().flatten().collect();
    let low = numbers.iter().copied().reduce(f64::min)?;
    let high = numbers.iter().copied().reduce(f64::max)?;
    Some(if low == high {
        short(low)
    } else {
        format!("{}–{}", short(low), short(high))
    })
}

/// A number with at most three digits behind the point.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
