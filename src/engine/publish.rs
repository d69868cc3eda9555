//! From what a task made to its record: outputs into the store, files looked at again, the record published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use fracture_cache::digest::{Action, Recipe};
use fracture_cache::record::{Output as RecordedOutput, Published};
use fracture_cache::{Artifact, Digest, Record, TreeFile};
use fracture_language::Task;
use fracture_stage::stage::Incoming;
use fracture_stage::{Error, Inputs, Output, PartText, Product, Shape};

use super::keys::Files;
use super::plan::parts_to_record;
use super::store_error;
use super::views::PARENT;
use super::workspace::Workspace;

/// What is known of a task when it starts.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Its action key.
    pub action: Digest<Action>,
    /// Its recipe key.
    pub recipe: Digest<Recipe>,
    /// The parts of the action key.
    pub parts: Arc<[PartText]>,
    /// Its files.
    pub files: Files,
    /// What its executor computes on: versions, provider. Empty when it needed none.
    pub provenance: Arc<[(String, String)]>,
    /// When it started.
    pub started: Instant,
}

/// A record that is ready to be published: its outputs are in the store.
pub struct Draft {
    record: Record,
}

impl Draft {
    /// What the user should be told.
    pub fn notes(&self) -> &[String] {
        &self.record.notes
    }
}

/// A published record.
pub struct Standing {
    /// The record that stands.
    pub record: Record,
    /// Said when another result of the same action stood.
    pub divergence: Option<String>,
}

/// Puts a task's outputs into the store and drafts its record.
///
/// # Errors
/// When a file changed while the task read it, an output does not fit its shape, or the store does not take it.
pub fn draft(
    workspace: &Workspace,
    task: &Task,
    inputs: &Inputs,
    product: Product,
    begun: &Begun,
    incomplete: bool,
) -> Result<Draft, Error> {
    workspace.unchanged(&begun.files)?;
    let mut outputs = Vec::new();
    let mut rows = 0;
    for (name, output) in product.outputs.iter() {
        let artifact = match output {
            Output::Table { batch, parent } => {
                let main = name == "main";
                let batch = if main && task.declaration.shape == Shape::Map {
                    with_parent(batch, parent.as_deref(), input_rows(inputs), task.declaration.name)?
                } else {
                    batch.clone()
                };
                if main {
                    rows = batch.num_rows() as u64;
                }
                let schema = batch.schema();
                Artifact::Table(workspace.store.put_table(&[batch], &schema).map_err(store_error)?)
            }
            Output::Blob(bytes) => {
                let (digest, size) = workspace.store.put_blob(bytes).map_err(store_error)?;
                Artifact::Blob(digest, size)
            }
            Output::Tree(files) => Artifact::Tree(put_tree(workspace, files)?),
        };
        outputs.push(RecordedOutput {
            name: name.to_owned(),
            artifact,
        });
    }
    let kind = task.implementation.kind();
    let record = Record {
        action: begun.action,
        recipe: begun.recipe,
        kind: format!("{} {}", kind.name, kind.version),
        outputs,
        parts: parts_to_record(&begun.parts),
        rows,
        seconds: begun.started.elapsed().as_secs_f64(),
        incomplete,
        notes: product.notes,
        provenance: provenance(&begun.provenance),
    };
    Ok(Draft { record })
}

fn put_tree(workspace: &Workspace, files: &[(String, Vec<u8>)]) -> Result<Vec<TreeFile>, Error> {
    let mut tree = Vec::with_capacity(files.len());
    for (path, bytes) in files {
        let (blob, size) = workspace.store.put_blob(bytes).map_err(store_error)?;
        tree.push(TreeFile {
            path: path.clone(),
            blob,
            size,
        });
    }
    tree.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(tree)
}

/// The rows of the table at a map stage's first port.
pub(super) fn input_rows(inputs: &Inputs) -> usize {
    match inputs.ports.first().and_then(|(_, arriving)| arriving.first()) {
        Some(Incoming::Table(view)) => view.rows(),
        _ => 0,
    }
}

/// Checks that a map stage's table fits its input's rows, and adds the parent index when rows are not one to one.
pub(super) fn with_parent(
    batch: &RecordBatch,
    parent: Option<&[u32]>,
    rows: usize,
    kind: &str,
) -> Result<RecordBatch, Error> {
    let wrong = |problem: String| Error::internal(format!("stage kind `{kind}`: {problem}"));
    let Some(parent) = parent else {
        return match batch.num_rows() {
            made if made == rows => Ok(batch.clone()),
            made => Err(wrong(format!("{made} rows were made from {rows}"))),
        };
    };
    if parent.len() != batch.num_rows() || parent.iter().any(|row| *row as usize >= rows) {
        return Err(wrong("the parent index does not fit".to_owned()));
    }
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(PARENT, DataType::UInt32, false)));
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns.push(Arc::new(UInt32Array::from(parent.to_vec())));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| wrong(error.to_string()))
}

/// Publishes a draft. The first record of an action stands; a later one that differs is kept as a divergence.
///
/// # Errors
/// When the records can not be written.
pub fn publish(workspace: &Workspace, draft: Draft) -> Result<Standing, Error> {
    let record = draft.record;
    let whole = |record: &Record| {
        record
            .outputs
            .iter()
            .all(|output| workspace.store.holds(&output.artifact))
    };
    match workspace.records.publish(&record).map_err(store_error)? {
        Published::First | Published::Replaced => Ok(Standing {
            record,
            divergence: None,
        }),
        Published::Same => {
            let standing = workspace.records.by_action(&record.action).map_err(store_error)?;
            match standing {
                Some(standing) if whole(&standing) => Ok(Standing {
                    record: standing,
                    divergence: None,
                }),
                _ => {
                    workspace.records.replace(&record).map_err(store_error)?;
                    Ok(Standing {
                        record,
                        divergence: None,
                    })
                }
            }
        }
        Published::Divergent(standing) if whole(&standing) => {
            let told =
                "gave another result than the one recorded before for the same inputs; the recorded one stands, \
                        this one is kept as a divergence"
                    .to_owned();
            Ok(Standing {
                record: *standing,
                divergence: Some(told),
            })
        }
        Published::Divergent(_) => {
            workspace.records.replace(&record).map_err(store_error)?;
            Ok(Standing {
                record,
                divergence: None,
            })
        }
    }
}

/// On what a result was computed: never part of a key.
fn provenance(executor: &[(String, String)]) -> BTreeMap<String, String> {
    let facts = [
        ("fracture", env!("CARGO_PKG_VERSION")),
        ("os", std::env::consts::OS),
        ("cpu", cpu_class()),
    ];
    let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned()));
    facts.into_iter().chain(executor.iter().cloned()).collect()
}

/// The numeric class of this CPU: results are bit-identical within one class.
pub fn cpu_class() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "x86_64-avx512";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return "x86_64-avx2-fma";
        }
        "x86_64"
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH
    }
}
