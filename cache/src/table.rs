//! Tables: record batches as Arrow IPC files, compressed with zstd, written by arrow-rs alone and read batch by batch.

use std::io::{BufReader, Cursor, Read, Seek};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, LargeListArray, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};

use crate::artifact::{Column, ColumnType, Table};
use crate::column::{ColumnHasher, arrow_type, column_type};
use crate::error::{Result, StoreError};
use crate::spool::Spool;
use crate::store::Store;

/// Longer batches are cut, so that every reader may go batch by batch in bounded memory.
const BATCH_ROWS: usize = 1 << 16;

/// Files up to this size are read at once and their digest is checked.
const CHECKED_SIZE: u64 = 4 << 20;

/// Files up to this size are kept in memory for further readers, and so many of them.
const RECENT_TABLE: u64 = 32 << 10;
const RECENT_TABLES: usize = 256;

impl Store {
    /// Stores a table. Fields become nullable and lose their metadata; types must be those of [`ColumnType`].
    ///
    /// # Errors
    /// When a column has a type that no artifact holds, or the disk fails.
    pub fn put_table(&self, batches: &[RecordBatch], schema: &Schema) -> Result<Table> {
        let mut writer = self.table_writer(schema)?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()
    }

    /// Starts a table that is written batch by batch.
    ///
    /// # Errors
    /// When a column has a type that no artifact holds, or two have one name.
    pub fn table_writer(&self, schema: &Schema) -> Result<TableWriter> {
        self.writable("write a table to")?;
        TableWriter::new(self, schema)
    }

    /// Reads a table: all columns, or the named ones in the order of the names.
    ///
    /// # Errors
    /// When a column is unknown, or the file is missing or damaged; a damaged file is set aside.
    pub fn read_table(&self, table: &Table, columns: Option<&[&str]>) -> Result<Vec<RecordBatch>> {
        self.open_table(table, columns)?.collect()
    }

    /// Reads a whole column.
    ///
    /// # Errors
    /// As [`Store::read_table`].
    pub fn read_column(&self, table: &Table, column: &str) -> Result<ArrayRef> {
        let reader = self.open_table(table, Some(&[column]))?;
        let data_type = reader.schema.field(0).data_type().clone();
        let chunks = reader
            .map(|batch| batch.map(|batch| Arc::clone(batch.column(0))))
            .collect::<Result<Vec<_>>>()?;
        let slices: Vec<&dyn Array> = chunks.iter().map(AsRef::as_ref).collect();
        match slices.len() {
            0 => Ok(arrow::array::new_empty_array(&data_type)),
            1 => Ok(Arc::clone(&chunks[0])),
            _ => concat(&slices)
                .map_err(|error| StoreError::arrow("join the batches of", self.blob_path(&table.blob), error)),
        }
    }

    /// A whole column, as [`Store::read_column`] gives it. A small table that this process read lately comes from memory:
    /// thousands of tasks may read one table of a few rows.
    ///
    /// # Errors
    /// As [`Store::read_table`].
    pub fn recent_column(&self, table: &Table, column: &str) -> Result<ArrayRef> {
        if table.size > RECENT_TABLE {
            return self.read_column(table, column);
        }
        let index = position(table, column)?;
        if let Some(batch) = self.recent().get(&table.blob) {
            return Ok(Arc::clone(batch.column(index)));
        }
        let schema = Arc::new(table.schema());
        let batches = self.read_table(table, None)?;
        let batch = arrow::compute::concat_batches(&schema, &batches)
            .map_err(|error| StoreError::arrow("join the batches of", self.blob_path(&table.blob), error))?;
        let array = Arc::clone(batch.column(index));
        let mut recent = self.recent();
        if recent.len() >= RECENT_TABLES {
            recent.clear();
        }
        recent.insert(table.blob, batch);
        Ok(array)
    }

    /// Reads a table batch by batch.
    ///
    /// # Errors
    /// As [`Store::read_table`].
    pub fn open_table(&self, table: &Table, columns: Option<&[&str]>) -> Result<TableReader> {
        TableReader::open(self, table, columns)
    }
}

impl Table {
    /// The Arrow schema of its file.
    pub fn schema(&self) -> Schema {
        let field = |column: &Column| Field::new(&column.name, arrow_type(column.kind), true);
        Schema::new(self.columns.iter().map(field).collect::<Vec<_>>())
    }
}

/// Writes a table batch by batch. Dropped without `finish`, it leaves nothing behind.
pub struct TableWriter {
    store: Store,
    schema: SchemaRef,
    kinds: Vec<ColumnType>,
    hashers: Vec<ColumnHasher>,
    rows: u64,
    file: FileWriter<Spool>,
}

impl std::fmt::Debug for TableWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TableWriter({}, {} rows written)", self.schema, self.rows)
    }
}

impl TableWriter {
    fn new(store: &Store, schema: &Schema) -> Result<Self> {
        let mut fields: Vec<Field> = Vec::with_capacity(schema.fields().len());
        let mut kinds = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let refused = |problem| StoreError::Column {
                column: field.name().clone(),
                problem,
            };
            let kind = column_type(field.data_type())
                .ok_or_else(|| refused(format!("a table can not hold the type {}", field.data_type())))?;
            if fields.iter().any(|other| other.name() == field.name()) {
                return Err(refused("it is there twice".to_owned()));
            }
            fields.push(Field::new(field.name(), arrow_type(kind), true));
            kinds.push(kind);
        }
        let schema = Arc::new(Schema::new(fields));
        let failed = |error| StoreError::arrow("write", store.root(), error);
        let options = IpcWriteOptions::default()
            .try_with_compression(Some(CompressionType::ZSTD))
            .map_err(failed)?;
        let file = FileWriter::try_new_with_options(Spool::new(store.clone()), &schema, options).map_err(failed)?;
        let hashers = kinds.iter().copied().map(ColumnHasher::new).collect();
        Ok(Self {
            store: store.clone(),
            schema,
            kinds,
            hashers,
            rows: 0,
            file,
        })
    }

    /// Adds a batch with the columns of the schema, in its order.
    ///
    /// # Errors
    /// When its columns are not those of the schema, or the disk fails.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_columns() != self.kinds.len() {
            let problem = format!(
                "a batch has {} columns, the table {}",
                batch.num_columns(),
                self.kinds.len()
            );
            return Err(StoreError::Column {
                column: "*".to_owned(),
                problem,
            });
        }
        let mut columns = Vec::with_capacity(self.kinds.len());
        for ((array, field), (kind, hasher)) in batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .zip(self.kinds.iter().zip(&mut self.hashers))
        {
            let array = conform(array, *kind, field)?;
            hasher.update(&array)?;
            columns.push(array);
        }
        self.rows += batch.num_rows() as u64;
        let failed = |error| StoreError::arrow("write", self.store.root(), error);
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(failed)?;
        for start in (0..batch.num_rows()).step_by(BATCH_ROWS) {
            let length = BATCH_ROWS.min(batch.num_rows() - start);
            self.file.write(&batch.slice(start, length)).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes the table visible.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish(self) -> Result<Table> {
        let spool = self
            .file
            .into_inner()
            .map_err(|error| StoreError::arrow("write", self.store.root(), error))?;
        let (blob, size) = spool.commit()?;
        let named = self.schema.fields().iter().zip(self.kinds).zip(self.hashers);
        let columns = named
            .map(|((field, kind), hasher)| Column {
                name: field.name().clone(),
                kind,
                content: hasher.finish(),
            })
            .collect();
        Ok(Table {
            blob,
            size,
            rows: self.rows,
            columns,
        })
    }
}

/// An array with exactly the Arrow type that artifacts use: lists may name their items otherwise, zones may be spelled
/// otherwise.
fn conform(array: &ArrayRef, kind: ColumnType, field: &Field) -> Result<ArrayRef> {
    if array.data_type() == field.data_type() {
        return Ok(Arc::clone(array));
    }
    if column_type(array.data_type()) != Some(kind) {
        let problem = format!("a batch holds {}, the table {}", array.data_type(), field.data_type());
        return Err(StoreError::Column {
            column: field.name().clone(),
            problem,
        });
    }
    let refused = |error: ArrowError| StoreError::Column {
        column: field.name().clone(),
        problem: error.to_string(),
    };
    Ok(match field.data_type() {
        DataType::LargeList(item) => {
            let (_, offsets, values, nulls) = array.as_list::<i64>().clone().into_parts();
            Arc::new(LargeListArray::try_new(Arc::clone(item), offsets, values, nulls).map_err(refused)?)
        }
        DataType::FixedSizeList(item, width) => {
            let (_, _, values, nulls) = array.as_fixed_size_list().clone().into_parts();
            Arc::new(
                FixedSizeListArray::try_new_with_length(Arc::clone(item), *width, values, nulls, array.len())
                    .map_err(refused)?,
            )
        }
        _ => Arc::new(
            array
                .as_primitive::<TimestampMicrosecondType>()
                .clone()
                .with_timezone("UTC"),
        ),
    })
}

trait Source: Read + Seek + Send {}
impl<T: Read + Seek + Send> Source for T {}

/// The batches of a table, read when they are asked for.
pub struct TableReader {
    store: Store,
    table: Table,
    schema: SchemaRef,
    /// Where each asked column lies among the columns that are read (in the order of the file).
    order: Vec<usize>,
    file: Option<FileReader<Box<dyn Source>>>,
    rows: u64,
}

impl std::fmt::Debug for TableReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TableReader({:?}, {} rows read)", self.table.blob, self.rows)
    }
}

impl TableReader {
    fn open(store: &Store, table: &Table, columns: Option<&[&str]>) -> Result<Self> {
        let asked: Vec<usize> = match columns {
            None => (0..table.columns.len()).collect(),
            Some(names) => names.iter().map(|name| position(table, name)).collect::<Result<_>>()?,
        };
        // Arrow wants at least one column to read, and each once, in the order of the file.
        let mut read: Vec<usize> = asked.iter().copied().chain(asked.is_empty().then_some(0)).collect();
        read.sort_unstable();
        read.dedup();
        read.retain(|index| *index < table.columns.len());
        let order = asked
            .iter()
            .filter_map(|index| read.binary_search(index).ok())
            .collect();
        let source: Box<dyn Source> = if table.size <= CHECKED_SIZE {
            Box::new(Cursor::new(store.read_blob(&table.blob, table.size)?))
        } else {
            Box::new(BufReader::new(store.open_blob(&table.blob, table.size)?))
        };
        let schema = table.schema();
        let damaged = |found: String| store.set_aside(&table.blob, found, "an Arrow file".to_owned());
        let file = FileReader::try_new(source, Some(read)).map_err(|error| damaged(error.to_string()))?;
        let schema = Arc::new(schema.project(&asked).map_err(|error| damaged(error.to_string()))?);
        Ok(Self {
            store: store.clone(),
            table: table.clone(),
            schema,
            order,
            file: Some(file),
            rows: 0,
        })
    }

    /// The schema of the batches.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn lost(&mut self, found: String, expected: String) -> Option<Result<RecordBatch>> {
        self.file = None;
        Some(Err(self.store.set_aside(&self.table.blob, found, expected)))
    }
}

fn position(table: &Table, name: &str) -> Result<usize> {
    table
        .columns
        .iter()
        .position(|column| column.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
            StoreError::Column {
                column: name.to_owned(),
                problem: format!("the table has only {}", names.join(", ")),
            }
        })
}

impl Iterator for TableReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.file.as_mut()?.next();
        let expected = self.table.rows;
        match next {
            None if self.rows == expected || self.table.columns.is_empty() => {
                self.file = None;
                None
            }
            None => self.lost(format!("{} rows", self.rows), format!("{expected} rows")),
            Some(Err(ArrowError::IoError(_, source))) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
                self.file = None;
                Some(Err(StoreError::io(
                    crate::error::READ,
                    self.store.blob_path(&self.table.blob),
                    source,
                )))
            }
            Some(Err(error)) => self.lost(error.to_string(), "an Arrow file".to_owned()),
            Some(Ok(batch)) => {
                self.rows += batch.num_rows() as u64;
                match batch.project(&self.order) {
                    Ok(batch) => Some(Ok(batch)),
                    Err(error) => self.lost(error.to_string(), "the columns of its record".to_owned()),
                }
            }
        }
    }
}
