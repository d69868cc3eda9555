//! From text to a resolved, typed document: include, profiles, `--set`, substitution, and the checks of its form.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use fracture_stage::{Files, ModelSpec};
use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, Sink};
use crate::names::is_name;
use crate::overlay::{Loader, with_profiles, with_sets};
use crate::pipeline::CompileOptions;
use crate::source::Mark;
use crate::spec::{FigureEntry, ModelEntry, Spec, StageEntry};
use crate::substitute::{Scope, substitute};
use crate::tree::{Entry, Node, Tree};
use crate::validate::{Validator, Violation};

/// The document behind a pipeline.
pub struct Document {
    /// The tree after substitution; `${matrix.…}` are templates.
    pub root: Node,
    /// The same, typed.
    pub spec: Spec,
    /// The pipeline before substitution, for a second look at profiles.
    pub models: BTreeMap<String, ModelSpec>,
    /// `vars`.
    pub vars: Map<String, Value>,
}

/// Reads a document; what is wrong goes to `sink`, `None` when there is nothing left to look at.
pub fn read(
    path: &Path,
    text: &str,
    files: &dyn Files,
    root: &Path,
    options: &CompileOptions<'_>,
    sink: &mut Sink,
) -> Option<Document> {
    let mut loader = Loader {
        files,
        root,
        open: Vec::new(),
        read: Vec::new(),
        incomplete: false,
    };
    let loaded = loader.load(path, text, None, sink)?;
    if loader.incomplete {
        return None;
    }
    check_profiles(&loaded, sink);
    let node = with_sets(with_profiles(loaded, &options.profiles, sink), &options.sets, sink);
    let node = plain(node);
    let profile = options.profiles.join("+");
    let node = substituted(&node, &profile, options.env, sink);
    let errors = sink.errors();
    check_form(&node, sink);
    check_names(&node, sink);
    later(&node, sink);
    let sound = sink.errors() == errors;
    let spec = typed(&node, sound, sink)?;
    let models = spec
        .models
        .iter()
        .map(|(name, entry)| (name.clone(), model(name, entry)))
        .collect();
    let vars = match node.get("vars").map(Node::to_json) {
        Some(Value::Object(vars)) => vars,
        _ => Map::new(),
    };
    Some(Document {
        root: node,
        spec,
        models,
        vars,
    })
}

/// Without the profiles, which are put over it by now. A section without content (`figures:` alone on its line) is an empty
/// one.
fn plain(mut node: Node) -> Node {
    if let Tree::Map(entries) = &mut node.tree {
        entries.retain(|entry| entry.key != "profiles" && !matches!(entry.value.tree, Tree::Null));
    }
    node
}

fn substituted(node: &Node, profile: &str, env: &dyn Fn(&str) -> Option<String>, sink: &mut Sink) -> Node {
    let nothing = HashMap::new();
    let scope = Scope {
        vars: None,
        names: &nothing,
        models: None,
        profile,
        env,
        matrix: false,
    };
    let vars = node.get("vars").map(|vars| substitute(vars, &scope, sink));
    let empty = Node::new(Tree::Map(Vec::new()), &node.mark);
    let entries = vars.as_ref().map(Node::entries).unwrap_or_default();
    let names = entries.iter().map(|entry| (&*entry.key, &entry.value)).collect();
    let scope = Scope {
        vars: Some(vars.as_ref().unwrap_or(&empty)),
        names: &names,
        ..scope
    };
    let models = node.get("models").map(|models| {
        check_addresses(models, sink);
        substitute(models, &scope, sink)
    });
    let scope = Scope {
        models: Some(models.as_ref().unwrap_or(&empty)),
        ..scope
    };
    let entries = node.entries().iter().map(|entry| {
        let value = match entry.key.as_str() {
            "vars" => vars.clone().unwrap_or_else(|| empty.clone()),
            "models" => models.clone().unwrap_or_else(|| empty.clone()),
            "stages" => each_stage(&entry.value, &scope, sink),
            "defaults" => substitute(&entry.value, &Scope { matrix: true, ..scope }, sink),
            _ => substitute(&entry.value, &scope, sink),
        };
        Entry { value, ..entry.clone() }
    });
    let entries = entries.collect();
    Node::new(Tree::Map(entries), &node.mark)
}

/// What the environment holds does not enter an address: it would be stored and shown.
fn check_addresses(models: &Node, sink: &mut Sink) {
    for model in models.entries() {
        let Some(address) = model.value.get("base_url") else {
            continue;
        };
        if address.text().is_some_and(|text| text.contains("${env.")) {
            let wrong = Diagnostic::error(format!(
                "`base_url` of the model `{}` takes nothing from the environment",
                model.key
            ));
            sink.push(
                wrong
                    .at(&address.mark, "it would be stored")
                    .hint("write the address here, or give it with --set; a key comes in by api_key_env"),
            );
        }
    }
}

/// Only inside `with:` are matrix variables known.
fn each_stage(stages: &Node, scope: &Scope<'_>, sink: &mut Sink) -> Node {
    let stage = |stage: &Node, sink: &mut Sink| {
        let part = |part: &Entry, sink: &mut Sink| {
            let scope = Scope {
                matrix: part.key == "with",
                ..*scope
            };
            Entry {
                value: substitute(&part.value, &scope, sink),
                ..part.clone()
            }
        };
        let Tree::Map(parts) = &stage.tree else {
            return substitute(stage, scope, sink);
        };
        Node::new(
            Tree::Map(parts.iter().map(|entry| part(entry, sink)).collect()),
            &stage.mark,
        )
    };
    let Tree::Map(entries) = &stages.tree else {
        return substitute(stages, scope, sink);
    };
    let entries = entries.iter().map(|entry| Entry {
        value: stage(&entry.value, sink),
        ..entry.clone()
    });
    let entries = entries.collect();
    Node::new(Tree::Map(entries), &stages.mark)
}

fn schema() -> Value {
    schemars::schema_for!(Spec).to_value()
}

fn check_form(node: &Node, sink: &mut Sink) {
    let schema = schema();
    let validator = Validator {
        root: &schema,
        partial: false,
    };
    for violation in validator.check(&node.to_json()) {
        sink.push(diagnostic(&violation, node));
    }
}

/// Profiles that are not active are checked, too: what is wrong in them is known now.
fn check_profiles(node: &Node, sink: &mut Sink) {
    let schema = schema();
    let validator = Validator {
        root: &schema,
        partial: true,
    };
    for profile in node.get("profiles").map(Node::entries).unwrap_or_default() {
        for violation in validator.check(&profile.value.to_json()) {
            // A substitution may stand where a value of any type is expected.
            let (place, ..) = profile.value.place(&violation.path, false);
            if !place.text().is_some_and(|text| text.contains("${")) {
                sink.push(diagnostic(&violation, &profile.value));
            }
        }
    }
}

/// A violation at its place.
pub fn diagnostic(violation: &Violation, node: &Node) -> Diagnostic {
    let (_, mark, _) = node.place(&violation.path, violation.key);
    let place = match violation.path.split_last() {
        Some((_, above)) if violation.key && violation.message.starts_with("unknown") => described(above),
        _ if violation.key => described(&violation.path),
        _ => String::new(),
    };
    Diagnostic::error(format!("{}{place}", violation.message)).at(&mark, violation.label.clone())
}

/// ` in stages.answers`, to find it in a long list of errors.
fn described(path: &[fracture_stage::PathPart]) -> String {
    let parts: Vec<String> = path
        .iter()
        .map(|part| match part {
            fracture_stage::PathPart::Key(key) => key.clone(),
            fracture_stage::PathPart::Index(index) => index.to_string(),
        })
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" in `{}`", parts.join("."))
    }
}

fn check_names(node: &Node, sink: &mut Sink) {
    for (section, what) in [
        ("vars", "variable"),
        ("models", "model"),
        ("stages", "stage"),
        ("figures", "figure"),
    ] {
        for entry in node.get(section).map(Node::entries).unwrap_or_default() {
            if !is_name(&entry.key) {
                let wrong = Diagnostic::error(format!("`{}` is no name for a {what}", entry.key));
                sink.push(wrong.at(
                    &entry.mark,
                    "a name begins with a letter and holds letters, digits, `_` and `-`",
                ));
            }
        }
    }
}

fn later(node: &Node, sink: &mut Sink) {
    let mut refuse = |mark: &Mark, what: &str| {
        sink.push(
            Diagnostic::error(format!("{what} are not in this version"))
                .at(mark, "comes later")
                .hint("remove it"),
        );
    };
    if let Some(executors) = node.entry("executors") {
        refuse(&executors.mark, "`executors`");
    }
    for stage in node.get("stages").map(Node::entries).unwrap_or_default() {
        if let Some(executor) = stage.value.entry("executor") {
            refuse(&executor.mark, "executors");
        }
    }
}

/// The typed document. Parts that are already known to be wrong are left out, so that the rest can still be checked.
fn typed(node: &Node, sound: bool, sink: &mut Sink) -> Option<Spec> {
    let parsed: Result<Spec, _> = serde_path_to_error::deserialize(node.to_yaml(false));
    match parsed {
        Ok(spec) => Some(spec),
        Err(error) if sound && sink.errors() == 0 => {
            // The checks of form come from the same types; what they miss is a defect, but the user gets an error. Where
            // something was said before (a misspelt key of a profile), this would say it again at no place.
            let wrong = Diagnostic::error(format!("`{}` does not fit: {}", error.path(), error.inner()));
            sink.push(wrong.at(&node.mark, ""));
            None
        }
        Err(_) => Some(salvaged(node)),
    }
}

fn salvaged(node: &Node) -> Spec {
    fn section<T: serde::de::DeserializeOwned>(node: &Node, key: &str) -> BTreeMap<String, T> {
        let read = |entry: &Entry| {
            Some((
                entry.key.clone(),
                serde_yaml::from_value(entry.value.to_yaml(false)).ok()?,
            ))
        };
        node.get(key)
            .map(Node::entries)
            .unwrap_or_default()
            .iter()
            .filter_map(read)
            .collect()
    }
    let text = |key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    Spec {
        version: 1,
        name: text("name"),
        description: text("description"),
        include: Value::Null,
        vars: section(node, "vars"),
        defaults: section(node, "defaults"),
        models: section::<ModelEntry>(node, "models"),
        stages: section::<StageEntry>(node, "stages"),
        figures: section::<FigureEntry>(node, "figures"),
        profiles: BTreeMap::new(),
        executors: BTreeMap::new(),
    }
}

fn model(name: &str, entry: &ModelEntry) -> ModelSpec {
    let mut settings = match serde_json::to_value(entry) {
        Ok(Value::Object(settings)) => settings,
        _ => Map::new(),
    };
    settings.remove("source");
    settings.remove("labels");
    ModelSpec {
        name: name.to_owned(),
        source: entry.source.clone(),
        labels: entry.labels.clone(),
        settings,
    }
}
