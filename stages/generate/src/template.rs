//! Chat templates, rendered as `transformers` renders them: Jinja with `trim_blocks` and `lstrip_blocks`, Python's
//! string methods, `raise_exception`, `strftime_now` and a `tojson` that escapes nothing.
//!
//! Templates come with checkpoints, so they run within limits ([`crate::jinja`]) and reach nothing outside.

mod methods;
mod python;
mod source;

use crate::bounded;
use crate::jinja::{Failure, Jinja, OUTPUT_LIMIT};
use fracture_stage::Error;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, UndefinedBehavior};
pub use python::Date;
use std::collections::BTreeMap;

/// Instructions that one rendering may take.
const FUEL: u64 = 20_000_000;
/// What a template is called that nobody named.
const SHOWN: &str = "the chat template";
/// A system text that no template writes by itself.
const PROBE: &str = "fracture-probe-c41f";

/// What marks the end of a prefill while it is rendered; the space tells whether the template keeps spaces.
const CONTINUED: &str = "fracture-continued-7be2 ";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// What follows the last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The header of an answer; a last message by the assistant is a prefill that the answer continues.
    Answer,
    /// Nothing: the conversation as it is.
    Nothing,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    jinja: Jinja,
    /// What errors call it.
    shown: String,
    special: BTreeMap<String, String>,
    has_system: bool,
    uses_date: bool,
}

impl ChatTemplate {
    /// Compiles a template. `special` are the tokens it may name (`bos_token`, ..), `date` is its today.
    ///
    /// # Errors
    /// A syntax error.
    pub fn new(source: &str, special: BTreeMap<String, String>, date: Date) -> Result<Self, Error> {
        let prepared = source::prepared(source);
        let jinja = Jinja::compile("chat", prepared, bounded::TEMPLATE, move |environment| {
            let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
            environment.set_syntax(syntax);
            environment.set_undefined_behavior(UndefinedBehavior::Lenient);
            environment.set_auto_escape_callback(|_| AutoEscape::None);
            environment.set_fuel(Some(FUEL));
            python::install(environment, date);
            Ok(())
        });
        let jinja = jinja.map_err(|failure| match failure {
            Failure::Exceeded(_) => refused(failure, SHOWN),
            Failure::Template(_) => Error::input("the chat template has a syntax error")
                .cause(failure.to_string())
                .hint("give another one as the model's `chat_template:`"),
        })?;
        let mut template = Self {
            jinja,
            shown: SHOWN.to_owned(),
            special,
            has_system: true,
            uses_date: source.contains("strftime_now"),
        };
        let probe = [Message::new("system", PROBE), Message::new("user", "x")];
        template.has_system = template.fill(&probe, true).is_ok_and(|text| text.contains(PROBE));
        Ok(template)
    }

    /// The same template, called this in errors: `the chat template of MODEL`.
    #[must_use]
    pub fn named(mut self, shown: String) -> Self {
        self.shown = shown;
        self
    }

    /// The template has a place for a system message.
    pub fn has_system(&self) -> bool {
        self.has_system
    }

    /// The template asks for today's date.
    pub fn uses_date(&self) -> bool {
        self.uses_date
    }

    /// Renders a conversation; says too whether a system text had to go before the first user turn.
    ///
    /// # Errors
    /// What the template raises, or its running out of fuel or output.
    pub fn render(&self, messages: &[Message], ending: Ending) -> Result<(String, bool), Error> {
        let folded = match self.has_system {
            true => None,
            false => fold_system(messages),
        };
        let messages = folded.as_deref().unwrap_or(messages);
        let text = match (ending, messages.last()) {
            (Ending::Answer, Some(last)) if last.role == "assistant" => self.continued(messages, &last.content)?,
            (Ending::Answer, _) => self.fill(messages, true)?,
            (Ending::Nothing, _) => self.fill(messages, false)?,
        };
        Ok((text, folded.is_some()))
    }

    /// Cuts what the template writes after the last message, so that the answer goes on where the prefill ends.
    fn continued(&self, messages: &[Message], prefill: &str) -> Result<String, Error> {
        if prefill.trim().is_empty() {
            return Ok(self.fill(&messages[..messages.len() - 1], true)? + prefill);
        }
        let mut marked = messages.to_vec();
        if let Some(last) = marked.last_mut() {
            last.content.push_str(CONTINUED);
        }
        let mut text = self.fill(&marked, false)?;
        let at = text
            .rfind(CONTINUED.trim_end())
            .filter(|at| text[..*at].contains(prefill.trim()));
        let Some(at) = at else {
            return Err(
                Error::input("the chat template changes the prefill, so that no answer can continue it")
                    .hint("leave out `prefill`, or give a `chat_template:` that writes it as it is"),
            );
        };
        // Spaces at its end stay when the template keeps them.
        let kept = text[at..].starts_with(CONTINUED);
        text.truncate(at);
        if !kept {
            text.truncate(text.trim_end().len());
        }
        Ok(text)
    }

    fn fill(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        let mut context: BTreeMap<String, Value> = self.special.iter().map(|(k, v)| (k.clone(), v.into())).collect();
        let turn = |m: &Message| Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())]);
        context.insert("messages".to_owned(), messages.iter().map(turn).collect());
        context.insert("add_generation_prompt".to_owned(), add_generation_prompt.into());
        context.insert("tools".to_owned(), Value::from(()));
        context.insert("documents".to_owned(), Value::from(()));
        self.jinja
            .render(Value::from_pairs(context))
            .map_err(|failure| refused(failure, &self.shown))
    }
}

/// Why a template gave no text; `shown` is what it is called.
fn refused(failure: Failure, shown: &str) -> Error {
    let hint = "give another template as the model's `chat_template:`";
    match failure {
        Failure::Exceeded(limit) => Error::input(format!("{shown} takes too much to render a conversation"))
            .cause(limit)
            .hint(hint),
        Failure::Template(error) => Error::input("the chat template refused a conversation")
            .cause(error.detail().map_or_else(|| format!("{error:#}"), str::to_owned))
            .hint(format!("change the messages, or {hint}")),
    }
}

/// The conversation with its system texts before the first user turn; `None` when there is nothing to move.
fn fold_system(messages: &[Message]) -> Option<Vec<Message>> {
    let system: Vec<&str> = messages
        .iter()
        .filter(|m| m.role == "system" && !m.content.is_empty())
        .map(|m| m.content.as_str())
        .collect();
    let mut rest: Vec<Message> = messages.iter().filter(|m| m.role != "system").cloned().collect();
    if rest.len() == messages.len() {
        return None;
    }
    if !system.is_empty() {
        let text = system.join("\n\n");
        match rest.iter_mut().find(|m| m.role == "user") {
            Some(user) => user.content = format!("{text}\n\n{}", user.content),
            None => rest.insert(0, Message::new("user", text)),
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests;
