//! One compiled Jinja template whose rendering is bounded: in instructions, in what it writes, in memory and in time.
//!
//! Templates come with checkpoints and from files, so compiling counts as running: constants are computed then.

use crate::bounded::{self, Exceeded, Limits};
use minijinja::value::Value;
use minijinja::{Environment, Error};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::{fmt, io};

/// Bytes that one rendering may give.
pub const OUTPUT_LIMIT: usize = 16 << 20;

/// A template that gave nothing.
#[derive(Debug)]
pub enum Failure {
    /// What the engine or the template itself says.
    Template(Error),
    /// It came to a limit, and is not rendered again.
    Exceeded(Exceeded),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(error) => write!(f, "{error:#}"),
            Self::Exceeded(limit) => limit.fmt(f),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Template(error)
    }
}

/// A compiled template.
#[derive(Debug)]
pub struct Jinja {
    environment: Arc<Environment<'static>>,
    name: &'static str,
    limits: Limits,
    /// The template can not multiply anything, so nobody watches it.
    plain: bool,
    exceeded: OnceLock<Exceeded>,
}

impl Jinja {
    /// Compiles a template by the name that errors have for it; `configure` prepares its environment.
    ///
    /// # Errors
    /// A syntax error, or a limit that compiling came to.
    pub fn compile(
        name: &'static str,
        source: String,
        limits: Limits,
        configure: impl FnOnce(&mut Environment<'static>) -> Result<(), Error> + Send + 'static,
    ) -> Result<Self, Failure> {
        let plain = is_plain(&source);
        let compiled = move || {
            let mut environment = Environment::new();
            configure(&mut environment)?;
            environment.add_template_owned(name, source)?;
            Ok(environment)
        };
        let environment = match plain {
            true => compiled(),
            false => bounded::within(limits, compiled).map_err(Failure::Exceeded)?,
        };
        Ok(Self {
            environment: Arc::new(environment.map_err(Failure::Template)?),
            name,
            limits,
            plain,
            exceeded: OnceLock::new(),
        })
    }

    /// The names that it takes from outside: `a.b` where it says so and `nested` asks for it.
    ///
    /// # Errors
    /// None for a template that was compiled.
    pub fn variables(&self, nested: bool) -> Result<BTreeSet<String>, Failure> {
        let template = self.environment.get_template(self.name)?;
        Ok(template.undeclared_variables(nested).into_iter().collect())
    }

    /// Renders it.
    ///
    /// # Errors
    /// What it raises, or a limit that it came to.
    pub fn render(&self, context: Value) -> Result<String, Failure> {
        if let Some(limit) = self.exceeded.get() {
            return Err(Failure::Exceeded(*limit));
        }
        if self.plain {
            return Ok(render(&self.environment, self.name, context)?);
        }
        let (environment, name) = (Arc::clone(&self.environment), self.name);
        let done = bounded::within(self.limits, move || render(&environment, name, context));
        // What stopped keeps its memory, so the next row is not tried.
        Ok(done.map_err(|limit| Failure::Exceeded(*self.exceeded.get_or_init(|| limit)))??)
    }
}

fn render(environment: &Environment<'static>, name: &str, context: Value) -> Result<String, Error> {
    let mut output = Limited(Vec::new());
    let wrong = |message: String| Error::new(minijinja::ErrorKind::WriteFailure, message);
    let rendered = environment.get_template(name)?.render_captured_to(context, &mut output);
    rendered.map_err(|error| match error.kind() {
        // The engine would say that writing failed.
        minijinja::ErrorKind::WriteFailure => wrong(format!("it gives more than {} MB", OUTPUT_LIMIT >> 20)),
        _ => error,
    })?;
    String::from_utf8(output.0).map_err(|_| wrong("it gives no text".to_owned()))
}

/// Whether a template does no more than write names and choose: each instruction runs once then, and none gives more
/// than what it was given. Only what is surely so counts.
fn is_plain(source: &str) -> bool {
    let mut rest = source;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let close = if rest[at..].starts_with("{{") { "}}" } else { "%}" };
        let inside = &rest[at + 2..];
        let Some(end) = inside.find(close) else {
            return false;
        };
        let (tag, after) = (inside[..end].trim_matches(['-', '+', ' ']), &inside[end + 2..]);
        let word = tag.split(' ').next().unwrap_or_default();
        let known = close == "}}" || ["if", "elif", "else", "endif"].contains(&word);
        if !known
            || !tag
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ['_', '.', ' '].contains(&c))
        {
            return false;
        }
        rest = after;
    }
    // A comment may hide the beginning of a tag or show one.
    !source.contains("{#")
}

/// A buffer that refuses to grow beyond the limit.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_what_multiplies_nothing_goes_unwatched() {
        for plain in [
            "",
            "Q: {{ prompt }}\n{{- a.b -}}",
            "{% if a and not b %}{{ a }}{% elif c %}x{% else %}y{%- endif -%}",
        ] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in [
            "{{ a ~ a }}",
            "{{ a * 9 }}",
            "{{ a|indent(9) }}",
            "{% for a in b %}{% endfor %}",
            "{% set a = b %}",
            "{% macro f() %}{% endmacro %}",
            "{% raw %}{{ a }}{% endraw %}",
            "{# {{ #}{% for a in b %}{% endfor %}",
            "{{ 'x}}{% if %}' }}",
            "{{ a",
        ] {
            assert!(!is_plain(other), "{other}");
        }
    }

    #[test]
    fn a_template_that_came_to_its_limit_is_not_tried_again() {
        let limits = Limits {
            memory: 8 << 20,
            time: Duration::from_secs(20),
        };
        let source = "{% set b = a * 1000000 %}{{ b|length }}".to_owned();
        let template = Jinja::compile("t", source, limits, |environment| {
            environment.set_fuel(Some(1000));
            Ok(())
        });
        let template = template.unwrap();
        let a = |text: &str| Value::from_pairs([("a", text)]);
        assert_eq!(template.render(a("x")).unwrap(), "1000000");
        for text in ["xxxxxxxxxxxxxxxx", "x"] {
            let failure = template.render(a(text)).unwrap_err();
            assert!(matches!(failure, Failure::Exceeded(Exceeded::Memory(_))), "{failure}");
        }
        assert_eq!(template.variables(false).unwrap(), ["a".to_owned()].into());
    }
}
