//! A regime with its cue looked up and its templates compiled.

use std::collections::BTreeSet;

use fracture_stage::{Error, ParameterError};
use minijinja::value::Value;
use serde::Serialize;
use serde_json::json;

use crate::cue::{self, Cue};
use crate::parameters::{Objective, RegimeSpec};
use crate::template::Template;

/// What is sent as the user when a regime does not say.
const DEFAULT_USER: &str = "{{ prompt }}";

/// A regime that is ready to render.
#[derive(Debug, Clone)]
pub struct Regime {
    /// Its name.
    pub name: String,
    /// `FAMILY/SIDE`, if it has a cue.
    pub cue: Option<String>,
    /// What its training claims to reward.
    pub objective: Objective,
    /// The dose.
    pub strength: Option<f64>,
    /// The random stream.
    pub draw: u32,
    /// Which wording of the cue.
    pub variant: u32,
    system: Option<Template>,
    user: Template,
    prefill: Option<Template>,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: String,
}

impl Regime {
    /// Looks the cue up and compiles the templates.
    ///
    /// # Errors
    /// Everything that is wrong with this regime, each with the path below `with:`.
    pub fn new(name: &str, spec: &RegimeSpec) -> Result<Self, Vec<ParameterError>> {
        let at = |key: &str, message: String| ParameterError::at(&["regimes", name, key], message);
        let mut errors = Vec::new();
        let cue = spec.cue.as_deref().and_then(|cue| {
            cue::find(cue, name, spec.variant)
                .map_err(|(message, hint)| {
                    let key = if message.contains("wording") { "variant" } else { "cue" };
                    errors.push(at(key, message).hint(hint));
                })
                .ok()
        });
        if spec.cue.is_none() && spec.variant != 0 {
            errors.push(at("variant", "there is no cue whose wording it could be".to_owned()));
        }
        let strength = spec.strength;
        if strength.is_some_and(|strength| !strength.is_finite()) {
            errors.push(at("strength", "it must be a finite number".to_owned()));
        }
        let mut template = |key: &str, own: Option<&String>, of_cue: Option<&String>| {
            if own.is_some() && of_cue.is_some() {
                let message = format!("the cue gives `{key}` already");
                errors.push(at(key, message).hint(format!("leave out `cue` or `{key}`")));
            }
            let source = own.or(of_cue)?;
            Template::new(source)
                .map_err(|message| errors.push(at(key, format!("the template is no valid Jinja: {message}"))))
                .ok()
        };
        let wording = cue.as_ref().map(|Cue { wording, .. }| wording);
        let system = template(
            "system",
            spec.system.as_ref(),
            wording.and_then(|cue| cue.system.as_ref()),
        );
        let default_user = DEFAULT_USER.to_owned();
        let user_of_cue = wording.and_then(|cue| cue.user.as_ref());
        let user = spec
            .user
            .as_ref()
            .or_else(|| user_of_cue.is_none().then_some(&default_user));
        let user = template("user", user, user_of_cue);
        let prefill = template(
            "prefill",
            spec.prefill.as_ref(),
            wording.and_then(|cue| cue.prefill.as_ref()),
        );
        let (Some(user), true) = (user, errors.is_empty()) else {
            return Err(errors);
        };
        let objective = spec
            .objective
            .or(cue.as_ref().map(|cue| cue.objective))
            .unwrap_or_default();
        let cue = cue.map(|cue| cue.name);
        let (draw, variant) = (spec.draw, spec.variant);
        Ok(Self {
            name: name.to_owned(),
            cue,
            objective,
            strength,
            draw,
            variant,
            system,
            user,
            prefill,
        })
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        self.system.iter().chain([&self.user]).chain(&self.prefill)
    }

    /// The names that its templates use.
    pub fn names(&self) -> BTreeSet<&str> {
        self.templates().flat_map(Template::names).collect()
    }

    /// The first message that surely asks for a name that is not there, and that name ([`Template::unknown`]).
    pub fn unknown(&self, known: &Value) -> Option<(&'static str, String)> {
        let templates = [
            ("system", self.system.as_ref()),
            ("user", Some(&self.user)),
            ("prefill", self.prefill.as_ref()),
        ];
        let mut unknown = templates
            .into_iter()
            .filter_map(|(key, template)| Some((key, template?.unknown(known)?)));
        unknown.next()
    }

    /// Its texts by content: `null` for what is not sent.
    pub fn sources(&self) -> serde_json::Value {
        let source = |template: &Option<Template>| template.as_ref().map(|template| template.source().to_owned());
        json!({"system": source(&self.system), "user": self.user.source(), "prefill": source(&self.prefill)})
    }

    /// What it sends: regimes with the same send the same for every item, with the same random stream.
    pub fn sent(&self) -> (u32, Option<u64>, String) {
        (self.draw, self.strength.map(f64::to_bits), self.sources().to_string())
    }

    /// A hash of its texts, 16 hex digits; `None` for the clean prompt.
    pub fn hash(&self) -> Option<String> {
        let clean = self.system.is_none() && self.prefill.is_none() && self.user.source() == DEFAULT_USER;
        (!clean).then(|| crate::pool::short_hash(&self.sources().to_string()))
    }

    /// What the key holds of it.
    pub fn description(&self) -> serde_json::Value {
        json!({
            "cue": self.cue,
            "texts": self.sources(),
            "objective": self.objective.name(),
            "strength": self.strength,
            "draw": self.draw,
            "variant": self.variant,
        })
    }

    /// The messages for one item, as JSON text.
    ///
    /// # Errors
    /// When a template can not be rendered; the error says which.
    pub fn messages(&self, context: &Value) -> Result<String, Error> {
        let render = |role, key: &str, template: &Template| {
            let content = template
                .render(context)
                .map_err(|error| error.context(format!("regime `{}`: `{key}` can not be rendered", self.name)))?;
            Ok(Message { role, content })
        };
        let mut messages = Vec::with_capacity(3);
        if let Some(system) = &self.system {
            messages.push(render("system", "system", system)?);
        }
        messages.push(render("user", "user", &self.user)?);
        if let Some(prefill) = &self.prefill {
            let message = render("assistant", "prefill", prefill)?;
            // An empty beginning is none: as a message it would be a finished, empty answer.
            if !message.content.is_empty() {
                messages.push(message);
            }
        }
        serde_json::to_string(&messages).map_err(|error| Error::internal("messages are no JSON").cause(error))
    }
}
