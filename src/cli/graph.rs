//! `graph`: the DAG as Mermaid, Graphviz, SVG and JSON.

mod svg;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fracture_language::{Pipeline, Task};
use fracture_stage::Error;
use petgraph::visit::EdgeRef as _;
use serde_json::{Value, json};

use super::failure::{Exit, Failure};
use super::project::Project;
use super::{GraphArgs, GraphFormat, print};
use crate::engine::plan::{Plan, State};

/// More boxes than this are no picture, and placing them takes too long.
const MOST: usize = 400;

/// A stage or a task.
struct Node {
    /// Its name.
    name: String,
    /// Its kind.
    kind: String,
    /// Its tasks.
    tasks: usize,
    /// What a run would do with its tasks; `None` without a store.
    states: Option<[usize; 3]>,
}

/// Boxes and edges between them, each with the side outputs that it carries.
struct Drawing {
    nodes: Vec<Node>,
    edges: Vec<(usize, usize, String)>,
}

/// Prints the DAG.
pub fn graph(args: &GraphArgs) -> Result<Exit, Failure> {
    let project = Project::compile(&args.spec)?;
    // Only the picture shows what a run would do; a store that is not there is not made for it.
    let plan = if args.format == GraphFormat::Svg && project.has_store() {
        let workspace = project.open()?;
        Some(project.plan(&workspace)?)
    } else {
        None
    };
    let drawing = if args.tasks {
        Drawing::of_tasks(&project.pipeline, plan.as_ref())
    } else {
        Drawing::of_stages(&project.pipeline, plan.as_ref())
    };
    print(&match args.format {
        GraphFormat::Mermaid => drawing.mermaid(),
        GraphFormat::Dot => drawing.dot(),
        GraphFormat::Json => drawing.json(),
        GraphFormat::Svg => {
            let count = drawing.nodes.len();
            if count > MOST {
                let what = format!("a picture of {count} boxes can not be read, and is not drawn");
                let hint = format!("at most {MOST}: leave out --tasks, or draw `--format dot` with Graphviz");
                return Err(Error::pipeline(what).hint(hint).into());
            }
            svg::draw(&drawing)
        }
    })?;
    Ok(Exit::Done)
}

fn states<'a>(plan: Option<&Plan>, tasks: impl Iterator<Item = &'a Task>) -> Option<[usize; 3]> {
    let plan = plan?;
    let mut counts = [0; 3];
    for task in tasks {
        counts[plan.tasks[task.id.index()].state as usize] += 1;
    }
    Some(counts)
}

impl Node {
    /// What a run would do with it, the most urgent first.
    fn state(&self) -> Option<State> {
        let counts = self.states?;
        let has = |state: State| counts[state as usize] > 0;
        [State::Run, State::Pending, State::Cached]
            .into_iter()
            .find(|state| has(*state))
    }
}

impl Drawing {
    fn of_stages(pipeline: &Pipeline, plan: Option<&Plan>) -> Self {
        let node = |stage: &fracture_language::StageNode| Node {
            name: stage.name.clone(),
            kind: stage.declaration.name.to_owned(),
            tasks: stage.tasks.len(),
            states: states(plan, stage.tasks.iter().map(|id| pipeline.task(*id))),
        };
        let edges = pipeline.stages.iter().enumerate().flat_map(|(index, stage)| {
            let needs = stage.needs.iter();
            needs.map(move |need| (need.stage, index, need.output.clone().unwrap_or_default()))
        });
        Self {
            nodes: pipeline.stages.iter().map(node).collect(),
            edges: edges.collect(),
        }
    }

    fn of_tasks(pipeline: &Pipeline, plan: Option<&Plan>) -> Self {
        let node = |task: &Task| Node {
            name: task.name.clone(),
            kind: task.declaration.name.to_owned(),
            tasks: 1,
            states: states(plan, std::iter::once(task)),
        };
        let edges = pipeline.graph.edge_references();
        Self {
            nodes: pipeline.tasks.iter().map(node).collect(),
            edges: edges
                .map(|edge| (edge.source().index(), edge.target().index(), String::new()))
                .collect(),
        }
    }

    /// The edges with each pair of boxes once.
    fn pairs(&self) -> BTreeMap<(usize, usize), Vec<&str>> {
        let mut pairs: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
        for (from, to, output) in &self.edges {
            let labels = pairs.entry((*from, *to)).or_default();
            if !output.is_empty() && !labels.contains(&output.as_str()) {
                labels.push(output);
            }
        }
        pairs
    }

    fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        for (index, Node { name, kind, .. }) in self.nodes.iter().enumerate() {
            let label = format!("{name}<br/><i>{kind}</i>").replace('"', "#quot;");
            let _ = writeln!(text, "  n{index}[\"{label}\"]");
        }
        for (from, to, output) in &self.edges {
            let label = if output.is_empty() {
                String::new()
            } else {
                format!("|{output}|")
            };
            let _ = writeln!(text, "  n{from} -->{label} n{to}");
        }
        text
    }

    fn dot(&self) -> String {
        let mut text = "digraph pipeline {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        for (index, Node { name, kind, .. }) in self.nodes.iter().enumerate() {
            let _ = writeln!(text, "  n{index} [label=\"{}\\n{}\"];", quoted(name), quoted(kind));
        }
        for (from, to, output) in &self.edges {
            let _ = writeln!(text, "  n{from} -> n{to} [label=\"{}\"];", quoted(output));
        }
        text.push_str("}\n");
        text
    }

    fn json(&self) -> String {
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .map(|node| json!({ "name": node.name, "uses": node.kind }))
            .collect();
        let edges = self.edges.iter().map(|(from, to, output)| {
            let output = if output.is_empty() { Value::Null } else { json!(output) };
            json!({ "from": self.nodes[*from].name, "to": self.nodes[*to].name, "output": output })
        });
        let edges: Vec<Value> = edges.collect();
        format!(
            "{}\n",
            serde_json::to_string_pretty(&json!({ "nodes": nodes, "edges": edges })).unwrap_or_default()
        )
    }
}
