//! From records to views: what a reader of a task's output sees, as data that can travel to another process.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use fracture_cache::{Artifact, Digest, Store, Table};
use fracture_language::ConstantColumn;
use fracture_stage::stage::Incoming;
use fracture_stage::view::{ColumnReader, Pieces};
use fracture_stage::{Error, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::store_error;

/// The hidden column of a map stage's table that holds the input row of each of its rows.
pub const PARENT: &str = "_parent";

/// An output as a reader sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutputSpec {
    /// What is read.
    pub content: Content,
    /// Constants of the tasks it comes from, columns for the reader. The flag says that it is a key column.
    pub constants: Vec<(String, Value, bool)>,
    /// Key columns that are stored, beside `item` and `axis`.
    pub keys: Vec<String>,
}

/// A table in layers, or something else.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The tables of a chain of map stages, the source or reduce stage's first. Each adds columns to those before it,
    /// row by row, or through its column [`PARENT`].
    Layers(Vec<Arc<Table>>),
    /// A blob or a tree.
    Other(Artifact),
}

impl OutputSpec {
    /// The number of rows, 0 for a blob.
    pub fn rows(&self) -> u64 {
        match &self.content {
            Content::Layers(layers) => layers.last().map_or(0, |table| table.rows),
            Content::Other(_) => 0,
        }
    }

    /// The same output with further constants.
    #[must_use]
    pub fn with(&self, constants: &[Arc<ConstantColumn>]) -> Self {
        let mut spec = self.clone();
        for constant in constants {
            spec.constants.retain(|(name, ..)| *name != constant.name);
            spec.constants
                .push((constant.name.clone(), constant.value.clone(), constant.key));
        }
        spec
    }

    /// What arrives at a port: a view over the store.
    pub fn open(&self, store: &Arc<Store>) -> Incoming {
        match &self.content {
            Content::Layers(layers) => Incoming::Table(self.view(layers, store)),
            Content::Other(artifact) => Incoming::Other(artifact.clone()),
        }
    }

    fn view(&self, layers: &[Arc<Table>], store: &Arc<Store>) -> View {
        let mut view: Option<View> = None;
        for table in layers {
            let reader: Arc<dyn ColumnReader> = Arc::new(StoredTable {
                store: Arc::clone(store),
                table: Arc::clone(table),
            });
            let rows = usize::try_from(table.rows).unwrap_or(usize::MAX);
            let visible = table.columns.iter().filter(|column| column.name != PARENT);
            let added = View::stored(
                rows,
                &reader,
                visible.map(|column| (column.name.as_str(), column.kind, column.content)),
            );
            let parent = table.columns.iter().find(|column| column.name == PARENT);
            view = Some(match (view, parent) {
                (None, _) => added,
                (Some(before), None) => before.extended(&added),
                (Some(before), Some(parent)) => before.gathered(rows, &reader, PARENT, parent.content).extended(&added),
            });
        }
        let empty: Arc<dyn ColumnReader> = Arc::new(Nothing);
        let view = view.unwrap_or_else(|| View::stored(0, &empty, []));
        // Key constants in the order of their names: the order of a matrix's variables changes no table.
        let mut names: Vec<String> = self
            .constants
            .iter()
            .filter(|(.., key)| *key)
            .map(|(name, ..)| name.clone())
            .collect();
        names.extend(self.keys.iter().cloned());
        names.sort();
        let keys = ["item".to_owned(), "axis".to_owned()].into_iter().chain(names);
        view.with_constants(
            self.constants
                .iter()
                .map(|(name, value, _)| (name.clone(), value.clone())),
        )
        .with_keys(keys)
    }
}

/// The digest of an artifact's content, see [`Artifact::content`].
pub fn content_digest(artifact: &Artifact) -> Digest<fracture_cache::digest::Values> {
    artifact.content()
}

/// A table of the store as a reader of columns.
struct StoredTable {
    store: Arc<Store>,
    table: Arc<Table>,
}

impl ColumnReader for StoredTable {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        self.store.recent_column(&self.table, column).map_err(store_error)
    }

    fn pieces(&self, column: &str) -> Result<Pieces, Error> {
        let reader = self
            .store
            .open_table(&self.table, Some(&[column]))
            .map_err(store_error)?;
        let first = |batch: RecordBatch| Arc::clone(batch.column(0));
        Ok(Box::new(reader.map(move |batch| batch.map(first).map_err(store_error))))
    }
}

struct Nothing;

impl ColumnReader for Nothing {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        Err(Error::internal(format!("there is no column `{column}`")))
    }
}
