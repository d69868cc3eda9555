//! Jinja as the templates of judges have it, those of classifiers and those of generative judges alike.
//!
//! What is not there is an error. A null is `none`: false in an `if`, and nothing where it is written. A final newline is
//! kept: what the template says is what the judge sees.

use fracture_generate::bounded;
use fracture_generate::jinja::{Failure, Jinja};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, UndefinedBehavior, escape_formatter};

/// Steps that rendering one text may take.
const FUEL: u64 = 100_000;

/// Compiles a template.
///
/// # Errors
/// What is wrong with the template.
pub(crate) fn template(name: &'static str, text: &str) -> Result<Jinja, String> {
    let compiled = Jinja::compile(name, text.to_owned(), bounded::TEMPLATE, |environment| {
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(|out, state, value| match value.is_none() {
            true => Ok(()),
            false => escape_formatter(out, state, value),
        });
        environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
        Ok(())
    });
    compiled.map_err(|failure| match failure {
        Failure::Template(error) => format!("the template can not be parsed: {error}"),
        Failure::Exceeded(limit) => format!("the template takes too much to be read: {limit}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use minijinja::context;

    use super::*;

    #[test]
    fn nulls_newlines_and_what_is_not_there() {
        let render = |text: &str| {
            let values = context! { a => "<b>", n => None::<&str> };
            template("t", text)?
                .render(values)
                .map_err(|failure| failure.to_string())
        };
        assert_eq!(render("{{ a }}|{{ n }}|{% if n %}x{% endif %}\n").unwrap(), "<b>||\n");
        assert!(render("{{ other }}").unwrap_err().contains("undefined"));
        assert!(render("{{ n.part }}").is_err());
        assert!(render("{{ a").unwrap_err().contains("can not be parsed"));
    }

    #[test]
    fn a_template_that_doubles_a_text_comes_to_a_limit() {
        let doubles = "{% set ns = namespace(x=a) %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}ok";
        let failure = template("t", doubles).unwrap().render(context! { a => "<b>" });
        assert_eq!(failure.unwrap_err().to_string(), "it needs more than 256 MB of memory");
        // Constants are computed when the template is compiled.
        let refused = template("t", &format!("{{{{ [{}] }}}}", "'x' * 90000000, ".repeat(9))).unwrap_err();
        assert_eq!(
            refused,
            "the template takes too much to be read: it needs more than 256 MB of memory"
        );
    }
}
