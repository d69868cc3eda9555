//! Results that are drawn anew: `run --refresh`.
//!
//! What a served model gave once is kept like any result, so a plain run never asks again. `--refresh` counts up a
//! number of the tasks it selects. The number is a part of their keys, so old records and rows stay as they are and
//! new ones come beside them; it stands in the lock file, so that later runs, and whoever has the lock file, mean the
//! newest. A task whose newest results are not all there is not counted up again: running it on is what makes it new.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fracture_language::{Pipeline, Task, TaskId};
use fracture_stage::stage::{Port, RowPlan, RowState, RowWise, Work};
use fracture_stage::{
    Error, Executor, FileUse, Files, Inputs, Kind, Manifest, Open, Outputs, Product, Role, Schema, Schemas, Stage,
};
use serde_json::{Value, json};

/// How often tasks were drawn anew, by their names.
pub type Refreshed = BTreeMap<String, u32>;

/// Makes the tasks that were drawn anew differ from what they were before.
pub fn apply(pipeline: &mut Pipeline, refreshed: &Refreshed) {
    // Tasks that share an implementation go on sharing it, so that each is described once.
    let mut made: HashMap<(usize, u32), Arc<dyn Stage>> = HashMap::new();
    for task in &mut pipeline.tasks {
        let Some(times) = refreshed.get(&task.name).copied().filter(|times| *times > 0) else {
            continue;
        };
        if task.implementation.unverifiable().is_none() {
            continue;
        }
        let inner = plain(&task.implementation);
        let address = Arc::as_ptr(&inner).addr();
        let anew = made
            .entry((address, times))
            .or_insert_with(|| Arc::new(Anew { inner, times }));
        task.implementation = Arc::clone(anew);
    }
}

/// The stage as it was before it was drawn anew.
fn plain(stage: &Arc<dyn Stage>) -> Arc<dyn Stage> {
    stage.before_refresh().unwrap_or_else(|| Arc::clone(stage))
}

/// How often each task of a pipeline was drawn anew.
pub fn refreshed(pipeline: &Pipeline) -> Refreshed {
    let times = pipeline
        .tasks
        .iter()
        .map(|task| (task, task.implementation.refreshed()));
    let counted = times.filter(|(_, times)| *times > 0);
    counted.map(|(task, times)| (task.name.clone(), times)).collect()
}

/// Counts up the selected tasks whose results are there.
///
/// # Errors
/// When none of them can be drawn anew.
pub fn count_up(
    pipeline: &Pipeline,
    selected: &[TaskId],
    is_there: impl Fn(&Task) -> bool,
) -> Result<Refreshed, Error> {
    let tasks = selected.iter().map(|id| pipeline.task(*id));
    let served: Vec<&Task> = tasks
        .filter(|task| task.implementation.unverifiable().is_some())
        .collect();
    if served.is_empty() {
        return Err(Error::pipeline("--refresh selects no task of a served model").hint(
            "what is computed here would come out the same, which `fracture verify` shows; other samples come \
                 from another `seed`",
        ));
    }
    let mut refreshed = refreshed(pipeline);
    for task in served.into_iter().filter(|task| is_there(task)) {
        *refreshed.entry(task.name.clone()).or_default() += 1;
    }
    Ok(refreshed)
}

/// A stage that was drawn anew so many times.
struct Anew {
    inner: Arc<dyn Stage>,
    times: u32,
}

impl Anew {
    fn rows(&self) -> Option<&dyn RowWise> {
        match self.inner.work() {
            Work::Rows(rows) => Some(rows),
            Work::Whole(_) => None,
        }
    }

    fn row_wise(&self) -> Result<&dyn RowWise, Error> {
        self.rows()
            .ok_or_else(|| Error::internal("the task changed its way of working"))
    }
}

impl Stage for Anew {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    fn ports(&self) -> Vec<Port> {
        self.inner.ports()
    }

    fn constants(&self) -> Vec<(String, Value, bool)> {
        self.inner.constants()
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        self.inner.resolve(files)
    }

    fn schema(&self, inputs: &Schemas, files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        self.inner.schema(inputs, files)
    }

    fn values(&self, column: &str) -> Option<Vec<String>> {
        self.inner.values(column)
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        self.inner.describe(manifest);
        manifest.part(Role::Parameter, "refresh", &json!(self.times));
    }

    fn warnings(&self) -> Vec<String> {
        self.inner.warnings()
    }

    fn ready(&self, offline: bool) -> Result<(), Error> {
        self.inner.ready(offline)
    }

    fn unverifiable(&self) -> Option<String> {
        self.inner.unverifiable()
    }

    fn refreshed(&self) -> u32 {
        self.times
    }

    fn before_refresh(&self) -> Option<Arc<dyn Stage>> {
        Some(Arc::clone(&self.inner))
    }

    fn work(&self) -> Work<'_> {
        match self.inner.work() {
            Work::Rows(_) => Work::Rows(self),
            whole => whole,
        }
    }
}

impl RowWise for Anew {
    fn row_version(&self) -> u32 {
        self.rows().map_or(0, RowWise::row_version)
    }

    fn lineage(&self, manifest: &mut dyn Manifest) {
        if let Some(rows) = self.rows() {
            rows.lineage(manifest);
        }
        manifest.part(Role::Parameter, "refresh", &json!(self.times));
    }

    fn lineage_file(&self, role: &str) -> bool {
        self.rows().is_none_or(|rows| rows.lineage_file(role))
    }

    fn group(&self) -> String {
        self.rows().map_or_else(String::new, RowWise::group)
    }

    fn resource(&self) -> &'static str {
        self.rows().map_or("model", RowWise::resource)
    }

    fn unit(&self) -> &'static str {
        self.rows().map_or("rows", RowWise::unit)
    }

    fn plan(&self, inputs: &Inputs, open: &Open<'_>) -> Result<RowPlan, Error> {
        self.row_wise()?.plan(inputs, open)
    }

    fn open(&self, open: &Open<'_>) -> Result<Box<dyn Executor>, Error> {
        self.row_wise()?.open(open)
    }

    fn finish(&self, inputs: &Inputs, plan: &RowPlan, rows: &[RowState<'_>]) -> Result<Product, Error> {
        self.row_wise()?.finish(inputs, plan, rows)
    }

    fn provenance(&self, rows: &[RowState<'_>]) -> Vec<(String, String)> {
        self.rows().map_or_else(Vec::new, |inner| inner.provenance(rows))
    }
}
