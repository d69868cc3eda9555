//! The `Stage` trait: one resolved task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::record_batch::RecordBatch;
use fracture_cache::{Artifact, ColumnType};
use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::executor::{Executor, Request, RowError};
use crate::files::{FileUse, Files};
use crate::manifest::Manifest;
use crate::named::{Arriving, Named};
use crate::schema::{Outputs, Schema, Schemas};
use crate::source::ModelFiles;
use crate::view::View;

/// The name and the semantic version of a stage kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The name in `uses:`.
    pub name: &'static str,
    /// Raised whenever results change for the same inputs.
    pub version: u32,
}

/// A column that a stage reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Its name.
    pub column: String,
    /// The type it must have; `None` accepts any.
    pub kind: Option<ColumnType>,
    /// Whether the stage can do without.
    pub required: bool,
}

impl Need {
    /// A column that must be there with that type.
    pub fn column(name: &str, kind: ColumnType) -> Self {
        Self {
            column: name.to_owned(),
            kind: Some(kind),
            required: true,
        }
    }

    /// A column that must be there with any type.
    pub fn any(name: &str) -> Self {
        Self {
            column: name.to_owned(),
            kind: None,
            required: true,
        }
    }

    /// A column that is read when it is there.
    pub fn optional(name: &str) -> Self {
        Self {
            column: name.to_owned(),
            kind: None,
            required: false,
        }
    }
}

/// What a stage reads at one of its ports. Only these columns enter its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The port's name.
    pub name: String,
    /// The columns that it reads; constants of the tasks before it count as columns.
    pub needs: Vec<Need>,
    /// How it reads the key columns (`item`, `axis`, matrix variables, labels, what `keys:` lists) beside `needs`.
    pub keys: Keys,
    /// It reads every column.
    pub all: bool,
}

/// How a port reads the key columns that it does not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keys {
    /// Not at all.
    #[default]
    None,
    /// To tell rows apart: which of its inputs share a value matters, what the values and the columns are called does not.
    /// The stage sees numbers in their place ([`View::veiled`]), so that renaming a model or a judge reruns nothing.
    ///
    /// [`View::veiled`]: crate::View::veiled
    Apart,
    /// By value: they are in its result, or it sorts by them.
    Values,
}

impl Keys {
    /// By value, unless the stage is told which columns to group by: then the others only tell rows apart.
    #[must_use]
    pub fn apart_when(told: bool) -> Self {
        if told { Self::Apart } else { Self::Values }
    }
}

/// One resolved task: its parameters are typed fields.
pub trait Stage: Send + Sync {
    /// The kind's name and semantic version.
    fn kind(&self) -> Kind;

    /// What it reads. Ports that are not connected are left out by the compiler.
    fn ports(&self) -> Vec<Port>;

    /// Constants that this task adds beside its matrix variables (a model's name and labels, the decoder's name), in order.
    /// They are columns for every reader after it, and stored in no artifact. The flag says that it is a key column.
    fn constants(&self) -> Vec<(String, Value, bool)> {
        Vec::new()
    }

    /// The models that it reads, so that their files can be fetched before [`Self::resolve`] looks at them.
    fn models(&self) -> Vec<ModelFiles> {
        Vec::new()
    }

    /// The files its result depends on, found by reading headers and indexes only, with `absent` for every candidate that
    /// was looked for and is not there.
    ///
    /// # Errors
    /// When something that must be there is not; the error names the path and what to do.
    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        let _ = files;
        Ok(Vec::new())
    }

    /// The columns that it adds (map) or yields (source, reduce), and those of its side outputs.
    ///
    /// # Errors
    /// When the input can not be worked on (a text column that is a number); missing columns are found by the compiler.
    fn schema(&self, inputs: &Schemas, files: &dyn Files) -> Result<Outputs<Schema>, Error>;

    /// All values that a text column of its table will hold, where its parameters alone say so (the regimes of `prompt`).
    /// A map stage says nothing of columns that it keeps.
    fn values(&self, column: &str) -> Option<Vec<String>> {
        let _ = column;
        None
    }

    /// All values that a column of one of its outputs can hold, where its parameters and what arrives say so; it may hold
    /// fewer, never others. A map stage says nothing of columns that it keeps.
    fn output_values(&self, output: Option<&str>, column: &str, arriving: &Arriving<'_>) -> Option<Vec<String>> {
        let _ = arriving;
        output.map_or_else(|| self.values(column), |_| None)
    }

    /// Values that its parameters name and without which it fails (the regimes of `contrasts`).
    fn named(&self) -> Vec<Named> {
        Vec::new()
    }

    /// Describes the parameters that its result depends on, defaults left out.
    fn describe(&self, manifest: &mut dyn Manifest);

    /// Things a person should know before the run (both values of τ when the costs differ).
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// What must be there when it runs and is no file: a key in the environment, leave to use the network. Asked of
    /// every task that a run will execute, before the first one starts.
    ///
    /// # Errors
    /// When it is not there; the error says what to do.
    fn ready(&self, offline: bool) -> Result<(), Error> {
        let _ = offline;
        Ok(())
    }

    /// Why its result would not come out again, where nobody can promise that (a model that others serve): `verify` says so,
    /// and `run --refresh` draws it anew.
    fn unverifiable(&self) -> Option<String> {
        None
    }

    /// How often it was drawn anew; 0 for what the pipeline says.
    fn refreshed(&self) -> u32 {
        0
    }

    /// The stage that was drawn anew.
    fn before_refresh(&self) -> Option<Arc<dyn Stage>> {
        None
    }

    /// How its work is done.
    fn work(&self) -> Work<'_>;
}

/// How a task's work is done.
pub enum Work<'a> {
    /// All at once.
    Whole(&'a dyn Whole),
    /// Row by row, through an executor that sibling tasks share, with the row memo in front.
    Rows(&'a dyn RowWise),
}

/// Work that is done all at once.
pub trait Whole: Send + Sync {
    /// Computes the outputs.
    ///
    /// # Errors
    /// When the inputs can not be worked on; the error names item, column or file.
    fn run(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error>;
}

/// Work that is done row by row.
pub trait RowWise: Send + Sync {
    /// The version of the raw row's meaning and encoding.
    fn row_version(&self) -> u32;

    /// Describes only the parameters that determine one raw row. Kind, row version and the files of [`Self::lineage_files`]
    /// are added by the engine.
    fn lineage(&self, manifest: &mut dyn Manifest);

    /// Whether a file (by its role) determines the raw rows; by default all do.
    fn lineage_file(&self, role: &str) -> bool {
        let _ = role;
        true
    }

    /// Tasks whose group is equal share one executor: same model files, dtype and device.
    fn group(&self) -> String;

    /// What the executor occupies: `model` (one at a time) or `network`.
    fn resource(&self) -> &'static str {
        "model"
    }

    /// The unit of the executor's speed, for the progress display: `tokens`, `texts`.
    fn unit(&self) -> &'static str {
        "rows"
    }

    /// Which raw rows the inputs ask for. Opens no model; may read a tokenizer or a template.
    ///
    /// # Errors
    /// When an input can not be rendered; the error names item and regime.
    fn plan(&self, inputs: &Inputs, open: &Open<'_>) -> Result<RowPlan, Error>;

    /// Opens the executor: loads the model.
    ///
    /// # Errors
    /// When the model can not be loaded; the error names the file.
    fn open(&self, open: &Open<'_>) -> Result<Box<dyn Executor>, Error>;

    /// Makes the table from the raw rows: cheap, so labels, reductions and new columns cost no model call.
    /// `rows[i]` belongs to `plan.rows[i]`.
    ///
    /// # Errors
    /// When a raw row makes no sense (a NaN logit); the error names item and cause.
    fn finish(&self, inputs: &Inputs, plan: &RowPlan, rows: &[RowState<'_>]) -> Result<Product, Error>;

    /// What raw rows say of where they come from (a server's name for its model), for the record; never part of a key.
    fn provenance(&self, rows: &[RowState<'_>]) -> Vec<(String, String)> {
        let _ = rows;
        Vec::new()
    }
}

/// The raw rows that a task asks for.
#[derive(Debug, Default)]
pub struct RowPlan {
    /// The distinct or repeated requests; equal keys are computed once.
    pub requests: Vec<Request>,
    /// For each output row the request it is made from; `None` for a row that needs none (its input is invalid).
    pub rows: Vec<Option<u32>>,
    /// For each output row the input row it comes from; `None` when output rows are the input rows.
    pub parent: Option<Vec<u32>>,
    /// Things to tell the user, counts included.
    pub notes: Vec<String>,
}

/// What is known of an output row.
#[derive(Debug, Clone, Copy)]
pub enum RowState<'a> {
    /// No raw row was asked for.
    Absent,
    /// The raw row.
    Raw(&'a [u8]),
    /// The row failed and will be tried again by the next run.
    Failed(&'a RowError),
}

/// What arrives at a port.
#[derive(Clone)]
pub enum Incoming {
    /// A table with the columns of everything before it, constants included.
    Table(View),
    /// A blob or a tree.
    Other(Artifact),
}

/// What arrives at a task.
#[derive(Clone, Default)]
pub struct Inputs {
    /// Port name and what arrives there, in an order that does not matter to the result.
    pub ports: Vec<(String, Vec<Incoming>)>,
}

impl Inputs {
    /// The tables at a port, none when it is not connected.
    pub fn tables(&self, port: &str) -> Vec<&View> {
        let arriving = self
            .ports
            .iter()
            .find(|(name, _)| name == port)
            .map_or(&[][..], |(_, all)| all);
        let tables = arriving.iter().filter_map(|incoming| match incoming {
            Incoming::Table(view) => Some(view),
            Incoming::Other(_) => None,
        });
        tables.collect()
    }

    /// The one table of a map stage's port.
    ///
    /// # Errors
    /// An internal error when there is none: the compiler connects required ports.
    pub fn table(&self, port: &str) -> Result<&View, Error> {
        self.tables(port)
            .first()
            .copied()
            .ok_or_else(|| Error::internal(format!("no table at port `{port}`")))
    }
}

/// One output of a task.
#[derive(Debug, Clone)]
pub enum Output {
    /// A table. Of a map stage: only the columns it adds; `parent` is the input row of each row, `None` when they are the
    /// input's rows one by one.
    Table {
        /// The rows.
        batch: RecordBatch,
        /// Input row of each row.
        parent: Option<Vec<u32>>,
    },
    /// One file.
    Blob(Vec<u8>),
    /// A folder of files, by relative path.
    Tree(Vec<(String, Vec<u8>)>),
}

/// What a task made.
#[derive(Debug, Clone)]
pub struct Product {
    /// The outputs.
    pub outputs: Outputs<Output>,
    /// Things to tell the user.
    pub notes: Vec<String>,
}

impl Product {
    /// One table.
    pub fn table(batch: RecordBatch) -> Self {
        Self {
            outputs: Outputs::only(Output::Table { batch, parent: None }),
            notes: Vec::new(),
        }
    }
}

/// What running work may use of its surroundings.
pub struct Open<'a> {
    /// Threads that it may use.
    pub threads: usize,
    /// Nothing may be fetched.
    pub offline: bool,
    /// Set when the user interrupts.
    pub cancelled: &'a AtomicBool,
    /// Tells the user something at once ("fetched ONNX Runtime …").
    pub note: &'a (dyn Fn(&str) + Sync),
    /// How far it is, as done and total.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Looks at the file system.
    pub files: &'a dyn Files,
}

impl Open<'_> {
    /// Stops work that was interrupted.
    ///
    /// # Errors
    /// When the user interrupted.
    pub fn check(&self) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        Ok(())
    }
}
