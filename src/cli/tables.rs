//! Tables: `show`, `export`, and those that a run ends with.

use std::sync::Arc;

use fracture_language::Task;
use fracture_stage::Error;
use serde_json::Value;

use super::failure::{Exit, Failure, printable};
use super::project::Project;
use super::{ExportArgs, ShowArgs, print};
use crate::engine::Workspace;
use crate::engine::join::join;
use crate::engine::plan::Plan;
use crate::engine::views::OutputSpec;

/// Rows that `show` prints when not told otherwise.
const ROWS: usize = 40;

/// Prints a stage's table.
pub fn show(args: &ShowArgs, json: bool) -> Result<Exit, Failure> {
    let (project, workspace, plan) = Project::planned(&args.spec)?;
    let outputs = outputs(&project, &plan, &args.stage)?;
    let batch = join(&outputs, args.columns.as_deref(), &workspace)?;
    let text = if json {
        let mut rows = fracture_table::to_json(std::slice::from_ref(&batch));
        rows.truncate(args.rows.unwrap_or(usize::MAX));
        format!(
            "{}\n",
            serde_json::to_string_pretty(&Value::Array(rows)).unwrap_or_default()
        )
    } else {
        display(&batch, args.rows.unwrap_or(ROWS))
    };
    print(&text)?;
    Ok(Exit::Done)
}

/// Writes a stage's table to a file.
pub fn export(args: &ExportArgs, json: bool) -> Result<Exit, Failure> {
    let format = fracture_table::Format::of(&args.to)?;
    let (project, workspace, plan) = Project::planned(&args.spec)?;
    let outputs = outputs(&project, &plan, &args.stage)?;
    let batch = join(&outputs, args.columns.as_deref(), &workspace)?;
    let folder = args.to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let made = folder.filter(|folder| !folder.exists());
    fracture_table::export(std::slice::from_ref(&batch), &args.to, format)?;
    if !json {
        if let Some(folder) = made {
            eprintln!("made the folder {}", folder.display());
        }
        eprintln!(
            "{} rows, {} columns -> {}",
            batch.num_rows(),
            batch.num_columns(),
            args.to.display()
        );
    }
    Ok(Exit::Done)
}

fn display(batch: &arrow::record_batch::RecordBatch, rows: usize) -> String {
    let width = terminal_width();
    printable(&fracture_table::display(std::slice::from_ref(batch), rows, width))
}

/// The width of the terminal on stdout; wide when it is a pipe.
fn terminal_width() -> usize {
    use std::io::IsTerminal as _;
    if !std::io::stdout().is_terminal() {
        return 400;
    }
    rustix::termios::tcgetwinsize(std::io::stdout())
        .map_or(120, |size| usize::from(size.ws_col))
        .max(40)
}

/// The tables of a stage's tasks, which must all be there.
pub fn outputs(project: &Project, plan: &Plan, name: &str) -> Result<Vec<Arc<OutputSpec>>, Failure> {
    let pipeline = &project.pipeline;
    // A stage's name has no dot, so what follows one is a side output; `figures.NAME` has one of its own.
    let (stage, output) = match (pipeline.stage(name), name.rsplit_once('.')) {
        (Some(_), _) | (None, None) => (name, None),
        (None, Some((stage, output))) => (stage, Some(output)),
    };
    let Some(node) = pipeline.stage(stage) else {
        let names: Vec<&str> = pipeline.stages.iter().map(|stage| stage.name.as_str()).collect();
        let near = names
            .iter()
            .find(|other| strsim::damerau_levenshtein(other, stage) <= 2);
        let hint = near.map_or_else(
            || format!("the stages are {}", names.join(", ")),
            |near| format!("there is a stage `{near}`"),
        );
        return Err(Error::pipeline(format!("there is no stage `{stage}`"))
            .hint(hint)
            .into());
    };
    let mut outputs = Vec::with_capacity(node.tasks.len());
    for id in &node.tasks {
        let task = &pipeline.tasks[id.0 as usize];
        let Some(result) = &plan.tasks[id.0 as usize].result else {
            return Err(
                Error::pipeline(format!("the result of `{}` is not there yet", task.name))
                    .hint(format!(
                        "`fracture run {}` computes it",
                        project.pipeline.path.display()
                    ))
                    .into(),
            );
        };
        let Some(found) = result.output(output) else {
            let names: Vec<&str> = result.outputs().iter().map(|(name, _)| name.as_str()).collect();
            return Err(
                Error::pipeline(format!("`{stage}` has no output `{}`", output.unwrap_or_default()))
                    .hint(format!("its outputs are {}", names.join(", ")))
                    .into(),
            );
        };
        outputs.push(Arc::clone(found));
    }
    Ok(outputs)
}

/// The table that a figure `plot: table` shows, as a terminal shows it; `None` for other figures and where it is not there.
///
/// # Errors
/// When what it shows can not be read.
pub fn figure(task: &Task, workspace: &Workspace, plan: &Plan) -> Result<Option<String>, Error> {
    if task.with.get("plot").and_then(Value::as_str) != Some("table") {
        return Ok(None);
    }
    let sources = task.inputs.iter().flat_map(|connection| &connection.sources);
    let outputs: Option<Vec<Arc<OutputSpec>>> = sources
        .map(|source| {
            let result = plan.tasks[source.task.index()].result.as_ref()?;
            result.output(source.output.as_deref()).cloned()
        })
        .collect();
    let Some(outputs) = outputs else { return Ok(None) };
    let batch = join(&outputs, None, workspace)?;
    let shown = fracture_figure::terminal_table(&task.with, &batch)?;
    Ok(Some(display(&shown, ROWS)))
}
