//! From a table of prompts to rendered conversations.

use std::collections::HashMap;

use arrow::array::{Array, LargeStringArray, UInt32Array};
use fracture_stage::{Error, View};

use crate::template::Message;
use crate::text::Rendered;

/// How rows become what the model is given.
pub struct Rendering<'a> {
    /// Put before the regime's own system text.
    pub system: Option<&'a str>,
    /// Renders a conversation.
    pub conversation: &'a dyn Fn(&[Message]) -> Result<Rendered, Error>,
    /// Renders a prompt of a table without messages.
    pub prompt: &'a dyn Fn(String) -> Result<Rendered, Error>,
}

/// A row of the input, rendered.
pub struct Prompt {
    /// What the model is given.
    pub rendered: Rendered,
    /// The axis, empty when the table has none.
    pub axis: String,
    /// The item.
    pub item: String,
    /// Which of several random streams.
    pub draw: u32,
}

/// Renders every row.
///
/// # Errors
/// When messages are no conversation, the template refuses one, or two regimes render to one text at one draw.
pub fn render_all(view: &View, how: &Rendering<'_>) -> Result<Vec<Prompt>, Error> {
    let column = |name: &str| view.has(name).then(|| view.text(name)).transpose();
    let items = view.text("item")?;
    let (axes, regimes) = (column("axis")?, column("regime")?);
    let (messages, prompts) = (column("messages")?, column("prompt")?);
    let draws: Option<UInt32Array> = view.has("draw").then(|| view.u32("draw")).transpose()?;
    let value = |column: &Option<LargeStringArray>, row: usize| {
        column
            .as_ref()
            .filter(|column| column.is_valid(row))
            .map(|column| column.value(row).to_owned())
    };
    let mut rendered = Vec::with_capacity(view.rows());
    for row in 0..view.rows() {
        let item = items.value(row).to_owned();
        let axis = value(&axes, row).unwrap_or_default();
        let draw = draws.as_ref().map_or(0, |draws| draws.value(row));
        let made = match (value(&messages, row), value(&prompts, row)) {
            (Some(messages), _) => conversation(&messages, how),
            // A table without messages is fed by its prompts as they are.
            (None, Some(prompt)) => (how.prompt)(prompt),
            (None, None) => Err(Error::input("neither `messages` nor `prompt` has a value")),
        };
        let regime = value(&regimes, row).unwrap_or_default();
        let made = made.map_err(|error| error.context(format!("item `{item}` of axis `{axis}`, regime `{regime}`")))?;
        rendered.push(Prompt {
            rendered: made,
            axis,
            item,
            draw,
        });
    }
    if let Some(regimes) = &regimes {
        contrasts_differ(&rendered, regimes)?;
    }
    Ok(rendered)
}

fn conversation(messages: &str, how: &Rendering<'_>) -> Result<Rendered, Error> {
    let mut messages: Vec<Message> = serde_json::from_str(messages).map_err(|error| {
        Error::input("the messages are no conversation")
            .cause(error)
            .hint("messages are a JSON list of { \"role\", \"content\" }")
    })?;
    if let Some(system) = how.system {
        match messages.first_mut() {
            Some(first) if first.role == "system" => first.content = format!("{system}\n\n{}", first.content),
            _ => messages.insert(0, Message::new("system", system)),
        }
    }
    (how.conversation)(&messages)
}

/// Two regimes that look the same to the model would be compared as if they differed.
fn contrasts_differ(prompts: &[Prompt], regimes: &LargeStringArray) -> Result<(), Error> {
    let mut seen: HashMap<(&str, &str, u32, &str), &str> = HashMap::with_capacity(prompts.len());
    for (row, prompt) in prompts.iter().enumerate() {
        let regime = regimes.value(row);
        let key = (
            prompt.axis.as_str(),
            prompt.item.as_str(),
            prompt.draw,
            prompt.rendered.text.as_str(),
        );
        match seen.insert(key, regime) {
            Some(other) if other != regime => {
                return Err(Error::pipeline(format!(
                    "the regimes `{other}` and `{regime}` render to the same text for item `{}` of axis `{}`",
                    prompt.item, prompt.axis
                ))
                .hint("a contrast between them would be 0 by construction; give one of them a cue, or `draw: 1` for an A/A control"));
            }
            _ => {}
        }
    }
    Ok(())
}
