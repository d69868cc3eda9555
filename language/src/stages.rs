//! Stages and figures as the file has them: kinds, needs, matrix.

use std::collections::HashMap;

use fracture_stage::{Declaration, Shape};

use crate::diagnostic::{Diagnostic, Sink};
use crate::front::Document;
use crate::matrix::Matrix;
use crate::names::suggestion;
use crate::overlay::merge;
use crate::parameters::subject;
use crate::source::Mark;
use crate::spread;
use crate::timeout;
use crate::tree::{Entry, Node, Tree};

/// A stage or a figure.
pub struct StageDraft {
    /// Its name; `figures.NAME` for a figure.
    pub name: String,
    /// Its key in the file.
    pub mark: Mark,
    /// Its kind and where that is said; `None` when the kind is unknown.
    pub declaration: Option<Declaration>,
    /// `description:`.
    pub description: Option<String>,
    /// Whether it is a figure.
    pub figure: bool,
    /// What it needs.
    pub needs: Vec<NeedDraft>,
    /// Its matrix; `None` when it can not be used.
    pub matrix: Option<Matrix>,
    /// The variables that its matrix names, usable or not; `None` when they can not be told.
    pub written_variables: Option<Vec<String>>,
    /// Whether everything that it needs is known.
    pub needs_known: bool,
    /// `per:`.
    pub per: Vec<(String, Mark)>,
    /// Its parameters.
    pub with: Node,
    /// Something about it is wrong and was said, so that it can not be expanded.
    pub broken: bool,
}

/// What fills a port.
#[derive(Clone)]
pub struct NeedDraft {
    /// The port.
    pub port: String,
    /// The stages; several are joined.
    pub sources: Vec<Reference>,
    /// Whether it was written as a list, which adds the column `stage`.
    pub list: bool,
}

/// A reference to a stage.
#[derive(Clone)]
pub struct Reference {
    /// The stage, an index.
    pub stage: usize,
    /// Its side output.
    pub output: Option<String>,
    /// Where it is said.
    pub mark: Mark,
}

/// Kinds of the language that a version may lack.
const KINDS: [&str; 16] = [
    "load",
    "prompt",
    "generate",
    "judge",
    "embed",
    "calibrate",
    "agreement",
    "threshold",
    "fracture",
    "landscape",
    "frontier",
    "flow",
    "stackelberg",
    "query",
    "command",
    "tune",
];

/// Reads all stages and figures.
pub fn read(document: &Document, catalogue: &[Declaration], sink: &mut Sink) -> Vec<StageDraft> {
    let section = |name: &str| document.root.get(name).map(Node::entries).unwrap_or_default();
    let mut stages: Vec<StageDraft> = Vec::new();
    for entry in section("stages") {
        stages.push(stage(entry, document, catalogue, sink));
    }
    for entry in section("figures") {
        stages.push(figure(entry, catalogue, sink));
    }
    let index: HashMap<String, usize> = stages
        .iter()
        .enumerate()
        .map(|(place, stage)| (stage.name.clone(), place))
        .collect();
    let written = section("stages").iter().map(|entry| entry.value.entry("needs"));
    let written: Vec<Option<&Entry>> = written
        .chain(section("figures").iter().map(|entry| entry.value.entry("from")))
        .collect();
    for (place, needs) in written.iter().enumerate() {
        let read = needs_of(&stages[place], *needs, &index, &stages, sink);
        let stage = &mut stages[place];
        match read {
            Some(needs) => stage.needs = needs,
            None => {
                stage.broken = true;
                stage.needs_known = false;
            }
        }
    }
    unknown_defaults(section("defaults"), catalogue, sink);
    stages
}

fn unknown_defaults(defaults: &[Entry], catalogue: &[Declaration], sink: &mut Sink) {
    for entry in defaults {
        if !catalogue.iter().any(|kind| kind.name == entry.key) {
            let known = catalogue.iter().map(|kind| kind.name);
            let wrong = Diagnostic::error(format!("`defaults` for the unknown stage kind `{}`", entry.key));
            sink.push(wrong.at(&entry.mark, suggestion(&entry.key, known, "stage kinds")));
        }
    }
}

fn kind_of(node: &Node, catalogue: &[Declaration], sink: &mut Sink) -> Option<Declaration> {
    let uses = node.get("uses")?;
    let name = uses.text()?;
    if let Some(found) = catalogue.iter().find(|kind| kind.name == name && name != "figure") {
        return Some(*found);
    }
    if KINDS.contains(&name) {
        sink.push(
            Diagnostic::error(format!("the stage kind `{name}` is not in this version")).at(&uses.mark, "comes later"),
        );
        return None;
    }
    let known = catalogue.iter().map(|kind| kind.name).filter(|kind| *kind != "figure");
    let wrong = Diagnostic::error(format!("there is no stage kind `{name}`"));
    sink.push(wrong.at(&uses.mark, suggestion(name, known, "stage kinds")));
    None
}

fn stage(entry: &Entry, document: &Document, catalogue: &[Declaration], sink: &mut Sink) -> StageDraft {
    let node = &entry.value;
    let declaration = kind_of(node, catalogue, sink);
    let empty = Node::new(Tree::Map(Vec::new()), &entry.mark);
    let own = node
        .get("with")
        .filter(|with| matches!(with.tree, Tree::Map(_)))
        .unwrap_or(&empty);
    let defaults = declaration.and_then(|kind| document.root.get("defaults")?.get(kind.name));
    let with = defaults.map_or_else(
        || own.clone(),
        |defaults| Node {
            mark: own.mark.clone(),
            ..merge(defaults, own)
        },
    );
    let with = Node::new(
        with.tree,
        if own.entries().is_empty() {
            &entry.mark
        } else {
            &own.mark
        },
    );
    let declaration = declaration.map(|kind| Declaration {
        shape: shape(kind, &with, sink),
        ..kind
    });
    let (with, matrix) = spread::put(&entry.key, declaration, with, node.get("matrix"), sink);
    let spec = document.spec.stages.get(&entry.key);
    // A stage with a misspelt key may have meant a matrix.
    let written_variables = matrix.as_ref().map_or(Some(Vec::new()), Matrix::written);
    let written_variables = written_variables.filter(|_| spec.is_some());
    let matrix = match &matrix {
        Some(matrix) => Matrix::read(matrix, sink),
        None => Some(Matrix::default()),
    };
    let with = match (node.entry("timeout"), declaration) {
        (Some(timeout), Some(kind)) => timeout::put(with, timeout, own, &entry.key, kind, sink),
        _ => with,
    };
    let mut draft = StageDraft {
        name: entry.key.clone(),
        mark: entry.mark.clone(),
        declaration,
        description: spec.and_then(|spec| spec.description.clone()),
        figure: false,
        needs: Vec::new(),
        broken: declaration.is_none() || matrix.is_none() || spec.is_none(),
        matrix,
        written_variables,
        needs_known: true,
        per: Vec::new(),
        with,
    };
    draft.per = per(node, &draft, sink);
    draft
}

/// The shape of a stage, which for some kinds a parameter says. It decides which tasks there are, so no task can choose it.
fn shape(kind: Declaration, with: &Node, sink: &mut Sink) -> Shape {
    let chosen = with.get("shape").filter(|_| kind.shape == Shape::Either);
    if let Some(node) = chosen.filter(|node| matches!(node.tree, Tree::Template(_))) {
        let wrong = Diagnostic::error("`shape` can not depend on the matrix: it decides which tasks there are");
        sink.push(wrong.at(&node.mark, "say `map` or `reduce`"));
    }
    kind.shape.chosen(chosen.and_then(Node::text))
}

fn per(node: &Node, stage: &StageDraft, sink: &mut Sink) -> Vec<(String, Mark)> {
    let Some(per) = node.entry("per") else {
        return Vec::new();
    };
    if let Some(kind) = stage.declaration.filter(|kind| kind.shape != Shape::Reduce) {
        let wrong = Diagnostic::error(format!(
            "stage `{}`: `per` is for stages that reduce, `{}` does not",
            stage.name, kind.name
        ));
        sink.push(
            wrong
                .at(&per.mark, "not here")
                .hint("a map stage runs once per task of what it needs anyway"),
        );
        return Vec::new();
    }
    let names: Vec<&Node> = match &per.value.tree {
        Tree::List(items) => items.iter().collect(),
        _ => vec![&per.value],
    };
    names
        .iter()
        .filter_map(|name| Some((name.text()?.to_owned(), name.mark.clone())))
        .collect()
}

fn figure(entry: &Entry, catalogue: &[Declaration], sink: &mut Sink) -> StageDraft {
    let declaration = catalogue.iter().find(|kind| kind.name == "figure").copied();
    if declaration.is_none() {
        sink.push(Diagnostic::error("figures are not in this version").at(&entry.mark, "comes later"));
    }
    let name = Entry {
        key: "name".to_owned(),
        mark: entry.mark.clone(),
        value: Node::new(Tree::Text(entry.key.clone()), &entry.mark),
    };
    let own = entry
        .value
        .entries()
        .iter()
        .filter(|one| one.key != "from" && one.key != "description");
    let description = entry.value.get("description").and_then(Node::text).map(str::to_owned);
    StageDraft {
        name: format!("figures.{}", entry.key),
        mark: entry.mark.clone(),
        declaration,
        description,
        figure: true,
        needs: Vec::new(),
        matrix: Some(Matrix::default()),
        written_variables: Some(Vec::new()),
        needs_known: true,
        per: Vec::new(),
        with: Node::new(Tree::Map(own.cloned().chain([name]).collect()), &entry.value.mark),
        broken: declaration.is_none() || !matches!(entry.value.tree, Tree::Map(_)),
    }
}

fn needs_of(
    stage: &StageDraft,
    needs: Option<&Entry>,
    index: &HashMap<String, usize>,
    stages: &[StageDraft],
    sink: &mut Sink,
) -> Option<Vec<NeedDraft>> {
    let errors = sink.errors();
    let mut read: Vec<NeedDraft> = Vec::new();
    if let Some(entry) = needs {
        let resolve = |node: &Node, sink: &mut Sink| reference(node, stage, index, stages, sink);
        match &entry.value.tree {
            Tree::Map(ports) => {
                for port in ports {
                    let list = matches!(port.value.tree, Tree::List(_));
                    let written = if list {
                        port.value.items()
                    } else {
                        std::slice::from_ref(&port.value)
                    };
                    let sources = written.iter().filter_map(|one| resolve(one, sink)).collect();
                    check_port(stage, port, sink);
                    read.push(NeedDraft {
                        port: port.key.clone(),
                        sources,
                        list,
                    });
                }
            }
            tree => {
                let list = matches!(tree, Tree::List(_));
                let written = if list {
                    entry.value.items()
                } else {
                    std::slice::from_ref(&entry.value)
                };
                let sources: Vec<Reference> = written.iter().filter_map(|one| resolve(one, sink)).collect();
                read = bare(stage, sources, list, stages, entry, sink);
            }
        }
    }
    if stage.figure && needs.is_none() {
        // Said by the checks of form.
        return None;
    }
    twice(stage, &read, stages, sink);
    if sink.errors() == errors {
        missing_ports(stage, &read, sink);
    }
    (sink.errors() == errors).then_some(read)
}

/// A list that has one table twice would double its rows; of two tables with one name the second would be lost.
fn twice(stage: &StageDraft, needs: &[NeedDraft], stages: &[StageDraft], sink: &mut Sink) {
    let name = |source: &Reference| {
        let name = &stages[source.stage].name;
        source
            .output
            .as_ref()
            .map_or(name.clone(), |output| format!("{name}.{output}"))
    };
    let mut told = |source: &Reference, first: &Reference, message: String, hint: &str| {
        let wrong = Diagnostic::error(format!("{}: {message}", subject(stage)));
        let wrong = wrong.at(&source.mark, "again here").also(&first.mark, "first here");
        sink.push(wrong.hint(hint));
    };
    for need in needs {
        for (place, source) in need.sources.iter().enumerate() {
            let same = |one: &&Reference| one.stage == source.stage && one.output == source.output;
            if let Some(first) = need.sources[..place].iter().find(same) {
                let message = format!("the list names `{}` twice", name(source));
                told(source, first, message, "every row would be there twice: remove one");
            }
        }
    }
    for (place, need) in needs.iter().enumerate() {
        let (Some(before), Some(source)) = (
            needs[..place].iter().find(|one| one.port == need.port),
            need.sources.first(),
        ) else {
            continue;
        };
        let Some(first) = before.sources.first() else { continue };
        let message = match (first.stage, &first.output) == (source.stage, &source.output) {
            true => format!("`{}` is needed twice", name(source)),
            false => format!(
                "`{}` and `{}` both go by the name `{}`",
                name(first),
                name(source),
                need.port
            ),
        };
        told(source, first, message, "give each a name: `needs: { NAME: stage }`");
    }
}

/// A bare name or a list fills the first port; where ports have any name, each table goes by its own.
fn bare(
    stage: &StageDraft,
    sources: Vec<Reference>,
    list: bool,
    stages: &[StageDraft],
    entry: &Entry,
    sink: &mut Sink,
) -> Vec<NeedDraft> {
    let Some(kind) = stage.declaration else {
        return Vec::new();
    };
    if let Some(first) = kind.ports.first() {
        return vec![NeedDraft {
            port: first.name.to_owned(),
            sources,
            list,
        }];
    }
    if !kind.any_ports {
        let wrong = Diagnostic::error(format!(
            "stage `{}`: the kind `{}` needs no stage",
            stage.name, kind.name
        ));
        sink.push(wrong.at(&entry.mark, "remove this"));
        return Vec::new();
    }
    let port = |source: Reference| NeedDraft {
        port: stages[source.stage].name.clone(),
        sources: vec![source],
        list: false,
    };
    sources.into_iter().map(port).collect()
}

fn check_port(stage: &StageDraft, port: &Entry, sink: &mut Sink) {
    let Some(kind) = stage.declaration else { return };
    let known = || kind.ports.iter().map(|port| port.name);
    if kind.any_ports || known().any(|name| name == port.key) {
        return;
    }
    let wrong = Diagnostic::error(format!(
        "stage `{}`: the kind `{}` has no port `{}`",
        stage.name, kind.name, port.key
    ));
    sink.push(wrong.at(&port.mark, suggestion(&port.key, known(), "ports")));
}

fn missing_ports(stage: &StageDraft, needs: &[NeedDraft], sink: &mut Sink) {
    let Some(kind) = stage.declaration else { return };
    let filled = |name: &str| needs.iter().any(|need| need.port == name);
    for port in kind.ports.iter().filter(|port| port.required && !filled(port.name)) {
        let what = if stage.figure { "from" } else { "needs" };
        let wrong = Diagnostic::error(format!(
            "stage `{}`: nothing fills the port `{}` of `{}`",
            stage.name, port.name, kind.name
        ));
        sink.push(wrong.at(
            &stage.mark,
            format!("expected `{what}:` with the stage that gives `{}`", port.name),
        ));
    }
}

fn reference(
    node: &Node,
    stage: &StageDraft,
    index: &HashMap<String, usize>,
    stages: &[StageDraft],
    sink: &mut Sink,
) -> Option<Reference> {
    let written = node.text()?;
    let (name, output) = match written.split_once('.') {
        Some((name, output)) => (name, Some(output)),
        None => (written, None),
    };
    let Some(&found) = index.get(name).filter(|found| !stages[**found].figure) else {
        let known = stages
            .iter()
            .filter(|other| !other.figure && other.name != stage.name)
            .map(|other| other.name.as_str());
        let wrong = Diagnostic::error(format!("there is no stage `{name}`"));
        sink.push(wrong.at(&node.mark, suggestion(name, known, "stages")));
        return None;
    };
    if let (Some(output), Some(kind)) = (output.filter(|output| *output != "main"), stages[found].declaration)
        && !kind.side.contains(&output)
    {
        let wrong = Diagnostic::error(format!("stage `{name}` has no output `{output}`"));
        let hint = suggestion(
            output,
            kind.side.iter().copied(),
            &format!("side outputs of `{}`", kind.name),
        );
        sink.push(wrong.at(&node.mark.narrow(output), hint));
        return None;
    }
    let output = output.filter(|output| *output != "main").map(str::to_owned);
    Some(Reference {
        stage: found,
        output,
        mark: node.mark.clone(),
    })
}
