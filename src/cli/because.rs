//! Why a task would run, as people read it: "judge file `model.onnx`: blake3 3f2a… → 9c01…", "parameter `temperature`: 0.6 → 0.8".

use serde_json::Value;

use crate::engine::keys::Change;

/// Of so many inputs that a task waits for each is named.
const INPUTS: usize = 4;

/// The lines of what changed of a task of that kind. Many inputs that it waits for are counted.
pub fn because_lines(changes: &[Change], kind: &str) -> Vec<String> {
    let waits = |change: &&Change| change.part.starts_with("input ");
    let waiting = changes.iter().filter(waits).count();
    let mut told = 0;
    let mut lines = Vec::new();
    for change in changes {
        if waits(&change) {
            told += 1;
            if told > INPUTS && waiting > INPUTS + 1 {
                continue;
            }
        }
        lines.push(change_text(change, kind));
    }
    if waiting > INPUTS + 1 {
        lines.push(format!("and {} more inputs that are not there yet", waiting - INPUTS));
    }
    lines
}

/// A change of a task of that kind.
pub fn change_text(change: &Change, kind: &str) -> String {
    let part = match change.part.split_once(' ') {
        Some(("file", name)) => format!("{kind} file `{name}`"),
        Some((word @ ("parameter" | "kind" | "input" | "model"), name)) => format!("{word} `{name}`"),
        Some((word @ ("column" | "constant"), rest)) => match rest.rsplit_once(" of ") {
            Some((name, port)) => format!("{word} `{name}` of input `{port}`"),
            None => format!("{word} `{rest}`"),
        },
        Some((word, rest)) => match rest.strip_prefix("of ") {
            Some(model) if word == "revision" => format!("revision of `{model}`"),
            Some(port) => format!("{word} of input `{port}`"),
            None => change.part.clone(),
        },
        None => change.part.clone(),
    };
    let about = |value: &Value| match change.part.split_once(' ') {
        Some(("kind", _)) => format!("version {}", short(value)),
        Some(("file", _)) if is_digest(value) => format!("blake3 {}", short(value)),
        _ => short(value),
    };
    match (&change.was, &change.now) {
        // The word is said once.
        (Some(was), Some(now)) if is_digest(was) && is_digest(now) => {
            format!("{part}: {} → {}", about(was), short(now))
        }
        (Some(was), Some(now)) => format!("{part}: {} → {}", about(was), about(now)),
        (None, Some(now)) => format!("{part}: {}", about(now)),
        (Some(was), None) => format!("{part}: {} → gone", about(was)),
        (None, None) => part,
    }
}

fn is_digest(value: &Value) -> bool {
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    value.as_str().is_some_and(hex)
}

/// A value for people: digests by their first digits, numbers as they would be written, a few items of a list.
pub fn short(value: &Value) -> String {
    match value {
        Value::String(text) if is_digest(value) => format!("{}…", &text[..12]),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 1e15 => format!("{whole:.0}"),
            _ => number.to_string(),
        },
        Value::Array(items) => {
            let shown: Vec<String> = items.iter().take(6).map(short).collect();
            let rest = if items.len() > 6 {
                format!(", … {} in all", items.len())
            } else {
                String::new()
            };
            format!("[{}{rest}]", shown.join(", "))
        }
        Value::Object(map) => {
            let shown: Vec<String> = map
                .iter()
                .map(|(name, value)| format!("{name}: {}", short(value)))
                .collect();
            format!("{{{}}}", shown.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(part: &str, was: Option<Value>, now: Option<Value>) -> String {
        let part = part.to_owned();
        change_text(&Change { part, was, now }, "judge")
    }

    #[test]
    fn what_changed_reads_as_it_would_be_said() {
        let (one, other) = (json!("3f2a".repeat(16)), json!("9c01".repeat(16)));
        assert_eq!(
            text("file model.onnx", Some(one.clone()), Some(other.clone())),
            "judge file `model.onnx`: blake3 3f2a3f2a3f2a… → 9c019c019c01…"
        );
        assert_eq!(
            text("file vocab.txt", Some(json!("absent")), Some(other.clone())),
            "judge file `vocab.txt`: absent → blake3 9c019c019c01…"
        );
        assert_eq!(
            text("file vocab.txt", Some(one.clone()), None),
            "judge file `vocab.txt`: blake3 3f2a3f2a3f2a… → gone"
        );
        assert_eq!(
            text("parameter temperature", Some(json!(0.6)), Some(json!(0.8))),
            "parameter `temperature`: 0.6 → 0.8"
        );
        assert_eq!(
            text("parameter harm", Some(json!(4.0)), Some(json!(9.0))),
            "parameter `harm`: 4 → 9"
        );
        assert_eq!(
            text("column unsafe of verdicts", Some(one), Some(other)),
            "column `unsafe` of input `verdicts`: 3f2a3f2a3f2a… → 9c019c019c01…"
        );
        assert_eq!(
            text("rows of verdicts", Some(json!("3")), Some(json!("4"))),
            "rows of input `verdicts`: 3 → 4"
        );
        assert_eq!(
            text("kind judge", Some(json!(1)), Some(json!(2))),
            "kind `judge`: version 1 → version 2"
        );
        assert_eq!(
            text("input a[model=x y]", None, Some(json!("pending"))),
            "input `a[model=x y]`: pending"
        );
        assert_eq!(
            text(
                "revision of hf://org/name",
                Some(json!("abc1234")),
                Some(json!("def5678"))
            ),
            "revision of `hf://org/name`: abc1234 → def5678"
        );
        assert_eq!(
            text("result", None, Some(json!("never computed"))),
            "result: never computed"
        );
    }

    #[test]
    fn many_inputs_are_counted() {
        let input = |at: usize| Change {
            part: format!("input a[x={at}]"),
            was: None,
            now: Some(json!("run")),
        };
        let lines = |count: usize| because_lines(&(0..count).map(input).collect::<Vec<_>>(), "fracture");
        assert_eq!(lines(5).len(), 5);
        assert_eq!(lines(1000).len(), 5);
        assert_eq!(lines(1000)[4], "and 996 more inputs that are not there yet");
    }
}
