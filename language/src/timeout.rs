//! `timeout:` of a stage.

use fracture_stage::Declaration;

use crate::diagnostic::{Diagnostic, Sink};
use crate::tree::{Entry, Node, Tree};

/// A task is stopped by its kind, so the stage's `timeout` is the parameter of that name; it wins over `defaults`.
pub fn put(with: Node, timeout: &Entry, own: &Node, stage: &str, kind: Declaration, sink: &mut Sink) -> Node {
    let Some(seconds) = seconds(&timeout.value, sink) else {
        return with;
    };
    if (kind.parameters)().pointer("/properties/timeout").is_none() {
        let wrong = Diagnostic::error(format!(
            "stage `{stage}`: `timeout` of a stage of kind `{}` is not in this version",
            kind.name
        ));
        sink.push(
            wrong
                .at(&timeout.mark, "comes later")
                .hint("`command` stages can be stopped; remove it here"),
        );
        return with;
    }
    if let Some(twice) = own.entry("timeout") {
        let wrong = Diagnostic::error(format!("stage `{stage}` says its `timeout` twice"));
        sink.push(wrong.at(&twice.mark, "again here").also(&timeout.mark, "first here"));
        return with;
    }
    let seconds = serde_json::Number::from_f64(seconds).map_or(Tree::Unknown, Tree::Number);
    let mut entries: Vec<Entry> = with.entries().to_vec();
    entries.retain(|entry| entry.key != "timeout");
    entries.push(Entry {
        key: "timeout".to_owned(),
        mark: timeout.mark.clone(),
        value: Node::new(seconds, &timeout.value.mark),
    });
    Node::new(Tree::Map(entries), &with.mark)
}

fn seconds(node: &Node, sink: &mut Sink) -> Option<f64> {
    let read = match &node.tree {
        Tree::Number(number) => number.as_f64(),
        Tree::Text(text) => {
            let (digits, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
            let scale = match unit {
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => 0.0,
            };
            digits.trim().parse::<f64>().ok().map(|number| number * scale)
        }
        _ => return None,
    };
    let read = read.filter(|seconds| *seconds > 0.0 && seconds.is_finite());
    if read.is_none() {
        let wrong = Diagnostic::error(format!("`timeout`: found {}, expected a duration", node.found()));
        sink.push(wrong.at(&node.mark, "expected seconds, or a text such as `90s`, `10m`, `2h`"));
    }
    read
}
