//! Published pools, recognised by their header: where their prompts and ids are.

use serde_json::Value;

/// Where a prompt comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// One column.
    Column(&'static str),
    /// A column, with the text of another one before it where there is one.
    Context {
        /// What comes first.
        context: &'static str,
        /// The request.
        column: &'static str,
    },
    /// A transcript with `Human:` and `Assistant:` turns, up to the last answer.
    Transcript(&'static str),
}

/// How a published pool lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The pool's name.
    pub name: &'static str,
    /// The columns by which it is recognised.
    pub header: &'static [&'static str],
    /// Where the prompt is.
    pub prompt: From,
    /// Where the id is; a hash of the prompt otherwise.
    pub item: Option<&'static str>,
    /// Only rows with this value of this column are taken: the others are made for another kind of judge.
    pub only: Option<(&'static str, &'static str)>,
    /// Columns about an answer, not about the prompt. Where there are some, prompts repeat, and each is taken once.
    pub answers: &'static [&'static str],
}

/// The layouts that are known. A file with a column `prompt` and none of these headers (XSTest and most others) needs none.
pub const LAYOUTS: [Layout; 9] = [
    Layout {
        name: "HarmBench",
        header: &["Behavior", "FunctionalCategory", "BehaviorID"],
        prompt: From::Context {
            context: "ContextString",
            column: "Behavior",
        },
        item: Some("BehaviorID"),
        only: Some(("FunctionalCategory", "standard")),
        answers: &[],
    },
    Layout {
        name: "JBB-Behaviors",
        header: &["Index", "Goal", "Behavior", "Category"],
        prompt: From::Column("Goal"),
        item: Some("Index"),
        only: None,
        answers: &[],
    },
    Layout {
        name: "AdvBench",
        header: &["goal", "target"],
        prompt: From::Column("goal"),
        item: None,
        only: None,
        answers: &[],
    },
    Layout {
        name: "StrongREJECT",
        header: &["forbidden_prompt"],
        prompt: From::Column("forbidden_prompt"),
        item: None,
        only: None,
        answers: &[],
    },
    Layout {
        name: "HH-RLHF",
        header: &["chosen", "rejected"],
        prompt: From::Transcript("chosen"),
        item: None,
        only: None,
        answers: &["chosen", "rejected"],
    },
    Layout {
        name: "HH-RLHF red team",
        header: &["transcript", "task_description"],
        prompt: From::Transcript("transcript"),
        item: None,
        only: None,
        answers: &["transcript", "rating", "min_harmlessness_score_transcript"],
    },
    Layout {
        name: "BeaverTails",
        header: &["prompt", "response", "is_safe"],
        prompt: From::Column("prompt"),
        item: None,
        only: None,
        answers: &["response", "category", "is_safe"],
    },
    Layout {
        name: "TruthfulQA",
        header: &["Question", "Best Answer"],
        prompt: From::Column("Question"),
        item: None,
        only: None,
        answers: &[],
    },
    Layout {
        name: "AlpacaEval",
        header: &["instruction"],
        prompt: From::Column("instruction"),
        item: None,
        only: None,
        answers: &[],
    },
];

/// The layout that a header shows. A file that has a column `prompt` means it: only a layout with that column is looked for.
pub fn recognise(names: &[String]) -> Option<&'static Layout> {
    let has = |name: &&str| names.iter().any(|other| other == name);
    let fits = |layout: &&Layout| layout.header.iter().all(&has);
    LAYOUTS
        .iter()
        .filter(|layout| !has(&"prompt") || layout.header.contains(&"prompt"))
        .find(fits)
}

impl Layout {
    /// The prompt of a row, `cell` finding a column's cell.
    pub fn prompt<'a>(&self, cell: impl Fn(&str) -> Option<&'a Value>) -> Option<String> {
        let text = |name| {
            cell(name)
                .and_then(crate::cells::as_text)
                .filter(|text| !text.trim().is_empty())
        };
        match self.prompt {
            From::Column(name) => text(name),
            From::Context { context, column } => match (text(context), text(column)) {
                (Some(context), Some(request)) => Some(format!("{context}\n\n---\n\n{request}")),
                (_, request) => request,
            },
            From::Transcript(name) => text(name).and_then(|transcript| request(&transcript)),
        }
    }
}

/// The dialogue before its last answer; a single request without its mark.
fn request(transcript: &str) -> Option<String> {
    let before = transcript
        .rfind("\n\nAssistant:")
        .map_or(transcript, |end| &transcript[..end])
        .trim();
    let one = before
        .strip_prefix("Human:")
        .filter(|rest| !rest.contains("\n\nAssistant:"));
    Some(one.unwrap_or(before).trim().to_owned()).filter(|text| !text.is_empty())
}
