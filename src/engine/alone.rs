//! Runs one task from its manifest alone: no pipeline, no plan, no row memo. This is what another process on another
//! machine would do, and what `verify` does to see whether a recorded result comes out again.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use fracture_cache::Digest;
use fracture_cache::digest::{Lineage, Row};
use fracture_stage::stage::{RowState, RowWise};
use fracture_stage::{
    Declaration, Error, Inputs, Open, Outcome, Output, Product, Request, RowError, Shape, Ticket, Work,
};

use super::plan::open_inputs;
use super::publish::{input_rows, with_parent};
use super::workspace::Workspace;
use super::{TaskManifest, keys};

/// How surroundings are used.
#[derive(Debug, Clone, Copy)]
pub struct AloneOptions {
    /// Threads that the task may use.
    pub threads: usize,
    /// Fetch nothing.
    pub offline: bool,
}

/// Builds and runs a task. Reads inputs from the store, writes nothing.
///
/// # Errors
/// When the task can not be built or fails; a row that fails makes the task fail.
pub fn execute(
    manifest: &TaskManifest,
    workspace: &Workspace,
    catalogue: &[Declaration],
    options: AloneOptions,
) -> Result<Product, Error> {
    let (declaration, stage) = manifest.build(catalogue)?;
    let inputs = open_inputs(stage.as_ref(), &manifest.inputs, workspace);
    // Stages look at their files when they are planned; a task that is built anew has to look again.
    let files = workspace.files(stage.as_ref())?;
    let cancelled = AtomicBool::new(false);
    let open = Open {
        threads: options.threads,
        offline: options.offline,
        cancelled: &cancelled,
        note: &|_| {},
        progress: &|_, _| {},
        files: &workspace.disk,
    };
    let mut product = match stage.work() {
        Work::Whole(whole) => whole.run(&inputs, &open)?,
        Work::Rows(rows) => {
            let lineage = keys::lineage(stage.as_ref(), rows, &files);
            run_rows(rows, &inputs, &lineage, &open)?
        }
    };
    if declaration.shape == Shape::Map
        && let Output::Table { batch, parent } = &mut product.outputs.main
    {
        *batch = with_parent(batch, parent.as_deref(), input_rows(&inputs), declaration.name)?;
        *parent = None;
    }
    Ok(product)
}

fn run_rows(rows: &dyn RowWise, inputs: &Inputs, lineage: &Digest<Lineage>, open: &Open<'_>) -> Result<Product, Error> {
    let plan = rows.plan(inputs, open)?;
    let keys: Vec<Digest<Row>> = plan
        .requests
        .iter()
        .map(|request| keys::row(lineage, &request.key))
        .collect();
    let mut distinct: Vec<(Digest<Row>, &Request)> = Vec::new();
    let mut tickets: HashMap<Digest<Row>, usize> = HashMap::new();
    for (key, request) in keys.iter().zip(&plan.requests) {
        tickets.entry(*key).or_insert_with(|| {
            distinct.push((*key, request));
            distinct.len() - 1
        });
    }
    let mut outcomes: HashMap<Digest<Row>, Outcome> = HashMap::new();
    if !distinct.is_empty() {
        let mut executor = rows.open(open)?;
        let mut next = 0;
        let mut inside = 0;
        while next < distinct.len() || inside > 0 {
            while next < distinct.len() && (inside == 0 || distinct[next].1.cost <= executor.room()) {
                executor.submit(Ticket(next as u64), distinct[next].1.clone())?;
                next += 1;
                inside += 1;
            }
            executor.step(next < distinct.len(), &mut |ticket, outcome| {
                inside -= 1;
                outcomes.insert(distinct[ticket.0 as usize].0, outcome);
            })?;
        }
    }
    let lost = RowError {
        message: "the executor lost the row".to_owned(),
    };
    let state = |request: &Option<u32>| match request.map(|request| outcomes.get(&keys[request as usize])) {
        None => RowState::Absent,
        Some(Some(Outcome::Raw(raw))) => RowState::Raw(raw),
        Some(Some(Outcome::Failed(error))) => RowState::Failed(error),
        Some(None) => RowState::Failed(&lost),
    };
    let states: Vec<RowState<'_>> = plan.rows.iter().map(state).collect();
    rows.finish(inputs, &plan, &states)
}
