//! From parameters to the stage: the template, how it is asked, the model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use fracture_stage::source::HUB;
use fracture_stage::{Context, ModelSpec, ParameterError, Stage};

use super::GenerativeStage;
use crate::generative::prompt::Voting;
use crate::generative::{Asking, Form, Template};
use crate::stage::parameters::{CanariesParameter, JudgeParameters};
use crate::stage::texts::TextSource;
use crate::stage::{last_part, only_with_scores};

/// Builds the stage, or says all that is wrong with its parameters.
pub(in crate::stage) fn build(
    parameters: JudgeParameters,
    context: &Context,
) -> Result<Box<dyn Stage>, Vec<ParameterError>> {
    let mut errors: Vec<ParameterError> = parameters
        .classifying()
        .into_iter()
        .map(|name| {
            ParameterError::at(&[name], format!("a generative judge has no `{name}`"))
                .hint("the words of its answer are under `verdict`")
        })
        .chain(only_with_scores(&parameters))
        .collect();
    for verdict in parameters.cases.values().flat_map(BTreeMap::values) {
        if verdict.unsafe_labels.is_some() || verdict.reduce.is_some() {
            errors.push(ParameterError::at(
                &["cases"],
                "rows of a generative judge differ in `orientation` only",
            ));
        }
    }
    if parameters.votes == Some(0) {
        errors.push(ParameterError::at(&["votes"], "votes must be at least 1"));
    }
    if parameters.votes.is_some_and(|votes| votes > 1) && parameters.temperature == Some(0.0) {
        let told = "at temperature 0 every vote is the same: more than one says nothing more";
        errors.push(ParameterError::at(&["temperature"], told).hint("raise the temperature, or ask for votes: 1"));
    }
    if parameters.max_new_tokens == Some(0) {
        errors.push(ParameterError::at(
            &["max_new_tokens"],
            "max_new_tokens must be at least 1",
        ));
    }
    if parameters.temperature.is_some_and(|t| !(t >= 0.0 && t.is_finite())) {
        errors.push(ParameterError::at(&["temperature"], "temperature must be 0 or above"));
    }
    if parameters.votes.is_none() {
        for (name, given) in [
            ("temperature", parameters.temperature.is_some()),
            ("seed", parameters.seed.is_some()),
        ] {
            if given {
                errors.push(ParameterError::at(
                    &[name],
                    format!("`{name}` needs `votes`: without it nothing is sampled"),
                ));
            }
        }
    }
    if parameters.prefix.is_some() && parameters.after.is_some() {
        errors.push(ParameterError::at(
            &["after"],
            "`prefix` and `after` exclude each other",
        ));
    }
    if let Some(problem) = parameters.verdict.as_ref().and_then(|words| words.problem()) {
        errors.push(ParameterError::at(&["verdict"], problem));
    }
    let watched = !matches!(parameters.canaries, None | Some(CanariesParameter::Shipped(false)));
    if parameters.agreement.is_some() && !watched {
        let told = "`agreement` is that of canaries, and none are asked for: say `canaries: true`";
        errors.push(ParameterError::at(&["agreement"], told));
    }
    let text = TextSource::parse(&parameters.text)
        .map_err(|message| errors.push(ParameterError::at(&["text"], message)))
        .ok();
    let model = model(&parameters.model, context)
        .map_err(|error| errors.push(error))
        .ok();
    // What the stage reads depends on its template, so a file is read now; one that can not be read is told when the stage
    // is resolved.
    let parsed = match template_of(parameters.template.as_deref()) {
        TemplateSource::Here(parsed) => Some(parsed),
        TemplateSource::File(path) => {
            let source = std::fs::read_to_string(context.root.join(path)).ok();
            source.map(|source| Template::parse(&source))
        }
    };
    let known = OnceLock::new();
    match parsed.map(|parsed| parsed.and_then(|template| asking(&parameters, template))) {
        Some(Ok(asking)) => drop(known.set(Arc::new(asking))),
        Some(Err(message)) => errors.push(ParameterError::at(&["template"], message)),
        None => {}
    }
    match (text, model) {
        (Some(text), Some(model)) if errors.is_empty() => {
            let stage = GenerativeStage {
                parameters,
                model,
                source: text,
                asking: known,
                checkpoint: OnceLock::new(),
                text: OnceLock::new(),
            };
            match stage.model.source.starts_with(fracture_served::SCHEME) {
                true => super::served::build(stage),
                false if stage.parameters.agreement.is_some() => {
                    let told = "a judge that runs here is watched by its numbers, and has no `agreement`";
                    Err(vec![ParameterError::at(&["agreement"], told)])
                }
                false => Ok(Box::new(stage)),
            }
        }
        _ => Err(errors),
    }
}

#[expect(clippy::large_enum_variant, reason = "there is one a stage")]
pub(super) enum TemplateSource<'a> {
    /// Shipped, or written in the pipeline.
    Here(Result<Template, String>),
    /// The path of a file.
    File(&'a str),
}

pub(super) fn template_of(name: Option<&str>) -> TemplateSource<'_> {
    match name {
        None => TemplateSource::Here(Template::inline("{{ response }}", Form::Message)),
        Some(text) if text.contains("{{") || text.contains("{%") => {
            TemplateSource::Here(Template::inline(text, Form::Message))
        }
        Some(name) => match Template::named(name) {
            Some(template) => TemplateSource::Here(template),
            None if name.contains('/') || name.contains('.') => TemplateSource::File(name),
            None => {
                let shipped: Vec<&str> = Template::shipped().collect();
                TemplateSource::Here(Err(format!(
                    "there is no template `{name}`; there are {}, or give a file or Jinja text",
                    shipped.join(", ")
                )))
            }
        },
    }
}

/// How the judge is asked: the parameters win over the template.
pub(super) fn asking(parameters: &JudgeParameters, template: Template) -> Result<Asking, String> {
    let words = parameters.verdict.clone().or_else(|| template.verdict.clone());
    let words = words.ok_or("say under `verdict` which words of the answer mean unsafe and safe")?;
    if let Some(problem) = words.problem() {
        return Err(problem);
    }
    if parameters.policy.is_some() && !template.variables().contains("policy") {
        return Err("the template has no place for a `policy`".to_owned());
    }
    if parameters.policy.is_none() && template.policy.is_none() && template.variables().contains("policy") {
        return Err("the template needs a `policy`".to_owned());
    }
    // One of the two in the pipeline puts the other of the template out of use.
    let (prefix, after) = match (&parameters.prefix, &parameters.after) {
        (None, None) => (template.prefix.clone(), template.after.clone()),
        (prefix, after) => (prefix.clone(), after.clone()),
    };
    let usual = if after.is_some() { 128 } else { 16 };
    let voting = parameters.votes.map(|count| Voting {
        count,
        temperature: parameters.temperature.unwrap_or(1.0),
        seed: parameters.seed.unwrap_or(0),
    });
    Ok(Asking {
        max_new_tokens: parameters.max_new_tokens.or(template.max_new_tokens).unwrap_or(usual),
        max_length: parameters.max_length,
        prefix: prefix.unwrap_or_default(),
        words,
        after,
        voting,
        template,
    })
}

/// The model that a name means: one under `models:`, else a folder.
fn model(name: &str, context: &Context) -> Result<ModelSpec, ParameterError> {
    let model = context.models.get(name).cloned().unwrap_or_else(|| ModelSpec {
        name: last_part(name),
        source: name.to_owned(),
        ..ModelSpec::default()
    });
    let later = |what: &str| {
        ParameterError::at(&["model"], format!("{what} is not in this version"))
            .hint("give a folder with config.json, tokenizer.json and model.safetensors as `source`")
    };
    if model.source.starts_with(fracture_served::SCHEME) {
        return Ok(model);
    }
    if model.source.contains("://") && !model.source.starts_with(HUB) {
        return Err(later(&format!("a generative judge from `{}`", model.source)));
    }
    if Path::new(&model.source)
        .extension()
        .is_some_and(|ending| ending == "gguf")
    {
        return Err(later("a generative judge from a GGUF file"));
    }
    match model.settings.iter().find(|(key, value)| match key.as_str() {
        "adapter" | "chat_template" => false,
        "dtype" => *value != "f32",
        _ => true,
    }) {
        Some((setting, _)) => Err(later(&format!("`{setting}` of the model `{}` as a judge", model.name))),
        None => Ok(model),
    }
}
