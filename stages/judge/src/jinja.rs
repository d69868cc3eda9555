//! Jinja as the templates of judges have it, those of classifiers and those of generative judges alike.
//!
//! What is not there is an error. A null is `none`: false in an `if`, and nothing where it is written. A final newline is
//! kept: what the template says is what the judge sees.

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, escape_formatter};

/// Steps that rendering one text may take.
const FUEL: u64 = 100_000;

/// An environment with one template in it.
///
/// # Errors
/// What is wrong with the template.
pub(crate) fn environment(name: &'static str, text: &str) -> Result<Environment<'static>, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(|out, state, value| match value.is_none() {
        true => Ok(()),
        false => escape_formatter(out, state, value),
    });
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    environment.set_syntax(syntax.map_err(|error| error.to_string())?);
    environment
        .add_template_owned(name, text.to_owned())
        .map_err(|error| format!("the template can not be parsed: {error}"))?;
    Ok(environment)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use minijinja::context;

    use super::*;

    #[test]
    fn nulls_newlines_and_what_is_not_there() {
        let render = |text: &str| {
            let environment = environment("t", text)?;
            let values = context! { a => "<b>", n => None::<&str> };
            let template = environment.get_template("t").map_err(|error| error.to_string())?;
            template.render(values).map_err(|error| error.to_string())
        };
        assert_eq!(render("{{ a }}|{{ n }}|{% if n %}x{% endif %}\n").unwrap(), "<b>||\n");
        assert!(render("{{ other }}").unwrap_err().contains("undefined"));
        assert!(render("{{ n.part }}").is_err());
        assert!(render("{{ a").unwrap_err().contains("can not be parsed"));
    }
}
