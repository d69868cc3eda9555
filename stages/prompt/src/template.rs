//! Jinja templates of regimes: strict about names, bounded in work.

use std::collections::BTreeSet;

use fracture_stage::Error;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};

/// Instructions that one message may take; a template without an endless loop stays far below.
const FUEL: u64 = 1_000_000;

/// An environment in which an unknown name and an empty cell are errors, never empty text.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(|out, state, value| {
        if value.is_none() {
            let message = "the value is empty (null); write `x or ''` to allow that";
            return Err(minijinja::Error::new(ErrorKind::InvalidOperation, message));
        }
        minijinja::escape_formatter(out, state, value)
    });
    environment
}

/// A template's text and the names that it uses.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    environment: Environment<'static>,
    names: BTreeSet<String>,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// The message when it is no Jinja.
    pub fn new(source: &str) -> Result<Self, String> {
        let mut environment = environment();
        environment
            .add_template_owned("template", source.to_owned())
            .map_err(|error| explain(&error))?;
        let template = environment.get_template("template").map_err(|error| explain(&error))?;
        let names = template.undeclared_variables(true).into_iter().collect();
        Ok(Self {
            source: source.to_owned(),
            environment,
            names,
        })
    }

    /// The text that was compiled.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The names that it takes from outside, dotted where it says so: `prompt`, `vars.harm`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The first of the names that it surely asks for and that `known` lacks: of columns the name alone, of `vars` and
    /// `matrix` the variable too. Nothing where rows may decide whether a name is asked for.
    pub fn unknown(&self, known: &Value) -> Option<String> {
        let expressions = self.source.split("{{").skip(1);
        let mut expressions = expressions.map(|rest| rest.split("}}").next().unwrap_or(rest));
        let decides = |expression: &str| {
            let mut words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let found = words.any(|word| ["if", "or", "and", "is", "default", "d"].contains(&word));
            found || expression.contains(['"', '\''])
        };
        if self.source.contains("{%") || expressions.any(decides) {
            return None;
        }
        let asked = self.names.iter().map(|name| match name.split_once('.') {
            Some((root, _)) if !["vars", "matrix"].contains(&root) => root,
            _ => name,
        });
        let mut asked = asked.filter(|name| lacks(known, name));
        asked.next().map(str::to_owned)
    }

    /// Renders it.
    ///
    /// # Errors
    /// When it uses a name that is not there, or takes too long.
    pub fn render(&self, context: &Value) -> Result<String, Error> {
        let template = self.environment.get_template("template");
        template.and_then(|template| template.render(context)).map_err(|error| {
            let missing = (error.kind() == ErrorKind::UndefinedError)
                .then(|| self.missing(context))
                .flatten();
            match missing {
                Some(name) => Error::task(format!("there is no `{name}`")),
                None => Error::task(explain(&error)),
            }
        })
    }

    /// The first name that the context lacks.
    fn missing(&self, context: &Value) -> Option<String> {
        self.names.iter().find(|name| lacks(context, name)).cloned()
    }
}

/// Whether there is nothing of that name, dotted.
fn lacks(context: &Value, name: &str) -> bool {
    let mut parts = name.split('.');
    let found = parts.try_fold(context.clone(), |value, part| value.get_attr(part).ok());
    found.is_none_or(|value| value.is_undefined())
}

/// A JSON value as templates see it.
pub fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(object) => map(object),
    }
}

/// A JSON map as templates see it.
pub fn map(object: &serde_json::Map<String, serde_json::Value>) -> Value {
    Value::from_pairs(object.iter().map(|(name, item)| (name.as_str(), value(item))))
}

/// An engine error in one line, without the name that templates have inside.
fn explain(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) if line > 1 => format!("{what} (line {line} of the template)"),
        _ => what,
    }
}
