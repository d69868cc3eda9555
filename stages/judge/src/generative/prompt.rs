//! From the values of a row to the tokens that the model is asked with.

use std::collections::BTreeMap;

use fracture_generate::template::{Ending, Message};
use fracture_generate::text::{Rendered, Text};
use fracture_stage::Error;

use super::template::{Form, Template};
use super::verdict::Words;

/// Answers that are sampled instead of weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Voting {
    /// How many.
    pub count: u32,
    /// Logits are divided by it.
    pub temperature: f64,
    /// The seed of their random streams.
    pub seed: u64,
}

/// Everything that says how a judge is asked.
#[derive(Debug)]
pub struct Asking {
    /// The template.
    pub template: Template,
    /// The words of the answer.
    pub words: Words,
    /// What the answer is made to begin with.
    pub prefix: String,
    /// What the model writes before its verdict, up to and with this.
    pub after: Option<String>,
    /// Sampled answers.
    pub voting: Option<Voting>,
    /// How long an answer may get, tokens.
    pub max_new_tokens: u32,
    /// The longest prompt in tokens; the model's context when not given.
    pub max_length: Option<usize>,
}

impl Asking {
    /// The longest prompt that leaves a model with so long a context room for its answer, in tokens; `depth` is how many
    /// the longest verdict has.
    pub fn room(&self, context: usize, depth: usize) -> usize {
        let writes = match self.voting.is_some() || self.after.is_some() {
            true => self.max_new_tokens as usize,
            false => 0,
        };
        context.saturating_sub(writes + depth + 2)
    }

    /// The parameter that asks for more than such a model has, and what is wrong with it.
    pub fn excess(&self, context: usize, depth: usize) -> Option<(&'static str, String)> {
        let room = self.room(context, depth);
        if room == 0 {
            let told = format!(
                "answers of {} tokens leave no room for a prompt in the judge's context of {context}",
                self.max_new_tokens
            );
            return Some(("max_new_tokens", told));
        }
        let asked = self.max_length.filter(|asked| *asked > room)?;
        let told = format!(
            "max_length of {asked} is more than the {room} tokens that the judge's context of {context} leaves to prompts"
        );
        Some(("max_length", told))
    }
}

/// Renders and tokenizes the prompts of a judge.
#[derive(Debug, Clone, Copy)]
pub struct Renderer<'a> {
    /// How it is asked.
    pub asking: &'a Asking,
    /// The model's tokenizer and chat template.
    pub text: &'a Text,
}

impl Renderer<'_> {
    /// The prompt for the values of a row, nothing left out.
    ///
    /// # Errors
    /// What the template or the model's chat template raises.
    pub fn render(&self, values: &BTreeMap<String, String>) -> Result<Rendered, Error> {
        let template = &self.asking.template;
        let told = |cause: String| Error::task("the judge's template fails").cause(cause);
        let text = template.render(values).map_err(told)?;
        let mut rendered = match template.form {
            Form::Text => Rendered {
                text,
                add_special_tokens: true,
                system_folded: false,
            },
            Form::Message => self.text.render(&[Message::new("user", text)], Ending::Answer)?,
            Form::Conversation => {
                let prompt = values.get("prompt").map_or("", String::as_str);
                let turns = [Message::new("user", prompt), Message::new("assistant", text)];
                self.text.render(&turns, Ending::Nothing)?
            }
        };
        rendered.text.push_str(&self.asking.prefix);
        Ok(rendered)
    }

    /// The tokens of the prompt, at most `limit`: of a prompt that is too long first the value `prompt` is cut at its end,
    /// then `response`. Says too whether something was.
    ///
    /// # Errors
    /// As [`Renderer::render`], and when what is left is too long without any text.
    pub fn tokens(&self, values: &BTreeMap<String, String>, limit: usize) -> Result<(Vec<u32>, bool), Error> {
        let tokens = self.encode(values)?;
        if tokens.len() <= limit {
            return Ok((tokens, false));
        }
        let mut values = values.clone();
        for name in ["prompt", "response"] {
            let Some(whole) = values.get(name).cloned() else {
                continue;
            };
            let characters: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
            let mut fits = |count: usize| -> Result<Option<Vec<u32>>, Error> {
                let end = characters.get(count).copied().unwrap_or(whole.len());
                values.insert(name.to_owned(), whole[..end].to_owned());
                Ok(Some(self.encode(&values)?).filter(|tokens| tokens.len() <= limit))
            };
            let Some(mut best) = fits(0)? else { continue };
            let (mut low, mut high) = (0, characters.len());
            while low + 1 < high {
                let middle = low.midpoint(high);
                match fits(middle)? {
                    Some(tokens) => (low, best) = (middle, tokens),
                    None => high = middle,
                }
            }
            return Ok((best, true));
        }
        Err(Error::input(format!(
            "the judge's template takes more than the {limit} tokens that there is room for, without any text"
        ))
        .hint("shorten `policy`, or take a model with a longer context"))
    }

    fn encode(&self, values: &BTreeMap<String, String>) -> Result<Vec<u32>, Error> {
        let rendered = self.render(values)?;
        self.text.encode(&rendered.text, rendered.add_special_tokens)
    }
}
