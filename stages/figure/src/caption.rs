//! The line below a figure: what a reader needs to know beside the axes.

use crate::groups::words;
use crate::order;
use crate::rows::Rows;

/// Key columns that a caption names where they have one value.
const NAMED: &[&str] = &["model", "algorithm", "axis", "decoder", "cue"];

/// The facts of a table: model, axis and decoder where the figure shows one, contrast, n, τ, K, aggregate, judge. `unit` is
/// what `n` counts, `shown` are the columns that the figure itself shows.
pub fn facts(rows: &Rows, unit: &str, shown: &[&str], notes: &[String]) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for name in NAMED.iter().filter(|name| !shown.contains(name)) {
        if let [one] = rows.distinct(name).as_slice() {
            parts.push(format!("{} {one}", words(name)));
        }
    }
    let contrasts = rows.distinct("contrast");
    // What was chosen among several says itself.
    if contrasts.len() == 1 && !notes.iter().any(|note| note.starts_with(&contrasts[0])) {
        parts.push(contrasts[0].clone());
    }
    if !shown.contains(&"n") {
        parts.extend(span(rows, "n").map(|n| format!("n = {n} {unit}")));
    }
    if !shown.contains(&"tau") {
        parts.extend(values(rows, "tau").map(|tau| format!("τ = {tau}")));
    }
    parts.extend(values(rows, "k").map(|k| format!("K = {k}")));
    parts.extend(values(rows, "aggregate").map(|name| format!("aggregate {name}")));
    parts.extend(values(rows, "judge").map(|name| format!("judge {name}")));
    parts
}

/// The confidence of a table's intervals, `95%`, or the word where it is not said.
pub fn confidence(rows: &Rows) -> String {
    match rows.distinct("confidence").as_slice() {
        [one] => one.parse::<f64>().map_or_else(
            |_| "confidence".to_owned(),
            |level| format!("{}%", short(level * 100.0)),
        ),
        _ => "confidence".to_owned(),
    }
}

/// Facts and sentences as one text.
pub fn join(facts: &[String], sentences: impl IntoIterator<Item = String>) -> String {
    let mut all = vec![facts.join(", ")];
    all.extend(sentences);
    all.retain(|sentence| !sentence.is_empty());
    let text = all.join("; ").replace("->", "→");
    if text.is_empty() { text } else { format!("{text}.") }
}

/// The distinct values of a column, the first few.
pub fn values(rows: &Rows, name: &str) -> Option<String> {
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
pub fn span(rows: &Rows, name: &str) -> Option<String> {
    let numbers: Vec<f64> = rows.numbers(name)?.into_iter().flatten().collect();
    let low = numbers.iter().copied().reduce(f64::min)?;
    let high = numbers.iter().copied().reduce(f64::max)?;
    Some(if low == high {
        short(low)
    } else {
        format!("{}–{}", short(low), short(high))
    })
}

/// A number with at most three digits behind the point and a true minus sign.
pub fn short(value: f64) -> String {
    let text = format!("{:.3}", value.abs());
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if value < 0.0 && text != "0" {
        format!("−{text}")
    } else {
        text.to_owned()
    }
}

/// A list of things of which the first few are named.
pub fn few(things: &[String]) -> String {
    const SHOWN: usize = 6;
    let named = things.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match things.len().saturating_sub(SHOWN) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// What the value of a column is called on an axis.
pub fn measure(column: &str) -> String {
    match column {
        "fracture" => "FRACTURE (share of prompts)".to_owned(),
        "fracture_other" => "FRACTURE at the other τ (share of prompts)".to_owned(),
        "anti" => "anti-FRACTURE (share of prompts)".to_owned(),
        "net" => "net FRACTURE (share of prompts)".to_owned(),
        "headline" => "headline rate (share of prompts)".to_owned(),
        "train_unsafe" => "unsafe under train (share)".to_owned(),
        "deploy_unsafe" => "unsafe under deploy (share)".to_owned(),
        "noise_floor" => "noise floor (share of prompts)".to_owned(),
        other => words(other),
    }
}

/// The short name of a measure, for a colour bar or a text.
pub fn brief(column: &str) -> String {
    match column {
        "fracture" => "FRACTURE".to_owned(),
        "anti" => "anti-FRACTURE".to_owned(),
        "net" => "net FRACTURE".to_owned(),
        other => words(other),
    }
}
