//! Chat templates, rendered as `transformers` renders them: Jinja with `trim_blocks` and `lstrip_blocks`, Python's
//! string methods, `raise_exception`, `strftime_now` and a `tojson` that escapes nothing.
//!
//! Templates come with checkpoints, so they run with fuel and an output limit, and reach nothing outside.

mod methods;
mod python;
mod source;

use fracture_stage::Error;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
pub use python::Date;
use std::collections::BTreeMap;
use std::io;

/// Instructions that one rendering may take.
const FUEL: u64 = 20_000_000;
/// Bytes that one rendering may give.
const OUTPUT_LIMIT: usize = 16 << 20;
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
    environment: Environment<'static>,
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
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let syntax = syntax.map_err(|cause| Error::internal("the template engine's syntax").cause(cause))?;
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        python::install(&mut environment, date);
        environment
            .add_template_owned("chat", source::prepared(source))
            .map_err(|cause| {
                Error::input("the chat template has a syntax error")
                    .cause(format!("{cause:#}"))
                    .hint("give another one as the model's `chat_template:`")
            })?;
        let mut template = Self {
            environment,
            special,
            has_system: true,
            uses_date: source.contains("strftime_now"),
        };
        let probe = [Message::new("system", PROBE), Message::new("user", "x")];
        template.has_system = template.fill(&probe, true).is_ok_and(|text| text.contains(PROBE));
        Ok(template)
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
        let failed = |cause: minijinja::Error| {
            let cause = cause.detail().map_or_else(|| format!("{cause:#}"), str::to_owned);
            Error::input("the chat template refused a conversation")
                .cause(cause)
                .hint("change the messages, or give another template as the model's `chat_template:`")
        };
        let mut context: BTreeMap<String, Value> = self.special.iter().map(|(k, v)| (k.clone(), v.into())).collect();
        let turn = |m: &Message| Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())]);
        context.insert("messages".to_owned(), messages.iter().map(turn).collect());
        context.insert("add_generation_prompt".to_owned(), add_generation_prompt.into());
        context.insert("tools".to_owned(), Value::from(()));
        context.insert("documents".to_owned(), Value::from(()));
        let template = self.environment.get_template("chat").map_err(failed)?;
        let mut output = Limited(Vec::new());
        template
            .render_captured_to(Value::from_pairs(context), &mut output)
            .map_err(failed)?;
        String::from_utf8(output.0).map_err(|cause| Error::internal("a template gave no text").cause(cause))
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

/// A buffer that refuses to grow beyond the limit.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_LIMIT {
            return Err(io::Error::other(format!(
                "the template gave more than {} MB",
                OUTPUT_LIMIT >> 20
            )));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
