//! The tables that a program reads: those of all tasks at a port as one, in an order that is a function of what they hold.

use std::path::Path;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use fracture_stage::stage::Incoming;
use fracture_stage::view::concat_column;
use fracture_stage::{Error, Inputs, View};
use fracture_table::export;

use crate::parameters::TableFormat;

/// Whether a port's name can be that of a file.
pub fn is_file_name(port: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    !port.is_empty() && port.chars().all(plain)
}

/// What is wrong with the names of the ports, if anything.
///
/// # Errors
/// When a name can not be that of a file, or two ports have one name.
pub fn check_ports<'a>(ports: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = Vec::new();
    for port in ports {
        if !is_file_name(port) {
            return Err(Error::pipeline(format!("`{port}` can not be the name of a port"))
                .hint("use letters, digits, `_` and `-`: the program finds the table in the file of that name"));
        }
        if seen.contains(&port) {
            return Err(Error::pipeline(format!("two tables would have the name `{port}`"))
                .hint("name the ports: `needs: { NAME: stage }`"));
        }
        seen.push(port);
    }
    Ok(())
}

/// Writes one file per port into a folder.
///
/// # Errors
/// When what arrives is no table, the store can not deliver it, or the folder does not take it.
pub fn write(inputs: &Inputs, format: TableFormat, folder: &Path) -> Result<(), Error> {
    check_ports(inputs.ports.iter().map(|(port, _)| port.as_str()))?;
    for (port, arriving) in &inputs.ports {
        if arriving.iter().any(|incoming| matches!(incoming, Incoming::Other(_))) {
            return Err(
                Error::pipeline(format!("what arrives at `{port}` is a file, not a table"))
                    .hint("a program reads tables; list files under `files`"),
            );
        }
        let table = joined(&inputs.tables(port))?;
        let file = folder.join(format!("{port}.{}", format.ending()));
        export(&[table], &file, format.written()).map_err(|error| {
            error
                .context(format!("the table `{port}` can not be handed to the program"))
                .hint("the folder is made where TMPDIR says; is there room left?")
        })?;
    }
    Ok(())
}

/// The tables one after another, columns by name. Neither the order in which tasks arrive nor that in which columns are
/// stored is part of a key, so neither may show.
fn joined(views: &[&View]) -> Result<RecordBatch, Error> {
    let mut views = views.to_vec();
    views.sort_by_cached_key(|view| content(view));
    let mut names: Vec<&str> = views.iter().flat_map(|view| view.names()).collect();
    names.sort_unstable();
    names.dedup();
    let columns = names.iter().map(|name| concat_column(&views, name));
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
    let field = |(name, column): (&&str, &ArrayRef)| Field::new(*name, column.data_type().clone(), true);
    let fields: Vec<Field> = names.iter().zip(&columns).map(field).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(views.iter().map(|view| view.rows()).sum()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| Error::internal("the tables can not be joined").cause(error))
}

/// What a table holds, as text to sort by: its constants first, so that people find the rows in an order that they know.
fn content(view: &View) -> [Vec<(String, String)>; 2] {
    let mut names: Vec<&str> = view.names().collect();
    names.sort_unstable();
    let constant = |name: &&str| Some(((*name).to_owned(), view.constant(name)?.to_string()));
    let stored = |name: &&str| match view.constant(name) {
        Some(_) => None,
        None => Some(((*name).to_owned(), view.digest(name)?.hex())),
    };
    [
        names.iter().filter_map(constant).collect(),
        names.iter().filter_map(stored).collect(),
    ]
}
