//! Tables of several tasks as one, constants as columns: what `show`, `export` and figures read.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use fracture_stage::stage::Incoming;
use fracture_stage::view::concat_column;
use fracture_stage::{Error, View};

use super::views::OutputSpec;
use super::workspace::Workspace;

/// The rows of all outputs, in the order of the outputs; a column that one lacks is null in its rows. `columns` names
/// the columns that are wanted, `None` takes all: the stored ones first, then the constants.
///
/// # Errors
/// When an output is no table, a wanted column is in none, or the store can not deliver.
pub fn join(
    outputs: &[Arc<OutputSpec>],
    columns: Option<&[String]>,
    workspace: &Workspace,
) -> Result<RecordBatch, Error> {
    let mut views: Vec<View> = Vec::with_capacity(outputs.len());
    for output in outputs {
        match output.open(&workspace.store) {
            Incoming::Table(view) => views.push(view),
            Incoming::Other(_) => {
                return Err(Error::pipeline("this output is a file, not a table")
                    .hint("figures are written to the paths under `to:`"));
            }
        }
    }
    let views: Vec<&View> = views.iter().collect();
    let names: Vec<String> = match columns {
        Some(columns) => columns.to_vec(),
        None => all_names(&views),
    };
    if let Some(unknown) = names.iter().find(|name| !views.iter().any(|view| view.has(name))) {
        return Err(Error::pipeline(format!("there is no column `{unknown}`"))
            .hint(format!("the columns are {}", all_names(&views).join(", "))));
    }
    let mut fields = Vec::with_capacity(names.len());
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(names.len());
    for name in &names {
        let array = concat_column(&views, name)?;
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .map_err(|error| Error::internal("the tables can not be joined").cause(error))
}

fn all_names(views: &[&View]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for constants in [false, true] {
        for view in views {
            for name in view.names().filter(|name| view.constant(name).is_some() == constants) {
                if !names.iter().any(|other| other == name) {
                    names.push(name.to_owned());
                }
            }
        }
    }
    names
}
