//! What is wrong with a pipeline, as people and programs read it.

use std::collections::HashSet;
use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use fracture_stage::ErrorKind;
use serde_json::{Value, json};

use crate::source::{Location, Mark};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing runs.
    Error,
    /// It runs, but probably not as meant.
    Warning,
}

/// A marked place with what there is to say about it.
#[derive(Debug, Clone)]
pub struct Label {
    /// The place.
    pub mark: Mark,
    /// What to say; may be empty.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The sort of error; decides the exit code.
    pub kind: ErrorKind,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// The place it is about; `None` for a matter of no place (an empty file).
    pub primary: Option<Label>,
    /// Other places that belong to it.
    pub others: Vec<Label>,
    /// Why, from the nearest cause to the root.
    pub causes: Vec<String>,
    /// What would be right.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error about what the pipeline says.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            kind: ErrorKind::Pipeline,
            message: message.into(),
            primary: None,
            others: Vec::new(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// Something that is probably not meant.
    pub fn warning(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(message)
        }
    }

    /// The error of a stage, told about a place of the pipeline.
    pub fn from_stage(error: fracture_stage::Error) -> Self {
        Self {
            kind: error.kind,
            causes: error.causes,
            hint: error.hint,
            ..Self::error(error.message)
        }
    }

    /// Says which place it is about. A value that came through substitutions shows every place on its way, one in an
    /// included file the places that include it.
    #[must_use]
    pub fn at(mut self, mark: &Mark, text: impl Into<String>) -> Self {
        let mut next = mark.origin.as_deref();
        while let Some(origin) = next {
            next = origin.origin.as_deref();
            let last = "the value is defined here";
            self = self.also(
                origin,
                if next.is_none() {
                    last
                } else {
                    "the value comes through here"
                },
            );
        }
        let mut next = mark.source.included.as_ref();
        while let Some(place) = next {
            self = self.also(place, "included here");
            next = place.source.included.as_ref();
        }
        self.primary = Some(Label {
            mark: mark.clone(),
            text: text.into(),
        });
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn also(mut self, mark: &Mark, text: impl Into<String>) -> Self {
        self.others.push(Label {
            mark: mark.clone(),
            text: text.into(),
        });
        self
    }

    /// Says what would be right.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with texts of a length that people read: what it quotes may be megabytes.
    fn shortened(mut self) -> Self {
        let labels = self
            .primary
            .iter_mut()
            .chain(&mut self.others)
            .map(|label| &mut label.text);
        let texts = labels.chain(&mut self.causes).chain(&mut self.hint);
        texts.chain([&mut self.message]).for_each(shorten);
        self
    }

    /// Where it is.
    pub fn location(&self) -> Option<Location> {
        self.primary.as_ref().map(|label| label.mark.location())
    }

    /// As rustc would show it.
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()));
        let labels: Vec<(&Label, AnnotationKind)> = (self.primary.iter().map(|label| (label, AnnotationKind::Primary)))
            .chain(self.others.iter().map(|label| (label, AnnotationKind::Context)))
            .collect();
        let mut shown: Vec<&str> = Vec::new();
        for (label, _) in &labels {
            let source = &label.mark.source;
            if shown.contains(&source.name.as_str()) {
                continue;
            }
            shown.push(&source.name);
            let mut snippet = Snippet::source(source.text.as_str()).path(source.name.as_str());
            for (label, kind) in labels.iter().filter(|(label, _)| label.mark.source.name == source.name) {
                let mark = &label.mark;
                let span = mark.start.min(source.text.len())..mark.end.min(source.text.len());
                snippet = snippet.annotation(kind.span(first_line(&source.text, span)).label(label.text.as_str()));
            }
            group = group.element(snippet);
        }
        for cause in &self.causes {
            group = group.element(Level::NOTE.message(cause.as_str()));
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// What would be right, as far as the place's label and the hint say it: without the marked text both are needed.
    fn advice(&self) -> Option<String> {
        let advises = |text: &&str| {
            let list = text.starts_with("the ") && text.contains(" are ");
            list || text.starts_with("expected ") || text.starts_with("did you mean ")
        };
        let label = self.primary.as_ref().map(|label| label.text.as_str()).filter(advises);
        match (label, &self.hint) {
            (Some(label), Some(hint)) => Some(format!("{label}; {hint}").replacen("?; ", "? ", 1)),
            (Some(label), None) => Some(label.to_owned()),
            (None, hint) => hint.clone(),
        }
    }

    /// The form of `--json`.
    pub fn to_json(&self) -> Value {
        let at = self
            .location()
            .map(|at| json!({"file": at.file, "line": at.line, "column": at.column}));
        let name = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        json!({name: {
            "kind": self.kind.name(),
            "message": self.message,
            "causes": self.causes,
            "hint": self.advice(),
            "at": at,
        }})
    }
}

/// Cuts the middle out of a long text.
fn shorten(text: &mut String) {
    const LONGEST: usize = 4_000;
    if text.len() <= LONGEST {
        return;
    }
    let boundary = |at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (begin, end) = (boundary(LONGEST / 2), boundary(text.len() - LONGEST / 4));
    *text = format!("{} … {}", &text[..begin], &text[end..]);
}

/// A value that spans lines is underlined on its first one: what is wrong is said there.
fn first_line(text: &str, span: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let marked = text.get(span.clone()).unwrap_or_default();
    let end = marked.find('\n').map_or(span.end, |newline| span.start + newline);
    span.start..end.max(span.start)
}

/// Everything that is wrong with a pipeline.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// As rustc would show them.
    pub fn render(&self, color: bool) -> String {
        const SHOWN: usize = 100;
        let mut blocks: Vec<String> = self.0.iter().take(SHOWN).map(|one| one.render(color)).collect();
        if self.0.len() > SHOWN {
            blocks.push(format!("and {} more", self.0.len() - SHOWN));
        }
        blocks.join("\n\n")
    }

    /// One object each, in the form of `--json`.
    pub fn to_json(&self) -> Vec<Value> {
        self.0.iter().map(Diagnostic::to_json).collect()
    }

    /// The worst kind: a missing file is an input error only when nothing else is wrong.
    pub fn kind(&self) -> ErrorKind {
        let all_input = !self.0.is_empty() && self.0.iter().all(|one| one.kind == ErrorKind::Input);
        if all_input {
            ErrorKind::Input
        } else {
            ErrorKind::Pipeline
        }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self(vec![one])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// Collects diagnostics; what is said of one place is said once, however many tasks it is true of.
#[derive(Debug, Default)]
pub struct Sink {
    seen: HashSet<(String, Option<(String, usize)>)>,
    list: Vec<Diagnostic>,
    errors: usize,
}

impl Sink {
    /// Adds one unless the same was said of the same place.
    pub fn push(&mut self, one: Diagnostic) {
        let one = one.shortened();
        let place = one
            .primary
            .as_ref()
            .map(|label| (label.mark.source.name.clone(), label.mark.start));
        if self.seen.insert((one.message.clone(), place)) {
            self.errors += usize::from(one.severity == Severity::Error);
            self.list.push(one);
        }
    }

    /// Everything that was said so far, in that order.
    pub fn said(self) -> Vec<Diagnostic> {
        self.list
    }

    /// How many errors there are; used to see whether a step went well.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Errors in the order of the file, or the warnings when there are none.
    ///
    /// # Errors
    /// When there is an error.
    pub fn finish(mut self) -> Result<Vec<Diagnostic>, Diagnostics> {
        let place = |one: &Diagnostic| {
            one.primary
                .as_ref()
                .map(|at| (at.mark.source.name.clone(), at.mark.start))
        };
        self.list.sort_by_cached_key(place);
        if self.errors == 0 {
            return Ok(self.list);
        }
        self.list.retain(|one| one.severity == Severity::Error);
        Err(Diagnostics(self.list))
    }
}
