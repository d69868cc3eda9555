//! From text to pipeline.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fracture_stage::{Declaration, Files, ModelSpec};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::build::{Builder, Given};
use crate::diagnostic::{Diagnostic, Diagnostics, Sink};
use crate::front::{self, Document};
use crate::order;
use crate::parameters::check_collisions;
use crate::pipeline::{CompileOptions, Pipeline, StageNeed, StageNode, Task, TaskId};
use crate::place::Places;
use crate::stages::{self, StageDraft};

/// Compiles a pipeline. Nothing runs and no model is opened; stages may read headers through `files`.
///
/// # Errors
/// Everything that is wrong with the file, at once.
pub fn compile(
    path: &Path,
    text: &str,
    catalogue: &[Declaration],
    files: &dyn Files,
    root: &Path,
    options: &CompileOptions<'_>,
) -> Result<Pipeline, Diagnostics> {
    let mut sink = Sink::default();
    let Some(document) = front::read(path, text, files, root, options, &mut sink) else {
        return Err(sink.finish().err().unwrap_or_default());
    };
    let drafts = stages::read(&document, catalogue, &mut sink);
    if drafts.is_empty() && sink.errors() == 0 {
        let nothing = Diagnostic::error("the pipeline has no stages").at(&document.root.mark, "");
        sink.push(nothing.hint("add `stages:` with at least one stage"));
    }
    check_collisions(&drafts, &mut sink);
    let order = order::order(&drafts, &mut sink);
    let (models, vars) = (Arc::new(document.models.clone()), Arc::new(document.vars.clone()));
    let given = Given {
        files,
        root,
        models: &models,
        written_models: document.root.get("models"),
        vars: &vars,
        max_tasks: options.max_tasks,
    };
    let mut builder = Builder::new(&drafts, &given, &mut sink);
    builder.build(&order);
    builder.unused();
    let of_stage: Vec<Vec<TaskId>> = (0..drafts.len())
        .map(|stage| builder.tasks_of(stage).to_vec())
        .collect();
    let tasks = std::mem::take(&mut builder.tasks);
    drop(builder);
    let warnings = sink.finish()?;
    Ok(assemble(
        path, root, options, document, models, drafts, of_stage, tasks, warnings,
    ))
}

/// The document of a pipeline after include, profiles, `--set` and substitution; `${matrix.…}` stays. It compiles to the same
/// tasks. Nothing but its form is checked.
///
/// # Errors
/// What is wrong with its form.
pub fn resolve(
    path: &Path,
    text: &str,
    files: &dyn Files,
    root: &Path,
    options: &CompileOptions<'_>,
) -> Result<serde_yaml::Value, Diagnostics> {
    let mut sink = Sink::default();
    let document = front::read(path, text, files, root, options, &mut sink);
    sink.finish()?;
    let nothing = || Diagnostic::error("the pipeline has no content").into();
    document.map(|document| document.root.to_yaml(true)).ok_or_else(nothing)
}

#[allow(clippy::too_many_arguments)]
fn assemble(
    path: &Path,
    root: &Path,
    options: &CompileOptions<'_>,
    document: Document,
    models: Arc<BTreeMap<String, ModelSpec>>,
    drafts: Vec<StageDraft>,
    of_stage: Vec<Vec<TaskId>>,
    tasks: Vec<Task>,
    warnings: Vec<Diagnostic>,
) -> Pipeline {
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let graph = graph(&tasks);
    let mut stages = Vec::with_capacity(drafts.len());
    let mut written = Vec::with_capacity(drafts.len());
    for (draft, tasks) in drafts.into_iter().zip(of_stage) {
        if let Some(node) = node(&draft, tasks) {
            stages.push(node);
            written.push((draft.name, draft.mark, Arc::new(draft.with)));
        }
    }
    let places = Places::new(written, document.root.get("models").cloned().map(Arc::new));
    Pipeline {
        name: document.spec.name.unwrap_or(stem),
        description: document.spec.description,
        path: path.to_owned(),
        root: root.to_owned(),
        stages,
        tasks,
        graph,
        models,
        warnings,
        profiles: options.profiles.clone(),
        places,
    }
}

fn node(draft: &StageDraft, tasks: Vec<TaskId>) -> Option<StageNode> {
    let need = |need: &stages::NeedDraft| {
        let port = need.port.clone();
        let of = move |source: &stages::Reference| StageNeed {
            port: port.clone(),
            stage: source.stage,
            output: source.output.clone(),
        };
        need.sources.iter().map(of).collect::<Vec<_>>()
    };
    Some(StageNode {
        name: draft.name.clone(),
        declaration: draft.declaration?,
        description: draft.description.clone(),
        figure: draft.figure,
        tasks,
        needs: draft.needs.iter().flat_map(need).collect(),
        at: draft.mark.location(),
    })
}

fn graph(tasks: &[Task]) -> DiGraph<TaskId, ()> {
    let edges = tasks
        .iter()
        .flat_map(|task| task.inputs.iter())
        .map(|input| input.sources.len())
        .sum();
    let mut graph = DiGraph::with_capacity(tasks.len(), edges);
    for task in tasks {
        let consumer = graph.add_node(task.id);
        for source in task.inputs.iter().flat_map(|input| &input.sources) {
            graph.add_edge(NodeIndex::new(source.task.index()), consumer, ());
        }
    }
    graph
}
