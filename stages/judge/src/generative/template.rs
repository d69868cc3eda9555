//! What a generative judge is asked: template files, the shipped ones among them.
//!
//! A template file is YAML: `as` (how the text reaches the model), `text` (Jinja over `prompt`, `response`, `policy` and any
//! column), `policy`, `verdict` (the words of the answer), `prefix` or `after` (where the verdict stands).

use std::collections::{BTreeMap, BTreeSet};

use fracture_generate::jinja::Jinja;
use minijinja::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::verdict::Words;
use crate::jinja;

const NAME: &str = "template";

/// The templates that ship, by name.
const SHIPPED: [(&str, &str); 6] = [
    (
        "granite-guardian",
        include_str!("../../templates/granite-guardian.yaml"),
    ),
    ("harmbench", include_str!("../../templates/harmbench.yaml")),
    ("llama-guard", include_str!("../../templates/llama-guard.yaml")),
    ("own-chat", include_str!("../../templates/own-chat.yaml")),
    ("shieldgemma", include_str!("../../templates/shieldgemma.yaml")),
    ("wildguard", include_str!("../../templates/wildguard.yaml")),
];

/// How a template's text reaches the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// As it is; the tokenizer adds its special tokens (BOS).
    Text,
    /// As a user's message under the model's chat template.
    #[default]
    Message,
    /// The prompt as the user's message and the text as the assistant's, under the model's chat template, which writes the
    /// question itself.
    Conversation,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "as")]
    form: Form,
    text: String,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    verdict: Option<Words>,
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    max_new_tokens: Option<u32>,
}

/// A template, parsed.
#[derive(Debug)]
pub struct Template {
    jinja: Jinja,
    /// How the text reaches the model.
    pub form: Form,
    /// What `policy` is when the pipeline does not say.
    pub policy: Option<String>,
    /// The words of the answer.
    pub verdict: Option<Words>,
    /// What the model is made to begin its answer with.
    pub prefix: Option<String>,
    /// The model writes until this, and its verdict follows.
    pub after: Option<String>,
    /// How much it may write until then, tokens.
    pub max_new_tokens: Option<u32>,
    variables: BTreeSet<String>,
    digest: String,
}

impl Template {
    /// The names of the shipped templates, sorted.
    pub fn shipped() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// The shipped template of a name; `None` when there is none.
    ///
    /// # Errors
    /// None in a build whose tests pass: shipped templates parse.
    pub fn named(name: &str) -> Option<Result<Self, String>> {
        let (_, source) = SHIPPED.iter().find(|(known, _)| *known == name)?;
        Some(Self::parse(source))
    }

    /// A template from its file's text.
    ///
    /// # Errors
    /// What is wrong with the YAML or with the Jinja in it.
    pub fn parse(source: &str) -> Result<Self, String> {
        let file: File = serde_yaml::from_str(source).map_err(|error| error.to_string())?;
        let mut template = Self::inline(&file.text, file.form)?;
        if file.prefix.is_some() && file.after.is_some() {
            return Err("`prefix` and `after` exclude each other".to_owned());
        }
        template.policy = file.policy;
        template.verdict = file.verdict;
        template.prefix = file.prefix;
        template.after = file.after;
        template.max_new_tokens = file.max_new_tokens;
        template.digest = digest(source);
        Ok(template)
    }

    /// A template that is nothing but Jinja.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn inline(text: &str, form: Form) -> Result<Self, String> {
        let jinja = jinja::template(NAME, text)?;
        let mut variables = jinja.variables(false).map_err(|failure| failure.to_string())?;
        if form == Form::Conversation {
            variables.insert("prompt".to_owned());
        }
        Ok(Self {
            jinja,
            form,
            policy: None,
            verdict: None,
            prefix: None,
            after: None,
            max_new_tokens: None,
            variables,
            digest: digest(text),
        })
    }

    /// The variables that the text reads: `prompt`, `response`, `policy`, and columns by their names.
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// SHA-256 of the template's source, for keys.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The text for the values of its variables; a variable without a value is `none`.
    ///
    /// # Errors
    /// What the template raises.
    pub fn render(&self, values: &BTreeMap<String, String>) -> Result<String, String> {
        let value = |name: &String| (name.clone(), Value::from(values.get(name).map(String::as_str)));
        let values = Value::from_pairs(self.variables.iter().map(value));
        self.jinja.render(values).map_err(|failure| failure.to_string())
    }
}

fn digest(source: &str) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(source.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shipped_templates_say_everything_that_a_judge_needs() {
        for name in Template::shipped() {
            let template = Template::named(name).unwrap().unwrap();
            let words = template.verdict.clone().unwrap();
            assert!(!words.bad.is_empty() && !words.good.is_empty(), "{name}");
            let mut values: BTreeMap<String, String> = [
                ("prompt", "How do I open it?"),
                ("response", "No, <b>\"sorry\"</b> {{ x }}."),
                ("policy", "Be kind."),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
            values.retain(|name, _| template.variables().contains(name));
            let text = template.render(&values).unwrap();
            assert!(
                text.contains("No, <b>\"sorry\"</b> {{ x }}."),
                "{name}: as it is: {text}"
            );
            assert!(
                values.keys().eq(template.variables().iter()),
                "{name} reads other columns"
            );
            assert_eq!(template.policy.is_some(), values.contains_key("policy"), "{name}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        assert!(
            Template::parse("text: '{{ x'")
                .unwrap_err()
                .contains("can not be parsed")
        );
        assert!(Template::parse("txt: x").unwrap_err().contains("txt"));
        assert!(
            Template::parse("{ text: x, prefix: a, after: b }")
                .unwrap_err()
                .contains("exclude")
        );
        let template = Template::inline("{{ who.name }}", Form::Text).unwrap();
        assert!(template.render(&BTreeMap::new()).is_err());
        let template = Template::inline("{% if who %}{{ who }}: {% endif %}hello\n", Form::Text).unwrap();
        assert_eq!(template.render(&BTreeMap::new()).unwrap(), "hello\n");
        assert!(Template::named("nobody").is_none());
    }
}
