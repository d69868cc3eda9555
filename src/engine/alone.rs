//! Runs one task from its manifest alone: no pipeline, no plan, no row memo. This is what another process on another
//! machine would do, and what `verify` does to see whether a recorded result comes out again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fracture_cache::digest::{Lineage, Row};
use fracture_cache::{Artifact, ColumnType, Digest, Record, Table, column_digest, column_type};
use fracture_stage::stage::{RowState, RowWise};
use fracture_stage::{
    Declaration, Error, Inputs, Open, Outcome, Output, Product, Request, RowError, Shape, Ticket, Work,
};

use super::publish::{input_rows, with_parent};
use super::views::OutputSpec;
use super::workspace::Workspace;
use super::{TaskManifest, keys, store_error};

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
    let open_spec = |specs: &Vec<OutputSpec>| specs.iter().map(|spec| spec.open(&workspace.store)).collect();
    let inputs = Inputs {
        ports: manifest
            .inputs
            .iter()
            .map(|(port, specs)| (port.clone(), open_spec(specs)))
            .collect(),
    };
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

/// How a result that was computed again compares with the recorded one, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agreement {
    /// Every value is the same, bit for bit.
    Bits,
    /// Texts, tokens, counts and flags are the same; some number differs by at most 1e-5.
    Tolerance,
    /// Something differs.
    Different,
}

impl Agreement {
    /// The word that people read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bits => "bits",
            Self::Tolerance => "tolerance",
            Self::Different => "DIFFERENT",
        }
    }
}

/// How far numbers may be apart that still agree.
const TOLERANCE: f64 = 1e-5;

/// Compares what a task gave now with its record; says what differs first.
///
/// # Errors
/// When the recorded tables can not be read.
pub fn compare(
    record: &Record,
    product: &Product,
    workspace: &Workspace,
) -> Result<(Agreement, Option<String>), Error> {
    let mut worst = (Agreement::Bits, None);
    let mut note = |agreement: Agreement, what: String| {
        if agreement > worst.0 {
            worst = (agreement, Some(what));
        }
    };
    for output in &record.outputs {
        let Some(now) = product.outputs.get(Some(&output.name)) else {
            note(Agreement::Different, format!("output `{}` is gone", output.name));
            continue;
        };
        match (&output.artifact, now) {
            (Artifact::Table(table), Output::Table { batch, .. }) => {
                let columns: Vec<_> = batch
                    .schema()
                    .fields()
                    .iter()
                    .map(|field| field.name().clone())
                    .collect();
                for column in &table.columns {
                    let Some(index) = columns.iter().position(|name| *name == column.name) else {
                        note(Agreement::Different, format!("column `{}` is gone", column.name));
                        continue;
                    };
                    let array = batch.column(index);
                    let kind = column_type(array.data_type()).unwrap_or(column.kind);
                    let digest = column_digest(kind, &[Arc::clone(array)]).map_err(store_error)?;
                    if digest != column.content {
                        note(
                            near(table, &column.name, kind, array, workspace)?,
                            format!("column `{}`", column.name),
                        );
                    }
                }
                if table.rows != batch.num_rows() as u64 || table.columns.len() != columns.len() {
                    note(Agreement::Different, format!("the shape of `{}`", output.name));
                }
            }
            (Artifact::Blob(digest, _), Output::Blob(bytes)) => {
                if *digest != Digest::of(bytes) {
                    note(Agreement::Different, format!("the bytes of `{}`", output.name));
                }
            }
            _ => note(Agreement::Different, format!("the sort of output `{}`", output.name)),
        }
    }
    Ok(worst)
}

fn near(
    table: &Table,
    name: &str,
    kind: ColumnType,
    now: &arrow::array::ArrayRef,
    workspace: &Workspace,
) -> Result<Agreement, Error> {
    use arrow::array::AsArray as _;
    use arrow::datatypes::{DataType, Float64Type};
    if !matches!(kind, ColumnType::F32 | ColumnType::F64) {
        return Ok(Agreement::Different);
    }
    let was = workspace.store.read_column(table, name).map_err(store_error)?;
    let cast = |array: &arrow::array::ArrayRef| arrow::compute::cast(array, &DataType::Float64).ok();
    let (Some(was), Some(now)) = (cast(&was), cast(now)) else {
        return Ok(Agreement::Different);
    };
    let (was, now) = (was.as_primitive::<Float64Type>(), now.as_primitive::<Float64Type>());
    let close = was.len() == now.len()
        && was.iter().zip(now.iter()).all(|pair| match pair {
            (Some(was), Some(now)) => (was - now).abs() <= TOLERANCE || (was.is_nan() && now.is_nan()),
            (None, None) => true,
            _ => false,
        });
    Ok(if close {
        Agreement::Tolerance
    } else {
        Agreement::Different
    })
}
