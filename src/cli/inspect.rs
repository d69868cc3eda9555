//! `graph`, `config`, `schema` and `doctor`.

use std::fmt::Write as _;

use petgraph::visit::EdgeRef as _;
use serde_json::{Value, json};

use super::failure::{Exit, Failure};
use super::project::Project;
use super::{DoctorArgs, GraphArgs, GraphFormat, SpecArgs, print};
use crate::catalogue::catalogue;

/// Nodes with their names and kinds, and edges between them.
struct Drawing {
    nodes: Vec<(String, String)>,
    edges: Vec<(usize, usize, String)>,
}

/// Prints the DAG.
pub fn graph(args: &GraphArgs) -> Result<Exit, Failure> {
    let project = Project::compile(&args.spec)?;
    let pipeline = &project.pipeline;
    let drawing = if args.tasks {
        let kind = |task: &fracture_language::Task| (task.name.clone(), task.declaration.name.to_owned());
        let edges = pipeline.graph.edge_references();
        Drawing {
            nodes: pipeline.tasks.iter().map(kind).collect(),
            edges: edges
                .map(|edge| (edge.source().index(), edge.target().index(), String::new()))
                .collect(),
        }
    } else {
        let edges = pipeline.stages.iter().enumerate().flat_map(|(index, stage)| {
            stage
                .needs
                .iter()
                .map(move |need| (need.stage, index, need.output.clone().unwrap_or_default()))
        });
        Drawing {
            nodes: pipeline
                .stages
                .iter()
                .map(|stage| (stage.name.clone(), stage.declaration.name.to_owned()))
                .collect(),
            edges: edges.collect(),
        }
    };
    print(&match args.format {
        GraphFormat::Mermaid => drawing.mermaid(),
        GraphFormat::Dot => drawing.dot(),
        GraphFormat::Json => drawing.json(),
    })?;
    Ok(Exit::Done)
}

impl Drawing {
    fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        for (index, (name, kind)) in self.nodes.iter().enumerate() {
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
        for (index, (name, kind)) in self.nodes.iter().enumerate() {
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
            .map(|(name, kind)| json!({ "name": name, "uses": kind }))
            .collect();
        let edges = self.edges.iter().map(|(from, to, output)| {
            let output = if output.is_empty() { Value::Null } else { json!(output) };
            json!({ "from": self.nodes[*from].0, "to": self.nodes[*to].0, "output": output })
        });
        let edges: Vec<Value> = edges.collect();
        format!(
            "{}\n",
            serde_json::to_string_pretty(&json!({ "nodes": nodes, "edges": edges })).unwrap_or_default()
        )
    }
}

/// Prints the resolved pipeline.
pub fn config(args: &SpecArgs, as_json: bool) -> Result<Exit, Failure> {
    let project = Project::compile(args)?;
    let resolved = &project.pipeline.resolved;
    let told = |error: String| fracture_stage::Error::internal("the resolved pipeline can not be printed").cause(error);
    let text = if as_json {
        let value = serde_json::to_string_pretty(resolved).map_err(|error| told(error.to_string()))?;
        format!("{value}\n")
    } else {
        serde_yaml::to_string(resolved).map_err(|error| told(error.to_string()))?
    };
    print(&text)?;
    Ok(Exit::Done)
}

/// Prints the JSON Schema of pipelines.
pub fn schema() -> Result<Exit, Failure> {
    let schema = fracture_language::json_schema(&catalogue());
    print(&format!(
        "{}\n",
        serde_json::to_string_pretty(&schema).unwrap_or_default()
    ))?;
    Ok(Exit::Done)
}

/// Checks what fracture needs from this machine.
pub fn doctor(args: &DoctorArgs, as_json: bool) -> Result<Exit, Failure> {
    let checks = [onnx_runtime(args.offline), cpu(), cache_folder()];
    let good = checks.iter().all(|check| check["ok"].as_bool() == Some(true));
    let mut text = String::new();
    if as_json {
        text = format!(
            "{}\n",
            serde_json::to_string_pretty(&Value::Array(checks.to_vec())).unwrap_or_default()
        );
    } else {
        for check in &checks {
            let mark = if check["ok"].as_bool() == Some(true) {
                "ok  "
            } else {
                "FAIL"
            };
            let word = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
            let _ = writeln!(text, "{mark} {}: {}", word("check"), word("detail"));
            if !word("hint").is_empty() {
                let _ = writeln!(text, "     hint: {}", word("hint"));
            }
        }
    }
    print(&text)?;
    Ok(if good { Exit::Done } else { Exit::Failed })
}

fn onnx_runtime(offline: bool) -> Value {
    match fracture_judge::stage::check_runtime(offline) {
        Ok(detail) => json!({ "check": "onnxruntime", "ok": true, "detail": detail, "hint": null }),
        Err(error) => {
            let detail = std::iter::once(&error.message)
                .chain(&error.causes)
                .cloned()
                .collect::<Vec<_>>()
                .join("; ");
            json!({ "check": "onnxruntime", "ok": false, "detail": detail, "hint": error.hint })
        }
    }
}

fn cpu() -> Value {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let detail = format!("{}, {cores} threads", crate::engine::publish::cpu_class());
    json!({ "check": "cpu", "ok": true, "detail": detail, "hint": null })
}

fn cache_folder() -> Value {
    let folder = crate::engine::workspace::user_cache();
    match std::fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder).map(drop)) {
        Ok(()) => json!({ "check": "cache folder", "ok": true, "detail": folder.display().to_string(), "hint": null }),
        Err(error) => json!({
            "check": "cache folder", "ok": false, "detail": format!("{}: {error}", folder.display()),
            "hint": "make it writable, or set XDG_CACHE_HOME",
        }),
    }
}
